"""Plate maps: what is in each well, read from the table a lab keeps and checked before anything runs."""

from .broad import platemap_of
from .columns import COLUMN_NAMES
from .plate_map import PlateMap, read_plate_map
from .rows import CONTROL_WORDS
from .units import USUAL_UNITS, micromolar_per, read_unit
from .wells import FORMATS, parse_well, well_name

__all__ = [
    "COLUMN_NAMES",
    "CONTROL_WORDS",
    "FORMATS",
    "USUAL_UNITS",
    "PlateMap",
    "micromolar_per",
    "parse_well",
    "platemap_of",
    "read_plate_map",
    "read_unit",
    "well_name",
]
