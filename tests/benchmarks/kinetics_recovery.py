"""How well onset, rate, plateau and pathway shares are recovered from cells that are followed.

    python -m tests.benchmarks.kinetics_recovery [GROUPS] [SEED]

Two sources. "model": cells die after an exact lag with one rate, wells differ in pace, every frame is classified anew.
"simulator": the fates that `plates.simulation.death` draws, each pathway with its own lag and Hill curve, background
deaths, vehicle wells; with dead cells staying, and with dead cells detaching (counted among those still there). The
truth of a compound-dose is then its main hazard: lag, rate, plateau 1, slope equal to the rate. Prints a Markdown table
each: median error, share of 95 % intervals that hold the truth (all timed groups; in brackets those where the number is
given), and statuses. Half a minute at 200 groups.
"""

import sys
import time
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from plates.simulation.death import Compound, draw_fate, random_compound
from plates.states import DEAD
from screening.analysis.death_timing import TIMED, DeathTimes, time_groups

Array = NDArray[np.float64]
WELLS, CELLS, LEVELS = 3, 120, 8
TRUTHS = ("onset", "rate", "plateau", "slope", "t50")


def from_model(
    groups: int, hours: Array, rng: np.random.Generator, *, looked_at: int = 200, pace: float = 0.1
) -> tuple[Array, dict[str, Array], Array]:
    """Courses (group, well, pathway, time), the truth of each group, and its shares (group, pathway)."""
    onset, rate = rng.uniform(1, 6, groups), 10 ** rng.uniform(-1.5, -0.4, groups)
    doomed, share = rng.uniform(0.4, 0.98, groups), rng.dirichlet([1, 1, 1], groups)
    own = rate[:, None, None] * np.exp(pace * rng.standard_normal((groups, WELLS, 1)))
    death = onset[:, None, None] + rng.exponential(1 / own, (groups, WELLS, CELLS))
    death[rng.random(death.shape) > doomed[:, None, None]] = np.inf
    pathway = (rng.random(death.shape)[..., None] > np.cumsum(share, axis=1)[:, None, None]).sum(axis=-1)
    dead = death[..., None] <= hours
    courses = np.stack([(dead & (pathway == k)[..., None]).mean(axis=2) for k in range(3)], axis=2)
    p = np.concatenate([courses, 1 - courses.sum(axis=2, keepdims=True)], axis=2)
    seen = rng.multinomial(looked_at, np.moveaxis(np.clip(p, 0, 1), 2, 3)) / looked_at
    half = np.where(doomed > 0.5, onset - np.log1p(-0.5 / np.maximum(doomed, 0.5001)) / rate, np.inf)
    truth = {"onset": onset, "rate": rate, "plateau": doomed, "slope": rate * doomed, "t50": half}
    return np.moveaxis(seen, 3, 2)[:, :, :3], truth, share


def from_simulator(
    groups: int, hours: Array, rng: np.random.Generator, *, detach: bool
) -> tuple[Array, dict[str, Array], Array, Array]:
    """The same, and the vehicle's death, from fates of the simulator; excess over vehicle."""
    vehicle = np.mean([_well(rng, None, 0.0, hours, detach) for _ in range(16)], axis=0)
    courses: list[Array] = []
    shares: list[Array] = []
    truth: dict[str, list[float]] = {name: [] for name in TRUTHS}
    while len(courses) < groups:
        compound = random_compound(rng, "compound", pathway=str(rng.choice(DEAD)))
        main = max((name for name in compound.hazards if name in DEAD), key=lambda n: compound.hazards[n].maximum_per_h)
        for dose in np.geomspace(0.03, 30, LEVELS):
            rates = np.array([compound.hazards[n].rate(dose) if n in compound.hazards else 0.0 for n in DEAD])
            if rates.max() * hours[-1] < 0.3:
                continue
            wells = np.stack([_well(rng, compound, float(dose), hours, detach) for _ in range(WELLS)])
            courses.append((wells - vehicle) / (1 - vehicle.sum(axis=0)))
            lag, total = compound.hazards[main].lag_h, float(rates.sum())
            half = lag + np.log(2) / total
            for name, value in zip(TRUTHS, (lag, total, 1.0, total, half), strict=True):
                truth[name].append(value)
            shares.append(rates / total)
    known = {name: np.array(values[:groups]) for name, values in truth.items()}
    return np.array(courses[:groups]), known, np.array(shares[:groups]), vehicle.sum(axis=0)


