"""Which fluorescence channel shows which stain: by name, by emission, or as told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..errors import SettingsError

STAINS = ("hoechst", "annexin_v", "pi")
SPELLED = {"hoechst": "Hoechst", "annexin_v": "annexin V", "pi": "PI"}

# in a name without case, its punctuation replaced by blanks
_NAMES = {
    "hoechst": re.compile(r"hoechst|dapi|nucblue|\bhoe\b|\bh ?33342\b"),
    "annexin_v": re.compile(r"annexin|\banx|fitc|\be?gfp\b|(alexa ?(fluor ?)?|\baf ?)488"),
    "pi": re.compile(r"\bpi\b|propid|\brfp\b|tritc|texas ?red|mcherry"),
}
# um; where the usual versions of the three stains emit
_EMISSIONS = {"hoechst": (0.40, 0.49), "annexin_v": (0.50, 0.56), "pi": (0.575, 0.68)}


def find_channels(
    names: Sequence[str], *, told: Mapping[str, str] | None = None, emission_um: Mapping[str, float] | None = None
) -> dict[str, str]:
    """Channel of each stain that the plate has: "hoechst", "annexin_v", "pi" -> name of the channel.

    Parameters
    ----------
    names
        Fluorescence channels of the plate.
    told
        Stain -> channel, by the user; goes before anything recognised.
    emission_um
        Channel -> peak of its emission, where known: decides for channels whose names say nothing, such as "CH1".

    Raises
    ------
    SettingsError
        A channel that was told is not there, one stain has two channels, or one channel two stains.
    """
    told = {stain: name for stain, name in (told or {}).items() if name}
    found: dict[str, str] = {}
    for stain in STAINS:
        if stain in told:
            found[stain] = _named(told[stain], names, stain)
            continue
        fits = [name for name in names if _is(stain, name, (emission_um or {}).get(name)) and name not in told.values()]
        if len(fits) > 1:
            raise SettingsError(
                f"The channels {', '.join(map(repr, fits))} may all be {SPELLED[stain]}. Say which, such as "
                f"{_option(stain)} {fits[0]!r}."
            )
        if fits:
            found[stain] = fits[0]
    for channel in found.values():
        stains = [stain for stain, name in found.items() if name == channel]
        if len(stains) > 1:
            raise SettingsError(
                f"The channel {channel!r} cannot be both {SPELLED[stains[0]]} and {SPELLED[stains[1]]}. Say which "
                f"channel is which: {', '.join(map(_option, STAINS))}."
            )
    return found


def missing_text(found: Mapping[str, str], names: Sequence[str]) -> str:
    """What to do about stains without a channel; empty where all three are there."""
    lost = [stain for stain in STAINS if stain not in found]
    if not lost:
        return ""
    there = ", ".join(map(repr, names)) or "none"
    return (
        f"No channel was recognised as {' or '.join(SPELLED[stain] for stain in lost)}; the plate has {there}. "
        f"Name it: {', '.join(_option(stain) + ' CHANNEL' for stain in lost)}."
    )


def _is(stain: str, name: str, emission_um: float | None) -> bool:
    plain = re.sub(r"[^a-z0-9]+", " ", name.casefold())
    if _NAMES[stain].search(plain):
        return True
    if any(pattern.search(plain) for pattern in _NAMES.values()) or emission_um is None:
        return False
    low, high = _EMISSIONS[stain]
    return low <= emission_um <= high


def _named(told: str, names: Sequence[str], stain: str) -> str:
    exact = [name for name in names if name == told]
    alike = exact or [name for name in names if name.strip().casefold() == told.strip().casefold()]
    if len(alike) != 1:
        raise SettingsError(
            f"{_option(stain)} names the channel {told!r}, but the plate has "
            f"{', '.join(map(repr, names)) or 'no fluorescence'}. Give one of those."
        )
    return alike[0]


def _option(stain: str) -> str:
    return {"hoechst": "--hoechst-channel", "annexin_v": "--annexin-channel", "pi": "--pi-channel"}[stain]
