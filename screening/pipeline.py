"""The steps in order, each skipped when it is done: convert, classify, analyse, combine, report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from plates.errors import SettingsError, UnfinishedError
from plates.files import write_durable
from plates.ingest.convert import Reading, ingest, last_summary
from plates.ingest.names import discover
from plates.ingest.survey import check_wells
from plates.ingest.units import progress_folder
from plates.layout import PlateMap, read_plate_map
from plates.results import read_result
from plates.stopping import stop_if_wished
from screening.analyse import CAMPAIGN_RESULTS, INPUTS, PLATE_RESULTS, analyse_campaign, analyse_plate
from screening.analysis.exclusions import read_exclusions
from screening.classify import classify_plate
from screening.cluster import clusters, worker_count
from screening.crate import write_crate
from screening.export import changed_settings
from screening.fingerprints import content, digest, provenance
from screening.run_record import for_crate, read_run, recorded
from screening.settings import PlateSettings, Settings

Progress = Callable[[int, int, str], None]


@dataclass
class Outcome:
    """What a run made, and what it found done."""

    plates: dict[str, Path] = field(default_factory=dict)
    plate_reports: dict[str, Path] = field(default_factory=dict)
    campaign_results: Path = Path()
    campaign_report: Path = Path()
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def run(settings: Settings, *, progress: Progress | None = None) -> Outcome:
    """Take a campaign from its acquisitions to its reports; what is done already is not done again.

    The classifier and every plate map, with the wells imaged, are checked before the first file is converted.

    Raises
    ------
    UnfinishedError
        Files or fields failed; everything else is done and reported, with them shown as missing.
    TomoscreenError
        Any other kind: nothing can go on. What was finished by then is kept.
    """
    from models.classifier import load_classifier, require_for_screening

    # whole, unaltered, it answers its test input; the device is only known here where the work is done here
    here = not settings.workers.scheduler
    folder = settings.classifier.folder
    checked = load_classifier(folder, device=settings.classifier.device if here else "cpu")
    require_for_screening(checked.card, path=folder)
    maps = {
        plate.name: read_plate_map(plate.layout, dose_unit=plate.dose_unit, sheet=plate.sheet, metadata=plate.compounds)
        for plate in settings.plates
    }
    for plate in settings.plates:
        how = reading(plate)
        sources = discover(
            plate.acquisitions, manifest=how.manifest, file_format=how.file_format, acquisition=how.acquisition
        )
        check_wells(sources, maps[plate.name])
    _check_excluded(settings)
    out = settings.campaign.out
    out.mkdir(parents=True, exist_ok=True)
    outcome = Outcome(
        plates={plate.name: out / f"{plate.name}.zarr" for plate in settings.plates},
        campaign_results=out / f"{settings.campaign.name}.results.zarr",
    )
    try:
        with recorded(settings) as record:
            _do(settings, maps, outcome, progress=progress)
            record["warnings"] += outcome.problems
            if outcome.problems:
                raise UnfinishedError(
                    f"The run ended and its reports are in {out}, but not all of its input could be used:\n"
                    + "\n".join(outcome.problems)
                )
    finally:
        if outcome.campaign_report.is_file():
            write_crate(out, for_crate(read_run(out)))
    return outcome


def _do(settings: Settings, maps: dict[str, PlateMap], outcome: Outcome, *, progress: Progress | None) -> None:
    """All steps, from the acquisitions to the pages."""
    workers = worker_count(settings.workers.count)
    where = settings.workers
    with clusters(
        workers=workers,
        scheduler=where.scheduler,
        device=settings.classifier.device,
        certificates=where.certificates,
    ) as (hands, eyes):
        _read_images(settings, maps, outcome, hands=hands, eyes=eyes, progress=progress)
    for number, path in enumerate(outcome.plates.values(), start=1):
        stop_if_wished()
        analyse_plate(path, settings=settings.analysis)
        _tell(progress, number, len(outcome.plates), "analysing")
    analyse_campaign(outcome.campaign_results, list(outcome.plates.values()), settings=settings.analysis)
    _write_reports(settings, outcome, progress=progress)


def _check_excluded(settings: Settings) -> None:
    """Refuse exclusions of plates that the campaign has not; wells are checked when they are known."""
    if settings.analysis.exclusions is None:
        return
    known = {plate.name for plate in settings.plates}
    for _, row in read_exclusions(settings.analysis.exclusions).iterrows():
        if row["plate"] not in known:
            raise SettingsError(
                f"{settings.analysis.exclusions.name}, line {row['line']}: there is no plate {row['plate']!r}. "
                f"Expected one of {', '.join(sorted(known))}."
            )


def _read_images(
    settings: Settings, maps: dict[str, PlateMap], outcome: Outcome, *, hands: Any, eyes: Any, progress: Progress | None
) -> None:
    """Convert and classify every plate: the steps that take time; `hands` convert, `eyes` classify."""
    for plate in settings.plates:
        stop_if_wished()
        path = outcome.plates[plate.name]
        try:
            _convert(plate, path, maps[plate.name], client=hands, progress=progress)
        except UnfinishedError as error:
            # the fields that are there are classified and reported; the others stay visible as missing
            outcome.problems.append(str(error))
        summary = last_summary(path)
        outcome.notes.append(f"{plate.name}: {summary.converted} tomograms converted, {summary.skipped} done before")
        outcome.notes += [f"  {Path(file).name}: {why}" for file, why in summary.recomputed.items()]
        try:
            done = classify_plate(
                path,
                classifier=settings.classifier.folder,
                stride=settings.classify.stride_px,
                batch=settings.classify.batch,
                vote=settings.classify.vote,
                mode=settings.classify.mode,
                device=settings.classifier.device,
                client=eyes,
                progress=progress,
            )
            outcome.notes += done.lines()
        except UnfinishedError as error:
            outcome.problems.append(str(error))


def _convert(plate: PlateSettings, path: Path, plate_map: PlateMap, *, client: Any, progress: Progress | None) -> None:
    ingest(
        plate.acquisitions,
        out=path,
        plate_map=plate_map,
        reading=reading(plate),
        name=plate.name,
        client=client,
        progress=lambda done, total, _: _tell(progress, done, total, f"converting {plate.name}"),
    )


def reading(plate: PlateSettings) -> Reading:
    """How a plate's folder is to be read."""
    return Reading(
        manifest=plate.manifest,
        file_format=plate.format,
        acquisition=plate.acquisition,
        channel=plate.channel,
        fluorescence=plate.fluorescence,
        stitch=plate.stitch,
        in_place=plate.in_place,
    )


