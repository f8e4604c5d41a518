"""The same rows, predicted by two runs: kept test rows, or rows that are given."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kerastrain.arrays import ArrayStore
from kerastrain.differences import LOCATIONS, flat
from kerastrain.errors import RunError
from kerastrain.events import note, warn
from kerastrain.ingest import ingest
from kerastrain.schema import Schema, Target
from kerastrain.source import Source, open_source, source_of_new_data
from kerastrain.store import RunFolder, read_json

__all__ = ["Pair", "Side", "common_target", "kept_rows", "predicted_rows"]


@dataclass(frozen=True)
class Side:
    """A run as it lies in its folder.

    Args:
        given: the run itself, or its folder.
    """

    given: Any
    folder: RunFolder
    schema: Schema

    @classmethod
    def of(cls, run: Any) -> "Side":
        place: str | PathLike[str] = getattr(run, "folder", run)
        folder = RunFolder.open(Path(place))
        return cls(run, folder, Schema.load(folder.schema))

    def run(self) -> Any:
        from kerastrain.serving import load  # loads TensorFlow

        return self.given if hasattr(self.given, "folder") else load(self.folder.path)

    def __str__(self) -> str:
        return str(self.folder.path)

    @property
    def target(self) -> Target:
        if self.schema.target is None:
            raise RunError(f"{self.folder.schema} names no target.")
        return self.schema.target

    @property
    def data(self) -> dict[str, Any]:
        """What tells the data apart, wherever they lie."""
        recorded = read_json(self.folder.environment)["data"]
        # Columns that one of them did not read change no row.
        return flat(recorded, without=LOCATIONS | {"columns"})

    def kept(self) -> dict[str, np.ndarray]:
        """Columns of the kept predictions; see `Tested.save`."""
        path = self.folder.test_predictions
        if not path.is_file():
            raise RunError(
                f"{self} keeps no predictions of test rows: it had none, or is not "
                "finished, or of an earlier version. Name labelled data to compare on."
            )
        try:
            table = pq.read_table(path)
            return {name: table[name].to_numpy() for name in table.column_names}
        except (OSError, pa.ArrowException) as error:
            raise RunError(f"Cannot read {path}: {error}") from error


@dataclass(frozen=True)
class Pair:
    """The same rows predicted by both runs.

    Args:
        weight: None where each row counts 1.
        predicted: class numbers by the rule of each run; None for the most probable.

    Shapes: as in `evaluation.score`.
    """

    y: np.ndarray
    a: np.ndarray
    b: np.ndarray
    weight: np.ndarray | None = None
    predicted: tuple[np.ndarray, np.ndarray] | None = None


def common_target(a: Side, b: Side) -> Target:
    """RunError when one run predicts something else than the other."""
    for what in ("name", "task", "labels"):
        ours, theirs = getattr(a.target, what), getattr(b.target, what)
        if ours != theirs:
            said = {"name": "targets", "task": "tasks", "labels": "classes"}[what]
            raise RunError(
                f"{a} and {b} cannot be compared, their {said} differ: "
                f"{_shown(ours)} and {_shown(theirs)}."
            )
    return a.target


def _shown(value: str | list[str]) -> str:
    text = value if isinstance(value, str) else ", ".join(value)
    return f"'{text}'" if len(text) <= 60 else f"'{text[:59]}…'"


def kept_rows(a: Side, b: Side, target: Target) -> Pair:
    """The rows that both runs were tested on, as they predicted them then."""
    if a.data != b.data:
        raise RunError(
            f"{a} and {b} read different data, so they have no common test rows. Name "
            "labelled data that neither was trained on."
        )
    tables = (a.kept(), b.kept())
    places = np.intersect1d(
        tables[0]["row"], tables[1]["row"], assume_unique=True, return_indices=True
    )[1:]
    ours, theirs = (
        {name: column[at] for name, column in table.items()}
        for table, at in zip(tables, places, strict=True)
    )
    if not np.array_equal(ours["target"], theirs["target"]):
        raise RunError(
            f"{a} and {b} number their rows differently: the targets of rows of one "
            "number differ. Name labelled data to compare on."
        )
    return Pair(
        _numbers(ours["target"], target),
        _prediction(ours, target),
        _prediction(theirs, target),
        _common_weight(a, b, ours.get("weight"), theirs.get("weight")),
        _labels(ours, theirs, target),
    )


def _common_weight(
    a: Side, b: Side, ours: np.ndarray | None, theirs: np.ndarray | None
) -> np.ndarray | None:
    if ours is None and theirs is None:
        return None
    if ours is not None and theirs is not None and np.array_equal(ours, theirs):
        return ours
    note("unweighted", f"{a} and {b} weigh rows differently: here each row counts 1.")
    return None


def predicted_rows(a: Side, b: Side, data: Any, options: dict[str, Any]) -> Pair:
    """Labelled rows, predicted by the models of both runs."""
    runs = (a.run(), b.run())
    y, weight = _truth(runs, data, **options)
    known, target = np.isfinite(y), a.target
    frames = [run.predict(data, **options) for run in runs]
    if any(len(frame) != len(y) for frame in frames):
        raise RunError(
            f"{a} and {b} read different rows of these data. Give them as one table, "
            "such as a Parquet file."
        )
    ours, theirs = (
        {str(name): frame[name].to_numpy()[known] for name in frame} for frame in frames
    )
    return Pair(
        y[known].astype("int64") if target.labels else y[known],
        _prediction(ours, target),
        _prediction(theirs, target),
        None if weight is None else weight[known],
        _labels(ours, theirs, target),
    )


def _truth(
    runs: tuple[Any, Any],
    data: Any,
    *,
    max_bad_rows: float,
    where: str | None,
    source: Mapping[str, Any] | None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Class numbers or values of labelled rows, NaN where unknown, and weights."""
    run, given = runs[0], dict(source or {})
    rows = open_source(
        data,
        source_of_new_data(run.config.source, data, given),
        max_bad_rows=max_bad_rows,
        trusted="name" in given,
        where=where,
    )
    _tell_known(runs, rows)
    present = {run.target.name, *rows.schema.names}
    wanted = [
        column
        for column in run.schema.columns
        if column.role in ("target", "weight") and column.name in present
    ]
    schema = run.schema.model_copy(update={"columns": wanted, "keys": {}})
    table = ingest([rows], schema, ArrayStore())
    assert table.target is not None
    known = np.where(table.has_target, table.target, np.nan)
    return known.astype("float64"), table.weight


