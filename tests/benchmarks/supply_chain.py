"""What tomoscreen is made from, by package metadata: licences, a bill of materials, versions with known holes.

Nothing is asked of any server. `docs/licences.md` is the table of licences, `docs/advisories.csv` the list of holes.

    python -m tests.benchmarks.supply_chain licences > docs/licences.md
    python -m tests.benchmarks.supply_chain sbom > tomoscreen.cdx.json
"""

from __future__ import annotations

import csv
import json
import re
import sys
import tomllib
import uuid
from collections.abc import Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
ADVISORIES = ROOT / "docs" / "advisories.csv"
LICENCES = ROOT / "docs" / "licences.md"
ALLOWED = frozenset(
    {
        *("MIT", "MIT-CMU", "MIT-0", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "BSL-1.0", "Apache-2.0", "ISC"),
        *("PSF-2.0", "Zlib", "CC0-1.0", "HPND", "Unlicense"),
    }
)
WITH_EXCEPTIONS = frozenset({"LLVM-exception"})
"""Licences that may be passed on with a program, and exceptions that only permit more."""

RUNTIME = "GPL-3.0-or-later WITH GCC-exception-3.1"
"""Of the Fortran library in wheels: whoever links with it owes nothing."""

# parts of torch for NVIDIA's devices: not free software, installed from NVIDIA's packages, passed on by nobody here
NVIDIA = re.compile(r"nvidia-.*|cuda-toolkit")

# from the licence files, where the metadata have no expression; the filters that hdf5plugin brings have open licences
# of their own, which its documentation lists
READ_BY_HAND = {
    "hdf5plugin": "MIT",
    "scikit-image": "BSD-3-Clause AND BSD-2-Clause AND MIT",
    "scipy": "BSD-3-Clause AND GPL-3.0-or-later WITH GCC-exception-3.1",
    "torchvision": "BSD-3-Clause",
    "partd": "BSD-3-Clause",
    "python-dateutil": "Apache-2.0 AND BSD-3-Clause",
    "jinja2": "BSD-3-Clause",
    "zict": "BSD-3-Clause",
    "mpmath": "BSD-3-Clause",
    "sympy": "BSD-3-Clause",
}
_WORDS = {
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "ISC License": "ISC",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
}


def main() -> None:
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    if wanted == "licences":
        print(licence_table(runtime_distributions()), end="")
    elif wanted == "sbom":
        print(json.dumps(bill_of_materials(runtime_distributions()), indent=1))
    else:
        sys.exit(__doc__)


def runtime_distributions() -> dict[str, Distribution]:
    """Installed packages that tomoscreen needs to run on this machine, directly or not, by their plain names."""
    installed = {canonicalize_name(one.name): one for one in distributions()}
    todo = [Requirement(text) for text in _project()["dependencies"]]
    found: dict[str, Distribution] = {}
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if name in found or not applies or name not in installed:
            continue
        found[name] = installed[name]
        todo += [Requirement(text) for text in installed[name].requires or ()]
    return dict(sorted(found.items()))


def missing() -> list[str]:
    """Direct dependencies that are not installed."""
    found = runtime_distributions()
    return [text for text in _project()["dependencies"] if canonicalize_name(Requirement(text).name) not in found]


def licence(one: Distribution) -> str:
    """SPDX expression of a package's licence, or what its metadata say instead."""
    name = canonicalize_name(one.name)
    if NVIDIA.fullmatch(name):
        return "LicenseRef-NVIDIA-Proprietary"
    if name in READ_BY_HAND:
        return READ_BY_HAND[name]
    metadata: Any = one.metadata
    told = metadata.get("License-Expression") or ""
    if told:
        return str(told)
    words = (metadata.get("License") or "").strip()
    classified = [text.split("::")[-1].strip() for text in metadata.get_all("Classifier") or () if "License ::" in text]
    for candidate in (words, *classified):
        if candidate in ALLOWED:
            return str(candidate)
        if candidate in _WORDS:
            return _WORDS[candidate]
    return str(words.splitlines()[0]) if words else "unknown"


