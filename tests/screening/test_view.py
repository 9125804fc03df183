"""`tomoscreen view` as a command, and its page in headless Chromium against what is stored."""

import base64
import json
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numcodecs
import numpy as np
import pytest

from plates.errors import MissingInputError, SettingsError
from plates.results import read_result
from plates.states import COLOURS, STATES
from plates.store import Plate
from screening.file_server import FileServer
from screening.view import serve_plate, view
from tests.reports.browser import CHROMIUM, FLAGS, Tab, browser
from tests.reports.viewed import HOSTILE, SHAPE, VOXEL_UM, write_viewed_plate


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Plate:
    return write_viewed_plate(tmp_path_factory.mktemp("viewed"))


@pytest.fixture
def server(plate: Plate) -> Iterator[FileServer]:
    served = serve_plate(plate)
    yield served
    served.close()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    assert "--disable-gpu" in FLAGS
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        for domain in ("Page", "Runtime", "Log", "Network"):
            opened.call(f"{domain}.enable")
        opened.resize(1280, 800)
        yield opened


@pytest.fixture
def tab(chromium: Tab, server: FileServer) -> Iterator[Tab]:
    """A tab that must have had nothing to complain of, and asked nobody else, in the end."""
    chromium.call("Page.navigate", url="about:blank")
    chromium.wait_for("location.href === 'about:blank'")
    chromium.call("Input.dispatchMouseEvent", type="mouseMoved", x=0, y=0)
    chromium.complaints.clear()
    chromium.requests.clear()
    yield chromium
    assert chromium.complaints == []
    host = f"http://127.0.0.1:{server.port}/"
    assert [one for one in chromium.requests if not one.startswith((host, "data:", "about:"))] == []


def show(tab: Tab, address: str) -> None:
    tab.call("Page.navigate", url="about:blank")
    tab.wait_for("location.href === 'about:blank'")
    tab.call("Page.navigate", url=address)
    settle(tab)


def settle(tab: Tab) -> None:
    """Wait until all that is shown has come and is drawn."""
    tab.wait_for("!!document.body && document.body.dataset.state === 'ready' && !asked && !pending")


def at_full_size(tab: Tab) -> np.ndarray:
    """What the canvas shows of a field, a pixel of the screen for each of the image: (y, x, RGB)."""
    tab.ask("Object.assign(camera, {x: 0, y: 0, scale: 1}); pointed = null; requestDraw(); 0")
    time.sleep(0.1)
    settle(tab)
    tab.ask("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))).then(() => 0)")
    return pixels(tab, 0, 0, SHAPE[2], SHAPE[1])


def pixels(tab: Tab, x: int, y: int, width: int, height: int) -> np.ndarray:
    text = tab.ask(
        # read from a copy, for browsers warn of canvases that are read often
        f"(() => {{ const copy = Object.assign(document.createElement('canvas'), {{width: {width}, height: {height}}});"
        " const reader = copy.getContext('2d', {willReadFrequently: true});"
        f" reader.drawImage(canvas, -{x}, -{y});"
        f" const got = reader.getImageData(0, 0, {width}, {height}).data; let text = '';"
        " for (let at = 0; at < got.length; at += 8192) text += String.fromCharCode(...got.subarray(at, at + 8192));"
        " return btoa(text); })()"
    )
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)[..., :3].astype(int)


def grey(counts: np.ndarray, low: int, high: int) -> np.ndarray:
    return np.clip(np.floor(255 * (counts.astype(float) - low) / (high - low) + 0.5), 0, 255).astype(int)


def slide(tab: Tab, name: str, value: int) -> None:
    tab.ask(f"(() => {{ byId('{name}').value = {value}; byId('{name}').dispatchEvent(new Event('input')); }})()")
    settle(tab)


def test_a_wells_projection_is_drawn_pixel_for_pixel_at_each_time(tab: Tab, server: FileServer, plate: Plate) -> None:
    show(tab, server.address + "#well=A02&t=0&field=0&states=0")
    drawn = []
    for timepoint in range(3):
        slide(tab, "time", timepoint)
        drawn.append(at_full_size(tab))
        wanted = grey(plate.projection("A02", field=0, timepoint=timepoint), 13300, 13900)
        for channel in range(3):
            np.testing.assert_array_equal(drawn[-1][..., channel], wanted)
    assert (drawn[0] != drawn[1]).mean() > 0.1


