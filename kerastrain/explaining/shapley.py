"""Shapley values of raw columns, by sampling orders of the columns.

From a background row to the row that is explained the columns are switched over one
by one, in a random order and in its reverse; what a switch changes is credited to its
column. So the contributions of a row sum to its answer minus the mean answer of the
background, by construction and to the last digits.

Reference: Strumbelj and Kononenko 2014, algorithm 1; Mitchell, Cooper, Frank and Holmes
2022, section 4.1, for the pairs of an order and its reverse. DIFFERS: every row goes
through the same orders, so that what a row is told does not depend on its neighbours.
"""

import numpy as np
import tensorflow as tf

from kerastrain.explaining.predictor import BATCH_ROWS, Feed, Predictor, take

__all__ = ["num_asked", "shapley"]


def num_asked(num_columns: int, num_background: int) -> int:
    """Rows that the model is asked for each row that is explained."""
    return 2 * num_background * max(num_columns - 1, 1)


def shapley(
    predictor: Predictor, feed: Feed, background: Feed, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Contributions `(rows, columns, outputs)`, and the base they start from.

    Args:
        feed: rows to explain; columns in its order.
        background: rows to compare with; each goes with one pair of orders.

    Shapes: the base is `(outputs,)`, the mean answer of the background.
    """
    random = np.random.default_rng(seed)
    num_columns = len(feed)
    ends, starts = predictor.values(feed), predictor.values(background)
    found = np.zeros((len(ends), num_columns, ends.shape[1]))
    # So that each call of the model is of about one batch.
    step = max(1, BATCH_ROWS // (2 * num_columns))
    for place in range(len(starts)):
        order = random.permutation(num_columns)
        origin = take(background, np.array([place]))
        for first in range(0, len(ends), step):
            rows = np.arange(first, min(first + step, len(ends)))
            between = _between(predictor, take(feed, rows), origin, order)
            for way, answers in zip((order, order[::-1]), between, strict=True):
                walk = np.concatenate(
                    [
                        np.broadcast_to(starts[place], (len(rows), 1, ends.shape[1])),
                        answers,
                        ends[rows, None],
                    ],
                    axis=1,
                )
                found[rows[:, None], way[None]] += np.diff(walk, axis=1)
    return found / (2 * len(starts)), starts.mean(axis=0)


def _between(
    predictor: Predictor, feed: Feed, origin: Feed, order: np.ndarray
) -> np.ndarray:
    """Answers on the way, `(2, rows, columns - 1, outputs)`: forward and back."""
    num_columns = len(order)
    is_on = np.zeros((2, num_columns - 1, num_columns), "bool")
    for way, columns in enumerate((order, order[::-1])):
        for count in range(1, num_columns):
            is_on[way, count - 1, columns[:count]] = True
    flat = is_on.reshape(-1, num_columns)
    mixed = {
        name: tf.reshape(tf.where(flat[None, :, i], values[:, None], origin[name]), -1)
        for i, (name, values) in enumerate(feed.items())
    }
    num_rows = len(next(iter(feed.values())))
    answers = predictor.values(mixed) if num_columns > 1 else _none(predictor, feed)
    shaped = answers.reshape(num_rows, 2, num_columns - 1, answers.shape[-1])
    return np.moveaxis(shaped, 1, 0)


def _none(predictor: Predictor, feed: Feed) -> np.ndarray:
    """No answers, of the right width: a single column has no way between."""
    return predictor.values(take(feed, np.array([0])))[:0]
