"""Where results come from, as others read it: an RO-Crate with one action, from acquisitions to reports.

The shape is Process Run Crate 0.5 (https://w3id.org/ro/wfrun/process/0.5) on RO-Crate 1.1, written as plain JSON: a
`CreateAction` whose instrument is the software and the classifier, whose objects are the inputs and whose results are
the files and stores of the folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from plates.errors import SettingsError
from plates.files import write_durable
from plates.results import has_result, read_result

METADATA = "ro-crate-metadata.json"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
# the second knows sha256, by which an input is found wherever it lies
CONTEXT = ("https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context")
MEDIA = {".html": "text/html", ".csv": "text/csv", ".json": "application/json", ".txt": "text/plain",
         ".toml": "application/toml", ".jsonl": "application/jsonl", ".svg": "image/svg+xml", ".png": "image/png",
         ".parquet": "application/vnd.apache.parquet",
         ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"}  # fmt: skip
STATUS = {True: "http://schema.org/CompletedActionStatus", False: "http://schema.org/FailedActionStatus"}
BLOCK = 1 << 20

Entity = dict[str, Any]


def write_crate(folder: Path, run: Mapping[str, Any]) -> Path:
    """Write `ro-crate-metadata.json` into the folder of a run's results.

    Parameters
    ----------
    folder
        Holds the results; nothing but the crate's file is written.
    run
        `name` of the campaign; `started` and `ended`, ISO 8601 with a time zone; `inputs`, a list of mappings with
        `name`, and `sha256`, `bytes`, `kind` where known; `outputs`, paths relative to the folder. Optional: `version`,
        `operator`, `classifiers` (`name`, `sha256`), `license` (its address), `error` (why it failed).
        `recorded_run` makes it from the results of the folder.

    Raises
    ------
    SettingsError
        A time has no zone, an output is not there or lies outside the folder.
    """
    entities = _entities(folder, run)
    document = {"@context": list(CONTEXT), "@graph": entities}
    path = folder / METADATA
    write_durable(path, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
    return path


def recorded_run(
    folder: Path, *, name: str, started: str, ended: str, operator: str = "", error: str = "", license: str = ""
) -> dict[str, Any]:
    """Collect what `write_crate` takes from the results that lie in a folder.

    Inputs are the files that the plates' `sources` name with their hashes, their plate maps, and the classifier;
    outputs are all files and stores of the folder, hidden and unfinished ones left out.
    """
    inputs: list[dict[str, Any]] = []
    classifiers: dict[str, dict[str, str]] = {}
    for store in sorted(folder.glob("*.results.zarr")):
        inputs += _inputs(store)
        if has_result(store, "probabilities"):
            card = read_result(store, "probabilities").attrs
            classifiers[str(card["classifier_sha256"])] = {
                "name": str(card["classifier"]), "sha256": str(card["classifier_sha256"]),
            }  # fmt: skip
    return {
        "name": name,
        "started": started,
        "ended": ended,
        "operator": operator,
        "error": error,
        "license": license,
        "version": version("tomoscreen"),
        "inputs": inputs,
        "classifiers": list(classifiers.values()),
        "outputs": [str(path.relative_to(folder).as_posix()) for path in _outputs(folder)],
    }


def _inputs(store: Path) -> Iterator[dict[str, Any]]:
    plate = store.name.removesuffix(".results.zarr")
    if has_result(store, "layout"):
        layout = read_result(store, "layout").attrs
        if layout.get("source"):
            yield {"name": layout["source"], "sha256": layout.get("sha256", ""), "kind": f"plate map of {plate}"}
    if has_result(store, "sources"):
        sources = read_result(store, "sources")
        seen = set()
        for index in range(sources.sizes["source"]):
            one = {key: sources[key].values[index] for key in ("name", "sha256", "bytes", "format")}
            if (one["name"], one["sha256"]) not in seen:  # a file with several frames is one input
                seen.add((one["name"], one["sha256"]))
                yield {
                    "name": str(one["name"]), "sha256": str(one["sha256"]), "bytes": int(one["bytes"]),
                    "kind": f"acquisition of {plate}, {one['format']}",
                }  # fmt: skip


def _outputs(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        unfinished = path.name.startswith(".") or path.name.endswith((".partial", ".progress")) or path.name == METADATA
        if not unfinished:
            yield path


def _entities(folder: Path, run: Mapping[str, Any]) -> list[Entity]:
    for key in ("started", "ended"):
        _require_zone(str(run[key]), key)
    outputs = [_output(folder, str(path)) for path in run["outputs"]]
    inputs = [_input(number, one) for number, one in enumerate(run["inputs"], start=1)]
    software: Entity = {
        "@id": "#tomoscreen",
        "@type": "SoftwareApplication",
        "name": "tomoscreen",
        "softwareVersion": str(run.get("version") or version("tomoscreen")),
    }
    classifiers = [_classifier(number, one) for number, one in enumerate(run.get("classifiers", ()), start=1)]
    agent: Entity = {"@id": "#operator", "@type": "Person", "name": str(run.get("operator") or "not stated")}
    finished = not run.get("error")
    action: Entity = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"tomoscreen run of {run['name']}",
        "description": "Holotomography acquisitions converted, classified, analysed and reported.",
        "startTime": str(run["started"]),
        "endTime": str(run["ended"]),
        "instrument": {"@id": software["@id"]},
        "agent": {"@id": agent["@id"]},
        "object": [_reference(one) for one in (*classifiers, *inputs)],
        "result": [_reference(one) for one in outputs],
        "actionStatus": STATUS[finished],
    }
    if not finished:
        action["error"] = str(run["error"])
    license = _license(str(run.get("license", "")))
    root: Entity = {
        "@id": "./",
        "@type": "Dataset",
        "name": str(run["name"]),
        "description": f"Results of tomoscreen for {run['name']}: plates, numbers, pages and tables.",
        "datePublished": str(run["ended"]),
        "license": {"@id": license["@id"]} if license else "not stated",
        "author": {"@id": agent["@id"]},
        "conformsTo": {"@id": PROFILE},
        "hasPart": [_reference(one) for one in outputs],
        "mentions": {"@id": action["@id"]},
    }
    return [
        {
            "@id": METADATA,
            "@type": "CreativeWork",
            "about": {"@id": "./"},
            "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        },
        root,
        {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
        action,
        software,
        agent,
        *([license] if license else []),
        *classifiers,
        *inputs,
        *outputs,
    ]


def _output(folder: Path, relative: str) -> Entity:
    path = folder / relative
    if not path.exists() or not path.resolve().is_relative_to(folder.resolve()):
        raise SettingsError(f"{relative} cannot be listed as a result: it is not in {folder}. Give paths inside it.")
    address = quote(relative, safe="/")
    if path.is_dir():
        return {"@id": f"{address}/", "@type": "Dataset", "name": path.name, "description": _described(path)}
    return {
        "@id": address,
        "@type": "File",
        "name": path.name,
        "contentSize": str(path.stat().st_size),
        "encodingFormat": MEDIA.get(path.suffix, "application/octet-stream"),
        "sha256": _sha256(path),
    }


def _described(path: Path) -> str:
    if path.name.endswith(".results.zarr"):
        return "Named results, each an xarray dataset in a group of a Zarr store."
    return "OME-Zarr 0.5 plate." if path.suffix == ".zarr" else "Folder of results."


def _input(number: int, one: Mapping[str, Any]) -> Entity:
    """An input is named by its hash and not by its place: it lies outside the crate, on somebody's disk."""
    entity: Entity = {"@id": f"#input-{number}", "@type": "CreativeWork", "name": str(one["name"])}
    if one.get("kind"):
        entity["description"] = str(one["kind"])
    if one.get("sha256"):
        entity["sha256"] = str(one["sha256"])
        entity["identifier"] = f"urn:sha256:{one['sha256']}"
    if one.get("bytes"):
        entity["size"] = f"{int(one['bytes'])} bytes"
    return entity


def _classifier(number: int, one: Mapping[str, Any]) -> Entity:
    return {**_input(number, {**one, "kind": "classifier"}), "@id": f"#classifier-{number}"}


def _license(address: str) -> Entity | None:
    """The licence of the results as an entity; None where there is none or it is no address."""
    return {"@id": address, "@type": "CreativeWork", "name": address} if "://" in address else None


def _reference(entity: Entity) -> Entity:
    return {"@id": entity["@id"]}


def _require_zone(time: str, key: str) -> None:
    try:
        zone = datetime.fromisoformat(time).tzinfo
    except ValueError:
        zone = None
    if zone is None:
        raise SettingsError(
            f"The run's time {key!r} is {time!r}. Expected ISO 8601 with a zone: 2026-03-02T09:00:00+00:00."
        )


def _sha256(path: Path) -> str:
    digester = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digester.update(block)
    return digester.hexdigest()