def test_slices_come_from_the_tomogram_and_projections_from_their_channels(
    tab: Tab, server: FileServer, plate: Plate
) -> None:
    show(tab, server.address + "#well=A02&t=1&field=0&states=0&image=slice&z=3")
    volume = plate.volume("A02", field=0, timepoint=1)
    for z in (3, 17):
        slide(tab, "depth", z)
        np.testing.assert_array_equal(at_full_size(tab)[..., 0], grey(volume[z], 13300, 13900))
    show(tab, server.address + "#well=A02&t=1&states=0&image=dry-mass")
    mass = plate.projection("A02", field=0, timepoint=1, kind="dry mass")
    np.testing.assert_array_equal(at_full_size(tab)[..., 0], grey(mass, 0, 30000))
    show(tab, server.address + "#well=A01&t=1&states=0&image=stain0")
    light = plate.fluorescence_projection("A01", field=0, timepoint=1, channel="PI")
    np.testing.assert_array_equal(at_full_size(tab)[..., 0], grey(light, 0, 4000))


def test_contrast_follows_its_sliders_and_the_picture(tab: Tab, server: FileServer, plate: Plate) -> None:
    show(tab, server.address + "#well=A02&t=1&states=0")
    slide(tab, "low", 13350)
    slide(tab, "high", 13500)
    counts = plate.projection("A02", field=0, timepoint=1)
    np.testing.assert_array_equal(at_full_size(tab)[..., 0], grey(counts, 13350, 13500))
    tab.ask("byId('auto').click()")
    low, high = tab.ask("limits.maximum")
    assert abs(low - np.quantile(counts, 0.002)) < 12
    assert abs(high - np.quantile(counts, 0.998)) < 12
    tab.ask("byId('usual').click()")
    assert tab.ask("limits.maximum") == [13300, 13900]


def test_states_lie_over_the_image_in_their_colours(tab: Tab, server: FileServer, plate: Plate) -> None:
    show(tab, server.address + "#well=A02&t=1")
    with_states = at_full_size(tab)
    tab.ask("byId('states').click()")
    settle(tab)
    without = at_full_size(tab)
    classes = plate.classes("A02", field=0, timepoint=1)
    compared = 0
    for value, state in enumerate(STATES, start=1):
        colour = np.array([int(COLOURS[state][start : start + 2], 16) for start in (1, 3, 5)])
        inner = np.zeros(classes.shape, bool)
        # off the letters in the upper left and the edges of patches, which the coarse map may move by a pixel
        for top, left in np.ndindex(3, 4):
            patch = np.s_[top * 160 + 60 : min(top * 160 + 150, SHAPE[1] - 45), left * 160 + 60 : left * 160 + 150]
            inner[patch] = classes[patch] == value
        compared += int(inner.any())
        mixed = without[inner] * (1 - 0x70 / 255) + colour * 0x70 / 255
        np.testing.assert_allclose(with_states[inner], mixed, atol=2)
    assert compared >= 2


def test_missing_voxels_and_fields_are_hatched(tab: Tab, server: FileServer) -> None:
    show(tab, server.address + "#well=B03&t=1&states=0")
    corner = at_full_size(tab)[5:35, 5:45]
    assert {tuple(colour) for colour in corner.reshape(-1, 3)} >= {(0x23, 0x2C, 0x36)}
    assert len({tuple(colour) for colour in corner.reshape(-1, 3)}) > 2, "ground and strokes"
    assert (corner[..., 0] < corner[..., 2]).all(), "bluish, as no image is"
    show(tab, server.address + "#well=B03&t=2&field=1&states=0")
    empty = at_full_size(tab)[:100]
    assert (empty[..., 0] < empty[..., 2]).mean() > 0.99


