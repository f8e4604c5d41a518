"""Weights of the members of an ensemble, chosen on rows not trained on. NumPy only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerastrain.ensembles.blendloss import Loss
from kerastrain.events import note, warn
from kerastrain.metrics import Metric

__all__ = ["dropped_until", "pruned", "select"]

PATIENCE = 10  # rounds without a better ensemble, after which none comes
# Of what the ensemble gains over its best member, the share that is given up for
# smaller files: diamonds, extra trees had 534 of 746 MB for a weight of 0.07.
_PRUNED = 0.05
_TIE = 1e-9

Predictions = Mapping[str, np.ndarray]
Weights = dict[str, float]


def select(
    predictions: Predictions,
    targets: np.ndarray,
    metric: Metric,
    *,
    weight: np.ndarray | None = None,
    rounds: int = 50,
    bags: int = 1,
    seed: int = 0,
) -> Weights:
    """How much each member counts in the mean that is best for a metric.

    Greedy, with replacement, from the best single member on: each round takes the
    member that helps most, and of all ensembles on the way the smallest of the best is
    kept. A member that does not help has no weight and is left out.

    Args:
        predictions: of rows not trained on, by name: probabilities `(rows, classes)` or
            values `(rows,)`. Of equally good members the first is taken, so put the
            simpler and faster first.
        targets: true classes or values, `(rows,)`.
        metric: of `METRICS`, or one like them.
        weight: of each row; rows of weight 0 count as no rows.
        rounds: members taken, with repetition.
        bags: above 1, the mean of so many selections, each from half of the members
            drawn by chance; where few rows make the choice unsure. One that is worse
            than the best member gives way to a single selection.
        seed: of the bags.

    Returns:
        Weights above 0 that sum to 1, in the order of `predictions`.

    Raises:
        ValueError: no member, or a prediction is NaN.

    Reference: Caruana et al. 2004, "Ensemble selection from libraries of models",
    section 2; bags: Caruana et al. 2006, "Getting the most out of ensemble selection".
    """
    bench = _Bench.of(predictions, targets, metric, weight)
    if bags == 1:
        return _shares(bench.names, bench.counts(range(len(bench.names)), rounds))
    random, size = np.random.default_rng(seed), -(-len(bench.names) // 2)
    total = np.zeros(len(bench.names))
    for _ in range(bags):
        drawn = np.sort(random.choice(len(total), size, replace=False))
        counts = bench.counts(drawn.tolist(), rounds)
        total += counts / counts.sum()
    # Halves of a few members may all be poor ones.
    if bench.loss_of(total) > bench.least_alone:
        total = bench.counts(range(len(total)), rounds)
    return _shares(bench.names, total)


def pruned(
    predictions: Predictions,
    targets: np.ndarray,
    metric: Metric,
    *,
    costs: Mapping[str, float],
    share: float = _PRUNED,
    weight: np.ndarray | None = None,
    rounds: int = 50,
) -> Weights:
    """As `select`, without dear members that hardly help.

    Each goes, the dearest first, unless more than a `share` of what the ensemble gains
    over the best single member would go in all.

    Args:
        costs: of each member, such as its bytes.
        share: from 0 to 1.
    """
    bench = _Bench.of(predictions, targets, metric, weight)
    places = range(len(bench.names))
    counts = bench.counts(places, rounds)
    least = bench.loss_of(counts)
    most = least + share * max(0.0, bench.least_alone - least)
    for place in sorted(places, key=lambda p: -costs[bench.names[p]]):
        others = [p for p in np.flatnonzero(counts).tolist() if p != place]
        if not counts[place] or not others:
            continue
        left = bench.counts(others, rounds)
        if bench.loss_of(left) <= most:
            counts = left
    return _shares(bench.names, counts)


def dropped_until(
    predictions: Predictions,
    targets: np.ndarray,
    metric: Metric,
    *,
    costs: Mapping[str, float],
    limit: float,
    unit: str = "",
    weight: np.ndarray | None = None,
    rounds: int = 50,
) -> Weights:
    """As `select`, with members dropped until together they cost no more than `limit`.

    The one goes first whose loss costs the least score for what it saves. Where no
    member alone is below the limit, the cheapest is left and a warning told.

    Args:
        costs: of each member, such as its milliseconds or bytes.
        limit: for their sum, in the same unit.
        unit: how messages name it.
    """
    bench = _Bench.of(predictions, targets, metric, weight)
    prices = np.array([costs[name] for name in bench.names])
    counts = bench.counts(range(len(prices)), rounds)
    while (counts > 0).sum() > 1 and prices[counts > 0].sum() > limit:
        kept = np.flatnonzero(counts).tolist()
        before = bench.loss_of(counts)
        paid = []
        for place in kept:
            left = counts.copy()
            left[place] = 0
            paid.append((bench.loss_of(left) - before) / max(prices[place], 1e-30))
        gone = kept[int(np.argmin(paid))]
        counts = bench.counts([place for place in kept if place != gone], rounds)
    if prices[counts > 0].sum() > limit:
        counts = _alone(bench, prices, limit)
    _tell(bench.names, counts, prices, limit, unit)
    return _shares(bench.names, counts)


def _alone(bench: "_Bench", prices: np.ndarray, limit: float) -> np.ndarray:
    """The best member below the limit, else the cheapest."""
    fitting = np.flatnonzero(prices <= limit)
    counts = np.zeros(len(prices))
    if len(fitting):
        return bench.counts(fitting.tolist(), rounds=1)
    counts[int(prices.argmin())] = 1
    return counts


def _tell(
    names: Sequence[str],
    counts: np.ndarray,
    prices: np.ndarray,
    limit: float,
    unit: str,
) -> None:
    left = [names[place] for place in np.flatnonzero(counts).tolist()]
    total = float(prices[counts > 0].sum())
    said = f"{', '.join(left)}, which together come to {total:.4g}"
    said += f" {unit} (limit {limit:.4g} {unit})." if unit else f" (limit {limit:.4g})."
    details: dict[str, Any] = {"members": left, "total": total, "limit": limit}
    if total > limit:
        said = f"No member is within the limit, and the smallest is kept: {said}"
        warn("limit_not_met", said, **details)
    else:
        note("limit_met", f"The members that are kept: {said}", **details)


def _shares(names: Sequence[str], counts: np.ndarray) -> Weights:
    shares = counts / counts.sum()
    return {n: float(s) for n, s in zip(names, shares, strict=True) if s > 0}


@dataclass(frozen=True)
class _Bench:
    """What of the predictions a loss looks at, so that a mean of it is soon scored.

    Args:
        parts: float32, an array for each member, all of one shape.
        loss: of a mean of parts; less is better.
    """

    names: tuple[str, ...]
    parts: list[np.ndarray]
    loss: Loss

    @classmethod
    def of(
        cls,
        predictions: Predictions,
        targets: np.ndarray,
        metric: Metric,
        weight: np.ndarray | None,
    ) -> "_Bench":
        if not predictions:
            raise ValueError("an ensemble needs one member at least.")
        bad = [name for name, p in predictions.items() if np.isnan(p).any()]
        if bad:
            raise ValueError(f"predictions of {', '.join(bad)} are NaN in some rows.")
        arrays = [np.asarray(p) for p in predictions.values()]
        num_classes = arrays[0].shape[1] if arrays[0].ndim == 2 else 0
        loss = Loss.of(np.asarray(targets), metric, num_classes, weight)
        parts = [loss.part(array) for array in arrays]
        return cls(tuple(predictions), parts, loss)

    def counts(self, candidates: Sequence[int], rounds: int) -> np.ndarray:
        """How often each of the members is taken, of those that may be."""
        total = np.zeros(self.parts[0].shape)
        taken: list[int] = []
        least, kept = np.inf, 0
        for _ in range(rounds):
            losses = [
                self.loss((total + self.parts[member]) / (len(taken) + 1))
                for member in candidates
            ]
            # The first of those that are as good as the best.
            place = int(np.argmax(np.array(losses) <= min(losses) + _TIE))
            taken.append(candidates[place])
            total += self.parts[taken[-1]]
            if losses[place] < least - _TIE or not kept:
                least, kept = losses[place], len(taken)
            if len(taken) - kept >= PATIENCE or len(candidates) == 1:
                break
        return np.bincount(taken[:kept], minlength=len(self.parts)).astype("float64")

    @property
    def least_alone(self) -> float:
        """Loss of the best single member."""
        return min(self.loss(part) for part in self.parts)

    def loss_of(self, counts: np.ndarray) -> float:
        """Of the mean in which members count so much."""
        total = sum(
            count * part
            for count, part in zip(counts, self.parts, strict=True)
            if count
        )
        return self.loss(total / counts.sum())
