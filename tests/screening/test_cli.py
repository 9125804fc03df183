"""Commands: quick to ask for help, one clear sentence and an exit code for every mistake."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from screening.cli import app, main

README = Path(__file__).parents[2] / "README.md"
COMMANDS = sorted(command.name or command.callback.__name__ for command in app.registered_commands if command.callback)


def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Call the command line as a shell would; exit code, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", ["tomoscreen", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        main()
    captured = capsys.readouterr()
    return int(left.value.code or 0), captured.out, captured.err


def test_help_loads_neither_torch_nor_plotly_nor_pandas() -> None:
    program = (
        "import sys\nsys.argv = ['tomoscreen', '--help']\n"
        "from screening.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'plotly', 'pandas', 'zarr', 'distributed') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.rstrip().endswith("[]")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_and_stands_in_the_readme(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = called(monkeypatch, capsys, command, "--help")
    assert code == 0
    assert f"tomoscreen {command}" in out
    assert f"tomoscreen {command}" in README.read_text(encoding="utf-8")


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int, *words: object) -> str:
    """The one message of a command that refuses; nothing on standard output, no traceback."""
    left, out, err = called(monkeypatch, capsys, *words)
    assert left == code
    assert out == ""
    assert "Traceback" not in err
    message = err[err.index("error: ") :]
    assert message.count("error: ") == 1
    return message


@pytest.mark.parametrize(
    ("line", "wrong", "named"),
    [
        ("A01,{x},1 uM,none,,1,HeLa-like", "Z99,drug,1 uM,none,,1,HeLa-like", ("Z99", "lies outside")),
        ("A01,{x},1 uM,none,,1,HeLa-like", None, ("A01", "already described in line 2")),
        ("A01,{x},1 uM,none,,1,HeLa-like", "B01,drug,10,none,,1,HeLa-like", ("B01", "'10' has no unit")),
    ],
)
def test_a_wrong_plate_map_is_refused_before_anything_is_written(
    line: str,
    wrong: str | None,
    named: tuple[str, ...],
    acquisitions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    head = "well,compound,concentration,control,inducer,replicate,cell_line"
    first = line.format(x="drug")
    plate_map = tmp_path / "map.csv"
    plate_map.write_text("\n".join([head, first, wrong or first]) + "\n")
    out = tmp_path / "P.zarr"
    message = refused(
        monkeypatch, capsys, 3, "ingest", acquisitions / "P001", out, "--layout", plate_map, "--workers", "1"
    )
    assert "map.csv" in message
    assert all(part in message for part in named), message
    assert "line 3" in message
    assert list(tmp_path.iterdir()) == [plate_map]


def test_a_tcf_cut_in_half_fails_alone_and_is_named(
    acquisitions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "P001"
    shutil.copytree(acquisitions / "P001", folder)
    cut = sorted(folder.rglob("*.TCF"))[2]
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    out = tmp_path / "P001.zarr"
    words = ("ingest", folder, out, "--layout", acquisitions / "P001.csv", "--workers", "1")
    message = refused(monkeypatch, capsys, 4, *words)
    assert cut.name in message
    assert "1 of 16 files were not converted" in message
    shutil.copy(acquisitions / "P001" / cut.relative_to(folder), cut)
    code, stdout, _ = called(monkeypatch, capsys, *words)
    assert code == 0
    assert "2 tomograms converted, 30 done before" in stdout


def test_a_missing_classifier_is_named_and_nothing_is_written(
    acquisitions: Path,
    settings_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = settings_file.read_text()
    gone = tmp_path / "no_such_classifier"
    settings_file.write_text(re.sub(r'(\[classifier\]\npath = )"[^"]*"', rf'\1"{gone.as_posix()}"', text))
    message = refused(monkeypatch, capsys, 2, "run", settings_file)
    assert "no_such_classifier" in message
    assert not (tmp_path / "results").exists()
    plate = tmp_path / "P.zarr"
    code, _, _ = called(
        monkeypatch,
        capsys,
        "ingest",
        acquisitions / "P001",
        plate,
        "--layout",
        acquisitions / "P001.csv",
        "--workers",
        "1",
    )
    assert code == 0
    message = refused(monkeypatch, capsys, 7, "classify", plate, "--classifier", gone, "--workers", "1")
    assert "tomoscreen train" in message


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (("run", "nowhere.toml"), 3, "nowhere.toml"),
        (("analyse", "nowhere.zarr"), 3, "nowhere"),
        (("report", "nowhere.zarr"), 3, "nowhere"),
        (("simulate", "out", "--hours", "0,eight"), 2, "0,eight"),
        (("simulate", "out", "--workers", "many"), 2, "many"),
        (("train", "nowhere.csv", "out"), 2, "nowhere.csv"),
    ],
)
def test_other_mistakes_are_one_sentence(
    words: tuple[str, ...],
    code: int,
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert named in refused(monkeypatch, capsys, code, *words)
    assert list(tmp_path.iterdir()) == []


def test_an_example_of_the_settings_can_be_written_and_is_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "screen.toml"
    assert called(monkeypatch, capsys, "run", target, "--example")[0] == 0
    assert "[campaign]" in target.read_text()
    refused(monkeypatch, capsys, 2, "run", target, "--example")


def test_a_classifier_is_trained_from_a_table_of_annotated_patches_and_used(
    acquisitions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from plates.simulation.truth import annotate

    plate = tmp_path / "P001.zarr"
    layout = acquisitions / "P001.csv"
    assert (
        called(monkeypatch, capsys, "ingest", acquisitions / "P001", plate, "--layout", layout, "--workers", "1")[0]
        == 0
    )
    table = tmp_path / "annotations.csv"
    annotate(acquisitions / "P001.truth", plate).to_csv(table, index=False)
    made = tmp_path / "mine"
    words = ("--architecture", "resnet18", "--epochs", "1", "--batch", "8", "--trained-on", "a test")
    code, out, _ = called(monkeypatch, capsys, "train", table, made, *words)
    assert code == 0
    assert "chose the epoch" in out
    code, out, _ = called(monkeypatch, capsys, "classify", plate, "--classifier", made, "--workers", "1")
    assert code == 0
    assert "classified by mine" in out