def test_the_whole_plate_is_drawn_with_what_is_missing_hatched(tab: Tab, server: FileServer, plate: Plate) -> None:
    show(tab, server.address + "#t=1&states=0")
    place = "(name, dx, dy) => { const one = plate.wells[name]; const at = toScreen((one.column + dx) * PITCH.x, "
    place += "(one.row + dy) * PITCH.y); return at.map(Math.round); }"

    def patch(name: str) -> np.ndarray:
        x, y = tab.ask(f"({place})('{name}', 0.04, 0.04)")
        return pixels(tab, x, y, 45, 30)

    image = patch("B03")[15:]
    assert (image[..., 0] == image[..., 2]).all(), "grey"
    assert image.std() > 2
    missing = patch("C07")
    assert (missing[..., 0] < missing[..., 2]).all()
    assert np.ptp(missing) > 50
    tab.ask("byId('states').click()")
    settle(tab)
    tinted = np.concatenate([patch(name) for name in ("A01", "A02", "B03")])
    assert (np.ptp(tinted, axis=2) > 40).mean() > 0.2
    untouched = patch("H12")
    assert (untouched[..., 0] == untouched[..., 2]).all(), "H12 has no map of states"


def test_a_time_slider_that_moves_on_leaves_what_it_passed_by(tab: Tab, server: FileServer) -> None:
    show(tab, server.address)
    before = len([one for one in tab.requests if "/mosaic/" in one])
    tab.ask("for (const t of [1, 2, 1, 0, 1]) show({time: t})")
    settle(tab)
    assert tab.ask("mosaic(0, 1).rows.every((row) => row !== null)")
    asked = [one for one in tab.requests if "/mosaic/" in one][before:]
    assert len([one for one in asked if "/mosaic/0/1/" in one]) == 8
    assert len([one for one in asked if "/mosaic/0/2/" in one]) < 8


def hover(tab: Tab, x_um: float, y_um: float) -> None:
    x, y = tab.ask(
        f"(() => {{ const [x, y] = toScreen({x_um / VOXEL_UM[2]}, {y_um / VOXEL_UM[1]});"
        " const box = canvas.getBoundingClientRect(); return [box.left + x, box.top + y]; })()"
    )
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)


def test_pointing_at_a_patch_tells_its_stored_probabilities(tab: Tab, server: FileServer, plate: Plate) -> None:
    show(tab, server.address + "#well=A02&t=2&field=0")
    stored = read_result(plate.path, "probabilities").sel(well="A02").isel(field=0, timepoint=2)
    for row, column in np.ndindex(stored.sizes["py"], stored.sizes["px"]):
        hover(tab, float(stored["px_um"][column]) + 3, float(stored["py_um"][row]) - 4)
        values = stored["probability"].values[row, column]
        if np.isnan(values).any():
            tab.wait_for("byId('patch').hidden && byId('patch-none').textContent.startsWith('Background')")
            continue
        tab.wait_for(f"byId('patch-title').textContent === 'Patch: row {row + 1}, column {column + 1}'")
        shown = tab.ask("[...byId('patch').rows].map((row) => [row.cells[0].innerText, row.cells[2].innerText])")
        assert [name.split()[-1] for name, _ in shown] == list(STATES)
        np.testing.assert_allclose([float(text.split()[0]) for _, text in shown], 100 * values, atol=0.051)
        assert STATES[int(values.argmax())] in tab.ask("byId('readout').textContent")
    fractions = read_result(plate.path, "fractions").sel(well="A02").isel(timepoint=2)["fraction"].values
    shown = tab.ask("[...byId('fractions').rows].map((row) => row.cells[2].innerText)")
    np.testing.assert_allclose([float(text.split()[0]) for text in shown], 100 * fractions, atol=0.051)


