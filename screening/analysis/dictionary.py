"""What every column of the results means, and in which unit it is."""

from __future__ import annotations

UNDESCRIBED = "(not described)"

# column, or table.column where a name means something else in one result: (unit, meaning)
MEANINGS: dict[str, tuple[str, str]] = {
    # where
    "plate": ("", "name of the plate"),
    "well": ("", "well of the plate, such as A01"),
    "field": ("", "field of the well, from 0"),
    "timepoint": ("", "frame of the plate, from 0"),
    "hours": ("h", "nominal time of the frame since the first one"),
    "row": ("", "row of the well, from 0"),
    "column": ("", "column of the well, from 0"),
    "state": ("", "apoptosis, necroptosis, necrosis, live-control or live-treated"),
    "pathway": ("", "apoptosis, necroptosis or necrosis"),
    "readout": ("", "death (sum of the three pathways) or one state"),
    "compound": ("", "compound; with the cell line in brackets where it met several"),
    "dose": ("uM", "dose in the well; missing where there is none"),
    "dose_index": ("", "number of the dose of the compound, from 0, rising"),
    "replicate": ("", "number of the replicate"),
    "control": ("", "negative (vehicle), positive, or none (treated)"),
    "inducer": ("", "death pathway that a positive control induces"),
    "cell_line": ("", "cell line in the well"),
    "vehicle": ("", "solvent of the well"),
    "masked": ("", "why the well is not used; empty where it is"),
    "name": ("", "whose decision it was"),
    "date": ("", "day of the decision"),
    "reason": ("", "why"),
    # fractions
    "fraction": ("1", "fraction of the well's patches in the state, mean of calibrated probabilities"),
    "count": ("patches", "patches whose likeliest state it is"),
    "death": ("1", "fraction of the well's patches in any death pathway"),
    "patches": ("patches", "patches with cells"),
    "fields_used": ("fields", "fields with patches"),
    "confluency": ("1", "share of the field that cells cover, mean over fields"),
    "dispersion": ("1", "correlation of two patches of one field beyond their well's fraction"),
    # normalized
    "death_percent": ("percent of controls", "0 is vehicle, 100 the positive controls; not clipped"),
    "death_excess": ("1", "deaths beyond the well's own vehicle, (x - v) / (1 - v)"),
    "excess": ("1", "state beyond the well's own vehicle, (x - v) / (1 - vehicle death)"),
    "vehicle_death": ("1", "death of the vehicle wells, centre"),
    "own_vehicle_death": ("1", "death of the vehicle wells of the well's own vehicle, centre"),
    "vehicle_fraction": ("1", "state of the vehicle wells, centre"),
    "positive_death": ("1", "death of the positive controls, centre"),
    "n_vehicle": ("wells", "vehicle wells with cells"),
    "percent_of_vehicle": ("percent of controls", "100 x / vehicle"),
    "npi": ("percent of controls", "normalised percent inhibition, 100 (vehicle - x) / (vehicle - positive)"),
    "z": ("SD", "standard deviations from the centre"),
    "robust_z": ("SD", "as z, by median and 1.4826 MAD"),
    "place_effect": ("1", "effect of the well's place on death"),
    "b_score": ("SD", "residual of the median polish over 1.4826 MAD"),
    # quality
    "z_prime": ("", "Z' of positive and negative controls"),
    "robust_z_prime": ("", "Z' by median and 1.4826 MAD"),
    "ssmd": ("", "strictly standardised mean difference, positive minus negative controls"),
    "ssmd_small_sample": ("", "SSMD, nearly unbiased for few wells"),
    "robust_ssmd": ("", "SSMD by median and 1.4826 MAD"),
    "signal_window": ("SD", "(difference of controls - 3 (SD + SD)) / SD of the negative ones"),
    "robust_signal_window": ("SD", "signal window by median and 1.4826 MAD"),
    "avr": ("", "3 (SD + SD) / difference of controls, 1 - Z'"),
    "signal_to_background": ("", "mean of one control over that of the other"),
    "signal_to_noise": ("SD", "difference of controls over the SD of the negative ones"),
    "cv_positive": ("%", "coefficient of variation of the positive controls"),
    "cv_negative": ("%", "coefficient of variation of the negative controls"),
    "n_positive": ("wells", "positive control wells with cells"),
    "n_negative": ("wells", "vehicle wells with cells"),
    "missing": ("", "well has no image or no patch"),
    "no_foreground": ("", "well has no patch with cells"),
    "few_patches": ("", "well has fewer patches with cells than the rule asks for"),
    "out_of_focus": ("", "well lies far from the others in focus"),
    "flags": ("", "what is wrong with the well, comma separated"),
    "strange_control": ("", "control well that does not look like the others of its kind"),
    "verdict": ("", "PASS, REVIEW or FAIL"),
    "reasons": ("", "why the verdict is what it is"),
    "path": ("", "store of the plate's results"),
    "used": ("", "plate took part in the fits"),
    # dose-response
    "ec50": ("uM", "dose of half the effect; missing without one, inf above and 0 below the tested doses"),
    "ec50_bound": ("uM", "EC50 one standard error up, the cautious EC50 that compounds are ordered by"),
    "ec50_fit": ("uM", "EC50 of the drawn curve, also where it is an extrapolation"),
    "log10_ec50_se": ("", "standard error of log10 EC50"),
    "bottom": ("1", "fitted response at dose 0"),
    "top": ("1", "fitted response at infinite dose"),
    "hill": ("", "slope of the curve"),
    "rss": ("1", "residual sum of squares"),
    "emax": ("1", "fitted excess at the top tested dose"),
    "p_value": ("", "p of no effect, null simulated for the design"),
    "p_adjusted": ("", "p adjusted after Benjamini and Hochberg over compounds and readouts"),
    "status": ("", "kind of answer; the result's rule says what each word means"),
    "grade": ("", "A or B of a quantified EC50"),
    "note": ("", "what else there is to say"),
    "n": ("wells", "treated wells fitted"),
    "doses": ("", "doses fitted"),
    "dose_response.reasons": ("", "every status that holds for the curve"),
    "profile_low": ("uM", "lower end of the fitted EC50's profile interval, extrapolated or not"),
    "profile_high": ("uM", "upper end of the fitted EC50's profile interval, extrapolated or not"),
    "relative_placed": ("", "two doses lie beyond either bend of the curve"),
    "ec50_absolute": ("uM", "dose at which half of the cells are dead"),
    "absolute_placed": ("", "two doses lie on either side of the absolute EC50"),
    "ec50_loss": ("uM", "dose at which a curve that rises and falls has lost half of its rise"),
    "peak_dose": ("uM", "dose of the peak of a curve that rises and falls"),
    "auc": ("1", "mean fitted response over log dose"),
    "aac": ("1", "mean distance of the fitted response from the bottom, over log dose"),
    "lack_of_fit": ("", "p of the means missing the curve by the wells' spread"),
    "non_monotone": ("", "p of the means turning around"),
    "shape": ("", "shape that fits better than the sigmoid; empty for the sigmoid"),
    "shape_p": ("", "p of the better shape against the sigmoid"),
    "curve_point": ("", "point of the drawn curve, from 0"),
    "curve_dose": ("uM", "dose of the point of the drawn curve"),
    "curve": ("1", "drawn curve"),
    "response": ("1", "excess over vehicle of the well"),
    # kinetics
    "t_half": ("h", "time at which half of the final excess death is reached"),
    "final_excess": ("1", "excess death at the last frame"),
    "plateau": ("", "death had stopped rising at the last frame"),
    # ranking
    "rank": ("", "place in the order, 1 is best"),
    "rank_low": ("", "best place that the intervals allow"),
    "rank_high": ("", "worst place that the intervals allow"),
    "stratum": ("", "what the compound is ordered by: potency first, then effect, then nothing to order by"),
    "score": ("uM or 1", "what orders inside the stratum: cautious EC50 in the first, excess death in the others"),
    "tie_group": ("", "group of EC50s within the minimum significant ratio of the group's first; 0 is none"),
    "ties": ("compounds", "others within the minimum significant ratio of this EC50"),
    "potency_rank": ("", "place by cautious EC50 alone; 0 where there is none"),
    "efficacy_rank": ("", "place by the lower end of the effect alone; 0 where there is none"),
    "speed_rank": ("", "place by the upper end of the half time alone; 0 where there is none"),
    "selectivity_rank": ("", "place by the lower end of the dominant pathway's share alone; 0 where there is none"),
    "dominant_pathway": ("", "pathway with the most excess death at the active doses; empty without effect"),
    "dominant_share": ("1", "share of the dominant pathway in all excess death"),
    "second_pathway": ("", "pathway that comes second"),
    "dominant_tied": ("", "the second pathway lies within error of the first"),
    "hit_p_value": ("", "p that the hit rule uses: of the curve, else of the top dose's wells against vehicle"),
    "hit_p_adjusted": ("", "that p adjusted after Benjamini and Hochberg over the compounds"),
    "hit": ("", "compound is a hit by the result's rule"),
    "hit_reason": ("", "why it is none; empty for hits"),
    # early detection
    "group": ("", "what patches and wells are taken together"),
    "group_kind": ("", "all, pathway (called at the first call) or compound"),
    "lead_kind": ("", "what is known of a lead: both signals, one of them, neither"),
    "label_free_dead": ("1", "share of patches called dead from the refractive index"),
    "marker_dead": ("1", "share of patches whose cells are positive for annexin V or PI"),
    "label_free_after": ("h", "last frame before the label-free call"),
    "label_free_until": ("h", "frame of the label-free call; inf where there was none"),
    "label_free_at": ("h", "label-free call, by a line between the two frames"),
    "marker_after": ("h", "last frame before the markers"),
    "marker_until": ("h", "frame of the markers; inf where they never came"),
    "marker_at": ("h", "time of the markers, by a line between the two frames"),
    "lead": ("h", "hours by which the label-free call is earlier"),
    "early_detection.lead_low": ("h", "least lead that the frames allow"),
    "early_detection.lead_high": ("h", "greatest lead that the frames allow"),
    "patch_lead": ("h", "median lead over patches"),
    "patch_lead_q25": ("h", "lower quartile of the leads of patches"),
    "patch_lead_q75": ("h", "upper quartile of the leads of patches"),
    "patch_lead_n": ("patches", "patches of which this is known"),
    "well_lead": ("h", "median lead over wells"),
    "well_lead_q25": ("h", "lower quartile of the leads of wells"),
    "well_lead_q75": ("h", "upper quartile of the leads of wells"),
    "well_lead_n": ("wells", "wells of which this is known"),
    # flow cytometry, agreement
    "pair": ("", "number of the pair"),
    "pair_well": ("", "well of the pair"),
    "pair_hours": ("h", "time of the pair"),
    "label_free": ("1", "fraction by the plate"),
    "flow": ("1", "fraction by flow cytometry"),
    "lag": ("h", "hours by which flow cytometry follows the plate"),
    "first": ("", "what is compared"),
    "second": ("", "with what it is compared"),
    "kind": ("", "plates, or replicates of one plate"),
    "agreement.n": ("pairs", "pairs compared"),
    "flow.n": ("pairs", "pairs compared"),
    "pearson": ("", "correlation"),
    "spearman": ("", "rank correlation"),
    "concordance": ("", "Lin's concordance correlation"),
    "bias": ("1", "mean difference, second minus first"),
    "sd": ("1", "standard deviation"),
    "limit_low": ("1", "lower limit of agreement, bias - 1.96 SD"),
    "limit_high": ("1", "upper limit of agreement, bias + 1.96 SD"),
    "limit_low_low": ("1", "lower end of the lower limit's interval"),
    "limit_high_high": ("1", "upper end of the upper limit's interval"),
    "msr": ("", "minimum significant ratio of two EC50s"),
    "msr_n": ("compounds", "compounds with an EC50 on both"),
    # campaign
    "series": ("", "what is followed over plates: reference (log10 EC50, uM), vehicle or positive (death)"),
    "value": ("", "value of the series on the plate"),
    "rules": ("", "Westgard rules that the plate breaks"),
    "center": ("", "usual value of the series"),
    "spread": ("", "usual standard deviation of the series"),
    "level": ("", "what the scatter comes from: batch, plate or well"),
    "variance": ("1", "variance component"),
    "share": ("1", "share in the sum of the components"),
    "levels": ("", "batches, plates or wells there are"),
    # exclusions, comparison
    "exclusion": ("", "number of the exclusion, from 0"),
    "exclusions.field": ("", "field left out, from 0; -1 is all"),
    "exclusions.timepoint": ("", "frame left out, from 0; -1 is all"),
    "changed": ("", "the exclusions changed the compound's numbers"),
    "wells": ("wells", "treated wells fitted"),
    "ec50_ratio": ("", "EC50 of the second analysis over that of the first"),
    "outside": ("", "the second EC50 lies outside the first one's interval"),
    "moved": ("", "compound moved from the first analysis to the second"),
    "what": ("", "what moved, in words"),
    # tables of their own
    "table": ("", "name of the file"),
    "unit": ("", "unit of the column; 1 is a fraction"),
    "type": ("", "text, number, integer or yes/no"),
    "meaning": ("", "what the column holds"),
    "result": ("", "result that the attribute belongs to"),
    "attribute": ("", "name of the attribute"),
    "attributes.value": ("", "its value: rules, settings and notes of the result"),
}

