"""A model that Keras cannot hold whole: a front, another library, a decision.

Raw columns pass through the front to clean matrices, an estimator of another library
makes outputs of them in Python, and what they mean is decided by Keras layers again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from kerastrain.errors import ConfigError
from kerastrain.store import ModelParts, atomic

__all__ = ["Outside", "Savable", "chained", "save_chain"]


class Savable(Protocol):
    """An estimator that is used here, and saved as its library does it."""

    @property
    def name(self) -> str: ...

    def scores(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray: ...

    def save(self, path: Path) -> None: ...


class Outside(keras.layers.Layer):
    """Asks an estimator of another library, in Python; no file can hold this layer.

    Shapes: a dict with `numbers` float32 `(batch, n)` and `codes` int32 `(batch, m)`,
    or one of them, to outputs float32 `(batch, num_outputs)`.
    """

    def __init__(self, estimator: Savable, num_outputs: int, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self.estimator, self.num_outputs = estimator, num_outputs

    def compute_output_spec(self, matrices: Mapping[str, Any]) -> keras.KerasTensor:
        batch = next(iter(matrices.values())).shape[0]
        return keras.KerasTensor((batch, self.num_outputs), "float32")

    def call(self, matrices: Mapping[str, Any]) -> Any:
        num_rows = tf.shape(next(iter(matrices.values())))[0]
        pair = [
            matrices[name] if name in matrices else tf.zeros((num_rows, 0), dtype)
            for name, dtype in (("numbers", "float32"), ("codes", "int32"))
        ]
        outputs = tf.numpy_function(self._scores, pair, "float32")
        return tf.ensure_shape(outputs, (None, self.num_outputs))

    def _scores(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        return np.asarray(self.estimator.scores(numbers, codes), "float32")

    def get_config(self) -> dict[str, Any]:
        """ConfigError: Keras asks for it when it saves or copies a model."""
        raise ConfigError(
            f"{self.estimator.name} is no Keras model, so a model with it cannot be "
            "saved as one. The folder of the run holds it: kerastrain.load(folder)."
        )


def chained(
    front: keras.Model, estimator: Savable, decision: keras.Model
) -> keras.Model:
    """Raw columns to the decision, for use in this process.

    Args:
        front: raw columns to clean matrices.
        decision: `outputs` to the decision.
    """
    inputs = {tensor.name: tensor for tensor in front.inputs}
    (outputs,) = decision.inputs
    found = Outside(estimator, outputs.shape[1])(front(inputs))
    return keras.Model(inputs, decision({outputs.name: found}), name="kerastrain")


def save_chain(
    folder: Path, front: keras.Model, estimator: Savable, decision: keras.Model
) -> None:
    """Write its parts into a folder, whole or not at all; nothing is pickled.

    Raises:
        ConfigError: the estimator cannot be saved.
    """
    with atomic(folder) as temporary:
        temporary.mkdir()
        parts = ModelParts(temporary)
        front.save(parts.front)
        estimator.save(parts.estimator)
        decision.save(parts.decision)