def test_an_address_opens_a_well_and_the_way_back_leads_to_the_plate(tab: Tab, server: FileServer) -> None:
    show(tab, server.address + "#well=B03&t=1&field=1")
    assert tab.ask("[document.body.dataset.view, shown.well, shown.time, shown.field]") == ["well", "B03", 1, 1]
    assert tab.ask("byId('title').textContent") == "Well B03"
    assert tab.ask("byId('content').innerText").split("\n")[:2] == ["compound", "NaOH"]
    tab.ask("byId('back').click()")
    settle(tab)
    assert tab.ask("document.body.dataset.view") == "plate"
    tab.ask("history.back()")
    tab.wait_for("shown.well === 'B03'")
    show(tab, server.address + "#well=C07")
    assert "C07 of this plate was not imaged" in tab.ask("byId('trouble').textContent")
    show(tab, server.address + "#well=<img>&t=999&field=x&image=no&z=-3")
    assert tab.ask("[shown.well, shown.time, shown.field, shown.image]") == ["", 2, 0, "maximum"]


def test_clicking_a_well_opens_it_and_dragging_does_not(tab: Tab, server: FileServer) -> None:
    show(tab, server.address)
    x, y = tab.ask(
        "(() => { const box = canvas.getBoundingClientRect(); const [x, y] = toScreen(20, 20);"
        " return [box.left + x, box.top + y]; })()"
    )
    press = {"button": "left", "clickCount": 1}
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    assert tab.ask("byId('readout').textContent").startswith("A01, " + HOSTILE[:20]), "text of the plate map is text"
    tab.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **press)
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + 60, y=y, button="left", buttons=1)
    tab.call("Input.dispatchMouseEvent", type="mouseReleased", x=x + 60, y=y, **press)
    assert tab.ask("document.body.dataset.view") == "plate"
    before = tab.ask("camera.scale")
    tab.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=-120)
    tab.wait_for(f"camera.scale > {before}")
    tab.ask("byId('fit').click()")
    tab.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **press)
    tab.call("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, **press)
    tab.wait_for("shown.well === 'A01'")
    tab.wait_for("location.hash.startsWith('#well=A01')")
    assert tab.dialogs == []


def key(tab: Tab, name: str) -> None:
    tab.ask(f"canvas.dispatchEvent(new KeyboardEvent('keydown', {{key: '{name}', cancelable: true}}))")


def test_everything_can_be_done_with_keys(tab: Tab, server: FileServer) -> None:
    show(tab, server.address)
    for name in ("ArrowRight", "Enter"):
        key(tab, name)
    settle(tab)
    assert tab.ask("shown.well") == "A02"
    for name in (".", "PageDown", "s"):
        key(tab, name)
    assert tab.ask("[shown.time, shown.image, shown.z, shown.states]") == [1, "slice", 11, False]
    settle(tab)
    key(tab, "ArrowRight")
    tab.wait_for("byId('patch-title').textContent.includes('row')")
    before = tab.ask("camera.scale")
    key(tab, "+")
    assert tab.ask("camera.scale") > before
    key(tab, "0")
    assert tab.ask("camera.fitted")
    key(tab, "Escape")
    assert tab.ask("shown.well") == ""
    unnamed = (
        "[...document.querySelectorAll('input, select, button')].filter((one) =>"
        " !(one.getAttribute('aria-label') || one.closest('label') || one.textContent.trim())).length"
    )
    assert tab.ask(unnamed) == 0
    assert "All wells" in tab.ask("canvas.getAttribute('aria-label')")


def test_damage_is_told_and_not_drawn(tab: Tab, tmp_path: Path) -> None:
    damaged = write_viewed_plate(tmp_path / "damaged")
    for shard in damaged.field_files("A02", field=0, timepoint=1)[-3:]:
        content = bytearray(shard.read_bytes())
        content[40] ^= 1
        shard.write_bytes(content)
    served = serve_plate(damaged)
    try:
        show(tab, served.address + "#well=A02&t=1&states=0")
        tab.wait_for("byId('trouble').textContent.includes('the file is damaged')")
        assert at_full_size(tab)[200:300, 100:300].max() < 60, "nothing but the ground"
        assert tab.ask("byId('trouble').hidden") is False
    finally:
        served.close()
    tab.requests.clear()


def test_blosc_is_decoded_as_numcodecs_encoded_it(tab: Tab, server: FileServer) -> None:
    show(tab, server.address)
    rng = np.random.default_rng(1)
    for dtype in (np.uint8, np.uint16, np.uint32):
        for size in (1, 7, 8, 100, 14_400, 57_600, 300_001):
            values = [rng.integers(0, 6, size), rng.integers(0, np.iinfo(dtype).max, size, dtype=np.uint64)]
            for shuffle in (0, 1, 2):
                for value in values:
                    stored = value.astype(dtype)
                    encoded = numcodecs.Blosc("zstd", 1, shuffle).encode(stored)
                    text = base64.b64encode(encoded).decode()
                    sums = tab.ask(
                        f"(() => {{ const bytes = Uint8Array.from(atob('{text}'), (c) => c.charCodeAt(0));"
                        " const got = new zarrita.Blosc().decode(bytes); let [one, two] = [1, 0];"
                        " for (const byte of got) { one = (one + byte) % 65521; two = (two + one) % 65521; }"
                        " return [got.length, two * 65536 + one]; })()"
                    )
                    assert sums == [stored.nbytes, zlib.adler32(stored.tobytes())]


def test_the_command_tells_its_address_and_ends_when_told(plate: Plate, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def open_in_browser(address: str) -> bool:
        opened.append(address)
        return True

    monkeypatch.setattr("webbrowser.open", open_in_browser)
    said: list[str] = []
    stop, at = threading.Event(), "#well=A02&t=1&field=0"
    runs = threading.Thread(target=view, args=(plate.path,), kwargs={"tell": said.append, "stop": stop, "at": at})
    runs.start()
    try:
        end = time.monotonic() + 20
        while not opened and time.monotonic() < end:
            time.sleep(0.02)
        assert opened == [said[0].split()[-1]]
        assert opened[0].endswith("/" + at)
        address = opened[0].removesuffix(at)
        with urlopen(address) as answer:
            assert b"Whole plate" in answer.read()
        with urlopen(address + "field/A02/0/1") as answer:
            assert json.load(answer)["images"]["projection"] is True
        assert any(f"napari --plugin napari-ome-zarr {plate.mip_path}" in line for line in said)
    finally:
        stop.set()
        runs.join(20)
    assert not runs.is_alive()
    with pytest.raises(OSError, match="refused"):
        urlopen(address)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_without_an_error(plate: Plate, number: signal.Signals) -> None:
    code = (
        "import sys; from pathlib import Path; from plates.stopping import stoppable; from screening.view import view\n"
        "with stoppable(): view(Path(sys.argv[1]), browser=False, tell=lambda text: print(text, flush=True))"
    )
    command = [sys.executable, "-c", code, str(plate.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        with urlopen(address) as answer:
            assert answer.status == 200
        while "Ctrl-C" not in process.stdout.readline():
            pass
        process.send_signal(number)
        said, complaints = process.communicate(timeout=30)
    assert (process.returncode, said, complaints) == (0, "Ended.\n", "")


@pytest.mark.parametrize(
    "rest", ["mosaic/0/9/0", "mosaic/9/0/0", "mosaic/0/0/8", "field/C07/0/0", "field/A01/5/0", "field/a01/0/0", "x"]
)
def test_what_the_plate_does_not_have_is_not_there(server: FileServer, rest: str) -> None:
    from urllib.error import HTTPError

    with pytest.raises(HTTPError, match="404"):
        urlopen(server.address + rest)


def test_what_cannot_be_shown_is_told(tmp_path: Path, plate: Plate, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingInputError, match="tomoscreen ingest"):
        view(tmp_path / "P099.zarr", browser=False)
    monkeypatch.setitem(sys.modules, "neuroglancer", None)
    with pytest.raises(SettingsError, match=r"tomoscreen\[neuroglancer\]"):
        view(plate.path, browser=False, volume="A01", tell=lambda text: None)
    first = serve_plate(plate)
    try:
        with pytest.raises(SettingsError, match=f"Port {first.port}"):
            view(plate.path, port=first.port, browser=False)
    finally:
        first.close()


def test_nothing_is_written(plate: Plate, server: FileServer, tab: Tab) -> None:
    def state() -> list[Any]:
        return sorted((str(one), one.stat().st_mtime_ns) for one in plate.path.parent.rglob("*"))

    before = state()
    show(tab, server.address + "#well=A02&t=1")
    show(tab, server.address)
    assert state() == before
