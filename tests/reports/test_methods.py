"""The methods text: every number is the stored one, nothing is said of what is not there, references are in order."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from plates.results import read_result
from plates.states import STATES
from plates.store import open_plate
from reports.citations import SOURCES
from reports.methods import methods_text, references, settings_difference

NAMES = ("layout", "fields", "probabilities", "fractions", "quality", "normalized", "dose_response", "ranking")


@pytest.fixture(scope="module")
def results(plate: Path) -> dict[str, xr.Dataset]:
    return {name: read_result(plate, name) for name in NAMES}


def told(results: dict[str, xr.Dataset], **given: Any) -> str:
    return "\n".join(methods_text(results, **given))


def test_the_plate_its_contents_and_what_is_missing_are_told(results: dict[str, xr.Dataset], plate: Path) -> None:
    text = told(results, plate=open_plate(plate))
    layout, status = results["layout"], results["probabilities"]["status"]
    assert f"HeLa in {layout.sizes['well']} wells of plate P012 of 96 wells" in text
    assert "2 fields a well, 4 timepoints, one every 4 h over 12 h" in text
    assert "1 x 640 x 640 voxels (z, y, x) of 1 x 0.16 x 0.16 µm" in text
    assert "48 wells held 4 compounds at 0.1 µM to 30 µM, 8 vehicle, 6 positive controls" in text
    assert f"{int((status != 1).sum())} of {status.size} frames of fields are missing" in text
    assert layout.attrs["sha256"] in text


def test_frames_that_are_not_evenly_spaced_are_listed(results: dict[str, xr.Dataset]) -> None:
    fractions = results["fractions"].assign_coords(hours=("timepoint", [0.0, 2.0, 8.0, 24.0]))
    assert "4 timepoints, at 0, 2, 8, 24 h" in told({**results, "fractions": fractions})


def test_the_classifier_is_told_with_hash_calibration_and_errors(results: dict[str, xr.Dataset]) -> None:
    confusion = np.diag([90, 80, 70, 60, 50])
    confusion[0, 1] = 10
    record = json.dumps({"confusion": confusion.tolist(), "text": "360 test patches"})
    known = {**results, "probabilities": results["probabilities"].assign_attrs(validation=record)}
    text = told(known)
    assert results["probabilities"].attrs["classifier_sha256"] in text
    assert "temperature scaling" in text
    assert "On 360 test patches it called 350 of 360 right (97.2 %): apoptosis 90 of 100" in text
    assert "brings no record of its errors" in told(results)
    raw = results["probabilities"].assign_attrs(calibration="not calibrated")
    assert "temperature scaling" not in told({**results, "probabilities": raw})
    assert all(state in text for state in STATES)


def test_quality_and_what_was_left_out_are_told(results: dict[str, xr.Dataset]) -> None:
    quality = results["quality"]
    text = told(results)
    assert f"Quality control gave {quality.attrs['verdict']}" in text
    z_prime = float(quality["z_prime"].sel(readout="death").isel(timepoint=-1))
    assert f"Z' {z_prime:.3g}"[:7] in text
    exclusions = xr.Dataset(
        {key: ("exclusion", np.array([value], dtype=object)) for key, value in
         {"well": "C03", "reason": "bubble", "name": "A. Person", "date": "2026-03-04"}.items()}
    )  # fmt: skip
    assert "C03 (bubble; A. Person, 2026-03-04)" in told({**results, "exclusions": exclusions})
    assert "Nothing was left out by hand" in told({**results, "exclusions": exclusions.isel(exclusion=slice(0))})


def test_the_fates_of_the_curves_are_counted(results: dict[str, xr.Dataset]) -> None:
    status = results["dose_response"]["status"].sel(readout="death").values.tolist()
    assert f"{status.count('quantified')} quantified" in told(results)


def test_nothing_is_said_of_results_that_are_not_there(results: dict[str, xr.Dataset]) -> None:
    assert "Quality" not in told({name: results[name] for name in ("layout", "fractions")})
    only = methods_text({})
    assert len(only) == 1
    assert "version not recorded" in only[0]


def test_a_campaign_tells_its_plates(campaign: Path) -> None:
    results = {name: read_result(campaign, name) for name in ("plates", "dose_response", "ranking")}
    text = methods_text(results)[0]
    assert "3 plates (1 FAIL, 1 PASS, 1 REVIEW by quality control), of which 2 were used: P012, P013, P014" in text


def test_references_are_numbered_in_the_order_in_which_they_are_cited(results: dict[str, xr.Dataset]) -> None:
    text = told(results)
    cited = [int(number) for group in re.findall(r"\[([\d, ]+)\]", text) for number in group.split(", ")]
    first = list(dict.fromkeys(cited))
    assert first == sorted(first)
    listed = references(results)
    assert len(listed) == max(cited) == len(set(listed))
    assert all(re.match(rf"\[{number}\] ", line) for number, line in enumerate(listed, start=1))
    assert "[1]" not in told(results, numbered=False)


def test_only_what_is_used_is_cited(results: dict[str, xr.Dataset]) -> None:
    assert not any(SOURCES["stack"] in line for line in references(results))
    timed = {**results, "kinetics": xr.Dataset(attrs={"course_noise": "of the plate"})}
    assert any(SOURCES["stack"] in line for line in references(timed))


def test_names_from_plate_maps_stay_one_line_of_text(results: dict[str, xr.Dataset]) -> None:
    layout = results["layout"].copy()
    layout["cell_line"] = ("well", np.full(layout.sizes["well"], "He\nLa \u202ex<b>", dtype=object))
    first = methods_text({**results, "layout": layout})[0]
    assert "\n" not in first
    assert "\u202e" not in first
    assert first.startswith("He La \N{REPLACEMENT CHARACTER}x<b>")


def test_settings_are_told_where_they_differ_from_the_defaults() -> None:
    defaults = {"seed": 0, "quality": {"least": 10, "rule": "a"}, "gone": 1}
    used = {"seed": 3, "quality": {"least": 10, "rule": "b"}, "gone": 1, "new": True}
    assert settings_difference(used, defaults) == [
        "new: true (no default known)",
        'quality.rule: "b" (default "a")',
        "seed: 3 (default 0)",
    ]
    assert settings_difference(defaults, defaults) == []


def test_changed_settings_end_the_text(results: dict[str, xr.Dataset]) -> None:
    assert methods_text(results, changed=["seed: 3 (default 0)"])[-1].endswith("defaults: seed: 3 (default 0).")
    assert methods_text(results, changed=[])[-1].endswith("defaults: none.")


def test_probabilities_without_a_card_are_told_as_not_recorded(results: dict[str, xr.Dataset]) -> None:
    bare = results["probabilities"].copy()
    bare.attrs = {}
    text = " ".join(methods_text({**results, "probabilities": bare}))
    assert "patches (their size is not recorded). How many cells a patch had to hold is not recorded." in text
    assert "The classifier not recorded (SHA-256 not recorded) gave every such patch" in text
