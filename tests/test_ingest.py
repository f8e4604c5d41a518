"""Rows to arrays: batches, sources one below the other, nulls, hashes, files."""

import errno
import itertools
import os
import re
import struct

import numpy as np
import pyarrow as pa
import pytest

from kerastrain.arrays import ArrayStore
from kerastrain.errors import DataError, SchemaError, SourceError
from kerastrain.events import recording
from kerastrain.ingest import Texts, ingest
from kerastrain.profile import profile
from kerastrain.schema import Column, ColumnStats, Schema, Target
from kerastrain.source import Source, open_source

STATS = ColumnStats(storage="string", num_rows=0)
NAN = np.nan


def column(name, type="categorical", dtype="string", **options):
    return Column(name=name, type=type, dtype=dtype, input=name, stats=STATS, **options)


AGE = column("age", "numeric", "float32")
CITY = column("city")
SCHEMA = Schema(columns=[AGE, CITY], num_rows=0)


class Batches(Source):
    """A table that comes in batches of a given size, and may hide its length."""

    def __init__(self, batch_rows=1000, *, name="rows.csv", num_rows=None, **columns):
        self.table = pa.table(columns)
        self.schema = self.table.schema
        self.name = name
        self.num_rows = num_rows
        self.batch_rows = batch_rows

    def scan(self, columns=None, *, batch_rows=0):
        table = self.table.select(self.checked_columns(columns))
        yield from table.to_batches(max_chunksize=self.batch_rows)

    def fingerprint(self):
        return {}


def read(*sources, schema=SCHEMA, store=None):
    return ingest(sources, schema, store or ArrayStore())


AGES = [1.5, None, NAN, -0.0, 0.0, np.inf, 1e39, 7.0, 1.5]
CITIES = ["Rom", "", None, "Rom ", " Oslo", "Lomé", "日本", "\t", "Rom"]


# --- values -----------------------------------------------------------------------


@pytest.mark.parametrize("batch_rows", [1, 2, 4, 1000])
@pytest.mark.parametrize("num_rows", [None, len(AGES)])
def test_arrays_do_not_depend_on_how_rows_come(batch_rows, num_rows):
    table = read(Batches(batch_rows, num_rows=num_rows, age=AGES, city=CITIES))
    np.testing.assert_array_equal(
        table.numbers["age"], [1.5, NAN, NAN, 0, 0, NAN, NAN, 7, 1.5]
    )
    assert table.numbers["age"].dtype == "float32"
    assert table.texts["city"].values == ["Rom", "", "Oslo", "Lomé", "日本"]
    assert table.texts["city"].array.tolist() == [0, 1, 1, 0, 2, 3, 4, 1, 0]
    assert table.texts["city"].array.dtype == "int32"
    assert table.num_rows == len(AGES)
    assert not table.has_target.any()


def test_sources_lie_one_below_the_other_and_share_their_texts():
    table = read(
        Batches(2, age=[1.0, 2.0, 3.0], city=["a", "b", "a"]),
        Batches(age=[], city=pa.array([], pa.string())),
        Batches(1, city=["c", "b"], more=[0, 0], age=pa.array([4, None])),
    )
    assert table.num_rows_of == [3, 0, 2]
    np.testing.assert_array_equal(table.numbers["age"], [1, 2, 3, 4, NAN])
    assert table.texts["city"].values == ["a", "b", "c"]
    assert table.texts["city"].array.tolist() == [0, 1, 0, 2, 1]


def test_a_source_without_rows_gives_empty_arrays():
    table = read(
        Batches(age=pa.array([], pa.float64()), city=pa.array([], pa.string()))
    )
    assert table.num_rows == 0
    assert table.numbers["age"].shape == table.row_hashes().shape == (0,)
    assert table.raw(SCHEMA, np.zeros(0, "int64"))["city"].shape == (0,)


def test_ignored_columns_are_not_even_read():
    ignored = column("secret", role="ignored", reason="by the user")
    schema = Schema(columns=[AGE, ignored], num_rows=0)
    table = read(Batches(age=[1.0]), schema=schema)
    assert {*table.numbers, *table.texts} == {"age"}


