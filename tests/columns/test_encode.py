"""What training reads is what the model makes of the raw row, for every column type."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from kerastrain.arrays import ArrayStore
from kerastrain.columns import COLUMNS
from kerastrain.columns.datetime import Datetime
from kerastrain.config import FeaturesConfig
from kerastrain.encoded import TrainValues
from kerastrain.features import Front
from kerastrain.ingest import ingest
from kerastrain.pipeline import encode
from kerastrain.schema import Column, ColumnStats, Schema
from kerastrain.source import open_source

# Keras 3.15 with NumPy 2 says so whenever a variable is read.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)

NAN, INF = np.nan, np.inf
SPACED = "\t\xa0%s \u3000\r\n"


def column(type, dtype="string", storage="string", **options):
    stats = ColumnStats(storage=storage, num_rows=0, min=options.pop("min", None))
    return Column(
        name="a column", type=type, dtype=dtype, input="x", stats=stats, **options
    )


DATES = [
    "2024-02-29",
    "1999-12-31 23:59:59",
    "2024/1/2T3:04",
    "31.12.2000",
    "02/30/2001",
]
DATES += ["2023-02-29", "x", "", None, "2024-02-29", SPACED % "2000.06.15 12:30:00Z"]

# Name: the column, the values of the train rows, more values seen later.
CASES = {
    "numeric": (
        column("numeric", "float32", "float"),
        pa.array([1.5, None, NAN, INF, -INF, -0.0, 1e39, 1e-45, 16777217.0]),
        pa.array([3.25e38, 0.1]),
    ),
    "numeric, integers": (
        column("numeric", "float32", "integer"),
        pa.array([1, None, -5, 2**62]),
        pa.array([0, 7], pa.int8()),
    ),
    "numeric, read from text": (
        column("numeric", "float32", missing_values=["NA"]),
        pa.array([" 5", "NA", "", "1e5", "-.5", "inf", "nan", None, "1e99"]),
        pa.array(["7", SPACED % "8"]),
    ),
    "numeric, formatted, with a text for missing": (
        column("numeric", format="formatted", missing_values=["$9"]),
        pa.array(["$9", "$8", " $9 "]),
        pa.array(["9"]),
    ),
    "datetime, with a day for missing": (
        column("datetime", format="ymd", missing_values=["1900-01-01"]),
        pa.array(["1900-01-01", "2020-02-29"]),
        pa.array([" 1900-01-01"]),
    ),
    "numeric, formatted": (
        column("numeric", format="formatted", missing_values=["n/a"]),
        pa.array(
            ["$1,234.50", " (5)", "12%", "", None, "n/a", "1e39", "$1,234.50", "€-.5"]
        ),
        pa.array(["£ 3", SPACED % "1,000"]),
    ),
    "boolean": (
        column("boolean", "float32", "boolean"),
        pa.array([True, False, None, True]),
        pa.array([False]),
    ),
    "boolean, 0 and 1": (
        column("boolean", "float32", "float", missing_values=["NA"]),
        pa.array(["00", " 1.0", "", "NA", "+1", "-0.", None, "1e0", "0E9", "01"]),
        pa.array([1.0, NAN, -0.0]),
    ),
    "boolean, words": (
        column("boolean", missing_values=["?"]),
        pa.array(["yes", "No", " YES ", "", None, "?", "0", "1", "on", "F", "tRuE"]),
        pa.array([SPACED % "y"]),
    ),
    "datetime, ymd": (
        column("datetime", format="ymd", min=9e8),
        pa.array(DATES),
        pa.array(["1970-01-01", "9999-12-31"]),
    ),
    "datetime, dmy": (
        column("datetime", format="dmy", missing_values=["n/a"]),
        pa.array([*DATES, "n/a"]),
        pa.array(["1/2/2003"]),
    ),
    "datetime, mdy": (
        column("datetime", format="mdy"),
        pa.array(DATES),
        pa.array(["1/2/2003"]),
    ),
    "datetime, timestamps": (
        column("datetime", storage="timestamp"),
        pa.array([dt.datetime(1969, 7, 20, 20, 17, 40, 999), None], pa.timestamp("ns")),
        pa.array([dt.datetime(2024, 2, 29, 1, 2, 3)], pa.timestamp("s", "Asia/Tokyo")),
    ),
    "datetime, days": (
        column("datetime", storage="timestamp", format="dmy"),
        pa.array([dt.date(1900, 3, 1), None, dt.date(2100, 2, 28)]),
        pa.array([dt.date(2000, 2, 29)]),
    ),
    "categorical": (
        column("categorical", missing_values=["?"]),
        pa.array(
            [
                "b",
                "b",
                " a",
                "a ",
                "rare",
                "",
                None,
                "?",
                "日本",
                "日本",
                "é",
                "e\u0301",
            ]
        ),
        pa.array(["unseen", "b", SPACED % "b", "B", "b c", "", "é\u200b"]),
    ),
    "categorical, words with a meaning for Keras": (
        column("categorical"),
        pa.array(["[UNK]", "[UNK]", "a", "a", "b", "b", "\x00x"]),
        pa.array(["[MASK]", "\x00unseen", "a"]),
    ),
    "categorical, numbers as names": (
        column("categorical", storage="float"),
        pa.array([1.0, 2.5, NAN, None, -0.0, 1.0, 2.5]),
        pa.array(["1", "2.50"]),
    ),
    "text": (
        column("text", missing_values=["n/a"]),
        pa.array(["You won £500, call now!", "Call me at 5 now?", "", None, "n/a"] * 9),
        pa.array(["never seen", SPACED % "call ME now!", "日本 \u200b", "x" * 999]),
    ),
    "categorical, nothing to see": (
        column("categorical"),
        pa.array(["", None, ""], pa.string()),
        pa.array(["a"]),
    ),
}


class Tiny:
    """A table of one column with its front; the train rows are those of `train`."""

    def __init__(self, column, train, later):
        self.schema = Schema(columns=[column], num_rows=len(train))
        parts = [open_source(pa.table({column.name: part})) for part in (train, later)]
        self.table = ingest(parts, self.schema, ArrayStore())
        rows = np.arange(len(train))
        values = {n: t.train_values(rows) for n, t in self.table.texts.items()}
        self.front = Front(self.schema, values, FeaturesConfig())
        self.arrays = encode(self.front, self.table, ArrayStore())
        ((_, self.encoded),) = self.front.columns

    def of_model(self, raw):
        outputs = self.front.model({"x": tf.constant(raw)}, training=False)
        return {name: tensor.numpy() for name, tensor in outputs.items()}


@pytest.fixture(scope="module")
def tiny():
    """Fronts by the name of their case, each built once."""
    return {name: Tiny(*case) for name, case in CASES.items()}


def test_every_column_type_has_a_case():
    assert {name.partition(",")[0] for name in CASES} == {*COLUMNS}


@pytest.mark.parametrize("name", CASES)
def test_arrays_are_what_the_model_gives_row_by_row(name, tiny):
    case = tiny[name]
    raw = case.table.raw(case.schema, np.arange(case.table.num_rows))["x"]
    by_row = [case.of_model(raw[i : i + 1]) for i in range(len(raw))]
    whole = case.of_model(raw)
    assert {*case.arrays} == {*whole}
    for matrix, array in case.arrays.items():
        assert array.dtype == whole[matrix].dtype
        assert array.shape == (len(raw), case.encoded.width)
        rows = np.concatenate([outputs[matrix] for outputs in by_row])
        np.testing.assert_allclose(array, rows, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(array, whole[matrix], rtol=1e-6, atol=1e-7)


TEXTS = [
    name
    for name, (column, *parts) in CASES.items()
    if column.dtype == "string" and all(pa.types.is_string(p.type) for p in parts)
]


@pytest.mark.parametrize("name", TEXTS)
def test_raw_texts_read_as_in_training_without_any_preparation(name, tiny):
    _, *parts = CASES[name]
    case = tiny[name]
    values = [value or "" for part in parts for value in part.to_pylist()]
    outputs = case.of_model(np.array(values, dtype=object))
    for matrix, array in case.arrays.items():
        np.testing.assert_allclose(outputs[matrix], array, rtol=1e-6, atol=1e-7)


def numbers_of(case):
    return case.arrays["numbers"][:, 0]


def test_a_number_that_stands_for_missing_does_so_in_the_model_too():
    sentinel = column("numeric", "float32", "float", missing_values=["-999", "NA"])
    case = Tiny(sentinel, pa.array([-999.0]), pa.array([2.0]))
    outputs = case.of_model(np.array([-999, 2], "float32"))
    np.testing.assert_array_equal(case.arrays["numbers"], [[np.nan], [2]])
    np.testing.assert_array_equal(outputs["numbers"], [[np.nan], [2]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("numeric", [1.5, NAN, NAN, NAN, NAN, 0, NAN, 1e-45, 16777216, 3.25e38, 0.1]),
        ("numeric, integers", [1, NAN, -5, 2.0**62, 0, 7]),
        ("numeric, read from text", [5, NAN, NAN, 1e5, -0.5, NAN, NAN, NAN, NAN, 7, 8]),
        (
            "numeric, formatted",
            [1234.5, -5, 0.12, NAN, NAN, NAN, NAN, 1234.5, -0.5, 3, 1000],
        ),
        ("boolean", [1, 0, NAN, 1, 0]),
        ("boolean, 0 and 1", [0, 1, NAN, NAN, 1, 0, NAN, 1, 0, 1, 1, NAN, 0]),
        ("boolean, words", [1, 0, 1, NAN, NAN, NAN, 0, 1, 1, 0, 1, 1]),
    ],
)
def test_numbers_are_read(name, expected, tiny):
    np.testing.assert_allclose(numbers_of(tiny[name]), np.float32(expected), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "datetime, ymd",
            [(2024, 2, 29), (1999, 12, 31), (2024, 1, 2), *[None] * 6, (2024, 2, 29)]
            + [(2000, 6, 15), (1970, 1, 1), (9999, 12, 31)],
        ),
        ("datetime, dmy", [*[None] * 3, (2000, 12, 31), *[None] * 8, (2003, 2, 1)]),
        ("datetime, mdy", [*[None] * 11, (2003, 1, 2)]),
        ("datetime, timestamps", [(1969, 7, 20), None, (2024, 2, 29)]),
        ("datetime, days", [(1900, 3, 1), None, (2100, 2, 28), (2000, 2, 29)]),
    ],
)
def test_dates_are_read_in_the_order_of_the_column(name, expected, tiny):
    ymd = tiny[name].arrays["numbers"][:, 1:4]
    np.testing.assert_array_equal(ymd, [day or (NAN,) * 3 for day in expected])
    has_no_part = np.isnan(tiny[name].arrays["numbers"]).all(axis=1)
    assert has_no_part.tolist() == [day is None for day in expected]


def test_elapsed_days_count_from_the_first_date_of_the_column(tiny):
    first = dt.date(2024, 2, 29).toordinal() - 719_163 - 9e8 // 86_400
    assert numbers_of(tiny["datetime, ymd"])[0] == first


def test_timestamps_with_a_zone_keep_the_clock_of_that_zone(tiny):
    hours = tiny["datetime, timestamps"].arrays["numbers"][:, 5]
    assert hours[2] == 10  # 01:02:03 UTC is 10:02:03 in Tokyo
    assert hours[0] == 20


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # by frequency, then by the alphabet; a value seen once is rare
        ("categorical", [3, 3, 2, 2, 1, 0, 0, 0, 4, 4, 1, 1, 0, 3, 3, 0, 0, 0, 0]),
        ("categorical, words with a meaning for Keras", [2, 2, 3, 3, 4, 4, 1, 0, 0, 3]),
        ("categorical, numbers as names", [2, 3, 0, 0, 1, 2, 3, 2, 0]),
        ("categorical, nothing to see", [0, 0, 0, 0]),
    ],
)
def test_values_have_the_codes_that_the_labels_tell(name, expected, tiny):
    case = tiny[name]
    codes = case.arrays["codes"][:, 0]
    assert codes.tolist() == expected
    assert case.encoded.vocabulary_size == len(case.encoded.labels) > codes.max()
    texts = case.table.texts["a column"]
    for code, position in zip(codes, texts.array, strict=True):
        assert code < 2 or case.encoded.labels[code] == texts.values[position]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"min_count": 1}, [2, 2, 3, 3, 4, 0]),
        ({"min_count": 2}, [2, 2, 3, 3, 1, 0]),
        ({"max_vocabulary": 1, "min_count": 1}, [2, 2, 1, 1, 1, 0]),
        ({"min_count": 3}, [1, 1, 1, 1, 1, 0]),
    ],
)
def test_vocabulary_limits_make_values_rare(config, expected):
    kind = column("categorical")
    schema = Schema(columns=[kind], num_rows=5)
    source = open_source({kind.name: ["a", "a", "b", "b", "c", "unseen"]})
    table = ingest([source], schema, ArrayStore())
    values = {kind.name: table.texts[kind.name].train_values(np.arange(5))}
    front = Front(schema, values, FeaturesConfig(**config))
    codes = encode(front, table, ArrayStore())["codes"][:, 0]
    assert codes.tolist() == expected
    assert front.vocabulary_sizes == (max(expected) + 1,)


def test_texts_that_keras_cannot_store_count_as_unseen():
    texts = ["a", "a\0", "\0", "b" * 5_000, "ü"]
    values = TrainValues(texts, np.full(5, 3))
    x = tf.keras.Input((), dtype="string")
    encoded = COLUMNS.load("categorical").encode(
        column("categorical"), x, values, FeaturesConfig()
    )
    codes = tf.keras.Model(x, encoded.tensor)(tf.constant(texts))
    assert codes.numpy().tolist() == [2, 0, 0, 0, 3]
    assert encoded.vocabulary_size == 4


def test_texts_that_are_no_dates_are_counted():
    column_of_dates = column("datetime", format="dmy", missing_values=["n/a"])
    raw = pa.array(["31.12.2020", "n/a", "", None, "soon", "12/31/2020"])
    text = Datetime.to_input(column_of_dates, raw, where="x.csv", first_row=0)
    assert Datetime.num_unread(column_of_dates, text) == 2
