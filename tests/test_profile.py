import datetime as dt
import decimal
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from kerastrain.config import ColumnConfig
from kerastrain.errors import ConfigError, DataError, SchemaError, UnknownName
from kerastrain.events import recording
from kerastrain.profile import profile, summary_rows
from kerastrain.source import Source
from kerastrain.sources.frame import FrameSource

RNG = np.random.default_rng(0)
NUM_ROWS = 120
NOISE = RNG.normal(size=NUM_ROWS).round(3)
COIN = RNG.integers(0, 2, NUM_ROWS)


class TableSource(Source):
    """An Arrow table; `NUM_ROWS` rows of what a test is not about are added."""

    name = "shop.csv"

    def __init__(self, table):
        self.table = table
        self.schema = table.schema

    def scan(self, columns=None, *, batch_rows=65_536):
        yield from self.table.select(columns or self.schema.names).to_batches()

    def fingerprint(self):
        return {}


def source(**columns):
    return TableSource(pa.table(columns))


def profiled(data, **settings):
    """The schema and the events that were recorded."""
    with recording(listen=lambda event: None) as recorder:
        schema = profile(data, **settings)
    return schema, recorder.events


def repeated(*values, num_rows=NUM_ROWS):
    return [values[i % len(values)] for i in range(num_rows)]


def text(values):
    return [None if value is None else str(value) for value in values]


TYPES = {
    "0 and 1": (text(COIN), "boolean", "float32", None),
    "integers 0 and 1": (COIN, "boolean", "float32", None),
    "arrow booleans": (COIN == 1, "boolean", "float32", None),
    "yes and no": (repeated("Yes", "no", "YES", ""), "boolean", "string", None),
    "y, n and NA": (repeated("Y", "N", "NA"), "boolean", "string", None),
    "three words": (repeated("yes", "no", "maybe"), "categorical", "string", None),
    "1 and 2": (repeated("1", "2"), "numeric", "float32", None),
    "floats": (NOISE, "numeric", "float32", None),
    "floats as text": (text(NOISE), "numeric", "float32", None),
    "decimals": (
        pa.array([decimal.Decimal(f"{v:.3f}") for v in NOISE]),
        "numeric",
        "float32",
        None,
    ),
    "years": (repeated("2017", "2018", "2019"), "numeric", "float32", None),
    "many gaps": (repeated("1.5", "2.5", "NA", "?"), "numeric", "float32", None),
    "money": (
        [f"${v:,.2f}" for v in np.linspace(1, 9e6, NUM_ROWS)],
        "numeric",
        "string",
        "formatted",
    ),
    "some commas": (repeated("999", "1,000", "12"), "numeric", "string", "formatted"),
    "percent": (repeated("1%", "2.5 %", "30%"), "numeric", "string", "formatted"),
    "decimal commas": (repeated("1,5", "2,75", "3,1"), "categorical", "string", None),
    "codes": (repeated("A1", "B2", "7"), "categorical", "string", None),
    "dictionary": (
        pa.array(repeated("a", "b", "c")).dictionary_encode(),
        "categorical",
        "string",
        None,
    ),
    "long category": (
        repeated("some college but no degree", "a master of some kind of arts"),
        "categorical",
        "string",
        None,
    ),
    "iso dates": (
        [f"2019-03-{1 + i % 28:02}T0{i % 10}:15:00Z" for i in range(NUM_ROWS)],
        "datetime",
        "string",
        "ymd",
    ),
    "german dates": (
        [f"{1 + i % 28}.{1 + i % 12}.2019" for i in range(NUM_ROWS)],
        "datetime",
        "string",
        "dmy",
    ),
    "american dates": (
        [f"{1 + i % 12}/{1 + i % 28}/2019" for i in range(NUM_ROWS)],
        "datetime",
        "string",
        "mdy",
    ),
    "timestamps": (
        [dt.datetime(2019, 1, 1) + dt.timedelta(hours=i) for i in range(NUM_ROWS)],
        "datetime",
        "string",
        "ymd",
    ),
    "arrow dates": (repeated(dt.date(2019, 1, 2), None), "datetime", "string", "ymd"),
}


