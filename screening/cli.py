"""The commands; each parses, calls one function and prints what it made. Heavy libraries load inside."""

import signal
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from plates.errors import SettingsError, TomoscreenError, UnfinishedError
from plates.files import location
from plates.stopping import SIGNALS, Wish, stoppable
from screening.classifier_commands import adapt, annotate, compare, evaluate, models_app, train
from screening.integrity_commands import diff, repair, status, verify
from screening.options import (
    PlatePath,
    Scheduler,
    Steal,
    Workers,
    campaign_outputs,
    command_line,
    numbers,
    plate_on_disk,
    workers_from,
)
from screening.writing import writing

if TYPE_CHECKING:
    from screening.settings import Settings

TRANSIENT = 75  # storage failed: try again when it is mended
INTERRUPTED = 130  # what typer leaves with after Ctrl-C
TERMINATED = 143  # after SIGTERM, as a scheduler of jobs expects

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From holotomography plates to compounds ranked by how, how strongly and how fast they kill.",
)


layout_app = typer.Typer(no_args_is_help=True, help="Plate maps: look at them before anything runs.")
app.add_typer(layout_app, name="layout")
for command in (annotate, train, evaluate, compare, adapt, verify, repair, status, diff):
    app.command()(command)
app.add_typer(models_app, name="models")

PlateMapPath = Annotated[Path, typer.Option(help="Plate map (CSV, TSV or Excel).")]
DoseUnit = Annotated[str | None, typer.Option(help="Unit of doses written without one.")]
Sheet = Annotated[str | None, typer.Option(help="Sheet of an Excel plate map; by default the first.")]
FileFormat = Annotated[
    Literal["tcf", "tiff", "ome-zarr"] | None, typer.Option("--format", help="Use files of this format only.")
]
Manifest = Annotated[Path | None, typer.Option(help="CSV that places files by hand.")]
Acquisition = Annotated[int | None, typer.Option(min=0, help="Which run of an OME-Zarr plate.")]
Channel = Annotated[str | None, typer.Option(help="Channel of an OME-Zarr plate that holds the index.")]
Compounds = Annotated[Path | None, typer.Option(help="Table of compounds, as Broad plate maps have it.")]


def main() -> None:
    """Run the command line; an error that a user can mend is one message, not a traceback."""
    wish = Wish()
    try:
        check_siblings()
        with stoppable() as wish:
            app()
    except TomoscreenError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except OSError as error:
        # a full disk, a missing right, a folder that is none: the system's own words say which
        from plates.patience import in_words

        sys.stderr.write(f"error: {in_words(error)}\n")
        sys.exit(TRANSIENT)
    except Exception as error:
        from models.devices import device_fault

        if fault := device_fault(error):
            sys.stderr.write(f"error: {fault}\n")
            sys.exit(fault.exit_code)
        if not type(error).__module__.startswith(("botocore", "aiobotocore", "s3fs", "gcsfs", "adlfs", "aiohttp")):
            raise
        # an object store that cannot be reached or entered, in the words of its own client
        sys.stderr.write(f"error: the object store: {error}. Check its address and your access keys, then run again.\n")
        sys.exit(TRANSIENT)
    except SystemExit as left:
        if left.code == INTERRUPTED:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)  # it ends already: another press has nothing to stop
            sys.stderr.write("stopped; what was finished is kept. Run the same command to go on.\n")
            sys.exit(TERMINATED if wish.signal == signal.SIGTERM else INTERRUPTED)
        raise