def _tell_known(runs: tuple[Any, Any], rows: Source) -> None:
    """Warn of rows that a model may remember."""
    given = _hashes(rows.fingerprint())
    known = [
        str(run.folder.path)
        for run in runs
        if given & _hashes(read_json(run.folder.environment)["data"].get("data"))
    ]
    if known:
        warn(
            "rows_trained_on",
            f"{rows.name}: {' and '.join(known)} learnt from rows of it, and the run "
            "that remembers more of them looks better. Name rows that are new to both, "
            "or none to compare on their test rows.",
            runs=known,
        )


def _hashes(fingerprint: Any) -> set[str]:
    leaves = flat(fingerprint).items()
    return {str(value) for name, value in leaves if name.endswith("sha256")}


def _numbers(labels: np.ndarray, target: Target) -> np.ndarray:
    """Classes by their place among the labels; values of a regression as they are."""
    if not target.labels:
        return labels
    numbers = {label: place for place, label in enumerate(target.labels)}
    return np.array([numbers[label] for label in labels], "int64")


def _labels(
    ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], target: Target
) -> tuple[np.ndarray, np.ndarray] | None:
    """What each run decides, by its own rule."""
    if not target.labels:
        return None
    return _numbers(ours["prediction"], target), _numbers(theirs["prediction"], target)


def _prediction(columns: Mapping[str, np.ndarray], target: Target) -> np.ndarray:
    if not target.labels:
        return columns["prediction"]
    return np.stack([columns[f"probability_{label}"] for label in target.labels], 1)
