"""Stored numbers as a reader wants to see them: few digits, a unit, the doubt, and words where no number exists."""

import math
import unicodedata
from collections.abc import Mapping
from typing import Any

from plates.states import STATES

MICROMOLAR = "\N{MICRO SIGN}M"
NOTHING = "\N{EM DASH}"
LONGEST_NAME = 60
# lower end of the effect at the top dose from which "no effect" would be the wrong words for "not proven"
CLEAR_EFFECT = 0.2
# what can be read on each state's colour
LETTER_INKS = {state: "#ffffff" if state == "necrosis" else "#111111" for state in STATES}


def ec50(fit: Mapping[str, Any]) -> str:
    """Tell a potency: a number with its interval, or in words why there is none.

    Parameters
    ----------
    fit
        One stored fit: `status`, `ec50`, `ec50_low`, `ec50_high` and the tested range `dose_min`, `dose_max`,
        all in micromolar; NaN where absent, infinite where an interval has no end.
    """
    status = str(fit["status"])
    if has_ec50(fit):
        return f"EC50 {concentration(fit['ec50'])} ({ec50_interval(fit)})"
    if status == "above_range":
        return f"not determined, EC50 > {concentration(_first_finite(fit['ec50_low'], fit['dose_max']))}"
    if status == "below_range":
        return f"not determined, EC50 < {concentration(_first_finite(fit['ec50_high'], fit['dose_min']))}"
    if status == "no_effect" and float(fit.get("emax_low", math.nan)) > CLEAR_EFFECT:
        return "not determined: with so few wells the effect may be chance"
    if status == "no_effect":
        return f"no effect up to {concentration(fit['dose_max'])}"
    reason = {
        "inverse": "fewer deaths than under vehicle",
        "single_point": "only the highest dose acts",
        "not_fitted": "too few doses or wells for a curve",
    }.get(status, plain(status.replace("_", " ")))
    return f"not determined: {reason}"


def has_ec50(fit: Mapping[str, Any]) -> bool:
    """Whether a stored fit holds a potency that may be printed as a number and drawn as a curve."""
    return str(fit["status"]) in ("quantified", "slope_at_bound", "biphasic") and 0 < fit["ec50"] < math.inf


def ec50_interval(fit: Mapping[str, Any]) -> str:
    """The interval of a potency, in its unit; an end that the data do not bound is said to be open."""
    low, high = float(fit["ec50_low"]), float(fit["ec50_high"])
    unit, factor = _unit(float(fit["ec50"]))
    if math.isfinite(low) and low > 0 and math.isfinite(high):
        return f"{number(low * factor)} to {number(high * factor)} {unit}"
    if math.isfinite(low) and low > 0:
        return f"above {number(low * factor)} {unit}, no upper bound"
    if math.isfinite(high):
        return f"below {number(high * factor)} {unit}, no lower bound"
    return "interval unbounded"


def half_time(row: Mapping[str, Any]) -> str:
    """When half of a compound's deaths had happened, with its interval; words where the frames do not tell.

    Parameters
    ----------
    row
        One ranked compound: `t_half`, `t_half_low`, `t_half_high` in hours and `t_half_status`.
    """
    if str(row["t_half_status"]) == "before_first":
        return "by the first frame"
    low, high = float(row["t_half_low"]), float(row["t_half_high"])
    return hours(row["t_half"]) + (f" ({between(low, high)})" if math.isfinite(low) and math.isfinite(high) else "")


def number(value: float, digits: int = 3) -> str:
    """A number with a few significant digits and no exponent where it can be avoided; a dash for NaN."""
    value = float(value)
    if math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "unbounded"
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def concentration(value: float) -> str:
    """A dose stored in micromolar, with the unit a chemist would write."""
    value = float(value)
    if not math.isfinite(value):
        return number(value)
    unit, factor = _unit(value)
    return f"{number(value * factor)} {unit}"


def _unit(value: float) -> tuple[str, float]:
    """Unit for a concentration of that size, and the factor from micromolar to it."""
    if 0 < value < 0.1:
        return "nM", 1000.0
    return ("mM", 0.001) if 1000 <= value < math.inf else (MICROMOLAR, 1.0)


def percent(fraction: float, digits: int = 0) -> str:
    """A fraction of one as percent; a dash for NaN."""
    return NOTHING if math.isnan(fraction) else f"{100 * float(fraction):.{digits}f} %"


def percent_interval(low: float, high: float) -> str:
    """An interval of fractions as percent; empty where there is none."""
    if math.isnan(low) or math.isnan(high):
        return ""
    return f"{100 * float(low):.0f} to {100 * float(high):.0f} %"


def between(low: float, high: float) -> str:
    """An interval of plain numbers; empty where there is none."""
    return "" if math.isnan(low) or math.isnan(high) else f"{number(low)} to {number(high)}"


def hours(value: float) -> str:
    """Hours since the first frame; a dash for NaN."""
    return NOTHING if math.isnan(float(value)) else f"{number(value)} h"


def plain(text: object, *, longest: int = LONGEST_NAME) -> str:
    """Text from a plate map made fit to be shown: one line, no control or direction characters, not endless.

    HTML escaping is the template's work. The CSV beside the page holds the whole text.
    """
    shown = "".join(
        character if unicodedata.category(character)[0] != "C" else "\N{REPLACEMENT CHARACTER}"
        for character in " ".join(str(text).split())
    )
    return shown if len(shown) <= longest else shown[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"


def in_figure(text: object) -> str:
    """Text for a plotly label, whose own small markup would otherwise turn `<a href>` into a live link."""
    return plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _first_finite(*values: float) -> float:
    return next((float(value) for value in values if math.isfinite(value) and value > 0), math.nan)
