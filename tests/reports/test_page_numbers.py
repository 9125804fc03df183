from pathlib import Path

import pandas as pd

from .page_numbers import not_in_the_tables

# settings and sentences, whose numbers are no results
PROSE = ("Methods", "What each plate was made with")


def _page(folder: Path, cells: str) -> Path:
    page = folder / "P1.html"
    page.write_text(f"<h2>Wells</h2><table><tbody><tr><th>A01</th>{cells}</tr></tbody></table>", encoding="utf-8")
    table = pd.DataFrame({"well": ["A01", "A02"], "death": [0.4567, 0.7], "ec50": [0.0321, 5.0], "low": [0.02, 1.0]})
    table.to_csv(folder / "P1.wells.csv", index=False)
    return page


def test_numbers_that_lie_in_the_tables_are_found_in_any_unit(tmp_path: Path) -> None:
    page = _page(tmp_path, '<td data-sort="0.4567">45.7 %</td><td>32.1 nM</td><td>20 to 32.1 nM</td><td>46 %</td>')
    assert not not_in_the_tables(page)


def test_a_number_of_another_row_is_no_witness(tmp_path: Path) -> None:
    page = _page(tmp_path, "<td>70 %</td>")
    assert not_in_the_tables(page) == ["Wells / A01: 70 % in '70 %'"]


def test_a_wrong_last_digit_is_noticed(tmp_path: Path) -> None:
    assert not_in_the_tables(_page(tmp_path, "<td>45.8 %</td>"))
    assert not_in_the_tables(_page(tmp_path, '<td data-sort="0.4568">45.7 %</td>'))


def test_a_name_with_digits_is_no_number(tmp_path: Path) -> None:
    assert not not_in_the_tables(_page(tmp_path, "<td>SIM-004</td>"))


def test_every_number_on_the_plate_page_lies_in_its_tables(plate_page: Path) -> None:
    assert not_in_the_tables(plate_page, apart_from=PROSE) == []


def test_every_number_on_the_campaign_page_lies_in_its_tables(campaign_page: Path) -> None:
    assert not_in_the_tables(campaign_page, apart_from=PROSE) == []
