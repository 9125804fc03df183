"""How the EC50 moves with time: the same curve fitted at every frame."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .curves import fit_curves

Array: TypeAlias = NDArray[Any]

NUMBERS = ("ec50", "ec50_low", "ec50_high", "ec50_fit", "emax", "emax_low", "emax_high")


def ec50_over_time(
    dose: Array,
    compound: Array,
    vehicle: Array,
    courses: Array,
    *,
    level: float = 0.95,
    minimum_effect: float = 0.1,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """Fit each compound at each frame; all frames of all compounds with the same doses at once.

    Under a constant hazard the dose that has killed half moves down with time although nothing about the compound
    changes: an EC50 is a statement about a time, and the course of it is the statement about the compound.

    Parameters
    ----------
    dose, compound, vehicle
        (well,) uM, name, and whether the well holds vehicle only.
    courses
        (well, time) excess death; NaN where missing. Wells with a gap at a frame are left out of that frame.
    level, minimum_effect, seed
        As in `fit_curves`.

    Returns
    -------
    dict
        Compound to table, one row a frame: ec50 with `_low`, `_high` (0 or inf where unbounded, NaN where there is
        no curve), `ec50_fit`, emax with interval, status.
    """
    names = list(dict.fromkeys(compound[~vehicle]))
    controls = np.flatnonzero(vehicle)
    designs: dict[tuple[float, ...], list[tuple[str, Array]]] = {}
    for name in names:
        wells = np.flatnonzero((compound == name) & ~vehicle & (dose > 0) & np.isfinite(dose))
        wells = wells[np.argsort(dose[wells], kind="stable")]
        designs.setdefault(tuple(np.round(np.log10(dose[wells]), 5)), []).append((name, wells))
    result = {}
    frames = courses.shape[1]
    for log_dose, members in designs.items():
        if not log_dose or not frames:
            result.update({name: _nothing(frames) for name, _ in members})
            continue
        points = np.r_[np.zeros(controls.size), 10.0 ** np.array(log_dose)]
        responses = np.concatenate([courses[np.r_[controls, wells]].T for _, wells in members])
        fitted = np.isfinite(responses).sum(axis=1) > 0
        table = _nothing(len(responses))
        if fitted.any():
            fits = fit_curves(
                points,
                np.where(np.isfinite(responses[fitted]), responses[fitted], np.nan),
                level=level,
                minimum_effect=minimum_effect,
                direction=1,
                fractions=True,
                seed=seed,
            )
            for column in table:
                table.loc[fitted, column] = fits[column].to_numpy()
        for number, (name, _) in enumerate(members):
            result[name] = table.iloc[number * frames : (number + 1) * frames].reset_index(drop=True)
    return result


def _nothing(count: int) -> pd.DataFrame:
    table = pd.DataFrame({name: np.full(count, np.nan) for name in NUMBERS})
    table["status"] = pd.Series(np.full(count, "not_fitted", dtype=object), dtype=object)
    return table
