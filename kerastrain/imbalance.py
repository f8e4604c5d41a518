"""Classes of very different size: what is done about them, for train rows alone."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kerastrain.arrays import ArrayStore
from kerastrain.comparison import Comparison, judged
from kerastrain.config import ImbalanceConfig, ObjectiveConfig, RunConfig
from kerastrain.errors import ConfigError
from kerastrain.events import note
from kerastrain.features import NumberStatistics
from kerastrain.objective import Objective
from kerastrain.pipeline import Rows
from kerastrain.resampling import counts_of, resampled, synthesised, wanted
from kerastrain.schema import Target

__all__ = ["LIMIT", "Balance", "balance_of", "imbalance_of"]

LIMIT = 100.0  # above it the classes count as imbalanced
_RESAMPLING = ("oversample", "undersample", "smote")


def imbalance_of(counts: np.ndarray) -> float:
    """Rows of the largest class per row of the smallest that has any.

    >>> imbalance_of(np.array([500, 2, 0]))
    250.0
    """
    present = counts[counts > 0]
    return float(present.max() / present.min()) if len(present) else 1.0


@dataclass(frozen=True, eq=False)
class Balance:
    """A method that is settled, and what it does to one set of train rows.

    Args:
        config: with a method that is not `auto`.
        counts: train rows of each class, `(classes,)`; empty for a regression.
        statistics: of the number matrix over the train rows.
        seed: of what is drawn.
        choice: what `auto` measured, as JSON types; empty when it measured nothing.
    """

    config: ImbalanceConfig
    counts: np.ndarray
    statistics: NumberStatistics
    seed: int = 0
    choice: dict[str, Any] = field(default_factory=dict)

    @property
    def watches_precision(self) -> bool:
        """Whether average precision tells more about a model than its loss."""
        is_rare = len(self.counts) == 2 and self.counts[1] < self.counts[0]
        return bool(is_rare and imbalance_of(self.counts) > LIMIT)

    def objective(self, config: ObjectiveConfig) -> ObjectiveConfig:
        """`config` with the loss or the class weights of the method."""
        update = {
            "focal": {"loss": "focal"},
            "class_weights": {"class_weights": "balanced"},
        }.get(self.config.method, {})
        return config.model_copy(update=update)

    def corrected(self, objective: Objective) -> Objective:
        """With what undoes the method in the probabilities.

        Precision goes by the order of rows alone, so an epoch chosen by it may have
        any probabilities: on abalone19 they averaged 0.44 where 0.008 was right. Then
        there is always a correction, which is fitted after training.
        """
        if not len(self.counts):
            return objective
        factors = self._wanted() / np.maximum(self.counts, 1)
        return objective.corrected(
            factors * objective.weights_of(self.counts), always=self.watches_precision
        )

    def synthesised(self, train: Rows, store: ArrayStore) -> Rows:
        """Encoded rows with new ones, when the method is smote; else the same."""
        if self.config.method != "smote":
            return train
        return synthesised(train, self._wanted(), self.statistics, store, self.seed)

    def resampled(self, train: Rows) -> Rows:
        """Rows of rare classes repeated, or of common ones left out; or the same."""
        if self.config.method not in ("oversample", "undersample"):
            return train
        return resampled(train, self._wanted(), self.seed)

    def _wanted(self) -> np.ndarray:
        return wanted(self.counts, self.config.method, self.config.ratio)


def balance_of(
    config: RunConfig,
    target: Target,
    statistics: NumberStatistics,
    train: Rows,
    validation: Rows,
) -> Balance:
    """What `config.imbalance` comes to for these rows; `auto` is measured.

    Args:
        train, validation: encoded rows with the user's weights alone.

    Raises:
        ConfigError: the method does not go with the task or with the objective.
    """
    _check(config.imbalance, config.objective, target)
    if target.task == "regression":
        settled = config.imbalance.model_copy(update={"method": "none"})
        return Balance(settled, np.zeros(0, "int64"), statistics, config.seed)
    counts = counts_of(train, len(target.labels))
    method: str = config.imbalance.method
    choice: dict[str, Any] = {}
    if method == "auto":
        method = "none"
        if _is_open(config.objective) and imbalance_of(counts) > LIMIT:
            comparison = judged(
                config, target, statistics, train, validation, counts=counts
            )
            method, choice = comparison.chosen, comparison.as_dict()
            _tell(comparison, counts, target)
    settled = config.imbalance.model_copy(update={"method": method})
    return Balance(settled, counts, statistics, config.seed, choice)


def _check(imbalance: ImbalanceConfig, objective: ObjectiveConfig, to: Target) -> None:
    method = imbalance.method
    if to.task == "regression" and method not in ("auto", "none"):
        raise ConfigError(
            f"imbalance.method: '{method}' is for classes, and '{to.name}' is a "
            "regression target. Leave it out."
        )
    weighs = method in ("class_weights", *_RESAMPLING)
    if weighs and objective.class_weights != "none":
        raise ConfigError(
            f"imbalance.method '{method}' and objective.class_weights would both make "
            "rare classes count more: leave one of them out."
        )
    if method == "focal" and objective.loss not in ("auto", "focal"):
        raise ConfigError(
            f"imbalance.method 'focal' and objective.loss '{objective.loss}' are two "
            "losses: leave one of them out."
        )


def _is_open(objective: ObjectiveConfig) -> bool:
    """Whether the user left it to us what rare classes count."""
    return objective.class_weights == "none" and objective.loss == "auto"


def _tell(comparison: Comparison, counts: np.ndarray, target: Target) -> None:
    least = min(np.flatnonzero(counts > 0), key=lambda k: counts[k])
    note(
        "imbalance_chosen",
        f"The largest class has {imbalance_of(counts):,.0f} times the "
        f"{counts[least]:,} train rows of '{target.labels[least]}'. {comparison}",
        **comparison.as_dict(),
    )
