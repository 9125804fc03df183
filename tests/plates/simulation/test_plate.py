"""A simulated plate on disk: the same for the same seed, readable as the instrument's files are, true beside them."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plates.errors import SettingsError, StoreError
from plates.ingest.acquisition import read_frame
from plates.ingest.names import discover
from plates.ingest.tcf import open_tcf
from plates.layout import read_plate_map
from plates.simulation.design import Faults, PlateDesign, design_plates, make_library
from plates.simulation.fluorescence import VOXEL_UM, fluorescence_frames, registration
from plates.simulation.plate import _populate, simulate_plate
from plates.simulation.truth import annotate, patch_areas, read_compounds, true_fractions
from plates.states import DEAD, STATES


def small_design(**options: object) -> PlateDesign:
    """Four wells of one small field: a vehicle, an inducer of apoptosis, of necrosis, a compound."""
    design = design_plates(make_library(5), seed=5, plates=1, fields=1, shape=(12, 176, 176), hours=(0.0, 12.0))[0]
    kinds = ("", "apoptosis", "necrosis")
    chosen = [next(well for well in design.wells if well.control != "none" and well.inducer == kind) for kind in kinds]
    chosen.append(next(well for well in design.wells if well.control == "none"))
    return replace(design, wells=tuple(chosen), **options)  # type: ignore[arg-type]


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[PlateDesign, Path]:
    folder = tmp_path_factory.mktemp("plate")
    design = small_design()
    simulate_plate(design, folder)
    return design, folder


def test_the_same_design_gives_the_same_bytes(simulated: tuple[PlateDesign, Path], tmp_path: Path) -> None:
    design, folder = simulated
    simulate_plate(design, tmp_path)
    assert digests(tmp_path) == digests(folder)
    simulate_plate(replace(design, seed=design.seed + 1), tmp_path / "other")
    assert digests(tmp_path / "other") != digests(folder)


def test_an_interrupted_simulation_is_completed(simulated: tuple[PlateDesign, Path], tmp_path: Path) -> None:
    design, folder = simulated
    simulate_plate(design, tmp_path)
    lost = design.wells[1].well
    next((tmp_path / design.name).rglob(f"*.{lost[0]}{int(lost[1:])}.*.TCF")).unlink()
    simulate_plate(design, tmp_path)
    assert digests(tmp_path) == digests(folder)


def test_the_files_are_found_and_read_as_the_instrument_s(simulated: tuple[PlateDesign, Path]) -> None:
    design, folder = simulated
    sources = discover(folder / design.name)
    assert {source.well for source in sources} == {planned.well for planned in design.wells}
    with open_tcf(sources[0].path) as acquisition:
        assert acquisition.voxel_um == pytest.approx(design.voxel_um)
        assert len(acquisition.frames) == 2
        volume, nonfinite = read_frame(acquisition, 0)
    assert volume.shape == design.shape
    assert nonfinite == 0
    assert abs(np.median(volume[volume > 0]) / 1e4 - design.line.medium_index) < 0.003


def test_the_plate_map_says_what_was_meant(simulated: tuple[PlateDesign, Path]) -> None:
    design, folder = simulated
    table = read_plate_map(folder / f"{design.name}.csv").table.set_index("well")
    for planned in design.wells:
        assert table.loc[planned.well, "control"] == planned.control
        if planned.compound is not None:
            assert table.loc[planned.well, "dose"] == pytest.approx(planned.dose_um)


def test_the_true_areas_agree_with_the_cells(simulated: tuple[PlateDesign, Path]) -> None:
    design, folder = simulated
    truth = folder / f"{design.name}.truth"
    areas = patch_areas(truth)
    assert float(areas.min()) >= 0
    assert float(areas.sum("state").max()) <= 1 + 1e-6
    cells = pd.read_csv(truth / "cells.csv")
    necrotic = next(planned.well for planned in design.wells if planned.inducer == "necrosis")
    died = cells[(cells["well"] == necrotic) & (cells["onset_h"] < 12)]
    assert len(died) > 0
    shares = areas.sel(well=necrotic).isel(timepoint=1).sum(("field", "py", "px"))
    assert STATES[int(shares.argmax("state"))] == "necrosis"
    fractions = true_fractions(truth)
    assert np.allclose(fractions.sum("state").where(fractions.notnull().all("state")).fillna(1), 1)


def test_annotations_name_the_state_that_covers_most(simulated: tuple[PlateDesign, Path]) -> None:
    design, folder = simulated
    truth = folder / f"{design.name}.truth"
    table = annotate(truth, folder / "P.zarr")
    assert set(table["state"]) <= set(STATES)
    areas = patch_areas(truth)
    row = table.iloc[len(table) // 2]
    one = areas.sel(well=row["well"]).isel(field=row["field"], timepoint=row["timepoint"])
    py = int(np.abs(areas["py_um"].to_numpy() - row["y_um"]).argmin())
    px = int(np.abs(areas["px_um"].to_numpy() - row["x_um"]).argmin())
    assert STATES[int(one.isel(py=py, px=px).argmax("state"))] == row["state"]


def test_compounds_of_the_truth_carry_potency_and_pathway(simulated: tuple[PlateDesign, Path]) -> None:
    design, folder = simulated
    for entry in read_compounds(folder / f"{design.name}.truth").values():
        assert entry["dominant_pathway"] in (*DEAD, "none")
        assert entry["ec50_um"] is None or entry["ec50_um"] > 0
        if entry["dominant_pathway"] != "none":
            assert entry["ec50_um"] is not None


def test_faults_can_be_switched_on() -> None:
    design = small_design()
    vehicle = next(planned for planned in design.wells if planned.control == "negative")
    empty = replace(design, faults=Faults(empty=(vehicle.well,)))
    assert _populate(empty, vehicle, np.random.default_rng(0)) == []
    wrong = replace(design, faults=Faults(mislabelled=(vehicle.well,)))
    cells = [
        cell for seed in range(8) for cell in _populate(wrong, vehicle, np.random.default_rng(seed)) if cell.born_h < 0
    ]
    dead = [cell.fate.pathway == "necrosis" and cell.fate.onset_h < 12 for cell in cells]
    assert np.mean(dead) > 0.8


def test_fluorescence_shows_nuclei_where_the_cells_are_and_pi_only_after_the_membrane_goes() -> None:
    design = small_design(hours=(0.0, 16.0), shape=(12, 400, 400))
    number = next(i for i, planned in enumerate(design.wells) if planned.inducer == "necrosis")
    cells = _populate(design, design.wells[number], np.random.default_rng(3))
    channels = fluorescence_frames(cells, design, (number, 0))
    frames = {name: list(channel.frames) for name, channel in channels.items()}
    assert frames["CH0"][0].dtype == np.uint8
    assert frames["CH2"][0].dtype == np.uint16
    assert frames["CH2"][0].max() < 600 < frames["CH2"][1].max()
    moved = registration(design, (number, 0))
    centre = np.array([size * pitch / 2 for size, pitch in zip(design.shape[1:], design.voxel_um[1:], strict=True)])
    inside = [
        cell
        for cell in cells
        if cell.born_h < 0
        and all(6 < value < 2 * middle - 6 for value, middle in zip((cell.y, cell.x), centre, strict=True))
    ]
    assert inside
    cos, sin = np.cos(moved.rotation_rad), np.sin(moved.rotation_rad)
    image = frames["CH0"][0].max(axis=0)
    for cell in inside:
        dy, dx = np.array([cell.y, cell.x]) - centre
        y = moved.scale * (cos * dy - sin * dx) + centre[0] + moved.translation_um[1]
        x = moved.scale * (sin * dy + cos * dx) + centre[1] + moved.translation_um[0]
        assert image[round(y / VOXEL_UM[1]), round(x / VOXEL_UM[2])] > 4 * np.median(image)


def test_a_tiled_file_with_stains_is_read_back(tmp_path: Path) -> None:
    design = small_design(variant="ldm", fluorescence=True)
    design = replace(design, wells=design.wells[:1])
    plain = replace(design, variant="uint16", fluorescence=False)
    for name, kind in (("tiled", design), ("plain", plain)):
        simulate_plate(kind, tmp_path / name)
    tiled, whole = (next((tmp_path / name).rglob("*.TCF")) for name in ("tiled", "plain"))
    with open_tcf(tiled) as first, open_tcf(whole) as second:
        assert set(first.channels) == {"CH0", "CH1", "CH2"}
        assert not second.channels
        for frame in first.frames:
            assert np.array_equal(read_frame(first, frame)[0], read_frame(second, frame)[0])
        nuclei = first.read_fluorescence("CH0", frame=0)
    assert nuclei.dtype == np.uint8
    assert nuclei.shape == (12, 235, 235)


def test_a_folder_with_another_simulation_is_refused_before_its_plate_map_changes(
    simulated: tuple[PlateDesign, Path], tmp_path: Path
) -> None:
    design, _ = simulated
    small = replace(design, wells=design.wells[:1])
    simulate_plate(small, tmp_path)
    before = digests(tmp_path)
    with pytest.raises(StoreError, match="another simulation"):
        simulate_plate(replace(small, seed=small.seed + 1), tmp_path)
    assert digests(tmp_path) == before


@pytest.mark.parametrize("options", [{"hours": (8.0, 0.0)}, {"hours": (float("nan"),)}, {"variant": "bogus"}])
def test_a_design_that_cannot_be_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        design_plates(make_library(1), seed=1, **options)  # type: ignore[arg-type]
