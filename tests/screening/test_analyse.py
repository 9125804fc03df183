"""What is left out is left out of the numbers alone, and everything stored can be had as tables."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from plates.errors import SettingsError
from plates.results import read_result
from screening.analyse import PLATE_RESULTS, analyse_plate
from screening.analysis.tables import undescribed
from screening.cli import app
from screening.export import export
from screening.pipeline import run
from screening.settings import AnalysisSettings, read_settings


def excluded(folder: Path, *lines: str) -> AnalysisSettings:
    """Settings with such a file of exclusions."""
    file = folder / "exclusions.csv"
    file.write_text("\n".join(["plate,well,field,timepoint,reason,name,date", *lines]) + "\n")
    return AnalysisSettings(exclusions=file, draws=100)


@pytest.fixture
def plate(finished: dict[str, Path]) -> Path:
    """An analysed plate of 16 wells."""
    return finished["P001"]


def test_an_excluded_well_counts_nowhere_and_the_record_says_who_left_it_out(plate: Path, tmp_path: Path) -> None:
    before, controls = read_result(plate, "fractions"), read_result(plate, "quality")["n_negative"].max()
    well = str(before.well.values[before.control.values == "negative"][0])
    assert read_result(plate, "exclusions").sizes["exclusion"] == 0
    assert analyse_plate(plate, settings=excluded(tmp_path, f"P001,{well},,,bubble,A. Noether,2026-03-02"))
    after = read_result(plate, "fractions")
    # it stays visible with its reason
    np.testing.assert_array_equal(before["death"].sel(well=well), after["death"].sel(well=well))
    assert after["masked"].sel(well=well).item() == "bubble (A. Noether)"
    assert read_result(plate, "quality")["n_negative"].max() == controls - 1
    record = read_result(plate, "exclusions")
    assert [str(record[name].values[0]) for name in ("well", "reason", "name")] == [well, "bubble", "A. Noether"]
    assert not analyse_plate(plate, settings=excluded(tmp_path, f"P001,{well},,,bubble,A. Noether,2026-03-02"))
    # the same file with another reason is another analysis
    assert analyse_plate(plate, settings=excluded(tmp_path, f"P001,{well},,,dry,A. Noether,2026-03-02"))
    assert np.isfinite(read_result(plate, "probabilities")["probability"].sel(well=well)).any()


def test_an_exclusion_of_what_is_not_there_is_refused(plate: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="line 2: plate P001 has no classified well A12"):
        analyse_plate(plate, settings=excluded(tmp_path, "P001,A12,,,bubble,A. Noether,2026-03-02"))


def test_exclusions_of_another_plate_are_noticed_before_anything_is_converted(
    settings_file: Path, tmp_path: Path
) -> None:
    settings = read_settings(settings_file)
    wrong = excluded(tmp_path, "P003,A01,,,bubble,A. Noether,2026-03-02")
    with pytest.raises(SettingsError, match=r"there is no plate 'P003'\. Expected one of P001, P002"):
        run(settings.model_copy(update={"analysis": wrong}))
    assert not settings.campaign.out.exists()


def test_all_results_come_out_as_tables_and_every_column_is_explained(plate: Path, tmp_path: Path) -> None:
    out = tmp_path / "tables"
    told = CliRunner().invoke(app, ["export", str(plate), "--out", str(out)])
    assert told.exit_code == 0, told.output
    files = {file.name for file in out.glob("P001.*.csv")}
    assert {name for name in PLATE_RESULTS if not any(file.startswith(f"P001.{name}.") for file in files)} <= {
        "combinations",
        "early_detection",
        "exclusions",
        "growth",
    }
    meant = pd.read_csv(out / "P001.dictionary.csv", keep_default_na=False)
    assert undescribed(meant) == []
    assert {"wells", "curves", "points"} <= set(meant["table"])
    (campaign,) = [path.parent for path in plate.parent.glob("*.results.zarr/control_charts")]
    export(campaign, out=tmp_path / "campaign")
    (dictionary,) = (tmp_path / "campaign").glob("*.dictionary.csv")
    assert undescribed(pd.read_csv(dictionary, keep_default_na=False)) == []
    ranking = pd.read_csv(out / "P001.ranking.compound.csv")
    assert set(ranking["compound"]) == set(read_result(plate, "ranking").compound.values)


def test_an_analysis_compared_with_itself_has_moved_nothing(plate: Path) -> None:
    told = CliRunner().invoke(app, ["compare-analyses", str(plate), str(plate)])
    assert told.exit_code == 0, told.output
