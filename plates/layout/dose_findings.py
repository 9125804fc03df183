"""Whether dose series are what somebody meant to pipette: jumps of a thousand, gaps, doubles and near doubles."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from math import log10

import numpy as np
import pandas as pd

from .finding import Finding, dose_text, listed

# All in powers of ten. Doses written with three digits are alike up to NEAR; 1, 2, 5, 10 and 1, 3, 10 are
# even steps up to EVEN; a wrong unit is a factor of a thousand up to UNIT.
SAME = 1e-5
NEAR = 0.02
EVEN = 0.11
UNIT = 0.35
THOUSAND = 3.0
STOCK = 1000.0  # uM; few compounds dissolve at that in medium
CROWDED = 1.3  # 4 wells instead of 3 are one too many, 10 instead of 9 a matter of space
MOST_LACKING = 2  # doses that a series may lack of the usual ones and still be meant as such


@dataclass(frozen=True)
class _Series:
    """The doses of one compound: distinct ones in rising order (near doubles counted once), and all its wells."""

    compound: str
    doses: tuple[float, ...]
    wells: pd.DataFrame

    @property
    def steps(self) -> np.ndarray:
        """Powers of ten from each dose to the next."""
        steps: np.ndarray = np.diff(np.log10(self.doses))
        return steps


_Told = tuple[_Series, str]


def dose_findings(treated: pd.DataFrame) -> list[Finding]:
    """Findings about the doses of treated wells, one a rule; nothing where the map states no doses."""
    dosed = treated[treated["dose"] > 0]
    series = [_series(str(name), wells) for name, wells in dosed.groupby("compound", sort=False)]
    if not series:
        return []
    jumps, gaps, uneven = _odd_steps(series)
    named = {one.compound for one, _ in jumps}
    far = [(one, text) for one, text in _far_off(series) if one.compound not in named]
    wrong_unit = "Look whether some doses were written in nM and others in uM."
    return [
        *_finding("Doses that jump by about a thousand within a series", jumps, wrong_unit),
        *_finding("Doses about a thousand times those of the other compounds, or a thousandth", far, wrong_unit),
        *_finding("Dose series with a step unlike the others", uneven, "Look whether a dose was mistyped."),
        *_finding("Dose series that lack a dose", gaps, "Look whether its wells are missing or hold another dose."),
        *_finding("Doses so close that they are probably one", _near(series), "Write them as the same number."),
        *_finding(
            "Doses in more wells than the compound's other doses",
            _crowded(series),
            "Look whether one of these wells holds another dose or another compound.",
        ),
        *_stocks(series),
        *_single(series),
        *_lone_wells(series),
    ]


def _series(compound: str, wells: pd.DataFrame) -> _Series:
    doses: list[float] = []
    for dose in sorted(set(wells["dose"])):
        if not doses or log10(dose / doses[-1]) > NEAR:
            doses.append(float(dose))
    return _Series(compound, tuple(doses), wells)


def _odd_steps(series: list[_Series]) -> tuple[list[_Told], list[_Told], list[_Told]]:
    """Series with a jump of a thousand, with a gap of a whole number of steps, and with any other odd step."""
    jumps: list[_Told] = []
    gaps: list[_Told] = []
    uneven: list[_Told] = []
    usual_set = _usual_set(series)
    every_step = np.concatenate([one.steps for one in series])
    for one in series:
        if len(one.steps) < 2:
            continue
        # two steps do not say which of them is odd; the other compounds do
        usual = float(np.median(one.steps if len(one.steps) > 2 else every_step))
        odd = np.flatnonzero(np.abs(one.steps - usual) > EVEN)
        between = [f"{dose_text(one.doses[k])} to {dose_text(one.doses[k + 1])}" for k in odd]
        surplus = one.steps[odd] - usual
        lacking = sorted(usual_set - _rounded(one.doses))
        if len(odd) and (np.abs(surplus - THOUSAND) < UNIT).any():
            jumps.append((one, ", ".join(between)))
        elif usual_set and _rounded(one.doses) < usual_set and len(lacking) <= MOST_LACKING:
            gaps.append((one, "no " + ", ".join(dose_text(10**power) for power in lacking)))
        elif len(odd) and len(one.steps) - len(odd) >= max(2, len(odd)):
            multiple = (surplus > 0) & (np.abs(surplus / usual - np.round(surplus / usual)) * usual <= EVEN)
            (gaps if multiple.all() else uneven).append((one, f"{', '.join(between)}, usually {10**usual:.3g}-fold"))
    return jumps, gaps, uneven


def _usual_set(series: list[_Series]) -> set[float]:
    """Doses, in rounded powers of ten, that at least half of the compounds (and three) have in common; or none."""
    sets = Counter(frozenset(_rounded(one.doses)) for one in series if len(one.doses) > 2)
    common, number = max(sets.items(), key=lambda item: item[1], default=(frozenset(), 0))
    return set(common) if number >= max(3, sum(sets.values()) / 2) else set()


def _rounded(doses: tuple[float, ...]) -> set[float]:
    return {round(log10(dose), 2) for dose in doses}


def _far_off(series: list[_Series]) -> list[_Told]:
    """Compounds whose whole range lies a thousandfold off the usual one."""
    middles = np.array([float(np.mean(np.log10(one.doses))) for one in series])
    usual = float(np.median(middles))
    # without a usual range nothing is off it
    if len(series) < 3 or np.mean(np.abs(middles - usual) < 1) <= 0.5:
        return []
    return [
        (one, f"{dose_text(one.doses[0])} to {dose_text(one.doses[-1])}, others around {dose_text(10**usual)}")
        for one, middle in zip(series, middles, strict=True)
        if abs(abs(middle - usual) - THOUSAND) < UNIT
    ]


def _near(series: list[_Series]) -> list[_Told]:
    found = []
    for one in series:
        doses = sorted(set(one.wells["dose"]))
        pairs = [(a, b) for a, b in pairwise(doses) if SAME < log10(b / a) <= NEAR]
        if pairs:
            found.append((one, ", ".join(f"{a:.6g} and {b:.6g} uM" for a, b in pairs)))
    return found


def _crowded(series: list[_Series]) -> list[_Told]:
    """Series of one number of wells a dose, but for one or a few doses with more; not where most series are such."""
    found = []
    for one in series:
        # the same compound on another cell line is not a double
        sizes = Counter(zip(one.wells["dose"], one.wells["cell_line"], strict=True))
        usual, times = Counter(sizes.values()).most_common(1)[0]
        more = [f"{dose_text(dose)} in {size}" for (dose, _), size in sorted(sizes.items()) if size > CROWDED * usual]
        if more and len(sizes) > 2 and times > len(sizes) / 2:
            found.append((one, f"{', '.join(more)} wells, usually {usual}"))
    return found if len(found) <= max(1, len(series) / 2) else []


def _stocks(series: list[_Series]) -> list[Finding]:
    """Plate maps of libraries state the stock's concentration, not that over the cells."""
    high = [one for one in series if one.doses[-1] >= STOCK]
    if not high:
        return []
    top = dose_text(max(one.doses[-1] for one in high))
    what = f"{len(high)} of {len(series)} compounds reach {dose_text(STOCK)} or more, up to {top}, as stocks do."
    remedy = "Divide by the dilution into the well, or make sure that the unit is right."
    return [Finding("warning" if len(high) * 2 > len(series) else "note", what, (), remedy)]


