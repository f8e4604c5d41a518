"""Probabilities that mean what they say, whatever the loss and the rows trained on.

A class that counts `f` times in training is learnt as `f` times as frequent: its logit
is too high by `log f`. The focal loss bends probabilities in a way that can be undone
as well. Both are exact where the model is; what the model itself gets wrong, a scale
and a shift that are fitted on validation rows put right. All of that is `Correction`,
of logits. What is left, of one model or of several together, is for `Calibration`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import keras
import numpy as np

from kerastrain.events import note
from kerastrain.layers import honest_logits
from kerastrain.layers_decision import (
    LEAST,
    CurveProbabilities,
    ScaleProbabilities,
    ShareProbabilities,
)
from kerastrain.piecewise import Piecewise

__all__ = ["Calibration", "Correction", "Method"]

Method = Literal["none", "temperature", "isotonic", "succession"]

NUM_FOLDS = 5
NUM_STEPS = 30
_PLAIN = (1.0, 0.0)
# A curve for each class needs rows of each; of more classes few have them.
MAX_CURVES = 10
LEAST_OF_CLASS = 50
LEAST_WRONG = 5
MAX_ROWS = 200_000  # beyond which the fit is the same to four digits


@dataclass(frozen=True)
class Correction:
    """What `layers.Calibrate` does to logits, here for arrays.

    Args:
        shift: one value per output.
        scale: one factor for all.
        gamma: exponent of the focal loss; 0 when there was none.
    """

    shift: tuple[float, ...]
    scale: float = 1.0
    gamma: float = 0.0

    @classmethod
    def of(cls, factors: np.ndarray, num_outputs: int, gamma: float) -> "Correction":
        """For classes that count `factors` times in training, `(classes,)`.

        A class without a train row, whose factor is 0, keeps its logit.
        """
        logs = np.log(np.where(factors > 0, factors, 1.0))
        shift = logs[:1] - logs[1:] if num_outputs == 1 else -logs
        return cls(tuple(shift.tolist()), gamma=gamma)

    @classmethod
    def mean(cls, several: Sequence["Correction"]) -> "Correction":
        """The mean of corrections for the same loss; one at least."""
        shifts = np.mean([one.shift for one in several], axis=0)
        scale = float(np.mean([one.scale for one in several]))
        return cls(tuple(shifts.tolist()), scale, several[0].gamma)

    @property
    def does_nothing(self) -> bool:
        return self.scale == 1 and not self.gamma and not any(self.shift)

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Honest logits, float32 of the same shape."""
        scale, shift = np.float32(self.scale), np.asarray(self.shift, "float32")
        return np.asarray(honest_logits(logits, scale, shift, self.gamma))

    def fitted(
        self, logits: np.ndarray, classes: np.ndarray, weight: np.ndarray | None
    ) -> "Correction":
        """With the scale and shift that lower the log loss on rows not trained on.

        Of two classes a shift, or a scale and a shift, are tried; of more a scale. They
        are taken only when they lower the log loss in a cross-validation over these
        rows, and left alone when a class of two has fewer than five of them.

        Args:
            logits: as the network gives them, `(rows, outputs)`.
            classes: true class of each row.
            weight: of each row; rows of weight 0 count as no rows.
        """
        if weight is not None and weight.any():
            counts = weight > 0
            logits, classes, weight = logits[counts], classes[counts], weight[counts]
        else:
            weight = np.ones(len(classes))
        rows = _Rows(self(logits).astype("float64"), classes, weight / weight.mean())
        scale, shift = rows.best()
        moved = tuple(scale * value + shift for value in self.shift)
        return replace(self, scale=scale * self.scale, shift=moved)


