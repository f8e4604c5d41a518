import datetime as dt
import re

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from kerastrain import formats
from kerastrain.columns import COLUMNS
from kerastrain.errors import SchemaError
from kerastrain.schema import Column, ColumnStats


def column(type, **settings):
    settings = {"dtype": "string"} | settings
    stats = ColumnStats(storage="string", num_rows=3)
    return Column(name="x", type=type, stats=stats, **settings)


def to_input(column, values, type=None, *, first_row=0):
    leaf = COLUMNS.load(column.type)
    array = pa.array(values, type)
    return leaf.to_input(column, array, where="shop.csv", first_row=first_row)


def reads_everywhere(pattern, text):
    """Whether a pattern takes a text; Python, DuckDB and Arrow have to agree."""
    in_python = re.fullmatch(pattern, text) is not None
    query = "SELECT regexp_full_match(?, ?)"
    in_duckdb = duckdb.execute(query, [text, pattern]).fetchone()[0]
    in_arrow = formats.matches(pa.array([text]), pattern)[0].as_py()
    assert in_python == in_duckdb == in_arrow
    return in_python


@pytest.mark.parametrize("text", ["5", "-5.5", "+.5", "5.", "1e-7", "inf", "NaN"])
def test_a_number_is_one_in_every_engine(text):
    assert reads_everywhere(formats.NUMBER, text)


@pytest.mark.parametrize("text", ["", "1_000", "1,5", "0x1F", "1e", "-", "٣", "5 kg"])
def test_a_text_that_is_no_number_is_none_in_every_engine(text):
    assert not reads_everywhere(formats.NUMBER, text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234", 1234),
        ("1,234,567.5", 1234567.5),
        ("$5", 5),
        ("-$5.50", -5.5),
        ("$-5", -5),
        ("€ 3", 3),
        ("3 €", 3),
        ("12%", 0.12),
        ("-12.5 %", -0.125),
        ("(5)", -5),
        ("($1,000)", -1000),
        ("7", 7),
        ("2e3", 2000),
    ],
)
def test_formatted_numbers_have_the_value_a_person_reads(text, value):
    assert reads_everywhere(formats.FORMATTED_NUMBER, text)
    column_ = column("numeric", dtype="float32", format="formatted")
    assert to_input(column_, [text]) == pytest.approx([value])


@pytest.mark.parametrize(
    "text",
    ["1,5", "12,34", "1.234,5", "1 234", "(5", "$", "%", "--5", "5 kg", "1,2345"],
)
def test_formatted_numbers_refuse_what_could_mean_something_else(text):
    assert not reads_everywhere(formats.FORMATTED_NUMBER, text)


@pytest.mark.parametrize(
    ("order", "text"),
    [
        ("ymd", "2019-03-23"),
        ("ymd", "2019/3/2 7:05"),
        ("ymd", "2019-03-23T20:21:09.123456Z"),
        ("ymd", "2019-03-23 20:21:09+02:00"),
        ("dmy", "31.12.2019"),
        ("mdy", "12/31/2019 23:59:59"),
    ],
)
def test_dates_read_in_their_own_order_only(order, text):
    read_in = {o for o, p in formats.DATES.items() if reads_everywhere(p, text)}
    assert read_in == {order}


@pytest.mark.parametrize(
    "text",
    ["2019", "20190323", "2019-13-01", "2019-01-32", "1.2.3", "2019-01-01 24:00"],
)
def test_what_is_no_date_reads_in_no_order(text):
    assert not any(reads_everywhere(p, text) for p in formats.DATES.values())


@pytest.mark.parametrize(
    ("values", "type"),
    [
        (["1", " 2.5 ", "", None], pa.string()),
        (["1", "2.5", None, "nan"], pa.large_string()),
        ([1.0, 2.5, None, float("nan")], pa.float64()),
        ([1.0, 2.5, float("inf"), 1e300], pa.float64()),
        (["1", "2.5", "n/a", "n/a"], pa.dictionary(pa.int8(), pa.string())),
    ],
)
def test_numbers_of_any_storage_become_float32_with_nan_for_missing(values, type):
    given = to_input(
        column("numeric", dtype="float32", missing_values=["n/a"]), values, type
    )
    assert given.dtype == np.float32
    np.testing.assert_array_equal(given, np.float32([1, 2.5, np.nan, np.nan]))


