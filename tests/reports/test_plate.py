import base64
import io
import json
import re
import shutil
import zlib
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from plates.errors import MissingInputError
from plates.results import read_result, write_result
from plates.states import STATES
from reports.alerts import UNLIKE
from reports.overlay import default_scenes
from reports.plate import write_plate_report

from . import simulated
from .conftest import HOSTILE
from .test_page import Reader


def cells(page: str, section: str, row: str) -> list[str]:
    """Text of the cells of a table's row that begins with the given text."""
    body = page[page.index(f'<section id="{section}">') :].split("</section>")[0]
    for found in re.findall(r"<tr[^>]*>(.*?)</tr>", body, flags=re.DOTALL):
        texts = [
            " ".join(unescape(re.sub(r"<[^>]+>", " ", cell)).split())
            for cell in re.findall(r"<t[hd].*?</t[hd]>", found, re.DOTALL)
        ]
        if row in texts:
            return texts
    raise AssertionError(f"no row {row!r} in {section}")


def test_a_plate_of_62_wells_with_its_overlays_stays_below_2_mib(plate_page: Path) -> None:
    assert plate_page.stat().st_size < 2 * 2**20
    assert len(re.findall("<figure data-field=", plate_page.read_text())) == 8


def test_equal_results_give_equal_bytes(plate: Path, plate_page: Path, tmp_path: Path) -> None:
    again = write_plate_report(
        plate, out=tmp_path / "P012.html", analysed="2026-03-01 10:00", settings="[campaign]\nname = 'x'\n"
    )
    for file in sorted(plate_page.parent.glob("P012*")):
        assert (again.parent / file.name).read_bytes() == file.read_bytes(), file.name


def test_every_number_of_the_ranking_is_the_stored_one(plate: Path, plate_page: Path) -> None:
    ranking = read_result(plate, "ranking")
    page = plate_page.read_text()
    for index, compound in enumerate(ranking["compound"].values):
        one = ranking.isel(compound=index)
        row = cells(page, "ranking", compound)
        assert row[0] == str(one["rank"].item())
        if one["status"].item() == "quantified":
            assert (
                row[3]
                == f"{one['ec50'].item():.3g} µM {one['ec50_low'].item():.3g} to {one['ec50_high'].item():.3g} µM"
            )
        assert row[4].startswith(f"{100 * one['emax'].item():.0f} %")
        assert one["dominant_pathway"].item() in row[5]


def test_every_number_of_the_wells_is_the_stored_one(plate: Path, plate_page: Path) -> None:
    final = read_result(plate, "fractions").isel(timepoint=-1)
    page = plate_page.read_text()
    for well in ("A01", "B05", "F12"):
        one = final.sel(well=well)
        expected = [f"{100 * one['death'].item():.1f} %"]
        expected += [f"{100 * one['fraction'].sel(state=state).item():.1f} %" for state in STATES]
        row = cells(page, "wells", well)
        assert [row[4], *row[6:11]] == expected


def test_the_controls_are_told_with_their_number_and_the_limit(plate: Path, plate_page: Path) -> None:
    death = read_result(plate, "quality").sel(readout="death").isel(timepoint=-1)
    row = cells(plate_page.read_text(), "controls", "death")
    assert row[1].startswith(f"{death['z_prime'].item():.3g} ")
    assert row[8:10] == ["8", "6"]
    assert cells(plate_page.read_text(), "controls", "limit of the verdict, for death")[2] == "at least 0.4"
    page = plate_page.read_text()
    assert page.count("PASS when Z&#39; of death is at least 0.4.") == 1, "the rule is told once, in the methods"
    assert '<a href="#verdict-rule">How the verdict is reached</a>' in page.split('<section id="maps">')[0]
    value = death["robust_z_prime"].item()
    assert f"Robust Z' of death at 12 h is {value:.3g} (" in page.split('<section id="maps">')[0]


