import csv
import html
import re
import shlex
from itertools import combinations
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import xarray as xr

from plates.results import read_result, results_path, write_result
from reports.campaign import _agreement, campaign_alerts, write_campaign_report
from reports.campaign_figures import clustered, kinetics_map, pathway_map, potency_and_share
from reports.campaign_plates import changed_settings, differences, plates_of
from reports.dossier import write_dossier
from reports.page import Page
from reports.plate_agreement_figures import bland_altman, control_chart
from reports.ranking_table import ranking_columns

from . import simulated
from .campaigns import write_large_campaign
from .test_page import Reader
from .test_plate import cells

MIB = 2**20


@pytest.fixture(scope="module")
def campaign_page(campaign: Path) -> Path:
    """A campaign that holds only what it must: plates, curves and ranking."""
    out = campaign.parent / "small" / "campaign.html"
    return write_campaign_report(campaign, out=out, plate_reports={"P012": out.with_name("P012.html")})


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign of 1,000 compounds with every group."""
    return write_large_campaign(tmp_path_factory.mktemp("large"), compounds=1000)


@pytest.fixture(scope="module")
def large_page(large: Path) -> Path:
    return write_campaign_report(large, out=large.with_name("campaign.html"), plate_reports={})


def test_the_campaign_ranks_in_the_stored_order_with_the_stored_numbers(campaign: Path, campaign_page: Path) -> None:
    ranking = read_result(campaign, "ranking")
    page = campaign_page.read_text()
    table = page[page.index('<section id="ranking">') :].split("</section>")[0]
    assert re.findall(r'<th scope="row"><a[^>]*>(.*?)</a>', table) == list(ranking["compound"].values)
    for index, compound in enumerate(ranking["compound"].values):
        one = ranking.isel(compound=index)
        if one["status"].item() == "quantified":
            assert cells(page, "ranking", compound)[3].startswith(f"{one['ec50'].item():.3g} µM")


def test_plates_are_listed_with_verdict_and_link(campaign_page: Path) -> None:
    page = campaign_page.read_text()
    assert "✔ PASS" in cells(page, "plates", "P012")
    assert "▲ REVIEW" in cells(page, "plates", "P013")
    assert cells(page, "plates", "P014")[7] == "left out"
    assert "./P012.html" in Reader(page).addresses
    assert "1 of 3 plates: FAIL (P014)." in page


def test_every_compound_has_a_curve_and_a_row_in_the_forest(campaign: Path, campaign_page: Path) -> None:
    figures = Reader(campaign_page.read_text()).figures()["figures"]
    names = list(read_result(campaign, "ranking")["compound"].values)
    forests = [one for one in figures if one["layout"]["yaxis"].get("ticktext") and not one["layout"].get("meta")]
    assert sorted(forests[0]["layout"]["yaxis"]["ticktext"]) == sorted(names)
    assert sum(one["layout"]["yaxis"].get("title", {}).get("text") == "excess death" for one in figures) == len(names)


def test_the_campaign_warns_of_a_classifier_of_simulated_cells(campaign_page: Path) -> None:
    assert (
        "The classifier was not trained on real cells" in campaign_page.read_text().split('<section id="ranking">')[0]
    )


def test_a_group_that_is_not_stored_leaves_its_part_out(campaign_page: Path, large_page: Path) -> None:
    for section in ("agreement", "charts"):
        assert f'<section id="{section}">' not in campaign_page.read_text()
        assert f'<section id="{section}">' in large_page.read_text()
    labels = [column.label for column in ranking_columns(*_ranked(campaign_page.parent.parent / "screen.results.zarr"))]
    assert "Selectivity" not in labels
    assert "Half of the deaths by" in labels


def test_a_campaign_of_1000_compounds_stays_below_3_mib_with_200_rows_for_those_without_scripts(
    large_page: Path,
) -> None:
    assert large_page.stat().st_size <= 3 * MIB
    table = large_page.read_text().split('<section id="ranking">')[1].split("</section>")[0]
    assert table.count("<tr>") == 201
    assert "The first 200 of 1000 compounds" in table


def test_equal_results_give_equal_bytes(large: Path, large_page: Path, tmp_path: Path) -> None:
    again = write_campaign_report(large, out=tmp_path / "campaign.html", plate_reports={})
    assert again.read_bytes() == large_page.read_bytes()


def test_the_table_of_the_file_beside_the_page_holds_the_exact_numbers(large: Path, large_page: Path) -> None:
    ranking = read_result(large, "ranking")
    with large_page.with_name("campaign.ranking.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["compound"] for row in rows] == list(ranking["compound"].values)
    assert [float(row["ec50"] or "nan") for row in rows] == pytest.approx(
        ranking["ec50"].values.tolist(), nan_ok=True, rel=0, abs=0
    )


def test_columns_count_the_wells_and_plates_of_each_fit(large: Path) -> None:
    ranking, fits = _ranked(large)
    columns = {column.key: column for column in ranking_columns(ranking, fits)}
    one = fits.sel(compound=str(ranking["compound"].values[3]), readout="death")
    held = np.isfinite(one["response"].values)
    assert columns["wells"].values[3] == held.sum() == 24
    assert columns["plates"].values[3] == len(set(one["plate"].values[held])) == 3


def test_a_compound_without_ec50_has_words_and_no_number(large: Path) -> None:
    ranking, fits = _ranked(large)
    ec50 = next(column for column in ranking_columns(ranking, fits) if column.key == "ec50")
    row = int(np.flatnonzero(ranking["status"].values == "above_range")[0])
    assert ec50.stored()["values"][row] is None
    assert ec50.cell(row) == "not determined, EC50 &gt; 24 µM"


def test_plates_of_two_classifiers_are_told_before_anything_else(tmp_path: Path) -> None:
    for name in ("P012", "P013"):
        simulated.write_plate(tmp_path, name=name, images=False)
    campaign = simulated.write_campaign(tmp_path)
    probabilities = read_result(tmp_path / "P013.zarr", "probabilities")
    probabilities.attrs["classifier_sha256"] = "aa" * 32
    write_result(tmp_path / "P013.zarr", "probabilities", probabilities, provenance={"version": "0.1.0"})
    plates = read_result(campaign, "plates")
    alerts = campaign_alerts(plates, plates_of(plates, campaign))
    assert alerts[0].weight == "failure"
    assert "different classifiers" in alerts[0].text
    assert "(P012)" in alerts[0].text
    assert "(P013)" in alerts[0].text
    page = write_campaign_report(campaign, out=tmp_path / "mixed.html", plate_reports={}).read_text()
    assert "different classifiers" in page.split('<section id="ranking">')[0]


def test_what_the_campaign_found_mixed_and_settings_that_differ_are_told() -> None:
    rows = [
        {"plate": name, "made": None, "settings": {"draws": draws, "seed": 0}}
        for name, draws in (("A", 400), ("B", 100))
    ]
    assert changed_settings(rows) == [("draws", [("400", "A"), ("100", "B")])]
    alerts = differences(rows, mixed="The plates have different versions of tomoscreen: 1 (A); 2 (B).")
    assert [alert.weight for alert in alerts] == ["failure", "warning"]
    assert differences(rows[:1]) == []


def test_exclusions_are_listed_with_reason_name_and_day(tmp_path: Path) -> None:
    plate = simulated.write_plate(tmp_path, images=False)
    text = {"plate": "P012", "well": "C05", "reason": "a fibre", "name": "Ada", "date": "2026-03-02"}
    record = xr.Dataset(
        {key: ("exclusion", np.array([value], dtype=object)) for key, value in text.items()}
        | {"field": ("exclusion", [1]), "timepoint": ("exclusion", [-1])},
        coords={"compound": np.array([], dtype=object)},
    )
    write_result(plate, "exclusions", record, provenance={})
    campaign = simulated.write_campaign(tmp_path)
    page = write_campaign_report(campaign, out=tmp_path / "c.html", plate_reports={}).read_text()
    assert cells(page, "exclusions", "P012") == ["P012", "C05", "field 1", "a fibre", "Ada", "2026-03-02"]


def test_wells_used_and_left_out_are_counted(tmp_path: Path) -> None:
    for name in ("P012", "P014"):
        plate = simulated.write_plate(tmp_path, name=name, images=False)
    normalized = read_result(plate, "normalized")
    masked = np.array(["bubble", "bubble", *[""] * (normalized.sizes["well"] - 2)], dtype=object)
    write_result(plate, "normalized", normalized.assign_coords(masked=("well", masked)), provenance={})
    campaign = simulated.write_campaign(tmp_path)
    page = write_campaign_report(campaign, out=tmp_path / "c.html", plate_reports={}).read_text()
    # P014 has failed and is not used; 2 of its 62 wells were excluded besides
    assert "<b>62</b> wells used" in page
    assert "<b>62</b> left out (60 on plates that are not used)" in page
    assert cells(page, "exclusions", "P014")[3] == "bubble"


def test_a_plate_is_drawn_small_with_a_stroke_where_nothing_was_measured(tmp_path: Path) -> None:
    simulated.write_plate(tmp_path, missing=("C06",), images=False)
    campaign = simulated.write_campaign(tmp_path)
    row = plates_of(read_result(campaign, "plates"), campaign)[0]
    assert row["wells"] == 62
    assert str(row["picture"]).count("l.6-.6") == 1
    assert str(row["picture"]).count("h1") == 61


def test_like_compounds_stand_together_and_those_without_numbers_last() -> None:
    a, b, nothing = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [np.nan] * 3
    order = clustered(np.array([a, b, nothing, a, b, a])).tolist()
    assert order[-1] == 2
    assert sorted(order) == list(range(6))
    kinds = ["a" if row in (0, 3, 5) else "b" for row in order[:-1]]
    assert kinds in (list("aaabb"), list("bbaaa"))


def test_points_of_figures_know_the_rows_of_their_compounds(large: Path) -> None:
    ranking, fits = _ranked(large)
    figure = kinetics_map(read_result(large, "kinetics"), ranking)
    assert figure is not None
    onset = read_result(large, "kinetics")["onset"]
    for trace in figure.data:
        for row, x in list(zip(trace.customdata, trace.x, strict=True))[:20]:
            assert onset.sel(compound=ranking["compound"].values[row]).item() == x
    bars = pathway_map(fits, ranking).data[0]
    compound = ranking["compound"].values[bars.customdata[17]]
    assert words_in(bars.hovertext[17], str(compound))


def test_an_ec50_below_the_tested_doses_stands_left_of_them_and_one_above_right(large: Path) -> None:
    ranking = read_result(large, "ranking")
    status = ranking["status"].values.copy()
    row = int(np.flatnonzero(status == "above_range")[0])
    status[row] = "below_range"
    figure = potency_and_share(ranking.assign(status=("compound", status)), dose_min=0.01, dose_max=30.0)
    x = {place: at for trace in figure.data for place, at in zip(trace.customdata, trace.x, strict=True)}
    assert x[row] < 0.01
    assert x[int(np.flatnonzero(status == "above_range")[0])] > 30
    assert x[0] == ranking["ec50"].values[0]


def test_control_charts_mark_the_plate_out_of_control_and_tell_its_rule(large: Path) -> None:
    charts = read_result(large, "control_charts")
    figure = control_chart(charts, readout="vehicle_death")
    assert figure is not None
    marked = next(trace for trace in figure.data if trace.name == "out of control")
    assert list(marked.x) == [6]
    assert "1_3s" in marked.customdata[0]
    assert "2026-03-08" in figure.layout.xaxis.ticktext[3]  # every second plate is named
    assert control_chart(charts.assign(value=charts["value"] * np.nan), readout="vehicle_death") is None


def test_bland_altman_draws_the_stored_means_and_limits_or_nothing(large: Path) -> None:
    stored = read_result(large, "agreement")
    figure = bland_altman(stored, first="P001", second="P002")
    assert figure is not None
    mean = stored["mean"]
    assert figure.data[0].y == pytest.approx((mean.sel(plate="P002") - mean.sel(plate="P001")).values)
    lines = sorted(shape.y0 for shape in figure.layout.shapes)
    assert lines == pytest.approx([stored[key].values[0] for key in ("limit_low", "bias", "limit_high")])
    assert bland_altman(stored.drop_vars("mean"), first="P001", second="P002") is None


def words_in(text: str, name: str) -> bool:
    return text.startswith(f"{name}<br>")


def _ranked(campaign: Path) -> tuple[xr.Dataset, xr.Dataset]:
    store = results_path(campaign)
    return read_result(store, "ranking"), read_result(store, "dose_response")


def test_compounds_link_to_the_dossiers_beside_the_page_and_the_others_have_a_command(tmp_path: Path) -> None:
    campaign = simulated.write_campaign(tmp_path)
    out = tmp_path / "screen.html"
    bare = write_campaign_report(campaign, out=out, plate_reports={}).read_text()
    first, second = (str(name) for name in read_result(campaign, "ranking")["compound"].values[:2])
    assert 'class="dossier"' not in bare.split("<main")[1].split("<script")[0]
    command = f"tomoscreen dossier {campaign.name} {shlex.quote(first)}"
    assert f"there is none yet. To make one, in the folder of the results: <code>{command}</code>" in html.unescape(
        bare
    )
    page = write_dossier(campaign, first, out=tmp_path / "dossiers" / "any name.html")
    (tmp_path / "dossiers" / f"{second}.html").write_text("<title>another screen</title>")
    linked = write_campaign_report(campaign, out=out, plate_reports={}).read_text()
    links = re.findall(r'<a class="dossier" href="([^"]+)">', linked)
    assert links == ["./dossiers/any%20name.html"] * 2, "in the table and above the curve; a name alone proves nothing"
    assert (out.parent / unquote(links[0])).resolve() == page.resolve()
    assert "1 of 8 compounds has a dossier" in linked
    assert f"tomoscreen dossier {campaign.name} {shlex.quote(second)}" in html.unescape(linked)


def test_a_campaign_of_more_plates_than_are_drawn_says_so() -> None:
    names = [f"P{number:03d}" for number in range(45)]
    pairs = list(combinations(names, 2))
    agreement = xr.Dataset(
        {"first": ("pair", np.array([a for a, _ in pairs], dtype=object)),
         "second": ("pair", np.array([b for _, b in pairs], dtype=object)),
         "kind": ("pair", np.array(["plates"] * len(pairs), dtype=object)),
         **{name: ("pair", np.full(len(pairs), 0.1)) for name in (
             "concordance", "sd", "bias", "bias_low", "bias_high", "limit_low", "limit_low_low", "limit_high",
             "limit_high_high")}},
    )  # fmt: skip
    drawn = _agreement(Page(Path("x.html")), {"agreement": agreement})
    assert drawn is not None
    told = [what for _, what in drawn["figures"]]
    assert told[0].endswith("Drawn are the first 40 of 45 plates; the file has every pair.")
    assert told[1].endswith("Drawn are the 40 of 990 pairs that differ most; the file has every pair.")
