"""Networks on volumes: against torchvision's own, against the network on pictures they came from, and on a cue in z."""

import contextlib
import copy
import dataclasses
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from models.classifier import read_card
from models.networks import VOLUMETRIC
from models.prediction import training_precision
from models.resnet import build_resnet
from models.shelf import SHIPPED
from models.volumetric import build_volumetric, inflate
from plates.errors import ClassifierError

STATES = ("doxorubicin", "cisplatin")


def settled(network: nn.Module) -> nn.Module:
    """The network with BatchNorm statistics that are not the trivial ones."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.copy_(0.1 * torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))
    return network.eval()


@torch.inference_mode()
def test_logits_equal_torchvisions_r3d_18_for_grey_in_three_channels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = settled(torchvision.models.get_model("r3d_18", weights=None, num_classes=2))
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = build_volumetric("r3d_18", states=STATES, weights=tmp_path / "weights.pth").eval()
    ours.get_submodule("fc.1").load_state_dict(theirs.get_submodule("fc").state_dict())
    grey = torch.randn(2, 1, 6, 40, 40)
    torch.testing.assert_close(ours(grey), theirs(grey.expand(2, 3, 6, 40, 40)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "planes"), [("resnet18", 1), ("resnet18", 2), ("resnet18", 24), ("resnet50", 3)]
)
@torch.inference_mode()
def test_an_inflated_network_says_of_equal_planes_what_the_flat_one_says_of_one(architecture: str, planes: int) -> None:
    torch.manual_seed(0)
    flat = settled(build_resnet(architecture, states=STATES))
    deep = inflate(copy.deepcopy(flat)).eval()
    picture = torch.randn(2, 1, 48, 48)
    volume = picture[:, :, None].expand(-1, -1, planes, -1, -1)
    torch.testing.assert_close(deep(volume), flat(picture), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_an_inflated_network_does_look_at_differences_between_planes() -> None:
    torch.manual_seed(0)
    deep = inflate(settled(build_resnet("resnet18", states=STATES))).eval()
    # of a network that only averaged its planes the order of them would be of no account
    volume = torch.randn(1, 1, 12, 64, 64)
    shuffled = volume[:, :, torch.randperm(12)]
    assert (deep(volume) - deep(shuffled)).abs().max() > 1e-3


def test_zeros_beyond_the_last_plane_would_break_the_identity() -> None:
    torch.manual_seed(0)
    flat = settled(build_resnet("resnet18", states=STATES))
    deep = inflate(copy.deepcopy(flat)).eval()
    conv = deep.get_submodule("layer1.0.conv1")
    assert isinstance(conv, nn.Conv3d)
    padded = nn.Conv3d(64, 64, 3, padding=1, bias=False)
    padded.weight = conv.weight
    deep.get_submodule("layer1.0").register_module("conv1", padded)
    picture = torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        difference = deep(picture[:, :, None].expand(-1, -1, 12, -1, -1)) - flat(picture)
    assert difference.abs().max() > 1e-4


def test_a_trained_flat_classifiers_folder_is_inflated_and_its_head_starts_new(tmp_path: Path) -> None:
    torch.manual_seed(0)
    flat = build_resnet("resnet18", states=("a", "b", "c", "d", "e"))
    # as a classifier keeps it: float16, with its head
    save_file({name: tensor.half() for name, tensor in flat.state_dict().items()}, tmp_path / "weights.safetensors")
    deep = build_volumetric("inflated_resnet18", states=STATES, weights=tmp_path)
    kernel = flat.get_parameter("layer1.0.conv1.weight").half().float()
    for depth in range(3):
        torch.testing.assert_close(deep.get_parameter("layer1.0.conv1.weight")[:, :, depth], kernel / 3)
    assert deep.get_parameter("fc.1.weight").shape == (2, 512)


def test_weights_of_an_inflated_and_of_a_small_network_are_taken_up_again(tmp_path: Path) -> None:
    for architecture in ("inflated_resnet18", "small3d"):
        torch.manual_seed(0)
        first = build_volumetric(architecture, states=STATES)
        save_file(first.state_dict(), tmp_path / f"{architecture}.safetensors")
        again = build_volumetric(architecture, states=STATES, weights=tmp_path / f"{architecture}.safetensors")
        body = [name for name in first.state_dict() if not name.startswith("fc.")]
        assert all(torch.equal(again.state_dict()[name], first.state_dict()[name]) for name in body)


def test_imagenet_weights_of_three_colours_are_summed_and_inflated(tmp_path: Path) -> None:
    published = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(published, tmp_path / "weights.pth")
    deep = build_volumetric("inflated_resnet18", states=STATES, weights=tmp_path / "weights.pth")
    stem = deep.get_parameter("conv1.weight")
    assert stem.shape == (64, 1, 5, 7, 7)
    torch.testing.assert_close(stem.sum(dim=2), published["conv1.weight"].sum(dim=1, keepdim=True))


def test_kinetics_weights_come_from_the_torch_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    published = torchvision.models.video.r3d_18(weights=None).state_dict()
    (tmp_path / "checkpoints").mkdir()
    name = torchvision.models.video.R3D_18_Weights.DEFAULT.url.rsplit("/", 1)[1]
    torch.save(published, tmp_path / "checkpoints" / name)
    network = build_volumetric("r3d_18", states=STATES, weights="kinetics")
    assert torch.equal(network.get_parameter("layer1.0.conv1.0.weight"), published["layer1.0.conv1.0.weight"])


def test_without_cache_and_network_the_error_names_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def no_network(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(ClassifierError) as caught:
        build_volumetric("r3d_18", states=STATES, weights="kinetics")
    text = str(caught.value)
    assert "The Kinetics weights of r3d_18 are not there: Network is unreachable" in text
    assert "r3d_18-b3b3357e.pth" in text


@pytest.mark.parametrize(
    ("architecture", "weights", "message"),
    [
        ("resnet18", None, r"'resnet18' does not look at volumes. Expected one of small3d, r3d_18"),
        ("small3d", "imagenet", r"no 'imagenet' weights for small3d. Expected random weights"),
        ("r3d_18", "imagenet", r"no 'imagenet' weights for r3d_18. Expected 'kinetics'"),
        ("inflated_resnet18", "kinetics", r"no 'kinetics' weights for resnet18. Expected 'imagenet'"),
        ("small3d", "none.safetensors", r"there is no file none.safetensors. Correct the path"),
    ],
)
def test_what_cannot_be_built_is_said_with_what_can(architecture: str, weights: str | None, message: str) -> None:
    with pytest.raises(ClassifierError, match=message):
        build_volumetric(architecture, states=STATES, weights=weights)


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet34(weights=None).state_dict(), tmp_path / "34.pth")
    with pytest.raises(ClassifierError, match="not those of a resnet18"):
        build_volumetric("inflated_resnet18", states=STATES, weights=tmp_path / "34.pth")


@pytest.mark.parametrize("architecture", VOLUMETRIC)
def test_every_network_of_volumes_has_a_head_with_dropout_and_builds_without_memory(architecture: str) -> None:
    with torch.device("meta"):
        head = build_volumetric(architecture, states=STATES).get_submodule("fc")
    assert [type(layer) for layer in head.children()] == [nn.Dropout, nn.Linear]
    assert head.get_parameter("1.weight").shape[0] == 2


def test_the_small_network_is_small_and_takes_any_number_of_planes() -> None:
    network = build_volumetric("small3d", states=STATES).eval()
    assert 0.8e6 < sum(value.numel() for value in network.parameters()) < 1.0e6
    with torch.inference_mode():
        for planes in (1, 7, 24, 60):
            assert network(torch.randn(1, 1, planes, 64, 64)).shape == (1, 2)


def test_the_small_network_learns_which_of_two_spheres_lies_above() -> None:
    torch.manual_seed(0)
    network = build_volumetric("small3d", states=STATES)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)

    def volumes(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        # the same two bright spots in every maximum projection; only their heights are exchanged
        truth = torch.arange(count) % 2
        volume = 0.3 * torch.randn(count, 1, 12, 32, 32)
        for number, state in enumerate(truth.tolist()):
            (y, x), (v, u) = torch.randint(4, 14, (2,)).tolist(), torch.randint(18, 28, (2,)).tolist()
            low, high = (2, 8) if state == 0 else (8, 2)
            volume[number, 0, low : low + 3, y - 3 : y + 3, x - 3 : x + 3] += 4
            volume[number, 0, high : high + 3, v - 3 : v + 3, u - 3 : u + 3] += 2
        return volume, truth

    for _ in range(30):
        volume, truth = volumes(16)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(volume), truth).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.inference_mode():
        volume, truth = volumes(64)
        network.eval()
        assert (network(volume).argmax(dim=1) == truth).float().mean() > 0.9
        # its projection, given as a volume of equal planes, says nothing
        flat = volume.amax(dim=2, keepdim=True).expand_as(volume)
        assert 0.3 < (network(flat).argmax(dim=1) == truth).float().mean() < 0.7


def test_gradients_of_small_volumes_are_those_of_full_precision_whatever_memory_holds() -> None:
    torch.manual_seed(0)
    network = build_volumetric("small3d", states=STATES).train()
    network.get_submodule("fc.0").eval()  # dropout would differ between the two passes
    card = dataclasses.replace(read_card(SHIPPED), planes=8, um_per_plane=1.0)
    truth = torch.arange(8) % 2
    for _ in range(10):
        # leave numbers behind that show where memory is read that nothing wrote
        dirty = [torch.full((size,), float("nan"), dtype=torch.bfloat16) for size in (3_000, 40_000, 200_000, 400_000)]
        del dirty
        volume = torch.randn(8, 1, 8, 32, 32)
        found = []
        for precision in (training_precision(torch.device("cpu"), card, 32), contextlib.nullcontext()):
            network.zero_grad()
            with precision:
                logits = network(volume)
            nn.functional.cross_entropy(logits.float(), truth).backward()  # type: ignore[no-untyped-call]
            gradients = ((name, value.grad) for name, value in network.named_parameters())
            found.append({name: gradient.clone() for name, gradient in gradients if gradient is not None})
        for name, gradient in found[1].items():
            assert torch.allclose(found[0][name], gradient, atol=0.2 * float(gradient.abs().max())), name
