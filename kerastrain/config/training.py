"""Parts that say how it is trained: model, loss, optimizer, fit, runtime, outputs."""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    PositiveFloat,
    field_validator,
    model_validator,
)

from kerastrain.config.parts import (
    Auto,
    Bytes,
    Count,
    Every,
    Named,
    Part,
    Seconds,
    Span,
    named,
)
from kerastrain.errors import ConfigError, listing, suggest, unknown
from kerastrain.optimizers import OPTIMIZER_OPTIONS, OPTIMIZERS

__all__ = [
    "AverageConfig",
    "CheckpointConfig",
    "ExportConfig",
    "FitConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "RuntimeConfig",
    "ScheduleConfig",
    "TrackerConfig",
    "WatchConfig",
]


class ModelConfig(Named):
    """Which model, with its options; `auto` is the best of several together."""

    table: ClassVar[str] = "kerastrain.models:LEARNERS"
    path: ClassVar[str] = "model"
    name: str = "auto"


class ScheduleConfig(Named):
    """How the learning rate moves, with its options."""

    table: ClassVar[str] = "kerastrain.schedules:SCHEDULES"
    path: ClassVar[str] = "schedule"
    name: str = "cosine"


class ExportConfig(Named):
    """A format in which the model leaves, with its options."""

    table: ClassVar[str] = "kerastrain.exports:EXPORTS"
    path: ClassVar[str] = "exports"
    name: str = "saved_model"


class TrackerConfig(Named):
    """Where training is watched, with its options."""

    table: ClassVar[str] = "kerastrain.trackers:TRACKERS"
    path: ClassVar[str] = "trackers"
    name: str = "tensorboard"


class ObjectiveConfig(Part):
    """What is minimised.

    Args:
        loss: `auto` is cross-entropy for classes and mean squared error for numbers.
        class_weights: `balanced` weighs each class by the inverse of its share.
        label_smoothing: share of the label given to all classes alike.
        focal_gamma: exponent of the focal loss (Lin et al. 2017).
        huber_delta: where the Huber loss turns linear, in standard deviations.
    """

    loss: Literal["auto", "cross_entropy", "focal", "mse", "mae", "huber"] = "auto"
    class_weights: Literal["none", "balanced"] | dict[str, PositiveFloat] = "none"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    focal_gamma: float = Field(2.0, ge=0)
    huber_delta: float = Field(1.0, gt=0)


class OptimizerConfig(Part):
    """Any optimiser of Keras by its name; further keys go to its constructor.

    Args:
        learning_rate: the highest rate of the schedule.
        weight_decay: decoupled; never on biases, norms and scales.
        decay_schedule: how it moves over training; `flat_cos` halves it to 0 in the
            second half.
        clip_norm: largest global norm of the true gradient (after the reduction over
            devices); null switches clipping off.
        clip_each_norm: largest norm of the gradient of each weight, likewise.
        clip_value: largest size of each entry of it, likewise.
        no_decay: further weights without decay; patterns of their paths, as "embed*".
        rates: factors of the learning rate of weights whose paths fit a pattern, as
            {"tower*": 0.1}; 0 freezes them. The first pattern that fits counts.
        layer_decay: factor of the rate of each layer against the one above it, as 0.8
            (Howard, Ruder 2018; Clark et al. 2020); null is the same for all.
        unfreeze: weights that only begin to learn in an epoch, as {"tower*": 3}.
    """

    model_config = ConfigDict(extra="allow")

    name: str = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    decay_schedule: Literal["constant", "flat_cos"] = "constant"
    clip_norm: float | None = Field(1.0, gt=0)
    clip_each_norm: float | None = Field(None, gt=0)
    clip_value: float | None = Field(None, gt=0)
    no_decay: list[str] = []
    rates: dict[str, Annotated[float, Field(ge=0)]] = {}
    layer_decay: float | None = Field(None, gt=0, le=1)
    unfreeze: dict[str, Count] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_plain(cls, value: Any) -> Any:
        return named(value, "name")

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        known = OPTIMIZER_OPTIONS.get(self.name.lower())
        if known is None:
            raise unknown("optimizer", self.name, OPTIMIZERS)
        fields = [name for name in type(self).model_fields if name != "name"]
        options = [*fields, *known]
        for option in self.model_extra or {}:
            if option not in known:
                raise ConfigError(
                    f"{self.name} has no option '{option}'. "
                    f"{suggest(option, options)}Options: {listing(options)}."
                )
        return self


