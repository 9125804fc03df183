"""Stained plates to annotated patches: measure, gate, decide, let a person's word go first, and show it all."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from plates.annotation.channels import SPELLED, STAINS
from plates.annotation.gates import GATED, Gates, find_gates, read_gate
from plates.annotation.measure import MAX_RESIDUAL_UM, PlateMarkers, Progress, measure_plate
from plates.annotation.regions import Unit, read_regions, region_states
from plates.annotation.rule import LEAST_AREA, PURITY, UNDECIDED, apply_rule
from plates.annotation.table import counts, read_corrections, with_corrections, write_table
from plates.errors import MissingInputError, SettingsError
from plates.patches import PATCH_PX
from plates.states import STATES
from plates.store import open_plate

LEAST_WELLS = 3  # of a state: one to train, one to choose the epoch, one to test
MOST_REASONS = 4


@dataclass(frozen=True)
class Options:
    """How a plate is annotated; each is a key of a settings file and an option of the command.

    Attributes
    ----------
    hoechst_channel, annexin_channel, pi_channel
        Names of the channels, where they are not recognised.
    annexin, pi
        Gates set by hand, such as "350" or "300-400"; found from the controls unless given.
    frames, live_frames, dead_frames
        Timepoints to look at, and those at which live or dead states are given; all unless given.
    stride
        Distance of patches in pixels of 0.16 um.
    least_area, purity
        Share of a patch that cells must cover, and of its cell area that cells of one kind must cover.
    max_residual_um, believe_metadata
        Which placements of the fluorescence are used.
    per_state, seed
        Patches of each state on the page, and the draw of them.
    """

    hoechst_channel: str = ""
    annexin_channel: str = ""
    pi_channel: str = ""
    annexin: str = ""
    pi: str = ""
    frames: tuple[int, ...] | None = None
    live_frames: tuple[int, ...] | None = None
    dead_frames: tuple[int, ...] | None = None
    stride: int = PATCH_PX
    least_area: float = LEAST_AREA
    purity: float = PURITY
    max_residual_um: float = MAX_RESIDUAL_UM
    believe_metadata: bool = False
    per_state: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        _ = self.gates  # a wrong gate is told before anything is measured
        for name, low, high in (("stride", 16, PATCH_PX), ("least_area", 0.01, 1), ("purity", 0.51, 1)):
            if not low <= getattr(self, name) <= high:
                raise SettingsError(f"{name} is {getattr(self, name)}. Expected {low} to {high}.")

    @property
    def channels(self) -> dict[str, str]:
        """Stain -> channel as told."""
        return dict(zip(STAINS, (self.hoechst_channel, self.annexin_channel, self.pi_channel), strict=True))

    @property
    def gates(self) -> dict[str, tuple[float, float]]:
        """Marker -> gate set by hand."""
        told = {"annexin_v": ("--annexin", self.annexin), "pi": ("--pi", self.pi)}
        return {marker: read_gate(text, option=option) for marker, (option, text) in told.items() if text}


@dataclass(frozen=True, eq=False)
class Annotation:
    """What an annotation made.

    Attributes
    ----------
    csv, page
        The table and the contact sheet.
    table
        One row a patch.
    warnings
        What is wrong with it, a sentence each.
    """

    csv: Path
    page: Path
    table: pd.DataFrame
    gates: Mapping[str, Gates]
    markers: PlateMarkers
    warnings: tuple[str, ...]


def read_options(path: Path | None, **given: Any) -> Options:
    """Options of a TOML file (or the defaults, without one) with those that were given (not None) over them.

    Raises
    ------
    SettingsError
        Names the key: unknown, or of another kind than expected.
    """
    values = {} if path is None else _read_file(path)
    return Options(**values | {key: value for key, value in given.items() if value is not None})


def annotate_plate(
    path: Path,
    *,
    out: Path | None = None,
    options: Options | None = None,
    corrections: Path | None = None,
    regions: Path | None = None,
    region_unit: Unit = "px",
    client: Any = None,
    progress: Progress | None = None,
) -> Annotation:
    """Give every patch of a stained plate a state or "undecided"; write the table and its contact sheet.

    What a person decided goes before regions, and regions before gates. Where the table is there already, what a
    person changed in it is kept.

    Parameters
    ----------
    path
        The plate's store.
    out
        The table to write; ``P012.annotations.csv`` beside the plate unless given. The page lies beside it.
    corrections
        A table that a person corrected; what lies at `out` unless given.
    regions
        GeoJSON file or folder of them.

    Raises
    ------
    SettingsError
        No state can be given at all: no usable stain and no regions, or controls that give no gate (then the page
        is written, for it shows why). Or a line of the corrections, a region or an option is wrong.
    """
    from reports.annotation import write_annotation_page

    options = options or Options()
    plate = open_plate(path)
    csv = out or path.with_name(f"{path.stem}.annotations.csv")
    if csv.suffix.casefold() != ".csv":
        raise SettingsError(f"{csv}: the table is a CSV file. Expected a name such as {csv.stem}.csv.")
    page = csv.with_suffix(".html")
    if corrections is not None and not corrections.is_file():
        raise MissingInputError(f"{corrections}: there is no table of corrections. Correct the path.")
    earlier = corrections or (csv if csv.exists() else None)
    drawn = read_regions(regions, plate=plate) if regions is not None else []
    if not plate.fluorescence and not drawn and earlier is None:
        raise SettingsError(
            f"{path}: the plate holds no fluorescence. Ingest acquisitions with Hoechst, annexin V and PI, "
            "draw regions (--regions), or write the states by hand (--corrections)."
        )
    markers = measure_plate(
        plate,
        channels=options.channels,
        frames=options.frames,
        stride=options.stride,
        max_residual_um=options.max_residual_um,
        believe_metadata=options.believe_metadata,
        client=client,
        progress=progress,
    )
    gates = find_gates(markers.cells, markers.wells, given=options.gates)
    table = apply_rule(
        markers,
        gates,
        least_area=options.least_area,
        purity=options.purity,
        live_frames=options.live_frames,
        dead_frames=options.dead_frames,
    )
    if drawn:
        table = with_corrections(table, region_states(drawn, plate=plate, table=table, unit=region_unit))
    if earlier is not None:
        table = with_corrections(table, read_corrections(earlier, plate=path, table=table))
    warnings = _warnings(table, gates, markers)
    decided = bool((table["state"] != UNDECIDED).any())
    write_annotation_page(
        plate,
        out=page,
        table=table,
        markers=markers,
        gates=gates,
        csv=csv if decided else None,
        warnings=warnings,
        per_state=options.per_state,
        seed=options.seed,
    )
    if not decided:
        raise SettingsError(
            f"{path}: no patch got a state, so no table was written. Why patches are undecided: {_reasons(table)}. "
            f"{' '.join([*warnings[:2], *markers.notes])} {_remedy(table)}{page} shows the markers and why."
        )
    write_table(table, csv, plate=path)
    return Annotation(csv=csv, page=page, table=table, gates=gates, markers=markers, warnings=tuple(warnings))


def describe(annotation: Annotation) -> list[str]:
    """What an annotation made, a line each."""
    table = annotation.table
    lines = [f"{annotation.csv}: {len(table)} patches."]
    held = counts(table)
    lines += [
        f"  {state!s:13} {number}" for state, number in zip(held["state"], held["patches"], strict=True) if number
    ]
    for marker, gates in annotation.gates.items():
        if (gate := gates.plate) is not None:
            ends = f"{gate.low:.0f} to {gate.high:.0f}" if gate.high > gate.low else f"{gate.low:.0f}"
            lines.append(f"  gate of {SPELLED[marker]}: {ends}")
    if reasons := _reasons(table):
        lines.append(f"  undecided: {reasons}. {_remedy(table)}".rstrip())
    lines += [f"  Warning: {text}" for text in (*annotation.warnings, *annotation.markers.notes)]
    lines.append(
        f"Look at {annotation.page} before you train. Next: tomoscreen train {annotation.csv} classifiers/NAME"
    )
    return lines


def _reasons(table: pd.DataFrame) -> str:
    """Why patches are undecided, the commonest reasons first, with their counts."""
    counted = table.loc[table["state"] == UNDECIDED, "rule"].value_counts().head(MOST_REASONS)
    return "; ".join(f"{number} {reason}" for reason, number in counted.items())


def _remedy(table: pd.DataFrame) -> str:
    """What helps where fluorescence is not used since nobody knows that it lies right."""
    if not table["rule"].str.startswith("placement").any():
        return ""
    return (
        "Placements that the images do not bear out are not used: --believe-metadata uses them as the instrument says. "
    )


def _warnings(table: pd.DataFrame, gates: Mapping[str, Gates], markers: PlateMarkers) -> list[str]:
    """What a person should mend or know before training on the table."""
    warnings = [f"No gate: {gates[marker].problem}." for marker in GATED if gates[marker].problem]
    warnings += [f"{note}; each timepoint has its own." for marker in GATED for note in gates[marker].notes]
    for marker in GATED:
        one = gates[marker]
        if one.given and one.plate is not None and not one.plate.inducer_share > one.plate.vehicle_share:
            warnings.append(
                f"The gate of {SPELLED[marker]} that was given does not tell the inducers' wells from the vehicle's."
            )
    roles = markers.wells.set_index("well")["role"]
    if not (roles == "negative").any():
        warnings.append("The plate map names no vehicle wells: no patch can be live-control.")
    if not (roles == "positive").any():
        warnings.append("The plate map names no wells with an inducer: no patch can have a dead state from markers.")
    per_state = table[table["state"] != UNDECIDED].groupby("state")["well"].nunique()
    absent = [state for state in STATES if state not in per_state]
    if absent:
        warnings.append(f"No patch is {' or '.join(absent)}.")
    few = [f"{state} ({wells})" for state, wells in per_state.items() if wells < LEAST_WELLS]
    if few:
        warnings.append(
            f"Fewer than three wells hold patches of {', '.join(few)}: training needs at least three wells a state, of "
            "this plate and others, so that each of train, validation and test has one."
        )
    return warnings


def _read_file(path: Path) -> dict[str, Any]:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(
            f'{path}: cannot be read as TOML ({error}). Expected lines such as annexin = "350".'
        ) from error
    raw = raw.get("annotation", raw)
    known = {item.name: getattr(Options(), item.name) for item in fields(Options)}
    for key in raw:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            told = f"Did you mean {near[0]!r}?" if near else f"Expected one of {', '.join(known)}."
            raise SettingsError(f"{path}: the key {key!r} is not known. {told}")
    return {key: _value(value, key, known[key], path) for key, value in raw.items()}


def _value(value: Any, key: str, like: Any, path: Path) -> Any:
    if key.endswith("frames"):
        good = isinstance(value, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in value)
        value, expected = (tuple(value) if good else value), "a list of timepoints such as [0, 1]"
    elif key in ("annexin", "pi"):
        good, expected = isinstance(value, str | int | float) and not isinstance(value, bool), 'such as "300-400"'
        value = str(value)
    else:
        kinds = (int, float) if isinstance(like, float) else (type(like),)
        good = isinstance(value, kinds) and isinstance(value, bool) == isinstance(like, bool)
        expected = f"such as {like!r}"
    if not good:
        raise SettingsError(f"{path}: {key} is {value!r}. Expected {expected}.")
    return value


def whole_numbers(text: str, *, option: str) -> tuple[int, ...]:
    """Read timepoints such as "0,1" or "30-36"."""
    found: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
    except ValueError:
        found = []
    if not found:
        raise SettingsError(f"{option} got {text!r}. Expected timepoints such as 0,1 or 30-36.")
    return tuple(found)
