"""The decision behind a trained learner, from what it predicts for held-out rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kerastrain.config import DecisionConfig
from kerastrain.decision import Decision
from kerastrain.ensembles.ensemble import EnsembleLearner
from kerastrain.evaluation import most_rows
from kerastrain.learner import Learner
from kerastrain.objective import Objective
from kerastrain.prepare import Prepared

__all__ = ["HeldOut", "decide"]


@dataclass(frozen=True)
class HeldOut:
    """Rows that a learner was not trained on.

    Args:
        raw: what it predicts without a decision: probabilities `(rows, classes)` or
            values `(rows,)`.
        targets: true classes or values, `(rows,)`.
        weight: of each row in scores; None where all count alike.
    """

    raw: np.ndarray
    targets: np.ndarray
    weight: np.ndarray | None

    @classmethod
    def of(cls, learner: Learner, data: Prepared) -> "HeldOut":
        """The validation rows, or all that an ensemble was dealt out."""
        if isinstance(learner, EnsembleLearner):
            weight = learner.held_out_weight
            return cls(learner.held_out_prediction, learner.held_out, weight)
        rows = data.validation.at_most(most_rows(data.objective.num_outputs))
        return cls(learner.undecided(rows), rows.targets, data.weight_of(rows))

    @classmethod
    def pooled(cls, parts: Sequence["HeldOut"]) -> "HeldOut":
        """The rows of all parts, one below the other."""
        weights = [one.weight for one in parts if one.weight is not None]
        return cls(
            np.concatenate([one.raw for one in parts]),
            np.concatenate([one.targets for one in parts]),
            np.concatenate(weights) if weights else None,
        )

    def decision(self, objective: Objective, config: DecisionConfig) -> Decision:
        return Decision.fit(
            objective.task,
            objective.labels,
            self.raw,
            self.targets,
            config=config,
            weight=self.weight,
            has_shift=objective.correction is not None,
        )


def decide(learner: Learner, data: Prepared, config: DecisionConfig) -> HeldOut:
    """Put a decision behind `learner`; the rows that it was chosen on."""
    held_out = HeldOut.of(learner, data)
    learner.decide_by(held_out.decision(data.objective, config))
    return held_out
