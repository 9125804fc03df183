"""Two runs side by side: what changed in inputs, settings, classifier, versions and results."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from plates.errors import MissingInputError, StoreError
from screening.run_record import read_run

_CARD = ("name", "architecture", "weights_sha256", "trained_on", "calibration")
_FLAGS = ("torch", "threads", "cuda", "gpu", "tf32_matmul", "tf32_convolution", "deterministic", "omp_num_threads")
_SHOWN = 12  # digits of a hash


def diff_runs(first: Path, second: Path) -> list[str]:
    """Say what changed from the first run to the second, a sentence each; empty where nothing did.

    Parameters
    ----------
    first, second
        Records of runs, or folders of results for their last run that ended.

    Raises
    ------
    MissingInputError, StoreError
        There is no such record, or it was altered.
    """
    one, other = read_run(first), read_run(second)
    lines = [
        *_changed("version", one["code"], other["code"]),
        *_packages(one["packages"], other["packages"]),
        *_changed("platform", one["platform"], other["platform"]),
        *_changed("device", _of(one.get("device", {}), _FLAGS), _of(other.get("device", {}), _FLAGS)),
        *_changed("setting", one["settings"], other["settings"]),
        *_changed("classifier", _of(one["classifier"], _CARD), _of(other["classifier"], _CARD)),
        *_files("plate map", _maps(one), _maps(other)),
        *_lines("exclusions", one["exclusions"]["lines"], other["exclusions"]["lines"]),
        *_files("input", _inputs(one), _inputs(other)),
        *_changed("units", one.get("units", {}), other.get("units", {})),
        *_files("result", one.get("results", {}), other.get("results", {})),
    ]
    if one.get("exit_code") != other.get("exit_code"):
        lines.append(f"exit code: {one.get('exit_code', 'never ended')} -> {other.get('exit_code', 'never ended')}")
    return [*lines, *_moved(one, other)]


def _changed(what: str, first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Values that differ, "setting analysis.draws: 100 -> 1000", nested ones with a point."""
    for key in sorted({*first, *second}):
        old, new = first.get(key), second.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _changed(what, old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{what} {prefix}{key}: {_short(old)} -> {_short(new)}"


def _of(values: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: values.get(key) for key in keys}


def _packages(first: list[str], second: list[str]) -> Iterator[str]:
    old, new = (dict(line.split("==", 1) for line in lines) for lines in (first, second))
    yield from _changed("package", old, new)


def _files(what: str, first: Mapping[str, str], second: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*first, *second}):
        if name not in second:
            yield f"{what} gone: {name}"
        elif name not in first:
            yield f"{what} new: {name}"
        elif first[name] != second[name]:
            yield f"{what} changed: {name} ({first[name][:_SHOWN]} -> {second[name][:_SHOWN]})"


def _lines(what: str, first: list[str], second: list[str]) -> Iterator[str]:
    yield from (f"{what}: no longer: {line}" for line in first if line not in second)
    yield from (f"{what}: new: {line}" for line in second if line not in first)


def _maps(run: Mapping[str, Any]) -> dict[str, str]:
    return {plate: file["sha256"] for plate, file in run["plate_maps"].items()}


def _inputs(run: Mapping[str, Any]) -> dict[str, str]:
    acquisitions = (one for one in run.get("inputs", []) if one["kind"] == "acquisition")
    return {f"{one['plate']}, well {one['well']}, {one['name']}": one["sha256"] for one in acquisitions}


def _moved(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """Compounds that moved, where the results of both runs are still there: in two folders."""
    from screening.analysis.comparison import compare_analyses

    stores = [
        Path(run["settings"]["campaign"]["out"]) / f"{run['settings']['campaign']['name']}.results.zarr"
        for run in (one, other)
    ]
    if stores[0] == stores[1]:
        return
    try:
        found = compare_analyses(stores[0], stores[1])
    except (MissingInputError, StoreError):
        return
    for name, what in zip(found["compound"].values, found["what"].values, strict=True):
        if what:
            yield f"compound {name}: {what}"


def _short(value: Any) -> str:
    text = "none" if value in (None, "") else str(value)
    return text if len(text) <= 60 else f"{text[:_SHOWN]}..."
