"""What the models of a portfolio reached, took and weigh: `leaderboard.csv`."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from kerastrain.store import atomic

__all__ = ["Entry", "Leaderboard"]


@dataclass(frozen=True)
class Entry:
    """A model of the portfolio, or their ensemble.

    Args:
        model: its label.
        status: `fitted`, or why it is not: `skipped: ...`, `failed: ...`.
        weight: in the ensemble; 0 where it is left out.
        validation: metric on rows that were held out of it.
        test: the same on the test rows.
        fit_s: seconds of all folds.
        predict_ms: for 1,000 rows, through its Keras layers.
        size_mb: megabytes of its weights.
        folds: how often it was fitted.
    """

    model: str
    status: str = "fitted"
    weight: float | None = None
    validation: float | None = None
    test: float | None = None
    fit_s: float | None = None
    predict_ms: float | None = None
    size_mb: float | None = None
    folds: int | None = None


_NUMBERS = [one.name for one in fields(Entry) if one.name not in ("model", "status")]


@dataclass
class Leaderboard:
    """Models in the order of their validation scores.

    Args:
        metric: name of the metric; see `kerastrain.metrics`.
        greater_is_better: its direction.
    """

    metric: str
    greater_is_better: bool
    entries: list[Entry] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)

    def update(self, model: str, **changes: Any) -> None:
        """Other numbers for an entry."""
        self.entries = [
            replace(one, **changes) if one.model == model else one
            for one in self.entries
        ]

    @property
    def ranked(self) -> list[Entry]:
        """The best first; those without a score at the end."""
        sign = -1.0 if self.greater_is_better else 1.0

        def key(entry: Entry) -> tuple[bool, float]:
            value = entry.validation
            return value is None, 0.0 if value is None else sign * value

        return sorted(self.entries, key=key)

    @classmethod
    def mean(cls, boards: Sequence["Leaderboard"]) -> "Leaderboard":
        """Of the folds of a cross-validation: each number's mean over those with it."""
        first = boards[0]
        by_model: dict[str, list[Entry]] = {}
        for board in boards:
            for entry in board.entries:
                by_model.setdefault(entry.model, []).append(entry)
        entries = [_mean(group) for group in by_model.values()]
        return cls(first.metric, first.greater_is_better, entries)

    def write(self, path: Path) -> None:
        """As CSV, one row per model."""
        with (
            atomic(path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, [one.name for one in fields(Entry)])
            writer.writeheader()
            writer.writerows(self.rows())

    def rows(self) -> list[dict[str, Any]]:
        """As JSON types, ranked."""
        return [asdict(entry) for entry in self.ranked]

    def as_dict(self) -> Mapping[str, Any]:
        """For `metrics.json`."""
        return {"metric": self.metric, "entries": self.rows()}


def _mean(group: Sequence[Entry]) -> Entry:
    """Of one model over folds; its status is the first that is no success."""
    failed = [entry.status for entry in group if entry.status != "fitted"]
    numbers: dict[str, Any] = {}
    for name in _NUMBERS:
        known = [getattr(e, name) for e in group if getattr(e, name) is not None]
        if name == "weight" and known:  # in a fold that left it out it has none
            known += [0.0] * (len(group) - len(known))
        numbers[name] = float(np.mean(known)) if known else None
    status = (failed or ["fitted"])[0]
    if failed and len(failed) < len(group):
        status = f"in {len(failed)} of {len(group)} folds {status}"
    return Entry(group[0].model, status, **numbers)
