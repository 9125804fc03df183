"""From a plate's probabilities to what it says: fractions, quality, dose-response, kinetics, ranking."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import xarray as xr

from plates.errors import SettingsError, StoreError
from plates.results import read_result, result_attributes, results_path, write_result
from screening.analysis.campaign import combine
from screening.analysis.dose_response import fit_dose_response
from screening.analysis.exclusions import (
    COLUMNS,
    apply_exclusions,
    check_exclusions,
    exclusion_record,
    read_exclusions,
)
from screening.analysis.fractions import aggregate
from screening.analysis.growth import separate_arrest
from screening.analysis.hits import HitRule
from screening.analysis.normalization import normalize
from screening.analysis.plate_combinations import fit_combinations
from screening.analysis.plate_pathways import fit_plate_pathways
from screening.analysis.quality import assess_plate
from screening.analysis.ranking import rank
from screening.analysis.time_deaths import time_deaths
from screening.fingerprints import content, current_result, digest, provenance, recorded
from screening.marker_lead import annotation_of, lead_over_markers
from screening.settings import AnalysisSettings

RULES = 4
"""Version of the analysis; raised when the same probabilities would give other numbers."""

INPUTS = ("layout", "fields", "probabilities")
QUALITY_RESULTS = ("quality", "vehicle_quality", "spatial", "drift", "layout_check", "field_quality")
CURVE_RESULTS = ("dose_response", "kinetics", "pathways", "growth", "ranking", "combinations")
PLATE_RESULTS = ("fractions", "normalized", *QUALITY_RESULTS, *CURVE_RESULTS, "early_detection", "exclusions")
CAMPAIGN_RESULTS = (
    "plates",
    "dose_response",
    "kinetics",
    "pathways",
    "ranking",
    "reference_trend",
    "agreement",
    "batches",
    "control_charts",
    "combinations",
)


def analyse_plate(path: Path, *, settings: AnalysisSettings | None = None) -> bool:
    """Make the results `fractions` to `ranking` of one plate.

    Returns
    -------
    bool
        False where all of them were there already, made from the same probabilities and settings.
    """
    settings = settings or AnalysisSettings()
    inputs = {name: read_result(path, name) for name in INPUTS}
    name = path.name.removesuffix(".zarr").removesuffix(".results")
    excluded = exclusions_of(settings, plate=name)
    check_exclusions(excluded, {name: inputs["probabilities"]})
    read_from = digest([content(part) for part in inputs.values()])
    described = settings.model_dump(mode="json")
    file = annotation_of(path)
    annotated = file.read_bytes().hex() if file.exists() else ""
    fingerprint = digest([RULES, described, excluded.to_csv(index=False), annotated, read_from])
    if all(current_result(path, name, fingerprint=fingerprint) is not None for name in PLATE_RESULTS):
        return False
    timepoint = timepoint_of(settings)
    frames = inputs["probabilities"].sizes["timepoint"]
    if timepoint >= frames:
        raise SettingsError(
            f"[analysis] timepoint is {timepoint}, but {path.name} has {frames} timepoints, counted from 0. "
            'Give a smaller number, or "last".'
        )
    made = before = _analyse(inputs, settings, timepoint=timepoint)
    if len(excluded):
        probabilities, layout = apply_exclusions(inputs["probabilities"], inputs["layout"], excluded, plate=name)
        inputs = {**inputs, "probabilities": probabilities, "layout": layout}
        made = _analyse(inputs, settings, timepoint=timepoint)
    made["early_detection"] = lead_over_markers(
        path, inputs["probabilities"], inputs["layout"], draws=settings.draws, seed=settings.seed
    )
    made["exclusions"] = exclusion_record(excluded, before=before["ranking"], after=made["ranking"])
    record = {**provenance("analyse", fingerprint), "inputs": read_from, "settings": described}
    for result, dataset in made.items():
        write_result(path, result, dataset, provenance=record)
    return True


def _analyse(inputs: Mapping[str, xr.Dataset], settings: AnalysisSettings, *, timepoint: int) -> dict[str, xr.Dataset]:
    """All results of a plate from its inputs."""
    fractions = aggregate(inputs["probabilities"], inputs["layout"], inputs["fields"])
    normalized = normalize(fractions, timepoint=timepoint, seed=settings.seed)
    fits = fit_dose_response([normalized], timepoint=timepoint, seed=settings.seed)
    kinetics = time_deaths([normalized], draws=settings.draws, seed=settings.seed)
    rule, field_rule = settings.quality.rules(
        z_prime_min=settings.z_prime_min,
        ssmd_min=settings.ssmd_min,
        controls_min=settings.controls_min,
        patches_min=settings.patches_min,
    )
    judged = assess_plate(
        fractions,
        inputs["fields"],
        probabilities=inputs["probabilities"],
        rule=rule,
        field_rule=field_rule,
        timepoint=timepoint,
        draws=settings.draws,
        seed=settings.seed,
    )
    return {
        "fractions": fractions,
        "normalized": normalized,
        **judged,
        "dose_response": fits,
        "kinetics": kinetics,
        "pathways": fit_plate_pathways([fractions], timepoint=timepoint, seed=settings.seed),
        "growth": separate_arrest([fractions], timepoint=timepoint),
        "ranking": rank(
            fits, kinetics, [normalized], timepoint=timepoint, hit_rule=hit_rule_of(settings), seed=settings.seed
        ),
        "combinations": fit_combinations([normalized], timepoint=timepoint, seed=settings.seed),
    }


def require_current(path: Path) -> None:
    """Refuse a plate whose analysis is older than its probabilities or its plate map.

    Raises
    ------
    MissingInputError
        It was never analysed.
    StoreError
        It was classified or its plate map changed since.
    """
    read_from = digest([content(read_result(path, name)) for name in INPUTS])
    for name in PLATE_RESULTS:
        if recorded(read_result(path, name), "inputs") != read_from:
            raise StoreError(
                f"{path}: its {name} were made from other probabilities or another plate map than are there now. "
                f"Run `tomoscreen analyse {path}` first."
            )


def analyse_campaign(results: Path, plates: list[Path], *, settings: AnalysisSettings | None = None) -> bool:
    """Fit and rank the compounds over all plates of a campaign into its own results store.

    Returns
    -------
    bool
        False where everything was there already.
    """
    settings = settings or AnalysisSettings()
    parts = [content(read_result(path, name)) for path in plates for name in ("normalized", "quality", "dose_response")]
    parts += [str(result_attributes(path, "probabilities").get("provenance")) for path in plates]
    fingerprint = digest([RULES, settings.model_dump(mode="json"), [path.name for path in plates], parts])
    if all(current_result(results, name, fingerprint=fingerprint) is not None for name in CAMPAIGN_RESULTS):
        return False
    combine(
        [results_path(path) for path in plates],
        campaign=results,
        timepoint=timepoint_of(settings),
        draws=settings.draws,
        seed=settings.seed,
        reference=settings.reference or None,
        allow_mixed=settings.allow_mixed,
        hit_rule=hit_rule_of(settings),
        provenance=provenance("combine", fingerprint),
    )
    return True


def exclusions_of(settings: AnalysisSettings, *, plate: str) -> pd.DataFrame:
    """Lines of the settings' file of exclusions that mean this plate; none where there is no file."""
    if settings.exclusions is None:
        return pd.DataFrame(columns=[*COLUMNS, "line"])
    table = read_exclusions(settings.exclusions)
    mine: pd.DataFrame = table[table["plate"] == plate].reset_index(drop=True)
    return mine


def hit_rule_of(settings: AnalysisSettings) -> HitRule:
    """What the settings call a hit."""
    return HitRule(fdr=settings.hit_fdr, least_effect=settings.hit_effect)


def timepoint_of(settings: AnalysisSettings) -> int:
    """Index of the timepoint at which plates are read."""
    return -1 if settings.timepoint == "last" else settings.timepoint
