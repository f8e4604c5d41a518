"""Probabilities that mean what they say, whatever the loss and the rows trained on.

A class that counts `f` times in training is learnt as `f` times as frequent: its logit
is too high by `log f`. The focal loss bends probabilities in a way that can be undone
as well. Both are exact where the model is; what the model itself gets wrong, a scale
and a shift that are fitted on validation rows put right.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kerastrain.layers import honest_logits

__all__ = ["Correction"]

NUM_FOLDS = 5
NUM_STEPS = 30
_PLAIN = (1.0, 0.0)


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


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
