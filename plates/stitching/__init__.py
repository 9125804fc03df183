"""Tiles that overlap become one wide field: placed, matched in level, blended, and every seam reported."""

from .blending import blend
from .layout import CONVENTIONS, Place, StageConvention, TileLayout, group_tiles, tile_layout
from .mosaic import Mosaic, Seam, open_mosaic, stitch
from .offsets import refine_offsets

__all__ = [
    "CONVENTIONS",
    "Mosaic",
    "Place",
    "Seam",
    "StageConvention",
    "TileLayout",
    "blend",
    "group_tiles",
    "open_mosaic",
    "refine_offsets",
    "stitch",
    "tile_layout",
]
