"""Curve fits against answers that others certified or computed: what is reached and what is required.

    python -m tests.benchmarks.curve_accuracy [DATA_FOLDER]

DATA_FOLDER holds `nist_strd`, `drc`, `curvecurator_ctrp` and `tcplfit2`; by default `shared/data` beside the project.
Prints a Markdown table; sets that are absent are left out. About a minute.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize

from screening.analysis.areas import mean_response
from screening.analysis.curves import fit_curves
from screening.analysis.least_squares import fit_model
from screening.analysis.log_logistic import Curves

DATA = Path(__file__).parents[3] / "shared" / "data"
Row = tuple[str, str, str]
DRC_COLUMNS = {
    "M.bahia": ("conc", "dryweight", ""),
    "O.mykiss": ("conc", "weight", ""),
    "P.promelas": ("conc", "dryweight", ""),
    "S.capricornutum": ("conc", "count", ""),
    "acidiq": ("dose", "rgr", "pct"),
    "barley": ("Dose", "weight", ""),
    "leaflength": ("Dose", "DW", ""),
    "lemna": ("conc", "frond.num", ""),
    "lettuce": ("conc", "weight", ""),
    "mdra": ("Concentration", "Response", "ExperimentID"),
    "ryegrass": ("conc", "rootl", ""),
    "ryegrass2": ("dose", "biomass", "day"),
    "terbuthylazin": ("dose", "rgr", ""),
    "vinclozolin": ("conc", "effect", "exper"),
}
EITHER = (-np.inf, np.inf)
HILL = (0.02, 2000.0)  # of the reference profile, on which some of its ends depend


def _enso(x: np.ndarray, *b: float) -> np.ndarray:
    t = 2 * np.pi * x
    year = b[0] + b[1] * np.cos(t / 12) + b[2] * np.sin(t / 12)
    second = b[4] * np.cos(t / b[3]) + b[5] * np.sin(t / b[3])
    return np.asarray(year + second + b[7] * np.cos(t / b[6]) + b[8] * np.sin(t / b[6]))


def _gauss(x: np.ndarray, *b: float) -> np.ndarray:
    peaks = (b[k] * np.exp(-((x - b[k + 1]) ** 2) / b[k + 2] ** 2) for k in (2, 5))
    return np.asarray(b[0] * np.exp(-b[1] * x) + sum(peaks))


def _cubic(x: np.ndarray, *b: float) -> np.ndarray:
    over, under = b[0] + x * (b[1] + x * (b[2] + x * b[3])), 1 + x * (b[4] + x * (b[5] + x * b[6]))
    return np.asarray(over / under)


def _lanczos(x: np.ndarray, *b: float) -> np.ndarray:
    return np.asarray(b[0] * np.exp(-b[1] * x) + b[2] * np.exp(-b[3] * x) + b[4] * np.exp(-b[5] * x))


NIST: dict[str, Callable[..., np.ndarray]] = {
    "Bennett5": lambda x, a, b, c: a * (b + x) ** (-1 / c),
    "BoxBOD": lambda x, a, b: a * (1 - np.exp(-b * x)),
    "Chwirut1": lambda x, a, b, c: np.exp(-a * x) / (b + c * x),
    "Chwirut2": lambda x, a, b, c: np.exp(-a * x) / (b + c * x),
    "DanWood": lambda x, a, b: a * x**b,
    "ENSO": _enso,
    "Eckerle4": lambda x, a, b, c: a / b * np.exp(-0.5 * ((x - c) / b) ** 2),
    "Gauss1": _gauss,
    "Gauss2": _gauss,
    "Gauss3": _gauss,
    "Hahn1": _cubic,
    "Kirby2": lambda x, a, b, c, d, e: (a + x * (b + x * c)) / (1 + x * (d + x * e)),
    "Lanczos1": _lanczos,
    "Lanczos2": _lanczos,
    "Lanczos3": _lanczos,
    "MGH09": lambda x, a, b, c, d: a * (x**2 + x * b) / (x**2 + x * c + d),
    "MGH10": lambda x, a, b, c: a * np.exp(b / (x + c)),
    "MGH17": lambda x, a, b, c, d, e: a + b * np.exp(-x * d) + c * np.exp(-x * e),
    "Misra1a": lambda x, a, b: a * (1 - np.exp(-b * x)),
    "Misra1b": lambda x, a, b: a * (1 - (1 + b * x / 2) ** -2),
    "Misra1c": lambda x, a, b: a * (1 - (1 + 2 * b * x) ** -0.5),
    "Misra1d": lambda x, a, b: a * b * x / (1 + b * x),
    "Nelson": lambda x, a, b, c: a - b * x[:, 0] * np.exp(-c * x[:, 1]),  # of log y
    "Rat42": lambda x, a, b, c: a / (1 + np.exp(b - c * x)),
    "Rat43": lambda x, a, b, c, d: a / (1 + np.exp(b - c * x)) ** (1 / d),
    "Roszman1": lambda x, a, b, c, d: a - b * x - np.arctan(c / (x - d)) / np.pi,
    "Thurber": _cubic,
}


def main(folder: Path) -> None:
    """Print one row a requirement."""
    rows: list[Row] = []
    for name, part in (
        ("nist_strd", nist),
        ("drc", drc),
        ("curvecurator_ctrp", curvecurator),
        ("tcplfit2", tcpl),
    ):
        if (folder / name).exists():
            rows += part(folder / name)
    print("| against | reached | required |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def nist(folder: Path) -> list[Row]:
    """Parameters and standard deviations of the certified nonlinear problems, from both starts."""
    problems = json.loads((folder / "expected_nist_strd.json").read_text())
    kept: dict[str, list[int]] = {"Lower": [], "Average": [], "Higher": []}
    digits, sd_digits, missed = [], [], []
    for name, problem in problems.items():
        data = np.array(problem["data"], dtype=float)
        y, x = data[:, 0], data[:, 1] if data.shape[1] == 2 else data[:, 1:]
        if name == "Nelson":
            y = np.log(y)
        certified = np.array([p["certified"] for p in problem["params"]])
        sd = np.array([p["sd"] for p in problem["params"]])
        good = 0
        for start in ("start1", "start2"):
            fit = fit_model(NIST[name], x, y, start=np.array([p[start] for p in problem["params"]]))
            reached = _digits(fit.parameters, certified)
            if reached >= 6:
                good += 1
                digits.append(reached)
                sd_digits.append((_digits(fit.standard_errors, sd), name))
            else:
                missed.append(f"{name} {start}")
        kept[problem["level"]].append(good)
    lower, average, higher = (np.array(kept[level]) for level in kept)
    both = np.concatenate([lower, average])
    return [
        ("NIST StRD, lower and average: both starts reach 6 digits", f"{(both == 2).sum()} of {both.size}", "all"),
        ("NIST StRD, higher: a start reaches 6 digits", f"{(higher > 0).sum()} of {higher.size}", "all"),
        ("NIST StRD, digits of the parameters where it converged, lowest", f"{min(digits):.1f}", ">= 6"),
        (
            "NIST StRD, digits of the SDs there, lowest, without Lanczos1",
            f"{min(d for d, name in sd_digits if name != 'Lanczos1'):.1f}",
            ">= 4",
        ),
        (
            "NIST StRD, digits of the SDs of Lanczos1 (residuals of 1e-13, the rounding of its data)",
            f"{min(d for d, name in sd_digits if name == 'Lanczos1'):.1f}",
            ">= 4",
        ),
        ("NIST StRD, starts that end elsewhere", ", ".join(missed) or "none", "-"),
    ]


def drc(folder: Path) -> list[Row]:
    """Fits on which R's drc sits on the optimum, and every other curve of the same files."""
    anchors = pd.read_csv(folder / "anchors_polished.csv")
    rows = []
    gaps: dict[str, list[float]] = {name: [] for name in ("ec50", "rss", "se", "profile", "bounded")}
    every: list[Any] = list(anchors.itertuples())
    for anchor in every:
        dose, response = _drc_curve(folder, str(anchor.dataset), str(anchor.curve))
        top = EITHER if anchor.model == "LL.4" else (0.0, 0.0)
        fit = fit_curves(dose, response, top=top, hill=HILL).iloc[0]
        ec50, low, high = _before_judgement(dose, response, top)
        gaps["ec50"].append(abs(ec50 / anchor.e - 1))
        gaps["rss"].append(fit["rss"] / anchor.rss - 1)
        se = _standard_error(dose, response, top)
        gaps["se"].append(abs(se / anchor.se_log10e_GN - 1))
        for end, expected in ((low, anchor.py_profile_lo), (high, anchor.py_profile_hi)):
            if np.isfinite(expected):
                gaps["profile"].append(abs(end / expected - 1))
    count = len(anchors)
    rows += [
        (f"drc, {count} anchors: EC50, largest relative difference", f"{max(gaps['ec50']):.1e}", "<= 1e-6"),
        (f"drc, {count} anchors: RSS over the polished one, largest excess", f"{max(gaps['rss']):.1e}", "<= 1e-9"),
        (f"drc, {count} anchors: Gauss-Newton SE, largest relative difference", f"{max(gaps['se']):.1e}", "<= 1e-5"),
        (
            f"drc, {len(gaps['profile'])} profile ends: largest relative difference",
            f"{max(gaps['profile']):.1e}",
            "<= 2e-3",
        ),
    ]
    known = {(str(a.dataset), str(a.curve), str(a.model)) for a in every}
    excess = []
    for dataset, (_, _, curve) in DRC_COLUMNS.items():
        data = pd.read_csv(folder / "data" / f"{dataset}.csv")
        for name in sorted(set(data[curve].astype(str))) if curve else ["all"]:
            for model, top in (("LL.3", (0.0, 0.0)), ("LL.4", EITHER)):
                dose, response = _drc_curve(folder, dataset, name)
                if (dataset, name, model) in known or np.unique(dose).size < 5:
                    continue
                mine = fit_curves(dose, response, top=top, hill=HILL)["rss"].iloc[0]
                excess.append(mine / _many_starts(dose, response, top) - 1)
    worst = max(excess)
    rows.append(
        (f"drc data, {len(excess)} other curves: RSS over scipy's best of 24 starts", f"{worst:.1e}", "<= 1e-6")
    )
    return rows


