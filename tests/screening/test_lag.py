"""Lag: rows that survive a kill, and percentiles of what came while we watched."""

import csv
import math
from pathlib import Path

import numpy as np

from screening.lag import FrameLag, LagTable, percentiles


def row(number: int, *, file: str = "one.TCF", there_before: bool = False) -> FrameLag:
    times = dict.fromkeys(("acquired", "seen", "landed", "converted", "done"), "2026-03-02T09:00:00Z")
    return FrameLag(
        file=file,
        well="A01",
        field=0,
        timepoint=number,
        acquired_by="file",
        settling_s=1.0,
        waiting_s=0.5,
        converting_s=float(number),
        classifying_s=2.0,
        lag_s=3.5 + number,
        there_before=there_before,
        **times,
    )


def test_percentiles_leave_out_what_was_there_before() -> None:
    rows = [row(number) for number in range(20)] + [row(1000, there_before=True)]
    whole = {one.stage: one for one in percentiles(rows)}
    lags = [3.5 + number for number in range(20)]
    assert (whole["all"].p50, whole["all"].p95) == (np.median(lags), np.percentile(lags, 95))
    assert whole["settling"].p95 == 1.0
    assert all(math.isnan(one.p50) for one in percentiles(rows[20:]))


def test_a_later_session_adds_to_the_table_and_half_a_row_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "P1.lag.csv"
    LagTable(file).add([row(1), row(2)])
    with file.open("a") as handle:
        handle.write("half a ro")
    table = LagTable(file)
    table.add([row(3)])
    with file.open(newline="") as handle:
        read = list(csv.DictReader(handle))
    assert [one["timepoint"] for one in read] == ["1", "2", "3"]
    assert float(read[2]["lag_s"]) == 6.5


def test_no_spreadsheet_takes_a_file_name_for_a_formula(tmp_path: Path) -> None:
    file = tmp_path / "P1.lag.csv"
    LagTable(file).add([row(1, file="=cmd|' /C calc'!A0.TCF"), row(2, file='a,"b"\n.TCF')])
    with file.open(newline="") as handle:
        names = [one["file"] for one in csv.DictReader(handle)]
    assert names == ["'=cmd|' /C calc'!A0.TCF", 'a,"b" .TCF']
