"""What the primary metric says of predictions for rows that were held out."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kerastrain.ensembles.blending import pruned, select
from kerastrain.evaluation import METRICS, primary, score
from kerastrain.metrics import Metric
from kerastrain.pipeline import Rows
from kerastrain.prepare import Prepared

__all__ = ["Judge"]

# Of those without a weight so many stay of use: on the rows of one fold the weights
# are noisy.
_LEAST_USEFUL = 3
# Below so many rows held out, the mean of selections among halves of the members.
_FEW_ROWS = 1_000
_BAGS = 20


@dataclass(frozen=True)
class Judge:
    """Scores and weights by the primary metric of the task.

    Args:
        data: the task, and what each row weighs in scores.
    """

    data: Prepared

    @property
    def name(self) -> str:
        return primary(self.data.objective.task)

    @property
    def metric(self) -> Metric:
        return METRICS[self.data.objective.task][self.name]

    def weight(self, rows: Rows) -> np.ndarray | None:
        return self.data.weight_of(rows)

    def score(self, predicted: np.ndarray, rows: Rows) -> float | None:
        """None where the metric is undefined, as with one class only."""
        task, weight = self.data.objective.task, self.weight(rows)
        return score(task, rows.targets, predicted, weight=weight)[self.name]

    def weights(
        self,
        predicted: Mapping[str, np.ndarray],
        rows: Rows,
        costs: Mapping[str, float],
    ) -> dict[str, float]:
        """Of each in the best ensemble, those above 0; see `select` and `pruned`."""
        weight, y, metric = self.weight(rows), rows.targets, self.metric
        if self._is_unsure(rows):
            return select(predicted, y, metric, weight=weight, bags=_BAGS)
        return pruned(predicted, y, metric, weight=weight, costs=costs)

    def _is_unsure(self, rows: Rows) -> bool:
        """Whether there are few rows, or few of the rarest class that there is."""
        if self.data.objective.task == "regression":
            return len(rows) < _FEW_ROWS
        if not len(rows):
            return False
        counts = np.unique(rows.targets, return_counts=True)[1]
        return int(counts.min()) * len(counts) < _FEW_ROWS

    def useful(
        self,
        predicted: Mapping[str, np.ndarray],
        rows: Rows,
        costs: Mapping[str, float],
    ) -> set[str]:
        """Names of those with a weight, and of the best ones alone."""
        sign = -1.0 if self.metric.greater_is_better else 1.0
        alone = {name: self.score(p, rows) or 0.0 for name, p in predicted.items()}
        ranked = sorted(alone, key=lambda name: sign * alone[name])
        return {*self.weights(predicted, rows, costs), *ranked[:_LEAST_USEFUL]}
