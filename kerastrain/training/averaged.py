"""Averaged weights in the place of the last ones, while an epoch is looked at."""

from contextlib import ExitStack
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastrain.blocks import Blocks
from kerastrain.engine import Average, Batches, Engine, Guest
from kerastrain.engine.averages import batch_norms, moving_statistics

__all__ = ["averaged"]

# Batches over which statistics are measured; Izmailov et al. take all, which costs an
# epoch for each.
STATISTICS_BATCHES = 50


def averaged(
    engine: Engine | Guest, blocks: Blocks | Batches, *, keeps_last: bool = False
) -> tuple[list[keras.callbacks.Callback], list[keras.callbacks.Callback]]:
    """Callbacks for before and behind those that look at an epoch; none without an
    average.

    Args:
        keeps_last: training ends on the average.
    """
    if engine.average is None:
        return [], []
    stack = ExitStack()
    before = _Before(engine.average, engine, blocks, stack)
    return [before], [_Behind(engine.average, stack, keeps_last=keeps_last)]


class _Before(keras.callbacks.Callback):
    remembered = ()

    def __init__(
        self,
        average: Average,
        engine: Engine | Guest,
        blocks: Blocks | Batches,
        stack: ExitStack,
    ):
        super().__init__()
        self._average = average
        self._engine = engine
        self._blocks = blocks
        self._stack = stack

    def on_train_begin(self, logs: Any = None) -> None:
        self._is_inside = False
        self._stack.close()  # of a fit that broke off inside; `Keeper` puts all back

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch, self._is_inside = epoch, False

    def on_test_begin(self, logs: Any = None) -> None:
        """Where Keras itself evaluates, before `on_epoch_end`."""
        self._enter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._enter()

    def _enter(self) -> None:
        if self._is_inside:
            return
        self._is_inside = True
        self._average.end_epoch(self._epoch)
        if not self._average.is_begun:
            return
        self._stack.enter_context(self._average.in_place())
        if self._average.config.name == "swa" and batch_norms(self._engine.model):
            measure_statistics(self._engine, self._blocks)


class _Behind(keras.callbacks.Callback):
    remembered = ("num_averaged",)

    def __init__(self, average: Average, stack: ExitStack, *, keeps_last: bool):
        super().__init__()
        self._average = average
        self._stack = stack
        self._keeps_last = keeps_last

    @property
    def num_averaged(self) -> int:
        return self._average.num_averaged

    @num_averaged.setter
    def num_averaged(self, value: int) -> None:
        self._average.num_averaged = value

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._stack.close()

    def on_train_end(self, logs: Any = None) -> None:
        if self._keeps_last and self._average.is_begun:
            self._average.keep()


def measure_statistics(engine: Engine | Guest, blocks: Any) -> None:
    """Moving statistics of batch normalisation as the mean over batches of train rows,
    for the weights that the model has now. Seeds of random layers are put back."""
    model = engine.model
    layers = batch_norms(model)
    moving = moving_statistics(model)
    measured = {id(variable) for variable in moving}
    others = [v for v in model.non_trainable_variables if id(v) not in measured]
    before = [v.numpy() for v in others]
    momenta = [layer.momentum for layer in layers]
    strategy = model.distribute_strategy
    sums = [np.zeros(v.shape, "float64") for v in moving]
    for layer in layers:
        layer.momentum = 0.0  # read while it is traced: what moves in is the batch's

    def forward(x: Any) -> None:
        strategy.run(lambda x: model(x, training=True), args=(x,))

    compiled = tf.function(forward, reduce_retracing=True)
    try:
        count = 0
        for inputs in engine.inputs_of(blocks, STATISTICS_BATCHES):
            compiled(inputs)
            count += 1
            sums = [s + v.numpy() for s, v in zip(sums, moving, strict=True)]
        for total, variable in zip(sums, moving, strict=True):
            variable.assign((total / count).astype("float32"))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for variable, value in zip(others, before, strict=True):
            variable.assign(value)
