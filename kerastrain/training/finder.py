"""The learning rate measured: a few steps at growing rates, then all is put back.

Smith 2017, Cyclical learning rates for training neural networks, section 3.3; with the
smoothing and the end of the sweep of fastai.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import ops

from kerastrain.blocks import Blocks
from kerastrain.engine import Engine
from kerastrain.events import note, warn
from kerastrain.schedules.rate import Rate
from kerastrain.training.state import unchanged

__all__ = ["RateCurve", "find_rate", "tenth_of_best"]

SMOOTHING = 0.9  # weight of the past; fastai's 0.98 lags half of a sweep behind
DIVERGED = 4.0  # times the least loss
SETTLED = 10  # points until the average is one; before, a single loss rules
HEAD = 20  # points after them, at rates too low to learn, that show the noise
NOISE = 9.0  # times the spread of a change; pure noise falls more 1 time in 25


@dataclass(frozen=True)
class RateCurve:
    """What a sweep over learning rates has shown.

    Args:
        rates: of the steps, growing.
        losses: smoothed, at each of them.
        suggested: a tenth of the rate of the least loss; None if it does not fall.
    """

    rates: Sequence[float]
    losses: Sequence[float]
    suggested: float | None

    def summary(self) -> dict[str, Any]:
        """For `metrics.json`: `points`, pairs of rate and loss, and `suggested`."""
        points = [list(pair) for pair in zip(self.rates, self.losses, strict=True)]
        return {"points": points, "suggested": self.suggested}


def find_rate(
    engine: Engine,
    blocks: Blocks,
    rate: Rate,
    *,
    lowest: float = 1e-7,
    highest: float = 1.0,
    num_steps: int = 100,
) -> RateCurve:
    """Train some steps at growing rates; afterwards nothing of it is left.

    Weights, optimiser, averages and random generators are put back to the last bit.

    Args:
        engine: prepared, with `rate` in its optimiser.
        blocks: the batches; an epoch of few steps is gone through several times.
        lowest: rate of the first step; it grows by the same factor each time.
        highest: rate of the last step.
        num_steps: at most; a loss that goes up for good ends the sweep before.
    """
    single = replace(blocks, steps_per_call=1, epoch=0)
    sweep = _Sweep(single, num_steps)
    with unchanged(engine):
        _use_rate(engine, _growing(engine, lowest, highest, num_steps))
        try:
            engine.fit(
                engine.distributed(single),
                epochs=math.ceil(num_steps / single.num_steps),
                callbacks=[sweep],
                verbose=0,
                shuffle=False,
            )
        finally:
            _use_rate(engine, rate)
    losses = smoothed(sweep.losses)
    curve = RateCurve(sweep.rates, losses, tenth_of_best(sweep.rates, losses))
    _tell(curve)
    return curve


def smoothed(losses: Sequence[float]) -> list[float]:
    """Exponential moving average with its bias towards 0 corrected."""
    average, smooth = 0.0, []
    for count, loss in enumerate(losses, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smooth.append(average / (1 - SMOOTHING**count))
    return smooth


def tenth_of_best(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """A tenth of the rate at which smoothed losses are least.

    The rate at which they fall fastest was 2 to 11 times lower on adult, california and
    letter, and gave worse models there after 6 epochs, on california also after 100.

    None where losses fall by no more than noise does, or are too few.
    """
    settled = np.asarray(losses)[SETTLED:]
    if len(settled) < HEAD:
        return None
    head, best = settled[:HEAD], int(settled.argmin())
    fall = head.mean() - settled[best]
    if best < HEAD or fall <= NOISE * np.diff(head).std():
        return None
    return rates[SETTLED + best] / 10


class _Sweep(keras.callbacks.Callback):
    """Keeps rate and loss of each step, and ends the fit when they tell no more."""

    def __init__(self, blocks: Blocks, num_steps: int):
        super().__init__()
        self.blocks = blocks
        self.num_left = num_steps
        self.rates: list[float] = []
        self.losses: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.blocks.epoch = epoch
        # What learns from a later epoch on does not learn here.
        self.model.begin_epoch(0, self.blocks.num_blocks)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._rate = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        loss = float((logs or {})["loss"])
        self.model.reset_metrics()  # the loss of each step, not of all so far
        self.num_left -= 1
        # With a loss scale a step that overflows is skipped, and the next one is tried.
        is_skipped = self.model.num_bad and self.model.is_loss_scaled
        is_over = self.model.num_bad and not is_skipped
        if math.isfinite(loss) and not is_skipped and not is_over:
            self.rates.append(self._rate)
            self.losses.append(loss)
            smooth = smoothed(self.losses)
            best = min(smooth)  # below 0 for some losses
            is_over = smooth[-1] > best + (DIVERGED - 1) * abs(best)
        is_over = is_over or not math.isfinite(loss) or not self.num_left
        self.model.stop_training = is_over


def _growing(engine: Engine, lowest: float, highest: float, num_steps: int) -> Rate:
    """From `lowest` to `highest` in equal factors, from the step that comes next on."""
    first = int(ops.convert_to_numpy(engine.optimizer.iterations))
    span = math.log(lowest / highest)

    def shape(step: Any) -> Any:
        return ops.exp(span * (1 - (step - first) / max(1, num_steps - 1)))

    return Rate(highest, shape)


def _use_rate(engine: Engine, rate: Rate) -> None:
    engine.optimizer.learning_rate = rate
    engine.retrace()


def _tell(curve: RateCurve) -> None:
    if curve.suggested is None:
        warn(
            "rate_not_found",
            f"No learning rate was found: in {len(curve.rates)} steps of growing rate "
            "the loss did not fall. Set one: --set optimizer.learning_rate=0.001.",
            num_steps=len(curve.rates),
        )
        return
    note(
        "rate_found",
        f"Learning rate {curve.suggested:.2g} was found: a tenth of the one at which "
        f"the loss was least in {len(curve.rates)} steps of growing rate. It is the "
        "highest of the schedule.",
        rate=curve.suggested,
        num_steps=len(curve.rates),
    )
