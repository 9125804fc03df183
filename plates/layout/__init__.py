"""Plate maps: what is in each well, read from the table a lab keeps and checked before anything runs."""

from .plate_map import (
    COLUMN_NAMES,
    CONTROL_WORDS,
    FORMATS,
    UNITS,
    PlateMap,
    micromolar_per,
    parse_well,
    read_plate_map,
    well_name,
)

__all__ = [
    "COLUMN_NAMES",
    "CONTROL_WORDS",
    "FORMATS",
    "UNITS",
    "PlateMap",
    "micromolar_per",
    "parse_well",
    "read_plate_map",
    "well_name",
]
