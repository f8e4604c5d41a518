"""`tf.data.Dataset` objects: shapes, order, what has no place in a table."""

import gc

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from kerastrain.errors import SourceError
from kerastrain.events import recording
from kerastrain.sources.tf_dataset import TfDatasetSource

X = np.arange(10, dtype="float32").reshape(5, 2)
Y = np.arange(5)
TEXTS = np.array(["a", "b", "é", "d", ""])


def dataset(element):
    return tf.data.Dataset.from_tensor_slices(element)


def table(source, columns=None, **options):
    return pa.Table.from_batches(source.scan(columns, **options))


@pytest.mark.parametrize("batch", [None, 2, 5])
@pytest.mark.parametrize(
    ("element", "names"),
    [
        ((X, Y), ["x_0", "x_1", "target"]),
        ((X, Y, np.ones(5, "float16")), ["x_0", "x_1", "target", "weight"]),
        (({"a": Y, "s": TEXTS}, Y[:, None]), ["a", "s", "target"]),
        (({"a": Y}, {"p": Y, "q": Y}), ["a", "p", "q"]),
        ({"a": Y, "n": {"m": X, "k": Y}}, ["a", "n.m_0", "n.m_1", "n.k"]),
        (X, ["x_0", "x_1"]),
        (Y, ["x"]),
    ],
)
def test_elements_become_columns_batched_or_not(element, names, batch):
    data = dataset(element)
    source = TfDatasetSource(data if batch is None else data.batch(batch))
    assert source.schema.names == names
    found = table(source)
    assert found.schema == source.schema
    assert source.num_rows == found.num_rows == 5
    columns = {"target": Y, "a": Y, "x": Y, "x_1": X[:, 1], "n.m_0": X[:, 0]}
    columns |= {"s": TEXTS, "weight": np.ones(5)}
    for name in set(names) & set(columns):
        assert found[name].to_pylist() == columns[name].tolist()


@pytest.mark.parametrize("element", [(X, Y), {"a": Y, "b": X}])
def test_batches_that_drop_the_remainder_are_batches(element):
    source = TfDatasetSource(dataset(element).batch(2, drop_remainder=True))
    assert source.num_rows == 4


def test_of_one_tensor_a_first_axis_of_known_size_is_a_vector_unless_told():
    data = dataset(X).batch(5, drop_remainder=True)
    assert TfDatasetSource(dataset(X)).schema.names == ["x_0", "x_1"]
    with pytest.raises(SourceError, match=r"x \(5 x 2 x float\)"):
        TfDatasetSource(data)
    assert TfDatasetSource(data, batched=True).num_rows == 5


def test_bytes_are_text_where_all_of_them_are_utf8():
    element = {"photo": np.array([b"\xff", b"a"]), "text": np.array(["é", "a"])}
    source = TfDatasetSource(dataset(element))
    types = [source.schema.field(name).type for name in ("photo", "text")]
    assert types == [pa.binary(), pa.string()]
    assert table(source).to_pylist()[0] == {"photo": b"\xff", "text": "é"}


def test_a_shuffled_data_set_keeps_the_order_of_its_first_pass():
    source = TfDatasetSource(dataset(np.arange(3000)).shuffle(3000))
    first, second = (table(source)["x"].to_pylist() for _ in range(2))
    assert first == second != sorted(first)
    assert sorted(first) == list(range(3000))
    assert source.fingerprint() == source.fingerprint()


def test_scans_give_the_columns_that_are_asked_for_in_batches():
    source = TfDatasetSource(dataset({"a": np.arange(2000), "b": np.zeros(2000)}))
    batches = list(source.scan(["b", "a"], batch_rows=600))
    assert max(batch.num_rows for batch in batches) == 600
    assert batches[0].schema.names == ["b", "a"]
    assert pa.Table.from_batches(batches)["a"].to_pylist() == list(range(2000))
    relation = source.relation(duckdb.connect())
    assert relation.aggregate("count(*), sum(a)").fetchall() == [(2000, 1_999_000)]


def test_a_data_set_without_rows_is_a_table():
    source = TfDatasetSource(dataset((X, Y)).take(0))
    assert (source.num_rows, list(source.scan())) == (0, [])


def test_the_rows_on_disk_go_with_the_source():
    source = TfDatasetSource(dataset(Y))
    folder = source._path.parent
    assert folder.is_dir()
    del source
    gc.collect()
    assert not folder.exists()


RAGGED = tf.ragged.constant([[1], [1, 2]])
SPARSE = tf.sparse.from_dense([[1, 0], [0, 2]])


@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (RAGGED, "list of int32"),
        (SPARSE, "list of int32"),
        (np.zeros((2, 4, 4)), "4 x 4 x double"),
        (np.zeros((2, 65)), "65 x double"),
    ],
)
def test_lists_are_refused_with_the_list_or_left_out(values, shown, batch):
    data = dataset({"r": values, "a": [1, 2]})
    data = data if batch is None else data.batch(batch)
    with pytest.raises(SourceError, match=rf"in a cell: r \({shown}\). Leave them out"):
        TfDatasetSource(data)
    with recording() as recorder:
        source = TfDatasetSource(data, skip_nested=True)
    assert table(source).to_pydict() == {"a": [1, 2]}
    assert recorder.events[0].details["columns"] == ["r"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            dataset(Y).repeat(),
            r"has no end: leave out .repeat\(\), or end it with .take",
        ),
        (
            dataset((X, np.eye(5))),
            r"'target' should have one value a row, got .*\(5,\)",
        ),
        (dataset((X, Y, Y, Y)), r"gives tuples of 4. Expected X, \(X, y\) or"),
        (dataset(((Y, Y), Y)), "'x' is of the type tuple. Expected tensors, dicts"),
        (dataset(({"target": Y}, Y)), "names columns twice: target"),
        (dataset(np.zeros(3, "complex64")), "'x' has the type complex64, which no ta"),
        (tf.data.Dataset.range(3).window(2), "'x' is of the type DatasetSpec"),
        (X, "Expected a tf.data.Dataset, got ndarray"),
    ],
)
def test_what_is_no_table_is_refused(data, message):
    with pytest.raises(SourceError, match=message):
        TfDatasetSource(data)


def test_an_error_of_the_data_set_is_one_line():
    def check(value):
        return tf.debugging.check_numerics(tf.math.log(value), "zero in it")

    data = dataset(np.array([1.0, -1.0])).map(check)
    message = "^Cannot read the tf.data.Dataset: zero in it : Tensor had NaN values.$"
    with pytest.raises(SourceError, match=message):
        TfDatasetSource(data)


def test_a_full_disk_is_one_line(monkeypatch):
    class Full:
        def __init__(self, *_):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(pa, "OSFile", Full)
    message = "Cannot write the rows of .* No space left on device. Free some space, or"
    with pytest.raises(SourceError, match=message):
        TfDatasetSource(dataset(Y))


def test_fingerprint_depends_on_the_rows():
    prints = [TfDatasetSource(dataset(rows)).fingerprint() for rows in (Y, Y, Y + 1)]
    hashes = [found["sha256"] for found in prints]
    assert hashes[0] == hashes[1] != hashes[2]
    assert (prints[0]["rows"], prints[0]["columns"]) == (5, 1)
