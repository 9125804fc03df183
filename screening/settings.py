"""A campaign's screen.toml: one checked object, or every fault in it at once."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator
from pydantic_core import ErrorDetails

from plates.errors import MissingInputError, PlateMapError, SettingsError
from plates.patches import Vote
from screening.quality_settings import EXAMPLE as QUALITY_EXAMPLE
from screening.quality_settings import QualitySettings

if TYPE_CHECKING:
    from screening.cluster import Certificates

# names that Windows keeps for devices, whatever their extension
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_Where = tuple[int | str, ...]


def read_settings(path: Path) -> Settings:
    """Read and check a screen.toml; its relative paths start at its folder.

    Raises
    ------
    SettingsError
        Names every fault with its line and the nearest valid key.
    MissingInputError
        There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInputError(f"Settings {path} do not exist or are not a file. Correct the path.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        raw = tomllib.loads(text)
    except UnicodeDecodeError:
        raise SettingsError(f"{path.name} is not UTF-8 text. Save it as UTF-8.") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        remedy = r"Texts and paths stand in quotation marks, paths with \ in single ones."
        raise SettingsError(f"{path.name} is not TOML: {error}. {remedy}") from None
    faults = _clashes(raw)
    try:
        settings = Settings.model_validate(raw, context={"folder": path.resolve().parent})
        if not faults:
            return settings
    except ValidationError as error:
        faults = [*_in_words(error.errors(), raw), *faults]
    lines = _key_lines(text)
    placed = sorted((_line_of(where, lines), _of_plate(where, raw) + what) for where, what in faults)
    raise SettingsError("\n".join(f"{path.name}:{line}: {what}" for line, what in placed))


def write_example(path: Path) -> Path:
    """Write a screen.toml that shows every key with its default and meaning.

    Raises
    ------
    SettingsError
        The file exists: it is never overwritten.
    """
    path = Path(path)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(EXAMPLE)
    except FileExistsError:
        raise SettingsError(f"{path} exists already. Choose another name or remove it.") from None
    return path


def _safe_name(name: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) is None or name.endswith("."):
        raise ValueError(f"{_shown(name)} cannot be a file's name. Expected up to 64 letters, digits, '-', '_' and '.'")
    if _RESERVED.fullmatch(name) or re.search(r"(_mip|_fl|\.results|\.zarr)$", name):
        raise ValueError(f"{_shown(name)} is a reserved name. Choose another")
    return name


def _from_folder(path: Path, info: ValidationInfo) -> Path:
    try:
        path = path.expanduser()
    except RuntimeError:
        raise ValueError(f"{path} names no user of this machine. Write the path out") from None
    # normalised as text: links may lead elsewhere on the machines of a cluster
    return Path(os.path.normpath((info.context or {}).get("folder", Path()) / path))


def _folder_that_exists(path: Path) -> Path:
    if not _is(path, "folder"):
        raise ValueError(f"folder {path} does not exist. Correct the path; it starts at this file's folder")
    return path


def _file_that_exists(path: Path) -> Path:
    if not _is(path, "file"):
        raise ValueError(f"file {path} does not exist. Correct the path; it starts at this file's folder")
    return path


def _no_file(path: Path) -> Path:
    if _is(path, "file"):
        raise ValueError(f"{path} is a file. Expected a folder for the results; it is made if need be")
    return path


def _is(path: Path, kind: Literal["file", "folder"]) -> bool:
    try:
        return path.is_dir() if kind == "folder" else path.is_file()
    except OSError:  # a name too long for the file system
        return False


def _concentration(unit: str) -> str:
    from plates.layout import read_unit

    try:
        read_unit(unit)
    except PlateMapError as error:
        raise ValueError(str(error)) from None
    return unit


Name = Annotated[str, AfterValidator(_safe_name)]
ExistingFolder = Annotated[Path, AfterValidator(_from_folder), AfterValidator(_folder_that_exists)]
ExistingFile = Annotated[Path, AfterValidator(_from_folder), AfterValidator(_file_that_exists)]
OutputFolder = Annotated[Path, AfterValidator(_from_folder), AfterValidator(_no_file)]


class _Part(BaseModel):
    # strict: "16" is no number and 1 is no text; a path is always written as text
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class CampaignSettings(_Part):
    """What the campaign is called, and the folder that holds its plates, results and reports."""

    name: Name
    out: Annotated[OutputFolder, Field(strict=False, validate_default=True)] = Path("results")


class PlateSettings(_Part):
    """One plate: its folder of acquisitions and its plate map."""

    name: Name
    acquisitions: Annotated[ExistingFolder, Field(strict=False)]
    layout: Annotated[ExistingFile, Field(strict=False)]
    manifest: Annotated[ExistingFile | None, Field(strict=False)] = None
    dose_unit: Annotated[str, AfterValidator(_concentration)] | None = None
    sheet: str | None = None
    compounds: Annotated[ExistingFile | None, Field(strict=False)] = None
    format: Literal["tcf", "tiff", "ome-zarr"] | None = None
    acquisition: Annotated[int | None, Field(ge=0)] = None
    channel: str | None = None
    fluorescence: Literal["registered", "metadata", "none"] = "registered"
    stitch: bool = False
    in_place: bool = False


class ClassifierSettings(_Part):
    """Which classifier, and on what it runs."""

    path: Annotated[ExistingFolder | None, Field(strict=False)] = None
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:[0-9]+)?)$")] = "auto"

    @property
    def folder(self) -> Path:
        """The classifier's folder: the one given, else the demonstration classifier that is shipped."""
        if self.path is not None:
            return self.path
        models = find_spec("models")
        if models is None or not models.submodule_search_locations:
            raise MissingInputError("The shipped classifier is not installed. Give [classifier] path.")
        return Path(models.submodule_search_locations[0]) / "demonstration"


