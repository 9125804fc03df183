"""A real refractive-index tomogram through the whole job; nothing about the cell is known but that it lives."""

from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - the files are compressed with Zstandard
import numpy as np
import pytest
import tifffile

from plates.results import read_result
from plates.store import open_plate
from screening.pipeline import Outcome, run
from screening.settings import read_settings
from tests.benchmarks.hl60_plate import make_hl60_acquisitions

SOURCE = Path(__file__).parents[1] / "data" / "hl60_tomogram"


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    settings = make_hl60_acquisitions(tmp_path_factory.mktemp("hl60"), source=SOURCE, fields=1, timepoints=1)
    return run(read_settings(settings))


def test_the_tomogram_is_in_the_plate_voxel_by_voxel(outcome: Outcome) -> None:
    acquisitions = outcome.plates["HL60"].parents[1] / "HL60"
    plate = open_plate(outcome.plates["HL60"])
    assert plate.voxel_um == pytest.approx((0.139, 0.139, 0.139))
    volume = plate.volume("A01", field=0, timepoint=0)
    # as it stands in the file, by a reader that is not ours; its name ends in well and position
    written = next(acquisitions.rglob("*.A1.*P01.TCF"))
    with h5py.File(written) as file:
        assert np.array_equal(volume, file["Data/3D/000000"][:])
    # and the measured cell is in it: its indices, within the noise that was added around the copies
    cell = tifffile.imread(next(SOURCE.glob("*.tif")))
    assert abs(int(volume.max()) - int(cell.max())) < 8


def test_the_medium_and_the_cells_are_found_by_what_was_measured(outcome: Outcome) -> None:
    fields = read_result(outcome.plates["HL60"], "fields")
    assert np.allclose(fields["medium_index"], 1.335, atol=3e-4)
    assert (fields["confluency"] > 0.1).all()
    assert (read_result(outcome.plates["HL60"], "fractions")["patches"] >= 4).all()


def test_the_report_says_that_the_classifier_knows_no_such_cells(outcome: Outcome) -> None:
    page = outcome.plate_reports["HL60"].read_text(encoding="utf-8")
    assert "The classifier was not trained on real cells" in page
    assert "for HL60 and every other line" in page
