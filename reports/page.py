"""The shell of every report: one HTML file that fetches nothing, runs only its own scripts and draws late.

Drawing, not bytes, is what makes a page of figures slow, so figures wait as deflated JSON until they are
scrolled to. plotly.js is stored once, gzipped. The Content-Security-Policy names its two scripts by hash.
"""

import base64
import gzip
import hashlib
import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from plates.states import COLOURS, LETTERS, STATES

from . import words

# plotly 7 puts a "Share chart..." button that uploads to a web service into every default figure.
PLOTLY_CONFIG = {
    "displayModeBar": "hover",
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
    "plotlyServerURL": "",
    "responsive": True,
    "showSendToCloud": False,
    "toImageButtonOptions": {"format": "svg"},
}
DIGITS = 4
EMBED_LIMIT = 100_000


class Page:
    """One report in the making: figures and tables are added, then a template is written with them.

    Parameters
    ----------
    out
        The page to write. Tables lie beside it and begin with its stem.
    scripts, styles
        Further files of `reports/static/` that this page carries, run and applied after the common ones.
    """

    def __init__(self, out: Path, *, scripts: Sequence[str] = (), styles: Sequence[str] = ()) -> None:
        self.out = out
        self._scripts, self._styles = ("report.js", *scripts), ("report.css", *styles)
        self._figures: list[dict[str, Any]] = []
        self._template: dict[str, Any] = {}
        self._blobs: dict[str, str] = {}

    def figure(self, figure: Any, *, label: str) -> Markup:
        """Keep a plotly figure for later drawing and return its place on the page.

        Parameters
        ----------
        figure
            A plotly.graph_objects.Figure whose layout states its height in pixels.
        label
            What the figure shows, for those who cannot see it.
        """
        stored = rounded(figure.to_plotly_json())
        # one copy of the template serves all figures: it is 6.5 kB in each of them otherwise
        self._template = stored["layout"].pop("template")
        self._figures.append({"data": stored["data"], "layout": stored["layout"]})
        return Markup(
            '<div class="plot" role="figure" aria-label="{}" data-figure="{}" data-height="{}"></div>'
        ).format(label, len(self._figures) - 1, stored["layout"]["height"])

    def table(self, name: str, table: pd.DataFrame) -> Markup:
        """Write a table as CSV beside the page, keep a copy inside when it is small, and return the link.

        Numbers are written exactly. Text that a spreadsheet would run as a formula gets an apostrophe in
        front; the stored results keep it as it was.
        """
        path = self.out.with_name(f"{self.out.stem}.{name}.csv")
        text = guard_formulas(table).to_csv(index=False, lineterminator="\n")
        write_text(path, text)
        link = Markup('<a href="{}" download="{}"').format(relative_link(path, start=self.out), path.name)
        # what is far too large is not worth compressing to find out
        if len(text) < 30 * EMBED_LIMIT and len(deflated := _deflated(text)) <= EMBED_LIMIT:
            self._blobs[f"table-{name}"] = deflated
            link += Markup(' data-table="{}"').format(f"table-{name}")
        rows = Markup("{} rows, {} columns").format(len(table), len(table.columns))
        return link + Markup(">{}</a> <small>{}</small>").format(path.name, rows)

    def data(self, name: str, value: Any) -> None:
        """Keep a value for the page's script under the given name."""
        self._blobs[name] = _deflated(_json(value))

    def write(self, template: str, **context: Any) -> Path:
        """Fill the template and put the page in place in one step."""
        if self._figures:
            book = {"config": PLOTLY_CONFIG, "figures": self._figures, "template": self._template}
            self.data("figures", book)
            self._blobs["plotly-js"] = base64.b64encode(_static_bytes("plotly-cartesian.min.js.gz")).decode()
        # one after the other in one scope: a later script uses what report.js defines
        script = "\n".join(static_text(name) for name in self._scripts)
        style = "\n".join(static_text(name) for name in self._styles)
        plotly = gzip.decompress(_static_bytes("plotly-cartesian.min.js.gz"))
        scripts = [content_hash(script.encode()), content_hash(plotly)]
        html = (
            environment()
            .get_template(template)
            .render(
                context,
                policy="; ".join(
                    (
                        "default-src 'none'",
                        f"script-src {' '.join(scripts)}",
                        # plotly.js adds an empty style element and fills it by rules
                        f"style-src {content_hash(style.encode())} {content_hash(b'')}",
                        "img-src data: blob:",
                        "base-uri 'none'",
                        "form-action 'none'",
                    )
                ),
                script=Markup(script),
                style=Markup(style),
                blobs=self._blobs,
            )
        )
        write_text(self.out, html)
        return self.out


def rounded(value: Any) -> Any:
    """Plain JSON values with four significant digits, NaN and infinities as null; exact ones are in the CSV."""
    if isinstance(value, Mapping) and "bdata" in value:  # plotly.py's own packing: larger once all is deflated
        packed = np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"])
        return rounded(packed.reshape([int(size) for size in value.get("shape", "-1").split(",")]))
    if isinstance(value, Mapping):
        return {str(key): rounded(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return rounded(value.tolist())
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, np.generic):
        return rounded(value.item())
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value


def guard_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """A copy whose text cells no spreadsheet takes for a formula; columns of numbers stay as they are.

    A carriage return inside a cell becomes a blank: CSV leaves it unquoted, and what follows would be a row.
    """
    guarded = table.copy()
    for column in guarded.columns:
        if not pd.api.types.is_numeric_dtype(guarded[column]):
            guarded[column] = pd.Series([_guarded(cell) for cell in guarded[column]], index=guarded.index, dtype=object)
    return guarded


def _guarded(cell: object) -> object:
    if isinstance(cell, str):
        cell = cell.replace("\r\n", "\n").replace("\r", " ") if "\r" in cell else cell
    return f"'{cell}" if str(cell).lstrip(" ").startswith(("=", "+", "-", "@", "\t")) else cell


def relative_link(path: Path, *, start: Path) -> str:
    """The address of a file as seen from a page; quoted, and never something a browser takes for a scheme."""
    from urllib.parse import quote

    steps = Path(os.path.relpath(path.resolve(), start.resolve().parent)).as_posix()
    return "./" + quote(steps, safe="/")


def write_text(path: Path, text: str) -> None:
    """Write a file through a temporary neighbour, so that a reader never meets half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8", newline="\n")
    partial.replace(path)


def environment() -> Environment:
    """Templates that escape everything that is not marked as safe."""
    made = Environment(
        loader=PackageLoader("reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in (
        "concentration",
        "ec50",
        "ec50_interval",
        "half_time",
        "has_ec50",
        "hours",
        "number",
        "percent",
        "plain",
    ):
        made.filters[name] = getattr(words, name)
    made.globals.update(
        STATES=STATES,
        COLOURS=COLOURS,
        LETTERS=LETTERS,
        LETTER_INKS=words.LETTER_INKS,
        VERSION=version("tomoscreen"),
        percent_interval=words.percent_interval,
        between=words.between,
    )
    return made


def _static_bytes(name: str) -> bytes:
    return files("reports").joinpath("static", name).read_bytes()


def static_text(name: str) -> str:
    """A style sheet or script that the pages carry in themselves."""
    return files("reports").joinpath("static", name).read_text(encoding="utf-8")


def content_hash(content: bytes) -> str:
    """How a page's policy names a style or script that may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False)


def _deflated(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()
