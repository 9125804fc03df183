"""Pages of a training, a comparison and an adaptation: what was found, how sure it is, and what it cost."""

from pathlib import Path

import pandas as pd
import pytest

from plates.errors import MissingInputError, StoreError
from reports.adaptation import adaptation_doubts, adaptation_verdict, write_adaptation_report
from reports.comparison import comparison_verdict, p_value, write_comparison_report
from reports.training import write_training_plot

from .browser import Tab
from .conftest import HOSTILE
from .evaluated import adaptation, comparison, training_rows
from .test_in_browser import DRAWN


def _training_csv(folder: Path, *, epochs: int = 12) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(training_rows(epochs)).to_csv(folder / "training.csv", index=False)
    return folder / "training.csv"


def test_a_training_record_is_one_file_that_marks_the_kept_epoch(tmp_path: Path) -> None:
    page = write_training_plot(_training_csv(tmp_path / "resnet18"), tmp_path / "pages" / "training.html")
    told = page.read_text()
    assert [path.name for path in page.parent.iterdir()] == ["training.html"]
    assert "Training of resnet18" in told
    assert "12 epochs in 6 minutes. Epoch 11 was kept" in told
    assert "11 (kept)" in told
    assert told.count('<tr><th scope="row" class="number">') == 11, "all others are in the table, too"


def test_a_training_under_way_may_be_looked_at(tmp_path: Path) -> None:
    record = _training_csv(tmp_path / "resnet18", epochs=1)
    assert "1 epoch in 30 seconds" in write_training_plot(record, tmp_path / "one.html").read_text()
    record.write_text("epoch,epochs,px,train_loss,validation_loss,accuracy,seconds,images_per_second\n")
    assert "No epoch is finished yet." in write_training_plot(record, tmp_path / "none.html").read_text()
    record.write_text("epoch,px,train_loss,validation_loss,accuracy\n0,160,0.9,nan,nan\n")
    assert "was kept" not in write_training_plot(record, tmp_path / "nan.html").read_text()


def test_what_is_no_training_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no training record .*absent.csv"):
        write_training_plot(tmp_path / "absent.csv", tmp_path / "page.html")
    (tmp_path / "training.csv").write_text("well,dose\nA01,3\n")
    with pytest.raises(StoreError, match="has the columns well, dose"):
        write_training_plot(tmp_path / "training.csv", tmp_path / "page.html")
    (tmp_path / "training.csv").write_text("epoch,px\n0,large\n")
    with pytest.raises(StoreError, match="no number"):
        write_training_plot(tmp_path / "training.csv", tmp_path / "page.html")


def test_a_comparison_says_by_how_much_and_whether_chance_could_do_it() -> None:
    told = comparison_verdict(comparison())
    assert "volumes (small3d) call 91.0 % (89.5 to 92.0 %) rightly and projections (resnet18) 52.0 %" in told
    assert told.endswith("+39.0 points for volumes (95 % interval +36.0 to +42.0).")
    doubtful = comparison_verdict(comparison(difference={"value": 0.01, "low": -0.02, "high": 0.04}))
    assert doubtful.endswith("(95 % interval -2.0 to +4.0), which may be chance.")
    unknown = comparison_verdict(comparison(difference={"value": 0.01, "low": None, "high": None}))
    assert unknown.endswith("nobody knows whether they differ by more than chance.")
    assert p_value(1e-20) == "p < 0.0001"
    assert p_value(0.0312) == "p = 0.031"


def test_a_comparison_shows_both_confusions_and_what_the_test_wells_share(tmp_path: Path) -> None:
    told = write_comparison_report(comparison(), out=tmp_path / "page.html").read_text()
    assert told.count("True state") == 2
    assert "No plate of the test wells is held out: P001 was trained on too." in told
    assert "Only volumes called 81 patches rightly, only projections 3" in told


def test_an_adaptation_says_what_it_gained_what_it_took_and_what_it_forgot() -> None:
    told = adaptation_verdict(adaptation())
    assert "called 61.0 % (59.5 to 62.0 %) of the patches of A549-like right before, 96.0 %" in told
    assert "after adaptation with 200 annotated patches" in told
    assert "it lost 3.0 points, from 98.0 %" in told
    assert adaptation_verdict(adaptation(old_line=False)).endswith("what it forgot was not measured.")
    record = adaptation()
    record["old_line"]["after"] = record["old_line"]["before"]
    assert "it lost nothing (+0.0 points)" in adaptation_verdict(record)


def test_an_adaptation_says_where_chance_could_have_done_it() -> None:
    assert adaptation_doubts(adaptation(old_line=False)) == [], "59.5 to 62.0 % before and 96 % after leave no doubt"
    record = adaptation(old_line=False)
    record["after"] = record["before"]
    assert adaptation_doubts(record)[0].startswith("On the new line one accuracy lies within the interval of the other")
    record["after"] = record["after"] | {"accuracy": {"value": 0.6, "low": None, "high": None}}
    assert adaptation_doubts(record)[0].startswith("No interval can be given for the new line")


def test_an_adaptation_without_old_line_curve_or_words_has_no_section_of_them(tmp_path: Path) -> None:
    told = write_adaptation_report(adaptation(), out=tmp_path / "full.html").read_text()
    assert "What was forgotten" in told
    assert 'id="curve"' in told
    bare = adaptation(old_line=False) | {"curve": [], "text": {}}
    told = write_adaptation_report(bare, out=tmp_path / "bare.html").read_text()
    assert "What was forgotten" not in told
    assert 'id="curve"' not in told


def test_the_pages_are_drawn_without_complaint_or_request_and_hostile_names_stay_text(tab: Tab, tmp_path: Path) -> None:
    odd = comparison(states=HOSTILE, notes=list(HOSTILE))
    odd["classifiers"]["two"]["architecture"] = HOSTILE[0]
    hostile = adaptation(states=HOSTILE)
    hostile["text"] = dict.fromkeys(hostile["text"], HOSTILE[1])
    pages = (
        write_training_plot(_training_csv(tmp_path / "<img src=x onerror=alert(1)>"), tmp_path / "training.html"),
        write_comparison_report(odd, out=tmp_path / "comparison.html"),
        write_adaptation_report(hostile, out=tmp_path / "adaptation.html"),
    )
    for page in pages:
        for width in (1366, 600):
            tab.open(page, width=width, height=900)
            tab.draw_all()
            assert tab.ask(DRAWN)
            assert tab.ask("document.documentElement.scrollWidth <= window.innerWidth"), "nothing reaches over the side"
        assert not tab.ask("document.title").startswith("run")
        assert tab.ask("document.querySelectorAll('svg a, main img, main script').length") == 0
    assert tab.dialogs == []
    assert tab.complaints == []
    assert {address for address in tab.requests if not address.startswith(("data:", "blob:"))} == {
        page.as_uri() for page in pages
    }
