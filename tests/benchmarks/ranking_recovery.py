"""Whether ranks, their intervals and hits are right, on campaigns drawn from known truth without images.

    python -m tests.benchmarks.ranking_recovery [CAMPAIGNS] [FIRST_SEED]

Counts of patches are drawn from the simulator's expected fractions, with fields that disagree; no pixel is made. Four
kinds of campaign: a dose-response library where one compound in eight is inert, one where eight in ten are, one of
weak killers on two small fields, and a primary screen at one dose. Prints a Markdown table. About two CPU-seconds a
campaign.
"""

import sys
import time
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import spearmanr

from plates.simulation.death import Compound, expected_fractions, random_compound, true_ec50
from plates.states import DEAD, STATES
from screening.analysis.dose_response import fit_dose_response
from screening.analysis.hits import HitRule
from screening.analysis.kinetics import half_times
from screening.analysis.normalization import normalize
from screening.analysis.ranking import rank

HOURS = (4.0, 10.0, 16.0)
DOSES = tuple(float(dose) for dose in np.geomspace(0.01, 30, 8))
LEAST_EFFECT = 0.05


@dataclass(frozen=True)
class Kind:
    """A kind of campaign; `weakest` is the smallest factor on the killers' rates."""

    inert: float
    compounds: int
    doses: tuple[float, ...] = DOSES
    plates: int = 3
    fields: int = 4
    patches: int = 40
    weakest: float = 1.0


KINDS = {
    "library, 1 in 8 inert": Kind(inert=0.125, compounds=32),
    "library, 8 in 10 inert": Kind(inert=0.8, compounds=60),
    "weak killers, half inert, 2 fields x 20": Kind(0.5, 40, plates=2, fields=2, patches=20, weakest=0.01),
    "one dose, 8 in 10 inert": Kind(inert=0.8, compounds=100, doses=(10.0,)),
}


def draw_plates(
    library: list[Compound],
    *,
    doses: tuple[float, ...],
    plates: int,
    rng: np.random.Generator,
    fields: int = 4,
    patches: int = 40,
    dispersion: float = 0.03,
    vehicles: int = 16,
) -> list[xr.Dataset]:
    """Normalised plates, one well of every compound and dose on each, with counts of patches around the truth.

    A field's patches are Dirichlet-multinomial around its well's fractions; wells of one plate share a shift of their
    deaths on the logit scale.
    """
    content: list[tuple[Compound | None, float]] = [(None, 0.0)] * vehicles
    content += [(compound, dose) for compound in library for dose in doses]
    truth = np.zeros((len(content), len(HOURS), len(STATES)))  # (well, timepoint, state)
    for number, hour in enumerate(HOURS):
        truth[:vehicles, number] = expected_fractions(None, [0.0], hour)[0]
        for place, compound in enumerate(library):
            start = vehicles + place * len(doses)
            truth[start : start + len(doses), number] = expected_fractions(compound, list(doses), hour)
    made = []
    for plate in range(plates):
        shift = np.exp(rng.normal(0, 0.05))
        shares = truth * np.where(np.isin(STATES, DEAD), shift, 1.0) + 1e-6
        shares /= shares.sum(axis=-1, keepdims=True)
        strength = 1 / dispersion - 1
        gamma = rng.standard_gamma(np.repeat(shares[:, None] * strength, fields, axis=1))
        gamma = gamma / np.maximum(gamma.sum(axis=-1, keepdims=True), 1e-300)
        counts = rng.multinomial(patches, gamma).sum(axis=1)  # (well, timepoint, state)
        made.append(normalize(_fractions(content, counts)).assign_attrs(plate=f"P{plate + 1:03d}"))
    return made


