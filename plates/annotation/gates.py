"""Gates: from which light on a cell counts as stained, found from the plate's own controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import SettingsError
from .channels import SPELLED

GATED = ("annexin_v", "pi")
FEWEST_CELLS = 20  # of vehicle wells, and of stained cells in the inducers' wells
# Of the way from the gate to the middle of either group: what lies so near to the gate is left undecided.
GREY = 0.25
LEAST_SEPARATION = 2.0  # in standard deviations; below it a gate would call one cell in forty wrong on either side
LEAST_EXCESS = 0.05  # share of stained cells that the inducers' wells must have more than the vehicle's
DRIFT = 1.5  # ratio of the gates of two timepoints from which each timepoint has its own

_LINEAR = 0.02
_TIGHTEST = 0.1

_Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Gate:
    """Light in camera units above the background: negative up to `low`, positive from `high`, undecided between.

    Attributes
    ----------
    separation
        Distance of the middles of the two groups from the gate, in standard deviations of each; NaN for a gate that
        was given.
    vehicle_share, inducer_share
        Share of the vehicle's and of the inducers' cells above the gate; NaN where there are none.
    """

    low: float
    high: float
    separation: float = float("nan")
    vehicle_share: float = float("nan")
    inducer_share: float = float("nan")


@dataclass(frozen=True)
class Gates:
    """The gates of one marker.

    Attributes
    ----------
    plate
        Of the whole plate; None where none could be found.
    at
        Timepoint -> its own gate; empty where one serves all.
    problem
        Why there is no gate, or "".
    notes
        What should be known of it.
    given
        Whether it was set by hand.
    """

    plate: Gate | None
    at: Mapping[int, Gate] = field(default_factory=dict)
    problem: str = ""
    notes: tuple[str, ...] = ()
    given: bool = False

    def of(self, timepoint: int) -> Gate | None:
        """Gate of a timepoint: its own, else that of the nearest timepoint, else the plate's."""
        if not self.at:
            return self.plate
        return self.at[min(self.at, key=lambda other: (abs(other - timepoint), other))]


def find_gates(
    cells: pd.DataFrame, wells: pd.DataFrame, *, given: Mapping[str, tuple[float, float]] | None = None
) -> dict[str, Gates]:
    """Gates of annexin V and PI from vehicle wells (unstained but for a few) and wells with an inducer.

    Light is taken on the scale asinh(light / s): linear around zero and logarithmic above, as in flow cytometry. s is
    the spread of the vehicle's cells, and at least 2 % of bright ones, so that bleed-through from another stain stays
    in the linear part. Otsu's threshold over both kinds of wells divides the groups; the gate lies where it is equally
    many standard deviations (by median and MAD, so that the few spontaneous deaths of vehicle wells do not count) from
    the middle of the vehicle's unstained cells and from that of the inducers' stained cells. A quarter of the way from
    it to either middle is grey.

    Parameters
    ----------
    cells
        One row a cell: well, timepoint, annexin_v, pi (light above the background; NaN is left out).
    wells
        One row a well: well, role.
    given
        Marker -> (low, high) set by hand, which need no controls.

    Returns
    -------
    dict
        "annexin_v" and "pi"; without a usable gate the entry says why.
    """
    role = cells["well"].map(dict(zip(wells["well"], wells["role"], strict=True)))
    found = {}
    for marker in GATED:
        light = cells[marker].to_numpy(float)
        seen = np.isfinite(light)
        negative, positive = (seen & (role == name).to_numpy() for name in ("negative", "positive"))
        if given and marker in given:
            low, high = checked(given[marker], marker)
            found[marker] = Gates(_with_shares(Gate(low, high), light[negative], light[positive]), given=True)
        else:
            found[marker] = _found(light, negative, positive, cells["timepoint"].to_numpy(int), marker)
    return found


def read_gate(text: str, *, option: str) -> tuple[float, float]:
    """Read "350", or "300-400" with a grey zone between the two."""
    try:
        numbers = [float(part) for part in text.split("-")]
        if len(numbers) not in (1, 2):
            raise ValueError
    except ValueError:
        raise SettingsError(
            f"{option} got {text!r}. Expected the light above the background from which a cell is stained, such as "
            "350, or 300-400 to leave what lies between undecided."
        ) from None
    return checked((numbers[0], numbers[-1]), option)


