"""Coverage of the intervals of fractions with a confused classifier: raw, adjusted counts and EM, on simulated plates.

    python -m tests.benchmarks.fraction_coverage [PLATES]

Each plate is 40 wells of one composition, seen by a classifier with recalls of 82, 74, 80, 87 and 75 % whose errors
were counted on 300 labelled patches of each state, drawn anew for each plate. Prints coverage of nominal 95 % by kind
of interval for the apoptosis fraction and for the worst of five states; bias and RMSE; then plates of mixed wells;
then the time of a 384-well plate of 24 timepoints. Where quapy can be imported its estimates of the same wells stand
beside ours. Twenty plates take some seconds; the numbers in the documentation are of 100.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module

import numpy as np
import xarray as xr
from scipy import stats

from models.counted_errors import measure
from plates.states import STATES
from screening.analysis.fractions import aggregate
from screening.analysis.quantification import Corrected, adjusted_fractions, em_fractions, project_to_simplex
from tests.screening.analysis.confused import (
    CONFUSION,
    FEW,
    MANY,
    Counts,
    Floats,
    Known,
    calls,
    known,
    observe,
    probabilities,
)

WELLS, PLATES, DRAWS = 40, 20, 200
QUAPY_WELLS = 4
EQUAL = np.full(5, 0.2)
DESIGNS = [(truth, *design, phi) for truth in (FEW, MANY) for design in ((4, 80), (9, 40)) for phi in (0.0, 0.03)]
MIXED = np.concatenate(
    [
        np.repeat([[0.005, 0.005, 0.01, 0.90, 0.08]], 20, axis=0),
        np.repeat([FEW, MANY], 10, axis=0),
        np.repeat([[0.90, 0.02, 0.03, 0.0, 0.05]], 10, axis=0),
    ]
)
Ends = tuple[Floats, Floats]


def wilson(share: Floats, number: Floats | float) -> Ends:
    z2 = stats.norm.ppf(0.975) ** 2
    centre = (share + z2 / 2 / number) / (1 + z2 / number)
    half = np.sqrt(z2 * share * (1 - share) / number + (z2 / 2 / number) ** 2) / (1 + z2 / number)
    return centre - half, centre + half


def raw_pooled(counts: Counts, classifier: Known, rng: np.random.Generator) -> Ends:
    """Calls as if they were the truth and patches independent."""
    return wilson(counts.sum(axis=1) / counts.sum(axis=(1, 2))[:, None], float(counts[0].sum()))


def raw_effective(counts: Counts, classifier: Known, rng: np.random.Generator) -> Ends:
    """Calls as if they were the truth, with the plate's dispersion of fields."""
    found = adjusted_fractions(counts, np.eye(5) * 1e9)
    return found.low, found.high


def raw_bootstrap(counts: Counts, classifier: Known, rng: np.random.Generator) -> Ends:
    """Percentiles over resampled fields."""
    drawn = _resampled(counts, rng)
    return _percentiles(drawn / drawn.sum(axis=-1, keepdims=True))


def acc_bootstrap(counts: Counts, classifier: Known, rng: np.random.Generator) -> Ends:
    """Percentiles of adjusted counts over resampled fields and resampled matrices."""
    drawn = _resampled(counts, rng)
    share = drawn / drawn.sum(axis=-1, keepdims=True)
    true = classifier.confusion / classifier.confusion.sum(axis=1, keepdims=True)
    matrix = rng.multinomial(classifier.confusion.sum(axis=1), true, size=(DRAWS, len(true)))
    weights = np.linalg.inv((matrix / matrix.sum(axis=2, keepdims=True)).transpose(0, 2, 1))
    return _percentiles(project_to_simplex(np.einsum("dkc,dwc->dwk", weights, share)))


def acc_field_t(counts: Counts, classifier: Known, rng: np.random.Generator) -> Ends:
    """Adjusted counts with the scatter of the well's own fields, and the matrix by the delta method."""
    rows = classifier.confusion.sum(axis=1)
    share = classifier.confusion / rows[:, None]
    weights = np.linalg.inv(share.T)
    fields = counts / counts.sum(axis=2, keepdims=True) @ weights.T
    mean, number = fields.mean(axis=1), fields.shape[1]
    own = fields.var(axis=1, ddof=1) / number
    matrix = project_to_simplex(mean) ** 2 @ ((weights**2 @ share.T - np.eye(5)) / rows).T
    total = own + matrix
    freedom = np.maximum(total**2 / np.maximum(own**2 / (number - 1), 1e-300), 1)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(total)
    return mean - half, mean + half


def acc_pooled(counts: Counts, classifier: Known, rng: np.random.Generator) -> Ends:
    """tomoscreen's adjusted counts."""
    found = adjusted_fractions(counts, classifier.confusion)
    return found.low, found.high


