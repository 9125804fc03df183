"""The ranking of a campaign as columns: what the page's table shows, sorts, filters and saves, for any number of rows.

The columns are built from whole arrays: ten thousand selections from a dataset would cost minutes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import xarray as xr
from markupsafe import Markup

from . import words
from .tables import SPARK_HEIGHT, SPARK_WIDTH

Values: TypeAlias = Sequence[Any] | np.ndarray

SERVER_ROWS = 200
DIGITS = 6  # significant, of numbers in the page; the CSV beside it holds the exact ones
SPARK_POINTS = 16  # of a drawn curve
SHAPES = {"slope_at_bound": "EC50 between two doses", "biphasic": "rises and falls", "not_fitted": "not fitted"}


@dataclass(frozen=True)
class Column:
    """One column: `form` says how a number is written, `words` what stands in place of a number, by row.

    `values`, `low` and `high` are one entry a compound, NaN or "" where there is none.
    """

    key: str
    label: str
    help: str
    form: str
    values: Values
    low: Values = ()
    high: Values = ()
    words: Mapping[int, str] = field(default_factory=dict)
    shown: bool = True

    @property
    def kind(self) -> str:
        """Whether it sorts as text or as numbers, or not at all."""
        return self.form if self.form in ("text", "state", "spark") else "number"

    def stored(self) -> dict[str, Any]:
        """As the page's script reads it."""
        return {
            "key": self.key,
            "label": self.label,
            "form": self.form,
            "kind": self.kind,
            "values": _rounded(self.values) if self.kind == "number" else list(self.values),
            "low": _rounded(self.low),
            "high": _rounded(self.high),
            "words": {str(row): text for row, text in self.words.items()},
            "shown": self.shown,
        }

    def cell(self, row: int) -> Markup:
        """What stands in a row; the page's script writes the same."""
        value = self.values[row]
        if self.kind == "spark":
            return spark_svg(*value)
        if self.kind != "number":
            return Markup("{}").format(words.plain(value))
        if row in self.words:
            return Markup("{}").format(self.words[row])
        value = _significant(value)
        text = written(value, self.form)
        if not len(self.low) or math.isnan(value):
            return Markup("{}").format(text)
        interval = written_interval(value, _significant(self.low[row]), _significant(self.high[row]), self.form)
        return Markup('{} <span class="interval">{}</span>').format(text, interval) if interval else Markup(text)


def ranking_columns(
    ranking: xr.Dataset,
    fits: xr.Dataset,
    *,
    kinetics: xr.Dataset | None = None,
    pathways: xr.Dataset | None = None,
) -> list[Column]:
    """The columns of the table, in their order, over the compounds in the order of the ranking.

    Parameters
    ----------
    ranking, fits
        The stored `ranking` and `dose_response` of the campaign.
    kinetics, pathways
        The stored results of these names; without one its columns are left out.
    """
    table = {str(name): ranking[name].values for name in ranking.data_vars}
    order = ranking["compound"].values
    death = fits.sel(readout="death").reindex(compound=order)
    wells, plates = counted(death)
    low, high = tested(death)
    rows = [
        {"status": table["status"][row], "ec50": table["ec50"][row], "ec50_low": table["ec50_low"][row],
         "ec50_high": table["ec50_high"][row], "emax_low": table["emax_low"][row], "dose_min": low[row],
         "dose_max": high[row]}
        for row in range(len(order))
    ]  # fmt: skip
    without = {row: words.ec50(fit) for row, fit in enumerate(rows) if not words.has_ec50(fit)}
    known = np.array([row not in without for row in range(len(order))], dtype=bool)
    columns = [
        _number(table, "rank", "Rank", "place in the order and where it may truly lie", "number"),
        Column("compound", "Compound", "name as in the plate map", "text", [str(name) for name in order]),
        Column("spark", "Excess death", "death beyond vehicle against dose; dots are wells", "spark",
               sparklines(death, known)),
        Column("ec50", "EC50", "dose of half the effect, in µM; without a number the words say what is known", "dose",
               np.where(known, table["ec50"], np.nan), table["ec50_low"], table["ec50_high"], without),
        _number(table, "emax", "Highest excess death", "fitted excess death at the top dose", "percent"),
        *_fitted(death),
        *_timed(table, kinetics, order),
        Column("dominant_pathway", "Dominant pathway", "pathway with the most excess death", "state",
               [str(name) for name in table["dominant_pathway"]]),
        _number(table, "dominant_share", "Its share", "share of that pathway in all excess death", "percent"),
        *_split(pathways, order),
        Column("plates", "Plates", "plates with wells in the fit", "number", plates),
        Column("wells", "Wells", "wells in the fit", "number", wells),
        Column("flags", "Flags", "what else there is to say of the compound", "text", _flags(table)),
        *_rest(table),
    ]  # fmt: skip
    return [column for column in columns if column is not None]


