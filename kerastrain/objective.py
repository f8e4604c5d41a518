"""The task: head, loss, decision, and what is monitored in which direction."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import ops

from kerastrain.arrays import Chosen, class_counts, mean_and_std
from kerastrain.calibration import Correction
from kerastrain.config import ObjectiveConfig
from kerastrain.errors import ConfigError, unknown
from kerastrain.layers import Calibrate, DecideLabel, Probabilities, Unstandardize
from kerastrain.nets.members import MeanOfMembers, MemberHeads
from kerastrain.schema import Target, Task

__all__ = ["Objective"]

_CLASS_LOSSES = ("cross_entropy", "focal")
_NUMBER_LOSSES = ("mse", "mae", "huber")


@dataclass(frozen=True)
class Objective:
    """What a target asks of a model.

    Args:
        task: binary, multiclass or regression.
        labels: classes in the order of the probabilities; empty for a regression.
        loss: name of the loss.
        mean, std: of a regression target over the train rows; 0 and 1 otherwise.
        correction: of logits, where the loss or the rows trained on make them
            dishonest; None where they are honest as they are.
    """

    task: Task
    labels: tuple[str, ...]
    loss: str
    config: ObjectiveConfig
    mean: float = 0.0
    std: float = 1.0
    correction: Correction | None = None

    @classmethod
    def of(
        cls, target: Target, config: ObjectiveConfig, train_targets: np.ndarray | Chosen
    ) -> "Objective":
        """ConfigError when the loss does not fit the task."""
        fitting = _NUMBER_LOSSES if target.task == "regression" else _CLASS_LOSSES
        loss = fitting[0] if config.loss == "auto" else config.loss
        if loss not in fitting:
            raise ConfigError(
                f"objective.loss: '{loss}' is not for {target.task} targets. "
                f"Available: {', '.join(fitting)}."
            )
        mean, std = 0.0, 1.0
        if target.task == "regression":
            mean, std = mean_and_std(train_targets)
            if std <= 1e-12 * abs(mean):  # equal values: what is left is rounding
                std = 1.0
        return cls(target.task, tuple(target.labels), loss, config, mean, std)

    @property
    def num_outputs(self) -> int:
        return len(self.labels) if self.task == "multiclass" else 1

    def head(self, tensor: Any) -> Any:
        """Logits or a standardised value, always float32: `(batch, num_outputs)`.

        Members `(batch, k, d)` have a head each; what they say together comes out. A
        network whose last layer is called `outputs` has its own.
        """
        if tensor._keras_history.operation.name == "outputs":
            return tensor
        if len(tensor.shape) == 3:
            members = MemberHeads(self.num_outputs, name="head")(tensor)
            return MeanOfMembers(self.task == "regression", name="mean")(members)
        return keras.layers.Dense(self.num_outputs, dtype="float32", name="head")(
            tensor
        )

    def decide(self, logits: Any) -> dict[str, Any]:
        """Keras tensors: `prediction` and, of classes, `probabilities`."""
        if self.task == "regression":
            return {"prediction": Unstandardize(self.mean, self.std)(logits)}
        if self.correction is not None:
            fix = self.correction
            layer = Calibrate(fix.scale, fix.shift, fix.gamma, name="calibrate")
            logits = layer(logits)
        probabilities = Probabilities()(logits)
        prediction = DecideLabel(self.labels)(probabilities)
        return {"prediction": prediction, "probabilities": probabilities}

    def outputs(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities `(rows, classes)` or values `(rows,)` from logits, in NumPy."""
        if self.task == "regression":
            return logits[:, 0] * self.std + self.mean
        if self.correction is not None:
            logits = self.correction(logits)
        if self.task == "binary":
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponent / exponent.sum(axis=1, keepdims=True)

    @property
    def target_dtype(self) -> str:
        """Of what `encoded` gives."""
        return "float32" if self.task == "regression" else "int32"

    def encoded(self, targets: np.ndarray) -> np.ndarray:
        """Targets as the loss takes them: int32 classes, or float32 standardised."""
        if self.task == "regression":
            return ((targets - self.mean) / self.std).astype("float32")
        return targets.astype("int32")

    def row_loss(self) -> Callable[[Any, Any], Any]:
        """`(targets (rows,), outputs (rows, num_outputs))` to losses `(rows,)`.

        Of outputs of members, `(rows, k, num_outputs)`, the mean of their losses.
        """
        loss = _ROW_LOSSES[self.loss](self)

        def mean_loss(targets: Any, outputs: Any) -> Any:
            if len(outputs.shape) == 2:
                return loss(targets, outputs)
            k = outputs.shape[1]
            flat = ops.reshape(outputs, (-1, outputs.shape[2]))
            losses = loss(ops.repeat(targets, k), flat)
            return ops.mean(ops.reshape(losses, (-1, k)), axis=1)

        return mean_loss

    def honest_loss(self) -> Callable[[Any, Any], Any]:
        """As `row_loss`, but what epochs are chosen by: of corrected logits.

        Cross-entropy, which is least for the true probabilities; the focal loss and
        smoothed labels want others.
        """
        correction = self.correction
        if correction is None:
            return self.row_loss()
        config = self.config.model_copy(update={"label_smoothing": 0.0})
        loss = replace(self, loss="cross_entropy", config=config).row_loss()
        return lambda targets, logits: loss(targets, correction(logits))

    def corrected(self, factors: np.ndarray, *, always: bool = False) -> "Objective":
        """For training in which a class counts `factors` times, `(classes,)`.

        The focal loss is corrected too. Where nothing has to be, there is no
        correction, unless there is `always` to be one that can be fitted.
        """
        gamma = self.config.focal_gamma if self.loss == "focal" else 0.0
        if not always and not gamma and (factors == 1).all():
            return self
        correction = Correction.of(factors, self.num_outputs, gamma)
        return replace(self, correction=correction)

    def calibrated(
        self, logits: np.ndarray, classes: np.ndarray, weight: np.ndarray | None
    ) -> "Objective":
        """With the correction fitted on rows not trained on; see `Correction.fitted`.

        Args:
            logits: as the network gives them, `(rows, num_outputs)`.
        """
        if self.correction is None:
            return self
        return replace(self, correction=self.correction.fitted(logits, classes, weight))

    def calibrate(self, model: keras.Model) -> None:
        """Set the correction in a model that was built with `decide`."""
        if self.correction is not None:
            layer = model.get_layer("calibrate")
            layer.set(self.correction.scale, self.correction.shift)

    def class_weights(self, train_targets: np.ndarray | Chosen) -> np.ndarray:
        """Weight of each class, `(classes,)`, with mean 1 over the train rows."""
        return self.weights_of(class_counts(train_targets, len(self.labels)))

    def weights_of(self, counts: np.ndarray) -> np.ndarray:
        """`class_weights` for so many train rows of each class, `(classes,)`."""
        counts = counts.astype("float64")
        wanted = self.config.class_weights
        if wanted == "none":
            weights = np.ones_like(counts)
        elif wanted == "balanced":
            weights = np.where(counts > 0, 1 / np.maximum(counts, 1), 0)
        else:
            for label in wanted:
                if label not in self.labels:
                    raise unknown(
                        "label in objective.class_weights", label, self.labels
                    )
            weights = np.array([wanted.get(label, 1.0) for label in self.labels])
        total = (weights * counts).sum()
        return weights * counts.sum() / total if total else weights