RAW_AND_ADJUSTED: dict[str, Callable[[Counts, Known, np.random.Generator], Ends]] = {
    "Wilson pooled": raw_pooled,
    "Wilson N_eff": raw_effective,
    "percentile bootstrap": raw_bootstrap,
    "ACC bootstrap": acc_bootstrap,
    "ACC + field-t": acc_field_t,
    "ACC + pooled phi": acc_pooled,
}


def coverage(plates: int) -> str:
    """The table: apoptosis, and in brackets the state that is covered worst."""
    names = [*RAW_AND_ADJUSTED, "EM + pooled phi"]
    lines = [_row(["apoptosis, fields x cells, phi", *names]), _row(["---"] * (len(names) + 1))]
    for truth, fields, cells, phi in DESIGNS:
        rng = np.random.default_rng([fields, int(1000 * phi), int(100 * truth[0])])
        wells = np.repeat(truth[None], WELLS, axis=0)
        hits: dict[str, list[Floats]] = {name: [] for name in names}
        for _ in range(plates):
            classifier = known(rng)
            kinds = observe(rng, wells, fields=fields, cells=cells, phi=phi)
            ends = {name: method(calls(kinds), classifier, rng) for name, method in RAW_AND_ADJUSTED.items()}
            em = _em(kinds, classifier)
            ends["EM + pooled phi"] = em.low, em.high
            for name, (low, high) in ends.items():
                hits[name].append(((low <= truth) & (truth <= high)).mean(axis=0))
        reached = [np.mean(hits[name], axis=0) for name in names]
        title = f"{truth[0]:.0%}, {fields} x {cells}, {phi:g}"
        lines.append(_row([title, *(f"{hit[0]:.3f} ({hit.min():.3f})" for hit in reached)]))
    return "\n".join(lines)


def errors(plates: int) -> str:
    """Bias of apoptosis, RMSE over all states, median width of the apoptosis interval and price."""
    titles = [
        "apoptosis, fields x cells, phi",
        "method",
        "bias",
        "RMSE, 5 states",
        "width",
        "price",
        "quapy differs by",
    ]
    lines = [_row(titles), _row(["---"] * len(titles))]
    for truth, fields, cells, phi in DESIGNS:
        rng = np.random.default_rng([1, fields, int(1000 * phi), int(100 * truth[0])])
        wells = np.repeat(truth[None], WELLS, axis=0)
        made: dict[str, list[list[Floats]]] = {"raw": [], "ACC": [], "EM": []}
        apart: dict[str, list[float]] = {"raw": [], "ACC": [], "EM": []}
        for _ in range(plates):
            classifier = known(rng)
            kinds = observe(rng, wells, fields=fields, cells=cells, phi=phi)
            raw = adjusted_fractions(calls(kinds), np.eye(5) * 1e9)
            for name, found in (
                ("raw", raw),
                ("ACC", adjusted_fractions(calls(kinds), classifier.confusion)),
                ("EM", _em(kinds, classifier)),
            ):
                made[name].append([found.fraction - truth, found.high - found.low, found.price])
                theirs = _quapy(name, kinds, classifier)
                apart[name].append(
                    np.nan if theirs is None else float(np.abs(theirs - found.fraction[: len(theirs)]).max())
                )
        for name, parts in made.items():
            error, width, price = (np.concatenate([part[k] for part in parts]) for k in range(3))
            differs = "-" if np.isnan(apart[name]).all() else f"{np.max(apart[name]):.1g}"
            lines.append(
                _row(
                    [
                        f"{truth[0]:.0%}, {fields} x {cells}, {phi:g}",
                        name,
                        f"{error[:, 0].mean():+.4f}",
                        f"{np.sqrt((error**2).mean()):.4f}",
                        f"{np.median(width[:, 0]):.3f}",
                        "1" if name == "raw" else f"{np.nanmean(price[:, 0]):.2f}",
                        differs,
                    ]
                )
            )
    return "\n".join(lines)


def mixed(plates: int) -> str:
    """Wells of four compositions on one plate, four groups, as the result `fractions` holds them."""
    wells = [f"wells of {share:.1%} apoptosis" for share in (0.005, 0.05, 0.4, 0.9)]
    lines = [_row(["fields x cells, phi", "method", *wells, "kept"])]
    lines.append(_row(["---"] * 7))
    groups = np.concatenate([MIXED[:, :3], MIXED[:, 3:].sum(axis=1, keepdims=True)], axis=1)
    for fields, side in ((4, 9), (9, 6)):
        rng = np.random.default_rng([2, fields])
        hits: dict[str, list[Floats]] = {"adjusted": [], "em": []}
        for _ in range(plates):
            classifier = known(rng)
            kinds = observe(rng, MIXED, fields=fields, cells=side * side, phi=0.03)
            result = aggregate(*_stored(probabilities(kinds, classifier.posterior), classifier, fields, side))
            for name, parts in hits.items():
                low, high = (result[f"fraction_{name}_{end}"].values[:, 0] for end in ("low", "high"))
                hit = ((low <= groups) & (groups <= high)).astype(float)
                parts.append(np.where(np.isnan(low), np.nan, hit))
        for name, parts in hits.items():
            hit = np.nanmean(parts, axis=0)
            by_kind = [hit[:20].mean(), hit[20:30].mean(), hit[30:40].mean(), hit[40:].mean()]
            kept = 1 - np.isnan(parts).mean()
            title = f"{fields} x {side * side}, 0.03"
            lines.append(_row([title, name, *(f"{share:.3f}" for share in by_kind), f"{kept:.1%}"]))
    return "\n".join(lines)


