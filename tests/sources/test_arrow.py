"""Arrow files, streams and Feather: types, several files, damage."""

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pyarrow.feather
import pytest

from kerastrain.errors import SourceError
from kerastrain.source import open_source
from kerastrain.sources.arrow import ArrowSource


def write_file(table, path):
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


def write_stream(table, path):
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


@pytest.fixture
def write(tmp_path):
    def _write(columns, name="data.arrow", how=write_file):
        path = tmp_path / name
        how(pa.table(columns), str(path))
        return path

    return _write


def rows(source):
    return pa.Table.from_batches(source.scan(), source.schema).to_pydict()


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("data.arrow", write_file),
        ("data.arrow", write_stream),
        ("data.ipc", write_file),
        ("data.feather", pyarrow.feather.write_feather),
        ("data.feather", lambda t, p: pyarrow.feather.write_feather(t, p, "lz4")),
    ],
)
def test_files_and_streams_are_the_same_table(write, name, how):
    columns = {"a": [1, None], "b": ["x", None]}
    assert rows(open_source(write(columns, name, how))) == columns


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pa.array([1, None], pa.int16()), pa.int16()),
        (pa.array(["x", None]).dictionary_encode(), pa.string()),
        (pa.array(["x", None], pa.large_string()), pa.string()),
        (pa.array([Decimal("1.5"), None]), pa.float64()),
        (pa.array([dt.datetime(2020, 1, 2), None]), pa.timestamp("us")),
    ],
)
def test_types_are_those_of_tables_in_memory(write, array, kind):
    source = ArrowSource(write({"a": array}))
    assert source.schema.field("a").type == kind
    value, missing = rows(source)["a"]
    assert value == (1.5 if kind == pa.float64() else array[0].as_py())
    assert missing is None


def test_batches_are_no_larger_than_asked_for(write):
    source = ArrowSource(write({"i": range(1_000)}))
    batches = list(source.scan(batch_rows=300))
    assert [batch.num_rows for batch in batches] == [300, 300, 300, 100]
    assert rows(source) == {"i": list(range(1_000))}


def test_files_are_matched_by_name_and_widened(write, tmp_path):
    write({"a": pa.array([1], pa.int32()), "b": ["x"]}, "p1.arrow")
    write({"a": pa.array([], pa.int32()), "b": pa.array([], pa.string())}, "p2.arrow")
    write({"b": ["y"], "a": [2.5]}, "p3.arrow")
    source = open_source(str(tmp_path / "*.arrow"))
    assert rows(source) == {"a": [1.0, 2.5], "b": ["x", "y"]}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"c": [1]}, "p2.arrow and p1.arrow have different columns: p2.arrow lacks a"),
        ({"a": ["x"]}, "Column 'a' is string in p2.arrow, but int64 in p1.arrow"),
    ],
)
def test_files_that_do_not_go_together_are_refused(write, other, message):
    paths = [write({"a": [1]}, "p1.arrow"), write(other, "p2.arrow")]
    with pytest.raises(SourceError, match=message):
        ArrowSource(paths)


@pytest.mark.parametrize("how", [write_file, write_stream])
def test_a_file_that_is_cut_short_is_refused(write, how):
    path = write({"a": [str(i) for i in range(50_000)]}, how=how)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(SourceError, match="data.arrow is not an Arrow.*damaged") as e:
        list(ArrowSource(path).scan())
    assert "\n" not in str(e.value)


def test_what_is_no_arrow_file_is_refused(tmp_path):
    (tmp_path / "data.feather").write_text("a,b\n1,2\n")
    with pytest.raises(SourceError, match="data.feather is not an Arrow or Feather"):
        open_source(tmp_path / "data.feather")
