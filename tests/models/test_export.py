"""An exported classifier answers in ONNX Runtime as it does here, or is not left behind."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from models import export
from models.classifier import Card, Classifier, build_classifier, predict
from models.export import export_onnx
from plates.errors import ClassifierError, SettingsError

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def make_classifier(architecture: str = "resnet18", **changes: Any) -> Classifier:
    card = Card(
        name="small",
        architecture=architecture,
        temperature=0.5,
        trained_on="simulated cells",
        weights_sha256="ab" * 32,
        test={"seed": 5, "patches": 4},
        **({"patch_px": 64} | changes),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_classifier(card)


def answers(path: Path, patches: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["probability"], {"index": patches[:, None]})[0])


@pytest.mark.parametrize(
    ("architecture", "planes"), [("resnet18", None), ("small3d", 8), ("r3d_18", 4), ("inflated_resnet18", 4)]
)
def test_any_number_of_patches_gets_the_same_calibrated_probabilities(
    architecture: str, planes: int | None, tmp_path: Path
) -> None:
    classifier = make_classifier(architecture, planes=planes, um_per_plane=planes and 1.0)
    exported = export_onnx(classifier, tmp_path / "small.onnx")
    assert exported.difference < 1e-5
    side = (64, 64) if planes is None else (planes, 64, 64)
    for count in (1, 5):
        # index relative to the medium as it is, below and above the window too
        patches = np.random.default_rng(count).uniform(-0.02, 0.09, (count, *side)).astype(np.float32)
        np.testing.assert_allclose(answers(exported.path, patches), predict(classifier, patches), atol=1e-5)


def test_the_file_passes_onnxs_checker_and_carries_the_card(tmp_path: Path) -> None:
    exported = export_onnx(make_classifier(), tmp_path / "small.onnx")
    model = onnx.load(exported.path)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", exported.opset)]
    shape = [entry.dim_param or entry.dim_value for entry in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["batch", 1, 64, 64]
    card = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(card["states"]) == ["apoptosis", "necroptosis", "necrosis", "live-control", "live-treated"]
    assert card["weights_sha256"] == "ab" * 32
    assert card["trained_on"] == "simulated cells"
    assert float(card["um_per_px"]) == 0.16
    assert exported.size == exported.path.stat().st_size


def test_a_graph_that_answers_otherwise_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = make_classifier()
    right = export._to_onnx

    def wrong(given: Classifier) -> Any:
        # as an exporter would that dropped the temperature
        return right(replace(given, card=replace(given.card, temperature=1.0)))

    monkeypatch.setattr(export, "_to_onnx", wrong)
    with pytest.raises(ClassifierError, match=r"was not written: ONNX Runtime's probabilities of small differ"):
        export_onnx(classifier, tmp_path / "small.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_and_a_name_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "small.onnx").write_bytes(b"mine")
    with pytest.raises(SettingsError, match="exists already"):
        export_onnx(make_classifier(), tmp_path / "small.onnx")
    with pytest.raises(SettingsError, match=r"ends in \.onnx"):
        export_onnx(make_classifier(), tmp_path / "small.pt")
    assert (tmp_path / "small.onnx").read_bytes() == b"mine"


def test_without_the_extra_packages_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else sys)
    with pytest.raises(SettingsError, match=r"needs onnxscript, .*pip install 'tomoscreen\[export\]'"):
        export_onnx(make_classifier(), tmp_path / "small.onnx")
