"""How simulated cells die: competing pathways with dose-dependent hazards, and the truth they leave.

The formulas live here on their own. A simulator that shared the analysis' dose-response code could not
catch its errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from plates.states import DEAD

RESPONSE = "response"
"""Name of the fourth hazard: a living cell that starts to show the treatment."""

NEVER = np.inf

# Hours from the first change of refractive index to annexin V and to PI, lower and upper end of a uniform
# draw. Necroptosis is seen in the index 2 to 4 h before the dyes; in apoptosis annexin V follows the
# blebs and PI comes hours later; in necrosis PI enters within the hour (doi 10.1002/aisy.202500633).
MARKER_DELAY_H = {
    "apoptosis": ((0.5, 1.5), (5.0, 9.0)),
    "necroptosis": ((2.0, 4.0), (2.0, 4.0)),
    "necrosis": ((0.3, 1.0), (0.3, 1.0)),
}


@dataclass(frozen=True)
class Hazard:
    """A rate of events per hour that rises with dose: maximum * d^slope / (d^slope + ec50^slope).

    `ec50_um` is the dose of half the maximal *rate*; the dose of half the deaths follows from it, from the
    time, and from the rivals, see `true_ec50`. `lag_h` is the time before any event.
    """

    ec50_um: float
    maximum_per_h: float
    slope: float = 1.5
    lag_h: float = 1.0

    def rate(self, dose_um: float) -> float:
        """Events per hour after the lag."""
        if dose_um <= 0:
            return 0.0
        return float(self.maximum_per_h / (1 + (self.ec50_um / dose_um) ** self.slope))


@dataclass(frozen=True)
class Compound:
    """A compound by what it does: a hazard for each pathway it triggers, one for the visible response.

    `granule_height` changes what the response looks like: instead of vacuoles and rings, granules gather
    above (1, apical) or below (-1, basal) the middle of the cell; 0 is the common response.
    """

    name: str
    hazards: dict[str, Hazard] = field(default_factory=dict)
    granule_height: float = 0.0

    def without(self, *pathways: str) -> "Compound":
        """Return the compound beside an inhibitor that turns pathways off."""
        return replace(self, hazards={key: value for key, value in self.hazards.items() if key not in pathways})


# What happens without any compound, per hour: a few percent of deaths over a day.
BACKGROUND_RATE = {"apoptosis": 0.0015, "necroptosis": 0.0002, "necrosis": 0.0008, RESPONSE: 0.0}


@dataclass(frozen=True)
class Fate:
    """What will happen to one cell: pathway, and the hours of its events after dosing (inf: never)."""

    pathway: str
    onset_h: float
    annexin_h: float
    pi_h: float
    response_h: float
    detach_h: float
    granule_height: float = 0.0

    def state(self, hours: float) -> str:
        """True state: the pathway from the first change of index on; else alive, with or without response."""
        if hours >= self.onset_h:
            return self.pathway
        return "live-treated" if hours >= self.response_h else "live-control"


def draw_fate(rng: np.random.Generator, compound: Compound | None, dose_um: float, *, stress: float = 1.0) -> Fate:
    """Let the hazards compete: the earliest event is the death; `stress` scales the background deaths."""
    onsets = []
    for pathway in DEAD:
        rate, lag = _rate_and_lag(compound, pathway, dose_um)
        treated = lag + rng.exponential() / rate if rate > 0 else NEVER
        background = rng.exponential() / (BACKGROUND_RATE[pathway] * stress)
        onsets.append(min(treated, background))
    winner = int(np.argmin(onsets))
    rate, lag = _rate_and_lag(compound, RESPONSE, dose_um)
    response = lag + rng.exponential() / rate if rate > 0 else NEVER
    onset = float(onsets[winner])
    annexin, pi = (rng.uniform(*span) for span in MARKER_DELAY_H[DEAD[winner]])
    if DEAD[winner] != "apoptosis":
        pi = annexin = max(annexin, pi)
    detach = onset + 6 + rng.exponential(40.0)
    height = compound.granule_height if compound is not None else 0.0
    return Fate(DEAD[winner], onset, onset + annexin, onset + pi, float(response), detach, height)


def expected_fractions(compound: Compound | None, doses_um: Sequence[float], hours: float) -> NDArray[np.float64]:
    """Share of cells in each state at a time, detached ones included; (dose, state).

    Cumulative incidence of competing risks, integrated on a fine time grid: each pathway takes its rate's
    share of the cells still alive. No closed form is used, for the lags differ.
    """
    steps = 4000
    times = (np.arange(steps) + 0.5) * hours / steps
    result = np.zeros((len(doses_um), 5))
    for row, dose in enumerate(doses_um):
        rates = np.zeros((3, steps))
        for number, pathway in enumerate(DEAD):
            rate, lag = _rate_and_lag(compound, pathway, dose)
            rates[number] = BACKGROUND_RATE[pathway] + np.where(times >= lag, rate, 0.0)
        total = rates.sum(axis=0) * hours / steps
        alive = np.exp(-(np.cumsum(total) - total / 2))
        result[row, :3] = (rates * alive).sum(axis=1) * hours / steps
        survivors = float(np.exp(-total.sum()))
        rate, lag = _rate_and_lag(compound, RESPONSE, dose)
        responded = 1 - np.exp(-rate * max(0.0, hours - lag))
        result[row, 3:] = survivors * (1 - responded), survivors * responded
    return result


def true_ec50(compound: Compound, hours: float) -> float:
    """Dose (uM) at which the expected death fraction is half-way between no dose and an endless dose.

    NaN where the compound adds less than 0.1 to the deaths of untreated cells: it has no effect to halve.
    """
    low = expected_fractions(None, [0.0], hours)[0, :3].sum()
    high = expected_fractions(compound, [1e9], hours)[0, :3].sum()
    if high - low < 0.1:
        return float("nan")
    grid = np.logspace(-5, 5, 1001)
    deaths = expected_death(compound, grid, hours)
    above = int(np.argmax(deaths >= (low + high) / 2))
    left, right = np.log10(grid[above - 1]), np.log10(grid[above])
    share = ((low + high) / 2 - deaths[above - 1]) / (deaths[above] - deaths[above - 1])
    return float(10 ** (left + share * (right - left)))


def expected_death(compound: Compound, doses_um: NDArray[np.float64], hours: float) -> NDArray[np.float64]:
    """Expected death fraction of all pathways at each dose, in closed form: a total needs no rivals."""
    integral = np.full(len(doses_um), sum(BACKGROUND_RATE[pathway] for pathway in DEAD) * hours)
    for pathway in DEAD:
        hazard = compound.hazards.get(pathway)
        if hazard is not None:
            rates = np.array([hazard.rate(float(dose)) for dose in doses_um])
            integral += rates * max(0.0, hours - hazard.lag_h)
    deaths: NDArray[np.float64] = 1 - np.exp(-integral)
    return deaths


def dominant_pathway(compound: Compound, dose_um: float, hours: float) -> str:
    """Pathway with the largest expected excess of deaths over untreated cells, "none" below 0.1."""
    excess = expected_fractions(compound, [dose_um], hours)[0, :3] - expected_fractions(None, [0.0], hours)[0, :3]
    return DEAD[int(np.argmax(excess))] if excess.max() >= 0.1 else "none"


def random_compound(rng: np.random.Generator, name: str, *, pathway: str | None = None) -> Compound:
    """A compound of a screening library: mostly one pathway, some a little of another, some inert.

    Potencies are log-uniform over 0.05 to 20 uM; a living cell responds at a third of the killing dose.
    """
    if pathway is None:
        pathway = str(rng.choice([*DEAD, "none"], p=[0.32, 0.28, 0.28, 0.12]))
    ec50 = float(10 ** rng.uniform(np.log10(0.05), np.log10(20)))
    hazards = {RESPONSE: Hazard(ec50 / 3, rng.uniform(0.25, 0.5), 1.5, 0.5)}
    if pathway != "none":
        slope = rng.uniform(1.2, 2.5)
        hazards[pathway] = Hazard(ec50, rng.uniform(0.12, 0.3), slope, rng.uniform(0.5, 2.5))
        if rng.random() < 0.35:
            rival = str(rng.choice([other for other in DEAD if other != pathway]))
            hazards[rival] = Hazard(ec50 * rng.uniform(1, 6), rng.uniform(0.01, 0.05), slope, 2.0)
    return Compound(name, hazards)


def _rate_and_lag(compound: Compound | None, name: str, dose_um: float) -> tuple[float, float]:
    hazard = compound.hazards.get(name) if compound is not None else None
    return (hazard.rate(dose_um), hazard.lag_h) if hazard is not None else (0.0, 0.0)