def _one_hot(objective: Objective, targets: Any) -> Any:
    """Smoothed one-hot targets of the classes, `(rows, classes)`."""
    num_classes = len(objective.labels)
    smoothing = objective.config.label_smoothing
    hot = ops.one_hot(targets, num_classes, dtype="float32")
    return hot * (1 - smoothing) + smoothing / num_classes


def _log_probabilities(objective: Objective, logits: Any) -> Any:
    if objective.task == "binary":
        logits = ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
    return ops.log_softmax(logits, axis=-1)


def _cross_entropy(objective: Objective) -> Callable[[Any, Any], Any]:
    def loss(targets: Any, logits: Any) -> Any:
        log_p = _log_probabilities(objective, logits)
        return -ops.sum(_one_hot(objective, targets) * log_p, axis=-1)

    return loss


def _focal(objective: Objective) -> Callable[[Any, Any], Any]:
    """Reference: Lin et al. 2017, "Focal loss for dense object detection", eq. 4."""
    gamma = objective.config.focal_gamma

    def loss(targets: Any, logits: Any) -> Any:
        log_p = _log_probabilities(objective, logits)
        # Where p is 1, the gradient of a power below 1 is infinite.
        focus = ops.power(ops.maximum(1 - ops.exp(log_p), 1e-7), gamma)
        return -ops.sum(_one_hot(objective, targets) * focus * log_p, axis=-1)

    return loss


def _mse(_: Objective) -> Callable[[Any, Any], Any]:
    return lambda targets, outputs: ops.square(outputs[:, 0] - targets)


def _mae(_: Objective) -> Callable[[Any, Any], Any]:
    return lambda targets, outputs: ops.abs(outputs[:, 0] - targets)


def _huber(objective: Objective) -> Callable[[Any, Any], Any]:
    delta = objective.config.huber_delta

    def loss(targets: Any, outputs: Any) -> Any:
        error = ops.abs(outputs[:, 0] - targets)
        linear = delta * (error - 0.5 * delta)
        return ops.where(error <= delta, 0.5 * ops.square(error), linear)

    return loss


_ROW_LOSSES = {
    "cross_entropy": _cross_entropy,
    "focal": _focal,
    "mse": _mse,
    "mae": _mae,
    "huber": _huber,
}
