"""The model as one function of raw columns: answers for any number of rows, timed."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from kerastrain.schema import Schema, Task

__all__ = ["Answers", "Feed", "Predictor", "feed_of", "take"]

BATCH_ROWS = 8_192  # rows per call of the model, as in `serving`

Feed = dict[str, tf.Tensor]


def feed_of(raw: Mapping[str, np.ndarray], schema: Schema) -> Feed:
    """Raw columns, by input name, as the tensors that the model takes."""
    return {c.input: tf.constant(raw[c.input], c.dtype) for c in schema.features}


def take(feed: Feed, rows: np.ndarray) -> Feed:
    return {name: tf.gather(values, rows) for name, values in feed.items()}


@dataclass(frozen=True)
class Answers:
    """What the model says.

    Args:
        values: float64 `(rows, outputs)`: a probability for each class, or the value.
        labels: the class that each row is given, `(rows,)`; None for a regression.
    """

    values: np.ndarray
    labels: np.ndarray | None = None


class Predictor:
    """Asks a model from raw columns to the decision, in batches.

    Args:
        task: which says what of its outputs is explained.
    """

    def __init__(self, model: keras.Model, task: Task):
        self.is_regression = task == "regression"
        spec = {t.name: tf.TensorSpec((None,), t.dtype) for t in model.inputs}
        # The number of rows is open, so no later call traces the model again. The
        # concrete function is called, or TensorFlow warns of many models in a process.
        self._call = tf.function(
            lambda columns: model(columns, training=False), input_signature=[spec]
        ).get_concrete_function()
        self._num_rows, self._seconds, self._is_warm = 0, 0.0, False

    @property
    def rows_per_s(self) -> float:
        """As measured so far, without the first call, which sets things up."""
        return self._num_rows / max(self._seconds, 1e-6)

    def values(self, feed: Feed) -> np.ndarray:
        """float64 `(rows, outputs)`."""
        return np.concatenate([self._values(out) for out in self._outputs(feed)])

    def answers(self, feed: Feed) -> Answers:
        """Values and the label of each row."""
        outputs = self._outputs(feed)
        values = np.concatenate([self._values(out) for out in outputs])
        if self.is_regression:
            return Answers(values)
        texts = np.concatenate([out["prediction"].numpy() for out in outputs])
        return Answers(values, np.array([text.decode("utf-8") for text in texts]))

    def _outputs(self, feed: Feed) -> list[Feed]:
        num_rows = len(next(iter(feed.values())))
        starts = range(0, num_rows, BATCH_ROWS) if num_rows else [0]
        batches = [{k: v[i : i + BATCH_ROWS] for k, v in feed.items()} for i in starts]
        return [self._timed(batch) for batch in batches]

    def _timed(self, batch: Feed) -> Feed:
        started_s = time.monotonic()
        outputs: Feed = self._call(batch)
        next(iter(outputs.values())).numpy()  # waits for a device that runs ahead
        if self._is_warm:
            self._seconds += time.monotonic() - started_s
            self._num_rows += len(next(iter(batch.values())))
        self._is_warm = True
        return outputs

    def _values(self, outputs: Feed) -> np.ndarray:
        if self.is_regression:
            return outputs["prediction"].numpy().astype("float64").reshape(-1, 1)
        values = outputs["probabilities"].numpy().astype("float64")
        # In half precision rows miss the sum of 1 by up to 1 %.
        return values / values.sum(axis=1, keepdims=True)
