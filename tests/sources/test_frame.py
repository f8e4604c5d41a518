"""Frames: pandas, polars, pyarrow and mappings give plain Arrow types."""

import datetime as dt
from decimal import Decimal

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from kerastrain.errors import SourceError
from kerastrain.events import recording
from kerastrain.sources.frame import FrameSource

NOON = dt.datetime(2020, 1, 2, 12, tzinfo=dt.timezone(dt.timedelta(hours=5)))
CLOCK = dt.datetime(2020, 1, 2, 12)


def column_of(data, name="a"):
    source = FrameSource(data)
    table = pa.Table.from_batches(source.scan(), source.schema)
    return table.schema.field(name).type, table.column(name).to_pylist()


@pytest.mark.parametrize(
    ("values", "kind", "rows"),
    [
        (pd.Series([1.5, None]), pa.float64(), [1.5, None]),
        (pd.Series([1, None], dtype="Int64"), pa.int64(), [1, None]),
        (pd.Series([True, None], dtype="boolean"), pa.bool_(), [True, None]),
        (pd.Series([True, None], dtype=object), pa.bool_(), [True, None]),
        (pd.Series(["x", None], dtype=object), pa.string(), ["x", None]),
        (pd.Series(["x", None], dtype="string"), pa.string(), ["x", None]),
        (pd.Series(["x", None], dtype="category"), pa.string(), ["x", None]),
        (pd.Series([7, 8], dtype="category"), pa.string(), ["7", "8"]),
        (pd.Series([Decimal("1.5"), None]), pa.float64(), [1.5, None]),
        (pd.Series([None, None], dtype=object), pa.string(), [None, None]),
        (pd.Series(np.float16([1, 2])), pa.float32(), [1.0, 2.0]),
        (pd.Series([NOON, None]), pa.timestamp("us"), [CLOCK, None]),
        (pd.Series(pd.period_range("2020", periods=1)), pa.int64(), [18262]),
    ],
)
def test_pandas_types_become_plain_ones(values, kind, rows):
    assert column_of(pd.DataFrame({"a": values})) == (kind, rows)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pl.Series(["x", None]), pa.string()),
        (pl.Series(["x", None], dtype=pl.Categorical), pa.string()),
        (pl.Series(["x", None], dtype=pl.Enum(["x"])), pa.string()),
        (pl.Series([Decimal("1.5"), None]), pa.float64()),
        (pl.Series([CLOCK, None]), pa.timestamp("us")),
    ],
)
@pytest.mark.parametrize("is_lazy", [False, True])
def test_polars_types_become_plain_ones(values, kind, is_lazy):
    frame = pl.DataFrame({"a": values})
    expected = [None if v is None else v for v in values.to_list()]
    got, rows = column_of(frame.lazy() if is_lazy else frame)
    assert got == kind
    assert rows == [float(v) if isinstance(v, Decimal) else v for v in expected]


def test_arrow_tables_and_mappings_are_read():
    table = pa.table({"a": pa.array(["x", None]).dictionary_encode()})
    assert column_of(table) == (pa.string(), ["x", None])
    assert column_of({"a": np.arange(2), "b": ["x", None]}) == (pa.int64(), [0, 1])


MATRIX = np.array([[0.5, 1.0], [2.0, 3.0]])
NUMBERED = {"x_0": [0.5, 2.0], "x_1": [1.0, 3.0]}


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (MATRIX, NUMBERED),
        (MATRIX.tolist(), NUMBERED),
        (pd.DataFrame({"a": [1, 2]}, index=[7, 8]), {"a": [1, 2]}),
        (pl.DataFrame({"a": [1, 2]}), {"a": [1, 2]}),
        (pl.LazyFrame({"a": [1, 2]}), {"a": [1, 2]}),
        (pa.table({"a": [1, 2]}), {"a": [1, 2]}),
        ({"a": [1, 2], "m": MATRIX}, {"a": [1, 2], "m_0": [0.5, 2], "m_1": [1, 3]}),
    ],
)
@pytest.mark.parametrize(
    ("target", "name", "values"),
    [
        ([0, 1], "target", [0, 1]),
        (("no", "yes"), "target", ["no", "yes"]),
        (np.array([[0], [1]]), "target", [0, 1]),
        (pd.Series([0, 1], name="y", index=[3, 4]), "y", [0, 1]),
        (pd.Series([0, 1], dtype="category"), "target", ["0", "1"]),
        (pd.DataFrame({"y": [0, 1]}), "target", [0, 1]),
        (pl.Series("y", [0, 1]), "y", [0, 1]),
        (pl.Series([0, 1]), "target", [0, 1]),
        (pa.array([0, 1]), "target", [0, 1]),
    ],
)
def test_x_and_y_are_one_table(rows, columns, target, name, values):
    source = FrameSource((rows, target))
    table = pa.Table.from_batches(source.scan(), source.schema)
    assert table.to_pydict() == {**columns, name: values}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            (MATRIX, np.eye(2)),
            r"one value a row, got the shape \(2, 2\). For one column",
        ),
        ((MATRIX, 1), r"y of \(X, y\) should have one value a row, got the shape \(\)"),
        ((MATRIX, [1]), "differ in length: x_0: 2, x_1: 2, target: 1"),
        ((np.zeros(2), [1, 2]), r"X of \(X, y\) should have rows and columns, got the"),
        ((MATRIX,), r"Expected \(X, y\), got a tuple of 1"),
        ((pd.DataFrame({"y": [1]}), pd.Series([1], name="y")), "are the same: 'y'"),
        (MATRIX, r"Cannot read data of type numpy.ndarray: .* records or \(X, y\).$"),
    ],
)
def test_what_is_no_x_and_y_is_refused(data, message):
    with pytest.raises(SourceError, match=message):
        FrameSource(data)


