"""NumPy archives: arrays as columns, and what is refused."""

import numpy as np
import pyarrow as pa
import pytest

from kerastrain.errors import SourceError
from kerastrain.source import open_source
from kerastrain.sources.npz import NpzSource


@pytest.fixture
def write(tmp_path):
    def _write(name="data.npz", save=np.savez, **arrays):
        save(tmp_path / name, **arrays)
        return tmp_path / name

    return _write


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_columns(write, save):
    x = np.array([[1, 2], [3, 4], [5, 6]], "float32")
    source = open_source(write(save=save, X=x, y=np.array(["a", "b", "c"])))
    table = pa.Table.from_batches(source.scan(), source.schema)
    assert table.to_pydict() == {
        "X_0": [1.0, 3.0, 5.0],
        "X_1": [2.0, 4.0, 6.0],
        "y": ["a", "b", "c"],
    }
    assert source.schema.field("X_0").type == pa.float32()
    assert source.num_rows == 3


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.array([1, 2], "int16"), pa.int16()),
        (np.array([True, False]), pa.bool_()),
        (np.array([b"x", b"y"]), pa.string()),
        (np.array(["2020-01-02", "2021-01-02"], "datetime64[D]"), pa.date32()),
    ],
)
def test_types_are_kept(write, array, kind):
    source = NpzSource(write(a=array))
    assert source.schema.field("a").type == kind
    assert sum(batch.num_rows for batch in source.scan()) == 2


def test_an_unknown_number_is_a_missing_cell(write):
    source = NpzSource(write(a=np.array([1.5, np.nan])))
    (batch,) = source.scan()
    value, missing = batch["a"].to_pylist()
    assert value == 1.5
    assert missing is None or np.isnan(missing)


class Bomb:
    """What a pickle would run when it is read."""

    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.array([Bomb()], object)}, "Python objects, which are not unpickled"),
        ({"a": np.arange(2), "b": np.arange(3)}, "differ in length: a: 2, b: 3"),
        ({"a": np.zeros((2, 2, 2))}, "Array 'a' of data.npz has 3 dimensions"),
        ({"a": np.array(1.0)}, "Array 'a' of data.npz has 0 dimensions"),
        ({"X": np.zeros((2, 1)), "X_0": np.zeros(2)}, "names are the same: 'X_0'"),
        ({}, "has no columns|no arrays"),
    ],
)
def test_what_is_no_table_is_told_in_one_line(write, arrays, message):
    with pytest.raises(SourceError, match=message) as caught:
        NpzSource(write(**arrays))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["cut", "flipped", "text"])
def test_a_damaged_file_is_told_in_one_line(write, where):
    path = write(a=np.arange(1_000.0))
    data = bytearray(path.read_bytes())
    data[500] ^= 0xFF
    content = {"cut": data[:4_000], "flipped": data, "text": b"a,b\n1,2\n"}
    path.write_bytes(content[where])
    message = "data.npz is not an .npz archive, or it is damaged"
    with pytest.raises(SourceError, match=message):
        open_source(path)


def test_several_archives_are_refused(write):
    paths = [write("p1.npz", a=np.arange(2)), write("p2.npz", a=np.arange(2))]
    with pytest.raises(SourceError, match="a table is read from one .npz file"):
        NpzSource(paths)
