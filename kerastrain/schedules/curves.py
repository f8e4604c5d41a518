"""Schedules that go by the step alone: warm-up, then a curve."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from kerastrain.errors import ConfigError
from kerastrain.schedules import Monitor, Steps
from kerastrain.schedules.rate import Course, Schedule, check_share, course_of

__all__ = [
    "constant", "cosine", "cosine_restarts", "coslog4", "exponential", "inverse_sqrt",
    "linear", "one_cycle", "polynomial", "step", "wsd",
]  # fmt: skip


def constant(
    peak: float,
    steps: Steps,
    monitor: Monitor,
    *,
    warmup: float | int | str = 0.05,
) -> Schedule:
    """Linear warm-up, then always the same rate.

    Args:
        warmup: share, steps or epochs ("2 epochs") in which the rate grows.
    """
    return course_of("constant", steps, warmup).schedule(peak, ops.ones_like)


def step(
    peak: float,
    steps: Steps,
    monitor: Monitor,
    *,
    warmup: float | int | str = 0.0,
    factor: float = 0.1,
    at: Sequence[float] = (0.5, 0.75),
) -> Schedule:
    """Constant rate, multiplied by `factor` at given shares of training.

    Args:
        warmup: share, steps or epochs ("2 epochs") in which the rate grows.
        factor: what the rate is multiplied by each time, at most 1.
        at: shares of all steps after which that happens, growing.
    """
    for share in at:
        check_share("step.at", share)
    if list(at) != sorted(set(at)):
        raise ConfigError(f"schedule.step.at: expected growing shares, got {list(at)}.")
    _check_factor("step.factor", factor)
    course = course_of("step", steps, warmup)
    places = [round(share * steps.total) - course.num_warm for share in at]

    def shape(after: Any) -> Any:
        return math.prod(
            (ops.where(after >= place, factor, 1.0) for place in places),
            start=ops.ones_like(after),
        )

    return course.schedule(peak, shape)


def exponential(
    peak: float,
    steps: Steps,
    monitor: Monitor,
    *,
    warmup: float | int | str = 0.05,
    final: float = 0.01,
) -> Schedule:
    """Linear warm-up, then a fall by the same factor in every step.

    Args:
        warmup: share, steps or epochs ("2 epochs") in which the rate grows.
        final: share of the rate that is left after the last step, above 0.
    """
    _check_factor("exponential.final", final)
    course = course_of("exponential", steps, warmup)

    def shape(after: Any) -> Any:
        return ops.exp(math.log(final) * course.share(after))

    return course.schedule(peak, shape)


def linear(
    peak: float,
    steps: Steps,
    monitor: Monitor,
    *,
    warmup: float | int | str = 0.05,
    final: float = 0.0,
) -> Schedule:
    """Linear warm-up, then a straight line down to the share `final` of the rate.

    Args:
        warmup: share, steps or epochs ("2 epochs") in which the rate grows.
        final: share of the rate that is left after the last step.
    """
    check_share("linear.final", final)
    course = course_of("linear", steps, warmup)
    return _falling(course, peak, final, lambda share: 1 - share)


def polynomial(
    peak: float,
    steps: Steps,
    monitor: Monitor,
    *,
    warmup: float | int | str = 0.05,
    final: float = 0.0,
    power: float = 2.0,
) -> Schedule:
    """Linear warm-up, then a fall with a power of the steps that are left.

    Args:
        warmup: share, steps or epochs ("2 epochs") in which the rate grows.
        final: share of the rate that is left after the last step.
        power: above 1 falls fast at first, below 1 at the end.
    """
    check_share("polynomial.final", final)
    if not power > 0:
        raise ConfigError(
            f"schedule.polynomial.power: expected more than 0, got {power}."
        )
    course = course_of("polynomial", steps, warmup)
    return _falling(course, peak, final, lambda share: ops.power(1 - share, power))


def cosine(
    peak: float,
    steps: Steps,
    monitor: Monitor,
    *,
    warmup: float | int | str = 0.05,
    final: float = 0.0,
) -> Schedule:
    """Linear warm-up, then half a cosine down to the share `final` of the rate.

    Args:
        warmup: share, steps or epochs ("2 epochs") in which the rate grows.
        final: share of the rate that is left after the last step.

    Reference: Loshchilov, Hutter 2017, SGDR, without restarts.
    """
    check_share("cosine.final", final)
    course = course_of("cosine", steps, warmup)
    return _falling(course, peak, final, _half_cosine)


def cosine_restarts(
    peak: float,
    steps: Steps,
    monitor: Monitor,
    *,
    warmup: float | int | str = 0.05,
    final: float = 0.0,
    periods: int = 3,
    growth: float = 2.0,
    shrink: float = 0.7,
) -> Schedule:
    """Linear warm-up, then several falls of half a cosine, each longer than the last.

    Args:
        warmup: share, steps or epochs ("2 epochs") in which the rate grows.
        final: share of the rate that is left at the end of each fall.
        periods: how many falls; the last ends with training.
        growth: how many times longer each is than the one before, 1 or more.
        shrink: how many times higher it starts than the one before, at most 1.

    Reference: Loshchilov, Hutter 2017, SGDR. DIFFERS: the length of the first fall
        follows from their number, so that no fall is cut short.
    """
    check_share("cosine_restarts.final", final)
    _check_factor("cosine_restarts.shrink", shrink)
    for option, value in (("periods", periods), ("growth", growth)):
        if value < 1:
            raise ConfigError(
                f"schedule.cosine_restarts.{option}: expected 1 or more, got {value}."
            )
    course = course_of("cosine_restarts", steps, warmup)
    lengths = np.float64(growth) ** np.arange(periods)
    ends = np.round(course.num_after * np.cumsum(lengths) / lengths.sum())
    starts = np.concatenate([[0], ends[:-1]])
    # In short trainings falls vanish: of those that start in the same step the last.
    sizes = np.maximum(1, ends - starts).astype("float32")
    peaks = (shrink ** np.arange(periods)).astype("float32")
    starts = starts.astype("float32")

    def shape(after: Any) -> Any:
        is_begun = ops.cast(ops.expand_dims(after, -1) >= starts, "int32")
        number = ops.sum(is_begun, axis=-1) - 1
        share = (after - ops.take(starts, number)) / ops.take(sizes, number)
        fall = final + (1 - final) * _half_cosine(ops.minimum(share, 1.0))
        return ops.take(peaks, number) * fall

    return course.schedule(peak, shape)


def one_cycle(
    peak: float,
    steps: Steps,
    monitor: Monitor,
    *,
    warmup: float | int | str = 0.45,
    low: float = 0.04,
    tail: float = 0.1,
    final: float = 0.0004,
) -> Schedule:
    """A line up, as long a line down, and a short one almost to nothing.

    Args:
        warmup: share, steps or epochs ("2 epochs") of the line up.
        low: share of the rate to which the line down falls.
        tail: share of all steps that the last line takes.
        final: share of the rate that is left after the last step, at most `low`.

    Reference: Smith, Topin 2018, Super-convergence. DIFFERS: the line up starts as the
        warm-up of every schedule, lower than `low`.
    """
    for option, share in (("low", low), ("tail", tail), ("final", final)):
        check_share(f"one_cycle.{option}", share)
    if final > low:
        raise ConfigError(
            f"schedule.one_cycle.final: expected at most low ({low}), got {final}."
        )
    course = course_of("one_cycle", steps, warmup)
    num_tail = min(round(tail * steps.total), course.num_after - 1)
    num_down = course.num_after - num_tail

    def shape(after: Any) -> Any:
        down = 1 - (1 - low) * after / num_down
        share = ops.minimum((after - num_down) / max(1, num_tail), 1.0)
        return ops.where(after < num_down, down, low + (final - low) * share)

    return course.schedule(peak, shape)


def wsd(
    peak: float,
    steps: Steps,
    monitor: Monitor,
    *,
    warmup: float | int | str = 0.05,
    decay: float = 0.2,
    final: float = 0.0,
) -> Schedule:
    """Linear warm-up, a long stable rate, and a fall with a root at the end.

    Args:
        warmup: share, steps or epochs ("2 epochs") in which the rate grows.
        decay: share of all steps in which it falls.
        final: share of the rate that is left after the last step.

    Reference: Haegele et al. 2024, Scaling laws beyond fixed training durations; the
        fall by one minus the square root is their best.
    """
    check_share("wsd.decay", decay)
    check_share("wsd.final", final)
    course = course_of("wsd", steps, warmup)
    num_fall = min(round(decay * steps.total), course.num_after)

    def shape(after: Any) -> Any:
        share = (after - (course.num_after - num_fall)) / max(1, num_fall)
        return 1 - (1 - final) * ops.sqrt(ops.clip(share, 0.0, 1.0))

    return course.schedule(peak, shape)


def inverse_sqrt(
    peak: float,
    steps: Steps,
    monitor: Monitor,
    *,
    warmup: float | int | str = 0.05,
) -> Schedule:
    """Linear warm-up, then a fall with the root of the steps, which has no end.

    Args:
        warmup: share, steps or epochs ("2 epochs") in which the rate grows; after
            three times as many more it is half.

    Reference: Vaswani et al. 2017, Attention is all you need, section 5.3.
    """
    course = course_of("inverse_sqrt", steps, warmup)
    num_warm = max(1, course.num_warm)

    def shape(after: Any) -> Any:
        return ops.rsqrt(1 + after / num_warm)

    return course.schedule(peak, shape)


def coslog4(
    peak: float,
    steps: Steps,
    monitor: Monitor,
    *,
    warmup: float | int | str = 0.0,
) -> Schedule:
    """Four waves between nothing and the full rate, each twice as long as the last.

    Args:
        warmup: share, steps or epochs ("2 epochs") in which the rate grows before.

    Reference: Holzmueller et al. 2024, Better by default (RealMLP). DIFFERS: a step is
        taken at its middle, because at its start the first would not move.
    """
    course = course_of("coslog4", steps, warmup)

    def shape(after: Any) -> Any:
        waves = ops.log2(1 + 15 * course.share(after + 0.5))
        return (1 - ops.cos(2 * math.pi * waves)) / 2

    return course.schedule(peak, shape)


def _falling(
    course: Course, peak: float, final: float, fall: Callable[[Any], Any]
) -> Schedule:
    """From the rate to the share `final` of it; `fall` goes from 1 to 0 by the share
    of the steps."""

    def shape(after: Any) -> Any:
        return final + (1 - final) * fall(course.share(after))

    return course.schedule(peak, shape)


def _half_cosine(share: Any) -> Any:
    return (1 + ops.cos(math.pi * share)) / 2


def _check_factor(name: str, factor: float) -> None:
    if not 0 < factor <= 1:
        raise ConfigError(
            f"schedule.{name}: expected more than 0 and at most 1, got {factor}."
        )