def check_siblings() -> None:
    """Refuse to run beside packages of the same plain names that belong to somebody else."""
    home = Path(__file__).resolve().parent.parent
    for name in ("plates", "models", "reports"):
        spec = find_spec(name)
        places = list(spec.submodule_search_locations or []) if spec else []
        if not places or Path(places[0]).resolve().parent != home:
            found = places[0] if places else "nothing"
            raise SettingsError(
                f"The package '{name}' of tomoscreen was expected in {home}, but Python finds {found}. "
                "Install tomoscreen into an environment of its own."
            )


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder to fill with plates, plate maps, truth and screen.toml.")],
    seed: Annotated[int, typer.Option(help="Everything follows from it.")] = 1,
    plates: Annotated[int, typer.Option(min=1, help="Plates, one replicate each.")] = 2,
    compounds: Annotated[int, typer.Option(min=1, help="Compounds in the library.")] = 8,
    hours: Annotated[str, typer.Option(help="Times of the frames, in hours after dosing.")] = "0,8,16",
    fields: Annotated[int, typer.Option(min=1, help="Fields a well.")] = 2,
    variant: Annotated[str, typer.Option(help="How TCF stores it: uint16, float, ldm, ldm8.")] = "uint16",
    fluorescence: Annotated[bool, typer.Option(help="Add Hoechst, annexin V and PI channels.")] = False,
    line: Annotated[str, typer.Option(help="Cell line: HeLa-like, A549-like, Jurkat-like.")] = "HeLa-like",
    controls: Annotated[bool, typer.Option("--controls", help="Plates of controls only, to annotate.")] = False,
    workers: Workers = "auto",
) -> None:
    """Make plates whose answers are known, written as the instrument writes them.

    Example: tomoscreen simulate demo/acquisitions --seed 7 --plates 2
    """
    from screening.demo import simulate_campaign
    from screening.terminal import Bars

    with Bars() as bars:
        settings = simulate_campaign(
            out,
            seed=seed,
            plates=plates,
            compounds=compounds,
            hours=numbers(hours, option="--hours"),
            workers=workers_from(workers),
            progress=bars,
            controls=controls,
            fields=fields,
            variant=variant,
            fluorescence=fluorescence,
            line=line,
        )
    step = (
        f"tomoscreen ingest {out}/P001 P001.zarr --layout {out}/P001.csv" if controls else f"tomoscreen run {settings}"
    )
    typer.echo(f"Simulated {plates} plate{'s' * (plates != 1)} with their truth. Next: tomoscreen {step}")


