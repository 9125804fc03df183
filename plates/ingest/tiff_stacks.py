"""Which page of a TIFF is which slice, channel and timepoint: by OME-XML, ImageJ's header, or none at all."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from .ome_xml import OmeImage, is_ome, length_um, read_ome_xml
from .tiff_pages import TiffPages

_UNKNOWN = (float("nan"),) * 3
_TOMOGRAM = re.compile(r"(^|[^a-z])(ri|ht|ht3d|refractive.?index|tomogram)($|[^a-z])", re.IGNORECASE)
_LISTED = 8


@dataclass(frozen=True)
class Stack:
    """Pages of each frame by slice, and what the header says of them.

    Attributes
    ----------
    format
        ``"OME-TIFF"``, ``"ImageJ TIFF"`` or ``"TIFF"``.
    frames
        Pages of every tomogram present, by timepoint.
    planned
        Timepoints announced.
    voxel_um
        (z, y, x); NaN where unknown.
    times_s
        Seconds since the first timepoint, by timepoint; NaN where unknown.
    recorded, position_mm
        As of an acquisition.
    fluorescence
        Pages of every channel that is not the tomogram, by timepoint.
    wavelengths_um
        Excitation and emission by channel.
    """

    format: str
    frames: Mapping[int, Sequence[int]]
    planned: int
    voxel_um: tuple[float, float, float] = _UNKNOWN
    times_s: Mapping[int, float] = field(default_factory=dict)
    recorded: datetime | None = None
    position_mm: tuple[float, float, float] = _UNKNOWN
    fluorescence: Mapping[str, Mapping[int, Sequence[int]]] = field(default_factory=dict)
    wavelengths_um: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def read_stack(pages: TiffPages, *, part: str = "", one_stack: bool = False) -> Stack:
    """Say which page is what, and check that the pages are all there and alike.

    Parameters
    ----------
    part
        Identifier of an image, where an OME-TIFF holds several.
    one_stack
        Whether the file is known to be a single stack, whatever ImageJ's header says.

    Raises
    ------
    AcquisitionError
        Metadata and pages contradict each other, or the tomogram cannot be told from other channels.
    """
    if is_ome(pages.description):
        return _ome_stack(pages, part=part)
    if part:
        raise pages.error(f"it holds one image only, but {part!r} of it was asked for", "Correct the manifest.")
    return _imagej_stack(pages, one_stack=one_stack) if pages.description.startswith("ImageJ=") else _plain_stack(pages)


def _ome_stack(pages: TiffPages, *, part: str) -> Stack:
    content = read_ome_xml(pages.description, path=pages.path, pages=len(pages.pages))
    here = {image.identifier: image for image in content.images if image.pages}
    if not part and len(here) > 1:
        raise pages.error(
            f"it holds {len(here)} images ({', '.join(list(here)[:8])}, ...)",
            "Place them by a manifest (CSV: path, part, well, field, timepoint).",
        )
    if part not in here and (part or not here):
        other = ", ".join(name for image in content.images for name in image.elsewhere[:3])
        raise pages.error(
            f"it does not hold the pixels of {part or 'its image'}" + (f": they are in {other}" if other else ""),
            "Open that file instead, or correct the manifest.",
        )
    used = {page for image in content.images for page in image.pages.values()}
    spare = [number for number, page in enumerate(pages.pages) if number not in used and not page.reduced]
    if spare:
        raise pages.error(
            f"its OME-XML says nothing of {len(spare)} of its {len(pages.pages)} pages",
            "Its metadata are not of this file, or damaged; export it again.",
        )
    image = here[part] if part else next(iter(here.values()))
    if image.elsewhere:
        raise pages.error(
            f"part of its pixels is in other files ({', '.join(image.elsewhere[:3])})",
            "Save each image as an OME-TIFF of its own.",
        )
    check_alike(pages, sorted(image.pages.values()))
    page = pages.pages[next(iter(image.pages.values()))]
    if page.shape != image.shape or page.dtype.newbyteorder("=") != image.dtype:
        raise pages.error(
            f"its pages are {page.kind} where its OME-XML says {image.shape[0]} x {image.shape[1]} {image.dtype.name}",
            "The file is damaged; export it again, or remove it.",
        )
    return _ome_frames(pages, image)


def _ome_frames(pages: TiffPages, image: OmeImage) -> Stack:
    tomogram = _tomogram_channel(pages, [channel.name for channel in image.channels])
    names = _fluorescence_names([channel.name for channel in image.channels], without=tomogram)
    frames = {number: _frames_of(pages, image, number) for number in range(len(image.channels))}
    return Stack(
        format="OME-TIFF",
        frames=frames[tomogram],
        planned=image.size_zct[2],
        voxel_um=image.voxel_um,
        times_s={frame: image.times_s[frame] for frame in frames[tomogram]},
        recorded=image.recorded,
        position_mm=image.position_mm,
        fluorescence={name: frames[number] for number, name in names.items() if frames[number]},
        wavelengths_um={
            name: (image.channels[number].excitation_um, image.channels[number].emission_um)
            for number, name in names.items()
        },
    )


def _frames_of(pages: TiffPages, image: OmeImage, channel: int) -> dict[int, list[int]]:
    """Pages of every timepoint of a channel; a timepoint is there as a whole or not at all."""
    depth, _, timepoints = image.size_zct
    frames = {}
    for timepoint in range(timepoints):
        planes = [image.pages[z, channel, timepoint] for z in range(depth) if (z, channel, timepoint) in image.pages]
        if len(planes) == depth:
            frames[timepoint] = planes
        elif planes:
            raise pages.error(
                f"channel {channel}, timepoint {timepoint} has {len(planes)} of {depth} slices",
                "The acquisition or the export was not finished; export it again, or remove it.",
            )
    return frames


def _imagej_stack(pages: TiffPages, *, one_stack: bool) -> Stack:
    """ImageJ's header: channels, then slices, then frames; lengths in a unit of its own."""
    header = dict(line.split("=", 1) for line in pages.description.splitlines() if "=" in line)
    try:
        images, channels, slices, frames = (
            int(header.get(key, "1")) for key in ("images", "channels", "slices", "frames")
        )
        spacing, interval = (float(header.get(key, "nan")) for key in ("spacing", "finterval"))
    except ValueError as error:
        raise pages.error(f"its ImageJ header is damaged ({error})", "Export it again, or remove it.") from error
    if len(pages.pages) == 1 and images > 1:
        pages.repeat(images)
    total = len(pages.pages)
    if one_stack or (channels == frames == 1):
        # the header's count of slices may be that of before an export: pages are counted
        channels, slices, frames = 1, total, 1
    if min(channels, slices, frames) < 1 or channels * slices * frames != total:
        raise pages.error(
            f"it holds {total} pages where its ImageJ header says {channels} channels x {slices} slices x "
            f"{frames} frames",
            "Set them in Fiji (Image > Properties) and save it again, or remove it.",
        )
    _check_whole(pages)
    y, x = (1 / pixels if pixels else float("nan") for pixels in pages.pixels_per_unit)
    unit = header.get("unit", "").replace("\\u00B5", "\u00b5")
    tomogram = _tomogram_channel(pages, [""] * channels)
    return Stack(
        format="ImageJ TIFF",
        frames={frame: [(frame * slices + z) * channels + tomogram for z in range(slices)] for frame in range(frames)},
        planned=frames,
        voxel_um=(length_um(spacing, unit), length_um(y, unit), length_um(x, unit)),
        times_s={frame: interval * frame if frame else 0.0 for frame in range(frames)},
        recorded=_date_time(pages.recorded),
    )


