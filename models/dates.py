"""The day on which each annotated patch was recorded: the table's own, or what the instrument noted."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from plates.errors import TomoscreenError
from plates.results import read_result

# A lapse that runs past midnight is one recording; a plate imaged again after a night is another.
PAUSE_H = 6.0


def dates_of(table: pd.DataFrame) -> npt.NDArray[np.str_]:
    """Date of recording of every row, "" where nobody noted it.

    The column `date` comes first, whatever its text. Without one the date is the day on which the recording
    of the row's well began, as `tomoscreen ingest` stored it: wells of a plate whose recordings overlap, or
    follow each other within six hours, were recorded together and share a date, also past midnight.

    Parameters
    ----------
    table
        As `read_annotations` returns it.
    """
    if "date" in table:
        return table["date"].fillna("").astype(str).str.strip().to_numpy(dtype=str)
    dates = np.full(len(table), "", dtype="U10")
    for path in table["plate"].unique():
        days = _recording_days(_stored_times(Path(str(path))))
        here = (table["plate"] == path).to_numpy()
        dates[here] = [days.get(str(well), "") for well in table["well"][here]]
    return dates


def _recording_days(times: pd.DataFrame) -> dict[str, str]:
    """Well -> day on which its recording began, as 2026-03-02."""
    known = times.dropna(subset=["acquired"])
    if known.empty:
        return {}
    spans = known.groupby("well")["acquired"].agg(["min", "max"]).sort_values("min")
    days: dict[str, str] = {}
    began, end = spans["min"].iloc[0], spans["max"].iloc[0]
    for well, first, last in spans.itertuples():
        if first > end + pd.Timedelta(hours=PAUSE_H):
            began, end = first, last
        end = max(end, last)
        days[str(well)] = f"{began:%Y-%m-%d}"
    return days


def _stored_times(path: Path) -> pd.DataFrame:
    try:
        acquired = read_result(path, "fields")["acquired"]
    except (TomoscreenError, KeyError):
        # a plate that was not ingested by this program, or long ago: its dates are not known
        return pd.DataFrame({"well": [], "acquired": pd.to_datetime([])})
    times: pd.DataFrame = acquired.to_dataframe().reset_index()[["well", "acquired"]]
    return times