@dataclass(frozen=True)
class _Rows:
    """Logits with their truth, and what of scale and shift suits them."""

    logits: np.ndarray
    classes: np.ndarray
    weight: np.ndarray

    def best(self) -> tuple[float, float]:
        if self.logits.shape[1] > 1:
            names: tuple[str, ...] = ("scale",)
        elif min(np.bincount(self.classes, minlength=2)) >= NUM_FOLDS:
            names = ("shift", "both")
        else:
            return _PLAIN
        found, least = _PLAIN, self.loss(*_PLAIN)
        for name in names:
            loss = sum(held.loss(*kept.solve(name)) for kept, held in self.folds())
            if loss < least:
                found, least = self.solve(name), loss
        return found

    def folds(self) -> Iterator[tuple["_Rows", "_Rows"]]:
        """Stratified: the rows of each class are dealt out in turn."""
        order = np.argsort(self.classes, kind="stable")
        fold = np.empty(len(order), "int64")
        fold[order] = np.arange(len(order)) % NUM_FOLDS
        for number in range(NUM_FOLDS):
            held = fold == number
            if held.any() and not held.all():
                yield self.take(~held), self.take(held)

    def take(self, chosen: np.ndarray) -> "_Rows":
        return _Rows(self.logits[chosen], self.classes[chosen], self.weight[chosen])

    def loss(self, scale: float, shift: float) -> float:
        """Sum of the log losses."""
        return float(-self.weight @ self._true(_log_softmax(self._two(scale, shift))))

    def solve(self, name: str) -> tuple[float, float]:
        """Newton's method on the log loss, drawn to (1, 0) as by one row each."""
        free = {"shift": [1], "scale": [0], "both": [0, 1]}[name]
        theta = np.array(_PLAIN)
        basis = np.stack([self._two(1, 0), self._two(0, 1)])[free]
        true = np.stack([self._true(one) for one in basis])
        for _ in range(NUM_STEPS):
            p = np.exp(_log_softmax(self._two(*theta)))
            mean = (basis * p).sum(axis=2)
            pull = (theta - _PLAIN)[free]
            gradient = (mean - true) @ self.weight + pull
            spread = basis - mean[:, :, None]
            hessian = np.einsum("ank,bnk,nk,n->ab", spread, spread, p, self.weight)
            step = np.linalg.solve(hessian + np.eye(len(free)), gradient)
            theta[free] -= np.clip(step, -1, 1)
            theta[0] = max(theta[0], 0.05)  # an order of rows is never turned round
            if np.abs(step).max() < 1e-8:
                break
        return float(theta[0]), float(theta[1])

    def _two(self, scale: float, shift: float) -> np.ndarray:
        """Logits of all classes, `(rows, classes)`."""
        logits = scale * self.logits + shift
        if logits.shape[1] > 1:
            return logits
        return np.concatenate([np.zeros_like(logits), logits], axis=1)

    def _true(self, values: np.ndarray) -> np.ndarray:
        return values[np.arange(len(values)), self.classes]


