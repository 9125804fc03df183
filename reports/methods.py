"""The methods section of a paper, written from what the stored results say about their making."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from plates.states import DEAD
from plates.store import Plate

from . import words
from .citations import Citations
from .methods_imaging import acquisition, classification, count, sentence
from .tables import provenance

Results = Mapping[str, xr.Dataset]


def methods_text(
    results: Results, *, plate: Plate | None = None, changed: Sequence[str] | None = None, numbered: bool = True
) -> list[str]:
    """Write the paragraphs of a methods section: what was done, with which settings, and with which numbers.

    Nothing is said of a result that is not given. Text from plate maps and cards stays plain text: escape it before it
    goes into HTML.

    Parameters
    ----------
    results
        Results by name as `plates.results.read_result` gives them: those of a plate, or those of a campaign (with
        `plates` among them). A campaign's may be joined with one plate's `layout`, `fields` and `probabilities`.
    plate
        The plate's store, which knows voxels and plate format; of a campaign, one of its plates.
    changed
        Settings that are not the defaults, as `settings_difference` tells them; None where nobody compared.
    numbered
        Whether references are cited by number, [1]; `references` gives the list.
    """
    return _written(results, plate=plate, changed=changed, numbered=numbered)[0]


def references(results: Results, *, plate: Plate | None = None) -> list[str]:
    """List what `methods_text` cites for the same results, in the order of their numbers."""
    return _written(results, plate=plate, changed=None, numbered=True)[1].listed()


def settings_difference(used: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """Tell each setting that is not the default, "analysis.seed: 3 (default 0)"; nested tables are followed.

    Settings that only one side has are told too: another version may know others.
    """
    told = []
    for name in sorted({*used, *defaults}):
        ours, theirs = used.get(name), defaults.get(name)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping | None):
            told += [f"{name}.{line}" for line in settings_difference(ours, theirs or {})]
        elif ours != theirs:
            known = f"default {json.dumps(theirs, default=str)}" if name in defaults else "no default known"
            told.append(f"{name}: {json.dumps(ours, default=str)} ({known})")
    return told


def _written(
    results: Results, *, plate: Plate | None, changed: Sequence[str] | None, numbered: bool
) -> tuple[list[str], Citations]:
    cite = Citations(numbered=numbered)
    paragraphs = [
        _campaign(results),
        acquisition(results, plate, cite),
        classification(results, cite),
        _fractions(results, cite),
        _quality(results, cite),
        _normalisation(results, cite),
        _curves(results, cite),
        _pathways(results),
        _kinetics(results, cite),
        _ranking(results, cite),
        _software(results, changed, cite),
    ]
    return [" ".join(paragraph.split()) for paragraph in paragraphs if paragraph], cite


def _campaign(results: Results) -> str:
    if "plates" not in results:
        return ""
    plates = results["plates"]
    verdicts = Counter(str(verdict) for verdict in plates["verdict"].values)
    told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    used = int(plates["used"].values.sum())
    note = str(plates.attrs.get("note", ""))
    mixed = str(plates.attrs.get("mixed", ""))
    return (
        f"The campaign holds {count(plates.sizes['plate'], 'plate')} ({told} by quality control), of which {used} "
        f"{'was' if used == 1 else 'were'} used: {', '.join(words.plain(name) for name in plates['plate'].values)}. "
        f"{note} {f'The plates were not all treated alike: {mixed}' if mixed else ''}"
    )


def _fractions(results: Results, cite: Citations) -> str:
    if "fractions" not in results:
        return ""
    attrs = results["fractions"].attrs
    text = (
        "The fraction of a state in a well is the mean of its probability over the patches with cells of all fields; "
        f"dead are {', '.join(DEAD[:-1])} and {DEAD[-1]} together."
    )
    if attrs.get("interval"):
        source = cite("wilson") if "Wilson" in str(attrs["interval"]) else ""
        text += (
            f" Intervals of {words.percent(float(attrs.get('level', 0.95)))}: {sentence(attrs['interval'])}{source}."
        )
    if attrs.get("correction"):
        text += f" Correction for the classifier's errors: {sentence(attrs['correction'])}."
    if attrs.get("confusion_source"):
        sources = ("confusion", "em") if "fraction_em" in results["fractions"] else ("confusion",)
        text += f" Errors known from {sentence(attrs['confusion_source'])}{cite(*sources)}."
    if attrs.get("shift"):
        text += f" Shift: {sentence(attrs['shift'])}."
    return text


def _quality(results: Results, cite: Citations) -> str:
    if "quality" not in results:
        return ""
    quality = results["quality"]
    attrs = quality.attrs
    reading = int(attrs.get("timepoint", quality["timepoint"].values[-1]))
    death = quality.sel(readout="death", timepoint=reading)
    values = []
    for name, label in (("z_prime", "Z'"), ("robust_z_prime", "robust Z'"), ("ssmd", "SSMD")):
        if name in death and math.isfinite(value := float(death[name])):
            ends = [float(death[f"{name}_{end}"]) if f"{name}_{end}" in death else math.nan for end in ("low", "high")]
            between = words.between(*ends)
            values.append(f"{label} {words.number(value)}" + (f" ({between})" if between else ""))
    text = (
        f"Quality control gave {sentence(attrs['verdict'])}. Rule{cite('z_prime', 'ssmd')}: {sentence(attrs['rule'])}"
    )
    text += f" Reasons: {' '.join(map(str, reasons))}" if (reasons := json.loads(attrs.get("reasons", "[]"))) else ""
    if values:
        text += f" Death at the reading time: {', '.join(values)}."
    flagged = int((quality["flags"].values != "").sum())
    text += f" {flagged} of {count(quality.sizes['well'], 'well')} carry a flag."
    return text + _left_out(results)


def _left_out(results: Results) -> str:
    text = ""
    if "exclusions" in results:
        lines = results["exclusions"].sizes.get("exclusion", 0)
        if lines:
            one = results["exclusions"]
            listed = [
                f"{words.plain(one['well'].values[k])} ({words.plain(one['reason'].values[k], longest=200)}; "
                f"{words.plain(one['name'].values[k])}, {words.plain(one['date'].values[k])})"
                for k in range(lines)
            ]
            text += f" Left out by hand: {'; '.join(listed)}."
        else:
            text += " Nothing was left out by hand."
    if "field_quality" in results:
        proposed = int(results["field_quality"]["proposed"].values.sum())
        text += f" {count(proposed, 'frame')} of fields were proposed to be left out, none was by itself."
    return text


def _normalisation(results: Results, cite: Citations) -> str:
    if "normalized" not in results:
        return ""
    normalized = results["normalized"]
    attrs = normalized.attrs
    if "excess" not in attrs:
        return ""
    text = (
        f"Deaths were taken relative to the plate's own controls (centre: {sentence(attrs.get('center', 'median'))}): "
        f"excess {sentence(attrs['excess'])}{cite('abbott')}. {sentence(attrs.get('note', ''))} "
        f"{sentence(attrs.get('correction', ''))}"
    )
    if "b_score" in normalized and np.isfinite(normalized["b_score"].values).any():
        text += f" B-scores{cite('b_score')} are given beside."
    elif attrs.get("b_score_refused"):
        text += f" No B-scores: {sentence(attrs['b_score_refused'])}."
    return text


def _curves(results: Results, cite: Citations) -> str:
    if "dose_response" not in results:
        return ""
    fits = results["dose_response"]
    attrs = fits.attrs
    death = fits.sel(readout="death")
    counts = Counter(str(status).replace("_", " ") for status in death["status"].values)
    hours = words.hours(float(attrs["hours"])) if "hours" in attrs else "the reading time"
    text = (
        "Dose-response: y(dose) = bottom + (top - bottom) / (1 + (EC50 / dose)^hill) was fitted by least squares to "
        f"the treated wells at {hours}, every well a point"
    )
    text += f"; response: {sentence(attrs['response'])}." if attrs.get("response") else "."
    if "level" in attrs:
        text += (
            f" Intervals of {words.percent(float(attrs['level']))} are those of the profile likelihood; an end outside "
            "the tested doses is open."
        )
    if attrs.get("rule"):
        sources = ("fdr", "sebaugh") if "Sebaugh" in str(attrs["rule"]) else ("fdr",)
        text += f" Status of a fit{cite(*sources)}: {sentence(attrs['rule'])}"
    listed = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    return text + (f" Of {count(fits.sizes['compound'], 'compound')}: {listed}." if counts else "")


def _pathways(results: Results) -> str:
    if "pathways" not in results or "rule" not in results["pathways"].attrs:
        return ""
    fits = results["pathways"]
    counts = Counter(str(status).replace("_", " ") for status in fits["status"].values)
    return (
        "Pathways: all deaths (a log-logistic curve) and their split among apoptosis, necroptosis and necrosis (a "
        "softmax of a parabola in log dose) were fitted in one model with a dispersion from replicate wells "
        f"({words.number(float(fits.attrs['dispersion']))}). Status: {sentence(fits.attrs['rule'])} Of "
        f"{count(fits.sizes['compound'], 'compound')}: {', '.join(f'{n} {s}' for s, n in counts.most_common())}."
    )


def _kinetics(results: Results, cite: Citations) -> str:
    if "kinetics" not in results:
        return ""
    attrs = results["kinetics"].attrs
    text = (
        "Kinetics: the half-time is that of half of the final excess death; onset, rate and plateau are those of the "
        f"lag-exponential death model{cite('stack')}, at the top dose of a compound and at each dose."
    )
    if attrs.get("course_noise"):
        text += f" Noise between replicate wells: {sentence(attrs['course_noise'])}."
    if "minimum_effect" in attrs:
        text += f" Timed were courses with an excess death of {words.number(float(attrs['minimum_effect']))} or more."
    return text


def _ranking(results: Results, cite: Citations) -> str:
    if "ranking" not in results or "order" not in results["ranking"].attrs:
        return ""
    ranking = results["ranking"]
    text = f"Compounds were ordered as follows. {sentence(ranking.attrs['order'])}"
    if "hit_rule" in ranking.attrs:
        hits = int(ranking["hit"].values.sum())
        text += (
            f" Hits{cite('fdr')}: {sentence(ranking.attrs['hit_rule'])} There are {count(hits, 'hit')} among "
            f"{count(ranking.sizes['compound'], 'compound')}."
        )
    if math.isfinite(ratio := float(ranking.attrs.get("msr", math.nan))):
        text += (
            f" Minimum significant ratio of two EC50s: {words.number(ratio)} ({sentence(ranking.attrs['msr_source'])})."
        )
    return text


def _software(results: Results, changed: Sequence[str] | None, cite: Citations) -> str:
    versions = sorted({str(record["version"]) for one in results.values() if "version" in (record := provenance(one))})
    told = f"tomoscreen {', '.join(versions)}" if versions else "tomoscreen (version not recorded)"
    text = (
        f"All was computed by {told} with Dask{cite('dask')}, xarray{cite('xarray')}, Zarr{cite('zarr')}, "
        f"NumPy{cite('numpy')}, SciPy{cite('scipy')} and PyTorch{cite('pytorch')}."
    )
    seeds = sorted({str(seed) for one in results.values() if (seed := _seed(provenance(one))) is not None})
    if seeds:
        text += f" Random numbers start from seed {', '.join(seeds)}."
    if changed is not None:
        text += f" Settings other than the defaults: {'; '.join(map(sentence, changed)) or 'none'}."
    return text


def _seed(record: Mapping[str, Any]) -> Any:
    settings = record.get("settings")
    return record.get("seed", settings.get("seed") if isinstance(settings, Mapping) else None)
