"""Two drugs that differ along z only: alike in projections, unlike in volumes.

python -m tests.benchmarks.axial_alike [PATCHES_PER_DRUG]

Draws living cells under the two drugs of `plates.simulation.design.SUBTLE`, every patch with cells, culture
and noise of its own, so that patches are independent. Projections: texture control between the two drugs
(cross-validated, with the exact 95 % interval of a coin) and a Kolmogorov-Smirnov test per feature with
Holm's correction. Volumes: one number, the height of fine bright detail over the height of the whole body,
and boosting on detail by plane.
"""

import sys

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from scipy.stats import binomtest, ks_2samp
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from plates.patches import FOREGROUND_INDEX
from plates.simulation.cells import CellLine, draw_culture, make_cell
from plates.simulation.death import NEVER, Fate
from plates.simulation.design import SUBTLE
from plates.simulation.drawing import draw_field
from plates.simulation.optics import Optics, add_background, image

VOXEL_UM = (0.87449, 0.16, 0.16)
SHAPE = (24, 160, 160)
HOURS = 16.0

Volume = npt.NDArray[np.float32]


def draw_patch(drug: str, seed: int) -> Volume:
    """One patch of living cells under a drug, (z, y, x) index above the medium.

    The same seed gives the same cells under either drug.
    """
    rng = np.random.default_rng([seed, 1])
    fate = Fate("apoptosis", NEVER, NEVER, NEVER, 2.0, NEVER, SUBTLE[drug].granule_height)
    culture, line = draw_culture(rng), CellLine()
    middle = SHAPE[1] * VOXEL_UM[1] / 2
    places = [rng.normal(middle, 3.0, 2), rng.uniform(-20, 2 * middle + 20, 2)]
    cells = [make_cell(rng, y=y, x=x, fate=fate, line=line, culture=culture) for y, x in places]
    fine = (VOXEL_UM[0] / 2, *VOXEL_UM[1:])
    contrast, _ = draw_field(cells, hours=HOURS, shape=(2 * SHAPE[0], *SHAPE[1:]), voxel_um=fine, rng=rng)
    seen = image(contrast, voxel_um=VOXEL_UM, medium_index=line.medium_index, optics=Optics())
    seen = np.roll(seen, int(rng.integers(-1, 2)), axis=0)  # focus drifts by a plane
    add_background(seen, rng=rng, voxel_um=VOXEL_UM, optics=Optics())
    return seen


def detail_by_height(volume: Volume, *, bins: int = 9) -> npt.NDArray[np.float64]:
    """Share of the fine bright detail at each height, -4 to 4 um from the body's middle, and its mean height."""
    inside = volume > FOREGROUND_INDEX
    detail = np.clip(volume - gaussian_filter(volume, (0, 5, 5)) - 0.003, 0, None) * inside
    z = np.arange(volume.shape[0])[:, None, None] * VOXEL_UM[0]
    # the middle of each column, so that neither thickness nor focus counts
    middle = np.where(inside, volume * z, 0).sum(axis=0) / np.maximum(np.where(inside, volume, 0).sum(axis=0), 1e-9)
    height = np.broadcast_to(z - middle, volume.shape)
    profile = np.histogram(height, bins=bins, range=(-4, 4), weights=detail)[0] / max(detail.sum(), 1e-9)
    return np.append(profile, (height * detail).sum() / max(detail.sum(), 1e-9))


def holm(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Adjust p-values for the number of tests (Holm 1979)."""
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    result = np.empty(len(p))
    result[order] = np.minimum(adjusted, 1)
    return result


def main(patches: int) -> None:
    from tests.benchmarks.texture_control import texture_features

    volumes = [[draw_patch(drug, 2 * seed + which) for seed in range(patches)] for which, drug in enumerate(SUBTLE)]
    truth = np.repeat([0, 1], patches)
    flat = texture_features(np.stack([volume.max(axis=0) for drug in volumes for volume in drug]))
    deep = np.stack([detail_by_height(volume) for drug in volumes for volume in drug])
    model = HistGradientBoostingClassifier(max_iter=150, random_state=0)
    for name, features in (("projections, texture control", flat), ("volumes, detail by height", deep)):
        right = int((cross_val_predict(model, features, truth, cv=5) == truth).sum())
        interval = binomtest(right, len(truth)).proportion_ci()
        print(f"{name}: accuracy {right / len(truth):.3f} ({interval.low:.3f} to {interval.high:.3f})")
    p = holm(np.array([ks_2samp(flat[truth == 0, k], flat[truth == 1, k]).pvalue for k in range(flat.shape[1])]))
    print(f"projections: {int((p < 0.05).sum())} of {len(p)} features differ (Kolmogorov-Smirnov, Holm); ", end="")
    print(f"smallest adjusted p {p.min():.3f}")
    print(f"volumes: height of detail alone, AUC {roc_auc_score(1 - truth, deep[:, -1]):.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
