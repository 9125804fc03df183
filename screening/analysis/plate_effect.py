"""How much more plates disagree about a curve than its wells do: replicates on one plate are not independent."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd


def plate_effect(frame: pd.DataFrame, *, curve: str | Sequence[str], dose: str, plate: str, response: str) -> float:
    """Ratio of the mean squares between plates and of the rest, at least 1; the design effect of the variance.

    Two-way layout (dose, plate) within each curve, pooled over curves, because the two or three plates of
    one curve cannot tell their spread. 1 where no curve lies on two plates with two doses each.

    Parameters
    ----------
    frame
        One row a well.
    curve, dose, plate, response
        Names of the columns.
    """
    keys = [curve] if isinstance(curve, str) else list(curve)
    cells = frame.groupby([*keys, dose, plate], dropna=True)[response].mean().unstack(plate)
    between = within = 0.0
    between_df = within_df = 0
    for _, block in cells.groupby(level=keys):
        block = block.dropna(axis=1, how="all").dropna()
        doses, plates = block.shape
        if plates < 2 or doses < 2:
            continue
        values = block.to_numpy(float)
        column = values.mean(axis=0) - values.mean()
        rest = values - values.mean(axis=1, keepdims=True) - column
        between += doses * float((column**2).sum())
        within += float((rest**2).sum())
        between_df += plates - 1
        within_df += (plates - 1) * (doses - 1)
    if not between_df or within <= 0:
        return 1.0
    return max(1.0, (between / between_df) / (within / within_df))
