"""Quality and normalisation against other people's numbers, and against faults planted in simulated plates.

    python -m tests.benchmarks.quality_values [PLATES] [DATA]

Prints three Markdown tables: reached and required on real plates whose answers were computed elsewhere; how often
planted faults are found and clean plates accused, over PLATES seeded plates each (20; 100 take ten CPU-minutes);
and what correction for place does to the error of treated wells. DATA is the folder with the sets.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from screening.analysis.b_score import b_score
from screening.analysis.control_charts import levey_jennings
from screening.analysis.control_statistics import (
    avr,
    center_and_spread,
    signal_to_background,
    signal_to_noise,
    signal_window,
    ssmd,
    z_prime,
)
from screening.analysis.normalization import normalize
from screening.analysis.quality import assess_plate
from screening.analysis.scales import z_score
from tests.screening.analysis.planted import LAYOUTS, fields_at, laid_wrongly, planted_plate

DATA = Path(__file__).parents[3] / "shared" / "data"
FIRST_SEED = 70_000
Row = tuple[str, str, str, bool]


def kcviab(folder: Path) -> list[Row]:
    """The KcViab screen (57 plates of 384 wells, two replicates) against R's numbers and the scores of 2003."""
    if not folder.exists():
        return [("KcViab", "not present", "-", True)]
    raw = pd.read_csv(folder / "KcViab_raw_long.csv.gz")
    expected = pd.read_csv(folder / "expected_scores_R.csv.gz")
    kind = raw["controlStatus"].to_numpy()
    rows, scores, b_off = [], [], []
    truth = pd.read_csv(folder / "expected_zprime_R.csv")
    for replicate in (1, 2):
        values = raw[f"rep{replicate}"].astype(float)
        scaled = (values / raw["plate"].map(values[kind == "sample"].groupby(raw["plate"]).median())).to_numpy()
        positive, negative = (scaled[kind == name] for name in ("pos", "neg"))
        for robust, required in (
            (False, "-0.04" if replicate == 1 else "-0.03"),
            (True, "0.76" if replicate == 1 else "0.81"),
        ):
            found = float(z_prime(positive, negative, robust=robust))
            r = truth[(truth["replicate"] == replicate) & (truth["robust"] == robust)]["zprime"].item()
            name = f"KcViab, Z' {'robust' if robust else 'classical'}, replicate {replicate}"
            rows.append(
                (name, f"{found:.6f} ({abs(found - r):.0e} from R)", f"{required}, R to 1e-9", abs(found - r) < 1e-9)
            )
        scores.append(-z_score(scaled, scaled[kind == "sample"], robust=True))
        for plate in raw["plate"].unique():
            here = (raw["plate"] == plate).to_numpy()
            table = values[here].to_numpy().reshape(16, 24)
            found_b = b_score(table, (kind[here] == "sample").reshape(16, 24)).ravel()
            b_off.append(np.abs(found_b - expected.loc[here, f"bscore{replicate}"].to_numpy()))
    off = np.concatenate(b_off)
    both = np.isfinite(off)
    rows.append(
        (
            f"KcViab, B-scores of {both.sum()} wells, largest difference from R",
            f"{off[both].max():.1e}",
            "<= 1e-6",
            bool(off[both].max() <= 1e-6),
        )
    )
    mean = np.mean(scores, axis=0)
    published = expected["published_2003"].to_numpy()
    known = np.isfinite(mean) & np.isfinite(published)
    r = float(np.corrcoef(mean[known], published[known])[0, 1])
    rows.append(
        (f"KcViab, r of robust z to the scores of 2003 ({known.sum()} wells)", f"{r:.4f}", ">= 0.98", r >= 0.98)
    )
    worst = float(np.nanmax(np.abs(mean - expected["score_mean"].to_numpy())))
    rows.append(("KcViab, robust z, largest difference from R", f"{worst:.1e}", "<= 1e-9", worst <= 1e-9))
    return rows


