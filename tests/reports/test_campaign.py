import re
from pathlib import Path

from plates.results import read_result

from .test_page import Reader
from .test_plate import cells


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


def test_every_compound_has_a_curve_and_the_map_names_all(campaign: Path, campaign_page: Path) -> None:
    book = Reader(campaign_page.read_text()).figures()
    names = list(read_result(campaign, "ranking")["compound"].values)
    assert len(book["figures"]) == 1 + len(names)
    assert sorted(book["figures"][0]["layout"]["yaxis"]["ticktext"]) == sorted(names)


def test_the_campaign_warns_of_a_classifier_of_simulated_cells(campaign_page: Path) -> None:
    assert (
        "The classifier was not trained on real cells" in campaign_page.read_text().split('<section id="ranking">')[0]
    )
