"""Which fluorescence stack belongs to which tomogram."""

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from plates.ingest.acquisition import FluorescenceChannel
from plates.ingest.light import matching_stack

NAN = math.nan


def channel(frames: int, times_s: Mapping[int, float]) -> FluorescenceChannel:
    return FluorescenceChannel(
        name="",
        frames=tuple(range(frames)),
        shape_zyx=(1, 1, 1),
        voxel_um=(1.0, 1.0, 1.0),
        offset_z_um=0.0,
        excitation_um=NAN,
        emission_um=NAN,
        times_s=times_s,
    )


def matches(tomograms_s: list[float], *channels: FluorescenceChannel) -> dict[int, int]:
    """Tomogram -> stack, of all tomograms that have one."""
    frames = range(len(tomograms_s))
    # only what is looked at; the full protocol has pixels
    acquisition: Any = SimpleNamespace(
        frames=tuple(frames),
        times_s=dict(enumerate(tomograms_s)),
        channels={f"CH{number}": each for number, each in enumerate(channels)},
    )
    found = {frame: matching_stack(acquisition, frame) for frame in frames}
    return {frame: stack for frame, stack in found.items() if stack is not None}


def test_a_stack_at_every_third_tomogram_belongs_to_that_tomogram() -> None:
    # as a real file has it: 181 tomograms and 61 stacks, each taken half a minute after its tomogram
    taken = {number: 1800.0 * number + 30 for number in range(61)}
    found = matches([600.0 * number for number in range(181)], channel(61, taken))
    assert found == {3 * number: number for number in range(61)}


@pytest.mark.parametrize("times_s", [{}, {0: NAN, 1: NAN}])
def test_without_times_equal_numbers_belong_together(times_s: dict[int, float]) -> None:
    assert matches([0.0, 600.0, 1200.0], channel(2, times_s)) == {0: 0, 1: 1}


@pytest.mark.parametrize("tomograms_s", [[NAN, NAN], [0.0, NAN]])
def test_tomograms_without_times_have_the_stack_of_their_number(tomograms_s: list[float]) -> None:
    assert matches(tomograms_s, channel(2, {0: 0.0, 1: 600.0})) == {0: 0, 1: 1}


@pytest.mark.parametrize("missing", [{}, {1: NAN}])
def test_a_stack_whose_time_is_missing_belongs_to_none(missing: dict[int, float]) -> None:
    taken = {0: 0.0, 2: 3600.0} | missing
    assert matches([600.0 * number for number in range(7)], channel(3, taken)) == {0: 0, 6: 2}


def test_a_time_that_one_channel_leaves_out_is_taken_from_the_other() -> None:
    dim, bright = channel(2, {0: 0.0, 1: NAN}), channel(2, {1: 1200.0})
    assert matches([0.0, 600.0, 1200.0], bright, dim) == {0: 0, 2: 1}


def test_a_tomogram_whose_time_is_missing_has_no_stack_where_the_others_have_times() -> None:
    assert matches([0.0, NAN, 1200.0, 1800.0], channel(3, {0: 0.0, 1: 1200.0, 2: 1800.0})) == {0: 0, 2: 1, 3: 2}


def test_of_several_stacks_near_one_tomogram_the_nearest_is_taken() -> None:
    taken = {0: -200.0, 1: 20.0, 2: 210.0, 3: 650.0}
    assert matches([0.0, 600.0], channel(4, taken)) == {0: 1, 1: 3}


def test_a_stack_far_from_every_tomogram_belongs_to_none() -> None:
    assert matches([0.0, 600.0], channel(2, {0: 10.0, 1: 1500.0})) == {0: 0}
    assert matches([0.0], channel(1, {0: 500.0})) == {0: 0}
    assert matches([0.0], channel(1, {0: 700.0})) == {}
