"""The page of a classifier: what is recorded is shown, what is missing is said, and nothing is made up."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, UnidentifiedImageError

from plates.errors import MissingInputError, StoreError
from plates.states import COLOURS, LETTERS, STATES
from reports.classifier import write_classifier_report
from reports.classifier_words import score
from reports.state_looks import state_looks

from .browser import Tab
from .conftest import HOSTILE
from .evaluated import write_evaluation
from .test_in_browser import DRAWN
from .test_page import Reader

SEVEN = ("G1", "S", "G2", "prophase", "metaphase", "anaphase", "telophase")


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_evaluation(tmp_path_factory.mktemp("evaluation") / "record")


@pytest.fixture(scope="module")
def page(evaluation: Path) -> Path:
    worst = json.loads((evaluation / "evaluation.json").read_text())["errors"][:3]
    pictures = {error["row"]: _png(324) for error in worst[:2]} | {worst[2]["row"]: _png(160)}
    return write_classifier_report(evaluation, out=evaluation.parent / "resnet18.html", pictures=pictures)


def _png(width: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (160, width), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def _record(evaluation: Path) -> dict[str, Any]:
    return dict(json.loads((evaluation / "evaluation.json").read_text()))


def _changed(evaluation: Path, folder: Path, **parts: Any) -> Path:
    """A copy of the record with some of its parts replaced."""
    record = _record(evaluation)
    for name, part in parts.items():
        record[name] = record[name] | part if isinstance(part, dict) else part
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(record))
    (folder / "predictions.csv").write_bytes((evaluation / "predictions.csv").read_bytes())
    return folder


def _text(path: Path) -> str:
    """All that a reader sees, in one line."""
    return " ".join(" ".join(Reader(path.read_text()).shown).split())


def _alerts(path: Path) -> str:
    return path.read_text().split('<ul class="alerts">')[1].split("</ul>")[0]


def test_the_verdict_states_accuracy_with_doubt_wells_and_calibration(evaluation: Path, page: Path) -> None:
    accuracy = _record(evaluation)["scores"]["accuracy"]
    value, low, high = (f"{100 * accuracy[key]:.1f}" for key in ("value", "low", "high"))
    verdict = re.search(r"<p><b>(.*?)</b></p>", page.read_text())
    assert verdict is not None
    assert f"{value} % ({low} to {high} %) of 1,440 patches right, in 24 wells of 2 plates" in verdict[1]
    assert "that it was not trained on; its probabilities are calibrated" in verdict[1]


def test_the_confusion_table_holds_every_count_and_its_share_of_the_row(evaluation: Path, page: Path) -> None:
    told = page.read_text().split('id="confusion"')[1].split("</section>")[0]
    rows = re.findall(r"<tr><th scope=\"row\">.*?</tr>", told, flags=re.DOTALL)
    for row, counts in zip(rows, _record(evaluation)["scores"]["confusion"], strict=True):
        cells = [" ".join(re.sub("<[^>]+>", " ", cell).split()) for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)]
        shares = [f"{count} {100 * count / sum(counts):.1f} %" if count else "0" for count in counts]
        assert cells == [*shares, str(sum(counts))]


def test_sections_stand_in_the_order_in_which_they_are_asked_for(page: Path) -> None:
    found = re.findall(r'<section id="(\w+)"', page.read_text())
    assert found == ["verdict", "confusion", "states", "roc", "calibration", "uncertain", "outliers", "wells", "errors",
                     "training", "card", "downloads"]  # fmt: skip


def test_a_classifier_of_simulated_cells_that_is_not_calibrated_says_so_first(tmp_path: Path) -> None:
    record = write_evaluation(
        tmp_path / "record", wells=8, trained_on="simulated cells only", calibration="not calibrated: 3 errors in 512"
    )
    path = write_classifier_report(record, out=tmp_path / "page.html")
    assert "Trained on simulated cells" in _alerts(path)
    assert "as the network gave them (not calibrated: 3 errors" in _alerts(path)
    assert "probabilities are not calibrated" in _text(path)


def test_wells_that_were_trained_on_are_a_failure_and_unknown_ones_are_not_called_held_out(
    evaluation: Path, tmp_path: Path
) -> None:
    known = {"known_wells": {"train": 3, "validation": 2, "test": 1}, "known_plates": 1}
    seen = _changed(evaluation, tmp_path / "seen", data=known)
    told = _alerts(write_classifier_report(seen, out=tmp_path / "seen.html"))
    assert told.index("✖ Failure") < told.index("3 wells of 24 were trained on") < told.index("▲ Warning")
    assert "On 2 wells of 24 the epoch and the temperature were chosen" in told
    assert "1 of the 2 plates were trained on" in told
    unknown = _changed(evaluation, tmp_path / "unknown", data={"known_wells": {}})
    told = _text(write_classifier_report(unknown, out=tmp_path / "unknown.html"))
    assert "whether it was trained on them is not recorded" in told
    assert "that it was not trained on" not in told


def test_no_interval_is_invented_where_the_record_has_none(evaluation: Path, tmp_path: Path) -> None:
    bare = {"value": 0.9, "low": None, "high": None}
    record = _changed(evaluation, tmp_path / "few", scores={"accuracy": bare}, data={"wells": 3})
    told = _text(write_classifier_report(record, out=tmp_path / "few.html"))
    assert "calls 90.0 % (too few wells for an interval) of" in told
    assert "No interval can be given: the patches come from 3 wells only." in told


def test_parts_that_the_record_lacks_are_said_to_be_missing(evaluation: Path, tmp_path: Path) -> None:
    absent: dict[str, Any] = dict.fromkeys(("calibration", "risk_coverage", "abstention", "outliers"))
    absent |= {"roc": {}, "by_well": [], "errors": [], "training": []}
    record = json.loads((evaluation / "evaluation.json").read_text()) | absent
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "evaluation.json").write_text(json.dumps(record))
    (tmp_path / "record" / "predictions.csv").write_text("plate,well,state,called\n")
    told = _text(write_classifier_report(tmp_path / "record", out=tmp_path / "page.html"))
    for sentence in ("no ROC curves", "no calibration", "no risk-coverage curve", "no outlier score",
                     "does not name wells", "No patch was called wrongly", "holds no training record"):  # fmt: skip
        assert sentence in told
    assert "plotly-js" not in Reader((tmp_path / "page.html").read_text()).blobs


def test_a_plate_unlike_the_training_data_is_an_alert(evaluation: Path, tmp_path: Path) -> None:
    told = "40 % of the patches lie further from the training data"
    record = _changed(evaluation, tmp_path / "odd", outliers={"flagged": True, "text": told})
    assert told in _alerts(write_classifier_report(record, out=tmp_path / "odd.html"))
    plain = _changed(evaluation, tmp_path / "plain", outliers={"flagged": False, "text": told})
    assert told not in _alerts(write_classifier_report(plain, out=tmp_path / "plain.html"))


def test_of_the_worst_errors_those_with_a_picture_are_shown_small_and_anew(evaluation: Path, page: Path) -> None:
    images = re.findall(r'<img src="data:image/webp;base64,[^"]+" width="(\d+)" height="(\d+)"', page.read_text())
    assert images == [("292", "144"), ("292", "144"), ("144", "144")], "a patch beside its heat map is twice as wide"
    first = _record(evaluation)["errors"][0]
    place = pd.read_csv(evaluation / "predictions.csv").iloc[first["row"]]
    assert f"{place['plate']} {place['well']}, field 1, timepoint 4" in page.read_text()
    svg = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"
    with pytest.raises(UnidentifiedImageError):
        write_classifier_report(evaluation, out=page.with_name("svg.html"), pictures={first["row"]: svg})


def test_names_that_look_like_numbers_or_nothing_stay_names(tmp_path: Path) -> None:
    record = write_evaluation(tmp_path / "record", states=("NA", "1E5"), plates=("007", "null"), wells=8, skill=1.0)
    told = _text(write_classifier_report(record, out=tmp_path / "page.html"))
    assert "007 A01, field" in told
    assert "null B01, field" in told


def test_tables_beside_the_page_hold_the_exact_numbers(evaluation: Path, page: Path) -> None:
    record = _record(evaluation)
    confusion = pd.read_csv(page.with_name("resnet18.confusion.csv"), index_col="true")
    assert confusion.to_numpy().tolist() == record["scores"]["confusion"]
    states = pd.read_csv(page.with_name("resnet18.states.csv")).set_index("state")
    for state in STATES:
        assert states.loc[state, "auc_low"] == pytest.approx(record["scores"]["auc"][state]["low"], rel=1e-12)
    assert len(pd.read_csv(page.with_name("resnet18.wells.csv"))) == 24


def test_equal_records_give_equal_bytes_and_a_small_page(evaluation: Path, tmp_path: Path) -> None:
    first = write_classifier_report(evaluation, out=tmp_path / "page.html").read_bytes()
    assert write_classifier_report(evaluation, out=tmp_path / "page.html").read_bytes() == first
    assert len(first) < 2**20


def test_an_evaluation_that_is_not_there_or_is_something_else_is_refused(evaluation: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"holds no evaluation.json.*tomoscreen evaluate"):
        write_classifier_report(tmp_path, out=tmp_path / "page.html")
    (tmp_path / "predictions.csv").write_bytes((evaluation / "predictions.csv").read_bytes())
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(StoreError, match="is not JSON"):
        write_classifier_report(tmp_path, out=tmp_path / "page.html")
    (tmp_path / "evaluation.json").write_text('{"classifier": {}}')
    with pytest.raises(StoreError, match="has no data, scores"):
        write_classifier_report(tmp_path, out=tmp_path / "page.html")


def test_the_five_states_look_as_everywhere_and_others_never_alike() -> None:
    for state, look in zip(STATES, state_looks(STATES), strict=True):
        assert (look.colour, look.letter) == (COLOURS[state], LETTERS[state])
    for states in (
        SEVEN,
        ("alive", "dead"),
        ("necrosis", "new", "Number 2"),
        tuple(f"s{index}" for index in range(12)),
    ):
        looks = state_looks(states)
        assert len({look.colour for look in looks}) == len({look.letter for look in looks}) == len(states)
    assert state_looks(("new", "necrosis"))[1].colour == COLOURS["necrosis"]
    assert len({(look.letter, look.dash) for look in state_looks([f"s{index}" for index in range(40)])}) == 40


def test_letters_on_every_colour_can_be_read() -> None:
    def luminance(colour: str) -> float:
        channels = np.array([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])
        linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    for look in state_looks([f"s{index}" for index in range(12)]):
        dark, light = sorted((luminance(look.colour), luminance(look.ink)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, f"WCAG 2 asks for 4.5 to 1 ({look.colour} under {look.ink})"


def test_a_score_shows_two_decimals_only_where_all_of_it_is_near_one() -> None:
    assert score({"value": 0.998, "low": 0.9951, "high": 0.9993}).share == "99.80 % (99.51 to 99.93 %)"
    assert score({"value": 1.0, "low": 0.93, "high": 1.0}).share == "100.0 % (93.0 to 100.0 %)"
    assert score({"value": None, "low": None, "high": None}).share == "—"
    assert score(0.25).plain == "0.2500"


@pytest.mark.parametrize(("states", "width"), [(STATES, 1920), (SEVEN, 1366), (("alive", "dead"), 600)])
def test_the_page_is_drawn_without_complaint_or_request(
    tab: Tab, tmp_path: Path, states: tuple[str, ...], width: int
) -> None:
    record = write_evaluation(tmp_path / "record", states=states, wells=28, planes=32, architecture="small3d")
    page = write_classifier_report(record, out=tmp_path / "page.html")
    tab.open(page, width=width, height=900)
    assert not tab.ask(DRAWN), "what is far below the window waits"
    tab.draw_all()
    assert tab.ask(DRAWN)
    assert tab.ask("document.documentElement.scrollWidth <= window.innerWidth"), "nothing reaches over the side"
    assert tab.complaints == []
    assert {address for address in tab.requests if not address.startswith(("data:", "blob:"))} == {page.as_uri()}


def test_hostile_names_stay_text(tab: Tab, tmp_path: Path) -> None:
    record = write_evaluation(
        tmp_path / "record", states=HOSTILE, name=HOSTILE[0], trained_on=HOSTILE[1], plates=HOSTILE[:2],
        calibration=HOSTILE[2], architecture=HOSTILE[3], wells=8, skill=1.0,
    )  # fmt: skip
    page = write_classifier_report(record, out=tmp_path / "page.html")
    tab.open(page)
    tab.draw_all()
    tab.ask("document.querySelectorAll('button:not(#print), summary').forEach((b) => b.click())")
    hover = "new MouseEvent('mouseover', {bubbles: true})"
    tab.ask(f"document.querySelectorAll('.plot *, td, th').forEach((e) => e.dispatchEvent({hover}))")
    assert not tab.ask("document.title").startswith("run")
    assert tab.ask("[...document.querySelectorAll('a')].every((a) => a.protocol === 'file:')")
    assert tab.ask("document.querySelectorAll('svg a, main img, main script').length") == 0
    assert tab.dialogs == []
    assert [line for line in tab.complaints if "Content Security" in line] == []
