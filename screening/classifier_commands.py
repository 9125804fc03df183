"""The commands that make, judge and keep classifiers; `screening.cli` adds them to the others."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from plates.errors import SettingsError
from screening.options import PlatePath, Scheduler, Workers, command_line, workers_from
from screening.writing import writing

Annotations = Annotated[Path, typer.Argument(help="CSV: plate, well, field, timepoint, y_um, x_um, state.")]
ClassifierFolder = Annotated[Path, typer.Argument(help="The classifier's folder.")]
States = Annotated[
    str, typer.Option(help="All states of the table, comma-separated; by default the five of the study.")
]
By = Annotated[Literal["well", "plate", "date"], typer.Option(help="What a split never divides.")]
HoldOut = Annotated[str, typer.Option(help="Names of plates, dates or wells to test on, comma-separated.")]
RecipeFile = Annotated[Path | None, typer.Option(help="TOML file whose table 'recipe' says how to train.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")]


def annotate(
    plate: PlatePath,
    out: Annotated[Path | None, typer.Option(help="Table to write; by default beside the plate.")] = None,
    settings: Annotated[Path | None, typer.Option(help="TOML file of the options below.")] = None,
    annexin: Annotated[str | None, typer.Option(help="Gate of annexin V, such as 350 or 300-400.")] = None,
    pi: Annotated[str | None, typer.Option(help="Gate of PI, such as 250 or 200-300.")] = None,
    hoechst_channel: Annotated[str | None, typer.Option(help="Channel, where it is not recognised.")] = None,
    annexin_channel: Annotated[str | None, typer.Option(help="Channel, where it is not recognised.")] = None,
    pi_channel: Annotated[str | None, typer.Option(help="Channel, where it is not recognised.")] = None,
    frames: Annotated[str | None, typer.Option(help="Timepoints to look at, such as 0,1 or 0-36.")] = None,
    live_frames: Annotated[str | None, typer.Option(help="Timepoints at which live states are taken.")] = None,
    dead_frames: Annotated[str | None, typer.Option(help="Timepoints at which dead states are taken.")] = None,
    stride: Annotated[int | None, typer.Option(help="Distance of patches, px of 0.16 um; 160 unless given.")] = None,
    purity: Annotated[float | None, typer.Option(help="Share of a patch's cells that must agree; 0.8.")] = None,
    least_area: Annotated[float | None, typer.Option(help="Share of a patch that cells must cover; 0.1.")] = None,
    max_residual: Annotated[float | None, typer.Option(help="Worst placement of the fluorescence, um; 3.")] = None,
    believe_metadata: Annotated[bool, typer.Option("--believe-metadata", help="Use unchecked placements.")] = False,
    corrections: Annotated[Path | None, typer.Option(help="A table that a person corrected.")] = None,
    regions: Annotated[Path | None, typer.Option(help="GeoJSON of QuPath or napari, or a folder of it.")] = None,
    region_unit: Annotated[Literal["px", "um"], typer.Option(help="Unit of the regions.")] = "px",
    per_state: Annotated[int | None, typer.Option(min=1, help="Patches of each state on the page; 20.")] = None,
    workers: Workers = "1",
    scheduler: Scheduler = "",
) -> None:
    """Give every patch of a stained plate a state, from Hoechst, annexin V, PI and the plate map.

    Example: tomoscreen annotate results/P012.zarr
    """
    from screening.annotate import annotate_plate, describe, read_options, whole_numbers
    from screening.cluster import cluster
    from screening.terminal import Bars

    def timepoints(text: str | None, option: str) -> tuple[int, ...] | None:
        return None if text is None else whole_numbers(text, option=option)

    options = read_options(
        settings,
        annexin=annexin,
        pi=pi,
        hoechst_channel=hoechst_channel,
        annexin_channel=annexin_channel,
        pi_channel=pi_channel,
        frames=timepoints(frames, "--frames"),
        live_frames=timepoints(live_frames, "--live-frames"),
        dead_frames=timepoints(dead_frames, "--dead-frames"),
        stride=stride,
        purity=purity,
        least_area=least_area,
        max_residual_um=max_residual,
        believe_metadata=believe_metadata or None,
        per_state=per_state,
    )
    with (
        writing(out or plate.with_name(f"{plate.stem}.annotations.csv"), command=command_line()),
        Bars() as bars,
        cluster(workers=workers_from(workers), scheduler=scheduler) as client,
    ):
        annotation = annotate_plate(
            plate,
            out=out,
            options=options,
            corrections=corrections,
            regions=regions,
            region_unit=region_unit,
            client=client,
            progress=bars,
        )
    for line in describe(annotation):
        typer.echo(line)


def train(
    annotations: Annotations,
    out: Annotated[Path, typer.Argument(help="Folder of the classifier to make.")],
    recipe: RecipeFile = None,
    architecture: Annotated[
        str | None, typer.Option(help="resnet18/34/50/101; small3d, r3d_18, inflated_resnet18 for volumes.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="'imagenet', 'kinetics', or a file of weights.")] = None,
    start: Annotated[Path | None, typer.Option("--from", help="Classifier folder to go on from.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Times that every patch is seen.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Patches a step.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the splits and of the training.")] = None,
    states: States = "",
    by: Annotated[
        Literal["well", "plate", "date"] | None,
        typer.Option(help="What a split never divides; well unless given, and plate for --folds."),
    ] = None,
    hold_out: HoldOut = "",
    folds: Annotated[
        bool, typer.Option("--folds", help="Leave out each plate (or date, well: --by) in turn, and score.")
    ] = False,
    trained_on: Annotated[str, typer.Option(help="What the patches show, for the card and every report.")] = "",
    device: Device = "auto",
) -> None:
    """Train a classifier on annotated patches; an interrupted training goes on where it was.

    Example: tomoscreen train P012.annotations.csv classifiers/HeLa --architecture resnet101 --weights imagenet
    """
    from models.recipes import make_recipe, read_recipe
    from screening.terminal import Bars
    from screening.train import PLOT, prepare, train_classifier, train_folds

    told = {"architecture": architecture, "weights": weights, "epochs": epochs, "batch": batch, "seed": seed}
    given: dict[str, object] = {name: value for name, value in told.items() if value is not None}
    if start is not None and recipe is None:
        given = kind_of(start) | given
    checked = make_recipe(given, where="the command") if recipe is None else read_recipe(recipe, **given)
    names = states_from(states)
    if folds and (hold_out or start is not None):
        raise SettingsError("--folds holds out each plate in turn. Leave --hold-out and --from away.")
    unit = by or ("plate" if folds else "well")
    table, warnings = prepare(
        annotations, states=names, by=unit, hold_out=listed(hold_out), deal=not folds, seed=checked.seed
    )
    for warning in warnings:
        typer.echo(warning)
    with writing(out, command=command_line()), Bars() as bars:
        if folds:
            scores = train_folds(table, out=out, recipe=checked, by=unit, states=names, device=device, progress=bars)
        else:
            classifier = train_classifier(
                table,
                out=out,
                recipe=checked,
                states=names,
                start=start,
                trained_on=trained_on,
                device=device,
                command=command_line(),
                progress=bars,
            )
    if folds:
        for row in scores["folds"]:
            typer.echo(f"  without {row['name']}: balanced accuracy {row['balanced_accuracy']:.3f}")
        typer.echo(f"{out}: {between(scores['between_folds'])} balanced accuracy; worst {scores['worst']}.")
        return
    typer.echo(f"{out}: trained.")
    for line in scored(classifier.card.metrics):
        typer.echo(f"  {line}")
    typer.echo(f"  calibration: {classifier.card.calibration}.")
    typer.echo(f"Training: {out / PLOT}. Next: tomoscreen evaluate {out} {annotations} --out {out}.evaluation")


def evaluate(
    classifier: ClassifierFolder,
    annotations: Annotated[Path, typer.Argument(help="CSV of annotated patches, or TOML of an image set.")],
    out: Annotated[Path, typer.Option(help="Folder for the record and its page.")],
    split: Annotated[Literal["test", "validation", "train", "all"], typer.Option(help="Which patches.")] = "test",
    device: Device = "auto",
) -> None:
    """Judge a classifier on annotated patches that it has not seen: record, table and page.

    Example: tomoscreen evaluate classifiers/HeLa P013.annotations.csv --out HeLa-on-P013
    """
    from screening.evaluate import PAGE, evaluate_classifier, summary
    from screening.terminal import Bars

    with writing(out, command=command_line()), Bars() as bars:
        record = evaluate_classifier(
            classifier,
            annotations,
            out=out,
            split=split,
            device=device,
            progress=lambda done, total: bars(done, total, "reading patches"),
            warn=typer.echo,
        )
    for line in summary(record):
        typer.echo(line)
    typer.echo(f"Page: {out / PAGE}")


def compare(
    annotations: Annotations,
    out: Annotated[Path, typer.Argument(help="Folder for both classifiers and the comparison.")],
    two: Annotated[str, typer.Option(help="Network of projections: resnet18, 34, 50 or 101.")] = "resnet18",
    three: Annotated[
        str, typer.Option(help="Network of volumes: small3d, r3d_18, inflated_resnet18 (34, 50, 101).")
    ] = "small3d",
    two_weights: Annotated[str | None, typer.Option(help="'imagenet', or a file.")] = None,
    three_weights: Annotated[
        str | None, typer.Option(help="'kinetics', 'imagenet', a file, or a classifier's folder to inflate.")
    ] = None,
    states: States = "",
    planes: Annotated[int, typer.Option(min=1, help="Planes of a volume.")] = 24,
    um_per_plane: Annotated[float, typer.Option(help="Their distance, um.")] = 0.95,
    by: By = "well",
    hold_out: HoldOut = "",
    epochs: Annotated[int, typer.Option(min=1, help="Times that every patch is seen.")] = 16,
    batch: Annotated[int, typer.Option(min=1, help="Patches a step.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Of the splits and of both trainings.")] = 0,
    device: Device = "auto",
) -> None:
    """Train a network of projections and one of volumes on the same wells, and say which tells more.

    Example: tomoscreen compare annotations.csv comparisons/dox --states doxorubicin,cisplatin
    """
    from models.recipes import make_recipe
    from screening.compare import PAGE, in_words
    from screening.compare import compare as compare_on
    from screening.terminal import Bars
    from screening.train import prepare

    common = {"epochs": epochs, "batch": batch, "seed": seed}
    flat = {"architecture": two, "weights": two_weights}
    deep = {"architecture": three, "weights": three_weights, "planes": planes, "um_per_plane": um_per_plane}
    deep |= {"small_share": 0.0, "focus": 0.0}
    names = states_from(states)
    table, warnings = prepare(annotations, states=names, by=by, hold_out=listed(hold_out), seed=seed)
    for warning in warnings:
        typer.echo(warning)
    with writing(out, command=command_line()), Bars() as bars:
        found = compare_on(
            table,
            out=out,
            two=make_recipe({**common, **flat}, where="--two"),
            three=make_recipe({**common, **deep}, where="--three"),
            states=names,
            device=device,
            command=command_line(),
            progress=bars,
        )
    for line in in_words(found):
        typer.echo(line)
    typer.echo(f"Page: {out / PAGE}")


def adapt(
    classifier: ClassifierFolder,
    annotations: Annotated[Path, typer.Argument(help="Table of annotated patches of the new kind.")],
    out: Annotated[Path, typer.Argument(help="Folder of the adapted classifier.")],
    old: Annotated[
        Path | None, typer.Option(help="Annotated patches of the old kind: rehearsed, and what is forgotten.")
    ] = None,
    budget: Annotated[str, typer.Option(help="Numbers of patches to adapt to, comma-separated.")] = "25,50,100,200",
    by: By = "well",
    hold_out: HoldOut = "",
    norm: Annotated[
        Literal["choose", "keep", "recalculate", "update"], typer.Option(help="What BatchNorm's statistics do.")
    ] = "choose",
    new_line: Annotated[str, typer.Option(help="What the new patches show, for card and page.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of the splits and of the training.")] = 0,
    device: Device = "auto",
) -> None:
    """Adapt a classifier to another cell line, dose range or instrument with few annotated patches.

    Example: tomoscreen adapt classifiers/HeLa A549.csv classifiers/A549 --old HeLa.csv --new-line A549
    """
    from screening.adapt import PAGE, adapt_classifier
    from screening.terminal import Bars

    with writing(out, command=command_line()), Bars() as bars:
        record = adapt_classifier(
            classifier,
            annotations,
            out=out,
            old=old,
            budgets=[whole(number, option="--budget") for number in listed(budget)],
            by=by,
            hold_out=listed(hold_out),
            norm=norm,
            new_line=new_line,
            seed=seed,
            device=device,
            command=command_line(),
            progress=bars,
            warn=typer.echo,
        )
    before, after = (record[key]["accuracy"] for key in ("before", "after"))
    typer.echo(f"{out}: accuracy {between(before)} before, {between(after)} after, on wells that were not adapted to.")
    if record["old_line"] is not None:
        was, now = (record["old_line"][key]["accuracy"] for key in ("before", "after"))
        typer.echo(f"  on the old patches {between(was)} before, {between(now)} after.")
    typer.echo(f"Page: {out / PAGE}")


models_app = typer.Typer(no_args_is_help=True, help="Classifier folders: list, show, verify, export.")


@models_app.command("list")
def list_models(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Where to look; by default the shipped, ./classifiers, ./results.")
    ] = None,
) -> None:
    """List classifier folders, one line each; no network is loaded.

    Example: tomoscreen models list classifiers
    """
    from rich.console import Console

    from screening.classifiers import list_shelf, shelf_table

    console = Console()
    if not console.is_terminal:  # a file or a pipe is as wide as it must be
        console = Console(width=240)
    console.print(shelf_table(list_shelf(folders or ()), width=console.width))


@models_app.command("show")
def show_model(
    classifier: ClassifierFolder,
    as_json: Annotated[bool, typer.Option("--json", help="The card as it is stored.")] = False,
) -> None:
    """Show a classifier's card.

    Example: tomoscreen models show classifiers/HeLa
    """
    import json

    from screening.classifiers import card_lines, show

    card = show(classifier)
    if as_json:
        typer.echo(json.dumps(card, indent=2))
        return
    for name, text in card_lines(card).items():
        typer.echo(f"{name:12} {text}")


@models_app.command("verify")
def verify_model(classifier: ClassifierFolder) -> None:
    """Check a classifier folder; leaves with 7 if anything is bad.

    Example: tomoscreen models verify classifiers/HeLa
    """
    from screening.classifiers import require_all, verify

    checks = verify(classifier)
    for check in checks:
        typer.echo(f"{'ok ' if check.ok else 'bad'} {check.name:11} {check.text}")
    require_all(checks, path=classifier)


@models_app.command("export")
def export_model(
    classifier: ClassifierFolder, out: Annotated[Path, typer.Argument(help="File to write, ending in .onnx.")]
) -> None:
    """Write a classifier as ONNX, checked against its own answers.

    Example: tomoscreen models export classifiers/HeLa HeLa.onnx
    """
    from screening.classifiers import export

    done = export(classifier, out)
    typer.echo(f"{done.path}: opset {done.opset}, largest difference {done.difference:.1g} on {done.patches} patches.")


def states_from(text: str) -> tuple[str, ...]:
    """States of an option, the five where it is empty."""
    from plates.states import STATES

    names = listed(text)
    if len(names) == 1 or len(set(names)) < len(names):
        raise SettingsError(f"--states got {text!r}. Expected two or more different names, such as live,dead.")
    return names or STATES


def listed(text: str) -> tuple[str, ...]:
    """Names between commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def whole(text: str, *, option: str) -> int:
    """A whole number from 1 up."""
    if not text.isdigit() or int(text) < 1:
        raise SettingsError(f"{option} got {text!r}. Expected whole numbers from 1 up, such as 25,50,100.")
    return int(text)


def kind_of(classifier: Path) -> dict[str, object]:
    """Fields of a recipe that a classifier's card decides: what its network is and looks at."""
    from models.shelf import read_values

    card = read_values(classifier)
    names = ("architecture", "patch_px", "planes", "um_per_plane")
    return {name: card[name] for name in names if card.get(name) is not None}


def scored(metrics: Mapping[str, Any]) -> list[str]:
    """The scores on a card, a line each split; that of wells which decided nothing comes first."""
    what = {"test": "test wells, which decided nothing", "validation": "validation wells, which chose the epoch"}
    lines = []
    for split in (split for split in what if split in metrics):
        scores = metrics[split]
        ends = {"value": scores["accuracy"], "low": scores["accuracy_low"], "high": scores["accuracy_high"]}
        lines.append(f"accuracy {between(ends)} on {scores['patches']} patches of {scores['wells']} {what[split]}.")
    return lines


def between(entry: object) -> str:
    """A score with its interval."""
    known = cast(dict[str, float | None], entry)
    if known["low"] is None or known["high"] is None:
        return f"{known['value']:.3f}"
    return f"{known['value']:.3f} ({known['low']:.3f} to {known['high']:.3f})"
