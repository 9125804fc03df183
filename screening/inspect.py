"""What `tomoscreen inspect` shows: the plate as it was understood, a table that fits the screen, and what is wrong."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from plates.errors import AcquisitionError
from plates.ingest.inspection import InspectedFile, Inspection
from plates.ngff import row_name, well_position

MAX_ROWS = 30

_LISTED = 10
_LEGEND = {"#": "imaged", "+": "with gaps", "x": "unreadable", ".": "not imaged"}


def exit_code(inspection: Inspection) -> int:
    """0 where `tomoscreen ingest` takes the folder, if with warnings; else that of a bad acquisition."""
    return 0 if inspection.ingestible else AcquisitionError.exit_code


def print_inspection(inspection: Inspection, *, console: Console | None = None) -> None:
    """Print it: with colours and lines on a terminal, as plain text elsewhere.

    Up to 30 files have a line each; more are told by well, wells with the same content in one line.
    """
    console = console or Console()
    if not console.is_terminal:
        # a pipe has no width: nothing is to be wrapped or cut
        console = Console(file=console.file, width=240, no_color=True, highlight=False)
    _say(console, _headline(inspection), style="bold")
    if inspection.rows and inspection.fields:
        _say(console, draw_plate(inspection))
    if inspection.files:
        console.print(_table(inspection, lines=console.is_terminal))
    for kind, count in inspection.geometries.items():
        _say(console, f"{_count(count, 'file')}: {kind}")
    _list(console, "Left out", [f"{path}: {reason}" for path, reason in inspection.left_out])
    _list(console, "Warnings", inspection.warnings, style="yellow")
    _list(console, "Cannot be ingested as it is", inspection.blockers, style="red")
    if inspection.ingestible:
        _say(console, "Can be ingested." if not inspection.warnings else "Can be ingested, with these warnings.")


def draw_plate(inspection: Inspection) -> str:
    """Plate as text: a row a line, a sign a well."""
    signs = {well_position(well): sign for well, sign in _signs(inspection).items()}
    heads = [row_name(row) for row in range(inspection.rows)]
    margin = max(len(head) for head in heads) + 1
    ruler = "".join(str(column + 1).rjust(3) for column in range(inspection.columns))
    lines = [" " * margin + ruler]
    for row, head in enumerate(heads):
        cells = "".join(signs.get((row, column), ".").rjust(3) for column in range(inspection.columns))
        lines.append(head.ljust(margin) + cells)
    used = set(signs.values()) | {"."}
    lines.append("   ".join(f"{sign} {meaning}" for sign, meaning in _LEGEND.items() if sign in used))
    return "\n".join(lines)


def _signs(inspection: Inspection) -> dict[str, str]:
    readable = {file.well for file in inspection.files if not file.problem}
    gaps = {gap.well for gap in inspection.gaps}
    return {well: "x" if well not in readable else "+" if well in gaps else "#" for well in inspection.fields}


def _headline(inspection: Inspection) -> str:
    fields = sorted(set(inspection.fields.values()))
    of = f" of {inspection.rows * inspection.columns}" if inspection.rows else ""
    return (
        f"{inspection.folder}: {_count(len(inspection.fields), 'well')}{of}, "
        f"{'-'.join(str(number) for number in dict.fromkeys((fields[0], fields[-1])))} fields a well, "
        f"{_count(inspection.timepoints, 'timepoint')}, {_count(len(inspection.files), 'file')}, "
        f"{_bytes(inspection.total_bytes)} (read in {inspection.seconds:.1f} s)"
        if fields
        else f"{inspection.folder}: no acquisition understood (searched in {inspection.seconds:.1f} s)"
    )


def _table(inspection: Inspection, *, lines: bool) -> Table:
    by_file = len(inspection.files) <= MAX_ROWS
    heads = ["well", "field" if by_file else "fields", "timepoints", "format", "stored", "voxels (z, y, x)", "um"]
    heads += ["fluorescence", "recorded" if by_file else "files", "size", "file" if by_file else "problem"]
    table = Table() if lines else Table(box=None, pad_edge=False)
    for head in heads:
        right = head in ("field", "fields", "size", "files")
        table.add_column(head, justify="right" if right else "left", overflow="fold")
    rows = [_file_row(file) for file in inspection.files] if by_file else _well_rows(inspection.files)
    for row in rows[:MAX_ROWS]:
        table.add_row(*(Text(cell) for cell in row))
    if len(rows) > MAX_ROWS:
        table.add_row(Text(f"and {len(rows) - MAX_ROWS} more lines; --json has all"))
    return table


def _file_row(file: InspectedFile) -> list[str]:
    recorded = file.recorded.strftime("%Y-%m-%d %H:%M:%S") if file.recorded else "-"
    name = file.path.rpartition("/")[2] + (f" ({file.part})" if file.part else "")
    size = "-" if file.size_bytes is None else _bytes(file.size_bytes)
    return [file.well, str(file.field), _timepoints(file), *_content(file), recorded, size, name]


def _well_rows(files: Iterable[InspectedFile]) -> list[list[str]]:
    """Wells with equal content share a line."""
    wells: dict[str, list[InspectedFile]] = {}
    for file in files:
        wells.setdefault(file.well, []).append(file)
    alike: dict[tuple[str, ...], list[str]] = {}
    sizes: dict[tuple[str, ...], int] = {}
    for well, members in wells.items():
        numbers = sorted({timepoint for file in members for timepoint in file.timepoints})
        bad = sum(bool(file.problem) for file in members)
        contents = [_joined(column) for column in zip(*(_content(file) for file in members), strict=True)]
        key = (
            str(len({file.field for file in members})),
            _ranges(numbers),
            *contents,
            str(len(members)),
            f"{bad} of {len(members)} unreadable" if bad else "",
        )
        alike.setdefault(key, []).append(well)
        sizes[key] = sizes.get(key, 0) + sum(file.size_bytes or 0 for file in members)
    return [
        [_wells(names), *key[:-2], str(int(key[-2]) * len(names)), _bytes(sizes[key]), key[-1]]
        for key, names in alike.items()
    ]


def _content(file: InspectedFile) -> list[str]:
    if file.shape_zyx is None or file.voxel_um is None:
        return [file.file_format, "unreadable", "-", "-", "-"]
    return [
        file.file_format,
        file.stored or "-",
        " x ".join(str(size) for size in file.shape_zyx),
        " x ".join(f"{step:.4g}" for step in file.voxel_um),
        ", ".join(file.channels) or "-",
    ]


def _timepoints(file: InspectedFile) -> str:
    if file.problem:
        return "-"
    missing = file.planned - len(file.timepoints)
    return _ranges(file.timepoints) + (f" ({missing} of {file.planned} missing)" if missing else "")


def _ranges(numbers: Sequence[int]) -> str:
    """``(0, 1, 2, 5)`` -> ``"0-2, 5"``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs) or "-"


def _wells(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{names[0]} ... {names[-1]} ({len(names)} wells)"


def _joined(values: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(values))


def _list(console: Console, title: str, lines: Sequence[str], *, style: str = "") -> None:
    if not lines:
        return
    _say(console, f"{title}:", style=style)
    for line in lines[:_LISTED]:
        _say(console, f"  {line}")
    if len(lines) > _LISTED:
        _say(console, f"  and {len(lines) - _LISTED} more; --json has all")


def _say(console: Console, text: str, *, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
