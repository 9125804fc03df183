"""What the plate says of a population beside what flow cytometry says: agreement, and how late one is."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from plates.errors import MissingInputError, PlateMapError, SettingsError
from plates.layout.wells import parse_well, well_name
from plates.states import DEAD, STATES

from .agreement import COLUMNS, agreement

READOUTS = ("death", *STATES)
FEWEST_TIMES = 4  # of a well's courses, below which a lag has nothing to hold on to
_EXPECTED = (
    "Expected columns well, hours, at least one of death, " + ", ".join(STATES) + ", and plate where there are several."
)


def read_flow(path: Path) -> pd.DataFrame:
    """Read flow cytometry of wells, one row a well and time.

    Columns: `well`; `hours` since dosing, on the plate's clock; any of `death` (annexin V or PI positive share),
    `apoptosis`, `necroptosis`, `necrosis`, `live-control`, `live-treated`; `plate` where the file holds several. Shares
    are 0 to 1, or percent where the column's name ends in " %" or "_percent". Empty cells are missing. Other columns
    are not read.

    Returns
    -------
    DataFrame
        plate ("" where there is none), well ("A01"), hours, and a column for each readout in the file, 0 to 1.

    Raises
    ------
    SettingsError
        Names the line and the remedy.
    MissingInputError
        There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInputError(f"The flow cytometry {path} does not exist. Correct the path.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise SettingsError(f"{path.name} is not UTF-8 text. Save it as 'CSV UTF-8'.") from None
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=";" if first.count(";") > first.count(",") else ",")
    lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    header = [cell.strip().casefold() for cell in lines[0][1]] if lines else []
    readouts = {}
    for place, name in enumerate(header):
        plain = name.removesuffix("%").removesuffix("_percent").strip()
        if plain in READOUTS:
            readouts[plain] = (place, 0.01 if plain != name else 1.0)
    if "well" not in header or "hours" not in header or not readouts:
        raise SettingsError(f"{path.name}, line 1: {_EXPECTED} Got {', '.join(header) or 'nothing'}.")
    rows: list[dict[str, object]] = []
    seen: dict[object, int] = {}
    for number, cells in lines[1:]:
        cells = [*cells, *[""] * (len(header) - len(cells))]
        where = f"{path.name}, line {number}"
        row: dict[str, object] = {"plate": cells[header.index("plate")].strip() if "plate" in header else ""}
        try:
            row["well"] = well_name(*parse_well(cells[header.index("well")]))
        except PlateMapError as error:
            raise SettingsError(f"{where}: {error}") from None
        row["hours"] = _number(cells[header.index("hours")], where, "hours", least=0.0, most=1e4, missing=False)
        for name, (place, factor) in readouts.items():
            row[name] = factor * _number(cells[place], where, name, least=0.0, most=1 / factor, missing=True)
        key = (row["plate"], row["well"], row["hours"])
        if key in seen:
            raise SettingsError(
                f"{where}: this well and time stand in line {seen[key]} already. Remove one of the two."
            )
        seen[key] = number
        rows.append(row)
    return pd.DataFrame(rows, columns=["plate", "well", "hours", *readouts])


def compare_with_flow(
    fractions: xr.Dataset,
    flow: pd.DataFrame,
    *,
    plate: str = "",
    level: float = 0.95,
    draws: int = 400,
    seed: int = 0,
) -> xr.Dataset:
    """Agreement of a plate's fractions with flow cytometry of the same wells, and the lag between the two.

    The plate's course is read at the cytometer's times by a line between frames, never outside them.

    Parameters
    ----------
    fractions
        Group `fractions`, or anything with (well, timepoint) `death`, (well, timepoint, state) `fraction` and `hours`.
    flow
        As `read_flow` gives it; rows of other plates than `plate` are left out where the table names plates.
    level, draws, seed
        Of the intervals.

    Returns
    -------
    Dataset
        Group `flow`. (readout): `agreement.COLUMNS` with flow second (bias is flow minus label-free), `lag` with
        `lag_low`, `lag_high` (hours by which flow follows; NaN where it cannot be told) and `lag_status`. (pair): well,
        hours, and for each readout `label_free` and `flow` (pair, readout).
    """
    names = [name for name in READOUTS if name in flow]
    if plate and (flow["plate"] != "").any():
        flow = flow[flow["plate"] == plate]
    hours = fractions.hours.values.astype(float)
    wells = [str(name) for name in fractions.well.values]
    flow = flow[flow["well"].isin(wells)].sort_values(["well", "hours"]).reset_index(drop=True)
    place = np.array([wells.index(name) for name in flow["well"]], dtype=int)
    read = np.full((len(flow), len(names)), np.nan)
    told = flow[names].to_numpy(float).reshape(len(flow), len(names))
    result: dict[str, list[object]] = {column: [] for column in (*COLUMNS, "lag", "lag_low", "lag_high", "lag_status")}
    for number, name in enumerate(names):
        course = _course(fractions, name)
        for row in range(len(flow)):
            read[row, number] = _at(hours, course[place[row]], float(flow["hours"].iloc[row]))
        for column, value in agreement(read[:, number], told[:, number], level=level).items():
            result[column].append(value)
        lag = lag_between(
            [
                (hours, course[wells.index(str(well))], part["hours"].to_numpy(float), part[name].to_numpy(float))
                for well, part in flow.groupby("well")
            ],
            level=level,
            draws=draws,
            seed=seed,
        )
        for column, answer in zip(("lag", "lag_low", "lag_high", "lag_status"), lag, strict=True):
            result[column].append(answer)
    texts = ("status", "lag_status")
    return xr.Dataset(
        {
            **{
                column: ("readout", np.array(values, dtype=object if column in texts else float))
                for column, values in result.items()
            },
            "label_free": (("pair", "readout"), read, {"units": "1"}),
            "flow": (("pair", "readout"), told, {"units": "1"}),
            "pair_well": ("pair", flow["well"].to_numpy(object)),
            "pair_hours": ("pair", flow["hours"].to_numpy(float), {"units": "h"}),
        },
        coords={"readout": np.array(names, dtype=object)},
        attrs={"level": level},
    )