def _fractions(content: list[tuple[Compound | None, float]], counts: np.ndarray) -> xr.Dataset:
    fraction = counts / counts.sum(axis=-1, keepdims=True)
    size = len(content)
    texts = {
        "compound": ["DMSO" if compound is None else compound.name for compound, _ in content],
        "control": ["negative" if compound is None else "none" for compound, _ in content],
        "inducer": [""] * size,
        "cell_line": ["HeLa"] * size,
    }
    place = np.arange(size)
    return xr.Dataset(
        {
            "fraction": (("well", "timepoint", "state"), fraction),
            "death": (("well", "timepoint"), fraction[..., : len(DEAD)].sum(axis=-1)),
            "patches": (("well", "timepoint"), counts.sum(axis=-1)),
        },
        coords={
            "well": np.array([f"W{number:04d}" for number in place], dtype=object),
            "timepoint": np.arange(len(HOURS)),
            "hours": ("timepoint", np.array(HOURS)),
            "state": list(STATES),
            "dose": ("well", [dose for _, dose in content]),
            "replicate": ("well", np.ones(size, dtype=int)),
            "row": ("well", place // 24),
            "column": ("well", place % 24),
            **{name: ("well", np.array(values, dtype=object)) for name, values in texts.items()},
        },
    )


def true_order(library: list[Compound], doses: tuple[float, ...]) -> pd.DataFrame:
    """The order that `rank` estimates: EC50 among the tested doses, then effect at the top one, then none, tied."""
    rows = []
    for compound in library:
        dead = expected_fractions(compound, [doses[-1]], HOURS[-1])[0, :3].sum()
        untreated = expected_fractions(None, [0.0], HOURS[-1])[0, :3].sum()
        effect = (dead - untreated) / (1 - untreated)
        ec50 = true_ec50(compound, HOURS[-1])
        killer = effect >= LEAST_EFFECT
        stratum = 3 if not killer else 0 if len(doses) > 1 and ec50 <= doses[-1] else 1
        key = max(ec50, doses[0]) if stratum == 0 else -effect if stratum == 1 else 0.0
        rows.append({"stratum": stratum, "key": key, "effect": effect, "ec50": ec50})
    table = pd.DataFrame(rows, index=[compound.name for compound in library])
    keys = table["stratum"] * 1e6 + table["key"]
    return table.assign(first=keys.rank(method="min"), last=keys.rank(method="max"))


def score(kind: str, seed: int) -> dict[str, float]:
    """One campaign: what its ranking says against its truth."""
    design = KINDS[kind]
    rng = np.random.default_rng([seed, list(KINDS).index(kind)])
    library = []
    for number, flat in enumerate(rng.random(design.compounds) < design.inert):
        compound = random_compound(rng, f"C{number:03d}", pathway="none" if flat else str(rng.choice(DEAD)))
        factor = design.weakest ** rng.random()
        hazards = {
            name: replace(one, maximum_per_h=factor * one.maximum_per_h) for name, one in compound.hazards.items()
        }
        library.append(replace(compound, hazards=hazards))
    drawn = {name: getattr(design, name) for name in ("doses", "plates", "fields", "patches")}
    plates = draw_plates(library, rng=rng, **drawn)
    began = time.process_time()
    fits = fit_dose_response(plates, seed=seed)
    courses = half_times(plates, draws=100, seed=seed)
    fitted = time.process_time() - began
    began = time.process_time()
    ranking = rank(fits, courses, plates, hit_rule=HitRule(), seed=seed)
    ranked = time.process_time() - began
    truth = true_order(library, design.doses).loc[list(ranking.compound.values)]
    killer = truth["stratum"].to_numpy() < 3
    low, high = ranking.rank_low.values, ranking.rank_high.values
    covered = (low <= truth["last"].to_numpy()) & (high >= truth["first"].to_numpy())
    potent = truth["stratum"].to_numpy() == 0
    inert = truth["effect"].to_numpy() <= 0
    hit = ranking.hit.values
    by_p = ranking.hit_p_adjusted.values <= HitRule().fdr
    place = truth["first"].add(truth["last"]).to_numpy() / 2
    # compounds without effect share the last place, in truth and as found
    nothing = np.isin(ranking.stratum.values, ("no effect", "inverse"))
    found = np.where(nothing, len(truth), ranking["rank"].values)
    return {
        "spearman": float(spearmanr(found, place).statistic),
        "spearman of killers": float(spearmanr(ranking["rank"].values[killer], place[killer]).statistic),
        "covered": float(covered[killer].mean()),
        "covered potent": float(covered[potent].mean()) if potent.any() else np.nan,
        "width": float((high - low + 1)[killer].mean() / len(truth)),
        "hits": int(hit.sum()),
        "false hits": int((hit & inert).sum()),
        "by p": int(by_p.sum()),
        "false by p": int((by_p & inert).sum()),
        "killers": int(killer.sum()),
        "killers found": int((hit & killer).sum()),
        "fit s": fitted,
        "rank s": ranked,
    }


def main(campaigns: int, first_seed: int) -> None:
    print("| campaigns | Spearman, all (worst) | of the killers | 95 % rank interval holds | width |", end="")
    print(" hits | false | false share | false share by p alone | killers found | CPU-s fits + ranking |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for kind in KINDS:
        scores = pd.DataFrame([score(kind, first_seed + number) for number in range(campaigns)])
        sums = scores.sum()
        print(
            f"| {campaigns} x {kind} | {scores['spearman'].mean():.3f} ({scores['spearman'].min():.3f}) "
            f"| {scores['spearman of killers'].mean():.3f} | {scores['covered'].mean():.3f} "
            f"| {scores['width'].mean():.2f} of all | {sums['hits']:.0f} | {sums['false hits']:.0f} "
            f"| {sums['false hits'] / max(sums['hits'], 1):.3f} | {sums['false by p'] / max(sums['by p'], 1):.3f} "
            f"| {sums['killers found'] / sums['killers']:.3f} "
            f"| {scores['fit s'].mean():.2f} + {scores['rank s'].mean():.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]]
    main(numbers[0] if numbers else 3, numbers[1] if len(numbers) > 1 else 7001)
