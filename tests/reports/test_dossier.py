import csv
from pathlib import Path

import numpy as np
import pytest

from plates.errors import MissingInputError
from plates.results import read_result, write_result
from reports import words
from reports.dossier import entries_of, verdict_line, write_dossier
from reports.dossier_figures import curves_of_plates, ec50_of_plates
from reports.tables import ranking_rows
from screening.dossier import write_dossiers

from . import simulated
from .axe import violations
from .browser import Tab
from .conftest import HOSTILE
from .test_page import Reader
from .test_plate import cells

MIB = 2**20
COMPOUND = "staurosporine"


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign of three plates, two of them at hand; curves were fitted to the wells of the first alone."""
    folder = tmp_path_factory.mktemp("screen")
    for name, seed in (("P012", 0), ("P013", 1)):
        plate = simulated.write_plate(folder, name=name, seed=seed)
    layout, normalized = (read_result(plate, name) for name in ("layout", "normalized"))
    masked = np.full(normalized.sizes["well"], "", dtype=object)
    masked[np.flatnonzero(layout["compound"].values == COMPOUND)[0]] = "a fibre (Ada)"
    normalized = normalized.assign_coords(masked=("well", masked))
    write_result(plate, "normalized", normalized, provenance={"version": "0.1.0"})
    return simulated.write_campaign(folder)


@pytest.fixture(scope="module")
def page(screen: Path) -> Path:
    return write_dossier(screen, COMPOUND, out=screen.parent / "out" / "dossier.html", plate_reports={})


def test_the_verdict_tells_the_stored_numbers(screen: Path, page: Path) -> None:
    row = ranking_rows(read_result(screen, "ranking").sel(compound=[COMPOUND]), read_result(screen, "dose_response"))[0]
    told = Reader(page.read_text()).shown
    line = next(text for text in told if text.startswith(f"{COMPOUND} kills by"))
    assert f"kills by {row['dominant_pathway']}: 84 % of the deaths (78 to 90 %)" in line
    assert f". {words.ec50(row)}. " in line
    assert f"It ranks {row['rank']} of 8" in line
    assert words.half_time(row) in line


def test_a_compound_without_effect_is_not_said_to_kill() -> None:
    row = {"compound": "inert", "rank": 8, "rank_low": 5, "rank_high": 8, "dominant_pathway": "", "status": "no_effect",
           "ec50": np.nan, "emax_low": 0.0, "dose_max": 30.0}  # fmt: skip
    assert verdict_line(row, compounds=8) == (
        "inert: no effect up to 30 µM. It ranks 8 of 8 and may truly stand anywhere from 5 to 8."
    )


def test_every_well_of_every_plate_is_listed_with_why_it_was_not_used(page: Path, screen: Path) -> None:
    with page.with_name("dossier.wells.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    wells = read_result(screen.with_name("P013.zarr"), "layout")
    names = wells["well"].values[wells["compound"].values == COMPOUND]
    for plate in ("P012", "P013"):
        assert {row["well"] for row in rows if row["plate"] == plate} == set(names)
    assert {row["used"] for row in rows if row["plate"] == "P012"} == {"True"}
    left_out = {row["well"]: row["reason"] for row in rows if row["plate"] == "P013"}
    assert sorted(set(left_out.values())) == ["a fibre (Ada)", "plate not used"]
    text = page.read_text()
    assert "12 of 24" in text
    assert "a fibre (Ada)" in text
    assert cells(text, "plates", "P013")[4:6] == ["12", "0"]
    assert "The results of 1 plate of the campaign are not where they were" in text


def test_the_field_of_the_highest_dose_is_shown_with_its_patches(page: Path) -> None:
    section = page.read_text().split('<section id="fields">')[1].split("</section>")[0]
    # the simulated plate has images at the highest dose alone
    assert section.count("data:image/webp") == 1
    assert "<b>30 µM</b>, plate P012" in section
    assert section.count('class="over"') == 1


def test_the_figure_draws_each_well_in_the_marker_of_its_plate(screen: Path) -> None:
    pooled = read_result(screen, "dose_response")
    plate = pooled["plate"].values.copy()
    plate[:, :, 1] = "P013"
    pooled = pooled.assign(plate=(pooled["plate"].dims, plate))
    own = {name: read_result(screen.with_name(f"{name}.zarr"), "dose_response").sel(compound=COMPOUND)
           for name in ("P012", "P013")}  # fmt: skip
    figure = curves_of_plates(pooled, own, compound=COMPOUND)
    points = {trace.name: trace for trace in figure.data if trace.mode == "markers"}
    assert set(points) == {"P012", "P013"}
    response = pooled["response"].sel(compound=COMPOUND, readout="death").values
    assert sorted(points["P013"].y) == pytest.approx(sorted(response[:, 1]))
    assert points["P012"].marker.symbol != points["P013"].marker.symbol
    potency = ec50_of_plates(pooled, own, compound=COMPOUND, days={"P012": "2026-03-02"})
    stored = [one.sel(readout="death")["ec50"].item() for one in own.values()]
    assert list(potency.data[0].y) == stored
    assert potency.layout.xaxis.ticktext == ("P012<br>2026-03-02", "P013")


def test_a_bare_name_means_the_compound_in_every_cell_line(screen: Path) -> None:
    ranking = read_result(screen, "ranking").isel(compound=slice(0, 3))
    ranking = ranking.assign_coords(compound=np.array(["A [HeLa]", "A [MCF7]", "AB [HeLa]"], dtype=object))
    assert entries_of(ranking, "A") == ["A [HeLa]", "A [MCF7]"]
    assert entries_of(ranking, "A [MCF7]") == ["A [MCF7]"]


def test_an_unknown_compound_is_refused_with_the_nearest_name_and_nothing_is_written(screen: Path) -> None:
    out = screen.parent / "none"
    with pytest.raises(
        MissingInputError, match=r"no compound 'staurosporin' among its 8\. Did you mean 'staurosporine'"
    ):
        write_dossiers(screen, [COMPOUND, "staurosporin"], out=out)
    assert not out.exists()


def test_dossiers_are_written_for_each_compound_and_link_to_the_plates_pages(screen: Path) -> None:
    (screen.parent / "P012.html").write_text("<title>plate</title>")
    first, second = write_dossiers(screen, [COMPOUND, "TNF mimetic", COMPOUND])
    assert (first.parent.name, first.name, second.name) == ("dossiers", "staurosporine.html", "TNF_mimetic.html")
    assert "../P012.html" in " ".join(Reader(first.read_text()).addresses)
    assert first.stat().st_size < 2 * MIB


def test_equal_results_give_equal_bytes(screen: Path, page: Path, tmp_path: Path) -> None:
    again = write_dossier(screen, COMPOUND, out=tmp_path / "dossier.html", plate_reports={})
    assert again.read_bytes() == page.read_bytes()


def test_a_dossier_is_drawn_without_a_complaint_or_a_request(tab: Tab, page: Path) -> None:
    tab.open(page)
    assert tab.ask("document.querySelectorAll('*').length") < 5000
    tab.draw_all()
    tab.ask("document.querySelectorAll('th button').forEach((b) => b.click())")
    assert tab.complaints == []
    assert [address for address in tab.requests if not address.startswith(("data:", "blob:"))] == [page.as_uri()]
    tab.ask("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert violations(tab, impacts=("moderate", "serious", "critical")) == []


def test_a_hostile_name_runs_nothing(tab: Tab, tmp_path: Path) -> None:
    simulated.write_plate(tmp_path, compounds=HOSTILE, card=HOSTILE[0], seed=3)
    campaign = simulated.write_campaign(tmp_path, compounds=HOSTILE, seed=3)
    for page in write_dossiers(campaign, HOSTILE[:2]):
        tab.open(page)
        tab.draw_all()
        tab.ask("document.querySelectorAll('button:not(#print), summary').forEach((b) => b.click())")
        assert not tab.ask("document.title").startswith("run")
        assert tab.ask("document.querySelectorAll('img[src=x], svg a').length") == 0
        assert tab.dialogs == []
        assert tab.complaints == []