def _plain_stack(pages: TiffPages) -> Stack:
    """No metadata: the pages are the slices of one tomogram, unless tifffile's own note says otherwise."""
    shape: list[int] = []
    axes = ""
    if pages.description.startswith("{"):
        try:
            note = json.loads(pages.description)
            shape, axes = [int(size) for size in note.get("shape", [])], str(note.get("axes", ""))
        except (ValueError, TypeError, AttributeError, RecursionError):
            shape = []
    if shape and math.prod(shape[:-2]) != len(pages.pages):
        raise pages.error(
            f"it holds {len(pages.pages)} pages where its description says {' x '.join(map(str, shape))}",
            "The file is damaged or was cut short; copy it again, or remove it.",
        )
    several = [size for size in shape[:-2] if size > 1]
    if len(several) > 1 or any(axis in "TC" and size > 1 for axis, size in zip(axes, shape, strict=False)):
        raise pages.error(
            f"its pages are {' x '.join(map(str, several))} planes of which nothing says what they are",
            "Save one tomogram a file, or all as OME-TIFF.",
        )
    _check_whole(pages)
    planes = [number for number, page in enumerate(pages.pages) if not page.reduced]
    return Stack(format="TIFF", frames={0: planes}, planned=1, times_s={0: 0.0}, recorded=_date_time(pages.recorded))


def _check_whole(pages: TiffPages) -> None:
    """All pages are alike, and no page was lost: nothing else would tell, where no metadata count them."""
    check_alike(pages, [number for number, page in enumerate(pages.pages) if not page.reduced])
    largest = max(int(page.counts.sum()) for page in pages.pages)
    if pages.unclaimed >= largest and not any(page.sub_pages for page in pages.pages):
        raise pages.error(
            f"{pages.unclaimed:,} of its bytes belong to none of its {len(pages.pages)} pages",
            "Its chain of pages is broken; copy it again, or remove it.",
        )


def check_alike(pages: TiffPages, numbers: Iterable[int]) -> None:
    """Refuse pages of several shapes or types in one stack."""
    numbers = list(numbers)
    for number in numbers[1:]:
        if pages.pages[number].kind != pages.pages[numbers[0]].kind:
            raise pages.error(
                f"page {number + 1} is {pages.pages[number].kind} where page {numbers[0] + 1} is "
                f"{pages.pages[numbers[0]].kind}",
                "The slices of a tomogram are all alike; export it again, or remove it.",
            )


def _tomogram_channel(pages: TiffPages, names: Sequence[str]) -> int:
    """Number of the channel that is the refractive index: the only one, or the one named so."""
    if len(names) == 1:
        return 0
    found = [number for number, name in enumerate(names) if _TOMOGRAM.search(name)]
    if len(found) != 1:
        listed = ", ".join(repr(name) if name else "one without a name" for name in names[:_LISTED])
        raise pages.error(
            f"which of its {len(names)} channels is the refractive index? They are {listed}",
            "Name that channel (and no other) RI, HT or refractive index, or export it alone.",
        )
    return found[0]


def _fluorescence_names(names: Sequence[str], *, without: int) -> dict[int, str]:
    """Names by number of channel; CH0, CH1, ... where they have none of their own."""
    numbers = [number for number in range(len(names)) if number != without]
    own = [names[number] for number in numbers]
    if all(own) and len(set(own)) == len(own):
        return dict(zip(numbers, own, strict=True))
    return {number: f"CH{place}" for place, number in enumerate(numbers)}


def _date_time(text: str) -> datetime | None:
    """The tag DateTime, local time."""
    try:
        return datetime.strptime(text.strip(), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
