"""From probabilities or values to the decision: calibrated, labelled, with intervals.

All of it is chosen on what a finished model, or several together, predict for rows that
were not trained on, and put behind the model as Keras layers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kerastrain.calibration import Calibration, Method
from kerastrain.config import DecisionConfig
from kerastrain.errors import ConfigError, unknown
from kerastrain.events import note
from kerastrain.intervals import Intervals
from kerastrain.layers import DecideLabel
from kerastrain.layers_decision import DecideByCosts, DecideByThreshold
from kerastrain.schema import Task
from kerastrain.thresholds import best_threshold

__all__ = ["Decision", "Rule", "rule_of"]

Costs = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Rule:
    """Which label probabilities give: by default that of the most probable class.

    Args:
        threshold: the least probability of the second of two classes that gives it.
        costs: `costs[true][predicted]`; the label is that of the least expected cost.
    """

    labels: tuple[str, ...]
    threshold: float | None = None
    costs: Costs | None = None

    def classes(self, probabilities: np.ndarray) -> np.ndarray:
        """Class number of each row, `(rows, classes)` -> `(rows,)`."""
        p = np.asarray(probabilities, "float32")
        if self.threshold is not None:
            return (p[:, 1] >= np.float32(self.threshold)).astype("int64")
        if self.costs is not None:
            return (p @ np.asarray(self.costs, "float32")).argmin(axis=1)
        return p.argmax(axis=1)

    def margins(self, probabilities: np.ndarray) -> np.ndarray:
        """By how much each probability of a row may change and its label stay."""
        p = np.asarray(probabilities, "float64")
        if self.threshold is not None:
            return np.abs(p[:, 1] - self.threshold)
        if self.costs is None:
            two = np.sort(p, axis=1)[:, -2:]
            return (two[:, 1] - two[:, 0]) / 2
        costs = np.asarray(self.costs)
        two = np.sort(p @ costs, axis=1)[:, :2]
        return (two[:, 1] - two[:, 0]) / max(np.ptp(costs, axis=1).sum(), 1e-30)

    def cost(self, classes: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Of each row; 1 for a wrong label where there are no costs."""
        if self.costs is None:
            return (classes != predicted).astype("float64")
        return np.asarray(self.costs)[classes, predicted]

    def layer(self) -> DecideLabel:
        """The same as a layer: `(batch, classes)` -> strings `(batch,)`."""
        if self.threshold is not None:
            return DecideByThreshold(self.labels, self.threshold)
        if self.costs is not None:
            return DecideByCosts(self.labels, self.costs)
        return DecideLabel(self.labels)


def rule_of(model: keras.Model) -> Rule | None:
    """The rule by which a whole model decides; None where it gives no labels."""
    for layer in reversed(model.layers):
        if isinstance(layer, DecideByThreshold):
            return Rule(tuple(layer.labels), threshold=layer.threshold)
        if isinstance(layer, DecideByCosts):
            costs = tuple(tuple(row) for row in layer.costs)
            return Rule(tuple(layer.labels), costs=costs)
        if isinstance(layer, DecideLabel):
            return Rule(tuple(layer.labels))
    return None


