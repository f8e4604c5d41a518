"""Parts that say how it is trained: model, loss, optimizer, fit, runtime, outputs."""

from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, PositiveFloat, model_validator

from kerastrain.config.parts import Auto, Bytes, Count, Named, Part, named
from kerastrain.errors import ConfigError, listing, suggest, unknown
from kerastrain.optimizers import OPTIMIZER_OPTIONS, OPTIMIZERS

__all__ = [
    "ExportConfig",
    "FitConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "RuntimeConfig",
    "ScheduleConfig",
    "TrackerConfig",
]


class ModelConfig(Named):
    """Which network, with its options."""

    table: ClassVar[str] = "kerastrain.models:MODELS"
    path: ClassVar[str] = "model"
    name: str = "mlp"


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
        clip_norm: largest global norm of the true gradient (after the reduction over
            devices); null switches clipping off.
    """

    model_config = ConfigDict(extra="allow")

    name: str = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    clip_norm: float | None = Field(1.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _from_plain(cls, value: Any) -> Any:
        return named(value, "name")

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        known = OPTIMIZER_OPTIONS.get(self.name.lower())
        if known is None:
            raise unknown("optimizer", self.name, OPTIMIZERS)
        options = ["learning_rate", "weight_decay", "clip_norm", *known]
        for option in self.model_extra or {}:
            if option not in known:
                raise ConfigError(
                    f"{self.name} has no option '{option}'. "
                    f"{suggest(option, options)}Options: {listing(options)}."
                )
        return self


class FitConfig(Part):
    """How long and in what steps.

    Args:
        epochs: at most; `auto` goes by the number of rows.
        batch_size: rows per step over all devices; `auto` goes by the number of rows.
        patience: epochs without a better `monitor` before training stops; null never.
        monitor: a validation metric; `auto` is the loss of the task.
        steps_per_call: steps that run inside one call of the compiled function.
        checkpoint_every: epochs between kept checkpoints; 0 keeps the best only.
        keep_checkpoints: how many of those are kept.
    """

    epochs: Count | Auto = "auto"
    batch_size: Count | Auto = "auto"
    patience: int | None = Field(10, ge=1)
    monitor: str = "auto"
    steps_per_call: int = Field(32, ge=1)
    checkpoint_every: int = Field(5, ge=0)
    keep_checkpoints: int = Field(3, ge=1)


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
