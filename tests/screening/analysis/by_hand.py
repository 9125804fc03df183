"""Fractions of plates whose truth is written down here, with the noise of patches and fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from plates.states import DEAD, STATES

DOSES = tuple(float(dose) for dose in np.geomspace(0.03, 30, 6))
Kill = Mapping[str, tuple[float, float, float]]  # pathway -> EC50 (uM), hill, share killed at infinite dose


def fractions_of(
    compounds: Mapping[str, Kill],
    *,
    doses: Sequence[float] = DOSES,
    replicates: int = 2,
    vehicle: int = 16,
    inducers: int = 4,
    hours: Sequence[float] = (4.0, 8.0, 12.0, 16.0),
    half_time: float = 6.0,
    baseline: float = 0.03,
    effective: float = 60.0,
    seed: int = 0,
) -> xr.Dataset:
    """One plate: vehicle, `inducers` wells of a control for each pathway, every compound at every dose.

    A well's states scatter like those of `effective` independent patches; death approaches its final value
    with `half_time` hours, the same for all compounds.
    """
    rng = np.random.default_rng(seed)
    wells: list[tuple[str, float, str, str, int, dict[str, float]]] = []
    wells += [("DMSO", 0.0, "negative", "", k + 1, {}) for k in range(vehicle)]
    for pathway in DEAD:
        wells += [(f"{pathway} inducer", np.nan, "positive", pathway, k + 1, {pathway: 0.92}) for k in range(inducers)]
    for name, kill in compounds.items():
        for dose in doses:
            killed = {p: top / (1 + (ec50 / dose) ** hill) for p, (ec50, hill, top) in kill.items()}
            wells += [(name, dose, "none", "", k + 1, killed) for k in range(replicates)]
    reached = 1 - 0.5 ** (np.asarray(hours) / half_time)
    mean = np.zeros((len(wells), len(hours), len(STATES)))
    for w, (*_, killed) in enumerate(wells):
        for p, share in killed.items():
            mean[w, :, STATES.index(p)] = share * reached
    death = mean.sum(axis=-1, keepdims=True)
    mean = mean * (1 - baseline) + baseline / 3 * np.isin(STATES, DEAD)
    treated = np.array([bool(well[-1]) for well in wells])
    mean[..., 3] = np.where(treated[:, None], 0, 1) * (1 - baseline) * (1 - death[..., 0])
    mean[..., 4] = np.where(treated[:, None], 1, 0) * (1 - baseline) * (1 - death[..., 0])
    fraction = rng.dirichlet(np.ones(5), size=mean.shape[:2])
    for w in range(len(wells)):
        for t in range(len(hours)):
            fraction[w, t] = rng.dirichlet(np.maximum(mean[w, t], 1e-9) * (effective - 1))
    columns = 24
    position = np.arange(len(wells))
    well = [f"{chr(65 + i // columns)}{i % columns + 1:02d}" for i in position]
    text = {
        "compound": [row[0] for row in wells],
        "control": [row[2] for row in wells],
        "inducer": [row[3] for row in wells],
        "cell_line": ["HeLa"] * len(wells),
    }
    over_time = ("well", "timepoint")
    dead = fraction[..., : len(DEAD)].sum(axis=-1)
    return xr.Dataset(
        {
            "fraction": ((*over_time, "state"), fraction),
            "death": (over_time, dead),
            "patches": (over_time, np.full(dead.shape, 200)),
        },
        coords={
            "well": np.array(well, dtype=object),
            "timepoint": np.arange(len(hours)),
            "hours": ("timepoint", np.asarray(hours, dtype=float)),
            "state": list(STATES),
            "dose": ("well", [row[1] for row in wells]),
            "replicate": ("well", [row[4] for row in wells]),
            "row": ("well", position // columns),
            "column": ("well", position % columns),
            **{name: ("well", np.array(values, dtype=object)) for name, values in text.items()},
        },
    )