def test_raw_rows_are_what_the_model_takes_in_the_order_asked_for():
    schema = Schema(
        columns=[AGE, CITY.model_copy(update={"input": "city_2"})], num_rows=0
    )
    table = read(Batches(2, age=AGES, city=CITIES), schema=schema)
    raw = table.raw(schema, np.array([4, 0, 2, 0]))
    np.testing.assert_array_equal(raw["age"], np.array([0, 1.5, NAN, 1.5], "float32"))
    assert raw["city_2"].tolist() == ["Oslo", "Rom", "", "Rom"]


def test_train_values_count_the_given_rows_alone_frequent_first_then_alphabet():
    texts = Texts(np.zeros(9, "int32"))
    texts.put(0, pa.array(["b", "a", "", None, "z"]))
    texts.put(5, pa.array(["b", "a", "c", "only in test"]))
    values = texts.train_values(np.array([0, 1, 2, 3, 4, 5, 6, 7]))
    assert values.values == ["a", "b", "c", "z"]
    assert values.counts.tolist() == [2, 2, 1, 1]
    assert texts.train_values(np.zeros(0, "int64")).values == []


@pytest.mark.parametrize("change", [-1, 1])
def test_a_source_that_changes_its_length_is_an_error(change):
    source = Batches(1, num_rows=2 - change, age=[1.0, 2.0], city=["a", "b"])
    verb = "grew" if change > 0 else "shrank"
    with pytest.raises(SourceError, match=f"^rows.csv {verb} while it was read"):
        read(source)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["00", "01"], [0, 1]),
        (["+1", "0"], [1, 0]),
        (["-0", "1.0"], [0, 1]),
        (["5\u00a0", "\u2003-7.5"], [5, -7.5]),
        (["'\t5'", "6"], [5, 6]),
        (["$1", "\u00a0(2.50)"], ["$1", "(2.50)"]),
        (["yes\u00a0", "NO"], ["yes", "NO"]),
        (["2024-02-29\u3000", "2023-01-01"], ["2024-02-29", "2023-01-01"]),
        (["Rom\u00a0", "Oslo"], ["Rom", "Oslo"]),
    ],
)
def test_what_the_profile_finds_in_a_file_can_be_read(cells, expected, tmp_path):
    lines = [f"{cells[i % 2]},{i % 7}.5,{i}" for i in range(60)]
    text = "\n".join(["c,d,y", *lines]).replace("'", '"')
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    source = open_source(str(tmp_path / "a.csv"))
    schema = profile(source, target="y", keep=["c"])
    table = ingest([source], schema, ArrayStore())
    raw = table.raw(schema, np.array([0, 1, 58]))["c"]
    assert raw.tolist() == [*expected, expected[0]]


# --- errors -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["agee", "city"], "No column 'age' in rows.csv. Did you mean 'agee'?"),
        (["x"], "rows.csv lacks 2 columns that the model needs: 'age', 'city'."),
    ],
)
def test_missing_columns_are_named(names, message):
    with pytest.raises(SchemaError, match=re.escape(message)):
        read(Batches(**{name: [1.0] for name in names}))


def test_of_many_missing_columns_five_are_named():
    schema = Schema(columns=[column(f"c{i}") for i in range(8)], num_rows=0)
    with pytest.raises(SchemaError, match=r"lacks 8 .*'c0', .*'c4' \(and 3 more\)\.$"):
        read(Batches(x=["a"]), schema=schema)


def test_the_second_source_is_checked_before_any_row_is_read():
    with pytest.raises(SchemaError, match=r"No column 'city' in other\.csv"):
        read(
            Batches(age=["not even a number"], city=["a"]),
            Batches(name="other.csv", age=[1.0]),
        )


@pytest.mark.parametrize("batch_rows", [1, 2, 1000])
def test_a_wrong_value_is_told_with_its_row_in_its_own_source(batch_rows):
    fine = Batches(age=["1"] * 7, city=["a"] * 7)
    wrong = Batches(
        batch_rows, name="b.csv", age=["1", " 2", "", "n/a", "x"], city=["a"] * 5
    )
    message = (
        "column 'age' in b.csv, row 4: expected a number, got 'n/a'. Mend it or "
        "leave it empty, or train with it among missing_values, or with --column "
        "age=categorical"
    )
    with pytest.raises(SchemaError, match=f"^{re.escape(message)}$"):
        read(fine, wrong)


