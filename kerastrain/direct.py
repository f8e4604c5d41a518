"""Estimators without a run: `kerastrain.estimators.Ridge().fit(x, y)`, as in Keras."""

from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pyarrow as pa

from kerastrain.arrays import ArrayStore
from kerastrain.config import parse_config
from kerastrain.environment import num_threads
from kerastrain.errors import ConfigError, RunError
from kerastrain.estimator_learner import EstimatorLearner, estimator_of
from kerastrain.estimators import ESTIMATORS
from kerastrain.ingest import ingest
from kerastrain.inputs import draw, profiled
from kerastrain.parity import export_verified, golden_cases
from kerastrain.prepare import prepare
from kerastrain.serving import Run
from kerastrain.source import Source, open_source

__all__ = ["DirectEstimator", "direct"]

_WEIGHT = "sample_weight"
_GOLDEN_ROWS = 256


class DirectEstimator:
    """An estimator of the table, fitted on columns in memory.

    `x` is a pandas, polars or pyarrow table, a mapping of arrays or a matrix, whose
    columns are then `x_0`, `x_1`; texts, categories, dates and missing values may stand
    in it. `y` is an array or a series, one value a row.

    Args:
        options: of the estimator, as `kerastrain estimators NAME` tells them.

    Raises:
        ConfigError: it has no such option.

    Attributes:
        learner: what was fitted; None before `fit`.
        schema: what the columns are.

    >>> import kerastrain.estimators
    >>> model = kerastrain.estimators.Ridge().fit(x, y)  # doctest: +SKIP
    >>> model.predict(x)["prediction"]  # doctest: +SKIP
    """

    #: Its name in `ESTIMATORS`.
    entry: str

    def __init__(self, **options: Any):
        self.options = ESTIMATORS.check(self.entry, options, path="estimators")
        self.learner: EstimatorLearner | None = None

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        validation_data: tuple[Any, ...] | None = None,
        validation_split: float = 0.15,
        sample_weight: Any = None,
        seconds: float | None = None,
        **settings: Any,
    ) -> "DirectEstimator":
        """Learn from the rows; validation rows decide when to stop and how strongly.

        Args:
            validation_data: `(x, y)` or `(x, y, sample_weight)`.
            validation_split: share of rows that is held out where there are none, of
                each class alike; equal rows stay on one side.
            sample_weight: what each row counts, 0 and above.
            seconds: that it may take, about.
            settings: any of the run's configuration that is about data: `task`, `seed`,
                `columns`, `objective`, `positive_label`, `imbalance`.

        Returns: itself.

        Raises:
            DataError: nothing can be learnt from the rows.
        """
        sources = [_table(x, y, sample_weight)]
        target = self._target = sources[0].schema.names[
            -1 - (sample_weight is not None)
        ]
        if validation_data is not None:
            sources.append(_checked(validation_data, target, sample_weight is not None))
        own = frozenset() if validation_data is None else frozenset({"validation"})
        split = {"validation": validation_split, "test": 0.0, "folds": 1}
        weight = None if sample_weight is None else _WEIGHT
        given = {"target": target, "weight": weight, "split": split, **settings}
        config = parse_config(given)
        schema = profiled(sources[0], config)
        store = ArrayStore()
        table = ingest(sources, schema, store)
        config, (parts,) = draw(table, schema, config, own, store)
        data = prepare(table, schema, parts, store, config)
        learner = EstimatorLearner(
            data,
            estimator_of(ESTIMATORS.load(self.entry), self.options),
            store,
            seed=config.seed,
            num_threads=num_threads(),
            seconds=seconds,
        )
        learner.fit(data.train, data.validation)
        rows = np.concatenate([parts.validation, parts.train])[:_GOLDEN_ROWS]
        self._golden = table.raw(schema, rows)
        self.learner, self.schema = learner, schema
        # What predicts and scores for a run, with what a run reads from its folder.
        self._run = Run.__new__(Run)
        vars(self._run).update(model=learner.model, schema=schema, config=config)
        return self

    @property
    def model(self) -> keras.Model:
        """The Keras model from raw columns to the decision."""
        return self._fitted().model

    def predict(self, x: Any) -> pd.DataFrame:
        """`prediction`, and `probability_<label>` of each class, one row per row."""
        self._fitted()
        return self._run.predict(_named(x))

    def evaluate(
        self, x: Any, y: Any, *, sample_weight: Any = None
    ) -> dict[str, dict[str, float | None]]:
        """Every metric of the task, with 95 % bootstrap intervals."""
        self._fitted()
        rows = _table(x, y, sample_weight, target=self._target)
        return self._run.evaluate(rows)

    def save(self, path: str | Path) -> None:
        """Write the model as a `.keras` file: data and weights, nothing pickled.

        `keras.saving.load_model` reads it once `kerastrain.registered.register_all()`
        has made the layers known.
        """
        self._fitted().save(Path(path))

    def export(
        self, folder: str | Path, name: str = "saved_model", **options: Any
    ) -> Path:
        """Write the model in a format of `EXPORTS`, checked against this one.

        Raises:
            ParityError: the export does not give this model's numbers.
        """
        golden = golden_cases(self.model, self.schema, self._golden)
        return export_verified(name, self.model, Path(folder), golden, **options)[0]

    def _fitted(self) -> EstimatorLearner:
        if self.learner is None:
            raise RunError(
                f"{type(self).__name__} has not learnt yet: call fit(x, y) first."
            )
        return self.learner

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in self.options.items())
        return f"{type(self).__name__}({options})"


@cache
def direct(entry: str) -> type[DirectEstimator]:
    """The class for direct use of an entry of `ESTIMATORS`, which is not imported."""
    name = ESTIMATORS[entry].partition(":")[2].partition(" ")[0]
    docs = [ESTIMATORS.describe(entry), "", "Args:"]
    docs += [f"    {k}: {text}" for k, text in ESTIMATORS.option_docs(entry).items()]
    body = {"entry": entry, "__doc__": "\n".join(docs), "__module__": __name__}
    return type(name, (DirectEstimator,), body)


# --- columns ----------------------------------------------------------------------


def _named(x: Any) -> Any:
    """A matrix as a mapping, whose columns `open_source` names."""
    if (
        isinstance(x, np.ndarray | list)
        and not getattr(x, "dtype", np.dtype("f")).names
    ):
        x = np.asarray(x)
        return {"x": x[:, None] if x.ndim == 1 else x}
    return x


def _table(x: Any, y: Any, weight: Any, target: str | None = None) -> Source:
    """Columns, then the target, then weights, as one source.

    Args:
        target: its name; that of the series `y`, or `target`, by default.
    """
    source = open_source((x, y))
    rows = pa.Table.from_batches(source.scan(), source.schema)
    if target is not None:
        rows = rows.rename_columns([*rows.column_names[:-1], target])
    if weight is not None:
        if len(weight) != len(rows):
            raise ConfigError(
                f"sample_weight has {len(weight):,} values for {len(rows):,} rows: "
                "give one for each row."
            )
        rows = rows.append_column(_WEIGHT, pa.array(np.asarray(weight, "float64")))
    return open_source(rows)


def _checked(given: tuple[Any, ...], target: str, has_weight: bool) -> Source:
    """Validation rows under the names of the train rows."""
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        raise ConfigError(
            "validation_data should be (x, y) or (x, y, sample_weight), got "
            f"{type(given).__name__}."
        )
    x, y, *weights = given
    weight = weights[0] if weights else None
    if has_weight and weight is None:
        weight = np.ones(len(y))
    return _table(x, y, weight if has_weight else None, target=target)