class ClassifySettings(_Part):
    """How fields are cut into patches; pixels of 0.16 um."""

    stride_px: Annotated[int, Field(ge=16, le=160)] = 160
    batch: Annotated[int, Field(ge=1, le=4096)] = 32
    vote: Vote = "mean"
    mode: Literal["exact", "dense"] = "exact"


class AnalysisSettings(_Part):
    """At which timepoint plates are read, how intervals are drawn, and when a plate is good enough."""

    timepoint: Literal["last"] | Annotated[int, Field(ge=0)] = "last"
    draws: Annotated[int, Field(ge=100, le=100_000)] = 1000
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    z_prime_min: Annotated[float, Field(le=1)] = 0.5
    ssmd_min: Annotated[float, Field(ge=0)] = 3.0
    controls_min: Annotated[int, Field(ge=2)] = 4
    patches_min: Annotated[int, Field(ge=1)] = 10
    reference: str = ""
    exclusions: Annotated[ExistingFile | None, Field(strict=False)] = None
    allow_mixed: bool = False
    hit_fdr: Annotated[float, Field(gt=0, lt=1)] = 0.05
    hit_effect: Annotated[float, Field(ge=0, le=1)] = 0.1
    quality: QualitySettings = QualitySettings()

    @model_validator(mode="after")
    def _limits_in_order(self) -> AnalysisSettings:
        if self.quality.fail_z_prime > self.z_prime_min:
            raise ValueError(
                f"quality.fail_z_prime is {self.quality.fail_z_prime:g}, above z_prime_min ({self.z_prime_min:g}): a "
                "plate would fail that could pass. Make it the smaller one"
            )
        return self


class WorkerSettings(_Part):
    """Where the work is done: so many processes here, or the Dask cluster behind a scheduler."""

    count: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = "auto"
    scheduler: Annotated[str, Field(pattern=r"^((tcp|tls|ws|wss|ucx)://\S+)?$")] = ""
    tls_ca: Annotated[ExistingFile | None, Field(strict=False)] = None
    tls_certificate: Annotated[ExistingFile | None, Field(strict=False)] = None
    tls_key: Annotated[ExistingFile | None, Field(strict=False)] = None

    @model_validator(mode="after")
    def _all_certificates(self) -> WorkerSettings:
        given = [value is not None for value in (self.tls_ca, self.tls_certificate, self.tls_key)]
        if any(given) and not all(given):
            raise ValueError("tls_ca, tls_certificate and tls_key belong together: give all three, or none")
        return self

    @property
    def certificates(self) -> Certificates | None:
        """Certificates for an encrypted cluster; None where they are left to Dask's configuration."""
        from screening.cluster import Certificates

        if self.tls_ca is None or self.tls_certificate is None or self.tls_key is None:
            return None
        return Certificates(self.tls_ca, self.tls_certificate, self.tls_key)


