"""Which way to train imbalanced classes is best: measured with a small network.

Each way is tried on train rows with three seeds and judged on validation rows, by
average precision of corrected probabilities. Doing nothing is kept unless another way
is better beyond the chance of these validation rows (a paired bootstrap).
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from kerastrain.arrays import ArrayStore
from kerastrain.config import RunConfig
from kerastrain.features import NumberStatistics
from kerastrain.objective import Objective
from kerastrain.pipeline import Rows
from kerastrain.resampling import (
    MAX_SYNTHESIS_ROWS,
    counts_of,
    resampled,
    synthesised,
    wanted,
)
from kerastrain.schema import Target
from kerastrain.surrogate import Examples, fit_small, flat, width_of

__all__ = ["Comparison", "judged"]

METHODS = ("none", "class_weights", "oversample", "undersample", "focal", "smote")
MAX_ROWS = 50_000
MAX_CELLS = 8_000_000
MAX_JUDGES = 10_000
SEEDS = (0, 1, 2)
NUM_DRAWS = 100
# With 23 classes of kddcup99 an epoch of oversampled rows would last 13 times as long.
MAX_GROWTH = 3
# Of the log loss: class weights gave kddcup99 5 % more precision at 3 times the loss.
MAX_LOSS = 1.1


@dataclass(frozen=True)
class Comparison:
    """What was measured.

    Args:
        chosen: the method.
        scores: of each method: `average_precision` and `log_loss` (means over seeds),
            and `gain_low`, the lower end of the 95 % interval of what it gains.
        num_rows: train rows and validation rows that were used.
    """

    chosen: str
    scores: dict[str, dict[str, float | None]]
    num_rows: tuple[int, int]

    def as_dict(self) -> dict[str, Any]:
        rows = dict(zip(("train", "validation"), self.num_rows, strict=True))
        return {"chosen": self.chosen, "scores": self.scores, "num_rows": rows}

    def __str__(self) -> str:
        ways = ", ".join(
            f"{name} {score['average_precision']:.3f}"
            for name, score in self.scores.items()
            if score["average_precision"] is not None
        )
        why = "no other is clearly better"
        if self.chosen != "none":
            why = "it is clearly better than none"
        if not ways:
            return "No validation row is of a class to judge by, so nothing is done."
        return (
            f"A small network, trained in each way on {self.num_rows[0]:,} train rows, "
            f"has this average precision on {self.num_rows[1]:,} validation rows: "
            f"{ways}. imbalance.method is {self.chosen}, because {why}."
        )


def judged(
    config: RunConfig,
    target: Target,
    statistics: NumberStatistics,
    train: Rows,
    validation: Rows,
    *,
    counts: np.ndarray,
) -> Comparison:
    """Every method that can be had, compared.

    Args:
        train, validation: encoded rows with the user's weights alone.
        counts: train rows of each class.
    """
    limit = int(np.clip(MAX_CELLS // width_of(train.inputs), 2_000, MAX_ROWS))
    sample, share = _thinned(train, len(counts), limit, config.seed)
    judges, judge_share = _thinned(validation, len(counts), MAX_JUDGES, config.seed)
    judges = _reweighted(judges, 1 / judge_share[judges.target])
    bench = _Bench(config, target, statistics, sample, share, counts)
    draws = _draws(judges.weight, config.seed)
    scores, precision = {}, {}
    for method in bench.methods():
        with threadpool_limits(1):  # small matrices: threads cost more than they give
            tried = [bench.probabilities(method, judges, seed) for seed in SEEDS]
        precision[method] = np.mean(
            [_precision(judges.target, p, draws, counts) for p in tried], axis=0
        )
        loss = np.mean([_loss(judges, p) for p in tried])
        gain = precision[method][1:] - precision["none"][1:]
        gain = gain[np.isfinite(gain)]
        low = np.quantile(gain, 0.025) if len(gain) and method != "none" else None
        scores[method] = {
            "average_precision": _plain(precision[method][0]),
            "log_loss": _plain(loss),
            "gain_low": _plain(low),
        }
    num_rows = (len(sample), len(judges))
    return Comparison(_best(scores), scores, num_rows)


def _plain(value: Any) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def _best(scores: dict[str, dict[str, Any]]) -> str:
    """Highest average precision of those that clearly beat none; then log loss."""
    limit = MAX_LOSS * scores["none"]["log_loss"]
    clear = [
        name
        for name, score in scores.items()
        if (score["gain_low"] or 0) > 0 and score["log_loss"] <= limit
    ]
    return max(
        clear,
        key=lambda name: (
            round(scores[name]["average_precision"], 3),
            -scores[name]["log_loss"],
        ),
        default="none",
    )


# --- rows -------------------------------------------------------------------------


def _thinned(
    rows: Rows, num_classes: int, limit: int, seed: int
) -> tuple[Rows, np.ndarray]:
    """At most `limit` rows as arrays of their own, all rows of rare classes among them.

    Returns:
        The rows, and the share of each class that they are, `(classes,)`.
    """
    counts = counts_of(rows, num_classes)
    low, high = 1, max(1, int(counts.max()))
    while low < high:  # the most rows per class that keep within the limit
        middle = (low + high + 1) // 2
        fits = np.minimum(counts, middle).sum() <= limit
        low, high = (middle, high) if fits else (low, middle - 1)
    kept = np.minimum(counts, low)
    few = resampled(rows, kept, seed)
    inputs, classes, weight = few.take(np.arange(len(few)))
    weight = weight / max(float(weight.mean()), 1e-30) if len(weight) else weight
    share = np.where(counts > 0, kept / np.maximum(counts, 1), 1.0)
    return Rows(inputs, classes, weight, np.arange(len(few))), share


def _reweighted(rows: Rows, factors: np.ndarray) -> Rows:
    weight = (rows.weight * factors).astype("float32")
    return Rows(rows.inputs, rows.target, weight, rows.index)


@dataclass(frozen=True)
class _Bench:
    """Where methods are tried.

    Args:
        sample: train rows in memory; `share` tells how many of each class.
        counts: of all train rows.
    """

    config: RunConfig
    target: Target
    statistics: NumberStatistics
    sample: Rows
    share: np.ndarray
    counts: np.ndarray

    def methods(self) -> Iterator[str]:
        """Those that can be had here, and that do not make the rows far more."""
        has_package = importlib.util.find_spec("imblearn") is not None
        has_two = self.counts[self.counts > 0].min() > 1  # a new row lies between two
        for method in METHODS:
            num_rows = wanted(self.counts, method, self.config.imbalance.ratio).sum()
            if num_rows > MAX_GROWTH * self.counts.sum():
                continue
            fits = has_package and has_two and num_rows <= MAX_SYNTHESIS_ROWS
            if method != "smote" or fits:
                yield method

    def probabilities(self, method: str, judges: Rows, seed: int) -> np.ndarray:
        """Corrected ones of the validation rows, `(rows, classes)`."""
        train, factors = self._train(method, seed)
        update = {"loss": "focal"} if method == "focal" else {}
        config = self.config.objective.model_copy(update=update)
        goal = Objective.of(self.target, config, train.classes).corrected(factors)
        logits = fit_small(
            train,
            flat(judges.inputs, self.statistics),
            lambda logits: _loss(judges, goal.outputs(logits)),
            num_classes=len(self.counts),
            gamma=config.focal_gamma if method == "focal" else 0.0,
            seed=seed,
        )
        return goal.outputs(logits)

    def _train(self, method: str, seed: int) -> tuple[Examples, np.ndarray]:
        """Rows as the method has them, and what each class counts in them."""
        rows, factors = self.sample, np.ones(len(self.counts))
        have = counts_of(rows, len(self.counts))
        counts = wanted(have, method, self.config.imbalance.ratio)
        if method == "smote":
            rows = synthesised(rows, counts, self.statistics, ArrayStore(), seed)
        elif (counts != have).any():
            rows = resampled(rows, counts, seed)
        else:  # rows that were left out of the sample are made up for
            rows = _reweighted(rows, 1 / self.share[rows.target])
        if (counts != have).any():
            factors = counts / np.maximum(self.counts, 1)
        elif method == "class_weights":
            factors = self.counts.sum() / np.maximum(self.counts, 1)
            factors = np.where(self.counts > 0, factors / (self.counts > 0).sum(), 0)
            rows = _reweighted(rows, factors[rows.target])
        x = flat(rows.inputs, self.statistics)[rows.index]
        return Examples(x, rows.targets, rows.weights), factors


# --- scores -----------------------------------------------------------------------


def _loss(rows: Rows, probabilities: np.ndarray) -> float:
    """Log loss by the weights of the rows."""
    true = probabilities[np.arange(len(rows)), rows.target]
    losses = -np.log(np.clip(true, 1e-7, 1))
    return float(np.average(losses, weights=rows.weight))


def _draws(weight: np.ndarray, seed: int) -> np.ndarray:
    """Weights of the rows, then those of bootstrap draws: `(1 + draws, rows)`."""
    random = np.random.default_rng([seed, 2])
    times = random.multinomial(
        len(weight), np.full(len(weight), 1 / max(len(weight), 1)), NUM_DRAWS
    )
    return np.concatenate([np.ones((1, len(weight))), times]) * weight


def _precision(
    classes: np.ndarray,
    probabilities: np.ndarray,
    draws: np.ndarray,
    counts: np.ndarray,
) -> np.ndarray:
    """Average precision in each draw, `(draws,)`: of the rarer class of two, or the
    mean over the classes with rows; NaN in a draw that lacks it."""
    chosen = np.unique(classes)
    if len(counts) == 2:
        chosen = chosen[chosen == counts.argmin()]
    found = [_of_class(classes == k, probabilities[:, k], draws) for k in chosen]
    if not found:
        return np.full(len(draws), np.nan)
    return np.mean(found, axis=0)


def _of_class(
    is_class: np.ndarray, scores: np.ndarray, draws: np.ndarray
) -> np.ndarray:
    """What `average_precision_score` gives, for many weights at once."""
    order = np.argsort(-scores, kind="stable")
    scores, mine = scores[order], is_class[order]
    weight = draws[:, order]
    hits = np.cumsum(weight * mine, axis=1)
    # Rows of equal score share the precision behind the last of them.
    last = np.searchsorted(-scores, -scores[mine], side="right") - 1
    precision = hits[:, last] / np.maximum(np.cumsum(weight, axis=1)[:, last], 1e-30)
    total = hits[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weight[:, mine] * precision).sum(axis=1) / total
