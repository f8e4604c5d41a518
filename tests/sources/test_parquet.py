"""Parquet: types, several files, damage."""

import datetime as dt
from decimal import Decimal

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from kerastrain.errors import SourceError
from kerastrain.events import recording
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
    with pytest.raises(SourceError, match="p2.parquet lacks a, and p1.parquet lacks c"):
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


def test_folders_of_partitions_are_columns(tmp_path):
    for year in (2020, 2021):
        folder = tmp_path / f"year={year}" / "city=a b"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"a": [year - 2020]}), folder / "part.parquet")
    (tmp_path / "_SUCCESS").touch()
    for data in (tmp_path, tmp_path / "year=20*", tmp_path / "**" / "*.parquet"):
        source = open_source(str(data))
        assert pa.Table.from_batches(source.scan()).to_pydict() == {
            "a": [0, 1],
            "year": [2020, 2021],
            "city": ["a b", "a b"],
        }
    source = open_source(tmp_path, where="year = 2021", select=["a"])
    assert [batch.to_pydict() for batch in source.scan()] == [{"a": [1]}]


def test_files_in_different_partitions_are_refused(tmp_path):
    for folder in ("year=2020", "month=1"):
        (tmp_path / folder).mkdir()
        pq.write_table(pa.table({"a": [1]}), tmp_path / folder / "part.parquet")
    with pytest.raises(SourceError, match=r"partitions: folders.* year, and month\.$"):
        open_source(tmp_path)


def test_a_column_of_another_type_is_told_with_its_file(write):
    paths = [write({"a": [1]}, "p1.parquet"), write({"a": ["x"]}, "p2.parquet")]
    message = "Column 'a' is string in p2.parquet, but int64 in p1.parquet"
    with pytest.raises(SourceError, match=message):
        ParquetSource(paths)


def test_numbers_of_other_widths_go_together(write):
    paths = [
        write({"a": pa.array([1], pa.int32())}, "p1.parquet"),
        write({"a": [2.5]}, "p2.parquet"),
        write({"a": pa.array([None], pa.null())}, "p3.parquet"),
    ]
    source = ParquetSource(paths)
    table = pa.Table.from_batches(source.scan(), source.schema)
    assert table.to_pydict() == {"a": [1.0, 2.5, None]}


def test_a_missing_column_is_told_with_its_file(write):
    paths = [write({"a": [1], "b": [1]}, f"p{i}.parquet") for i in range(2)]
    paths.append(write({"a": [1]}, "p2.parquet"))
    message = "p2.parquet and p0.parquet have different columns: p2.parquet lacks b"
    with pytest.raises(SourceError, match=message):
        ParquetSource(paths)


def test_an_empty_part_among_others_is_passed_over(write, tmp_path):
    write({"a": pa.array([], pa.string())}, "p1.parquet")  # of a guessed type
    write({"a": [1]}, "p2.parquet")
    (tmp_path / "p3.parquet").touch()
    with recording() as recorder:
        source = open_source(str(tmp_path / "*.parquet"))
    assert [batch.to_pydict() for batch in source.scan()] == [{"a": [1]}]
    assert {event.code for event in recorder.events} == {"empty_files"}


def test_of_several_files_the_truncated_one_is_named(write):
    paths = [write({"a": range(10_000)}, f"p{i}.parquet") for i in range(3)]
    paths[1].write_bytes(paths[1].read_bytes()[:5_000])
    with pytest.raises(SourceError, match=r"p1.parquet is not a Parquet file") as e:
        ParquetSource(paths)
    assert "\n" not in str(e.value)


def test_of_several_files_the_damaged_one_is_named(write):
    texts = {"a": [str(i) for i in range(50_000)]}
    paths = [write(texts, f"p{i}.parquet") for i in range(3)]
    data = bytearray(paths[1].read_bytes())
    data[100:20_000] = b"\xff" * 19_900
    paths[1].write_bytes(data)
    with pytest.raises(SourceError, match=r"Cannot read .*p1.parquet: ") as e:
        list(ParquetSource(paths).scan())
    assert "\n" not in str(e.value)