def _well(rng: np.random.Generator, compound: Compound | None, dose: float, hours: Array, detach: bool) -> Array:
    """Fractions (pathway, time) of one well's cells."""
    fates = [draw_fate(rng, compound, dose) for _ in range(CELLS)]
    onset, gone = np.array([f.onset_h for f in fates]), np.array([f.detach_h for f in fates])
    pathway = np.array([DEAD.index(f.pathway) for f in fates])
    there = hours < gone[:, None] if detach else np.ones((CELLS, hours.size), dtype=bool)
    dead = (onset[:, None] <= hours) & there
    counted = np.stack([(dead & (pathway == k)[:, None]).sum(axis=0) for k in range(3)])
    return np.asarray(counted / np.maximum(there.sum(axis=0), 1))


def rows(name: str, times: DeathTimes, truth: dict[str, Array], share: Array) -> list[str]:
    """Lines of the table for one source."""
    table = times.total
    timed = table["status"].isin(TIMED).to_numpy()
    lines = []
    for quantity in TRUTHS:
        t = truth[quantity]
        point = table[f"{quantity}_fit"] if f"{quantity}_fit" in table else table[quantity]
        given = timed & table[quantity].notna().to_numpy()
        error = (point - t).to_numpy()[given]
        held = ((table[f"{quantity}_low"] <= t) & (t <= table[f"{quantity}_high"])).to_numpy()
        middle = f"{np.median(error):+.3f} | {np.median(np.abs(error)):.3f}" if given.any() else "- | -"
        inside = f"{held[given].mean():.3f}" if given.any() else "-"
        lines.append(f"| {name} | {quantity} | {middle} | {held[timed].mean():.3f} ({inside}) | {given.sum()} |")
    held_share = ((times.share_low <= share) & (share <= times.share_high))[timed]
    off = (times.share - share)[timed]
    spread = f"{np.median(off):+.3f} | {np.median(np.abs(off)):.3f}"
    lines.append(f"| {name} | pathway share | {spread} | {held_share.mean():.3f} | {3 * timed.sum()} |")
    return lines


def main(groups: int = 200, seed: int = 20260) -> None:
    rng = np.random.default_rng(seed)
    lines = ["| source | quantity | median error | median size | 95 % interval holds (number given) | numbers |"]
    lines.append("|---|---|---|---|---|---|")
    notes = []
    for step in (1.0, 2.0):
        hours = np.arange(0, 24 + step / 2, step)
        courses, truth, share = from_model(groups, hours, rng)
        start = time.process_time()
        times = time_groups(hours, courses.sum(axis=2), pathways=courses)
        spent = time.process_time() - start
        lines += rows(f"model, frames {step:g} h apart", times, truth, share)
        notes.append(_note(f"model {step:g} h", times, groups / spent))
        for detach in (False, True):
            courses, truth, share, vehicle = from_simulator(groups, hours, rng, detach=detach)
            times = time_groups(hours, courses.sum(axis=2), pathways=courses, baseline=vehicle, vehicle_wells=16)
            name = f"simulator, {step:g} h, dead cells {'detach' if detach else 'stay'}"
            lines += rows(name, times, truth, share)
            notes.append(_note(name, times, 0.0))
    print("\n".join(lines))
    print("\n".join(["", *notes, flat_rate(rng)]))


def _note(name: str, times: DeathTimes, speed: float) -> str:
    words = {key: dict(Counter(times.total[key])) for key in ("status", "onset_status", "t50_status")}
    quick = f" {speed:.0f} groups (with three pathways) per CPU-second." if speed else ""
    return f"{name}: {words}.{quick}"


def flat_rate(rng: np.random.Generator) -> str:
    """How often vehicle-like groups, whose background deaths go on, are timed."""
    hours = np.arange(0, 25.0)
    wells = np.array([_well(rng, None, 0.0, hours, False) for _ in range(16 + 3 * 100)])
    vehicle = wells[:16].mean(axis=0)
    courses = ((wells[16:] - vehicle) / (1 - vehicle.sum(axis=0))).reshape(100, WELLS, 3, hours.size)
    times = time_groups(hours, courses.sum(axis=2), baseline=vehicle.sum(axis=0), vehicle_wells=16)
    p = times.total["p_value"]
    shares = " ".join(f"{(p <= alpha).mean():.2f}" for alpha in (0.05, 0.01))
    timed = int(times.total["status"].isin(TIMED).sum())
    return f"100 groups of vehicle wells: p <= 0.05, 0.01 in {shares}; timed: {timed}."


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:3]))
