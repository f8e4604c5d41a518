"""The learning rate as a function of the step: warm-up, then a shape, times a scale."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import ops

from kerastrain.errors import ConfigError
from kerastrain.events import warn
from kerastrain.schedules import Steps

__all__ = ["Course", "Rate", "Schedule", "check_share", "course_of"]

Shape = Callable[[Any], Any]


class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """`peak * scale * shape(step)`, never below 0 and never above `peak * scale`.

    Create it under the strategy that trains: the scale is a variable. It is no variable
    of the optimiser, so whoever writes a checkpoint has to write it too.

    Args:
        peak: the highest rate.
        shape: share of it, by float32 steps after the warm-up.
        num_warm: steps in which the rate grows in a line, from `peak / num_warm`
            because from 0 the first step would be spent without moving.

    Attributes:
        scale: float32 variable, 1 at first; what went wrong in training lowers it.
    """

    def __init__(self, peak: float, shape: Shape, num_warm: int = 0):
        self.peak = peak
        self.shape = shape
        self.num_warm = num_warm
        self.scale = keras.Variable(
            1.0, trainable=False, dtype="float32", autocast=False, name="rate_scale"
        )

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")  # counts exactly up to 16.7 million
        share = self.shape(ops.maximum(step - self.num_warm, 0.0))
        if self.num_warm:
            first = 1 / self.num_warm
            warm = first + (1 - first) * step * first
            share = ops.where(step < self.num_warm, warm, share)
        return self.peak * self.scale * ops.clip(share, 0.0, 1.0)

    def lower(self, factor: float) -> None:
        """Multiply the rate of all steps to come."""
        self.scale.assign(self.scale * factor)

    def get_config(self) -> dict[str, Any]:
        """For trackers that list it; a model is saved without its optimiser."""
        return {"peak": self.peak, "num_warm": self.num_warm}


@dataclass
class Schedule:
    """What the optimiser takes as its rate, and the callbacks that go with it."""

    learning_rate: Rate
    callbacks: list[keras.callbacks.Callback] = field(default_factory=list)


@dataclass(frozen=True)
class Course:
    """A training in two parts: steps of warm-up, and those after it (1 at least)."""

    num_warm: int
    num_after: int

    def share(self, step: Any) -> Any:
        """Of the second part, from 0 to 1, by steps of it."""
        return ops.minimum(step / self.num_after, 1.0)

    def schedule(self, peak: float, shape: Shape) -> Schedule:
        return Schedule(Rate(peak, shape, self.num_warm))


def course_of(name: str, steps: Steps, warmup: float | int | str) -> Course:
    """The parts of a training.

    Args:
        name: of the schedule, for messages.
        warmup: a share of the steps (0.05), steps (500 or "500 steps") or epochs
            ("2 epochs").

    Raises:
        ConfigError: `warmup` is none of these.
    """
    num_warm = _warm_steps(f"{name}.warmup", steps, warmup)
    if num_warm > steps.total:
        warn(
            "warmup_too_long",
            f"schedule.{name}.warmup: {warmup} is longer than training, which has "
            f"{steps.total:,} steps: the rate never gets to its peak. Warm up for a "
            f"share of the steps: --set schedule.warmup=0.05.",
            num_warm=num_warm,
            num_steps=steps.total,
        )
    return Course(num_warm, max(1, steps.total - num_warm))


def _warm_steps(name: str, steps: Steps, warmup: float | int | str) -> int:
    if isinstance(warmup, float) and 0 <= warmup < 1:
        return round(warmup * steps.total)
    if isinstance(warmup, int) and not isinstance(warmup, bool) and warmup >= 0:
        return warmup
    text = warmup if isinstance(warmup, str) else ""
    match = re.fullmatch(r"\s*(\d+|\d+\.\d+)\s*(steps?|epochs?)\s*", text)
    if match:
        unit = steps.per_epoch if match[2].startswith("epoch") else 1
        return round(float(match[1]) * unit)
    raise ConfigError(
        f"schedule.{name}: expected a share from 0 to below 1, steps (500) or epochs "
        f"('2 epochs'), got {warmup}."
    )


def check_share(name: str, share: float) -> None:
    """ConfigError where the option `name` is no share."""
    if not 0 <= share < 1:
        raise ConfigError(
            f"schedule.{name}: expected a share from 0 to below 1, got {share}."
        )