@dataclass(frozen=True)
class Calibration:
    """What is done to the probabilities of a finished model; nothing by default.

    Args:
        scale, shift: of `temperature`; one factor for all, a value for each class.
        share: of `succession`; what all classes have alike.
        curves: of `isotonic`; one for the second of two classes, else one for each.
        log_loss_before: mean over the rows that it was chosen on.
        log_loss_after: the same, cross-validated.
    """

    method: Method = "none"
    scale: float = 1.0
    shift: tuple[float, ...] = ()
    share: float = 0.0
    curves: tuple[Piecewise, ...] = ()
    log_loss_before: float | None = None
    log_loss_after: float | None = None

    @classmethod
    def chosen(
        cls,
        probabilities: np.ndarray,
        classes: np.ndarray,
        weight: np.ndarray | None = None,
        *,
        methods: Sequence[Method] = ("none", "temperature", "isotonic"),
        has_shift: bool = False,
    ) -> "Calibration":
        """The method of the least log loss in a cross-validation over these rows.

        A method is taken in place of one before it only where the gain is more than its
        own standard error. What is chosen is fitted on all rows and told in an event.
        Where hardly a row is wrong none of them can be judged, and each class gets an
        equal part of one row in `rows + 2`: that n rows were right does not say that
        one of a million is wrong (Laplace's rule of succession).

        Args:
            probabilities: of rows not trained on, `(rows, classes)`.
            classes: true class of each row.
            weight: of each row; rows of weight 0 count as no rows.
            methods: to choose among, the plainest first; a single one is taken.
            has_shift: whether `temperature` may shift the logit of two classes too.
        """
        rows = _Held.of(probabilities, classes, weight)
        before = rows.losses(rows.p)
        found, least = cls(), None
        is_open = rows.tell_of_errors or len(methods) == 1
        for method in filter(rows.can_fit, methods if is_open else ()):
            fit = partial(cls._fit, method=method, has_shift=has_shift)
            losses = rows.held_losses(fit)
            if least is None or rows.is_less(losses, least):
                found, least = fit(rows), losses
        if not is_open:
            found = cls("succession", share=1 / (len(rows.p) + 2))
            least = rows.losses(found(rows.p))
        after = before if least is None else least
        means = [float(rows.weight @ one / len(one)) for one in (before, after)]
        return replace(found, log_loss_before=means[0], log_loss_after=means[1]).told()

    @classmethod
    def _fit(cls, rows: "_Held", *, method: str, has_shift: bool) -> "Calibration":
        if method == "temperature":
            return cls("temperature", *rows.scale_and_shift(has_shift))
        if method == "isotonic":
            return cls("isotonic", curves=rows.curves())
        return cls()

    def told(self) -> "Calibration":
        """Itself, told in an event."""
        done = f"calibrated by {self.method}" if self.method != "none" else "kept"
        why = (
            f"the log loss on rows not trained on is {self.log_loss_after:.4f}, and "
            f"{self.log_loss_before:.4f} as they were."
        )
        if self.method == "succession":
            done = f"kept but for an equal share of {self.share:.2g} for all classes"
            why = (
                f"fewer than {LEAST_WRONG} of the rows not trained on are wrong, which "
                "does not say how sure the model may be (Laplace's rule of succession)."
            )
        text = f"Probabilities are {done}: {why}"
        note("calibration_chosen", text, **self.described())
        return self

    def described(self) -> dict[str, Any]:
        """What `metrics.json` holds."""
        return {
            "method": self.method,
            "log_loss_before": self.log_loss_before,
            "log_loss_after": self.log_loss_after,
        }

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float32 `(rows, classes)`."""
        p = np.asarray(probabilities, "float32")
        if self.method == "temperature":
            logs = np.log(np.maximum(p, np.float32(LEAST))) * np.float32(self.scale)
            return np.exp(_log_softmax(logs + np.asarray(self.shift, "float32")))
        if self.method == "isotonic" and len(self.curves) == 1:
            positive = self.curves[0](p[:, 1])
            return np.stack([1 - positive, positive], axis=1)
        if self.method == "isotonic":
            shares = [curve(p[:, k]) for k, curve in enumerate(self.curves)]
            together = np.stack(shares, axis=1)
            return together / together.sum(axis=1, keepdims=True)
        if self.method == "succession":
            return p * np.float32(1 - self.share) + np.float32(self.share / p.shape[1])
        return p

    def layer(self) -> keras.layers.Layer | None:
        """The same as a layer; None where nothing is done."""
        if self.method == "temperature":
            return ScaleProbabilities(self.scale, self.shift)
        if self.method == "isotonic":
            return CurveProbabilities(
                [curve.x for curve in self.curves], [curve.y for curve in self.curves]
            )
        if self.method == "succession":
            return ShareProbabilities(self.share)
        return None


@dataclass(frozen=True)
class _Held:
    """Probabilities of rows not trained on, with their truth; weights of mean 1."""

    p: np.ndarray
    classes: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(
        cls, p: np.ndarray, classes: np.ndarray, weight: np.ndarray | None
    ) -> "_Held":
        weight = np.ones(len(classes)) if weight is None else weight.astype("float64")
        counted = np.flatnonzero(weight > 0) if weight.any() else np.arange(len(p))
        counted = counted[:: max(1, -(-len(counted) // MAX_ROWS))]
        weight = weight[counted] if weight.any() else np.ones(len(counted))
        p = np.asarray(p, "float32")[counted]
        return cls(p, np.asarray(classes)[counted], weight / weight.mean())

    def can_fit(self, method: str) -> bool:
        """Whether there are rows enough."""
        counts = np.bincount(self.classes, minlength=self.p.shape[1])
        if method == "isotonic":
            return len(counts) <= MAX_CURVES and min(counts) >= LEAST_OF_CLASS
        return method == "none" or len(self.classes) >= 2 * NUM_FOLDS

    @property
    def tell_of_errors(self) -> bool:
        """Whether rows enough are wrong. Where they are not, the scale that fits best
        has no end, and the first wrong row of new data pays for it."""
        wrong = self.p.argmax(axis=1) != self.classes
        return bool(wrong.sum() >= LEAST_WRONG)

    def losses(self, p: np.ndarray) -> np.ndarray:
        """Log loss of each row."""
        true = p[np.arange(len(p)), self.classes].astype("float64")
        return -np.log(np.clip(true, 1e-15, 1))

    def held_losses(self, fit: Callable[["_Held"], Calibration]) -> np.ndarray:
        """Log loss of each row, by a calibration that was fitted on other rows."""
        losses = np.empty(len(self.p))
        order = np.argsort(self.classes, kind="stable")
        for number in range(NUM_FOLDS):
            held = np.zeros(len(order), bool)
            held[order[number::NUM_FOLDS]] = True
            if held.any():
                part = self.take(held)
                losses[held] = part.losses(fit(self.take(~held))(part.p))
        return losses

    def take(self, chosen: np.ndarray) -> "_Held":
        return _Held(self.p[chosen], self.classes[chosen], self.weight[chosen])

    def is_less(self, losses: np.ndarray, others: np.ndarray) -> bool:
        """Whether they are so by more than the standard error of the difference."""
        gains = self.weight * (others - losses)
        return gains.mean() > gains.std() / np.sqrt(len(gains)) + 1e-12

    def scale_and_shift(self, has_shift: bool) -> tuple[float, tuple[float, ...]]:
        logs = np.log(np.maximum(self.p.astype("float64"), LEAST))
        if logs.shape[1] > 2:
            scale, _ = _Rows(logs, self.classes, self.weight).solve("scale")
            return scale, (0.0,) * logs.shape[1]
        logit = logs[:, 1:] - logs[:, :1]
        rows = _Rows(logit, self.classes, self.weight)
        scale, shift = rows.solve("both" if has_shift else "scale")
        return scale, (0.0, shift)

    def curves(self) -> tuple[Piecewise, ...]:
        num_classes = self.p.shape[1]
        every = [1] if num_classes == 2 else range(num_classes)
        return tuple(
            Piecewise.rising(self.p[:, k], self.classes == k, self.weight)
            for k in every
        )


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
