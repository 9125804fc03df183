"""Two drugs that differ along z only must look the same from above and different in the volume."""

import numpy as np
import pytest

from tests.benchmarks.axial_alike import detail_by_height, draw_patch, holm


def test_the_drugs_look_alike_in_projections_and_lie_apart_in_volumes() -> None:
    heights, differences, unlike = [], [], []
    for seed in range(8):
        apical, basal = (draw_patch(drug, seed) for drug in ("doxorubicin-like", "cisplatin-like"))
        other = draw_patch("cisplatin-like", seed + 100)
        heights.append((detail_by_height(apical)[-1], detail_by_height(basal)[-1]))
        differences.append(np.abs(apical.max(axis=0) - basal.max(axis=0)).mean())
        unlike.append(np.abs(apical.max(axis=0) - other.max(axis=0)).mean())
    above, below = np.array(heights).T
    assert np.all(above > below + 0.25)
    # the same cell under the other drug differs far less than another cell under the same drug
    assert np.mean(differences) < 0.15 * np.mean(unlike)


def test_holm_s_correction_is_that_of_its_paper() -> None:
    # the worked example: sorted p times 4, 3, 2, 1, never falling
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