# --- target and weight ------------------------------------------------------------


def with_target(task, labels=(), **options):
    target = column("y", role="target", **options)
    return Schema(
        columns=[target, AGE],
        num_rows=0,
        target=Target(name="y", task=task, labels=labels),
    )


def test_classes_become_positions_of_labels_and_unknown_ones_are_told():
    schema = with_target("multiclass", ["b", "c", "a"])
    source = Batches(2, age=[0.0] * 6, y=["a", "b ", None, "", "new", "c"])
    with recording(listen=lambda _: None) as recorder:
        table = read(source, schema=schema)
    assert table.target.tolist() == [2, 0, -1, -1, -1, 1]
    assert table.target.dtype == "int32"
    assert table.has_target.tolist() == [True, True, False, False, False, True]
    assert "y" not in table.texts
    (event,) = recorder.events
    assert (event.code, event.severity) == ("unknown_labels", "warning")
    assert event.details == {"labels": ["new"]}
    assert event.message.startswith(
        "rows.csv: rows with labels that the model does not"
    )


def test_numbers_as_classes_are_matched_as_text():
    schema = with_target("binary", ["0", "1"])
    table = read(Batches(age=[0.0] * 4, y=[1.0, 0.0, -0.0, NAN]), schema=schema)
    assert table.target.tolist() == [1, 0, 0, -1]


def test_numbers_to_predict_are_nan_where_missing_or_infinite():
    schema = with_target("regression", type="numeric", dtype="float32")
    table = read(Batches(age=[0.0] * 4, y=[2.5, None, -np.inf, 3]), schema=schema)
    np.testing.assert_array_equal(table.target, [2.5, NAN, NAN, 3])
    assert table.target.dtype == "float64"
    assert table.has_target.tolist() == [True, False, False, True]
    assert "y" not in table.numbers


def weighted(values):
    weight = column("w", "numeric", "float32", role="weight")
    schema = Schema(columns=[AGE, weight], num_rows=0)
    return read(Batches(age=[0.0] * len(values), w=values), schema=schema)


def test_a_target_of_numbers_keeps_the_digits_that_float32_drops():
    target = column("y", "numeric", "float32", role="target")
    schema = Schema(
        columns=[AGE, target], num_rows=0, target=Target(name="y", task="regression")
    )
    values = [1e9 + 1, 0.1, 1e39, None]
    table = read(Batches(age=[0.0] * 4, y=values), schema=schema)
    assert table.target.dtype == "float64"
    assert table.target[:2].tolist() == values[:2]
    assert np.isnan(table.target[2:]).all()


def test_weights_leave_the_features_and_missing_ones_count_as_0():
    with recording() as recorder:
        table = weighted([0.5, None, 2.0, np.inf])
    (event,) = recorder.events
    assert event.message.startswith("2 of 4 rows have no weight in 'w' and count as")
    assert table.weight.tolist() == [0.5, 0, 2, 0]
    assert table.weight.dtype == "float32"
    assert [*table.numbers] == ["age"]


@pytest.mark.parametrize(
    ("values", "got"), [([1.0, -2.0], "-2 to 1"), ([0.0, None], "0 to 0")]
)
def test_weights_that_cannot_weigh_are_refused(values, got):
    message = (
        "weight column 'w': expected numbers of 0 and above, not all 0; got " + got
    )
    with pytest.raises(SchemaError, match=f"^{message}\\.$"):
        weighted(values)


# --- hashes -----------------------------------------------------------------------


def nan_of(bits):
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def test_rows_have_equal_hashes_exactly_when_they_are_equal():
    ages = [1.0, -0.0, NAN, 1e-45, 2.0, 3.0]
    cities = ["a", "", "b", "ab", "0", "1"]
    rows = [*itertools.product(ages, cities)] * 2
    table = read(Batches(7, age=[r[0] for r in rows], city=[r[1] for r in rows]))
    hashes = table.row_hashes()
    assert hashes.dtype == "uint64"
    half = len(rows) // 2
    assert hashes[:half].tolist() == hashes[half:].tolist()
    assert len(np.unique(hashes)) == half