def _some_plates(plates: tuple[PlateSettings, ...]) -> tuple[PlateSettings, ...]:
    # not min_length: a faulty plate would then count as none
    if not plates:
        raise ValueError("no plate is described")
    return plates


class Settings(_Part):
    """A campaign as one screen.toml describes it."""

    campaign: CampaignSettings
    plates: Annotated[tuple[PlateSettings, ...], Field(strict=False), AfterValidator(_some_plates)]
    classifier: ClassifierSettings = ClassifierSettings()
    classify: ClassifySettings = ClassifySettings()
    analysis: AnalysisSettings = AnalysisSettings()
    workers: WorkerSettings = WorkerSettings()


def _in_words(errors: list[ErrorDetails], raw: dict[str, Any]) -> list[tuple[_Where, str]]:
    """Say each fault in a sentence that ends with what to do."""
    reasons: dict[_Where, list[str]] = {}
    faults: list[tuple[_Where, str]] = []
    for error in errors:
        where = error["loc"]
        key = ".".join(part for part in where if isinstance(part, str))
        if error["type"] == "extra_forbidden":
            faults.append((where, f"unknown key '{key}'. {_nearest(where)}"))
        elif error["type"] == "missing":
            faults.append((where, f"'{key}' is missing. Add it."))
        elif where == ("plates",):
            faults.append((where, "no plate is described. Write [[plates]], with two brackets, above each."))
        else:
            # of a value that may be a word or a number, each alternative complains
            held = _held(where, raw)
            reason = error["msg"].removeprefix("Value error, ")
            seen = "" if error["type"] == "value_error" else f", got {_shown(error['input'])}"
            reasons.setdefault(held, []).append(reason + seen)
    for where, alternatives in reasons.items():
        key = ".".join(part for part in where if isinstance(part, str))
        faults.append((where, f"{key}: {'; or: '.join(alternatives)}."))
    return faults


def _held(where: _Where, raw: Any) -> _Where:
    """Return as much of a place as the file itself holds."""
    for depth, part in enumerate(where):
        keys = raw if isinstance(raw, dict) else range(len(raw)) if isinstance(raw, list) else ()
        if part not in keys:
            return where[:depth]
        raw = raw[part]
    return where


def _nearest(where: _Where) -> str:
    sections = Settings.model_fields
    parts: dict[tuple[str, ...], type[BaseModel]] = {
        ("campaign",): CampaignSettings,
        ("plates",): PlateSettings,
        ("classifier",): ClassifierSettings,
        ("classify",): ClassifySettings,
        ("analysis",): AnalysisSettings,
        ("analysis", "quality"): QualitySettings,
        ("workers",): WorkerSettings,
    }
    held = tuple(part for part in where[:-1] if isinstance(part, str))
    valid = list(parts[held].model_fields if held else sections)
    near = difflib.get_close_matches(str(where[-1]), valid, n=1, cutoff=0.6)
    return f"Did you mean '{near[0]}'?" if near else f"Expected one of {', '.join(valid)}."


def _clashes(raw: dict[str, Any]) -> list[tuple[_Where, str]]:
    """Find plates that would share files, whatever else is wrong with them."""
    listed = raw.get("plates")
    campaign = raw.get("campaign")
    faults: list[tuple[_Where, str]] = []
    # file systems may hold "p1" and "P1" for the same name
    taken: dict[str, str] = {}
    if isinstance(campaign, dict):
        taken[str(campaign.get("name")).casefold()] = "the campaign"
    sources: dict[tuple[str, str], str] = {}
    for index, plate in enumerate(listed if isinstance(listed, list) else []):
        if not isinstance(plate, dict) or "name" not in plate:
            continue
        name = str(plate["name"])
        if name.casefold() in taken:
            other = taken[name.casefold()]
            faults.append((("plates", index, "name"), f"the name is taken by {other}. Choose another."))
        taken.setdefault(name.casefold(), f"plate {index + 1}")
        source = (str(plate.get("acquisitions")), str(plate.get("manifest")))
        if source in sources and "acquisitions" in plate:
            what = f"the same acquisitions as {sources[source]}. Give each plate its own folder or manifest."
            faults.append((("plates", index, "acquisitions"), what))
        sources.setdefault(source, f"plate {index + 1}")
    return faults


