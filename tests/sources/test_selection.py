"""`where` and `select`: which rows and columns of a source are read."""

import datetime as dt
import json

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerastrain.errors import SchemaError, SourceError
from kerastrain.source import open_source

ROWS = {
    "year": [2018, 2019, 2020, 2021, None],
    "city": ["a", "b", "c", "a", "b"],
    "price": [1.5, None, 10.25, 9.0, 3.0],
    "day": ["2020-01-05", "2020-02-05", "2019-03-01", "2021-01-01", None],
    "zip": ["01", "02", "11", "12", "03"],
}
KINDS = ["csv", "parquet", "frame", "json"]


@pytest.fixture
def make(tmp_path):
    """Data of one kind with the given columns."""

    def _make(kind, columns):
        path = tmp_path / f"data.{kind}"
        if kind == "frame":
            return pa.table(columns)
        if kind == "csv":
            frame = pd.DataFrame({n: pd.array(v) for n, v in columns.items()})
            frame.to_csv(path, index=False)
        elif kind == "parquet":
            pq.write_table(pa.table(columns), path)
        else:
            rows = [
                dict(zip(columns, row, strict=True))
                for row in zip(*columns.values(), strict=True)
            ]
            path.write_text("\n".join(map(json.dumps, rows)))
        return path

    return _make


def read(source, columns=None):
    fields = [source.schema.field(name) for name in columns or source.schema.names]
    return pa.Table.from_batches(source.scan(columns), pa.schema(fields))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("where", "zips"),
    [
        ("year < 2020", ["01", "02"]),
        ("year IS NULL", ["03"]),
        ("price > 9.5", ["11"]),  # as texts "10.25" would be less
        ("city IN ('a', 'b') AND price IS NOT NULL", ["01", "12", "03"]),
        ("day >= DATE '2020-02-01'", ["02", "12"]),
        ("year(day::DATE) = 2020", ["01", "02"]),
        ("\"city\" = 'c' -- and no more", ["11"]),
        ("YEAR = 2021", ["12"]),
        ("city = 'nowhere'", []),
        ("true", ROWS["zip"]),
    ],
)
def test_a_condition_means_the_same_on_every_kind_of_source(make, kind, where, zips):
    source = open_source(make(kind, ROWS), where=where)
    assert read(source, ["zip"])["zip"].to_pylist() == zips
    assert read(source)["zip"].to_pylist() == zips


@pytest.mark.parametrize("kind", KINDS)
def test_values_and_types_come_out_as_they_went_in(make, kind):
    data = make(kind, ROWS)
    whole, part = open_source(data), open_source(data, where="year >= 2018 AND zip > 1")
    assert part.schema == whole.schema
    assert read(part) == read(whole).slice(1, 3)
    assert part.num_rows is None
    relation = part.relation(duckdb.connect())
    assert relation.aggregate("count(*)").fetchall() == [(3,)]


@pytest.mark.parametrize("kind", KINDS)
def test_codes_with_zeros_in_front_are_compared_as_the_condition_asks(make, kind):
    data = make(kind, ROWS)
    like = open_source(data, where="zip LIKE '0%'")
    assert read(like)["zip"].to_pylist() == ["01", "02", "03"]
    number = open_source(data, where="zip < 10")
    assert read(number)["zip"].to_pylist() == ["01", "02", "03"]


@pytest.mark.parametrize("kind", ["csv", "parquet", "frame"])
def test_the_order_of_many_rows_is_kept_each_time(make, kind):
    data = make(kind, {"i": range(200_000), "s": ["x", "y"] * 100_000})
    source = open_source(data, where="s = 'y'", select=["i"])
    for _ in range(2):
        column = read(source)["i"].cast("int64")
        assert column.equals(pa.chunked_array([pa.array(range(1, 200_000, 2))]))