def test_the_files_beside_the_page_hold_the_exact_values(plate: Path, plate_page: Path) -> None:
    fractions = read_result(plate, "fractions")
    wells = pd.read_csv(plate_page.with_name("P012.wells.csv")).set_index(["well", "timepoint"])
    assert len(wells) == 62 * 4
    own_order = list(wells.columns[list(wells.columns).index("death_high") + 1 :])
    assert own_order == sorted(own_order), "a store gives its arrays in any order, a file has its own"
    assert wells.loc[("B05", 2), "death"] == fractions["death"].sel(well="B05", timepoint=2).item()
    assert (
        wells.loc[("B05", 2), "necrosis_fraction_low"]
        == fractions["fraction_low"].sel(well="B05", timepoint=2, state="necrosis").item()
    )
    assert np.isnan(float(str(wells.loc[("C06", 3), "death"])))
    curves = pd.read_csv(plate_page.with_name("P012.curves.csv")).set_index(["compound", "readout"])
    fits = read_result(plate, "dose_response")
    assert curves.loc[("bleach", "death"), "ec50"] == fits["ec50"].sel(compound="bleach", readout="death").item()


def test_a_compound_without_ec50_is_told_in_words_and_gets_no_curve(plate: Path, plate_page: Path) -> None:
    page = plate_page.read_text()
    assert cells(page, "ranking", "slow killer")[3] == "not determined, EC50 > 24 µM"
    book = Reader(page).figures()
    number = re.search(r'aria-label="Death against dose of slow killer[^"]*" data-figure="(\d+)"', page)
    assert number is not None
    lines = [trace for trace in book["figures"][int(number[1])]["data"] if "lines" in trace["mode"]]
    assert lines == []
    other = re.search(r'aria-label="Death against dose of bleach[^"]*" data-figure="(\d+)"', page)
    assert other is not None
    assert any("lines" in trace["mode"] for trace in book["figures"][int(other[1])]["data"])


def test_a_classifier_of_simulated_cells_is_named_as_one_that_does_not_know_such_data(plate_page: Path) -> None:
    alerts = plate_page.read_text().split('<section id="maps">')[0]
    assert "The classifier was not trained on real cells" in alerts
    assert "simulated cells only, seeds 1 to 40" in alerts
    assert "Wells without a classified image, 2 of 62: C06, C07." in alerts
    assert "PARTIAL: 60 of 62 wells" in alerts
    assert '<a href="#well=C06">C06</a>' in alerts
    assert "No cells were found" not in alerts, "wells that were not imaged are not called empty"


def test_a_plate_in_order_has_no_alert_and_one_of_an_unknown_cell_line_has(tmp_path: Path) -> None:
    plate = simulated.write_plate(tmp_path, compounds=("only",), images=False)
    assert "No alerts." in write_plate_report(plate, out=tmp_path / "a.html", overlays=0).read_text()
    other = simulated.write_plate(tmp_path, name="P2", compounds=("only",), card="A549, 3 plates", images=False)
    page = write_plate_report(other, out=tmp_path / "b.html", overlays=0).read_text()
    assert "The classifier was not trained on such data: its card does not name HeLa." in page


def test_a_plate_without_compounds_still_has_a_page(tmp_path: Path) -> None:
    plate = simulated.write_plate(tmp_path, compounds=())
    page = write_plate_report(plate, out=tmp_path / "P012.html").read_text()
    assert "nothing to rank" in page
    assert len(re.findall("<figure data-field=", page)) == 4


def test_every_page_names_classifier_hash_calibration_plate_map_and_version(
    plate_page: Path, campaign_page: Path
) -> None:
    plate_text, campaign_text = plate_page.read_text(), campaign_page.read_text()
    for text in ("demo-resnet18", "3f" * 32, "temperature scaling on 400 patches", "P012_map.csv", "ab" * 32, "0.1.0"):
        assert text in plate_text
        assert text in campaign_text


def test_hostile_text_stays_text(hostile_pages: tuple[Path, Path]) -> None:
    for path in hostile_pages:
        text = path.read_text()
        page = Reader(text)
        assert len(page.scripts) == 1
        assert not page.handlers
        assert all(address.startswith(("#", "./", "data:image/webp")) for address in page.addresses)
        shown = " ".join(page.shown)
        for name in HOSTILE:
            assert name[:30] in shown, "shown as what it is"
        assert not re.search(r"<(a|img|script)\b", json.dumps(page.figures()["figures"]))


