"""What a report is made of: the files of a run, each of which may be missing."""

import contextlib
import csv
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kerastrain.evaluation import METRICS
from kerastrain.events import read_events
from kerastrain.resources import COLUMNS
from kerastrain.schema import Schema
from kerastrain.store import RunFolder, read_json

__all__ = ["RunFiles"]


@dataclass(frozen=True)
class RunFiles:
    """The contents of a run folder; empty where a file is not there.

    Args:
        history: a row per epoch: column name to number, NaN where the cell is empty.
        resources: likewise what was taken of the machine; `stage` is a text.
        events: as `kerastrain.events.Event` writes them, in their order.
    """

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    config_text: str = ""
    schema: Schema | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    explanation: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: RunFolder) -> "RunFiles":
        """Read what is there; RunError when a file that is there is damaged."""
        text = folder.config.read_text("utf-8") if folder.config.is_file() else ""
        return cls(
            name=folder.path.resolve().name,
            config=_mapping(text),
            config_text=text,
            schema=Schema.load(folder.schema) if folder.schema.is_file() else None,
            metrics=read_json(folder.metrics) if folder.metrics.is_file() else {},
            history=_table(folder.history),
            resources=_resources(folder),
            events=_events(folder),
            environment=(
                read_json(folder.environment) if folder.environment.is_file() else {}
            ),
            explanation=(
                read_json(folder.explanation) if folder.explanation.is_file() else {}
            ),
        )

    @property
    def task(self) -> str:
        """Empty when neither metrics nor schema tell it."""
        target = self.schema.target if self.schema else None
        return self.metrics.get("task") or (target.task if target else "")

    @property
    def target(self) -> str:
        return str(self.metrics.get("target") or self.config.get("target") or "?")

    @property
    def seconds(self) -> float:
        """Time of all stages together."""
        return sum(stage["seconds"] for stage in self.environment.get("stages", []))

    @property
    def evaluated_part(self) -> str:
        """`test`, or `validation` when there are no test rows, or nothing."""
        for part in ("test", "validation"):
            values = [_value(cell) for cell in (self.metrics.get(part) or {}).values()]
            if any(value is not None for value in values):
                return part
        return ""

    @property
    def folds(self) -> list[dict[str, Any]]:
        """A record for each fold of a cross-validation; empty for a single split."""
        return self.metrics.get("folds") or []

    @property
    def is_mean_of_folds(self) -> bool:
        """Whether the test scores are the mean of those of the folds."""
        return any(fold.get("test") for fold in self.folds)

    def scores(self, part: str) -> dict[str, dict[str, float | None]]:
        """Metric to value with interval, on the rows of a part of the split."""
        nothing = {"low": None, "high": None}
        cells = self.metrics.get(part) or {}
        return {
            name: nothing | (cell if isinstance(cell, dict) else {"value": cell})
            for name, cell in cells.items()
        }

    @property
    def monitor(self) -> str:
        """Column of the history by which the best epoch was chosen."""
        named = str((self.config.get("fit") or {}).get("monitor", "auto"))
        columns = self.history[0] if self.history else {}
        for candidate in (named, f"val_{named}", "val_loss", "loss"):
            if candidate in columns:
                return candidate
        return ""

    @property
    def best_epoch(self) -> int | None:
        """Index into `history`; None when nothing was monitored."""
        column = self.monitor
        known = METRICS.get(self.task, {}).get(column.removeprefix("val_"))
        sign = -1.0 if known is not None and known.greater_is_better else 1.0
        values = [sign * row.get(column, math.nan) for row in self.history]
        finite = [index for index, value in enumerate(values) if math.isfinite(value)]
        return min(finite, key=lambda index: values[index]) if finite else None


def _value(cell: Any) -> float | None:
    return cell.get("value") if isinstance(cell, dict) else cell


def _mapping(text: str) -> dict[str, Any]:
    # The text is shown as it is; a file that somebody broke by hand spoils no report.
    with contextlib.suppress(yaml.YAMLError):
        data = yaml.safe_load(text)
        return data if isinstance(data, dict) else {}
    return {}


def _table(path: Path) -> list[dict[str, Any]]:
    """Rows of a CSV file of numbers."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {
                name: cell if name == "stage" else _number(cell)
                for name, cell in row.items()
                if name
            }
            for row in csv.DictReader(file)
        ]


def _resources(folder: RunFolder) -> list[dict[str, Any]]:
    rows = _table(folder.resources)
    whole = [row for row in rows if set(COLUMNS) <= row.keys()]
    return [r for r in whole if math.isfinite(r["seconds"] + r["resident_bytes"])]


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return math.nan


def _events(folder: RunFolder) -> list[dict[str, Any]]:
    return [asdict(event) for event in read_events(folder.events)]
