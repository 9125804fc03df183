"""Plate maps and settings changed at random (row 40): read as they are written, or refused with a line."""

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plates.errors import PlateMapError, SettingsError
from screening.settings import EXAMPLE, Settings, read_settings
from tests.plates.plate_maps import plate_map

MAP = "well,compound,dose,unit,control\nA01,DMSO,,,negative\nA02,x,1.5,uM,none\nA03,x,15,nM,none\nB01,y,2,mM,none\n"
TRUTH = {"A02": 1.5, "A03": 0.015, "B01": 2000.0}
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])


def doses(folder: Path, data: bytes) -> dict[str, float] | str:
    try:
        table = plate_map(folder, data).table
    except PlateMapError as error:
        return str(error)
    return {str(well): float(dose) for well, dose in zip(table["well"], table["dose"], strict=True) if dose == dose}


@settings(max_examples=150, deadline=None, suppress_health_check=QUIET)
@given(
    place=st.integers(0, len(MAP)),
    insert=st.one_of(st.text(max_size=3), st.sampled_from(list(",;\t\"'\n\r=+@\0\u202e\ufeff"))),
    encoding=ENCODINGS,
    separator=st.sampled_from(",;\t"),
    line=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_a_changed_map_names_a_line_or_leaves_the_other_wells_as_they_are(
    tmp_path: Path, place: int, insert: str, encoding: str, separator: str, line: str
) -> None:
    text = (MAP[:place] + insert + MAP[place:]).replace(",", separator).replace("\n", line)
    found = doses(tmp_path, text.encode(encoding, "replace"))
    if isinstance(found, str):
        assert "map.csv" in found
        return
    changed = [well for well, dose in TRUTH.items() if well in found and abs(found[well] / dose - 1) > 1e-6]
    # one place was changed: at most the dose that it belongs to
    assert len(changed) <= 1


def test_off_check_the_map_is_read_as_it_is(tmp_path: Path) -> None:
    assert doses(tmp_path, MAP.encode()) == TRUTH


@settings(max_examples=100, deadline=None, suppress_health_check=QUIET)
@given(
    edits=st.lists(
        st.tuples(
            st.integers(0, len(EXAMPLE)),
            st.integers(0, 20),
            st.one_of(
                st.text(max_size=4), st.sampled_from(["=", "[[plates]]\n", '"""', "\0", "\u202e", "1e999", "nan"])
            ),
        ),
        min_size=1,
        max_size=3,
    ),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
)
def test_changed_settings_are_refused_with_their_file_or_checked_whole(
    tmp_path: Path, edits: list[tuple[int, int, str]], encoding: str
) -> None:
    (tmp_path / "P001").mkdir(exist_ok=True)
    (tmp_path / "P001.csv").write_text(MAP)
    text = EXAMPLE
    for place, length, insert in edits:
        text = text[:place] + insert + text[place + length :]
    path = tmp_path / "screen.toml"
    path.write_bytes(text.encode(encoding, "replace"))
    try:
        found = read_settings(path)
    except SettingsError as error:
        assert all(line.startswith("screen.toml") for line in str(error).splitlines())  # noqa: PT017
        return
    assert isinstance(found, Settings)
    assert found.campaign.name.isascii()