@app.command()
def inspect(
    acquisitions: Annotated[Path, typer.Argument(help="Folder of acquisitions, or an OME-Zarr plate.")],
    manifest: Manifest = None,
    layout: Annotated[Path | None, typer.Option(help="Plate map, to compare its wells with those imaged.")] = None,
    dose_unit: DoseUnit = None,
    sheet: Sheet = None,
    compounds: Compounds = None,
    file_format: FileFormat = None,
    acquisition: Acquisition = None,
    channel: Channel = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Show what would be ingested, and what is wrong with it, without converting anything.

    Example: tomoscreen inspect P012/ --layout P012.csv
    """
    from plates.ingest.inspection import inspect as look_at
    from plates.layout import read_plate_map
    from screening.inspect import exit_code, print_inspection

    plate_map = None
    if layout is not None:
        plate_map = read_plate_map(layout, dose_unit=dose_unit, sheet=sheet, metadata=compounds)
    inspection = look_at(
        acquisitions,
        manifest=manifest,
        plate_map=plate_map,
        file_format=file_format,
        acquisition=acquisition,
        channel=channel,
    )
    if json:
        typer.echo(inspection.to_json())
    else:
        print_inspection(inspection)
    raise typer.Exit(exit_code(inspection))


@layout_app.command("check")
def check_layout(
    plate_map: Annotated[Path, typer.Argument(help="Plate map (CSV, TSV or Excel).")],
    acquisitions: Annotated[Path | None, typer.Option(help="Acquisitions, to compare the wells imaged.")] = None,
    out: Annotated[Path | None, typer.Option(help="Page to write as well, such as layout.html.")] = None,
    dose_unit: DoseUnit = None,
    sheet: Sheet = None,
    compounds: Compounds = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of drawing.")] = False,
) -> None:
    """Draw a plate map and list everything suspicious about it, before anything runs.

    Example: tomoscreen layout check P012.csv --acquisitions P012/ --out P012.layout.html
    """
    from plates.layout import read_plate_map
    from screening.layout_check import check_layout as check

    read = read_plate_map(plate_map, dose_unit=dose_unit, sheet=sheet, metadata=compounds)
    check(read, acquisitions=acquisitions, out=out, as_json=json)


@app.command()
def ingest(
    acquisitions: Annotated[Path, typer.Argument(help="Folder of acquisitions, or an OME-Zarr plate.")],
    out: Annotated[Path, typer.Argument(parser=location, help="Plate to make, such as results/P012.zarr.")],
    layout: PlateMapPath,
    manifest: Manifest = None,
    dose_unit: DoseUnit = None,
    sheet: Sheet = None,
    compounds: Compounds = None,
    file_format: FileFormat = None,
    acquisition: Acquisition = None,
    channel: Channel = None,
    fluorescence: Annotated[
        Literal["registered", "metadata", "none"], typer.Option(help="How it is placed on the tomogram.")
    ] = "registered",
    stitch: Annotated[bool, typer.Option("--stitch", help="Join overlapping positions to wide fields.")] = False,
    in_place: Annotated[bool, typer.Option("--in-place", help="Leave an OME-Zarr plate's tomograms there.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell sizes, time and room, and write nothing.")] = False,
    workers: Workers = "auto",
    scheduler: Scheduler = "",
    steal: Steal = False,
) -> None:
    """Convert acquisitions into a plate; what is converted already is skipped.

    Example: tomoscreen ingest P012/ results/P012.zarr --layout P012.csv
    """
    from plates.ingest.convert import Reading, last_summary
    from plates.ingest.convert import ingest as convert
    from plates.layout import read_plate_map
    from screening.cluster import cluster
    from screening.run_record import recorded_command
    from screening.terminal import Bars, print_conversion, print_preview

    plate_map = read_plate_map(layout, dose_unit=dose_unit, sheet=sheet, metadata=compounds)
    reading = Reading(
        manifest=manifest,
        file_format=file_format,
        acquisition=acquisition,
        channel=channel,
        fluorescence=fluorescence,
        stitch=stitch,
        in_place=in_place,
    )
    count = workers_from(workers)
    if dry_run:
        print_preview(acquisitions, out=out, plate_map=plate_map, reading=reading, workers=count)
        return
    told = {"acquisitions": str(acquisitions), "dose_unit": dose_unit, "channel": channel, "stitch": stitch}
    told |= {"fluorescence": fluorescence, "in_place": in_place}
    settings = {"ingest": {out.stem: told}}
    record = recorded_command(out, command=command_line(), settings=settings, layout=layout)
    try:
        with (
            writing(out, command=command_line(), steal=steal),
            ExitStack() as recording,
            Bars() as bars,
            cluster(workers=count, scheduler=scheduler) as client,
        ):
            convert(
                acquisitions,
                out=out,
                plate_map=plate_map,
                reading=reading,
                client=client,
                progress=lambda done, total, text: bars(done, total, f"converting {out.stem}"),
                # what is refused leaves no record either
                before_writing=lambda: recording.enter_context(record),
            )
    except UnfinishedError:
        # what could be converted is told as well
        print_conversion(out, last_summary(out), failed=True)
        raise
    print_conversion(out, last_summary(out))


@app.command()
def classify(
    plate: PlatePath,
    classifier: Annotated[
        Path | None, typer.Option(help="Folder of the classifier; by default the shipped demonstration.")
    ] = None,
    stride: Annotated[int, typer.Option(min=16, max=160, help="Distance of windows, px of 0.16 um.")] = 160,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    vote: Annotated[str, typer.Option(help="How overlapping windows make the map: mean, majority.")] = "mean",
    mode: Annotated[str, typer.Option(help="exact, or dense: whole fields at once, where that is the same.")] = "exact",
    workers: Workers = "auto",
    scheduler: Scheduler = "",
    steal: Steal = False,
) -> None:
    """Classify every patch of a plate; fields done already are skipped.

    Example: tomoscreen classify results/P012.zarr --classifier classifiers/HeLa
    """
    from plates.patches import VOTES
    from plates.results import result_attributes
    from screening.classify import classify_plate
    from screening.cluster import cluster
    from screening.options import one_of
    from screening.run_record import recorded_command
    from screening.settings import ClassifierSettings, ClassifySettings
    from screening.terminal import Bars
    from screening.units import MODES

    folder = classifier or ClassifierSettings().folder
    told: dict[str, dict[str, Any]] = {
        "classifier": {"path": str(folder), "device": device},
        "classify": {"stride_px": stride, "vote": vote, "mode": mode, "batch": ClassifySettings().batch},
    }
    with (
        writing(plate, command=command_line(), steal=steal),
        recorded_command(plate, command=command_line(), settings=told, classifier=folder, device=device),
        Bars() as bars,
        cluster(workers=workers_from(workers), scheduler=scheduler, device=device) as client,
    ):
        summary = classify_plate(
            plate,
            classifier=folder,
            stride=stride,
            vote=one_of(VOTES, vote, option="--vote"),
            mode=one_of(MODES, mode, option="--mode"),
            batch=ClassifySettings().batch,
            device=device,
            client=client,
            progress=bars,
        )
    for line in summary.lines():
        typer.echo(line)
    attributes = result_attributes(plate, "probabilities")
    stored, wanted = attributes["resampled_from_um"], attributes["um_per_px"]
    if any(abs(size - wanted) > 1e-6 for size in stored):
        typer.echo(f"Projections of {stored[0]:.4g} x {stored[1]:.4g} um per pixel were resampled to {wanted:g} um.")
    if attributes.get("outlier_flagged"):
        typer.echo(f"warning: {attributes['outlier_text']}")


@app.command()
def bench(
    plate: Annotated[
        Path | None, typer.Argument(parser=plate_on_disk, help="A converted plate to take fields from.")
    ] = None,
    classifier: Annotated[
        Path | None, typer.Option(help="Folder of the classifier; by default the shipped demonstration.")
    ] = None,
    stride: Annotated[int, typer.Option(min=16, max=160, help="Distance of windows, px of 0.16 um.")] = 160,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    wells: Annotated[int, typer.Option(min=1, help="Of the plate whose time is to be told.")] = 384,
    fields: Annotated[int, typer.Option(min=1, help="Of each well.")] = 4,
    timepoints: Annotated[int, typer.Option(min=1, help="Of each field.")] = 24,
    seconds: Annotated[float, typer.Option(min=1, help="About how long to measure.")] = 15,
    workers: Workers = "auto",
    scheduler: Scheduler = "",
) -> None:
    """Time a classifier on this machine, and tell how long a plate would take.

    Example: tomoscreen bench --wells 96 --fields 9 --timepoints 12
    """
    from screening.bench import measure
    from screening.cluster import cluster
    from screening.settings import ClassifierSettings, ClassifySettings
    from screening.terminal import Bars

    with Bars() as bars, cluster(workers=workers_from(workers), scheduler=scheduler, device=device) as client:
        speed = measure(
            classifier or ClassifierSettings().folder,
            plate=plate,
            stride=stride,
            batch=ClassifySettings().batch,
            device=device,
            client=client,
            seconds=seconds,
            progress=bars,
        )
    for line in speed.lines(wells=wells, fields=fields, timepoints=timepoints):
        typer.echo(line)


@app.command()
def analyse(plate: PlatePath, steal: Steal = False) -> None:
    """Turn a plate's probabilities into fractions, quality, dose-response, kinetics and a ranking.

    Example: tomoscreen analyse results/P012.zarr
    """
    from plates.results import read_result
    from screening.analyse import analyse_plate
    from screening.run_record import recorded_command

    with (
        writing(plate, command=command_line(), steal=steal),
        recorded_command(plate, command=command_line(), analyses=True),
    ):
        analyse_plate(plate)
    quality = read_result(plate, "quality")
    typer.echo(f"{plate}: analysed, verdict {quality.attrs['verdict']}. Next: tomoscreen report {plate}")


@app.command("compare-analyses")
def compare_analyses_command(
    first: Annotated[Path, typer.Argument(parser=plate_on_disk, help="Results of the first analysis.")],
    second: Annotated[Path, typer.Argument(parser=plate_on_disk, help="Results of the second analysis.")],
) -> None:
    """Say which compounds moved between two analyses, and what was done differently.

    Example: tomoscreen compare-analyses old/P001.results.zarr new/P001.results.zarr
    """
    from screening.analysis.comparison import compare_analyses

    found = compare_analyses(first, second)
    typer.echo(found.attrs["summary"])
    for line in found.attrs["causes"].splitlines():
        typer.echo(f"  {line}")
    for name, what in zip(found["compound"].values, found["what"].values, strict=True):
        if what:
            typer.echo(f"{name}: {what}")


@app.command()
def report(
    plate: PlatePath,
    out: Annotated[Path | None, typer.Option(help="Page to write; by default beside the plate.")] = None,
) -> None:
    """Write the page of an analysed plate.

    Example: tomoscreen report results/P012.zarr
    """
    from reports.plate import write_plate_report
    from screening.analyse import require_current
    from screening.run_record import recorded_command

    require_current(plate)
    with recorded_command(plate, command=command_line()):
        page = write_plate_report(plate, out=out or plate.with_suffix(".html"))
    typer.echo(f"Report: {page}")


@app.command()
def run(
    settings: Annotated[Path, typer.Argument(help="The campaign's screen.toml.")],
    example: Annotated[bool, typer.Option("--example", help="Write a commented screen.toml and stop.")] = False,
    scheduler: Scheduler = "",
    steal: Steal = False,
) -> None:
    """Do all steps for all plates of a campaign; what is done already is skipped.

    Example: tomoscreen run screen.toml
    """
    from screening.settings import read_settings, write_example

    if example:
        typer.echo(f"Wrote {write_example(settings)}. Edit it, then: tomoscreen run {settings}")
        return
    from screening.pipeline import run as run_campaign
    from screening.terminal import Bars, print_outcome

    checked = _on(read_settings(settings), scheduler)
    with writing(*campaign_outputs(checked), command=command_line(), steal=steal), Bars() as bars:
        outcome = run_campaign(checked, progress=bars)
    print_outcome(outcome)


def _on(settings: "Settings", scheduler: str) -> "Settings":
    """Settings with the scheduler of the command line, where it names one."""
    if not scheduler:
        return settings
    return settings.model_copy(update={"workers": settings.workers.model_copy(update={"scheduler": scheduler})})


@app.command()
def watch(
    source: Annotated[Path, typer.Argument(help="The campaign's screen.toml, or a folder of acquisitions.")],
    layout: Annotated[Path | None, typer.Option(help="Plate map; for a folder.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results; for a folder.")] = Path("results"),
    classifier: Annotated[Path | None, typer.Option(help="Folder of the classifier; for a folder.")] = None,
    dose_unit: DoseUnit = None,
    workers: Workers = "auto",
    scheduler: Scheduler = "",
    settle: Annotated[float, typer.Option(min=0, help="Seconds that a file must not change.")] = 5.0,
    until_idle: Annotated[
        float | None, typer.Option(min=1, help="End when nothing changed for so many seconds.")
    ] = None,
    fields: Annotated[
        int | None, typer.Option(min=1, help="Fields a well; with --timepoints: end when all are there.")
    ] = None,
    timepoints: Annotated[int | None, typer.Option(min=1, help="Timepoints a field.")] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of the live page on this machine; 0 takes a free one.")
    ] = 0,
    server: Annotated[bool, typer.Option("--server/--no-server", help="Serve the live page to this machine.")] = True,
    steal: Steal = False,
) -> None:
    """Convert, classify and show every frame as it is acquired; ends as `run` does.

    Example: tomoscreen watch screen.toml --until-idle 7200
    """
    from screening.settings import read_settings
    from screening.terminal import Bars, print_outcome
    from screening.watch import folder_settings
    from screening.watch import watch as watch_campaign

    if (fields is None) != (timepoints is None):
        raise SettingsError("--fields and --timepoints belong together. Give both, or neither.")
    if source.is_dir():
        if layout is None:
            raise SettingsError(f"{source} is a folder: give its plate map by --layout.")
        settings = folder_settings(
            source, layout=layout, out=out, classifier=classifier, dose_unit=dose_unit, workers=workers_from(workers)
        )
    else:
        settings = read_settings(source)
    expected = None if fields is None or timepoints is None else (fields, timepoints)
    with writing(*campaign_outputs(settings), command=command_line(), steal=steal), Bars() as bars:
        watched = watch_campaign(
            _on(settings, scheduler),
            settle_s=settle,
            until_idle_s=until_idle,
            expected=expected,
            port=port if server else None,
            tell=lambda text: typer.echo(text, err=True),
            progress=bars,
        )
    for line in watched.lines():
        typer.echo(line)
    print_outcome(watched.outcome)


@app.command()
def dossier(
    campaign: Annotated[Path, typer.Argument(help="The campaign's results, such as results/screen.results.zarr.")],
    compounds: Annotated[list[str], typer.Argument(help="As in the plate maps; 'name [line]' for one cell line.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write into; by default dossiers/ beside the results.")
    ] = None,
) -> None:
    """Write one page a compound: curves, pathways, timing, fields and every well over all plates.

    Example: tomoscreen dossier results/screen.results.zarr SIM-003 SIM-007
    """
    from screening.dossier import write_dossiers

    for page in write_dossiers(campaign, compounds, out=out):
        typer.echo(f"Dossier: {page}")


@app.command()
def export(
    results: Annotated[Path, typer.Argument(parser=plate_on_disk, help="A plate, or a plate's or campaign's results.")],
    out: Annotated[Path, typer.Option(help="Folder to write into; made if need be.")],
    table_format: Annotated[Literal["csv", "parquet", "xlsx"], typer.Option("--format", help="Of the tables.")] = "csv",
    figures: Annotated[Literal["svg", "png", "html"] | None, typer.Option(help="Also write every figure.")] = None,
    browser: Annotated[Path | None, typer.Option(help="Chromium or Chrome, where it is not on the PATH.")] = None,
) -> None:
    """Write every result as tables with a dictionary of their columns, the figures and the methods text.

    Example: tomoscreen export results/P001.zarr --out exported --format xlsx --figures svg
    """
    from screening.export import export as write

    files = write(results, out=out, table_format=table_format, figure_format=figures, browser=browser)
    typer.echo(f"{len(files)} files in {out}; the table dictionary says what each column means.")


@app.command()
def view(
    plate: PlatePath,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of this machine; 0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
    at: Annotated[str, typer.Option(help='What to show first, such as "well=C07&t=3&field=0".')] = "",
    volume: Annotated[str, typer.Option(help="A well to show in 3-D as well; needs tomoscreen[neuroglancer].")] = "",
) -> None:
    """Look at a plate in the browser: all wells, each field, its states and probabilities. Ctrl-C ends it.

    Example: tomoscreen view results/P012.zarr
    """
    from screening.view import view as view_plate

    view_plate(plate, port=port, browser=browser, at=at, volume=volume, tell=typer.echo)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demonstration makes.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Of the simulated campaign.")] = 2026,
    workers: Workers = "auto",
) -> None:
    """Simulate a campaign, run it from TCF files to reports, and compare it with its truth.

    Example: tomoscreen demo --out demo
    """
    from screening.demo import run_demo
    from screening.terminal import Bars, print_comparison, print_outcome

    with writing(out, command=command_line()), Bars() as bars:
        outcome, comparison = run_demo(out, seed=seed, workers=workers_from(workers), progress=bars)
    print_comparison(comparison)
    print_outcome(outcome)