def test_selected_columns_come_in_the_order_that_is_asked_for(make):
    source = open_source(make("parquet", ROWS), select=["zip", "city"])
    assert source.schema.names == ["zip", "city"]
    assert source.num_rows == 5
    assert read(source).column_names == ["zip", "city"]


def test_a_condition_may_be_about_a_column_that_is_not_selected(make):
    data = make("csv", ROWS)
    source = open_source(data, where="year = 2019", select=["city"])
    assert read(source).to_pydict() == {"city": ["b"]}


def test_a_choice_from_a_choice_fulfils_both(make):
    first = open_source(make("csv", ROWS), where="city = 'a' OR city = 'b'")
    second = open_source(first, where="year > 2018 -- new")
    assert read(second)["zip"].to_pylist() == ["02", "12"]
    assert open_source(first) is first


@pytest.mark.parametrize("name", ["__kept_0", "r0", "price", "a b", 'a"b', "größe"])
def test_a_column_may_have_any_name(name):
    table = pa.table({name: ["1", "20", "3"], "priceless": ["a", "b", "c"]})
    column = '"' + name.replace('"', '""') + '"'
    source = open_source(table, where=f"{column} > 2.5 AND priceless <> 'c'")
    assert read(source).to_pydict() == {name: ["20"], "priceless": ["b"]}


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string()])
def test_texts_in_memory_of_any_width_are_compared_as_numbers(kind):
    table = pa.table({"n": pa.array(["9", "10", None], kind)})
    assert read(open_source(table, where="n > 9"))["n"].to_pylist() == ["10"]


def test_a_column_that_is_typed_is_compared_as_what_it_is():
    table = pa.table({"t": [dt.datetime(2020, 1, 1), dt.datetime(2021, 1, 1)]})
    source = open_source(table, where="t >= '2020-06-01'")
    assert read(source).num_rows == 1


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("year <", r"The condition 'year <': .*syntax error"),
        ("yaer < 2020", "The condition 'yaer < 2020': .*yaer.*Columns of"),
        ("city < 2020", "The condition 'city < 2020': .*TRY_CAST"),
        ("true; DROP TABLE t", "The condition 'true; DROP TABLE t': "),
        ("sum(price) > 1", "The condition 'sum.price. > 1': "),
        ("", "The condition '': "),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_condition_that_is_none_is_told_in_one_line(make, kind, where, message):
    with pytest.raises(SourceError, match=message) as caught:
        list(open_source(make(kind, ROWS), where=where).scan())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_column_is_not_selected(make, kind):
    with pytest.raises(SchemaError, match="column 'cty'.*Did you mean 'city'"):
        open_source(make(kind, ROWS), select=["cty"])


def test_the_choice_is_part_of_the_fingerprint(make):
    data = make("csv", ROWS)
    plain = open_source(data).fingerprint()
    chosen = open_source(data, where="year < 2020", select=["zip"]).fingerprint()
    assert chosen == plain | {"where": "year < 2020", "columns": ["zip"]}


def test_a_text_far_down_that_is_no_number_is_told_with_the_way_out(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a,b\n" + "1,x\n" * 300_000 + "bad,y\n")
    with pytest.raises(SourceError, match="convert string 'bad' .*write TRY_CAST"):
        list(open_source(path, where="a = 1").scan())
    kept = open_source(path, where="TRY_CAST(a AS DOUBLE) IS NULL")
    assert read(kept).to_pydict() == {"a": ["bad"], "b": ["y"]}


@pytest.mark.parametrize("where", ["n >= 0", "text >= 0"])
def test_what_a_source_says_of_its_damage_is_not_wrapped(tmp_path, where):
    rows = range(100_000)
    table = pa.table({"n": rows, "text": list(map(str, rows))})
    path = tmp_path / "data.arrow"
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=10_000)
    path.write_bytes(path.read_bytes()[:900_000])
    with pytest.raises(SourceError, match="^[^ ]*data.arrow is not an Arrow") as caught:
        list(open_source(path, where=where).scan())
    assert "Traceback" not in str(caught.value)
