"""What the reader of a plate map notes without refusing it, one sentence each."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter

import pandas as pd

from ..states import DEAD
from .problems import listed, shown
from .roles import COMBINATION

# Fewer vehicle wells than this say next to nothing about their own spread (a judgement, not a standard).
FEW_VEHICLES = 4
# Cells do not live in so much of anything; the stocks of libraries are of 10 mM.
STOCK = 1_000


def remarks(table: pd.DataFrame) -> list[str]:
    """Say what is worth a second look, in the order of how much harm it can do."""
    masked = table[table["masked"] != ""]
    table = table[table["masked"] == ""]
    vehicles = int((table["control"] == "negative").sum())
    treated = table[table["control"] == "none"]
    combined = table[table["control"] == COMBINATION]
    notes = []
    if len(masked):
        reasons = [f"{well} ({reason})" for well, reason in zip(masked["well"], masked["masked"], strict=True)]
        notes.append(f"Masked, hence not used: {listed(reasons)}.")
    if vehicles == 0:
        notes.append("No vehicle wells: death cannot be compared with untreated cells.")
    elif vehicles < FEW_VEHICLES:
        notes.append(f"Vehicle wells: only {vehicles}, which says little about their spread.")
    if not (table["control"] == "positive").any():
        notes.append("No positive controls: death cannot be given in percent of an inducer's.")
    notes.extend(_odd_names(table))
    notes.extend(_combined(combined, set(treated["compound"])))
    if len(treated) and not len(combined) and treated["dose"].isna().all():
        notes.append("No doses: read as a screen at one unknown dose, without dose-response curves.")
        return notes
    highest = float(treated["dose"].max())
    if highest > STOCK:
        notes.append(f"Doses go up to {highest:g} uM. Are they those of the stock rather than of the well?")
    doses = treated.groupby("compound")["dose"].nunique()
    if (doses == 1).any():
        notes.append(f"One dose only, hence no curve: {listed(list(doses.index[doses == 1]))}.")
    wells = treated.groupby(["compound", "dose"]).size()
    if (wells == 1).any():
        lone = [f"{compound} {dose:g} uM" for compound, dose in wells.index[wells == 1]]
        notes.append(f"A single well each: {listed(lone)}.")
    return notes


def _combined(combined: pd.DataFrame, alone: set[str]) -> list[str]:
    """What the wells of two compounds are used for, and which compounds cannot be told apart from their partners."""
    if combined.empty:
        return []
    # A with B and B with A are one pair
    pairs = Counter(tuple(sorted(pair)) for pair in zip(combined["compound"], combined["compound_2"], strict=True))
    told = [f"{first} + {second} ({wells} wells)" for (first, second), wells in pairs.items()]
    notes = [f"Two compounds in a well, judged as combinations and not in the compounds' own curves: {listed(told)}."]
    lacking = [name for name in dict.fromkeys([*combined["compound"], *combined["compound_2"]]) if name not in alone]
    if lacking:
        notes.append(f"Combined, but in no well by itself, so that nothing can be expected of it: {listed(lacking)}.")
    return notes


def _odd_names(table: pd.DataFrame) -> list[str]:
    notes = []
    spellings: dict[str, dict[str, int]] = {}
    for name, line in zip(table["compound"], table["line"], strict=True):
        key = "".join(unicodedata.normalize("NFKC", name).casefold().split())
        spellings.setdefault(key, {}).setdefault(name, line)
    for alike in spellings.values():
        if len(alike) > 1:
            places = " and ".join(f"{shown(name)} (line {line})" for name, line in alike.items())
            notes.append(f"Taken as different compounds, though they differ in spelling only: {places}.")
    months = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
    date = re.compile(rf"[0-9]{{1,2}}-(?:{months})(?:-[0-9]+)?|(?:{months})-[0-9]{{2}}", re.IGNORECASE)
    dates = [name for name in dict.fromkeys(table["compound"]) if date.fullmatch(name)]
    if dates:
        notes.append(f"Compounds that look like dates, as Excel makes them of names: {listed(dates)}.")
    inducers = dict.fromkeys(table["inducer"])
    for name in inducers:
        guess = difflib.get_close_matches(name.casefold(), DEAD, n=1, cutoff=0.8)
        if guess and name not in DEAD:
            notes.append(f"Inducer {shown(name)} is read as a name of its own. Did you mean '{guess[0]}'?")
    return notes
