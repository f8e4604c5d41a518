"""A finished run: predictions for a frame or a file of any size, scores, exports."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import tensorflow as tf

from kerastrain import evaluation
from kerastrain.arrays import ArrayStore
from kerastrain.columns import COLUMNS
from kerastrain.config import RunConfig, parse_config
from kerastrain.config.file import load_config
from kerastrain.errors import ConfigError, RunError
from kerastrain.events import note, warn
from kerastrain.explaining import explain_rows
from kerastrain.ingest import ingest
from kerastrain.parity import export_verified
from kerastrain.saved import check_exportable, has_model, load_model
from kerastrain.schema import Column, Schema, Target, check_present, no_such_column
from kerastrain.source import Source, open_source, source_of_new_data
from kerastrain.store import RunFolder, atomic, read_json
from kerastrain.tablefile import table_writer

__all__ = ["Run", "load"]

# Rows per call of the model: 8,192 rows of 100 columns are 3 MB.
BATCH_ROWS = 8_192


def load(folder: str | Path, *, trusted: Sequence[str] = ()) -> "Run":
    """A run from its folder, in any process. Nothing of it is read before it is used.

    Args:
        trusted: types of an estimator of one's own that may be imported, as
            `"my_pkg.module.MyClassifier"`; see `OwnEstimator`.

    Raises:
        RunError: there is no such run, or it was stopped before it had a model.
    """
    files = RunFolder.open(folder)
    if not has_model(files):
        raise RunError(
            f"The run in {files.path} has no model: it was stopped before the end of "
            "training. Train again, with another --out or after deleting it."
        )
    return Run(files, trusted=trusted)


class Run:
    """What `train` gives back and `load` reads.

    Attributes:
        folder: names of its files; `str(run.folder.path)` is where they lie.
    """

    def __init__(
        self,
        folder: RunFolder,
        model: keras.Model | None = None,
        *,
        trusted: Sequence[str] = (),
    ):
        self.folder, self.trusted = folder, trusted
        if model is not None:
            self.model = model

    @cached_property
    def model(self) -> keras.Model:
        """The Keras model from raw columns to the decision."""
        return load_model(self.folder, self.trusted)

    @cached_property
    def schema(self) -> Schema:
        return Schema.load(self.folder.schema)

    @cached_property
    def config(self) -> RunConfig:
        return parse_config(load_config(self.folder.config), trusted=False)

    @property
    def metrics(self) -> dict[str, Any]:
        """What `metrics.json` holds: scores with intervals, baselines, the verdict."""
        return read_json(self.folder.metrics)

    @property
    def history(self) -> pd.DataFrame:
        """One row per epoch: losses, validation metrics, rate, time; none where the
        model knows no epochs, or several models were fitted."""
        if not self.folder.history.is_file():
            return pd.DataFrame()
        return pd.read_csv(self.folder.history)

    @property
    def target(self) -> Target:
        if self.schema.target is None:
            raise RunError(f"{self.folder.schema} names no target.")
        return self.schema.target

    # --- predictions ----------------------------------------------------------------

    @cached_property
    def _decide(self) -> Any:
        """The model as one compiled function of columns, for any number of rows."""
        spec = {t.name: tf.TensorSpec((None,), t.dtype) for t in self.model.inputs}
        return tf.function(
            lambda columns: self.model(columns, training=False), input_signature=[spec]
        )

    def predict(
        self,
        data: Any,
        *,
        max_bad_rows: float = 0.0,
        where: str | None = None,
        source: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """`prediction`, and `probability_<label>` of each class, one row per row.

        Of a regression with intervals `lower` and `upper` stand beside `prediction`.

        Args:
            data: a pandas, polars or pyarrow table, or what `train` takes as data.
                Columns are found by name; others than the model's are not looked at.
            max_bad_rows: largest share of malformed lines that get no prediction; by
                default none, because predictions then no longer match the lines.
            where: a condition in SQL for the rows to predict; all by default.
            source: options of the source of `data`, such as `{"sheet": "May"}`. How
                the files of the run were written is known; which of its rows were
                read is not carried over.
        """
        rows = self._source(data, max_bad_rows, where, source)
        batches = [frame for _, frame in self._predictions(rows)]
        frame = pd.concat(batches, ignore_index=True) if batches else self._frame()
        if isinstance(data, pd.DataFrame) and len(data) == len(frame):
            frame.index = data.index
        return frame

    def predict_file(
        self,
        data: Any,
        out: Path,
        *,
        id_column: str | None = None,
        max_bad_rows: float = 0.0,
        where: str | None = None,
        source: Mapping[str, Any] | None = None,
    ) -> int:
        """Predict a table of any size into a CSV or Parquet file, in its order of rows.

        Args:
            data: as for `predict`; read in batches.
            out: ends in `.csv` or `.parquet`; written whole or not at all.
            id_column: a column of `data` to copy in front.
            max_bad_rows: as for `predict`, and so are `where` and `source`.

        Returns:
            Number of rows.
        """
        rows = self._source(data, max_bad_rows, where, source)
        if id_column is not None and id_column not in rows.schema.names:
            raise no_such_column(id_column, rows.schema.names, where=rows.name)
        empty = pa.Table.from_pandas(self._frame(), preserve_index=False)
        if id_column in empty.column_names:
            raise ConfigError(
                f"The id column '{id_column}' has the name of a column of predictions. "
                "Rename it in the data."
            )
        num_rows = 0
        with atomic(Path(out)) as temporary, table_writer(temporary) as write:
            for ids, frame in self._predictions(rows, id_column):
                table = pa.Table.from_pandas(frame, preserve_index=False)
                if ids is not None:
                    table = table.add_column(0, str(id_column), ids)
                write(table)
                num_rows += len(frame)
            if not num_rows:
                if id_column is not None:
                    ids = pa.array([], rows.schema.field(id_column).type)
                    empty = empty.add_column(0, id_column, ids)
                write(empty)
        return num_rows

    def _source(
        self,
        data: Any,
        max_bad_rows: float,
        where: str | None,
        given: Mapping[str, Any] | None,
    ) -> Source:
        return open_source(
            data,
            source_of_new_data(self.config.source, data, given or {}),
            max_bad_rows=max_bad_rows,
            trusted="name" in (given or {}),  # what is given now is not of the folder
            where=where,
        )

    def explain(
        self,
        data: Any,
        *,
        label: str | None = None,
        samples: int = 32,
        max_rows: int = 1_000,
        id_column: str | None = None,
        where: str | None = None,
        source: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """What each column adds to what the model says about each row.

        `output`, a probability of the class in `explained` or a predicted value, is
        `base` and every `contribution_<column>` together; see `explaining.shapley`.

        Args:
            data: as for `predict`; `where` and `source` too.
            label: the class to explain; by default the row's own, or the positive one.
            samples: rows to compare with, 100 at most; more are more exact and slower.
            max_rows: rows after these are not explained, which a note tells.
            id_column: a column of `data` to copy in front.
        """
        rows = self._source(data, 0.0, where, source)
        if id_column is not None:
            check_present([id_column], rows.schema.names, where=rows.name)
        feeds = self._feeds(rows, id_column)
        wishes: dict[str, Any] = {"label": label, "samples": samples}
        wishes |= {"max_rows": max_rows, "id_column": id_column}
        return explain_rows(self.model, feeds, self.folder, self.schema, **wishes)

    def _predictions(
        self, source: Source, id_column: str | None = None
    ) -> Iterator[tuple[pa.Array | None, pd.DataFrame]]:
        for ids, feed in self._feeds(source, id_column):
            outputs = {k: v.numpy() for k, v in self._decide(feed).items()}
            yield ids, self._frame(outputs)

    def _feeds(
        self, source: Source, id_column: str | None
    ) -> Iterator[tuple[pa.Array | None, dict[str, tf.Tensor]]]:
        """The columns of the model in batches, and the column of ids."""
        self._check_columns(source)
        names = [column.name for column in self.schema.features]
        wanted = names if id_column in (None, *names) else [*names, str(id_column)]
        first_row, unread = 0, Counter[str]()
        for batch in source.scan(wanted, batch_rows=BATCH_ROWS):
            feed = {
                column.input: _raw(column, batch, source.name, first_row, unread)
                for column in self.schema.features
            }
            yield batch.column(id_column) if id_column is not None else None, feed
            first_row += batch.num_rows
        for name, count in (+unread).items():
            warn(
                "unreadable_dates",
                f"column '{name}' in {source.name}: {count:,} of {first_row:,} texts "
                "are no dates and count as missing.",
                rows=count,
            )

    def _check_columns(self, source: Source) -> None:
        present, names = source.schema.names, [c.name for c in self.schema.features]
        check_present(names, present, where=source.name)
        known = {column.name for column in self.schema.columns}
        extra = [name for name in present if name not in known]
        if extra:
            note(
                "extra_columns",
                f"{source.name}: columns that the model does not know are not looked "
                f"at: {', '.join(extra[:10])}.",
                columns=extra[:100],
            )

    def _frame(self, outputs: Mapping[str, np.ndarray] | None = None) -> pd.DataFrame:
        """What the model gives as columns; without any, they have no rows."""
        target = self.target
        if target.task == "regression":
            # In this order, whatever the order of the model.
            names = [n for n in ("prediction", "lower", "upper") if n in self._outputs]
            values = outputs or {name: np.zeros(0) for name in names}
            return pd.DataFrame({n: np.asarray(values[n], "float32") for n in names})
        found = outputs or {
            "prediction": np.zeros(0, object),
            "probabilities": np.zeros((0, len(target.labels)), "float32"),
        }
        texts = [text.decode("utf-8") for text in found["prediction"]]
        columns = {
            f"probability_{label}": found["probabilities"][:, i]
            for i, label in enumerate(target.labels)
        }
        return pd.DataFrame({"prediction": pd.Series(texts, dtype="str"), **columns})

    @property
    def _outputs(self) -> list[str]:
        """Names of what the model gives."""
        return list(self.model.output)

    # --- scores, exports ------------------------------------------------------------

    def evaluate(
        self,
        data: Any,
        *,
        max_bad_rows: float = 0.001,
        where: str | None = None,
        source: Mapping[str, Any] | None = None,
    ) -> dict[str, dict[str, float | None]]:
        """Every metric of the task on labelled data, with 95 % bootstrap intervals.

        Rows without a target are left out and counted in an event, and malformed lines
        up to the share `max_bad_rows`. `where` and `source` are as for `predict`.
        """
        labelled = self._source(data, max_bad_rows, where, source)
        schema = self.schema
        if (
            schema.weight is not None
            and schema.weight.name not in labelled.schema.names
        ):
            note(
                "unweighted", f"{labelled.name} has no row weights: each row counts 1."
            )
            schema = schema.without(schema.weight.name)
        table = ingest([labelled], schema, ArrayStore())
        rows = np.flatnonzero(table.has_target)
        if not len(rows):
            raise ConfigError(f"{labelled.name}: no row has a known target to score.")
        if len(rows) < table.num_rows:
            note(
                "rows_without_target",
                f"{labelled.name}: {table.num_rows - len(rows):,} of "
                f"{table.num_rows:,} rows have no known target and are left out.",
            )
        outputs = []
        for start in range(0, len(rows), BATCH_ROWS):
            raw = table.raw(self.schema, rows[start : start + BATCH_ROWS])
            feed = {
                c.input: _tensor(raw[c.input], c.dtype) for c in self.schema.features
            }
            outputs.append({k: v.numpy() for k, v in self._decide(feed).items()})
        assert table.target is not None
        task, labels = self.target.task, self.target.labels
        name = "prediction" if task == "regression" else "probabilities"
        prediction = np.concatenate([one["prediction"] for one in outputs])
        numbers = {label.encode("utf-8"): i for i, label in enumerate(labels)}
        predicted = np.array([numbers[text] for text in prediction]) if labels else None
        return evaluation.evaluate(
            task,
            table.target[rows],
            np.concatenate([one[name] for one in outputs]),
            weight=None if table.weight is None else table.weight[rows],
            predicted=predicted,
            seed=self.config.seed,
        )

    def export(self, name: str, **options: Any) -> Path:
        """Write the model in a format of `EXPORTS` and check it against this one.

        Raises:
            ParityError: the export does not give this model's numbers.
            ConfigError: it has an estimator of one's own, which is no Keras model.
        """
        check_exportable(self.folder)
        golden = read_json(self.folder.golden)
        return export_verified(
            name, self.model, self.folder.exports, golden, **options
        )[0]

    def _repr_html_(self) -> str:
        """The card that a notebook shows."""
        from kerastrain.report import card

        return card(self.folder)

    def __repr__(self) -> str:
        return f"Run({str(self.folder.path)!r})"


def _raw(
    column: Column, batch: pa.RecordBatch, where: str, first_row: int, unread: Counter
) -> tf.Tensor:
    """A column as the model takes it; texts that do not read are counted."""
    kind = COLUMNS.load(column.type, trusted=False)()
    array = batch.column(column.name)
    values = kind.to_input(column, array, where=where, first_row=first_row)
    if hasattr(kind, "num_unread"):
        unread.update({column.name: kind.num_unread(column, values)})
    return _tensor(values, column.dtype)


def _tensor(values: Any, dtype: str) -> tf.Tensor:
    if isinstance(values, pa.Array):
        values = values.to_numpy(zero_copy_only=False)
    return tf.constant(values, dtype)
