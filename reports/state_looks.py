"""How any states are told apart on a page: a colour, a letter and a dash each, the project's own five as everywhere."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

from plates.states import COLOURS, LETTERS

from . import words

# Okabe and Ito's set without its yellow, which is too pale for lines on white; then Tol's muted set.
SEQUENCE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A8A8A",
            "#332288", "#117733", "#882255", "#999933", "#44AA99")  # fmt: skip
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
DARK, LIGHT = "#111111", "#ffffff"


@dataclass(frozen=True)
class Look:
    """What stands for a state: `name` fit to be shown, `label` safe in plotly, and its marks."""

    name: str
    label: str
    letter: str
    colour: str
    ink: str
    dash: str


def state_looks(states: Sequence[str]) -> list[Look]:
    """Give every state a look, in the order of the states.

    The five states of the project keep their colours and letters; others take the next free ones. With more
    states than colours the colours come again, and letter and dash still differ.
    """
    colours = [COLOURS.get(state, "") for state in states]
    free = [colour for colour in SEQUENCE if colour not in colours] or list(SEQUENCE)
    letters = _letters(states)
    looks = []
    for index, state in enumerate(states):
        own = state in COLOURS
        colour = colours[index] if own else free[sum(name not in COLOURS for name in states[:index]) % len(free)]
        looks.append(
            Look(
                name=words.plain(state),
                label=f"{letters[index]} {words.in_figure(state)}",
                letter=letters[index],
                colour=colour,
                ink=words.LETTER_INKS[state] if own else _ink(colour),
                dash=DASHES[index % len(DASHES)],
            )
        )
    return looks


def _letters(states: Sequence[str]) -> list[str]:
    """A character for each state, no two alike: one of its own name where one is free."""
    taken = [LETTERS[state] for state in states if state in LETTERS]
    given = []
    for number, state in enumerate(states, start=1):
        if state in LETTERS:
            given.append(LETTERS[state])
            continue
        own = [character for character in str(state).upper() if character in string.ascii_uppercase + string.digits]
        wanted = [*own, *string.ascii_uppercase, *string.digits]
        letter = next((character for character in wanted if character not in taken), str(number))
        taken.append(letter)
        given.append(letter)
    return given


def _ink(colour: str) -> str:
    """Dark or light, whichever has the higher contrast on the colour (relative luminance of WCAG 2)."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return DARK if (luminance + 0.05) ** 2 > 1.05 * 0.05 else LIGHT