def test_a_missing_value_that_is_a_number_counts_in_numbers_too():
    column_ = column("numeric", dtype="float32", missing_values=["-999", "?"])
    np.testing.assert_array_equal(to_input(column_, [-999, 3]), [np.nan, 3])
    np.testing.assert_array_equal(to_input(column_, ["-999", "3"]), [np.nan, 3])


@pytest.mark.parametrize("format", [None, "formatted"])
def test_a_word_among_numbers_is_named_with_its_row(format):
    column_ = column("numeric", dtype="float32", format=format)
    message = (
        "column 'x' in shop.csv, row 1003: expected a number, got 'n/a'. Mend it or "
        "leave it empty, or train with it among missing_values, or with --column "
        "x=categorical"
    )
    with pytest.raises(SchemaError, match=f"^{re.escape(message)}$"):
        to_input(column_, ["1", "", "n/a", "oops"], first_row=1000)


def test_dates_are_refused_where_numbers_are_expected():
    with pytest.raises(SchemaError, match="expected numbers, got timestamp"):
        to_input(column("numeric", dtype="float32"), [dt.datetime(2020, 1, 1)])


@pytest.mark.parametrize(
    ("values", "type", "texts"),
    [
        ([1, None, 3], pa.int64(), ["1", "", "3"]),
        ([1.0, float("nan"), 1.5], pa.float64(), ["1", "", "1.5"]),
        ([-0.0, 0.0, 1.1], pa.float32(), ["0", "0", "1.1"]),
        ([True, None, False], pa.bool_(), ["true", "", "false"]),
        ([" a ", None, "?"], pa.string(), ["a", "", ""]),
        (["a", None, "?"], pa.dictionary(pa.int8(), pa.string()), ["a", "", ""]),
        ([None, None], pa.null(), ["", ""]),
    ],
)
def test_categories_of_any_storage_become_text(values, type, texts):
    given = to_input(column("categorical", missing_values=["?"]), values, type)
    assert given.to_pylist() == texts


@pytest.mark.parametrize(
    ("format", "values", "type", "texts"),
    [
        ("ymd", [dt.date(2020, 1, 2), None], pa.date32(), ["2020-01-02 00:00:00", ""]),
        (
            "ymd",
            [dt.datetime(2020, 1, 2, 3, 4, 5, 60)],
            pa.timestamp("ns"),
            ["2020-01-02 03:04:05.000060"],
        ),
        (
            "ymd",
            [dt.datetime(2020, 7, 1, 12)],
            pa.timestamp("us", tz="Europe/Berlin"),
            ["2020-07-01 12:00:00"],
        ),
        ("dmy", [dt.date(2020, 1, 2)], pa.date32(), ["02/01/2020 00:00:00"]),
        ("dmy", [" 2.1.2020", "NA"], pa.string(), ["2.1.2020", ""]),
    ],
)
def test_dates_become_text_in_the_order_of_the_column(format, values, type, texts):
    column_ = column("datetime", format=format, missing_values=["NA"])
    if getattr(type, "tz", None):
        values = [v.replace(tzinfo=dt.timezone(dt.timedelta(hours=2))) for v in values]
    given = to_input(column_, values, type)
    assert given.to_pylist() == texts
    pattern = formats.DATES[format]
    assert all(reads_everywhere(pattern, text) for text in texts if text)


@pytest.mark.parametrize(
    "values", [["1", "0", ""], ["1.0", "0.0", None], ["Yes", "no", None], [1, 0, None]]
)
def test_booleans_as_numbers_read_words_and_numbers(values):
    given = to_input(column("boolean", dtype="float32"), values)
    np.testing.assert_array_equal(given, np.float32([1, 0, np.nan]))


def test_booleans_as_words_take_arrow_booleans_and_numbers():
    column_ = column("boolean")
    assert to_input(column_, [True, None, False]).to_pylist() == ["true", "", "false"]
    assert to_input(column_, [1, None, 0]).to_pylist() == ["true", "", "false"]
    assert to_input(column_, ["Yes", None, "no"]).to_pylist() == ["Yes", "", "no"]


@pytest.mark.parametrize("dtype", ["string", "float32"])
def test_a_boolean_that_is_neither_true_nor_false_is_named_with_its_row(dtype):
    with pytest.raises(SchemaError, match="row 2: expected one of .* got 'maybe'"):
        to_input(column("boolean", dtype=dtype), ["yes", "maybe"])