@pytest.mark.parametrize("case", TYPES)
def test_a_column_gets_the_type_that_a_person_would_give_it(case):
    values, type, dtype, format = TYPES[case]
    schema, _ = profiled(source(x=values, noise=NOISE))
    column = schema["x"]
    assert (column.role, column.type) == ("feature", type)
    assert (column.dtype, column.format) == (dtype, format)


IGNORED = {
    "empty": [None] * NUM_ROWS,
    "constant": ["same"] * NUM_ROWS,
    "identifier": [f"{i:04}-XYZ" for i in RNG.permutation(NUM_ROWS)],
    "text": [f"Mr. Name{i} Of-House{i % 7}" for i in range(NUM_ROWS)],
    "unsupported": [[1, 2]] * NUM_ROWS,
}


@pytest.mark.parametrize("reason", IGNORED)
def test_a_column_that_teaches_nothing_is_left_out_and_said_so(reason):
    schema, events = profiled(source(x=IGNORED[reason], noise=NOISE))
    assert (schema["x"].role, schema["x"].type) == ("ignored", reason)
    assert [c.name for c in schema.features] == ["noise"]
    (event,) = [e for e in events if e.code == "column_ignored"]
    assert event.message.startswith(f"Column 'x' is left out ({reason}):")


SENTENCES = [f"the {i} quick brown foxes jump over {i}" for i in range(NUM_ROWS)]


