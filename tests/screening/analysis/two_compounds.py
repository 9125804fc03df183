"""A 96-well plate of two compounds in a matrix, from its plate map on; what they do together is written down here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from plates.layout import read_plate_map, well_name
from plates.results import write_result
from plates.states import DEAD, STATES

DOSES_A, DOSES_B = (0.1, 0.4, 1.6, 6.4), (0.3, 1.2, 4.8, 19.2)
EXCESS = 0.15  # over Bliss, of every combination
BASELINE = 0.04
CURVES = {"alpha": (0.8, 1.4, 0.6), "beta": (3.0, 1.6, 0.55)}  # EC50 (uM), slope, top
HEAD = "well,compound,dose (uM),control,inducer,compound 2,dose 2 (uM)"


def alone(name: str, dose: float) -> float:
    """Share of cells that a compound kills by itself."""
    ec50, hill, top = CURVES[name]
    return top / (1 + (ec50 / dose) ** hill) if dose > 0 else 0.0


def killed(a: float, b: float, *, excess: float = EXCESS) -> float:
    """Share of cells that both kill together."""
    one, other = alone("alpha", a), alone("beta", b)
    return one + other - one * other + (excess if a > 0 and b > 0 else 0.0)


def map_text(*, replicates: int = 3) -> str:
    """The plate map: vehicle, inducers, both compounds alone and together; half of the pairs named the other way."""
    held = ["DMSO,,negative,,,"] * 12
    held += [f"{pathway} inducer,10,positive,{pathway},," for pathway in DEAD for _ in range(4)]
    for number in range(replicates):
        held += [f"alpha,{dose},,,," for dose in DOSES_A] + [f"beta,{dose},,,," for dose in DOSES_B]
        for a in DOSES_A:
            held += [f"alpha,{a},,,beta,{b}" if number else f"beta,{b},,,alpha,{a}" for b in DOSES_B]
    # scattered, so that no row or column stands for a dose
    place = np.random.default_rng(5).permutation(96)[: len(held)]
    return "\n".join([HEAD, *(f"{well_name(k // 12, k % 12)},{text}" for k, text in zip(place, held, strict=True))])


def write_plate(folder: Path, *, excess: float = EXCESS, seed: int = 0) -> Path:
    """A plate that is converted and classified, as far as the analysis looks: three timepoints, two fields a well."""
    file = folder / "map.csv"
    file.write_text(map_text())
    layout = read_plate_map(file).to_dataset()
    rng = np.random.default_rng(seed)
    shape = (layout.sizes["well"], 2, 3, 9, 9)
    reached = np.array([0.2, 0.7, 1.0])
    state = np.empty(shape, dtype=int)
    for w in range(shape[0]):
        share, kind = _share(layout.isel(well=w), excess)
        for t in range(shape[2]):
            dead = rng.random((2, 9, 9)) < BASELINE + (1 - BASELINE) * share * reached[t]
            state[w, :, t] = np.where(dead, DEAD.index(kind), STATES.index("live-treated"))
    over = ("well", "field", "timepoint")
    coords = {"well": layout.well.values, "field": [0, 1], "timepoint": [0, 1, 2]}
    probabilities = xr.Dataset(
        {
            "probability": ((*over, "py", "px", "state"), np.eye(5, dtype=np.float32)[state]),
            "status": (over, np.ones(shape[:3], dtype=np.int8)),
        },
        coords={
            **coords,
            "hours": ("timepoint", [4.0, 10.0, 16.0]),
            "py_um": ("py", 12.8 + 25.6 * np.arange(9)),
            "px_um": ("px", 12.8 + 25.6 * np.arange(9)),
            "state": np.array(STATES, dtype=object),
        },
        attrs={"stride_px": 160, "um_per_px": 0.16},
    )
    full = np.full(shape[:3], 0.5)
    fields = xr.Dataset(
        {
            "status": (over, np.ones(shape[:3], dtype=np.int8)),
            **{name: (over, full + rng.normal(0, 0.01, shape[:3])) for name in ("focus", "confluency")},
        },
        coords=coords,
    )
    path = folder / "P1.results.zarr"
    for name, dataset in (("layout", layout), ("fields", fields), ("probabilities", probabilities)):
        write_result(path, name, dataset, provenance={})
    return path


def _share(well: xr.Dataset, excess: float) -> tuple[float, str]:
    """Share killed in a well at the end, and the pathway."""
    control, compound = str(well.control.item()), str(well.compound.item())
    if control == "negative":
        return 0.0, "apoptosis"
    if control == "positive":
        return 0.9, str(well.inducer.item())
    doses = {compound: float(well.dose), str(well.compound_2.item()): float(well.dose_2)}
    return killed(doses.get("alpha", 0.0), doses.get("beta", 0.0), excess=excess), "apoptosis"
