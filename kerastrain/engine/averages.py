"""Averages of the weights over training; validated and kept in place of the last ones.

Polyak, Juditsky 1992 (ema); Izmailov et al. 2018 (swa).
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastrain.config import AverageConfig

__all__ = ["Average"]


class Average:
    """A running average of variables, in variables of its own.

    Moving statistics of batch normalisation are averaged with the weights in `ema`;
    those of `swa` belong to weights of very different epochs and have to be measured
    again (`training.averaged.measure_statistics`).

    Args:
        config: which average.
        model: its trainable variables and moving statistics are averaged.
        epochs: of the training, for the share at which `swa` starts.
    """

    def __init__(self, config: AverageConfig, model: keras.Model, epochs: int):
        self.config = config
        self.first_epoch = int(config.start * epochs) if config.name == "swa" else 0
        self.num_averaged = 0
        moving = moving_statistics(model)
        is_ema = config.name == "ema"
        self.weights = [*model.trainable_variables, *(moving if is_ema else [])]
        self._measured = [] if is_ema else moving
        self.variables = [
            tf.Variable(w.value, trainable=False, name=f"average_{i}")
            for i, w in enumerate(self.weights)
        ]

    def step(self, strategy: tf.distribute.Strategy, iterations: tf.Tensor) -> None:
        """After a step, in the compiled loop and outside of the replicas."""
        if self.config.name != "ema":
            return
        # Less in the first steps, else the first weights stay in it for long.
        count = tf.cast(iterations, tf.float32)
        momentum = tf.minimum(self.config.momentum, (1 + count) / (10 + count))

        def move(average: Any, weight: Any) -> Any:
            return average.assign(average + (1 - momentum) * (weight - average))

        for average, weight in zip(self.variables, self.weights, strict=True):
            strategy.extended.update(average, move, args=(weight.value,))

    def end_epoch(self, epoch: int) -> None:
        """After epoch number `epoch`, from 0."""
        if self.config.name != "swa" or epoch < self.first_epoch:
            return
        self.num_averaged += 1
        for average, weight in zip(self.variables, self.weights, strict=True):
            now = average.numpy()
            average.assign(now + (weight.numpy() - now) / self.num_averaged)

    @property
    def is_begun(self) -> bool:
        return self.config.name == "ema" or self.num_averaged > 0

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside the block the model has the averaged weights."""
        changed = [*self.weights, *self._measured]
        before = [variable.numpy() for variable in changed]
        self.keep()
        try:
            yield
        finally:
            _assign(changed, before)

    def keep(self) -> None:
        """The model has the averaged weights from now on."""
        _assign(self.weights, [average.numpy() for average in self.variables])


def _assign(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Layers with moving statistics, nested ones too."""
    kind = keras.layers.BatchNormalization
    return [layer for layer in model._flatten_layers() if isinstance(layer, kind)]


def moving_statistics(model: keras.Model) -> list[Any]:
    """Their moving means and variances."""
    layers = batch_norms(model)
    return [v for layer in layers for v in (layer.moving_mean, layer.moving_variance)]