def _drc_curve(folder: Path, dataset: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    dose, response, curve = DRC_COLUMNS[dataset]
    data = pd.read_csv(folder / "data" / f"{dataset}.csv")
    if curve:
        data = data[data[curve].astype(str) == name]
    data = data.dropna(subset=[dose, response])
    return data[dose].to_numpy(float), data[response].to_numpy(float)


def _unjudged(dose: np.ndarray, response: np.ndarray, top: tuple[float, float]) -> pd.Series:
    """The fit with every curve taken as active, so that the parameters of flat ones are kept."""
    return fit_curves(dose, response, top=top, hill=HILL, alpha=1.0, minimum_effect=-1.0).iloc[0]


def _before_judgement(dose: np.ndarray, response: np.ndarray, top: tuple[float, float]) -> tuple[float, float, float]:
    fit = _unjudged(dose, response, top)
    return float(fit["ec50_fit"]), float(fit["profile_low"]), float(fit["profile_high"])


def _standard_error(dose: np.ndarray, response: np.ndarray, top: tuple[float, float]) -> float:
    return float(_unjudged(dose, response, top)["log10_ec50_se"])


def _many_starts(dose: np.ndarray, response: np.ndarray, top: tuple[float, float]) -> float:
    """Lowest residual sum of squares of scipy's bounded search from 24 starts."""
    x = np.where(dose > 0, np.log10(np.where(dose > 0, dose, 1)), -1e4)
    tested = x[x > -1e4]
    free = top[0] < top[1]

    def left(p: np.ndarray) -> np.ndarray:
        rise = 1 / (1 + np.exp(np.clip(np.log(10) * np.exp(p[0]) * (p[1] - x), -700, 700)))
        basis = np.column_stack([1 - rise, rise]) if free else (1 - rise)[:, None]
        found = np.linalg.lstsq(basis, response - (0 if free else top[0]) * rise, rcond=None)[0]
        return np.asarray(response - (0 if free else top[0]) * rise - basis @ found)

    bounds = [np.log(HILL[0]), tested.min() - 2], [np.log(HILL[1]), tested.max() + 2]
    best = np.inf
    for slope in np.log([0.5, 2.0, 8.0, 40.0]):
        for location in np.linspace(tested.min() - 1.5, tested.max() + 1.5, 6):
            with np.errstate(all="ignore"):
                found = optimize.least_squares(left, [slope, location], bounds=bounds, xtol=1e-11, ftol=1e-11)
            best = min(best, 2 * float(found.cost))
    return best


def curvecurator(folder: Path) -> list[Row]:
    """CTRP curves with CurveCurator 0.6.0's published answers, within its own limits."""
    table = pd.read_csv(folder / "curves_40.0.txt.gz", sep="\t")
    dose = np.array([0, 0.0012, 0.0024, 0.0049, 0.0097, 0.019, 0.039, 0.078, 0.16, 0.31, 0.62, 1.2, 2.5, 5, 10, 20, 40])
    ratio = table[[f"Ratio {k}" for k in range(dose.size)]].to_numpy(float)
    mine = fit_curves(dose, ratio, bottom=(1e-4, 1e6), top=(1e-4, 1e6), hill=(0.01, 10.0))
    points = np.isfinite(ratio).sum(axis=1)
    theirs = (table["Curve RMSE"] ** 2).to_numpy() * points
    published = Curves(
        table["Curve Front"].to_numpy(),
        table["Curve Back"].to_numpy(),
        table["Curve Slope"].to_numpy(),
        6 - table["pEC50"].to_numpy(),
        theirs,
    )
    tested = [np.log10(dose[1:][np.isfinite(row[1:])][[0, -1]]) for row in ratio]
    area = mean_response(published, np.array([t[0] for t in tested]), np.array([t[1] for t in tested]))
    gap = np.abs(area - table["Curve AUC"].to_numpy())
    called = (table["Curve Regulation"].isin(["up", "down"])).to_numpy()
    p = mine["p_adjusted"].to_numpy()
    sure = called & (mine["status"] == "quantified").to_numpy()
    apart = np.abs(np.log10(mine["ec50_fit"].to_numpy()[sure]) - published.location[sure])
    return [
        (
            f"CurveCurator, {len(table)} CTRP curves: RSS above its own by more than 1e-6",
            str(int((mine["rss"] > theirs * (1 + 1e-6)).sum())),
            "0",
        ),
        (
            "CurveCurator: AUC from its parameters, median and largest difference",
            f"{np.median(gap):.1e}, {gap.max():.1e}",
            "<= 1e-5 median",
        ),
        (
            f"CurveCurator: of its {called.sum()} up or down, an effect here (FDR 0.01)",
            str(int((p[called] <= 0.01).sum())),
            "-",
        ),
        (
            f"CurveCurator: log10 EC50 apart on {sure.sum()} that both tell, median and 95 %",
            f"{np.median(apart):.3f}, {np.quantile(apart, 0.95):.3f}",
            "-",
        ),
    ]


def tcpl(folder: Path) -> list[Row]:
    """EPA signatures. tcplfit2 takes a heavy-tailed likelihood and other models: EC50s agree within intervals only."""
    expected = pd.read_csv(folder / "expected_signatures_concRespCore.csv")
    data = pd.read_csv(folder / "signatures.csv")
    inside, told, active = 0, 0, 0
    pairs: list[tuple[Any, Any]] = list(zip(data.itertuples(), expected.itertuples(), strict=True))
    for row, known in pairs:
        dose, response = (np.array(str(text).split("|"), dtype=float) for text in (row.conc, row.resp))
        fit = fit_curves(dose, response, bottom=(0.0, 0.0), noise=float(row.onesd)).iloc[0]
        active += known.hitcall > 0.9 and fit["status"] != "no_effect"
        if fit["status"] not in ("no_effect", "not_fitted"):
            told += 1
            inside += fit["profile_low"] <= known.ac50 <= fit["profile_high"]
    hits = int((expected["hitcall"] > 0.9).sum())
    return [
        (f"tcplfit2, {len(data)} signatures: of its {hits} hits (hit call > 0.9), an effect here", str(active), "-"),
        ("tcplfit2: its AC50 inside the interval, of those with an effect", f"{inside} of {told}", "-"),
    ]


def _digits(found: np.ndarray, certified: np.ndarray) -> float:
    """Lowest number of agreeing significant digits."""
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.abs(found - certified) / np.abs(certified)
        digits = np.where(np.isfinite(error), -np.log10(np.maximum(error, 1e-11)), 0)
    return float(digits.min())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA)