_ENDINGS = {
    "_low": "lower end of the interval of: ",
    "_high": "upper end of the interval of: ",
    "_by_dose": "at each dose: ",
    "_status": "kind of answer of: ",
    "_first": "in the first analysis: ",
    "_second": "in the second analysis: ",
    "_before": "without the exclusions: ",
    "_after": "with the exclusions: ",
}
_BEGINNINGS = {"corrected_": "corrected for the well's place: "}


def meaning_of(table: str, column: str) -> tuple[str, str]:
    """Unit and meaning of a column; `UNDESCRIBED` where neither it nor what it derives from is known.

    Parameters
    ----------
    table
        Name of the result.
    column
        Name of the variable; endings such as _low are understood.
    """
    known = MEANINGS.get(f"{table}.{column}") or MEANINGS.get(column)
    if known:
        return known
    for ending, words in _ENDINGS.items():
        if column.endswith(ending):
            unit, meaning = meaning_of(table, column.removesuffix(ending))
            if meaning != UNDESCRIBED:
                return ("" if ending == "_status" else unit), words + meaning
    for beginning, words in _BEGINNINGS.items():
        if column.startswith(beginning):
            unit, meaning = meaning_of(table, column.removeprefix(beginning))
            if meaning != UNDESCRIBED:
                return unit, words + meaning
    return "", UNDESCRIBED