def _key_lines(text: str) -> dict[_Where, int]:
    """Return the line of each table and key: tomllib tells no positions."""
    word = r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'"""
    lines: dict[_Where, int] = {}
    count: dict[_Where, int] = {}
    table: _Where = ()
    for number, line in enumerate(text.splitlines(), start=1):
        match = re.match(rf"\s*(\[*)\s*((?:{word})(?:\s*\.\s*(?:{word}))*)\s*([\]=])", line)
        if match is None:
            continue
        key: _Where = tuple(part.strip("\"'") for part in re.findall(word, match[2]))
        if match[1] and match[3] == "]":
            lines.setdefault(key, number)
            table = key
            if match[1] == "[[":
                table = (*key, count.get(key, 0))
                count[key] = count.get(key, 0) + 1
            lines.setdefault(table, number)
        elif match[3] == "=":
            lines.setdefault((*table, *key), number)
    return lines


def _line_of(where: _Where, lines: dict[_Where, int]) -> int:
    return next((lines[where[:n]] for n in range(len(where), 0, -1) if where[:n] in lines), 1)


def _of_plate(where: _Where, raw: dict[str, Any]) -> str:
    if len(where) < 2 or where[0] != "plates":
        return ""
    plate = raw["plates"][where[1]]
    name = plate.get("name") if isinstance(plate, dict) else None
    return f"plate {_shown(name)}: " if name is not None else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


EXAMPLE = f"""\
# One campaign: its plates, and how they are read. Paths start at the folder of this file.

[campaign]
name = "my-campaign"         # becomes part of file names: letters, digits, '-', '_' and '.'
out = "results"              # folder of the plate stores, results and reports; made if need be

# One [[plates]] block for each plate.
[[plates]]
name = "P001"
acquisitions = "P001"        # folder with the microscope's files (TCF, TIFF), or an OME-Zarr plate
layout = "P001.csv"          # plate map (CSV, TSV, Excel): what is in each well
# manifest = "P001_files.csv"  # which file is which well and field, where the names do not tell
# dose_unit = "uM"           # unit of doses that carry none in the plate map
# sheet = "Plate 1"          # sheet of an Excel plate map; the first if left out
# fluorescence = "metadata"  # how it is placed on the tomogram: "registered" (the default), "metadata" or "none"
# stitch = true              # overlapping positions of a well are tiles of one wide field
# format = "tcf"             # use files of this format only, where acquisitions lie there in several
# acquisition = 1            # run to take of an OME-Zarr plate with several
# channel = "RI"             # channel of an OME-Zarr plate that holds the refractive index
# in_place = true            # leave an OME-Zarr plate's tomograms where they are
# compounds = "library.tsv"  # table of compounds that the plate map names, as Broad plate maps have it

[classifier]
# path = "my-classifier"     # folder of weights.safetensors and card.json; the demonstration one if left out
device = "auto"              # auto, cpu, mps, cuda or cuda:0

[classify]
stride_px = 160              # step between patches of 160 px (25.6 um); less lets them overlap
batch = 32                   # patches classified together
# mode = "exact"             # "dense": whole fields at once; refused where that gives other numbers
# vote = "mean"              # how overlapping windows make the map of states: "mean" or "majority"

[analysis]
timepoint = "last"           # at which plates are compared: "last", or a number from 0
draws = 1000                 # resamplings behind each interval
seed = 0
z_prime_min = 0.5            # a plate below is marked for review
ssmd_min = 3.0               # likewise
controls_min = 4             # wells of a control below which its quality is not judged
patches_min = 10             # patches with cells in a well below which it is flagged
hit_fdr = 0.05               # share of false hits that is accepted
hit_effect = 0.1             # excess death at the top dose that a hit reaches for sure
# reference = "staurosporine"  # compound whose EC50 is followed from plate to plate
# exclusions = "exclusions.csv"  # what is left out: plate, well, field, timepoint, reason, name, date
# allow_mixed = true         # rank plates together although they were not made alike

{QUALITY_EXAMPLE}
[workers]
count = "auto"               # processes on this machine
scheduler = ""               # address of a Dask scheduler instead, such as tcp://10.0.0.1:8786
# tls_ca = "ca.pem"          # with a tls:// address: the authority's certificate,
# tls_certificate = "me.pem" # this machine's,
# tls_key = "me.key"         # and its key
"""
