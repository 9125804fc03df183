"""Flow cytometry beside the plate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from plates.errors import MissingInputError, SettingsError
from plates.states import STATES
from screening.analysis.flow import compare_with_flow, lag_between, read_flow

HOURS = np.arange(0, 18.1, 1.0)


def sigmoid(hours: np.ndarray, middle: float) -> np.ndarray:
    return 0.8 / (1 + np.exp(-(hours - middle)))


def plate(middles: list[float]) -> xr.Dataset:
    death = np.stack([sigmoid(HOURS, middle) for middle in middles])
    fraction = np.zeros((*death.shape, len(STATES)))
    fraction[..., 1], fraction[..., 4] = death, 1 - death
    return xr.Dataset(
        {"fraction": (("well", "timepoint", "state"), fraction)},
        coords={
            "well": np.array([f"A{k + 1:02d}" for k in range(len(middles))], dtype=object),
            "hours": ("timepoint", HOURS),
            "state": list(STATES),
        },
    )


def flow(middles: list[float], *, late: float, rng: np.random.Generator, every: float = 2.0) -> pd.DataFrame:
    times = np.arange(0, 18.1, every)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "plate": "",
                    "well": f"A{k + 1:02d}",
                    "hours": times,
                    "death": np.clip(sigmoid(times, middle + late) + rng.normal(0, 0.01, times.size), 0, 1),
                }
            )
            for k, middle in enumerate(middles)
        ]
    )


@pytest.mark.parametrize("late", [-2.0, 0.0, 3.0])
def test_the_lag_is_the_one_put_in(late: float) -> None:
    middles = [5.0, 6.0, 7.0, 8.0, 6.5]
    found = compare_with_flow(plate(middles), flow(middles, late=late, rng=np.random.default_rng(0)))
    assert float(found.lag.item()) == pytest.approx(late, abs=0.3)
    assert found.lag_low.item() <= late + 0.3
    assert found.lag_high.item() >= late - 0.3
    assert found.lag_status.item() == "estimated"


def test_equal_populations_agree_and_late_ones_are_lower() -> None:
    middles = [5.0, 6.0, 7.0, 8.0]
    same = compare_with_flow(plate(middles), flow(middles, late=0.0, rng=np.random.default_rng(1)))
    assert same.concordance.item() > 0.99
    late = compare_with_flow(plate(middles), flow(middles, late=3.0, rng=np.random.default_rng(1)))
    assert late.concordance.item() < 0.9
    assert late.bias.item() < -0.1
    assert late.sizes["pair"] == 4 * 10


def test_times_outside_the_frames_are_not_read() -> None:
    table = pd.DataFrame({"plate": "", "well": "A01", "hours": [30.0, 6.5], "death": [0.9, 0.4]})
    found = compare_with_flow(plate([6.5]), table)
    assert np.isnan(found.label_free.values[found.pair_hours.values == 30]).all()
    assert found.label_free.values[found.pair_hours.values == 6.5].item() == pytest.approx(0.4, abs=0.01)
    assert found.lag_status.item() == "not_computable"
    assert found.status.item() == "too_few_pairs"


def test_courses_that_do_not_vary_have_no_lag() -> None:
    still = (HOURS, np.full(HOURS.size, 0.2), HOURS, np.full(HOURS.size, 0.2))
    assert lag_between([still] * 4)[3] == "not_computable"
    assert lag_between([])[3] == "not_computable"


def test_a_table_is_read_with_its_percent_and_its_empty_cells(tmp_path: Path) -> None:
    path = tmp_path / "flow.csv"
    path.write_text("Well;Hours;death %;necrosis;cytometer\na1;2;50;0,25;LSR\nB-2;4;;;LSR\n", encoding="utf-8")
    table = read_flow(path)
    assert list(table["well"]) == ["A01", "B02"]
    assert list(table.columns) == ["plate", "well", "hours", "death", "necrosis"]
    assert table["death"].to_numpy() == pytest.approx([0.5, np.nan], nan_ok=True)
    assert table["necrosis"].iloc[0] == 0.25


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: Expected columns well"),
        ("well,hours\nA01,1\n", "line 1: Expected columns well"),
        ("well,hours,death\n13,1,0.5\n", "line 2: '13' is not a well"),
        ("well,hours,death\nA01,x,0.5\n", "line 2: hours 'x' is no number"),
        ("well,hours,death\nA01,1,50\n", "line 2: death '50' is no number from 0 to 1. Name the column with ' %'"),
        ("well,hours,death\nA01,1,0.5\nA1,1,0.6\n", "line 3: this well and time stand in line 2 already"),
    ],
)
def test_faults_of_a_table_are_named_by_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "flow.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as error:
        read_flow(path)
    assert message in str(error.value)
    with pytest.raises(MissingInputError):
        read_flow(tmp_path / "none.csv")