def test_both_zeros_and_every_kind_of_nan_hash_alike():
    table = read(Batches(age=[0.0] * 6, city=["a"] * 6))
    bits = [0x7FC00000, 0xFFC00000, 0x7FC00001]  # NumPy's, that of 0/0 on x86, another
    table.numbers["age"][:] = [0.0, -0.0, *map(nan_of, bits), 1e-45]
    hashes = table.row_hashes()
    assert hashes[0] == hashes[1]
    assert hashes[2] == hashes[3] == hashes[4]
    assert len(np.unique(hashes)) == 3
    table.target = np.array([0.0, -0.0, 0, 0, 0, 0])
    assert table.row_hashes()[0] == table.row_hashes()[1] != hashes[0]


def test_hashes_depend_neither_on_batches_nor_on_the_other_rows():
    rows = {"age": [1.0, 2.0, 3.0], "city": ["x", "y", "z"]}
    alone = read(Batches(**rows)).row_hashes()
    below = read(Batches(age=[9.0, 2.0], city=["z", "q"]), Batches(1, **rows))
    assert below.row_hashes()[2:].tolist() == alone.tolist()


def test_hashes_know_which_column_a_value_stands_in():
    pair = Schema(columns=[column("a"), column("b")], num_rows=0)
    texts = read(Batches(a=["x", "y", "x"], b=["y", "x", "x"]), schema=pair)
    assert len({*texts.row_hashes()}) == 3
    numbers = [column(name, "numeric", "float32") for name in "ab"]
    table = read(
        Batches(a=[1.0, 2.0, 1.0], b=[2.0, 1.0, 1.0]),
        schema=Schema(columns=numbers, num_rows=0),
    )
    assert len({*table.row_hashes()}) == 3


# --- arrays -----------------------------------------------------------------------


def test_arrays_beyond_the_budget_are_files_with_the_same_content(tmp_path):
    store = ArrayStore(tmp_path / "deep" / "arrays", budget_bytes=40)
    source = Batches(2, age=AGES, city=CITIES)
    table, plain = read(source, store=store), read(source)
    assert not isinstance(table.numbers["age"], np.memmap)  # 36 bytes fit
    assert isinstance(table.texts["city"].array, np.memmap)
    assert len([*store.folder.iterdir()]) == 1
    np.testing.assert_array_equal(table.numbers["age"], plain.numbers["age"])
    assert table.row_hashes().tolist() == plain.row_hashes().tolist()
    store.remove_files()
    assert not store.folder.exists()
    assert table.texts["city"].array.tolist() == [0, 1, 1, 0, 2, 3, 4, 1, 0]


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    store = ArrayStore(tmp_path, budget_bytes=0)
    with pytest.raises(DataError, match="^No room for 4 GB .*: No space left on dev"):
        store.empty((10**9,), "float32")


def test_the_store_deletes_nothing_but_its_arrays(tmp_path):
    store = ArrayStore(tmp_path, budget_bytes=0)
    (tmp_path / "mine.txt").write_text("")
    assert isinstance(store.empty((2, 3), "float32"), np.memmap)
    store.remove_files()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("budget", [None, 0])
def test_without_a_folder_everything_stays_in_memory(budget):
    store = ArrayStore(None, budget)
    assert type(store.empty((5,), "int32")) is np.ndarray
    store.remove_files()


@pytest.mark.parametrize("dtype", ["float32", "int32", "int64"])
def test_an_empty_array_can_be_a_file_too(dtype, tmp_path):
    store = ArrayStore(tmp_path, 0)
    store.empty((1,), dtype)
    assert store.empty((0, 3), dtype).shape == (0, 3)


def test_a_file_that_is_held_does_not_end_a_run(tmp_path, monkeypatch):
    def held(path):
        raise PermissionError(13, "The process cannot access the file")

    store = ArrayStore(tmp_path / "arrays", budget_bytes=0)
    store.empty((2, 3), "float32")
    monkeypatch.setattr("pathlib.Path.unlink", held)
    store.remove_files()
    assert len([*store.folder.iterdir()]) == 1
