"""Figures as functions of stored results: each takes named results and returns a plotly figure.

They work in a notebook as they do on the pages. Nothing is fitted or averaged here: a point is a well.
"""

from .compounds import dose_response, pathway_stack, time_courses
from .controls import control_strip, quality_over_time
from .forest import LONGEST_FOREST, potency_by_pathway
from .imaging import field_quality, imaging_order, rows_and_columns
from .kinetics import cumulative_incidence, ec50_over_time, half_time_against_dose
from .looks import CURVE, GRID, INK, PERCENT_AXIS, QUIET, SYMBOLS, TEMPLATE, VEHICLE
from .pathways import pathway_curves
from .showing import Figure, show

__all__ = [
    "CURVE",
    "GRID",
    "INK",
    "LONGEST_FOREST",
    "PERCENT_AXIS",
    "QUIET",
    "SYMBOLS",
    "TEMPLATE",
    "VEHICLE",
    "Figure",
    "control_strip",
    "cumulative_incidence",
    "dose_response",
    "ec50_over_time",
    "field_quality",
    "half_time_against_dose",
    "imaging_order",
    "pathway_curves",
    "pathway_stack",
    "potency_by_pathway",
    "quality_over_time",
    "rows_and_columns",
    "show",
    "time_courses",
]