def acea(folder: Path) -> list[Row]:
    """436 plates of the ACEA assay (tcplfit2) against the quality computed in R; its signal is the negative control."""
    if not (folder / "expected_mc0_plate_qc_R.csv").exists():
        return [("ACEA plates (tcplfit2)", "not present", "-", True)]
    wells = pd.read_csv(folder / "mc0_ACEA_AR_raw_plates.csv.gz")
    wells = wells[wells["wllq"] == 1]
    expected = pd.read_csv(folder / "expected_mc0_plate_qc_R.csv").set_index("apid")
    worst: dict[str, float] = {}
    for plate, here in wells.groupby("apid"):
        positive, negative = (here.loc[here["wllt"] == kind, "rval"].to_numpy(float) for kind in ("p", "n"))
        (m_p, s_p), (m_n, s_n) = (center_and_spread(kind, robust=False) for kind in (positive, negative))
        found = {
            "zprime": z_prime(positive, negative),
            "robust_zprime": z_prime(positive, negative, robust=True),
            "ssmd": ssmd(positive, negative),
            "robust_ssmd": ssmd(positive, negative, robust=True),
            "signal_background": signal_to_background(negative, positive),
            "signal_noise": signal_to_noise(negative, positive),
            "signal_window": signal_window(positive, negative),
            "avr": avr(positive, negative),
            "cv_pos": 100 * s_p / m_p,
            "cv_neg": 100 * s_n / m_n,
        }
        for name, value in found.items():
            r = float(expected[name][str(plate)])
            off = 0.0 if np.isnan(r) and np.isnan(value) else abs(float(value) - r) / max(abs(r), 1e-12)
            worst[name] = max(worst.get(name, 0.0), off)
    most = max(worst, key=lambda name: worst[name])
    return [
        (
            f"ACEA, {len(worst)} statistics of {len(expected)} plates, largest relative difference from R ({most})",
            f"{worst[most]:.1e}",
            "<= 1e-9",
            worst[most] <= 1e-9,
        )
    ]


def elsewhere(folder: Path) -> list[Row]:
    """Sets that have answers for methods of this kind, but are not at hand."""
    return [
        (name, "not present", "-", True) for name in ("SIGHTS", "GDSC") if not list(folder.glob(f"*{name.lower()}*"))
    ]


def planted(plates: int) -> list[Row]:
    """How often each fault is found, and named for what it is; how often clean plates are accused."""
    cases: list[tuple[str, Callable[[int], xr.Dataset], tuple[str, ...], float]] = []
    for layout in LAYOUTS:
        cases.append((f"clean, {layout}", _maker(layout=layout), (), 0.05))
    cases.append(("clean, no compound kills", _maker(active=0.0), (), 0.05))
    place = ("depends on the place", "at the edge", "imaged later")
    for size in (0.05, 0.1, 0.2):
        required = {0.05: 0.3, 0.1: 0.9, 0.2: 0.99}[size]
        cases.append((f"dry edge kills {size:.0%} more, scattered", _maker(edge=size), place, required))
    for size in (0.05, 0.1, 0.2):
        required = {0.05: 0.2, 0.1: 0.8, 0.2: 0.99}[size]
        cases.append((f"gradient to {size:.0%} over the columns, scattered", _maker(gradient=size), place, required))
    for size in (0.1, 0.2):
        required = {0.1: 0.8, 0.2: 0.99}[size]
        cases.append((f"drift to {size:.0%} over imaging, scattered", _maker(drift=size), place, required))
    cases.append(("4 of 32 vehicle wells contaminated", _maker(contaminated=4), ("control wells",), 0.95))
    for layout in LAYOUTS:
        for way, telling in (
            ("turned", ("better turned",)),
            ("shifted", ("better shifted",)),
            ("columns 3 15", ("columns 4 and 16 exchanged",)),
            ("columns 4 5", ("columns 5 and 6 exchanged",)),
        ):
            required = 0.0 if (layout, way) == ("unreplicated", "columns 4 5") else 0.9
            cases.append((f"plate {way}, {layout}", _maker(layout=layout, way=way), telling, required))
    cases.append(
        (
            "plate transposed, 64 wells of 96",
            _maker(shape=(8, 8), vehicle=8, inducers=2, way="transposed"),
            ("exchanged",),
            0.5,
        )
    )
    rows, spent = [], 0.0
    for name, make, words, required in cases:
        found = 0
        for seed in range(FIRST_SEED, FIRST_SEED + plates):
            plate = make(seed)
            start = time.process_time()
            quality = assess_plate(plate, fields_at(plate), draws=50, seed=seed)["quality"]
            spent += time.process_time() - start
            said = json.loads(quality.attrs["reasons"])
            found += any(word in sentence for sentence in said for word in words) if words else bool(said)
        share = found / plates
        passed = share >= required if words else share <= required + 1.645 * np.sqrt(required * (1 - required) / plates)
        rows.append((name, f"{share:.2f}", f"{'>=' if words else '<='} {required:g}", bool(passed)))
    rows.append(
        (
            f"CPU seconds a plate of one timepoint ({plates * len(cases)} plates)",
            f"{spent / plates / len(cases):.2f}",
            "-",
            True,
        )
    )
    return rows


