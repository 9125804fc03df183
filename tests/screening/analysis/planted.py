"""Plates of 384 or 96 wells with faults planted in them: a gradient, dry edges, drift, and maps that lie wrongly."""

from __future__ import annotations

import numpy as np
import xarray as xr

from plates.states import DEAD, STATES

DOSES = tuple(float(dose) for dose in np.geomspace(0.03, 30, 8))
LAYOUTS = ("scattered", "columns", "unreplicated")


def planted_plate(
    *,
    layout: str = "scattered",
    shape: tuple[int, int] = (16, 24),
    vehicle: int = 32,
    inducers: int = 8,
    active: float = 0.6,
    effective: float = 60.0,
    edge: float = 0.0,
    gradient: float = 0.0,
    drift: float = 0.0,
    contaminated: int = 0,
    seed: int = 0,
) -> xr.Dataset:
    """Fractions of one plate at one timepoint, with the true death of every well as `true_death`.

    Parameters
    ----------
    layout
        "scattered": all wells at random, compounds in eight doses and three replicates. "columns": vehicle in
        the first column, inducers in the last, compounds at random. "unreplicated": one well a dose, series along the
        rows, controls in the outer columns.
    shape
        Rows and columns.
    vehicle, inducers
        Wells of vehicle, and of each pathway's inducer.
    active
        Share of compounds that kill.
    effective
        Patches as which a well's fractions scatter, beside a well's own scatter of 10 % of its odds.
    edge
        Extra death of surviving cells in the outermost wells, as a share of them.
    gradient
        Extra death of surviving cells in the last column against the first, as a share of them.
    drift
        The same for the well imaged last, which is done row by row, to and fro.
    contaminated
        Vehicle wells that hold an inducer.
    """
    rng = np.random.default_rng(seed)
    number = shape[0] * shape[1]
    place = rng.permutation(number)
    columns = np.arange(number) % shape[1]
    if layout == "columns":
        at_random = place[(columns[place] > 0) & (columns[place] < shape[1] - 1)]
        first, last = (rng.permutation(np.flatnonzero(columns == end)) for end in (0, shape[1] - 1))
        vehicle, inducers = first.size, last.size // len(DEAD)
        place = np.concatenate([first, last[: inducers * len(DEAD)], at_random])
    if layout == "unreplicated":
        outer = np.flatnonzero((columns < 2) | (columns >= shape[1] - 2))
        inner = np.flatnonzero((columns >= 2) & (columns < shape[1] - 2))
        vehicle, inducers = outer.size // 2, outer.size // 2 // len(DEAD)
        place = np.concatenate([rng.permutation(outer)[: vehicle + inducers * len(DEAD)], inner])
    kinds: list[tuple[str, float, str, str, int]] = [("DMSO", 0.0, "negative", "", k) for k in range(vehicle)]
    for pathway in DEAD:
        kinds += [(f"{pathway} inducer", np.nan, "positive", pathway, k) for k in range(inducers)]
    replicates = 1 if layout == "unreplicated" else 3
    treated = (place.size - len(kinds)) // (len(DOSES) * replicates)
    killers = {}
    for compound in range(treated):
        name = f"compound {compound}"
        killers[name] = (rng.choice(len(DEAD)), 10 ** rng.uniform(-1, 1.2), rng.uniform(1, 3), rng.random() < active)
        kinds += [(name, dose, "none", "", k) for dose in DOSES for k in range(replicates)]
    place = place[: len(kinds)]
    row, column = place // shape[1], place % shape[1]

    killed = np.zeros((len(kinds), len(DEAD)))
    for w, (name, dose, control, pathway, _) in enumerate(kinds):
        if control == "positive" or (control == "negative" and w < contaminated):
            killed[w, DEAD.index(pathway) if pathway else 0] = 0.9
        elif name in killers and killers[name][3]:
            which, ec50, hill, _ = killers[name]
            killed[w, which] = 0.9 / (1 + (ec50 / dose) ** hill)
    along = np.where(row % 2 == 0, column, shape[1] - 1 - column) + row * shape[1]
    rim = (row == 0) | (row == shape[0] - 1) | (column == 0) | (column == shape[1] - 1)
    extra = edge * rim + gradient * column / (shape[1] - 1) + drift * along / (number - 1)
    death = killed + (1 - killed.sum(axis=1, keepdims=True)) * 0.04 / 3  # background, all pathways alike
    true_death = death.sum(axis=1)
    death = death + (1 - true_death)[:, None] * extra[:, None] * np.array([0.2, 0.0, 0.8])
    alive = 1 - death.sum(axis=1)
    untreated = np.array([kind[2] == "negative" for kind in kinds])
    mean = np.column_stack([death, np.where(untreated, alive, 0), np.where(untreated, 0, alive)])
    odds = np.maximum(mean, 1e-6) * np.exp(rng.normal(0, 0.1, mean.shape))
    odds /= odds.sum(axis=1, keepdims=True)
    fraction = np.stack([rng.dirichlet(one * effective) for one in odds])[:, None]
    over_time = ("well", "timepoint")
    text = {
        "compound": [kind[0] for kind in kinds],
        "control": [kind[2] for kind in kinds],
        "inducer": [kind[3] for kind in kinds],
        "cell_line": ["HeLa"] * len(kinds),
    }
    return xr.Dataset(
        {
            "fraction": ((*over_time, "state"), fraction),
            "death": (over_time, fraction[..., : len(DEAD)].sum(axis=-1)),
            "patches": (over_time, np.full(fraction.shape[:2], 200)),
            "true_death": ("well", true_death),
            "order": ("well", along),
        },
        coords={
            "well": np.array([f"{chr(65 + r)}{c + 1:02d}" for r, c in zip(row, column, strict=True)], dtype=object),
            "timepoint": [0],
            "hours": ("timepoint", [24.0]),
            "state": list(STATES),
            "dose": ("well", [kind[1] for kind in kinds]),
            "replicate": ("well", [kind[4] + 1 for kind in kinds]),
            "row": ("well", row),
            "column": ("well", column),
            **{name: ("well", np.array(values, dtype=object)) for name, values in text.items()},
        },
    )


