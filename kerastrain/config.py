"""The configuration of a run: frozen data, unknown keys refused, YAML both ways."""

import importlib
import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from kerastrain.config_errors import first_problem
from kerastrain.config_file import load_config, with_overrides, yaml_text
from kerastrain.errors import ConfigError, listing, suggest, unknown
from kerastrain.optimizers import OPTIMIZER_OPTIONS, OPTIMIZERS
from kerastrain.registry import Registry

__all__ = [
    "OPTIMIZERS",
    "ColumnConfig",
    "FitConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "RunConfig",
    "RuntimeConfig",
    "SplitConfig",
    "load_config",
    "parse_config",
    "with_overrides",
]

Auto = Literal["auto"]
Count = Annotated[int, Field(ge=1)]


class Part(BaseModel):
    """Base of every part: frozen, and an unknown key is an error."""

    # A label or a column may be named 1, and YAML reads that as a number.
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


class Named(Part):
    """A name in a table, with options beside it: `{name: mlp, dropout: 0.2}`.

    The plain name is allowed too. Options are the keyword-only arguments of what the
    table holds under that name.
    """

    model_config = ConfigDict(extra="allow")
    table: ClassVar[str]
    path: ClassVar[str]

    name: str

    @model_validator(mode="before")
    @classmethod
    def _from_plain(cls, value: Any) -> Any:
        return _named(value, "name")

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    @classmethod
    def registry(cls) -> Registry:
        """The table; a listing imports neither TensorFlow nor an entry."""
        module, _, attribute = cls.table.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def checked(self) -> Self:
        """With all options, as the types that the entry asks for, else ConfigError."""
        options = self.registry().check(self.name, self.options, path=self.path)
        return type(self)(name=self.name, **options)


def _named(value: Any, key: str) -> Any:
    return {key: value} if isinstance(value, str) else value


class SourceConfig(Named):
    """How `data` is read; `auto` goes by what it is and by its ending."""

    table: ClassVar[str] = "kerastrain.sources:SOURCES"
    path: ClassVar[str] = "source"
    name: str = "auto"

    def checked(self) -> Self:
        return self if self.name == "auto" else super().checked()


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


class ColumnConfig(Part):
    """What the user knows better about a column than the profile does."""

    type: str | None = None
    format: str | None = None
    missing_values: list[str] = []

    @model_validator(mode="before")
    @classmethod
    def _from_plain(cls, value: Any) -> Any:
        return _named(value, "type")


