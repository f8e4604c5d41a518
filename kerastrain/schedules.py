"""How the learning rate moves over training.

A schedule is a function of the highest rate and the number of optimiser steps. Keras
is imported inside, because reading this table may not cost an import of TensorFlow.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from kerastrain.errors import ConfigError
from kerastrain.registry import Registry

if TYPE_CHECKING:
    import keras

__all__ = ["SCHEDULES", "Monitor", "Schedule"]

SCHEDULES = Registry(
    "schedule",
    {
        "cosine": "kerastrain.schedules:cosine",
        "step": "kerastrain.schedules:step",
        "constant": "kerastrain.schedules:constant",
        "plateau": "kerastrain.schedules:plateau",
    },
)


class Monitor(NamedTuple):
    """The validation metric to watch, and whether `"min"` or `"max"` is better."""

    name: str
    mode: str


@dataclass
class Schedule:
    """What the optimiser takes as its rate, and the callbacks that go with it."""

    learning_rate: "float | keras.optimizers.schedules.LearningRateSchedule"
    callbacks: "list[keras.callbacks.Callback]" = field(default_factory=list)


def cosine(
    learning_rate: float,
    total_steps: int,
    monitor: Monitor,
    *,
    warmup: float = 0.05,
    final: float = 0.0,
) -> Schedule:
    """Linear warm-up, then half a cosine down to the share `final` of the rate.

    Args:
        warmup: share of the steps in which the rate grows.
        final: share of the rate that is left after the last step.

    Reference: Loshchilov, Hutter 2017, SGDR, without restarts.
    """
    import keras

    _check("cosine.final", final)
    num_warm = _warm_steps("cosine.warmup", warmup, total_steps)
    num_falling = max(1, total_steps - num_warm)
    decay = keras.optimizers.schedules.CosineDecay
    if num_warm == 0:
        return Schedule(decay(learning_rate, num_falling, alpha=final))
    # Not from 0: the first step would be spent without moving.
    start = learning_rate / num_warm
    return Schedule(
        decay(
            start,
            num_falling,
            alpha=final,
            warmup_target=learning_rate,
            warmup_steps=num_warm,
        )
    )


def step(
    learning_rate: float,
    total_steps: int,
    monitor: Monitor,
    *,
    factor: float = 0.1,
    at: Sequence[float] = (0.5, 0.75),
) -> Schedule:
    """Constant rate, multiplied by `factor` at given shares of training.

    Args:
        factor: what the rate is multiplied by each time.
        at: shares of the steps after which that happens, growing.
    """
    import keras

    for share in at:
        _check("step.at", share)
    if list(at) != sorted(set(at)):
        raise ConfigError(f"schedule.step.at: expected growing shares, got {list(at)}.")
    if factor <= 0:
        raise ConfigError(f"schedule.step.factor: expected more than 0, got {factor}.")
    if not at:
        return Schedule(learning_rate)
    # Keras changes the value after the boundary, hence one less.
    boundaries = [round(share * total_steps) - 1 for share in at]
    values = [learning_rate * factor**count for count in range(len(at) + 1)]
    rates = keras.optimizers.schedules.PiecewiseConstantDecay
    return Schedule(rates(boundaries, values))


def constant(
    learning_rate: float,
    total_steps: int,
    monitor: Monitor,
    *,
    warmup: float = 0.05,
) -> Schedule:
    """Linear warm-up, then always the same rate.

    Args:
        warmup: share of the steps in which the rate grows.
    """
    import keras

    num_warm = _warm_steps("constant.warmup", warmup, total_steps)
    if num_warm == 0:
        return Schedule(learning_rate)
    line = keras.optimizers.schedules.PolynomialDecay  # of power 1, upwards
    return Schedule(line(learning_rate / num_warm, num_warm, learning_rate))


def plateau(
    learning_rate: float,
    total_steps: int,
    monitor: Monitor,
    *,
    factor: float = 0.3,
    patience: int = 4,
) -> Schedule:
    """Constant rate, multiplied by `factor` when the monitored metric stands still.

    Args:
        factor: what the rate is multiplied by, below 1.
        patience: epochs without a better metric before that happens.
    """
    import keras

    _check("plateau.factor", factor)
    watch = keras.callbacks.ReduceLROnPlateau(
        monitor=monitor.name,
        mode=monitor.mode,
        factor=factor,
        patience=patience,
        min_delta=0.0,  # "better" as early stopping has it: any gain counts
    )
    return Schedule(learning_rate, [watch])


def _warm_steps(name: str, share: float, total_steps: int) -> int:
    _check(name, share)
    return round(share * total_steps)


def _check(name: str, share: float) -> None:
    if not 0 <= share < 1:
        raise ConfigError(
            f"schedule.{name}: expected a share from 0 to below 1, got {share}."
        )
