"""How many epochs a time limit leaves, so that the schedule of the rate ends in it."""

import time

import numpy as np

from kerastrain.blocks import Blocks
from kerastrain.engine import Engine
from kerastrain.errors import OutOfTime
from kerastrain.events import note
from kerastrain.training.batchsize import rows_per_second

__all__ = ["epochs_within", "is_surely_within"]

# Multiplications and additions of a core in a second, on a slow machine, and what of
# the time a fit that is surely short may take.
_SLOW_FLOPS, _SURE_SHARE = 2e9, 0.1
# Of an epoch beside its steps: validation, checkpoints, callbacks.
_REST_S = 0.05
# A validation row takes a forward pass; a train row that and two backward.
_FORWARD_SHARE = 1 / 3
_MARGIN = 0.9


def is_surely_within(
    engine: Engine, num_rows: int, epochs: int, seconds: float
) -> bool:
    """Whether so many epochs take so little of the time that none of it is measured."""
    weights = sum(int(np.prod(v.shape)) for v in engine.trainable_variables)
    return 6.0 * weights * num_rows * epochs / _SLOW_FLOPS < _SURE_SHARE * seconds


def epochs_within(
    engine: Engine,
    blocks: Blocks,
    num_validation: int,
    epochs: int,
    end_s: float,
    *,
    least: int = 1,
) -> int:
    """At most `epochs`, at least 1: as many as will be done at `end_s`.

    Steps are taken with real rows; afterwards the engine is what it was. A schedule
    that is cut off at its highest rate leaves a much worse network than a shorter one
    that ends.

    Args:
        engine: prepared.
        num_validation: rows that are scored after each epoch.
        end_s: by `time.monotonic`; compiling once more is reckoned with.
        least: epochs that have to fit, if so many are wanted.

    Raises:
        OutOfTime: fewer fit.
    """
    begun_s = time.monotonic()
    speed = rows_per_second(engine, blocks, 2)
    if speed is None:  # memory ended; training divides its steps
        return epochs
    num_train = len(blocks.rows)
    epoch_s = (num_train + _FORWARD_SHARE * num_validation) / speed + _REST_S
    call_s = int(blocks.step_sizes[: blocks.steps_per_call].sum()) / speed
    compile_s = max(0.0, time.monotonic() - begun_s - 3 * call_s)
    left_s = _MARGIN * (end_s - time.monotonic() - compile_s)
    fitting = int(np.clip(left_s / epoch_s, 1, epochs))
    if fitting < min(least, epochs):
        raise OutOfTime(
            f"the time is enough for {fitting} of {epochs} epochs, and {least} are the "
            "least for it"
        )
    if fitting < epochs:
        note(
            "epochs_chosen",
            f"The time limit leaves {fitting:,} of {epochs:,} epochs, and the learning "
            "rate falls within them. For all of them: a longer --time-limit.",
            epochs=fitting,
            epoch_s=epoch_s,
        )
    return fitting
