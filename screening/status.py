"""How far a campaign is: what is done, missing, out of date or damaged at each step, why, and what a run would do."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from plates.errors import MissingInputError, StoreError
from plates.files import file_size
from plates.ingest.tables import MISSING
from plates.ingest.units import progress_folder
from plates.integrity import read_sealed
from plates.results import has_result, read_result
from plates.store import Plate, open_plate
from screening.analyse import CAMPAIGN_RESULTS, INPUTS, PLATE_RESULTS
from screening.fingerprints import content, digest, recorded
from screening.regions import RUN, read_record, work_folder
from screening.run_record import last_run, read_run
from screening.units import describe_input


@dataclass
class Stage:
    """One step of one plate: how much of it is done, missing, stale (made from something else) or damaged, and why."""

    plate: str
    name: str
    done: int = 0
    missing: int = 0
    stale: int = 0
    damaged: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def waiting(self) -> int:
        """What a run would do."""
        return self.missing + self.stale + self.damaged + self.failed

    def line(self) -> str:
        """The step in a line."""
        counts = ", ".join(
            f"{count} {what}"
            for what, count in (
                ("done", self.done), ("missing", self.missing), ("stale", self.stale), ("damaged", self.damaged),
                ("failed", self.failed),
            )
            if count or what == "done"
        )  # fmt: skip
        told = f"{self.plate} {self.name}: {counts}"
        why = "; ".join(f"{reason} ({count})" for reason, count in self.reasons.most_common(5))
        return f"{told}; a run would do {self.waiting}: {why}" if self.waiting else told


def status(path: Path) -> list[Stage]:
    """Tell how far a plate, or every plate of a campaign's folder, is; sizes and times are looked at, not contents.

    That bytes are as they were written, `screening.verify.verify` tells.

    Raises
    ------
    MissingInputError
        There is no plate.
    """
    if path.suffix == ".zarr":
        plates = [path]
    else:
        plates = [
            store for store in sorted(path.glob("*.zarr")) if not store.stem.endswith(("_mip", "_fl", ".results"))
        ]
    if not plates:
        raise MissingInputError(f"{path} holds no plate. Expected a plate such as P012.zarr, or a campaign's folder.")
    stages = [stage for plate in plates for stage in _of_plate(plate)]
    if path.suffix != ".zarr":
        for store in sorted(path.glob("*.results.zarr")):
            if store.with_name(store.name.replace(".results.zarr", ".zarr")) not in plates:
                stages.append(_results(store, store.name.removesuffix(".results.zarr"), CAMPAIGN_RESULTS))
    return stages


def lines(path: Path, stages: list[Stage]) -> list[str]:
    """What `status` found in words, with the last run."""
    told = [stage.line() for stage in stages]
    last = last_run(path, ended=False) if path.is_dir() else None
    if last is not None:
        run = read_run(last)
        how = (
            f"ended with exit code {run['exit_code']}"
            if run["state"] == "ended"
            else "was not ended: killed, or under way"
        )
        told.append(f"last run {run['run']}, started {run['started']} by {run['user']}, {how}")
    waiting = sum(stage.waiting for stage in stages)
    return [*told, f"a run would do {waiting} things" if waiting else "everything is done; a run would do nothing"]


def _of_plate(path: Path) -> Iterator[Stage]:
    try:
        plate = open_plate(path)
    except StoreError as error:
        yield Stage(path.stem, "convert", damaged=1, reasons=Counter([str(error)]))
        return
    yield _converted(plate)
    yield _classified(plate)
    yield _results(path, path.stem, PLATE_RESULTS)
    page = path.with_suffix(".html")
    yield Stage(path.stem, "report", done=int(page.exists()), missing=int(not page.exists()),
                reasons=Counter() if page.exists() else Counter(["no page"]))  # fmt: skip


def _places(plate: Plate) -> Iterator[tuple[str, int, int]]:
    for well in plate.wells:
        for number in range(plate.fields):
            for timepoint in range(plate.timepoints):
                yield well, number, timepoint


def _converted(plate: Plate) -> Stage:
    stage = Stage(plate.path.stem, "convert")
    sources: dict[Path, str] = {}
    for well, number, timepoint in _places(plate):
        marker = progress_folder(plate.path) / well / f"{number}_{timepoint}.json"
        failure = marker.with_suffix(".failed.json")
        try:
            record = read_sealed(marker)
            sizes, source = record["bytes"], Path(record["source"])
        except FileNotFoundError:
            if failure.exists():
                stage.failed += 1
                stage.reasons[_problem(failure)] += 1
            else:
                stage.missing += 1
                stage.reasons["never converted"] += 1
            continue
        except (StoreError, KeyError, TypeError):
            stage.damaged += 1
            stage.reasons["its record is damaged"] += 1
            continue
        if any(file_size(plate.path.parent / name) != size for name, size in sizes.items()):
            stage.damaged += 1
            stage.reasons["its image was lost or cut short"] += 1
            continue
        if source not in sources:
            sources[source] = _source_changed(source, record["fingerprint"])
        if sources[source]:
            stage.stale += 1
            stage.reasons[sources[source]] += 1
        else:
            stage.done += 1
    return stage


def _source_changed(source: Path, fingerprint: dict[str, object]) -> str:
    """Why a file is not what was converted; empty for one that is, or that is out of reach and cannot be asked."""
    if not source.is_file() or fingerprint.get("files") != 1:
        return ""
    state = source.stat()
    if (state.st_size, state.st_mtime_ns) != (fingerprint.get("size"), fingerprint.get("modified")):
        return "its acquisition changed"
    return ""


def _problem(failure: Path) -> str:
    try:
        return str(read_sealed(failure).get("problem", "failed"))
    except (OSError, StoreError):
        return "failed"


def _classified(plate: Plate) -> Stage:
    """Frames with probabilities, by the records of their units."""
    stage = Stage(plate.path.stem, "classify")
    try:
        medium = read_result(plate.path, "fields")["medium_index"]
    except (MissingInputError, StoreError) as error:
        stage.missing = len(plate.wells) * plate.fields * plate.timepoints
        stage.reasons[str(error)] = stage.missing
        return stage
    folder = work_folder(plate.path)
    volumes: bool | None = None
    for well, number, timepoint in _places(plate):
        place = (well, number, timepoint // RUN)
        record = read_record(folder, place)
        if record is None:
            known = (folder / "units" / f"{well}_{number}_{timepoint // RUN}.json").exists()
            stage.damaged += known
            stage.missing += not known
            stage.reasons["its numbers were lost or cut short" if known else "never classified"] += 1
            continue
        value = repr(float(medium.sel(well=well, field=number, timepoint=timepoint)))
        now = {
            kind: digest([describe_input(plate, well, field=number, timepoint=timepoint, volumes=kind), value])
            for kind in ((False, True) if volumes is None else (volumes,))
        }
        was = record.inputs.get(timepoint)
        if was in now.values():
            volumes = next(kind for kind, text in now.items() if text == was)
            stage.done += 1
            if record.status.get(timepoint) == MISSING:
                stage.reasons["no image"] += 1
        elif was is None:
            stage.failed += 1
            stage.reasons["failed"] += 1
        else:
            stage.stale += 1
            stage.reasons["its images changed"] += 1
    return stage


def _results(path: Path, name: str, wanted: tuple[str, ...]) -> Stage:
    stage = Stage(name, "analyse" if wanted == PLATE_RESULTS else "combine")
    read_from = ""
    if wanted == PLATE_RESULTS:
        try:
            read_from = digest([content(read_result(path, part)) for part in INPUTS])
        except (MissingInputError, StoreError) as error:
            stage.missing = len(wanted)
            stage.reasons[str(error)] = len(wanted)
            return stage
    for part in wanted:
        if not has_result(path, part):
            stage.missing += 1
            stage.reasons["never made"] += 1
            continue
        try:
            stored = read_result(path, part)
        except StoreError:
            stage.damaged += 1
            stage.reasons["damaged"] += 1
            continue
        if read_from and recorded(stored, "inputs") != read_from:
            stage.stale += 1
            stage.reasons["made from other probabilities or another plate map"] += 1
        else:
            stage.done += 1
    return stage