def sheet(columns: Sequence[Column], *, anchor: str, drawn: int) -> dict[str, Any]:
    """All rows for the page's script: the columns, the sparklines' paths, and how many compounds have a curve."""
    return {
        "anchor": anchor,
        "columns": [column.stored() for column in columns],
        "drawn": drawn,
        "height": SPARK_HEIGHT,
        "width": SPARK_WIDTH,
    }


def counted(death: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Wells and plates in each compound's fit of death."""
    dims = ("compound", "dose_index", "replicate")
    held = np.isfinite(death["response"].transpose(*dims).values).reshape(death.sizes["compound"], -1)
    plate = death["plate"].transpose(*dims).values.reshape(held.shape)
    return held.sum(axis=1), np.array([len(set(plate[row][held[row]])) for row in range(len(held))], dtype=int)


def tested(death: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest dose of each compound's fit in micromolar; NaN where it has none."""
    dose = death["dose"].values.astype(float).reshape(death.sizes["compound"], -1)
    held = np.isfinite(dose) & (dose > 0)
    some = held.any(axis=1)
    lowest = np.where(held, dose, np.inf).min(axis=1, initial=np.inf)
    highest = np.where(held, dose, -np.inf).max(axis=1, initial=-np.inf)
    return np.where(some, lowest, np.nan), np.where(some, highest, np.nan)


def sparklines(death: xr.Dataset, known: np.ndarray) -> list[tuple[str, str]]:
    """For each compound the path of its curve ("" where it has none) and of its wells, on whole pixels."""
    dims = ("compound", "dose_index", "replicate")
    count = death.sizes["compound"]
    dose = death["dose"].transpose(*dims).values.astype(float).reshape(count, -1)
    response = death["response"].transpose(*dims).values.reshape(count, -1)
    low, high = tested(death)
    start, span = np.log10(low), np.maximum(np.log10(high / low), 1e-9)
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = _pixels(dose, response, start, span)
        curve_dose = death["curve_dose"].transpose("compound", "curve_point").values.astype(float)
        inside = (curve_dose >= low[:, None] * 0.999) & (curve_dose <= high[:, None] * 1.001)
        curve_x, curve_y = _pixels(
            curve_dose, death["curve"].transpose("compound", "curve_point").values, start, span, exact=True
        )
    drawn = []
    for row in range(count):
        held = np.isfinite(x[row]) & np.isfinite(y[row])
        spots = sorted(set(zip(x[row][held].astype(int).tolist(), y[row][held].astype(int).tolist(), strict=True)))
        dots = "".join(f"M{a} {b}h0" for a, b in spots)
        line = ""
        if known[row]:
            points = np.flatnonzero(inside[row] & np.isfinite(curve_y[row]))
            if len(points):
                picked = points[np.unique(np.linspace(0, len(points) - 1, SPARK_POINTS).astype(int))]
                line = "M" + "L".join(f"{curve_x[row][i]:.0f} {curve_y[row][i]:.1f}" for i in picked)
        drawn.append((line, dots))
    return drawn


def spark_svg(line: str, dots: str) -> Markup:
    """A sparkline from its two paths; "" where there is nothing to draw."""
    if not (line or dots):
        return Markup("")
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" aria-hidden="true">'
        '<path class="line" d="{}"/><path class="dots" d="{}"/></svg>'
    ).format(SPARK_WIDTH, SPARK_HEIGHT, line, dots)


def written(value: float, form: str) -> str:
    """A number as the table writes it."""
    if form == "percent":
        return words.percent(value)
    if form == "dose":
        return words.concentration(value)
    if form == "hours":
        return words.hours(value)
    return words.number(value)


def written_interval(value: float, low: float, high: float, form: str) -> str:
    """An interval as the table writes it; "" where there is none."""
    if form == "dose":
        return words.ec50_interval({"ec50": value, "ec50_low": low, "ec50_high": high})
    return words.percent_interval(low, high) if form == "percent" else words.between(low, high)


def _number(
    table: Mapping[str, np.ndarray], key: str, label: str, help: str, form: str, *, shown: bool = True
) -> Column | None:
    """A column of stored numbers with its interval where one is stored; None where the numbers are not."""
    if key not in table:
        return None
    low, high = (table.get(f"{key}_{end}", ()) for end in ("low", "high"))
    return Column(key, label, help, form, table[key].astype(float), low, high, shown=shown)


def _fitted(death: xr.Dataset) -> list[Column | None]:
    fit = {str(name): death[name].values for name in death.data_vars if death[name].dims == ("compound",)}
    aac = "mean distance of the curve from its bottom over log dose (area above the viability curve)"
    return [
        _number(fit, "aac", "AAC", aac, "number"),
        _number(fit, "auc", "AUC", "mean fitted response over log dose", "number", shown=False),
        _number(fit, "hill", "Slope", "Hill slope of the curve", "number", shown=False),
    ]


def _timed(table: Mapping[str, np.ndarray], kinetics: xr.Dataset | None, order: np.ndarray) -> list[Column | None]:
    half = {row: "by the first frame" for row, status in enumerate(table["t_half_status"]) if status == "before_first"}
    killing = np.array([bool(name) for name in table["dominant_pathway"]], dtype=bool)
    columns: list[Column | None] = [
        Column("t_half", "Half of the deaths by", "time at which half of the final excess death is reached", "hours",
               np.where(killing, table["t_half"], np.nan), table["t_half_low"], table["t_half_high"],
               {row: text for row, text in half.items() if killing[row]})
    ]  # fmt: skip
    if kinetics is None:
        return columns
    own = kinetics.reindex(compound=order)
    timed = {str(name): own[name].values for name in own.data_vars if own[name].dims == ("compound",)}
    some = "t50" in timed and bool(np.isfinite(timed["t50"].astype(float)).any())
    meaning = "time until half of all cells have died beyond vehicle, at the top dose"
    return [
        *columns,
        _number(timed, "t50", "t50", meaning, "hours", shown=some),
        _number(timed, "onset", "Onset", "lag before death begins, at the top dose", "hours", shown=False),
        _number(timed, "rate", "Rate (1/h)", "rate of approach to the plateau, at the top dose", "number", shown=False),
    ]


def _split(pathways: xr.Dataset | None, order: np.ndarray) -> list[Column | None]:
    if pathways is None:
        return []
    own = pathways.reindex(compound=order)
    split = {str(name): own[name].values for name in own.data_vars if own[name].dims == ("compound",)}
    between = "1 where all deaths take one pathway at the active doses, 0 where the three share them alike"
    switch = "dose at which the leading pathway changes"
    return [
        _number(split, "selectivity", "Selectivity", between, "number"),
        _number(split, "purity", "Purity", "share of the leading pathway by the pathway model", "percent", shown=False),
        _number(split, "switch_dose", "Switch", switch, "dose", shown=False),
    ]


def _rest(table: Mapping[str, np.ndarray]) -> list[Column | None]:
    alone = "place by this quality alone, by its cautious end"
    columns = [
        _number(table, f"{name}_rank", f"{name.capitalize()} rank", alone, "number", shown=False)
        for name in ("potency", "efficacy", "speed", "selectivity")
    ]
    ties = "others whose EC50 is not told apart from this one"
    columns += [
        _number(table, "ties", "Ties", ties, "number", shown=False),
        _number(table, "hit_p_adjusted", "Adjusted p", "p of the hit rule, adjusted for all", "number", shown=False),
    ]
    for key, label, help in (
        ("second_pathway", "Second pathway", "pathway that comes second"),
        ("status", "Kind of answer", "what the curve of death allows to say"),
        ("hit_reason", "Why no hit", "by the hit rule in the methods"),
    ):
        if key in table:
            columns.append(Column(key, label, help, "text", [str(text) for text in table[key]], shown=False))
    return columns


def _flags(table: Mapping[str, np.ndarray]) -> list[str]:
    """Words of what the ranking stores beside the numbers."""
    flags = []
    for row in range(len(table["status"])):
        found = []
        if "hit" in table and table["hit"][row]:
            found.append("hit")
        if table["dominant_tied"][row]:
            second = str(table["second_pathway"][row])
            found.append(f"pathway may be {second}" if second else "pathway not clear")
        if (status := str(table["status"][row])) in SHAPES:
            found.append(SHAPES[status])
        if "grade" in table and table["grade"][row] == "B":
            found.append("grade B")
        if "note" in table and table["note"][row]:
            found.append(str(table["note"][row]))
        flags.append("; ".join(found))
    return flags


def _pixels(
    dose: np.ndarray, response: np.ndarray, start: np.ndarray, span: np.ndarray, *, exact: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    x = 3 + (np.log10(dose) - start[:, None]) / span[:, None] * (SPARK_WIDTH - 6)
    y = 3 + (1 - np.clip(response, 0, 1)) * (SPARK_HEIGHT - 6)
    return (x, y) if exact else (np.rint(x), np.rint(y))


def _significant(value: float) -> float:
    return float(f"{float(value):.{DIGITS}g}")


def _rounded(values: Values) -> list[float | str | None]:
    """Six significant digits; null for NaN, and "inf" as JSON has no infinity."""
    kept: list[float | str | None] = []
    for value in np.asarray(values, dtype=float).tolist():
        if math.isnan(value):
            kept.append(None)
        elif math.isinf(value):
            kept.append("inf" if value > 0 else "-inf")
        else:
            short = _significant(value)
            kept.append(int(short) if short.is_integer() and abs(short) < 1e15 else short)
    return kept