def test_overlays_lie_on_grey_pictures_and_name_each_patch(plate: Path, plate_page: Path) -> None:
    page = plate_page.read_text()
    address = re.search(r'src="data:image/webp;base64,([^"]+)"', page)
    assert address is not None
    with Image.open(io.BytesIO(base64.b64decode(address[1]))) as picture:
        assert picture.size == (384, 384)
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert np.ptp(pixels, axis=2).max() <= 2, "grey"
    probability = read_result(plate, "probabilities")["probability"].sel(well="A01", field=0).isel(timepoint=-1)
    states = probability.argmax("state", skipna=False).values[np.isfinite(probability.values[..., 0])]
    drawn = page.split('class="over"')[1].split("</svg>")[0]
    letters = "".join(re.findall(r">([A-Z]+)</text>", drawn))
    assert sorted(letters) == sorted("APNCT"[state] for state in states)
    kept = json.loads(zlib.decompress(base64.b64decode(Reader(page).blobs["field-store"])))
    held = np.array(kept["fields"][0]).reshape(probability.shape)
    np.testing.assert_array_equal(held[..., 0] == 255, np.isnan(probability.values[..., 0]))
    there = np.isfinite(probability.values)
    np.testing.assert_allclose(held[there] / 200, probability.values[there], atol=0.0026)


def test_a_plate_without_some_of_its_images_says_so_and_shows_the_next(plate: Path, plate_page: Path) -> None:
    page = plate_page.read_text()
    assert "because their images are not in the plate&#39;s store" in page or "not in the plate's store" in page


def test_a_plate_unlike_the_training_is_told_once(tmp_path: Path) -> None:
    said = "9% of the patches lie further out."
    reasons = json.dumps([f"This plate is {UNLIKE}: {said}"])
    plate = simulated.write_plate(tmp_path, compounds=("only",), images=False, verdict="REVIEW")
    for name, attrs in (
        ("quality", {"reasons": reasons}),
        ("probabilities", {"outlier_flagged": 1, "outlier_text": said}),
    ):
        result = read_result(plate, name)
        write_result(plate, name, result.assign_attrs(attrs), provenance={"version": "0.1.0"})
    page = write_plate_report(plate, out=tmp_path / "a.html", overlays=0).read_text()
    alerts = page.split('<section id="maps">')[0]
    assert alerts.count(said) == 1
    assert "tomoscreen adapt" in alerts


def test_a_result_that_is_not_there_is_named_with_its_command(tmp_path: Path) -> None:
    plate = simulated.write_plate(tmp_path, compounds=("only",), images=False)
    shutil.rmtree(tmp_path / "P012.results.zarr" / "ranking")
    with pytest.raises(MissingInputError, match="tomoscreen analyse"):
        write_plate_report(plate, out=tmp_path / "P012.html")
    assert not (tmp_path / "P012.html").exists()


def test_scenes_follow_the_rule_whatever_the_order_of_the_imaged_wells(plate: Path) -> None:
    layout = read_result(plate, "layout")
    status = read_result(plate, "probabilities")["status"]
    imaged = status.isel(well=slice(None, None, -1)).sel(
        well=[well for well in status["well"].values[::-1] if well != "A01"]
    )
    scenes = default_scenes(layout, imaged, compounds=["bleach", "slow killer"], timepoint=3, limit=5)
    assert [(scene.title, scene.well) for scene in scenes] == [
        ("vehicle", "B01"),
        ("anti-CD95", "A12"),
        ("TNF/SM/zVAD", "C12"),
        ("NaOH", "E12"),
        ("bleach", "D06"),
    ]


def test_after_the_highest_dose_of_every_compound_comes_the_next_lower_one(plate: Path) -> None:
    layout = read_result(plate, "layout")
    status = read_result(plate, "probabilities")["status"]
    scenes = default_scenes(layout, status, compounds=["bleach", "slow killer"], timepoint=3, limit=9)
    dose = [layout["dose"].sel(well=scene.well).item() for scene in scenes[4:]]
    assert [scene.title for scene in scenes[4:]] == ["bleach", "slow killer", "bleach", "slow killer", "bleach"]
    assert dose == [30.0, 30.0, 10.0, 10.0, 3.0]


def test_excluded_wells_are_never_shown_as_examples(plate: Path) -> None:
    layout = read_result(plate, "layout")
    why = np.where(layout["well"].values == "A01", "bubble", "").astype(object)
    status = read_result(plate, "probabilities")["status"]
    scenes = default_scenes(layout.assign(masked=("well", why)), status, compounds=["bleach"], timepoint=3, limit=100)
    assert "A01" not in [scene.well for scene in scenes]
    assert scenes[0].well == "B01"
