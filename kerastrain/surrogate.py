"""A small network in NumPy: how ways to train compare, in a second instead of a minute.

One hidden layer and Adam, the rows in batches, so that it feels rare classes, weights
and repeated rows as a large network does. Nothing of it is kept.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from kerastrain.features import NumberStatistics

__all__ = ["Examples", "fit_small", "flat", "width_of"]

MAX_CODES = 16  # of a column; codes go by frequency, so the rest are rare
UNITS = 64
BATCH_ROWS = 256
ROWS_SEEN = 300_000
CELLS_SEEN = 40_000_000
PATIENCE = 5  # epochs
RATE = 3e-3
DECAY = 1e-3


def flat(inputs: Mapping[str, np.ndarray], statistics: NumberStatistics) -> np.ndarray:
    """Encoded rows as one matrix: scaled numbers, gaps, one-hot codes; float32."""
    parts = []
    if "numbers" in inputs:
        numbers = inputs["numbers"].astype("float64")
        is_known = np.isfinite(numbers)
        scaled = np.where(is_known, numbers, statistics.median) - statistics.median
        scaled *= statistics.factor()
        gaps = ~is_known[:, statistics.missing > 0]
        parts += [np.sign(scaled) * np.log1p(np.abs(scaled)), gaps]
    if "codes" in inputs:
        codes = np.minimum(inputs["codes"], MAX_CODES)
        hot = codes[:, :, None] == np.arange(MAX_CODES + 1)
        parts.append(hot.reshape(len(codes), -1))
    return np.concatenate([part.astype("float32") for part in parts], axis=1)


def width_of(inputs: Mapping[str, np.ndarray]) -> int:
    """Most columns that `flat` makes of them, and one at least."""
    sizes = {"numbers": 2, "codes": MAX_CODES + 1}
    return max(1, sum(sizes[name] * a.shape[1] for name, a in inputs.items()))


@dataclass(frozen=True)
class Examples:
    """Rows to learn from: `flat` features, classes and what each row counts."""

    x: np.ndarray
    classes: np.ndarray
    weight: np.ndarray


def fit_small(
    train: Examples,
    x: np.ndarray,
    loss_of: Callable[[np.ndarray], float],
    *,
    num_classes: int,
    gamma: float = 0.0,
    seed: int = 0,
) -> np.ndarray:
    """Logits for the rows `x` after the epoch whose `loss_of(logits)` is least.

    Args:
        gamma: exponent of the focal loss; 0 is cross-entropy.

    Shapes: `(rows, num_classes)`, or `(rows, 1)` of two classes.
    """
    random = np.random.default_rng(seed)
    net = _Net(train.x.shape[1], num_classes, gamma, random)
    rows_seen = min(ROWS_SEEN, CELLS_SEEN // train.x.shape[1])
    num_epochs = int(np.clip(rows_seen // len(train.x), 5, 40))
    least, best, best_epoch = np.inf, net.logits(x), 0
    for epoch in range(num_epochs):
        if epoch - best_epoch > PATIENCE:
            break
        order = random.permutation(len(train.x))
        for batch in np.array_split(order, -(-len(order) // BATCH_ROWS)):
            rate = RATE * (1 - epoch / num_epochs)
            net.step(train.x[batch], train.classes[batch], train.weight[batch], rate)
        logits = net.logits(x)
        loss = loss_of(logits)
        if loss < least:
            least, best, best_epoch = loss, logits, epoch
    return best


class _Net:
    """Weights, their moments, and one step of Adam."""

    def __init__(
        self, width: int, num_classes: int, gamma: float, random: np.random.Generator
    ):
        outputs = num_classes if num_classes > 2 else 1
        first = random.normal(0, np.sqrt(2 / max(width, 1)), (width, UNITS))
        sizes = (first, np.zeros(UNITS), np.zeros((UNITS, outputs)), np.zeros(outputs))
        self.weights = [array.astype("float32") for array in sizes]
        self.moments = [(np.zeros_like(w), np.zeros_like(w)) for w in self.weights]
        self.num_steps = 0
        self.gamma = gamma

    def logits(self, x: np.ndarray) -> np.ndarray:
        return self._forward(x)[1]

    def _forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        into, bias, out, last = self.weights
        hidden = np.maximum(x @ into + bias, 0)
        return hidden, hidden @ out + last

    def step(
        self, x: np.ndarray, classes: np.ndarray, weight: np.ndarray, rate: float
    ) -> None:
        hidden, logits = self._forward(x)
        slope = self._slope(logits, classes) * (weight / len(x))[:, None]
        back = (slope @ self.weights[2].T) * (hidden > 0)
        gradients = (x.T @ back, back.sum(0), hidden.T @ slope, slope.sum(0))
        self.num_steps += 1
        for i, gradient in enumerate(gradients):
            mean, square = self.moments[i]
            mean += 0.1 * (gradient - mean)
            square += 0.01 * (gradient * gradient - square)
            unbiased = mean / (1 - 0.9**self.num_steps)
            spread = np.sqrt(square / (1 - 0.99**self.num_steps)) + 1e-7
            self.weights[i] -= rate * (unbiased / spread + DECAY * self.weights[i])

    def _slope(self, logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Of the loss by the logits, `(rows, outputs)`."""
        one = logits.shape[1] == 1
        full = np.concatenate([np.zeros_like(logits), logits], 1) if one else logits
        shares = np.exp(full - full.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        rows = np.arange(len(classes))
        p = shares[rows, classes]
        shares[rows, classes] -= 1
        if self.gamma:
            rest = np.maximum(1 - p, 1e-7)
            bent = rest - self.gamma * p * np.log(np.maximum(p, 1e-30))
            shares *= (rest ** (self.gamma - 1) * bent)[:, None]
        return shares[:, 1:] if one else shares
