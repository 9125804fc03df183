"""What tomoscreen is made from: licences that allow passing it on, no version with a known hole, a valid bill."""

import ast
import re
from pathlib import Path

import pytest

from tests.benchmarks.supply_chain import (
    ADVISORIES,
    LICENCES,
    NVIDIA,
    bill_of_materials,
    holes,
    licence,
    missing,
    not_allowed,
    pinned,
    runtime_distributions,
)

ROOT = Path(__file__).parents[1]
FOUND = runtime_distributions()


def test_every_package_has_a_licence_that_allows_passing_it_on() -> None:
    assert missing() == []
    wrong = {name: licence(one) for name, one in FOUND.items() if not_allowed(licence(one))}
    assert {name for name in wrong if not NVIDIA.fullmatch(name)} == set(), wrong


@pytest.mark.parametrize("expression", ["GPL-3.0-or-later", "MIT AND AGPL-3.0", "unknown", "Apache-2.0 WITH Commons"])
def test_off_check_other_licences_are_found(expression: str) -> None:
    assert not_allowed(expression)
    assert not not_allowed(f"MIT OR ({expression})")


def test_the_table_of_licences_lists_what_is_installed() -> None:
    rows = dict(re.findall(r"^\| ([a-z0-9-]+) \| (.+) \|$", LICENCES.read_text(), re.MULTILINE))
    rows.pop("package", None)
    installed = {name: licence(one) for name, one in FOUND.items() if not NVIDIA.fullmatch(name)}
    # other machines may lack what torch brings for its devices
    assert installed.items() <= rows.items(), "run: python -m tests.benchmarks.supply_chain licences > docs/licences.md"


def test_no_installed_or_pinned_version_has_a_known_hole() -> None:
    assert holes({name: one.version for name, one in FOUND.items()}) == []
    assert holes(pinned()) == []


def test_off_check_an_old_version_is_named_with_its_advisory() -> None:
    (found,) = holes({"torch": "2.9.1", "zarr": "3.1.6"})
    assert found.startswith("torch 2.9.1 is older than 2.10 (CVE-2026-24747")
    assert len(ADVISORIES.read_text().splitlines()) > 8


def test_everything_that_is_installed_to_run_is_pinned() -> None:
    loose = {name: one.version for name, one in FOUND.items() if pinned().get(name) != one.version.split("+")[0]}
    # what a machine's torch brings along may differ from one kind of machine to another
    assert {name for name in loose if not NVIDIA.fullmatch(name)} <= {"torch", "torchvision", "triton", "setuptools"}


def test_the_bill_of_materials_is_valid_and_complete() -> None:
    """CycloneDX 1.5: what its schema asks of the parts that are used here."""
    bill = bill_of_materials(FOUND)
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.5", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bill["serialNumber"])
    references = [component["bom-ref"] for component in bill["components"]]
    assert len(references) == len(set(references)) == len(FOUND)
    for component in bill["components"]:
        assert set(component) == {"type", "bom-ref", "name", "version", "purl", "licenses"}
        assert component["type"] == "library"
        assert re.fullmatch(r"pkg:pypi/[a-z0-9-]+@[A-Za-z0-9.+!]+", component["purl"])
        for entry in component["licenses"]:
            assert set(entry) in ({"expression"}, {"license"})
            assert "expression" in entry or set(entry["license"]) in ({"id"}, {"name"})
    known = {*references, bill["metadata"]["component"]["bom-ref"]}
    assert {need["ref"] for need in bill["dependencies"]} == known
    for need in bill["dependencies"]:
        assert set(need["dependsOn"]) <= known
    # everything hangs together: nothing is listed that nothing needs
    reached, todo = set(), [bill["metadata"]["component"]["bom-ref"]]
    needs = {need["ref"]: need["dependsOn"] for need in bill["dependencies"]}
    while todo:
        reference = todo.pop()
        if reference not in reached:
            reached.add(reference)
            todo += needs[reference]
    assert reached == known
    assert bill_of_materials(FOUND) == bill


def test_every_import_is_of_a_dependency_that_is_declared() -> None:
    """A package that is only there by way of another may be gone after the next update."""
    import sys
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    texts = [*project["dependencies"], *(text for name in optional if name != "dev" for text in optional[name])]
    declared = {Requirement(text).name.lower().replace("-", "_") for text in texts}
    names = {"PIL": "pillow", "skimage": "scikit_image", "upath": "universal_pathlib", "pydantic_core": "pydantic"}
    ours = {"plates", "models", "reports", "screening"}
    unknown = set()
    for package in ours:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    modules = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    modules = [node.module or ""]
                else:
                    continue
                for module in modules:
                    top = module.split(".")[0]
                    if top not in sys.stdlib_module_names and names.get(top, top) not in declared | ours:
                        unknown.add((top, file.relative_to(ROOT).as_posix()))
    assert unknown - {(top, file) for top, file in unknown if top in OPTIONAL} == set()


# looked for at run time, and done without where they are not installed
OPTIONAL = {"tornado", "numcodecs", "pyarrow", "psutil"}