def not_allowed(expression: str) -> list[str]:
    """Licences of an SPDX expression that are outside the list; of alternatives one is enough."""
    terms = [re.split(r"\s+AND\s+", part.strip("() ")) for part in re.split(r"\s+OR\s+", expression)]
    wrong = [[term for term in part if not _is_allowed(term)] for part in terms]
    return min(wrong, key=len)


def licence_table(found: Mapping[str, Distribution]) -> str:
    """Table in Markdown; versions are left out, since they change and licences seldom do."""
    free = [name for name in found if not NVIDIA.fullmatch(name)]
    lines = [
        "# Licences of what tomoscreen needs to run",
        "",
        "Written by `python -m tests.benchmarks.supply_chain licences` from the metadata of the installed packages.",
        "A test compares it with what is installed, and refuses a licence outside the list of permissive ones.",
        "",
        "| package | licence |",
        "|---|---|",
        *(f"| {name} | {licence(found[name])} |" for name in free),
        "",
        "torch for NVIDIA's devices brings packages of NVIDIA (`nvidia-*`, `cuda-toolkit`) under NVIDIA's own licence:",
        "they may be used, not changed. They are absent where torch was installed for the CPU alone.",
    ]
    return "\n".join(lines) + "\n"


def bill_of_materials(found: Mapping[str, Distribution]) -> dict[str, Any]:
    """CycloneDX 1.5: every package with version, licence, address and what it needs; the same for the same packages."""
    project = _project()
    own = f"pkg:pypi/{project['name']}@{project['version']}"
    components = [
        {
            "type": "library",
            "bom-ref": _address(name, one),
            "name": name,
            "version": one.version,
            "purl": _address(name, one),
            "licenses": [_licence_entry(licence(one))],
        }
        for name, one in found.items()
    ]
    needs = [{"ref": _address(name, one), "dependsOn": _needed(one, found)} for name, one in found.items()]
    direct = [Requirement(text) for text in project["dependencies"]]
    told = [canonicalize_name(one.name) for one in direct]
    needs.insert(0, {"ref": own, "dependsOn": sorted(_address(name, found[name]) for name in told if name in found)})
    listed = ";".join(str(component["purl"]) for component in components)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, own + listed)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": project["name"],
                "version": project["version"],
                "purl": own,
                "licenses": [{"license": {"id": project["license"]}}],
            }
        },
        "components": components,
        "dependencies": needs,
    }


def holes(versions: Mapping[str, str]) -> list[str]:
    """Known holes of these versions, one sentence each."""
    with ADVISORIES.open(newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    return [
        "{package} {ours} is older than {fixed_in} ({advisory}: {what})".format(ours=versions[row["package"]], **row)
        for row in rows
        if row["package"] in versions and Version(versions[row["package"]]) < Version(row["fixed_in"])
    ]


def pinned() -> dict[str, str]:
    """Versions in constraints.txt by plain name."""
    lines = (line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    pairs = (line.split(";")[0].split("==") for line in lines if "==" in line)
    return {canonicalize_name(name.strip()): version.strip() for name, version in pairs}


def _project() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])


def _is_allowed(term: str) -> bool:
    if term.strip("() ") == RUNTIME:
        return True
    name, _, exception = term.strip("() ").partition(" WITH ")
    return name in ALLOWED and (not exception or exception in WITH_EXCEPTIONS)


def _address(name: str, one: Distribution) -> str:
    return f"pkg:pypi/{name}@{one.version}"


def _needed(one: Distribution, found: Mapping[str, Distribution]) -> list[str]:
    needed = set()
    for text in one.requires or ():
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            needed.add(_address(name, found[name]))
    return sorted(needed)


def _licence_entry(expression: str) -> dict[str, Any]:
    if " " in expression:
        return {"expression": expression}
    return {"license": {"id": expression}} if expression in ALLOWED else {"license": {"name": expression}}


if __name__ == "__main__":
    main()