@pytest.mark.parametrize(
    ("values", "type"),
    [
        (SENTENCES, "text"),
        (SENTENCES[:12] * (NUM_ROWS // 12), "categorical"),
        ([f"{i} High Street Sometown" for i in range(NUM_ROWS)], "ignored"),
        ([f"{i:x}" * 40 for i in range(1, 1 + NUM_ROWS)], "ignored"),
        ([f"article {i % 60}" for i in range(NUM_ROWS)], "categorical"),
    ],
)
def test_free_text_has_several_words_and_many_values(values, type):
    schema, _ = profiled(source(x=values, noise=NOISE))
    found = schema["x"]
    assert (found.role if type == "ignored" else found.type) == type


def test_short_texts_are_learnt_from_as_free_text_where_the_user_says_so():
    names = source(x=IGNORED["text"], noise=NOISE)
    schema, (event,) = profiled(names)
    assert event.message.endswith("Use it: --column x=text")
    schema, events = profiled(names, columns={"x": ColumnConfig(type="text")})
    assert ([c.type for c in schema.features], events) == (["text", "numeric"], [])
    schema, _ = profiled(source(x=SENTENCES, noise=NOISE), ignore=["x"])
    assert schema["x"].role == "ignored"


@pytest.mark.parametrize(
    ("name", "values", "is_identifier"),
    [
        ("x", np.arange(NUM_ROWS), True),
        ("x", text(np.arange(NUM_ROWS)), True),
        ("x", np.arange(NUM_ROWS) * 1000, False),
        ("customerID", np.arange(NUM_ROWS) * 1000, True),
        ("order_no", np.arange(NUM_ROWS) * 1000, True),
        ("paid", np.arange(NUM_ROWS) * 1000, False),
        ("id", [i // 2 * 1000 for i in range(NUM_ROWS)], False),
        ("id", NOISE, False),
    ],
)
def test_integers_are_identifiers_when_dense_or_named_so(name, values, is_identifier):
    schema, _ = profiled(source(**{name: values, "noise": NOISE}))
    assert (schema[name].type == "identifier") == is_identifier


def test_a_few_rows_never_make_an_identifier():
    schema, _ = profiled(source(id=[f"a{i}" for i in range(19)]))
    assert schema["id"].type == "categorical"


def test_keep_uses_a_column_that_would_be_left_out():
    data = source(id=IGNORED["identifier"], same=IGNORED["constant"], noise=NOISE)
    schema, events = profiled(data, keep=["id", "same"])
    assert [c.type for c in schema.features] == [
        "categorical",
        "categorical",
        "numeric",
    ]
    assert not events


def test_nested_values_cannot_be_kept():
    with pytest.raises(SchemaError, match="column 'x' in shop.csv holds nested"):
        profile(source(x=IGNORED["unsupported"]), keep=["x"])


def test_ignored_columns_are_left_out():
    schema, _ = profiled(source(x=COIN, noise=NOISE), ignore=["x"])
    assert (schema["x"].role, schema["x"].reason) == ("ignored", "left out by the user")


def test_words_among_numbers_count_as_missing_and_are_named():
    values = text(NOISE)[:-3] + ["oops", "oops", "NA"]
    schema, events = profiled(source(x=values))
    column = schema["x"]
    assert column.type == "numeric"
    assert column.missing_values == ["NA", "oops"]
    assert column.stats.num_missing == 3
    (event,) = [e for e in events if e.code == "texts_among_numbers"]
    assert event.details["texts"] == {"oops": 2}


def test_too_many_different_words_make_a_category():
    values = text(range(1000, 2000)) + [f"w{i}" for i in range(11)]
    schema, _ = profiled(source(x=values * 2))
    assert schema["x"].type == "categorical"


def test_infinite_numbers_count_as_missing_and_are_counted():
    schema, events = profiled(source(x=[float("inf"), 1e300, *NOISE[2:]]))
    assert (schema["x"].stats.num_infinite, schema["x"].stats.num_missing) == (2, 2)
    assert np.isfinite(schema["x"].stats.max)
    assert [e.details["count"] for e in events if e.code == "infinite_numbers"] == [2]


def test_dates_that_read_both_ways_are_taken_as_american_with_a_warning():
    data = source(when=[f"{1 + i % 12}/{1 + i % 11}/2019" for i in range(NUM_ROWS)])
    schema, events = profiled(data)
    assert schema["when"].format == "mdy"
    assert "columns: {when: {format: dmy}}" in events[0].message
    schema, events = profiled(data, columns={"when": ColumnConfig(format="dmy")})
    assert (schema["when"].format, events) == ("dmy", [])


def test_the_user_sets_types_and_missing_values():
    wishes = {
        "zip": ColumnConfig(type="categorical"),
        "age": ColumnConfig(missing_values=["-999"]),
    }
    data = source(zip=repeated(10115, 80331), age=[-999, *NOISE[1:]])
    schema, _ = profiled(data, columns=wishes)
    assert (schema["zip"].type, schema["zip"].dtype) == ("categorical", "string")
    assert schema["age"].stats.num_missing == 1
    assert schema["age"].missing_values == ["-999"]


@pytest.mark.parametrize(
    ("values", "wish", "message"),
    [
        (
            ["1", "x", "y"] * 40,
            {"type": "numeric"},
            "row 2: expected a number, got 'x'",
        ),
        (
            ["1", "2", "no"] * 40,
            {"type": "boolean"},
            "row 2: expected one of .*got '2'",
        ),
        ([0, 1, 2] * 40, {"type": "boolean"}, "row 3: expected one of .*got '2'"),
        (
            ["5", "x"] * 60,
            {"type": "datetime"},
            "row 1: expected a date .*ymd, got '5'",
        ),
        (["2019-01-31"] * 120, {"format": "dmy"}, "row 1: expected a date .*order dmy"),
        (
            ["x", "$5"] * 60,
            {"format": "formatted"},
            "row 1: expected a number, got 'x'",
        ),
        (IGNORED["unsupported"], {"type": "numeric"}, "nested or binary"),
    ],
)
def test_a_type_that_the_data_do_not_fit_is_refused(values, wish, message):
    with pytest.raises(SchemaError, match=f"column 'x' in shop.csv.*{message}"):
        profile(source(x=values), columns={"x": ColumnConfig(**wish)})


@pytest.mark.parametrize(
    ("wish", "error", "message"),
    [
        ({"type": "numerical"}, UnknownName, "Did you mean 'numeric'"),
        ({"format": "dym"}, ConfigError, "columns.x.format: expected one of ymd"),
        ({"type": "numeric", "format": "dmy"}, ConfigError, "'dmy' is none of type"),
    ],
)
def test_a_wrong_setting_of_a_column_is_refused(wish, error, message):
    with pytest.raises(error, match=message):
        profile(source(x=NOISE), columns={"x": ColumnConfig(**wish)})


@pytest.mark.parametrize(
    "settings",
    [
        {"target": "nosie"},
        {"weight": "nosie"},
        {"columns": {"nosie": ColumnConfig()}},
        {"ignore": ["nosie"]},
        {"keep": ["nosie"]},
    ],
)
def test_an_unknown_column_gets_a_suggestion(settings):
    message = "No column 'nosie' in shop.csv. Did you mean 'noise'? Columns: 'noise'."
    with pytest.raises(SchemaError, match=f"^{re.escape(message)}$"):
        profile(source(noise=NOISE), **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"target": "y", "weight": "y"},
        {"target": "y", "ignore": ["y"]},
        {"weight": "y", "ignore": ["y"]},
    ],
)
def test_a_column_has_one_role(settings):
    with pytest.raises(ConfigError, match="Column 'y'"):
        profile(source(y=COIN, noise=NOISE), **settings)


def test_a_weight_is_a_number_and_no_feature():
    schema, _ = profiled(source(w=repeated("$1,000", "$2")), weight="w")
    assert (schema.weight.dtype, schema.weight.format) == ("float32", "formatted")
    assert not schema.features
    with pytest.raises(SchemaError, match="column 'w' .*row 1: expected a number"):
        profile(source(w=repeated("a", "b")), weight="w")


def test_inputs_get_plain_names_and_other_columns_none():
    schema, _ = profiled(
        source(**{"Größe (cm)": NOISE, "a/b": NOISE * 2, "y": COIN}), target="y"
    )
    assert [c.input for c in schema.columns] == ["Grosse_cm", "a_b", ""]


def test_duplicate_rows_are_counted_without_the_identifier():
    data = source(id=np.arange(NUM_ROWS), x=[*range(90), *range(30)])
    _, events = profiled(data)
    (event,) = [e for e in events if e.code == "duplicate_rows"]
    assert (event.details["count"], event.severity) == (30, "warning")


def test_summary_rows_say_what_each_column_holds():
    schema, _ = profiled(
        source(
            id=np.arange(NUM_ROWS), word=repeated("a", "b", None), x=NOISE * 0 + COIN
        )
    )
    rows = summary_rows(schema)
    assert [row["name"] for row in rows] == ["id", "word", "x"]
    assert rows[0]["values"] == "0 to 119, median 59.5"
    assert rows[0]["note"] == schema["id"].reason
    assert rows[1]["missing"] == "33.3%"
    assert rows[1]["values"] == "a (33.3%), b (33.3%)"


def test_a_table_without_rows_is_refused():
    with pytest.raises(DataError, match="^shop.csv has no rows.$"):
        profile(source(x=pa.array([], pa.string())))


def test_a_table_without_features_is_refused():
    message = (
        "shop.csv has no column to predict 'y' from. Left out: 'x' \\(constant\\)."
    )
    with pytest.raises(DataError, match=message):
        profile(source(x=[1] * NUM_ROWS, y=COIN), target="y")


def test_profile_and_column_types_load_no_tensorflow():
    code = (
        "import sys, kerastrain.profile, kerastrain.columns as c\n"
        "[c.COLUMNS.load(name) for name in c.COLUMNS]\n"
        "print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


def test_numbers_with_a_decimal_comma_are_warned_of():
    texts = [f"1.{i:03},{i % 7}5" if i % 3 else f"-{i},5" for i in range(60)]
    with recording(listen=lambda event: None) as recorder:
        profile(FrameSource({"price": texts, "code": ["a,1", "b,2"] * 30}))
    events = {e.code: e.message for e in recorder.events}
    assert (
        "Column 'price' holds numbers with a decimal comma" in events["decimal_commas"]
    )
    assert "'code'" not in events["decimal_commas"]
