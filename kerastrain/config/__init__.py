"""The configuration of a run: frozen data, unknown keys refused, YAML both ways."""

import importlib
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError

from kerastrain.config.data import (
    ColumnConfig,
    FeaturesConfig,
    ImbalanceConfig,
    SourceConfig,
    SplitConfig,
)
from kerastrain.config.decision import DecisionConfig
from kerastrain.config.errors import first_problem
from kerastrain.config.file import load_config, with_overrides, yaml_text
from kerastrain.config.parts import Named, Part
from kerastrain.config.training import (
    AverageConfig,
    CheckpointConfig,
    ExportConfig,
    FitConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimizerConfig,
    RuntimeConfig,
    ScheduleConfig,
    TrackerConfig,
    WatchConfig,
)
from kerastrain.errors import unknown
from kerastrain.optimizers import OPTIMIZERS
from kerastrain.secrets import hide_passwords

__all__ = [
    "OPTIMIZERS",
    "AverageConfig",
    "CheckpointConfig",
    "ColumnConfig",
    "DecisionConfig",
    "ExportConfig",
    "FeaturesConfig",
    "FitConfig",
    "ImbalanceConfig",
    "ModelConfig",
    "Named",
    "ObjectiveConfig",
    "OptimizerConfig",
    "RunConfig",
    "RuntimeConfig",
    "ScheduleConfig",
    "SourceConfig",
    "SplitConfig",
    "TrackerConfig",
    "WatchConfig",
    "load_config",
    "parse_config",
    "with_overrides",
]


class RunConfig(Part):
    """Everything that `train` needs, and all that it needs.

    Args:
        data: file, files, glob, folder or address to train on; null when a frame is
            passed in Python.
        target: the column to predict.
        where: a condition in SQL that rows of `data` have to fulfil.
        select: columns to read; the target and those that the run needs are added.
        validation: validation rows of one's own, named like `data`.
        test: test rows of one's own, named like `data`.
        task: `auto` goes by the target.
        positive_label: which class of a binary target is the positive one.
        weight: a column of row weights.
        columns: types that the user sets: `{zip: categorical}`.
        ignore: columns to leave out.
        keep: columns to use although the profile would leave them out.
        out: the run folder; null makes one under `runs/`.
        seed: of the split, the weights, the order of rows and dropout.
        max_bad_rows: largest share of malformed lines that is passed over.
        strict: findings of the quality gate stop the run.
        explain: seconds for what columns are worth and where the model is weak; 0
            leaves it out.
        exports: formats to export to, each checked against the model.
    """

    data: Annotated[list[str], Field(min_length=1)] | str | None = None
    target: str
    where: str | None = None
    select: list[str] = []
    validation: list[str] | str | None = None
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
    strict: bool = False
    source: SourceConfig = SourceConfig()
    split: SplitConfig = SplitConfig()
    imbalance: ImbalanceConfig = ImbalanceConfig()
    features: FeaturesConfig = FeaturesConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    decision: DecisionConfig = DecisionConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    average: AverageConfig = AverageConfig()
    fit: FitConfig = FitConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    watch: WatchConfig = WatchConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    explain: float = Field(20.0, ge=0)
    exports: list[ExportConfig] = [ExportConfig()]
    trackers: list[TrackerConfig] = [TrackerConfig()]

    def dumps(self) -> str:
        """YAML that `load_config` reads back into an equal configuration.

        Passwords in addresses are not in it; see `kerastrain.secrets`.
        """
        return yaml_text(hide_passwords(self.model_dump(mode="json")))

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
        # `model_copy` would count these as set by the user, whose recipe looks at that.
        kind: Any = type(self)
        values = dict(self) | parts
        return kind.model_construct(_fields_set=self.model_fields_set, **values)


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
