"""Figures as SVG and PNG files, drawn by a browser that is there already, without a window and without a network."""

import base64
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from plates.errors import MissingInputError, StoreError
from plates.files import write_durable

Format = Literal["svg", "png"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
FLAGS = (
    "--headless", "--disable-gpu", "--no-first-run", "--disable-extensions", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND",
    "--virtual-time-budget=600000", "--dump-dom",
)  # fmt: skip
WIDTH = 640
SCALE = 3  # pixels of a PNG for each of the figure's: 288 dots an inch at its natural size
AT_ONCE = 30  # figures a browser draws before it is started anew
PATIENCE = 300.0  # seconds for those
SCRIPT = """
const told = async (item, index) => {
  const place = document.createElement("pre");
  place.id = "drawn-" + index;
  try {
    const url = await Plotly.toImage({data: item.data, layout: item.layout}, item.as);
    place.textContent = item.as.format === "svg"
      ? btoa(unescape(encodeURIComponent(decodeURIComponent(url.slice(url.indexOf(",") + 1)))))
      : url.slice(url.indexOf(",") + 1);
  } catch (error) {
    place.className = "failed";
    place.textContent = btoa(unescape(encodeURIComponent(String(error))));
  }
  document.body.append(place);
};
(async () => {
  const wanted = JSON.parse(document.getElementById("wanted").textContent);
  for (let index = 0; index < wanted.length; index += 1) await told(wanted[index], index);
})();
"""
DRAWN = re.compile(r'<pre id="drawn-(\d+)"( class="failed")?>([A-Za-z0-9+/=]*)</pre>')


def draw_pictures(
    figures: Mapping[str, Any], *, out: Path, formats: Sequence[Format] = ("svg",), browser: Path | None = None
) -> list[Path]:
    """Write every figure in every format, named after its key.

    The browser runs the plotly.js that the reports carry, on a page of its own in a folder beside the pictures that is
    deleted afterwards; it resolves no address.

    Parameters
    ----------
    figures
        plotly figures by the stem of their files.
    out
        Folder; made if need be. Files of the same names are replaced.
    browser
        Chromium, Chrome or Edge; looked for where none is given.

    Raises
    ------
    MissingInputError
        There is no browser.
    StoreError
        The browser ended without a picture; the message tells what it said.
    """
    browser = browser or find_browser()
    out.mkdir(parents=True, exist_ok=True)
    wanted = [(name, figure, form) for name, figure in figures.items() for form in formats]
    written = []
    for start in range(0, len(wanted), AT_ONCE):
        part = wanted[start : start + AT_ONCE]
        pictures = _draw([_described(figure, form) for _, figure, form in part], browser=browser, beside=out)
        for (name, _, form), picture in zip(part, pictures, strict=True):
            path = out / f"{name}.{form}"
            write_durable(path, picture)
            written.append(path)
    return written


def find_browser() -> Path:
    """Chromium, Chrome or Edge on this machine.

    Raises
    ------
    MissingInputError
        There is none; the message says what to install.
    """
    for name in BROWSERS:
        if found := shutil.which(name):
            return Path(found)
    if MAC.exists():
        return MAC
    raise MissingInputError(
        "SVG and PNG files are drawn by a browser, and neither Chromium nor Chrome nor Edge is on the PATH. "
        "Install one (`apt install chromium` on Debian), give its path with --browser, or export figures as html."
    )


def _described(figure: Any, form: Format) -> dict[str, Any]:
    """What plotly.js is to draw; on white, because pictures end on paper and slides of any colour."""
    stored = json.loads(figure.to_json())
    layout = {**stored["layout"], "paper_bgcolor": "#ffffff", "plot_bgcolor": "#ffffff"}
    size = {"width": layout.get("width") or WIDTH, "height": layout.get("height") or 400}
    return {
        "data": stored["data"],
        "layout": {**layout, **size},
        "as": {"format": form, **size, "scale": SCALE if form == "png" else 1},
    }


def _draw(wanted: Sequence[Mapping[str, Any]], *, browser: Path, beside: Path) -> list[bytes]:
    plotly = gzip.decompress(files("reports").joinpath("static", "plotly-cartesian.min.js.gz").read_bytes())
    # names from plate maps are inside: nothing in them may end the script element
    described = json.dumps(wanted, allow_nan=False).replace("<", "\\u003c")
    # not in the system's temporary folder, which a browser installed as a snap does not see
    with tempfile.TemporaryDirectory(prefix="pictures-", dir=beside, ignore_cleanup_errors=True) as folder:
        Path(folder, "plotly.js").write_bytes(plotly)
        page = Path(folder, "page.html")
        page.write_text(
            '<!DOCTYPE html><meta charset="utf-8"><body>'
            f'<script type="application/json" id="wanted">{described}</script>'
            f'<script src="plotly.js"></script><script>{SCRIPT}</script>',
            encoding="utf-8",
        )
        told, said = _opened(browser, page, profile=Path(folder, "profile"))
    drawn = {int(number): (failed, text) for number, failed, text in DRAWN.findall(told)}
    for failed, text in drawn.values():
        if failed:
            raise StoreError(f"{browser} could not draw a figure: {base64.b64decode(text).decode()}")
    if len(drawn) < len(wanted):
        raise StoreError(
            f"{browser} drew {len(drawn)} of {len(wanted)} figures and ended. It said: {said[-600:] or 'nothing'}"
        )
    return [base64.b64decode(drawn[index][1]) for index in range(len(wanted))]


def _opened(browser: Path, page: Path, *, profile: Path) -> tuple[str, str]:
    """What the page holds when its scripts are done, and what the browser said meanwhile."""
    # Chromium refuses its sandbox to root, as whom containers run; the page is ours and reaches nothing
    alone = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = [str(browser), *FLAGS, *alone, f"--user-data-dir={profile}", page.resolve().as_uri()]
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    except OSError as error:
        raise MissingInputError(f"{browser} cannot be started ({error}). Give another browser.") from error
    try:
        told, said = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise StoreError(
            f"{browser} was not done within {PATIENCE:.0f} s. Try again, or export figures as html."
        ) from None
    finally:
        _end(process)
    return told.decode(errors="replace"), said.decode(errors="replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the browser with the processes that it started."""
    if process.poll() is not None:
        return
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()