@dataclass(frozen=True)
class Decision:
    """What stands behind a finished model; by default the most probable class.

    Args:
        labels: classes in the order of the probabilities; empty for a regression.
        calibration: of probabilities.
        rule: None for a regression.
        intervals: of a regression; None for none.
        about: how the rule was found, for `metrics.json`.
    """

    labels: tuple[str, ...]
    calibration: Calibration = Calibration()
    rule: Rule | None = None
    intervals: Intervals | None = None
    about: Mapping[str, Any] | None = None

    @classmethod
    def plain(cls, labels: Sequence[str]) -> "Decision":
        """The most probable class, or the value, as the model gives it."""
        return cls(tuple(labels), rule=Rule(tuple(labels)) if labels else None)

    @classmethod
    def fit(
        cls,
        task: Task,
        labels: Sequence[str],
        predictions: np.ndarray,
        targets: np.ndarray,
        *,
        config: DecisionConfig,
        weight: np.ndarray | None = None,
        has_shift: bool = False,
    ) -> "Decision":
        """Chosen on rows not trained on: of a validation part, or of all folds.

        Args:
            predictions: probabilities `(rows, classes)` or values `(rows,)`.
            targets: true classes or values, `(rows,)`.
            weight: of each row in the scores; None where all count alike.
            has_shift: the classes counted unlike in training; see `Calibration.chosen`.

        Raises:
            ConfigError: the configuration does not fit the task or the labels.
        """
        check(task, labels, config)
        if task == "regression":
            return cls((), intervals=_intervals(predictions, targets, weight, config))
        calibration = Calibration()
        if config.calibrate != "none" and len(targets):
            calibration = Calibration.chosen(
                predictions,
                targets,
                weight,
                methods=_METHODS[config.calibrate],
                has_shift=has_shift,
            )
        honest = calibration(predictions)
        rule, about = _rule(tuple(labels), honest, targets, weight, config)
        return cls(tuple(labels), calibration, rule, about=about)

    # --- the same in NumPy and as layers ------------------------------------------

    def probabilities(self, predictions: np.ndarray) -> np.ndarray:
        """Calibrated, `(rows, classes)`; values of a regression as they are."""
        return self.calibration(predictions) if self.labels else predictions

    def classes(self, probabilities: np.ndarray) -> np.ndarray | None:
        """Class given to each row of calibrated probabilities; None for a regression.

        It is what `evaluation.score` takes as `predicted`.
        """
        return None if self.rule is None else self.rule.classes(probabilities)

    def outputs(self, tensor: Any) -> dict[str, Any]:
        """What a model gives, from its probabilities or its value as a Keras tensor.

        Returns:
            `prediction` and `probabilities`; or `prediction`, and `lower` and `upper`
            where there are intervals.
        """
        if self.rule is None:
            ends = {} if self.intervals is None else self.intervals.outputs(tensor)
            return {"prediction": tensor, **ends}
        layer = self.calibration.layer()
        probabilities = tensor if layer is None else layer(tensor)
        prediction = self.rule.layer()(probabilities)
        return {"prediction": prediction, "probabilities": probabilities}

    def behind(self, model: keras.Model) -> keras.Model:
        """A model that shares all layers with `model` and decides like this.

        Args:
            model: gives a dict with `probabilities`, or `prediction` of a regression.
        """
        name = "probabilities" if self.labels else "prediction"
        inputs = {tensor.name: tensor for tensor in model.inputs}
        outputs = self.outputs(model.output[name])
        return keras.Model(inputs, outputs, name=model.name)

    # --- what is told -----------------------------------------------------------------

    def described(self) -> dict[str, Any]:
        """How it was chosen, for `metrics.json`: `calibration`, `decision`."""
        if self.rule is None:
            return {}
        found: dict[str, Any] = {"decision": dict(self.about or {"rule": "argmax"})}
        if self.calibration.log_loss_before is not None:
            found["calibration"] = self.calibration.described()
        return found

    def measured(
        self,
        predictions: np.ndarray,
        targets: np.ndarray,
        weight: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """What came of it on rows that nothing was chosen on.

        Args:
            predictions: calibrated probabilities, or values.

        Returns:
            `intervals`, or `costs`: mean cost of a row, by the rule and by the most
            probable class; nothing where there are neither.
        """
        if self.intervals is not None and len(targets):
            found = self.intervals.measured(predictions, targets, weight)
            return {"intervals": found}
        if self.rule is None or self.rule.costs is None or not len(targets):
            return {}
        ways = {
            "mean": self.rule.classes(predictions),
            "mean_of_most_probable": predictions.argmax(axis=1),
        }
        weight = weight if weight is not None and weight.any() else None
        return {
            "costs": {
                name: float(np.average(self.rule.cost(targets, way), weights=weight))
                for name, way in ways.items()
            }
        }


_METHODS: dict[str, Sequence[Method]] = {
    "auto": ("none", "temperature", "isotonic"),
    "temperature": ("temperature",),
    "isotonic": ("isotonic",),
}


def check(task: Task, labels: Sequence[str], config: DecisionConfig) -> None:
    """ConfigError where a decision does not fit the task or the labels.

    Costs nothing: call it before training.
    """
    for name in ("metric", "threshold", "costs"):
        is_for = ("binary", "multiclass") if name == "costs" else ("binary",)
        if getattr(config, name) is not None and task not in is_for:
            hint = " Use decision.costs." if task == "multiclass" else ""
            raise ConfigError(f"decision.{name}: it is not for {task} targets.{hint}")
    costs = config.costs or {}
    for label in (*costs, *(label for row in costs.values() for label in row)):
        if label not in labels:
            raise unknown("label in decision.costs", label, labels)


def _intervals(
    values: np.ndarray,
    targets: np.ndarray,
    weight: np.ndarray | None,
    config: DecisionConfig,
) -> Intervals | None:
    if config.coverage is None or not len(targets):
        return None
    return Intervals.fit(values, targets, weight, coverage=config.coverage)


def _rule(
    labels: tuple[str, ...],
    probabilities: np.ndarray,
    classes: np.ndarray,
    weight: np.ndarray | None,
    config: DecisionConfig,
) -> tuple[Rule, dict[str, Any]]:
    """The rule, and how it was found."""
    if config.costs is not None:
        rule = Rule(labels, costs=_matrix(labels, config.costs))
        return rule, {"rule": "costs", "costs": config.costs}
    if config.threshold is not None:
        rule = Rule(labels, threshold=config.threshold)
        return rule, {"rule": "threshold", "threshold": config.threshold}
    if config.metric is None:
        return Rule(labels), {"rule": "argmax"}
    found = best_threshold(
        probabilities[:, 1], classes == 1, weight, metric=config.metric, at=config.at
    )
    note(
        "threshold_chosen",
        f"'{labels[1]}' is predicted from a probability of {found.threshold:.3f} on, "
        f"which is best for {config.metric} on rows not trained on: "
        f"{found.value:.3f}, against {found.plain:.3f} from 0.5 on.",
        threshold=found.threshold,
        value=found.value,
    )
    about = {
        "rule": "threshold",
        "threshold": found.threshold,
        "metric": config.metric,
        "value": found.value,
        "value_at_half": found.plain,
    }
    return Rule(labels, threshold=found.threshold), about


def _matrix(labels: Sequence[str], costs: Mapping[str, Mapping[str, float]]) -> Costs:
    """`costs[true][predicted]`; what is not named is 0 where right, else 1."""
    return tuple(
        tuple(
            float(costs.get(true, {}).get(label, float(true != label)))
            for label in labels
        )
        for true in labels
    )
