"""The longest modules begin first, so that no process is left with one of them when the others have finished."""

from pathlib import Path

import pytest

LONGEST_FIRST = (
    "screening/test_pipeline.py",
    "screening/test_watch.py",
    "faults/test_copies.py",
    "test_notebooks.py",
    "faults/test_damage.py",
    "faults/test_determinism.py",
    "screening/test_analyse.py",
    "reports/test_full_page.py",
    "screening/test_classify.py",
    "faults/test_storage.py",
    "reports/test_in_browser.py",
    "faults/test_interrupted.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the modules by how long they take; the order within a module stays."""
    here = Path(__file__).parent
    rank = {here / name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))
