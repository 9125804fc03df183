"""Lines of cells to what each well's cells say: the same for a table with a line per well and for grids."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .columns import Columns, DoseHeader, name_columns
from .grids import Grid, read_grids, starts_grid
from .problems import Problems
from .text import Lines
from .wells import well_name


@dataclass
class Entry:
    """What the file says about one well: the text for each role ("well", "dose", ...), and where it stands."""

    line: int
    cells: dict[str, str]
    lines: dict[str, int] = field(default_factory=dict)

    def line_of(self, role: str) -> int:
        """Return the line that holds this; grids keep a well's quantities in several."""
        return self.lines.get(role, self.line)


@dataclass
class Table:
    """The file as understood.

    Attributes
    ----------
    entries
        One per well, in the order of the file.
    names
        For each role ("compound", "dose", ..., "compound_2", ...) the column's or grid's name, as written.
    dose, second
        What the dose's name says, and that of a second compound's dose.
    separator
        What separates cells in the file.
    shape
        Rows and columns of the plate, where the file shows them (grids do).
    notes
        What is worth a second look.
    """

    entries: list[Entry]
    names: dict[str, str]
    dose: DoseHeader
    second: DoseHeader
    separator: str
    shape: tuple[int, int] | None
    notes: list[str]


def read_table(lines: Lines, *, problems: Problems) -> Table:
    """Return what the lines say about each well; a fault of the names ends the reading."""
    if not lines.rows:
        problems.add(0, "is empty. Expected a line of column names and one line per well.")
        problems.stop()
    if starts_grid(lines.rows[0][1]):
        return _from_grids(lines, problems)
    (line, header), *body = lines.rows
    columns = name_columns(header, lines=[line] * len(header), noun="column", problems=problems)
    problems.stop()
    entries = []
    for line, cells in body:
        if len(cells) < len(header) or any(cells[len(header) :]):
            what = f"has {len(cells)} cells, but there are {len(header)} columns."
            problems.add(line, f"{what} Is a decimal comma read as a separator, or the line cut off?")
            continue
        well = cells[columns.roles["well"]] if "well" in columns.roles else ""
        if not _faults(lines, line, columns.roles.values(), well=well, problems=problems):
            entries.append(Entry(line, {role: cells[i] for role, i in columns.roles.items()}))
    names = {role: header[i] for role, i in columns.roles.items()}
    return _table(entries, names, columns, lines, shape=None)


def _from_grids(lines: Lines, problems: Problems) -> Table:
    grids = read_grids(lines.rows, problems=problems)
    for grid in grids:
        if not grid.name:
            problems.add(
                grid.line, "the grid has no name. Write what it holds, such as 'compound', into its top-left cell."
            )
    problems.stop()
    columns = name_columns(
        [grid.name for grid in grids], lines=[grid.line for grid in grids], noun="grid", problems=problems
    )
    problems.stop()
    used = {role: grids[i] for role, i in columns.roles.items()}
    shape = grids[0].shape
    entries = [
        entry
        for row in range(shape[0])
        for column in range(shape[1])
        if (entry := _entry(used, row, column, lines=lines, problems=problems)) is not None
    ]
    return _table(entries, {role: grid.name for role, grid in used.items()}, columns, lines, shape=shape)


def _entry(grids: dict[str, Grid], row: int, column: int, *, lines: Lines, problems: Problems) -> Entry | None:
    """Return what the grids say about a well, None where they leave it blank."""
    places = {role: grid.rows[row] for role, grid in grids.items()}
    well = well_name(row, column)
    faulty = [_faults(lines, line, [column + 1], well=well, problems=problems) for line, _ in places.values()]
    cells = {role: texts[column] for role, (_, texts) in places.items()}
    if any(faulty) or not any(cells.values()):
        return None
    numbers = {role: line for role, (line, _) in places.items()}
    return Entry(numbers.get("compound", min(numbers.values())), {**cells, "well": well}, numbers)


def _faults(lines: Lines, line: int, places: Iterable[int], *, well: str, problems: Problems) -> bool:
    """Note the faults of the cells that are used; say whether there are any."""
    found = [lines.faults[line, place] for place in places if (line, place) in lines.faults]
    for what in found:
        problems.add(line, what, well=well)
    return bool(found)


def _table(
    entries: list[Entry], names: dict[str, str], columns: Columns, lines: Lines, *, shape: tuple[int, int] | None
) -> Table:
    notes = [*lines.notes, *columns.notes]
    return Table(entries, names, columns.dose, columns.second, lines.separator, shape, notes)