def laid_wrongly(plate: xr.Dataset, way: str, shape: tuple[int, int] = (16, 24)) -> xr.Dataset:
    """The same measurements under a plate map that does not lie as the plate did; wells without a value are NaN.

    `way`: "turned", "shifted" (the plate lay one column further right than the map says), "transposed" (rows and
    columns exchanged), or "columns a b".
    """
    row, column = plate.row.values, plate.column.values
    if way == "turned":
        down, right = shape[0] - 1 - row, shape[1] - 1 - column
    elif way == "shifted":
        down, right = row, column + 1
    elif way == "transposed":
        down, right = column, row
    else:
        one, other = (int(part) for part in way.split()[1:])
        swapped = {one: other, other: one}
        down, right = row, np.array([swapped.get(c, c) for c in column])
    index = {place: well for well, place in enumerate(zip(row, column, strict=True))}
    source = np.array([index.get(place, -1) for place in zip(down, right, strict=True)])
    moved = plate.copy(deep=True)
    for name in ("fraction", "death"):
        values = plate[name].values[source]
        values[source < 0] = np.nan
        moved[name] = (plate[name].dims, values)
    return moved


def fields_at(plate: xr.Dataset, *, fields: int = 4, seed: int = 0) -> xr.Dataset:
    """Group `fields` of a plate: two minutes a well in the order `order`, sound in every way."""
    rng = np.random.default_rng(seed)
    dims = ("well", "field", "timepoint")
    shape = (plate.sizes["well"], fields, plate.sizes["timepoint"])
    minutes = 2 * plate.order.values[:, None, None] + 0.5 * np.arange(fields)[:, None] + np.zeros(shape)
    start = np.datetime64("2024-05-06T08:00", "ns")
    return xr.Dataset(
        {
            "focus": (dims, 10 + rng.normal(0, 0.5, shape)),
            "medium_index": (dims, 1.337 + rng.normal(0, 0.0002, shape)),
            "confluency": (dims, np.clip(0.5 + rng.normal(0, 0.1, shape), 0.1, 1)),
            "missing_share": (dims, np.zeros(shape)),
            "status": (dims, np.ones(shape, dtype=np.int8)),
            "acquired": (dims, start + (minutes * 60e9).astype("timedelta64[ns]")),
        },
        coords={"well": plate.well.values, "field": range(fields), "timepoint": plate.timepoint.values},
    )
