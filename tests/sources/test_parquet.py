"""Parquet: types, several files, damage."""

import datetime as dt
from decimal import Decimal

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from kerastrain.errors import SourceError
from kerastrain.source import open_source
from kerastrain.sources.parquet import ParquetSource


@pytest.fixture
def write(tmp_path):
    def _write(table, name="data.parquet"):
        path = tmp_path / name
        pq.write_table(pa.table(table), path)
        return path

    return _write


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pa.array([1, None], pa.int16()), pa.int16()),
        (pa.array([1.5, None], pa.float32()), pa.float32()),
        (pa.array([True, None]), pa.bool_()),
        (pa.array(["x", None]), pa.string()),
        (pa.array([dt.datetime(2020, 1, 2), None]), pa.timestamp("us")),
        (pa.array([dt.date(2020, 1, 2), None]), pa.date32()),
        (pa.array(["x", None]).dictionary_encode(), pa.string()),
        (pa.array(["x", None], pa.large_string()), pa.string()),
        (pa.array([Decimal("1.5"), None]), pa.float64()),
    ],
)
def test_types_are_kept_but_for_dictionaries_and_decimals(write, array, kind):
    source = ParquetSource(write({"a": array}))
    assert source.schema.field("a").type == kind
    (batch,) = source.scan()
    assert batch.schema == source.schema
    value, missing = batch["a"].to_pylist()
    expected = array[0].as_py()
    assert value == (1.5 if isinstance(expected, Decimal) else expected)
    assert missing is None


def test_files_are_matched_by_name_in_order(write, tmp_path):
    write({"a": [1, 2], "b": ["x", "y"]}, "p1.parquet")
    write({"b": ["z"], "a": [3]}, "p2.parquet")
    source = open_source(str(tmp_path / "*.parquet"))
    assert (source.name, source.num_rows) == ("p1.parquet and 1 more", 3)
    table = pa.Table.from_batches(source.scan(["b", "a"]))
    assert table.to_pydict() == {"b": ["x", "y", "z"], "a": [1, 2, 3]}


def test_files_of_other_columns_are_refused(write):
    paths = [write({"a": [1]}, "p1.parquet"), write({"c": [1]}, "p2.parquet")]
    with pytest.raises(SourceError, match=r"p2.parquet and p1.parquet.*: a, c are in"):
        ParquetSource(paths)


def test_order_holds_over_many_batches(write):
    path = write({"i": range(400_000), "s": ["x"] * 400_000})
    batches = list(ParquetSource(path).scan(["i"], batch_rows=50_000))
    assert len(batches) > 3
    column = pa.chunked_array([batch["i"] for batch in batches])
    assert column.equals(pa.chunked_array([pa.array(range(400_000))]))


def test_relation_gives_the_table_to_duckdb(write):
    relation = ParquetSource(write({"a": [1, 2]})).relation(duckdb.connect())
    assert relation.aggregate("sum(a)").fetchall() == [(3,)]


def test_a_file_without_rows_is_a_table(write):
    source = ParquetSource(write({"a": pa.array([], pa.int64())}))
    assert sum(batch.num_rows for batch in source.scan()) == source.num_rows == 0


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"PAR1", b"PAR1 and nothing PAR1"])
def test_what_is_no_parquet_file_is_refused(tmp_path, content):
    path = tmp_path / "data.parquet"
    path.write_bytes(content)
    with pytest.raises(SourceError, match="is not a Parquet file, or it is damaged"):
        ParquetSource(path)


def test_a_file_damaged_in_the_middle_is_refused(write):
    path = write({"a": [str(i) for i in range(50_000)]})
    data = bytearray(path.read_bytes())
    data[100:20_000] = b"\xff" * 19_900
    path.write_bytes(data)
    with pytest.raises(SourceError, match="Cannot read data.parquet: "):
        list(ParquetSource(path).scan())


def test_columns_of_the_same_name_are_refused(tmp_path):
    table = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(table, tmp_path / "data.parquet")
    with pytest.raises(SourceError, match="whose names are the same: 'a'"):
        ParquetSource(tmp_path / "data.parquet")


@pytest.mark.parametrize("zone", ["Europe/Berlin", "+02:00", "-05:30", "UTC"])
def test_a_point_in_time_is_the_clock_of_the_zone_that_the_file_names(write, zone):
    clock = pa.array([dt.datetime(2020, 7, 2, 3, 4), None], pa.timestamp("us"))
    if zone[0] in "+-":
        minutes = int(zone[0] + "1") * (60 * int(zone[1:3]) + int(zone[4:]))
        shifted = pc.subtract(clock, pa.scalar(dt.timedelta(minutes=minutes)))
        array = shifted.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us", zone))
    else:
        array = pc.assume_timezone(clock, zone)
    (batch,) = ParquetSource(write({"a": array})).scan()
    assert batch["a"].to_pylist() == clock.to_pylist()
