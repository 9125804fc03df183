"""Figures of the results that a plate page alone does not show: pathways, kinetics, place, order, fields."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr

from plates.results import read_result
from plates.states import COLOURS, DEAD
from reports import figures
from reports.page import PLOTLY_CONFIG

DOSES = np.array([0.1, 1.0, 10.0])


def pathways(**changed: Any) -> xr.Dataset:
    """One compound that goes from necrosis to apoptosis, and one without effect."""
    points = 7
    curve = np.full((2, points, 3), np.nan)
    rising = np.linspace(0.0, 0.9, points)
    curve[0] = np.stack([rising, np.zeros(points), 0.5 - rising / 2], axis=1)
    one: dict[str, Any] = {
        "status": ["switch", "no_effect"], "leading": ["apoptosis", ""], "switch_from": ["necrosis", ""],
        "switch_to": ["apoptosis", ""], "switch_dose": [0.9, np.nan], "switch_low": [0.4, np.nan],
        "switch_high": [2.0, np.nan],
    }  # fmt: skip
    values = {name: [value, one[name][1]] for name, value in changed.items()}
    dims = ("compound", "curve_point", "pathway")
    return xr.Dataset(
        {
            **{name: ("compound", np.array(value)) for name, value in (one | values).items()},
            "curve_dose": (("compound", "curve_point"), np.tile(np.geomspace(0.1, 10, points), (2, 1))),
            "curve": (dims, curve), "curve_low": (dims, curve - 0.05), "curve_high": (dims, curve + 0.05),
        },
        coords={"compound": np.array(["switching", "inert"], dtype=object), "pathway": np.array(DEAD, dtype=object)},
    )  # fmt: skip


def kinetics(**changed: Any) -> xr.Dataset:
    """One compound timed at three doses and followed over three frames."""
    by_dose: dict[str, Any] = {
        "dose_by_dose": DOSES, "t_half_by_dose": [np.nan, 6.0, 3.0], "t_half_low_by_dose": [np.nan, 5.0, 2.5],
        "t_half_high_by_dose": [np.nan, 7.0, 4.0], "baseline_by_dose": [np.nan, 0.0, 0.0],
        "plateau_level_fit_by_dose": [np.nan, 0.5, 0.8], "rate_fit_by_dose": [np.nan, 0.2, 0.5],
        "onset_fit_by_dose": [np.nan, 2.0, 1.0], "course_status_by_dose": ["flat", "not_computable", "fitted"],
    }  # fmt: skip
    by_frame: dict[str, Any] = {
        "ec50_by_time": [np.nan, np.nan, 2.0], "ec50_by_time_low": [np.nan, 4.0, 1.0],
        "ec50_by_time_high": [np.nan, np.inf, np.inf],
        "ec50_by_time_status": ["no_effect", "above_range", "quantified"],
    }  # fmt: skip
    return xr.Dataset(
        {
            **{name: (("compound", "dose_index"), [by_dose[name]]) for name in by_dose},
            **{name: (("compound", "frame"), [(by_frame | changed)[name]]) for name in by_frame},
        },
        coords={"compound": np.array(["TNF mimetic"], dtype=object), "hours": ("frame", [0.0, 6.0, 12.0])},
    )


def named(figure: go.Figure, name: str) -> Any:
    return next(trace for trace in figure.data if trace.name == name)


def said(figure: go.Figure) -> str:
    return " ".join(str(note.text) for note in figure.layout.annotations)


def test_a_switch_is_drawn_at_its_dose_with_its_interval() -> None:
    figure = figures.pathway_curves(pathways(), compound="switching")
    assert list(named(figure, "switch").x) == [0.9, 0.9]
    assert list(named(figure, "switch interval").x) == [0.4, 2.0]
    assert "necrosis to apoptosis at 0.9 µM (0.4 µM to 2 µM)" in said(figure)
    lines = {trace.name: trace.line for trace in figure.data if trace.showlegend is not False}
    assert {line.color for line in lines.values()} == {COLOURS[state] for state in DEAD}
    assert len({line.dash for line in lines.values()}) == 3, "told apart without colour"


@pytest.mark.parametrize(("low", "high", "drawn", "told"), [
    (0.0, 2.0, [0.1, 2.0], "(below 2 µM)"),
    (0.4, np.inf, [0.4, 10.0], "(above 0.4 µM)"),
    (0.0, np.inf, [0.1, 10.0], "at 0.9 µM"),
])  # fmt: skip
def test_an_open_end_of_a_switch_leaves_the_frame(low: float, high: float, drawn: list[float], told: str) -> None:
    figure = figures.pathway_curves(pathways(switch_low=low, switch_high=high), compound="switching")
    np.testing.assert_allclose(named(figure, "switch interval").x, drawn)
    assert told in said(figure)


def test_no_curve_is_drawn_without_an_effect() -> None:
    figure = figures.pathway_curves(pathways(), compound="inert")
    assert not figure.data
    assert said(figure) == "no effect: no split"


def test_the_wells_of_a_curve_are_the_fitted_ones(plate: Path) -> None:
    fits = read_result(plate, "dose_response")
    renamed = pathways().assign_coords(compound=np.array(["TNF mimetic", "inert"], dtype=object))
    figure = figures.pathway_curves(renamed, compound="TNF mimetic", fits=fits)
    wells = [trace for trace in figure.data if trace.mode == "markers"]
    stored = fits["response"].sel(compound="TNF mimetic", readout="necroptosis").values
    np.testing.assert_array_equal(np.sort(wells[1].y), np.sort(stored.ravel()))


def test_deaths_over_time_are_the_stored_ones_of_the_wells_at_a_dose(plate: Path) -> None:
    normalized = with_excess(plate)
    figure = figures.cumulative_incidence(normalized, compound="TNF mimetic", dose=10.0)
    well = str(figure.data[0].hovertemplate).split("<")[0]
    assert normalized["dose"].sel(well=well) == 10.0
    np.testing.assert_array_equal(figure.data[0].y, normalized["excess"].sel(well=well, state="apoptosis"))
    assert len(figure.data) == 3 * 2, "three pathways in two wells"
    assert "10 µM" in said(figure)


def test_the_half_time_and_the_fitted_course_are_drawn_where_there_are_some(plate: Path) -> None:
    timed = kinetics()
    figure = figures.cumulative_incidence(with_excess(plate), compound="TNF mimetic", dose=10.0, kinetics=timed)
    assert list(named(figure, "half-time").x) == [3.0, 3.0]
    assert list(named(figure, "half-time interval").x) == [2.5, 4.0]
    course = named(figure, "all deaths, fitted")
    at = np.interp(6.0, course.x, course.y)
    assert at == pytest.approx(0.8 * (1 - np.exp(-0.5 * 5.0)), abs=2e-3), "plateau (1 - exp(-rate (t - onset)))"
    without = figures.cumulative_incidence(with_excess(plate), compound="TNF mimetic", dose=1.0, kinetics=timed)
    assert "all deaths, fitted" not in {trace.name for trace in without.data}


def test_a_dose_that_nobody_gave_says_so(plate: Path) -> None:
    figure = figures.cumulative_incidence(with_excess(plate), compound="TNF mimetic", dose=77.0)
    assert not figure.data
    assert "no well" in said(figure)


def test_ec50s_over_time_tell_numbers_from_bounds() -> None:
    figure = figures.ec50_over_time(kinetics(), compound="TNF mimetic")
    known = named(figure, "EC50")
    np.testing.assert_array_equal(known.y, [np.nan, np.nan, 2.0])
    assert known.error_y.array[2] == pytest.approx(10.0 - 2.0), "an open end stops at the highest dose"
    assert list(named(figure, "EC50 above").y) == [4.0]
    nothing = kinetics(ec50_by_time=[np.nan] * 3, ec50_by_time_status=["no_effect"] * 3)
    assert "no EC50" in said(figures.ec50_over_time(nothing, compound="TNF mimetic"))


def test_half_times_are_drawn_only_where_a_dose_kills() -> None:
    figure = figures.half_time_against_dose(kinetics(), compound="TNF mimetic")
    assert list(figure.data[0].x) == [1.0, 10.0]
    assert list(figure.data[0].y) == [6.0, 3.0]


def test_rows_and_columns_show_every_well_once_each(plate: Path) -> None:
    fractions = read_result(plate, "fractions")
    figure = figures.rows_and_columns(fractions, timepoint=3)
    vehicle = [trace for trace in figure.data if trace.name == "vehicle"]
    assert [len(trace.y) for trace in vehicle] == [8, 8]
    assert sum(len(trace.y) for trace in figure.data) == 2 * fractions.sizes["well"]
    assert list(figure.layout.xaxis.ticktext)[:2] == ["A", "B"]


def test_the_test_of_place_is_told_with_its_strongest_pattern(plate: Path) -> None:
    found: dict[str, Any] = {"test": "edge", "p": 0.004, "effect": 0.08}
    spatial = xr.Dataset(
        {name: (("readout", "timepoint"), [[value] * 4]) for name, value in found.items()},
        coords={"readout": ["death"]},
    )
    told = said(figures.rows_and_columns(read_result(plate, "fractions"), timepoint=3, spatial=spatial))
    assert "edge" in told
    assert "8.0 %" in told
    assert "0.004" in told


def test_wells_stand_in_the_order_in_which_they_were_imaged(plate: Path) -> None:
    fractions, fields = read_result(plate, "fractions"), read_result(plate, "fields")
    start = np.datetime64("2026-03-02T09:00:00", "ns")
    shape = fields["medium_index"].shape
    minutes = np.arange(shape[0])[:, None, None] * np.timedelta64(30, "s") + np.zeros(shape, dtype="timedelta64[s]")
    fields = fields.assign(acquired=(fields["medium_index"].dims, start + minutes))
    figure = figures.imaging_order(fractions, fields, timepoint=3)
    drawn = {name: x for trace in figure.data for name, x in zip(trace.customdata, trace.x, strict=True)}
    wells = [str(well) for well in fields["well"].values]
    assert [drawn[well] for well in wells] == [0.5 * number for number in range(len(wells))]
    index = figures.imaging_order(fractions, fields, timepoint=3, quantity="medium_index")
    assert np.concatenate([trace.y for trace in index.data]) == pytest.approx(0.0), "above its median"


def test_unknown_times_of_imaging_are_said_to_be_unknown(plate: Path) -> None:
    figure = figures.imaging_order(read_result(plate, "fractions"), read_result(plate, "fields"), timepoint=0)
    assert not figure.data
    assert "not known" in said(figure)


def test_fields_proposed_to_be_left_out_are_marked_with_their_reason() -> None:
    focus = np.random.default_rng(0).normal(0, 1, (20, 2, 3))
    focus[3, 1, 2], focus[4] = -9.0, np.nan
    proposed = focus < -5
    proposed[4, 0, 0] = True  # a field without a number
    dims = ("well", "field", "timepoint")
    quality = xr.Dataset(
        {"focus_z": (dims, focus), "proposed": (dims, proposed),
         "reason": (dims, np.where(proposed, "out of focus", "").astype(object))},
        coords={"well": [f"A{number:02d}" for number in range(20)], "field": [0, 1], "timepoint": [0, 1, 2]},
    )  # fmt: skip
    figure = figures.field_quality(quality)
    boxes, marked = figure.data
    assert boxes.median == pytest.approx(np.nanmedian(focus, axis=(0, 1)))
    assert list(marked.y) == [-9.0]
    assert list(marked.customdata) == ["A03, field 1: out of focus"]
    assert said(figure) == "2 of 120 proposed, 1 without a number"


def test_nothing_that_is_missing_breaks_a_figure() -> None:
    empty = pathways(status="not_fitted", switch_dose=np.nan)
    empty["curve"][:] = np.nan
    blank = kinetics(ec50_by_time=[np.nan] * 3, ec50_by_time_low=[np.nan] * 3, ec50_by_time_high=[np.nan] * 3)
    for name in blank.data_vars:
        if blank[name].dtype.kind == "f":
            blank[name][:] = np.nan
    dims = ("well", "field", "timepoint")
    nothing = xr.Dataset(
        {"focus_z": (dims, np.full((1, 1, 1), np.nan)), "proposed": (dims, np.zeros((1, 1, 1), dtype=bool)),
         "reason": (dims, np.full((1, 1, 1), "", dtype=object))},
        coords={"well": ["A01"], "field": [0], "timepoint": [0]},
    )  # fmt: skip
    for figure in (
        figures.pathway_curves(empty, compound="switching"),
        figures.ec50_over_time(blank, compound="TNF mimetic"),
        figures.half_time_against_dose(blank, compound="TNF mimetic"),
        figures.field_quality(nothing),
    ):
        json.loads(figure.to_json())


def test_what_a_figure_shows_or_writes_offers_no_upload(tmp_path: Path) -> None:
    """Off-check: the plain class of plotly has no configuration of its own at all."""
    figure = figures.ec50_over_time(kinetics(), compound="TNF mimetic")
    figure.write_html(tmp_path / "figure.html", include_plotlyjs=False)
    shown = [figure.to_html(include_plotlyjs=False), (tmp_path / "figure.html").read_text(), figure._repr_html_()]
    assert all('"showSendToCloud": false' in html for html in shown)
    bundle = figure._repr_mimebundle_()
    assert all(part["config"]["showSendToCloud"] is False for part in bundle.values() if isinstance(part, dict))
    assert '"showSendToCloud"' not in go.Figure(figure).to_html(include_plotlyjs=False)


def test_displaying_passes_the_configuration_to_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    import plotly.io as pio

    passed: list[Any] = []
    monkeypatch.setattr(pio, "show", lambda figure, *args, **kwargs: passed.append(kwargs.get("config")))
    monkeypatch.setattr(pio.renderers, "render_on_display", True)
    figure = figures.half_time_against_dose(kinetics(), compound="TNF mimetic")
    figure.show()
    figures.show(go.Figure())
    if pio.renderers.default:
        figure._ipython_display_()
    assert passed
    assert all(config == PLOTLY_CONFIG for config in passed)


def with_excess(plate: Path) -> xr.Dataset:
    fractions = read_result(plate, "fractions")
    return fractions.assign(excess=fractions["fraction"] - 0.01)


def left_out(fractions: xr.Dataset, *wells: str) -> xr.Dataset:
    """The same plate with these wells masked."""
    masked = np.where(np.isin(fractions["well"].values, wells), "a bubble", "").astype(object)
    return fractions.assign_coords(masked=("well", masked))


def test_controls_that_were_left_out_are_crosses_named_in_the_legend(plate: Path) -> None:
    fractions = read_result(plate, "fractions")
    vehicle = str(fractions["well"].values[fractions["control"].values == "negative"][2])
    for figure in (
        figures.control_strip(left_out(fractions, vehicle), timepoint=3),
        figures.rows_and_columns(left_out(fractions, vehicle), timepoint=3),
    ):
        crosses = [trace for trace in figure.data if str(trace.marker.symbol) == "x-thin-open"]
        assert {str(well) for trace in crosses if trace.customdata is not None for well in trace.customdata} == {
            vehicle
        }
        assert [trace.name for trace in crosses if trace.showlegend] == ["left out"]
        others = [trace for trace in figure.data if trace not in crosses and trace.customdata is not None]
        assert vehicle not in {str(well) for trace in others for well in trace.customdata}
    assert not [t for t in figures.control_strip(fractions, timepoint=3).data if t.name == "left out"]


def test_no_well_lies_outside_the_frame_of_its_curve(plate: Path) -> None:
    fits = read_result(plate, "dose_response")
    compound = str(fits["compound"].values[0])
    response = fits["response"].values.copy()
    response[0, 0, 0, 0], response[0, 0, -1, 0] = -0.55, 1.3  # fewer deaths than vehicle; more than all
    figure = figures.dose_response(fits.assign(response=(fits["response"].dims, response)), compound=compound)
    low, high = figure.layout.yaxis.range
    assert low < -0.55
    assert high > 1.3
    wells = [float(y) for trace in figure.data if trace.mode == "markers" for y in trace.y]
    assert min(wells) == -0.55
    assert max(wells) == 1.3


def test_statistics_over_time_have_their_stored_intervals(plate: Path) -> None:
    quality = read_result(plate, "quality")
    figure = figures.quality_over_time(quality, hours=[0, 4, 8, 12], limit=0.4)
    death = quality.sel(readout="death")
    for trace, name in zip(figure.data, ("z_prime", "robust_z_prime"), strict=False):
        np.testing.assert_allclose(np.array(trace.y) + trace.error_y.array, death[f"{name}_high"].values)
        np.testing.assert_allclose(np.array(trace.y) - trace.error_y.arrayminus, death[f"{name}_low"].values)


def test_the_forest_keeps_the_symbol_of_a_pathway_and_points_to_either_bound(plate: Path) -> None:
    ranking = read_result(plate, "ranking").isel(compound=slice(0, 3))
    ends = {"ec50": [np.nan, 2.0, np.nan], "ec50_low": [0.0, 1.0, 24.0], "ec50_high": [0.1, 4.0, np.inf]}
    status = np.array(["below_range", "quantified", "above_range"], dtype=object)
    apoptosis = np.array(["apoptosis"] * 3, dtype=object)
    columns = {"status": status, "dominant_pathway": apoptosis, **ends}
    ranking = ranking.assign({name: ("compound", values) for name, values in columns.items()})
    figure = figures.potency_by_pathway(ranking, dose_max=30)
    known = next(trace for trace in figure.data if trace.name == "A apoptosis")
    assert known.marker.symbol == "triangle-up"
    bounds = {trace.marker.symbol: list(trace.x) for trace in figure.data if "-open" in str(trace.marker.symbol)}
    assert bounds == {"triangle-right-open": [24.0], "triangle-left-open": [0.1]}
