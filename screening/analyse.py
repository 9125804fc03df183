"""From a plate's probabilities to what it says: fractions, quality, dose-response, kinetics, ranking."""

from pathlib import Path

from plates.errors import SettingsError, StoreError
from plates.results import read_result, results_path, write_result
from screening.analysis.campaign import combine
from screening.analysis.dose_response import fit_dose_response
from screening.analysis.fractions import aggregate
from screening.analysis.kinetics import half_times
from screening.analysis.normalization import normalize
from screening.analysis.quality import Rule, assess
from screening.analysis.ranking import rank
from screening.fingerprints import content, current_result, digest, provenance, recorded
from screening.settings import AnalysisSettings

RULES = 2
"""Version of the analysis; raised when the same probabilities would give other numbers."""

INPUTS = ("layout", "fields", "probabilities")
PLATE_RESULTS = ("fractions", "normalized", "quality", "dose_response", "kinetics", "ranking")
CAMPAIGN_RESULTS = ("plates", "dose_response", "kinetics", "ranking")


def analyse_plate(path: Path, *, settings: AnalysisSettings | None = None) -> bool:
    """Make the results `fractions` to `ranking` of one plate.

    Returns
    -------
    bool
        False where all of them were there already, made from the same probabilities and settings.
    """
    settings = settings or AnalysisSettings()
    inputs = {name: read_result(path, name) for name in INPUTS}
    read_from = digest([content(part) for part in inputs.values()])
    fingerprint = digest([RULES, settings.model_dump(mode="json"), read_from])
    if all(current_result(path, name, fingerprint=fingerprint) is not None for name in PLATE_RESULTS):
        return False
    timepoint = timepoint_of(settings)
    frames = inputs["probabilities"].sizes["timepoint"]
    if timepoint >= frames:
        raise SettingsError(
            f"[analysis] timepoint is {timepoint}, but {path.name} has {frames} timepoints, counted from 0. "
            'Give a smaller number, or "last".'
        )
    fractions = aggregate(inputs["probabilities"], inputs["layout"], inputs["fields"])
    normalized = normalize(fractions)
    fits = fit_dose_response([normalized], timepoint=timepoint, seed=settings.seed)
    kinetics = half_times([normalized], draws=settings.draws, seed=settings.seed)
    rule = Rule(
        pass_z_prime=settings.z_prime_min,
        pass_ssmd=settings.ssmd_min,
        fewest_controls=settings.controls_min,
        fewest_patches=settings.patches_min,
    )
    made = {
        "fractions": fractions,
        "normalized": normalized,
        "quality": assess(
            fractions,
            inputs["fields"],
            rule=rule,
            timepoint=timepoint,
            draws=settings.draws,
            seed=settings.seed,
        ),
        "dose_response": fits,
        "kinetics": kinetics,
        "ranking": rank(fits, kinetics, [normalized], timepoint=timepoint),
    }
    for name, dataset in made.items():
        write_result(path, name, dataset, provenance={**provenance("analyse", fingerprint), "inputs": read_from})
    return True


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
    parts = [content(read_result(path, name)) for path in plates for name in ("normalized", "quality")]
    fingerprint = digest([RULES, settings.model_dump(mode="json"), [path.name for path in plates], parts])
    if all(current_result(results, name, fingerprint=fingerprint) is not None for name in CAMPAIGN_RESULTS):
        return False
    combine(
        [results_path(path) for path in plates],
        campaign=results,
        timepoint=timepoint_of(settings),
        draws=settings.draws,
        seed=settings.seed,
        provenance=provenance("combine", fingerprint),
    )
    return True


def timepoint_of(settings: AnalysisSettings) -> int:
    """Index of the timepoint at which plates are read."""
    return -1 if settings.timepoint == "last" else settings.timepoint