def checked(gate: tuple[float, float], name: str) -> tuple[float, float]:
    """A gate that rises and is finite and above zero."""
    if not 0 < gate[0] <= gate[1] < float("inf"):
        raise SettingsError(
            f"{SPELLED.get(name, name)}: the gate is {gate[0]:g} to {gate[1]:g}. Expected camera units above the "
            "background, above 0 and rising, such as 300-400."
        )
    return gate


def _found(
    light: _Floats, negative: NDArray[np.bool_], positive: NDArray[np.bool_], timepoint: NDArray[np.int_], marker: str
) -> Gates:
    name = SPELLED[marker]
    if not np.isfinite(light).any():
        return Gates(None, problem=f"no cell has a value of {name}")
    for kind, chosen in (("vehicle", negative), ("an inducer", positive)):
        if chosen.sum() < FEWEST_CELLS:
            return Gates(
                None,
                problem=f"{int(chosen.sum())} cells of wells with {kind} show {name}, where a gate needs "
                f"{FEWEST_CELLS}; give one (--{option(marker)}) or name the controls in the plate map",
            )
    gate, problem = _gate(light[negative], light[positive])
    if gate is None:
        return Gates(None, problem=f"{name}: {problem}")
    own = {}
    for moment in np.unique(timepoint):
        now = timepoint == moment
        if (negative & now).sum() >= FEWEST_CELLS and (positive & now).sum() >= FEWEST_CELLS:
            at_moment, _ = _gate(light[negative & now], light[positive & now])
            if at_moment is not None:
                own[int(moment)] = at_moment
    middles = [np.sqrt(one.low * one.high) for one in own.values()]
    if len(own) > 1 and max(middles) > DRIFT * min(middles):
        note = f"{name} drifts: gates of single timepoints lie from {min(middles):.0f} to {max(middles):.0f}"
        return Gates(gate, at=own, notes=(note,))
    return Gates(gate)


def option(marker: str) -> str:
    """Name of the option that sets a marker's gate."""
    return {"annexin_v": "annexin", "pi": "pi"}[marker]


def _gate(vehicle: _Floats, inducer: _Floats) -> tuple[Gate | None, str]:
    """The gate between unstained cells of the vehicle and stained ones of the inducers, or why there is none."""
    from skimage.filters import threshold_otsu

    spread = max(_spread(vehicle), _LINEAR * float(np.quantile(inducer, 0.95)), 1.0)
    unstained, both = np.arcsinh(vehicle / spread), np.arcsinh(np.concatenate([vehicle, inducer]) / spread)
    if np.ptp(both) == 0:
        return None, "all cells are equally bright"
    cut = float(threshold_otsu(both))  # type: ignore[no-untyped-call]
    stained = np.arcsinh(inducer / spread)
    stained, unstained = stained[stained > cut], unstained[unstained <= cut]
    if len(stained) < FEWEST_CELLS or len(unstained) < FEWEST_CELLS:
        return None, f"only {len(stained)} cells of the inducers' wells are brighter than those of the vehicle"
    middle_off, middle_on = float(np.median(unstained)), float(np.median(stained))
    apart = middle_on - middle_off
    spreads = [max(_spread(group), 1e-3) for group in (unstained, stained)]
    separation = apart / sum(spreads)
    # a group that is far tighter than the groups are apart must not draw the gate to its own edge: it has tails
    off, on = (max(spread, _TIGHTEST * apart) for spread in spreads)
    at = middle_off + apart * off / (off + on)
    gate = Gate(
        low=float(spread * np.sinh(at - GREY * (at - middle_off))),
        high=float(spread * np.sinh(at + GREY * (middle_on - at))),
        separation=separation,
    )
    gate = _with_shares(gate, vehicle, inducer)
    if separation < LEAST_SEPARATION or gate.low <= 0:
        return None, (
            f"controls do not separate (stained and unstained cells lie {separation:.1f} standard deviations from "
            f"the gate, {LEAST_SEPARATION:g} are needed)"
        )
    if gate.inducer_share < gate.vehicle_share + LEAST_EXCESS:
        return None, (
            f"controls do not separate ({gate.vehicle_share:.0%} of the vehicle's cells are above the gate and "
            f"{gate.inducer_share:.0%} of the inducers')"
        )
    return gate, ""


def _with_shares(gate: Gate, vehicle: _Floats, inducer: _Floats) -> Gate:
    shares = [float(np.mean(cells >= gate.high)) if len(cells) else float("nan") for cells in (vehicle, inducer)]
    return Gate(gate.low, gate.high, gate.separation, *shares)


def _spread(values: _Floats) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
