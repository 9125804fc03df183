"""Exclusions: read, checked, applied as masks, recorded with what they changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from plates.errors import MissingInputError, SettingsError
from plates.states import STATES
from screening.analysis.exclusions import apply_exclusions, check_exclusions, exclusion_record, read_exclusions

HEADER = "plate,well,field,timepoint,reason,name,date\n"


def written(tmp_path: Path, *lines: str, header: str = HEADER) -> Path:
    path = tmp_path / "exclusions.csv"
    path.write_text(header + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def plate() -> tuple[xr.Dataset, xr.Dataset]:
    wells = np.array(["A01", "A02"], dtype=object)
    probability = np.full((2, 2, 3, 1, 1, 5), 0.2, np.float32)
    probabilities = xr.Dataset(
        {"probability": (("well", "field", "timepoint", "py", "px", "state"), probability)},
        coords={"well": wells, "state": list(STATES)},
    )
    layout = xr.Dataset({"masked": ("well", np.array(["", "leak"], dtype=object))}, coords={"well": wells})
    return probabilities, layout


def test_wells_become_masks_and_fields_become_empty_while_the_inputs_stay(tmp_path: Path) -> None:
    table = read_exclusions(
        written(
            tmp_path,
            "P1,a1,,,bubble,Ada,2026-03-02",
            "P1,A02,1,,focus,Ada,2026-03-02",
            "P1,A02,0,2,dust,Ada,2026-03-03",
            "P1,A02,,,contaminated,Bob,2026-03-04",
            "P2,A02,,1,other plate,Bob,2026-03-04",
        )
    )
    probabilities, layout = plate()
    before = probabilities.copy(deep=True), layout.copy(deep=True)
    masked_probabilities, masked_layout = apply_exclusions(probabilities, layout, table, plate="P1")
    assert list(masked_layout.masked.values) == ["bubble (Ada)", "leak; contaminated (Bob)"]
    kept = np.isfinite(masked_probabilities.probability.values).all(axis=(3, 4, 5))
    assert kept.tolist() == [[[True] * 3, [True] * 3], [[True, True, False], [False] * 3]]
    xr.testing.assert_identical(probabilities, before[0])
    xr.testing.assert_identical(layout, before[1])


def test_a_plate_without_exclusions_is_as_it_was(tmp_path: Path) -> None:
    table = read_exclusions(written(tmp_path, "P2,A01,,,bubble,Ada,2026-03-02"))
    probabilities, layout = plate()
    for given, made in zip(plate(), apply_exclusions(probabilities, layout, table, plate="P1"), strict=True):
        xr.testing.assert_identical(given, made)


def test_every_fault_is_named_by_its_line(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "P1,A01,,,,Ada,2026-03-02",
        "P1,Q,,,dust,,2026-03-02",
        "P1,A02,x,,dust,Ada,02.03.2026",
        "P1,A03,1,,dust,Ada,2026-03-02",
        "P1,A03,1,,dust,Ada,2026-03-02",
    )
    with pytest.raises(SettingsError) as error:
        read_exclusions(path)
    text = str(error.value)
    assert "line 2: no reason is given" in text
    assert "line 3: no name is given" in text
    assert "line 3: 'Q' is not a well" in text
    assert "line 4: field 'x' is no number" in text
    assert "line 4: date '02.03.2026' is no day" in text
    assert "line 6: this is excluded already" in text


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="column 'reason' is missing"):
        read_exclusions(written(tmp_path, "P1,A01", header="plate,well,name,date\n"))
    with pytest.raises(SettingsError, match="column 'plate' is missing"):
        read_exclusions(written(tmp_path, header=""))
    with pytest.raises(MissingInputError):
        read_exclusions(tmp_path / "none.csv")


def test_what_does_not_exist_cannot_be_excluded(tmp_path: Path) -> None:
    table = read_exclusions(
        written(
            tmp_path,
            "p1,A01,,,bubble,Ada,2026-03-02",
            "P1,H12,,,bubble,Ada,2026-03-02",
            "P1,A01,2,3,bubble,Ada,2026-03-02",
        )
    )
    with pytest.raises(SettingsError) as error:
        check_exclusions(table, {"P1": plate()[0]})
    text = str(error.value)
    assert "line 2: there is no plate 'p1'. Did you mean 'P1'?" in text
    assert "line 3: plate P1 has no classified well H12" in text
    assert "line 4: plate P1 has no field 2, its last one is 1" in text
    assert "line 4: plate P1 has no timepoint 3, its last one is 2" in text


def ranking(**ec50: float) -> xr.Dataset:
    names = list(ec50)
    values = np.array(list(ec50.values()))
    return xr.Dataset(
        {
            "rank": ("compound", np.arange(1, len(names) + 1)),
            "status": ("compound", np.array(["quantified"] * len(names), dtype=object)),
            **dict.fromkeys(("ec50", "ec50_low", "ec50_high", "emax"), ("compound", values)),
        },
        coords={"compound": np.array(names, dtype=object)},
    )


def test_the_record_holds_who_why_and_what_it_changed(tmp_path: Path) -> None:
    table = read_exclusions(written(tmp_path, "P1,A01,,,bubble,Ada,2026-03-02"))
    record = exclusion_record(table, before=ranking(a=1.0, b=2.0, gone=np.inf), after=ranking(a=1.0, b=3.0))
    assert record.reason.values.tolist() == ["bubble"]
    assert record.field.values.tolist() == [-1]
    assert dict(zip(record.compound.values, record.changed.values, strict=True)) == {
        "a": False,
        "b": True,
        "gone": True,
    }
    assert record.ec50_before.values.tolist() == [1.0, 2.0, np.inf]
    assert record.ec50_after.values[:2].tolist() == [1.0, 3.0]
    assert isinstance(table, pd.DataFrame)