def test_records_are_rows_of_all_their_names():
    records = [{"a": 1, "b": "x"}, {"b": None, "c": 2.5}]
    assert pa.Table.from_batches(FrameSource(records).scan()).to_pydict() == {
        "a": [1, None],
        "b": ["x", None],
        "c": [None, 2.5],
    }
    with recording() as recorder:
        assert column_of([{"a": 1}, {"a": "x"}]) == (pa.string(), ["1", "x"])
    assert [event.code for event in recorder.events] == ["column_mixed_types"]


def test_a_structured_array_is_a_table_of_its_fields():
    array = np.array([(1, b"x", 2.5)], [("a", "i4"), ("b", "S3"), ("c", "f8")])
    source = FrameSource(array)
    assert next(source.scan()).to_pylist() == [{"a": 1, "b": "x", "c": 2.5}]
    assert source.schema.types == [pa.int32(), pa.string(), pa.float64()]


@pytest.mark.parametrize(
    ("values", "kind", "rows"),
    [
        (pd.arrays.SparseArray([0, 0, 1]), pa.int64(), [0, 0, 1]),
        (pd.array([1, None, 2], dtype="int64[pyarrow]"), pa.int64(), [1, None, 2]),
        (pd.array(["x", None, "y"], "string[pyarrow]"), pa.string(), ["x", None, "y"]),
        (
            pd.array([1, 2, 3], pd.ArrowDtype(pa.decimal128(5, 2))),
            pa.float64(),
            [1, 2, 3],
        ),
        (np.array([b"a", b"b", b"\xff"]), pa.binary(), [b"a", b"b", b"\xff"]),
    ],
)
def test_extension_types_become_plain_ones(values, kind, rows):
    assert column_of(pd.DataFrame({"a": pd.Series(values)})) == (kind, rows)


def test_a_column_of_mixed_types_is_text_with_a_warning():
    frame = pd.DataFrame({"a": pd.Series([1, "x", None, np.nan], dtype=object)})
    with recording() as recorder:
        assert column_of(frame) == (pa.string(), ["1", "x", None, None])
    (event,) = recorder.events
    assert event.message.startswith("Column 'a' of the frame holds values of several")
    assert event.details == {"column": "a", "types": ["int", "str"]}


def test_names_that_are_no_strings_become_strings_and_the_index_is_ignored():
    frame = pd.DataFrame({0: [1, 2], ("x", 1): [3, 4]}, index=["p", "q"])
    assert FrameSource(frame).schema.names == ["0", "('x', 1)"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "names are the same: 'a'"),
        (pd.DataFrame([[1, 2]], columns=[1, "1"]), "names are the same: '1'"),
        (pd.DataFrame({"a": [1 + 2j]}), "Column 'a' of the frame cannot be read"),
        ({"a": [1], "b": [1, 2]}, "differ in length: a: 1, b: 2"),
        (object(), "Cannot read data of type builtins.object"),
    ],
)
def test_what_is_no_table_is_refused(data, message):
    with pytest.raises(SourceError, match=message):
        FrameSource(data)


def test_batches_keep_the_order_and_the_limit():
    source = FrameSource(pd.DataFrame({"i": range(10), "s": list("abcdefghij")}))
    batches = list(source.scan(["i"], batch_rows=4))
    assert [batch.num_rows for batch in batches] == [4, 4, 2]
    assert [v for batch in batches for v in batch["i"].to_pylist()] == list(range(10))


def test_relation_gives_the_table_to_duckdb():
    relation = FrameSource({"a": [1, 2]}).relation(duckdb.connect())
    assert relation.aggregate("sum(a)").fetchall() == [(3,)]


def test_fingerprint_depends_on_values_not_on_chunks():
    whole = pa.table({"a": [1, 2, 3]})
    parts = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])
    other = pa.table({"a": [1, 2, 4]})
    prints = [FrameSource(t).fingerprint() for t in (whole, parts, other)]
    assert prints[0] == prints[1] != prints[2]
    assert prints[0]["rows"] == 3


def test_a_frame_without_rows_is_a_table():
    source = FrameSource(pd.DataFrame({"a": pd.Series([], dtype=float)}))
    assert sum(batch.num_rows for batch in source.scan()) == source.num_rows == 0
    assert source.schema.names == ["a"]
