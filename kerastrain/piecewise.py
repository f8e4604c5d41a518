"""Continuous functions of straight pieces: calibration curves, widths of intervals."""

from dataclasses import dataclass

import numpy as np
from sklearn.isotonic import IsotonicRegression

__all__ = ["Piecewise"]

MAX_KNOTS = 64
# Differences of 1e-6 between two machines may grow to 2e-5, and no more.
STEEPEST = 20.0


@dataclass(frozen=True)
class Piecewise:
    """Straight lines between knots, level outside of them.

    Args:
        x: of the knots, rising.
        y: of the knots.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]

    @classmethod
    def level(cls, y: float) -> "Piecewise":
        """The same everywhere."""
        return cls((0.0,), (float(y),))

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> "Piecewise":
        return cls(tuple(x.tolist()), tuple(y.tolist()))

    @classmethod
    def rising(
        cls, scores: np.ndarray, outcomes: np.ndarray, weight: np.ndarray
    ) -> "Piecewise":
        """Share of `outcomes` by score in [0, 1], which rises wherever it is not level.

        Isotonic regression, drawn through the centres of its steps, so that scores
        keep their order.

        Args:
            outcomes: 0 or 1, `(rows,)`, like the others.

        Reference: Oron and Flournoy 2017, "Centered isotonic regression". DIFFERS: no
        step is as low as 0 or as high as 1, the steepest and the least are merged, and
        beyond the outermost centres the curve goes half the way to 0 and 1.
        """
        x, y, counts = _steps(scores.astype("float64"), outcomes, weight)
        least, most = 0.5 / (counts[0] + 1), 1 - 0.5 / (counts[-1] + 1)
        if len(y) == 1:
            y = np.clip(y, least, most)
        else:  # the order stays
            y[0] = max(y[0], min(least, y[1] / 2))
            y[-1] = min(y[-1], max(most, (1 + y[-2]) / 2))
        low = max(y[0] / 2, y[0] - STEEPEST * x[0])
        high = min((1 + y[-1]) / 2, y[-1] + STEEPEST * (1 - x[-1]))
        if x[0] > 1e-6:
            x, y = np.append(0, x), np.append(low, y)
        if x[-1] < 1 - 1e-6:
            x, y = np.append(x, 1), np.append(y, high)
        return cls.of(x, y)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """float32 of the same shape; see `layers_decision.interpolated`."""
        return np.interp(values, self.x, self.y).astype("float32")

    @property
    def steepness(self) -> float:
        """Of the steepest piece."""
        if len(self.x) < 2:
            return 0.0
        return float(np.abs(np.diff(self.y) / np.diff(self.x)).max())


Steps = tuple[np.ndarray, np.ndarray, np.ndarray]


def _steps(scores: np.ndarray, outcomes: np.ndarray, weight: np.ndarray) -> Steps:
    """Centre, height and weight of each step of the isotonic regression."""
    regression = IsotonicRegression().fit(scores, outcomes, sample_weight=weight)
    heights, step = np.unique(regression.predict(scores), return_inverse=True)
    counts = np.bincount(step, weights=weight)
    # A mean of equal numbers may miss them by the last digit, and then the order too.
    centres = np.maximum.accumulate(np.bincount(step, weights=weight * scores) / counts)
    steps = centres, heights, counts
    while len(steps[0]) > 1:
        x, y, _ = steps
        slopes = np.diff(y) / np.maximum(np.diff(x), 1e-12)
        steepest = int(slopes.argmax())
        if slopes[steepest] > STEEPEST:
            steps = _merged(steps, steepest)
        elif len(x) > MAX_KNOTS:
            steps = _merged(steps, int(np.diff(y).argmin()))
        else:
            break
    return steps


def _merged(steps: Steps, place: int) -> Steps:
    """With the step at `place` and the next one as one."""
    two = slice(place, place + 2)
    counts = steps[2]
    merged = [np.delete(values, place + 1) for values in steps]
    for new, old in zip(merged[:2], steps[:2], strict=True):
        new[place] = np.average(old[two], weights=counts[two])
    merged[2][place] = counts[two].sum()
    return merged[0], merged[1], merged[2]