def lag_between(
    courses: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]],
    *,
    level: float = 0.95,
    draws: int = 400,
    seed: int = 0,
    steps: int = 81,
) -> tuple[float, float, float, str]:
    """Hours by which the second course follows the first, by cross-correlation pooled over wells.

    For each shift the first course is read, by a line between its frames, at the second one's times minus the shift;
    both are centred well by well over the times that overlap, and correlated over all wells. The lag is the shift of
    the highest correlation, inside its cell by a parabola. Shifts reach half of the time watched and need half of the
    second course's times, four at least. The interval resamples wells.

    Parameters
    ----------
    courses
        For each well: hours and values of the first course, hours and values of the second.

    Returns
    -------
    lag, low, high, status
        status: estimated; too_few_wells (fewer than three: no interval); at_border (the best shift is the largest one
        tried: no lag); not_computable (fewer than four times, or courses that do not vary).
    """
    nan = float("nan")
    kept = []
    for hours, values, times, others in courses:
        known, told = np.isfinite(values), np.isfinite(others)
        if known.sum() >= FEWEST_TIMES and told.sum() >= FEWEST_TIMES:
            kept.append((hours[known], values[known], times[told], others[told]))
    if not kept:
        return nan, nan, nan, "not_computable"
    reach = min(min(float(np.ptp(one[0])), float(np.ptp(one[2]))) for one in kept) / 2
    shifts = np.linspace(-reach, reach, steps)
    sums = np.array([_correlation_sums(one, shifts) for one in kept])  # (well, shift, xy xx yy)
    lag = _best(sums.sum(axis=0), shifts)
    if not np.isfinite(lag):
        return nan, nan, nan, "not_computable"
    if abs(lag) >= shifts[-1] - 1e-9:
        return nan, nan, nan, "at_border"
    if len(kept) < 3:
        return lag, nan, nan, "too_few_wells"
    rng = np.random.default_rng(seed)
    numbers = rng.multinomial(len(kept), np.full(len(kept), 1 / len(kept)), size=draws)
    lags = np.array([_best(np.tensordot(one, sums, axes=1), shifts) for one in numbers])
    lags = lags[np.isfinite(lags)]
    if not lags.size:
        return lag, nan, nan, "too_few_wells"
    low, high = (float(v) for v in np.quantile(lags, [0.5 - level / 2, 0.5 + level / 2]))
    return lag, low, high, "estimated"


def _correlation_sums(one: tuple[np.ndarray, ...], shifts: np.ndarray) -> np.ndarray:
    """Sums of products of a well's two centred courses at each shift; NaN where too few times overlap."""
    hours, values, times, others = one
    sums = np.full((shifts.size, 3), np.nan)
    for number, shift in enumerate(shifts):
        moved = times - shift
        inside = (moved >= hours[0] - 1e-9) & (moved <= hours[-1] + 1e-9)
        if inside.sum() < max(FEWEST_TIMES, times.size / 2):
            continue
        x = np.interp(moved[inside], hours, values)
        y = others[inside]
        x, y = x - x.mean(), y - y.mean()
        sums[number] = x @ y, x @ x, y @ y
    return sums


def _best(sums: np.ndarray, shifts: np.ndarray) -> float:
    known = np.isfinite(sums).all(axis=1) & (sums[:, 1] > 1e-12) & (sums[:, 2] > 1e-12)
    if not known.any():
        return float("nan")
    r = np.full(shifts.size, -np.inf)
    r[known] = sums[known, 0] / np.sqrt(sums[known, 1] * sums[known, 2])
    k = int(r.argmax())
    if not 0 < k < shifts.size - 1 or not np.isfinite(r[[k - 1, k + 1]]).all():
        # the border of what was tried
        return float(np.sign(shifts[k]) * shifts[-1]) if shifts[k] else 0.0
    bend = r[k - 1] - 2 * r[k] + r[k + 1]
    move = 0.5 * (r[k - 1] - r[k + 1]) / bend if bend < 0 else 0.0
    return float(shifts[k] + move * (shifts[1] - shifts[0]))


def _course(fractions: xr.Dataset, name: str) -> np.ndarray:
    if name == "death":
        if "death" in fractions:
            return np.asarray(fractions.death.transpose("well", "timepoint").values, dtype=float)
        return np.asarray(fractions.fraction.sel(state=list(DEAD)).sum("state", skipna=False).values, dtype=float)
    return np.asarray(fractions.fraction.sel(state=name).transpose("well", "timepoint").values, dtype=float)


def _at(hours: np.ndarray, course: np.ndarray, time: float) -> float:
    known = np.isfinite(course)
    if not known.any() or not hours[known][0] - 1e-6 <= time <= hours[known][-1] + 1e-6:
        return float("nan")
    return float(np.interp(time, hours[known], course[known]))


def _number(text: str, where: str, name: str, *, least: float, most: float, missing: bool) -> float:
    text = text.strip().replace(",", ".")
    if not text and missing:
        return float("nan")
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most * (1 + 1e-9):
        hint = " Name the column with ' %' where it holds percent." if missing and most == 1.0 else ""
        raise SettingsError(
            f"{where}: {name} {text!r} is no number from {least:g} to {most:g}.{hint} Correct the cell."
        )
    return value