class AverageConfig(Part):
    """An average of the weights over training, which is what is validated and kept.

    Args:
        name: `none`; `ema`, the exponential moving average after every step (Polyak,
            Juditsky 1992); or `swa`, the plain average of the weights at the ends of
            epochs (Izmailov et al. 2018).
        momentum: of `ema`; it is less in the first steps.
        start: of `swa`, the share of the epochs before the average begins.
    """

    name: Literal["none", "ema", "swa"] = "none"
    momentum: float = Field(0.999, ge=0, lt=1)
    start: float = Field(0.75, ge=0, lt=1)

    @model_validator(mode="before")
    @classmethod
    def _from_plain(cls, value: Any) -> Any:
        return named(value, "name")


class FitConfig(Part):
    """How long and in what steps.

    Args:
        epochs: at most; `auto` goes by the number of rows.
        batch_size: rows per step over all devices; `by_rows` goes by the number of
            rows, `auto` is measured: the largest that fits on a GPU, the fastest on a
            CPU.
        patience: epochs (10) or steps ("500 steps") without a better `monitor` before
            training stops; null never.
        min_delta: what counts as better, at least.
        baseline: value of `monitor` that has to be beaten within `patience`.
        target: value of `monitor` at which training has done enough.
        time_limit: for the whole run, as 10m; training ends in good time before it.
        monitor: a validation metric; `auto` is the loss of the task.
        steps_per_call: steps that run inside one call of the compiled function.
        accumulate: parts into which a step is divided, whose gradients are summed: as
            little memory as a batch so many times smaller needs.
        remat: compute activations again in the backward pass instead of keeping them.
        retries: how often training goes back and on more carefully after a NaN.
        find_rate: measure the learning rate before training (Smith 2017).
    """

    epochs: Count | Auto = "auto"
    batch_size: Count | Literal["auto", "by_rows"] = "by_rows"
    patience: Span | None = 10
    min_delta: float = Field(0.0, ge=0)
    baseline: float | None = None
    target: float | None = None
    time_limit: Seconds | None = None
    monitor: str = "auto"
    steps_per_call: int = Field(32, ge=1)
    accumulate: int = Field(1, ge=1)
    remat: bool = False
    retries: int = Field(3, ge=0)
    find_rate: bool = False


class CheckpointConfig(Part):
    """What training goes on from after a crash, and weights that are kept.

    Args:
        every: steps (500) or a time ("30s") between checkpoints; 0 writes none.
        keep: how many of them are kept while training goes on.
        weights_every: epochs between kept weights; 0 keeps those of the best only.
        keep_weights: how many of those are kept.
    """

    every: Every = "30s"
    keep: int = Field(2, ge=1)
    weights_every: int = Field(5, ge=0)
    keep_weights: int = Field(3, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _from_plain(cls, value: Any) -> Any:
        return {"every": value} if isinstance(value, str | int) else value


class WatchConfig(Part):
    """What is looked at while training goes on.

    Args:
        norms: norms of the gradient and the weights of each layer, to TensorBoard.
        profile_steps: steps to profile for TensorBoard, as "100:120".
        resources_every: seconds between samples of CPU, memory and GPU.
    """

    norms: bool = False
    profile_steps: str | None = None
    resources_every: Seconds = 1.0

    @field_validator("profile_steps")
    @classmethod
    def _is_range(cls, value: str | None) -> str | None:
        if value is None:
            return None
        match = re.fullmatch(r"(\d+):(\d+)", value)
        if not match or int(match[1]) > int(match[2]):
            raise ValueError(
                f"expected the first and the last step, as 100:120, got '{value}'"
            )
        return value


class RuntimeConfig(Part):
    """Devices, numbers and memory.

    Args:
        precision: `auto` is float32 on a CPU; on a GPU mixed_bfloat16 where the
            hardware has it, else mixed_float16.
        strategy: `auto` is `mirrored` when there are several GPUs, else `none`.
        memory: bytes that the whole run may take ("2GB"); rows that do not fit lie in
            memory-mapped files in the run folder. `auto` is half of what is free.
        keep_arrays: leave those files there at the end.
        deterministic: the same bits in every run, at some cost in speed on a GPU.
    """

    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    strategy: Literal["auto", "none", "mirrored"] = "auto"
    memory: Bytes | Auto = "auto"
    keep_arrays: bool = False
    deterministic: bool = True