class SplitConfig(Part):
    """Shares of rows for validation and test; the rest is trained on.

    `seed` defaults to the seed of the run.
    """

    # The best epoch is chosen on them, so there are always some.
    validation: float = Field(0.15, gt=0, lt=1)
    test: float = Field(0.15, ge=0, lt=1)
    seed: int | None = None

    @model_validator(mode="after")
    def _leaves_rows_to_train_on(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation + test must be below 1")
        return self


class FeaturesConfig(Part):
    """How columns are encoded.

    Args:
        max_vocabulary: most values of a categorical column that get a code of their
            own; the rest share one.
        min_count: a value seen in fewer train rows is rare; rare values share a code.
            `auto` is one in a hundred train rows, but from 2 to 5.
    """

    max_vocabulary: int = Field(10_000, ge=1)
    min_count: Annotated[int, Field(ge=1)] | Auto = "auto"

    def resolved(self, num_rows: int) -> Self:
        """With `auto` as a number, for `num_rows` train rows."""
        if self.min_count != "auto":
            return self
        return self.model_copy(update={"min_count": min(max(num_rows // 100, 2), 5)})


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
        return _named(value, "name")

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


_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def _bytes(value: Any) -> Any:
    """`"2GB"` to 2_000_000_000; GiB and the like count in powers of 1024."""
    if not isinstance(value, str) or value == "auto":
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", value, re.I)
    if not match:
        raise ValueError("expected a size such as 500MB or 2GiB")
    number, unit, is_binary = match.groups()
    scale = _UNITS[unit.upper()]
    if is_binary:
        scale = 1024 ** list(_UNITS).index(unit.upper())
    return int(float(number) * scale)


Bytes = Annotated[
    int,
    Field(ge=0),
    BeforeValidator(_bytes),
    WithJsonSchema({"type": ["integer", "string"], "examples": ["500MB", "2GiB"]}),
]


class RuntimeConfig(Part):
    """Devices, numbers and memory.

    Args:
        precision: `auto` is float32 on a CPU; on a GPU mixed_bfloat16 where the
            hardware has it, else mixed_float16.
        strategy: `auto` is `mirrored` when there are several GPUs, else `none`.
        memory: bytes for the encoded arrays ("2GB"); above it they lie in
            memory-mapped files. `auto` is half of what is free.
        deterministic: the same bits in every run, at some cost in speed on a GPU.
    """

    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    strategy: Literal["auto", "none", "mirrored"] = "auto"
    memory: Bytes | Auto = "auto"
    deterministic: bool = True


class RunConfig(Part):
    """Everything that `train` needs, and all that it needs.

    Args:
        data: file, files or glob to train on; null when a frame is passed in Python.
        target: the column to predict.
        test: file, files or glob with test rows of one's own.
        task: `auto` goes by the target.
        positive_label: which class of a binary target is the positive one.
        weight: a column of row weights.
        columns: types that the user sets: `{zip: categorical}`.
        ignore: columns to leave out.
        keep: columns to use although the profile would leave them out.
        out: the run folder; null makes one under `runs/`.
        seed: of the split, the weights, the order of rows and dropout.
        max_bad_rows: largest share of malformed lines that is passed over.
        exports: formats to export to, each checked against the model.
    """

    data: Annotated[list[str], Field(min_length=1)] | str | None = None
    target: str
    test: list[str] | str | None = None
    task: Literal["auto", "binary", "multiclass", "regression"] = "auto"
    positive_label: str | None = None
    weight: str | None = None
    columns: dict[str, ColumnConfig] = {}
    ignore: list[str] = []
    keep: list[str] = []
    out: str | None = None
    seed: int = Field(0, ge=0, lt=2**32)
    max_bad_rows: float = Field(0.001, ge=0, le=1)
    source: SourceConfig = SourceConfig()
    split: SplitConfig = SplitConfig()
    features: FeaturesConfig = FeaturesConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    fit: FitConfig = FitConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    exports: list[ExportConfig] = [ExportConfig()]
    trackers: list[TrackerConfig] = [TrackerConfig()]

    def dumps(self) -> str:
        """YAML that `load_config` reads back into an equal configuration."""
        return yaml_text(self.model_dump(mode="json"))

    def checked(self) -> Self:
        """With the options of every named part checked against its table."""
        parts: dict[str, Any] = {
            name: getattr(self, name).checked()
            for name in ("source", "model", "schedule")
        }
        for name in ("exports", "trackers"):
            parts[name] = [part.checked() for part in getattr(self, name)]
        for name, column in self.columns.items():
            _check_column_type(name, column.type)
        return self.model_copy(update=parts)


def _check_column_type(column: str, kind: str | None) -> None:
    table = importlib.import_module("kerastrain.columns").COLUMNS
    if kind is not None and kind not in table:
        error = unknown("column type", kind, table)
        raise type(error)(f"columns.{column}: {error}")


def parse_config(
    data: dict[str, Any], *, where: str = "configuration", trusted: bool = True
) -> RunConfig:
    """A checked RunConfig; ConfigError with the path of the first wrong key.

    With `trusted=False` (a configuration read from a saved folder) options are taken as
    they are, and nothing that the configuration names is imported.
    """
    try:
        config = RunConfig.model_validate(data)
        return config.checked() if trusted else config
    except ValidationError as error:
        raise first_problem(error, RunConfig, where) from None