def speed() -> str:
    """CPU seconds of one 384-well plate of 24 timepoints, four fields of 64 patches."""
    rng = np.random.default_rng(3)
    classifier = known(rng)
    truth = rng.dirichlet(np.ones(5), size=384 * 24)
    kinds = observe(rng, truth, fields=4, cells=64, phi=0.03)
    values = probabilities(kinds, classifier.posterior)
    stored, layout = _stored(values, classifier, 4, 8, timepoints=24)
    start = time.process_time()
    aggregate(stored, layout)
    both = time.process_time() - start
    start = time.process_time()
    aggregate(stored.assign_attrs(validation="{}"), layout)
    raw = time.process_time() - start
    patches = values.shape[0] * values.shape[1]
    return f"384 wells x 24 timepoints, {patches:,} patches: {both:.2f} CPU-s, {raw:.2f} of it without correction"


def _em(kinds: Counts, classifier: Known) -> Corrected:
    field = np.repeat(np.arange(kinds.shape[1]), kinds[0, 0].sum())
    return em_fractions(probabilities(kinds, classifier.posterior), EQUAL, classifier.confusion, field=field)


def _quapy(name: str, kinds: Counts, classifier: Known) -> Floats | None:
    """Fractions of the first wells by quapy (Moreo, Esuli and Sebastiani 2021), None where it is not installed."""
    try:
        method, functional = (import_module(f"quapy.{name}") for name in ("method.aggregative", "functional"))
    except ImportError:
        return None
    few = kinds[:QUAPY_WELLS]
    share = calls(few).sum(axis=1) / few.sum(axis=(1, 2))[:, None]
    if name == "raw":
        return np.asarray(share)
    if name == "EM":
        return np.stack([method.EMQ.EM(EQUAL, p, epsilon=1e-9)[0] for p in probabilities(few, classifier.posterior)])
    rates = (classifier.confusion / classifier.confusion.sum(axis=1, keepdims=True)).T
    solved = [method.ACC.solve_adjustment(rates, q, method="inversion", solver="exact-raise") for q in share]
    return np.stack([functional.normalize_prevalence(one, method="mapsimplex") for one in solved])


def _stored(
    values: Floats, classifier: Known, fields: int, side: int, *, timepoints: int = 1
) -> tuple[xr.Dataset, xr.Dataset]:
    """(well x timepoint, patch, state) -> groups `probabilities` and `layout`."""
    wells = len(values) // timepoints
    shaped = values.astype(np.float32).reshape(wells, timepoints, fields, side, side, 5).transpose(0, 2, 1, 3, 4, 5)
    kinds = np.repeat(np.tile(np.arange(15), 5), classifier.validated.ravel())
    truth = np.repeat(np.arange(5), classifier.validated.sum(axis=1))
    record = measure(classifier.posterior[kinds], truth, groups=[str(k) for k in range(len(truth))])
    names = np.array([f"{chr(65 + i // 24)}{i % 24 + 1:02d}" for i in range(wells)], dtype=object)
    stored = xr.Dataset(
        {"probability": (("well", "field", "timepoint", "py", "px", "state"), np.ascontiguousarray(shaped))},
        coords={"well": names, "timepoint": range(timepoints), "state": list(STATES)},
        attrs={"validation": json.dumps(record)},
    ).assign_coords(hours=("timepoint", np.arange(timepoints, dtype=float)))
    return stored, xr.Dataset(coords={"well": names})


def _resampled(counts: Counts, rng: np.random.Generator) -> Counts:
    """(draw, well, called)."""
    wells, fields, _ = counts.shape
    drawn = rng.multinomial(fields, np.full(fields, 1 / fields), size=(DRAWS, wells))
    return np.asarray(np.einsum("dwf,wfc->dwc", drawn, counts))


def _percentiles(drawn: Floats) -> Ends:
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    return low, high


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(plates: int) -> None:
    print(f"condition number {np.linalg.cond(CONFUSION):.2f}; {plates} plates of {WELLS} wells a row\n")
    for table in (coverage, errors, mixed):
        print(table(plates), "\n", flush=True)
    print(speed())


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PLATES)
