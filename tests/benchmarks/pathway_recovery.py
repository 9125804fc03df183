"""How well the switching dose and the split among pathways are recovered, and how often a switch is found falsely.

    python -m tests.benchmarks.pathway_recovery [COMPOUNDS] [SEED]

Two sources. "model": counts whose split is linear in log dose. "simulator": expected fractions of
`plates.simulation.death`, where pathways compete by hazards with Hill curves and lags of their own, at 24 h; a
switching compound has a potent weak hazard and a stronger one at higher doses, a steady one has hazards in constant
proportion, a pure one has one. Wells of eight doses x 3, 200 cells, dispersion 2.5 between wells, 16 vehicle wells.
The truth is where the two cross in deaths by the compound. Prints two Markdown tables. About a CPU-minute at 100
compounds a kind.
"""

import sys
import time

import numpy as np
from numpy.typing import NDArray
from scipy import special

from plates.simulation.death import Compound, Hazard, expected_fractions
from plates.states import DEAD
from screening.analysis.pathway_comparison import compare_pathways
from screening.analysis.pathways import PathwayFits, arrange, fit_pathways

Array = NDArray[np.float64]
LEVELS = np.geomspace(0.03, 30, 8)
DOSES = np.repeat(LEVELS, 3)
CELLS, PHI, HOURS = 200, 2.5, 24.0
KINDS = ("switch", "steady", "pure", "none")


def model_compound(rng: np.random.Generator, kind: str, background: Array) -> tuple[Array, float]:
    """Expected fractions (dose, state) and the switching dose (NaN: none) of a compound that is as the model says."""
    ec50, hill, top = 10 ** rng.uniform(-0.8, 0.5), rng.uniform(1, 2.5), rng.uniform(0.6, 0.98)
    x = np.log10(LEVELS)
    e = top / (1 + 10 ** (-hill * (x - np.log10(ec50))))
    at = np.log10(ec50) + rng.uniform(0.2, 0.7)
    order = rng.permutation(3)
    logits = np.full((x.size, 3), -5.0)
    if kind == "switch":
        trend = rng.uniform(2, 5) * (x - at) / 2
        logits[:, order[0]], logits[:, order[1]] = -trend, trend
    elif kind == "steady":
        logits[:] = np.log(rng.dirichlet([2, 2, 2]))
    else:
        logits[:, order[0]] = 1.0
        e = e * (kind == "pure")
    p = (1 - e)[:, None] * background + e[:, None] * special.softmax(logits, axis=1)
    return np.column_stack([p, 1 - p.sum(axis=1)]), 10**at if kind == "switch" else np.nan


def simulated_compound(rng: np.random.Generator, kind: str) -> tuple[Array, float]:
    """The same from the simulator's hazards; a switch is one only where the leading pathway changes in active doses."""
    names = [DEAD[k] for k in rng.permutation(3)]
    ec50, slope, rate = 10 ** rng.uniform(-0.8, 0.3), rng.uniform(1.2, 2.5), rng.uniform(0.12, 0.3)
    lag = rng.uniform(0.5, 2.5)
    hazards = {}
    if kind != "none":
        weak = 0.3 if kind == "switch" else 1.0
        hazards[names[0]] = Hazard(ec50, rate * weak, slope, lag)
    if kind == "switch":
        hazards[names[1]] = Hazard(ec50 * rng.uniform(4, 10), 2 * rate, slope + 0.5, rng.uniform(0.5, 2.5))
    if kind == "steady":
        hazards[names[1]] = Hazard(ec50, rate * rng.uniform(0.2, 1.0), slope, lag)
    compound = Compound("compound", hazards)
    fractions = _states(expected_fractions(compound, LEVELS.tolist(), HOURS))
    if kind != "switch":
        return fractions, np.nan
    grid = np.geomspace(LEVELS[0], LEVELS[-1], 121)
    behind = expected_fractions(None, [0.0], HOURS)[0, :3]
    dead = expected_fractions(compound, grid.tolist(), HOURS)[:, :3]
    killed = (dead.sum(axis=1) - behind.sum()) / (1 - behind.sum())
    # deaths by the compound: what is there less vehicle's deaths among those that it did not kill
    own = dead - (1 - killed)[:, None] * behind
    ahead = own[:, DEAD.index(names[1])] - own[:, DEAD.index(names[0])]
    active = np.flatnonzero(killed > 0.1)
    above = np.flatnonzero((ahead > 0) & (killed > 0.1))
    if not above.size or above[0] == active[0]:
        return fractions, np.nan
    k = above[0]
    share = ahead[k - 1] / (ahead[k - 1] - ahead[k])
    return fractions, float(grid[k - 1] * (grid[k] / grid[k - 1]) ** share)


def _states(expected: Array) -> Array:
    return np.column_stack([expected[:, :3], expected[:, 3:].sum(axis=1)])