def _write_reports(settings: Settings, outcome: Outcome, *, progress: Progress | None) -> None:
    """Write each page whose results changed since it was written."""
    from reports.campaign import write_campaign_report
    from reports.plate import write_plate_report

    out, described = settings.campaign.out, settings.model_dump_json(indent=1)
    total = len(outcome.plates) + 1
    for number, (name, path) in enumerate(outcome.plates.items(), start=1):
        stop_if_wished()
        page = outcome.plate_reports[name] = out / f"{name}.html"
        changed = changed_settings({"fractions": read_result(path, "fractions")})
        write = partial(write_plate_report, path, campaign=settings.campaign.name, changed=changed)
        _write_if_changed(page, path, (*INPUTS, *PLATE_RESULTS), described, write)
        _tell(progress, number, total, "reporting")
    page = outcome.campaign_report = out / f"{settings.campaign.name}.html"
    write = partial(
        write_campaign_report, outcome.campaign_results, plate_reports=outcome.plate_reports, changed=changed
    )
    # it also draws every plate and lists what was left out there
    drawn = [(path, name) for path in outcome.plates.values() for name in ("layout", "fractions", "exclusions")]
    # and it links to the dossiers that lie beside it by now
    linked = sorted(dossier.name for dossier in (out / "dossiers").glob("*.html"))
    _write_if_changed(page, outcome.campaign_results, CAMPAIGN_RESULTS, described, write, beside=drawn, linked=linked)
    _tell(progress, total, total, "reporting")


def _write_if_changed(
    page: Path,
    results: Path,
    shown: Sequence[str],
    described: str,
    write: Callable[..., Path],
    *,
    beside: Sequence[tuple[Path, str]] = (),
    linked: Sequence[str] = (),
) -> None:
    """Write a page unless it is there and was made from these results, settings, linked pages and version."""
    contents = [content(read_result(path, name)) for path, name in (*((results, name) for name in shown), *beside)]
    fingerprint = digest([provenance("report", ""), contents, described, linked]).encode()
    marker = progress_folder(results) / f"{page.name}.done"
    if page.exists() and marker.exists() and marker.read_bytes() == fingerprint:
        return
    write(out=page, analysed=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), settings=described)
    write_durable(marker, fingerprint)


def _tell(progress: Progress | None, done: int, total: int, text: str) -> None:
    if progress is not None:
        progress(done, total, text)
