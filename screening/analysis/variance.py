"""How much of the scatter comes from batches, how much from plates, how much from wells."""

from __future__ import annotations

import numpy as np
import pandas as pd

LEVELS = ("batch", "plate", "well")
_MOST_DRAWN = 20_000_000  # numbers in the bootstrap


def variance_components(
    values: np.ndarray,
    treatment: np.ndarray,
    plate: np.ndarray,
    batch: np.ndarray | None = None,
    *,
    level: float = 0.95,
    draws: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Split the scatter of wells that should be equal into batch, plate and well.

    The model is y = treatment (fixed) + batch + plate within batch + well. The components are unbiased quadratic
    estimates that start from equal weights, MINQUE(0) (Rao 1971): no normality, no balance and no iteration needed.
    Negative estimates are reported as 0. The interval is a parametric bootstrap of normal effects with the estimated
    variances on the same design.

    Parameters
    ----------
    values
        (well,); missing ones are left out.
    treatment
        (well,) what makes wells equal: compound and dose, or "vehicle".
    plate, batch
        (well,) names; without batches there is one.
    level, draws, seed
        Of the intervals.

    Returns
    -------
    DataFrame
        Index batch, plate, well: variance with _low, _high, sd, share (of the sum), levels (number of batches, plates,
        wells), status: estimated; one_level (a single batch or plate: NaN, its part is in the treatment means);
        not_separable (batches hold one plate each: their part is in the plates'); not_computable.
    """
    values = np.asarray(values, dtype=float)
    kept = np.isfinite(values)
    batch = np.full(values.size, "") if batch is None else np.asarray(batch)
    y = values[kept]
    codes = [pd.factorize(np.asarray(names)[kept].astype(str))[0] for names in (treatment, batch, plate)]
    # a plate's name may come again in another batch
    codes[2] = pd.factorize(pd.Series(codes[1].astype(str)) + "/" + pd.Series(codes[2].astype(str)))[0]
    numbers = [int(code.max(initial=-1)) + 1 for code in codes]
    nan = float("nan")
    table = pd.DataFrame(
        {"variance": nan, "variance_low": nan, "variance_high": nan, "sd": nan, "share": nan},
        index=pd.Index(LEVELS, name="level"),
    ).assign(levels=[numbers[1], numbers[2], int(y.size)], status="not_computable")
    random = []
    if numbers[1] > 1 and numbers[2] > numbers[1]:
        random.append(("batch", codes[1]))
    else:
        table.loc["batch", "status"] = "not_separable" if numbers[1] > 1 else "one_level"
    if numbers[2] > 1:
        random.append(("plate", codes[2]))
    else:
        table.loc["plate", "status"] = "one_level"
    if y.size - numbers[0] < 2:
        return table
    design = _Design(codes[0], [code for _, code in random])
    if np.linalg.matrix_rank(design.traces) < len(random) + 1:
        return table
    found = design.components(y[None])[0]
    used = np.maximum(found, 0.0)
    draws = int(min(draws, max(_MOST_DRAWN // y.size, 20)))
    rng = np.random.default_rng(seed)
    drawn = np.concatenate([design.components(design.draw(used, rng)[None]) for _ in range(draws)])
    low, high = np.quantile(np.maximum(drawn, 0.0), [0.5 - level / 2, 0.5 + level / 2], axis=0)
    for place, name in enumerate([*(name for name, _ in random), "well"]):
        share = used[place] / used.sum() if used.sum() > 0 else nan
        table.loc[name, ["variance", "variance_low", "variance_high", "sd", "share"]] = (
            used[place],
            low[place],
            high[place],
            np.sqrt(used[place]),
            share,
        )
        table.loc[name, "status"] = "estimated"
    return table


class _Design:
    """Where wells lie, as the traces that the expected quadratic forms need; nothing of wells by wells is made."""

    def __init__(self, treatment: np.ndarray, random: list[np.ndarray]) -> None:
        self.treatment, self.random = treatment, random
        size = treatment.size
        self.counts = np.bincount(treatment).astype(float)
        tables = [self._table(code) for code in random]  # (level, treatment) wells
        parts = len(random) + 1
        self.traces = np.zeros((parts, parts))
        for a, one in enumerate(tables):
            for b, other in enumerate(tables):
                cross = np.zeros((one.shape[0], other.shape[0]))
                np.add.at(cross, (random[a], random[b]), 1.0)
                self.traces[a, b] = ((cross - one / self.counts @ other.T) ** 2).sum()
            self.traces[a, -1] = self.traces[-1, a] = size - (one**2 / self.counts).sum()
        self.traces[-1, -1] = size - self.counts.size

    def components(self, values: np.ndarray) -> np.ndarray:
        """(sample, well) -> (sample, component), well last; may be negative."""
        residual = np.stack([one - (np.bincount(self.treatment, one) / self.counts)[self.treatment] for one in values])
        forms = [np.stack([(np.bincount(code, one) ** 2).sum() for one in residual]) for code in self.random]
        forms.append((residual**2).sum(axis=1))
        return np.asarray(np.linalg.solve(self.traces, np.stack(forms)).T)

    def draw(self, variances: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw one sample of all wells without treatments, which do not matter."""
        drawn = rng.normal(0, np.sqrt(variances[-1]), self.treatment.size)
        for code, variance in zip(self.random, variances, strict=False):
            drawn += rng.normal(0, np.sqrt(variance), int(code.max()) + 1)[code]
        return np.asarray(drawn)

    def _table(self, code: np.ndarray) -> np.ndarray:
        table = np.zeros((int(code.max()) + 1, self.counts.size))
        np.add.at(table, (code, self.treatment), 1.0)
        return table