def _single(series: list[_Series]) -> list[Finding]:
    single = [one for one in series if len(one.doses) == 1]
    if not single:
        return []
    wells = pd.concat([one.wells for one in single]).sort_values(["row", "column"])["well"]
    many = f"All {len(single)} compounds" if len(single) == len(series) else f"{len(single)} of {len(series)} compounds"
    what = f"{many} have one dose only, hence no curve: {listed(one.compound for one in single)}."
    return [Finding("note", what, tuple(wells), "Nothing, if it is meant as a screen at one dose.")]


def _lone_wells(series: list[_Series]) -> list[Finding]:
    sizes = [size for one in series for size in one.wells.groupby("dose").size()]
    lone = sum(size == 1 for size in sizes)
    if not lone:
        return []
    what = f"{lone} of {len(sizes)} doses have a single well, which cannot tell its own spread."
    return [Finding("note", what, (), "Nothing, if the replicates are on other plates.")]


def _finding(heading: str, told: list[_Told], remedy: str) -> list[Finding]:
    if not told:
        return []
    wells = pd.concat([one.wells for one, _ in told]).sort_values(["row", "column"])["well"]
    what = f"{heading}: {listed(f'{one.compound} ({text})' for one, text in told)}."
    return [Finding("warning", what, tuple(wells), remedy)]