def charts() -> list[Row]:
    """False alarms a plate of Levey and Jennings' chart with known centre and spread, and how soon a shift is found."""
    rng = np.random.default_rng(FIRST_SEED)
    alarms, learnt, delays = [], [], []
    for _ in range(100):
        steady = rng.normal(0, 1, 60)
        alarms.append((levey_jennings(steady, center=0, spread=1)["status"] == "out of control").mean())
        learnt.append((levey_jennings(steady, baseline=20)["status"][20:] == "out of control").mean())
        shifted = levey_jennings(np.append(rng.normal(0, 1, 20), rng.normal(2, 1, 20)), center=0, spread=1)
        late = np.flatnonzero((shifted["status"][20:] == "out of control").to_numpy())
        delays.append(late[0] + 1 if late.size else 21)
    return [
        (
            "Levey-Jennings, plates of a steady series called out of control",
            f"{np.mean(alarms):.3f}",
            "0.008 by the rules",
            abs(float(np.mean(alarms)) - 0.008) < 0.004,
        ),
        ("the same, centre and spread learnt from the 20 plates before", f"{np.mean(learnt):.3f}", "-", True),
        (
            "Levey-Jennings, plates until a shift by 2 SD is found, median",
            f"{np.median(delays):.0f}",
            "<= 3",
            bool(np.median(delays) <= 3),
        ),
    ]


def correction(plates: int) -> list[Row]:
    """Mean absolute error of treated wells' excess death against the truth, uncorrected and corrected."""
    rows: list[Row] = []
    for name, options in (
        ("clean", {}),
        ("dry edge, 20 %", {"edge": 0.2}),
        ("gradient to 30 %", {"gradient": 0.3}),
        ("both", {"edge": 0.2, "gradient": 0.3}),
    ):
        before, after, applied = [], [], 0
        for seed in range(FIRST_SEED, FIRST_SEED + plates):
            plate = planted_plate(vehicle=48, seed=seed, **options)  # type: ignore[arg-type]
            result = normalize(plate, seed=seed)
            applied += result.attrs["correction_applied"]
            background = 0.04
            treated = plate.control.values == "none"
            truth = ((plate.true_death.values - background) / (1 - background))[treated]
            before.append(np.abs(result.death_excess.values[treated, 0] - truth).mean())
            after.append(np.abs(result.corrected_death_excess.values[treated, 0] - truth).mean())
        ratio = float(np.mean(after) / np.mean(before))
        limit = 1.02 if name == "clean" else 0.9
        reached = f"{np.mean(before):.4f} -> {np.mean(after):.4f}, corrected {applied / plates:.2f} of plates"
        rows.append(
            (
                f"correction, {name}: error of treated wells",
                reached,
                f"ratio <= {limit:g} ({ratio:.2f})",
                ratio <= limit,
            )
        )
    return rows


def _maker(*, way: str = "", shape: tuple[int, int] = (16, 24), **options: object) -> Callable[[int], xr.Dataset]:
    def make(seed: int) -> xr.Dataset:
        plate = planted_plate(shape=shape, seed=seed, **options)  # type: ignore[arg-type]
        return laid_wrongly(plate, way, shape) if way else plate

    return make


def table(rows: list[Row]) -> str:
    """Markdown; a cross marks what was missed."""
    lines = ["| what | reached | required | |", "|---|---|---|---|"]
    return "\n".join(
        lines
        + [
            f"| {what} | {reached} | {required} | {'yes' if met else '**missed**'} |"
            for what, reached, required, met in rows
        ]
    )


def main(plates: int, data: Path) -> bool:
    """Print the tables; True where everything required was reached."""
    everything: list[Row] = []
    parts: tuple[Callable[[], list[Row]], ...] = (
        lambda: [*kcviab(data / "kcviab"), *acea(data / "tcplfit2"), *elsewhere(data)],
        lambda: planted(plates),
        lambda: [*charts(), *correction(plates)],
    )
    for part in parts:
        rows = part()
        print(table(rows), end="\n\n", flush=True)
        everything += rows
    return all(met for *_, met in everything)


if __name__ == "__main__":
    sys.exit(not main(int(sys.argv[1]) if len(sys.argv) > 1 else 20, Path(sys.argv[2]) if len(sys.argv) > 2 else DATA))