def draw(rng: np.random.Generator, p: Array) -> Array:
    """Counts of three wells for each row of p, over-dispersed."""
    concentration = (CELLS - PHI) / (PHI - 1)
    wells = np.repeat(p, 3, axis=0)
    return np.array([rng.multinomial(CELLS, rng.dirichlet(np.maximum(concentration * q, 1e-9))) for q in wells], float)


def campaign(
    rng: np.random.Generator, source: str, number: int
) -> tuple[PathwayFits, NDArray[np.object_], Array, float]:
    """Fits, kinds, true switching doses, and CPU seconds."""
    behind = _states(expected_fractions(None, [0.0], HOURS))[0, :3]
    kinds = np.repeat(np.array(KINDS, dtype=object), number)
    made = [
        model_compound(rng, str(kind), behind) if source == "model" else simulated_compound(rng, str(kind))
        for kind in kinds
    ]
    counts = np.stack([draw(rng, p) for p, _ in made])
    alone = np.append(behind, 1 - behind.sum())
    vehicle = np.concatenate([draw(rng, alone[None]) for _ in range(6)])[:16]
    background = (vehicle / vehicle.sum(axis=1, keepdims=True))[:, :3].mean(axis=0)
    dose = np.tile(DOSES, (len(made), 1))
    start = time.process_time()
    fits = fit_pathways(dose, counts, background=background)
    return fits, kinds, np.array([at for _, at in made]), time.process_time() - start


def main(number: int = 100, seed: int = 20261) -> None:
    rng = np.random.default_rng(seed)
    lines = ["| source | kind | compounds | switch | shift | constant | no effect |", "|---|---|---|---|---|---|---|"]
    other = ["| source | what | value |", "|---|---|---|"]
    for source in ("model", "simulator"):
        fits, kinds, at, spent = campaign(rng, source, number)
        table = fits.table
        real = np.isfinite(at)
        groups = {"switch in the doses": real, "dose-dependent, no switch": (kinds == "switch") & ~real}
        groups |= {kind: kinds == kind for kind in KINDS[1:]}
        for name, mask in groups.items():
            if mask.any():
                words = [(table["status"][mask] == word).sum() for word in ("switch", "shift", "constant", "no_effect")]
                lines.append(f"| {source} | {name} | {mask.sum()} | " + " | ".join(map(str, words)) + " |")
        found = real & (table["status"] == "switch").to_numpy()
        error = np.log10(table["switch_dose"].to_numpy(float)[found] / at[found])
        held = (table["switch_low"].to_numpy(float) <= at) & (at <= table["switch_high"].to_numpy(float))
        bounded = found & (table["switch_bound"] == "interval").to_numpy()
        width = (table["switch_high"] / table["switch_low"])[bounded].median()
        other += [
            f"| {source} | switching dose, median error (log10) | {np.median(error):+.3f} |",
            f"| {source} | the same, median size | {np.median(np.abs(error)):.3f} |",
            f"| {source} | 95 % interval holds the switching dose | {held[found].mean():.3f} |",
            f"| {source} | intervals bounded at both ends | {bounded.sum()}/{found.sum()} |",
            f"| {source} | median ratio of those ends | {width:.2f} |",
            f"| {source} | pure: purity above 0.9 | {(table['purity'][kinds == 'pure'] > 0.9).mean():.3f} |",
            f"| {source} | lack of fit at p < 0.05, killers | {(table['fit_p'][kinds != 'none'] < 0.05).mean():.3f} |",
            f"| {source} | dispersion (true {PHI:g}) | {fits.dispersion:.2f} |",
            f"| {source} | compounds per CPU-second | {len(kinds) / spent:.0f} |",
        ]
        other += alike(rng, source, number)
    print("\n".join(lines), "", "\n".join(other), sep="\n")


def alike(rng: np.random.Generator, source: str, number: int) -> list[str]:
    """How often two samples of one compound, and two compounds, are called different."""
    behind = _states(expected_fractions(None, [0.0], HOURS))[0, :3]
    counts = []
    for k in range(number):
        kind = KINDS[k % 3]
        p, _ = model_compound(rng, kind, behind) if source == "model" else simulated_compound(rng, kind)
        counts += [draw(rng, p), draw(rng, p)]
    wells = arrange(np.tile(DOSES, (len(counts), 1)), np.array(counts), behind, dispersion=PHI)
    pairs = np.arange(2 * number).reshape(number, 2)
    same = compare_pathways(wells, pairs, freedom=500).p_value
    unlike = compare_pathways(wells, np.column_stack([pairs[:, 0], np.roll(pairs[:, 1], 1)]), freedom=500).p_value
    few = compare_pathways(wells, pairs[: max(number // 4, 1)], freedom=500, draws=99).p_bootstrap
    return [
        f"| {source} | same compound twice called different at 0.05 (F) | {(same < 0.05).mean():.3f} |",
        f"| {source} | the same at 0.01 | {(same < 0.01).mean():.3f} |",
        f"| {source} | the same at 0.05 (bootstrap, {few.size} pairs) | {(few <= 0.05).mean():.3f} |",
        f"| {source} | two compounds called different at 0.01 | {(unlike < 0.01).mean():.3f} |",
    ]


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:3]))
