"""Input as people have it, in the order of the list in the task: each is told clearly.

What concerns one kind of file alone is in tests/sources/.
"""

import bz2
import gzip
import lzma
import random
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerastrain.arrays import ArrayStore
from kerastrain.columns.categorical import Categorical
from kerastrain.config import ColumnConfig, FeaturesConfig
from kerastrain.encoded import TrainValues
from kerastrain.errors import KerastrainError, SchemaError, SourceError
from kerastrain.events import recording
from kerastrain.ingest import ingest
from kerastrain.profile import profile
from kerastrain.schema import Column, ColumnStats
from kerastrain.source import open_source
from kerastrain.sources.csv import CsvSource
from kerastrain.sources.frame import FrameSource

GOOD = b"a,b,c\n" + b"".join(b"%d,x%d,y\n" % (i, i) for i in range(2000))
PACKED = GOOD + b"".join(b"%d,%d,z\n" % (i * 7919 % 10007, i) for i in range(30_000))


@pytest.fixture
def write(tmp_path):
    def _write(content, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _write


def rows_of(source, columns=None):
    batches = source.scan(columns)
    return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]


def told(columns, **wishes):
    """Events of a profile, by code."""
    with recording(listen=lambda event: None) as recorder:
        profile(FrameSource(columns), columns=wishes)
    return {event.code: event for event in recorder.events}


def refusal(path, **options):
    """The message for a file that cannot be read."""
    with pytest.raises(SourceError) as caught:
        rows_of(open_source(path, **options))
    return str(caught.value)


# A type that changes half-way.

NUMBERS = [str(i * 0.5) for i in range(600)]
TEXTS = [f"word {i % 50}" for i in range(400)]
DAYS = [f"2024-01-{i % 28 + 1:02}" for i in range(600)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (NUMBERS + TEXTS, "from numbers to texts at row 601, 'word 0'"),
        (TEXTS + NUMBERS, "from texts to numbers at row 401, '0.0'"),
        (DAYS + TEXTS, "from dates to texts at row 601, 'word 0'"),
        (DAYS + NUMBERS, "from dates to numbers at row 601, '0.0'"),
        (NUMBERS + TEXTS[:100] + NUMBERS, "from numbers to texts at row 601, 'word 0'"),
        (["$1,200"] * 50 + ["NA"] * 9 + TEXTS, "from numbers to texts at row 60,"),
    ],
)
def test_a_column_that_changes_its_type_is_told_with_the_first_row(values, message):
    event = told({"x": values, "y": range(len(values))})["type_changes"]
    assert message in event.message
    assert "--column x=categorical" in event.message
    assert event.severity == "warning"
    assert sum(event.details["shares"].values()) == pytest.approx(1)


def test_a_type_that_the_user_has_set_is_not_questioned():
    events = told({"x": NUMBERS + TEXTS}, x=ColumnConfig(type="categorical"))
    assert not events.keys() & {"type_changes", "mixed_types"}


def test_numbers_and_texts_without_order_are_told_mildly():
    values = NUMBERS + TEXTS
    random.Random(0).shuffle(values)
    events = told({"x": values})
    assert "type_changes" not in events
    assert events["mixed_types"].severity == "info"
    assert "holds 60.0% numbers, 40.0% texts" in events["mixed_types"].message


def test_a_column_of_nearly_all_numbers_that_is_not_read_as_such_is_a_warning():
    values = NUMBERS + [f"about {i}" for i in range(15)]
    random.Random(0).shuffle(values)
    event = told({"x": values})["mixed_types"]
    assert event.severity == "warning"
    assert "97.6% numbers, 2.4% texts, such as 'about 0'" in event.message


@pytest.mark.parametrize("values", [NUMBERS, TEXTS, DAYS, [*NUMBERS, "n/a", "?"]])
def test_a_column_of_one_kind_is_not_questioned(values):
    events = told({"x": values})
    assert not events.keys() & {"type_changes", "mixed_types", "mixed_dates"}


# A header in the middle.


@pytest.mark.parametrize(
    ("content", "lines", "num_rows"),
    [
        (GOOD * 3, [2002, 4003], 6000),
        ((GOOD + b"\n" + GOOD).replace(b"\n", b"\r\n"), [2003], 4000),
        (GOOD + b"\xef\xbb\xbf" + GOOD, [2002], 4000),
        (GOOD + b'1,"two\nlines",3\n' + GOOD, [2004], 4001),
    ],
)
def test_a_header_in_the_middle_is_left_out_and_named(write, content, lines, num_rows):
    source = CsvSource(write(content), max_bad_rows=0)
    with recording(listen=lambda event: None) as recorder:
        rows = rows_of(source)
    assert len(rows) == source.num_rows == num_rows
    assert ("a", "b", "c") not in rows
    assert [row[0] for row in rows] == [row[0] for row in rows_of(source, ["a"])]
    (event,) = recorder.events
    assert (event.code, event.severity) == ("repeated_headers", "warning")
    assert event.details["first"] == [["data.csv", line] for line in lines]


def test_headers_and_malformed_lines_are_counted_apart(write):
    source = CsvSource(write(GOOD + b"1,2\n" + GOOD))
    assert [str(row) for row in source.bad_rows()] == [
        "data.csv line 2002: 2 fields instead of 3: 1,2"
    ]
    assert len(rows_of(source)) == source.num_rows == 4000


def test_a_value_that_is_called_like_its_column_stays(write):
    source = CsvSource(write("a,b\na,1\nx,b\n" * 2))
    assert rows_of(source)[:2] == [("a", "1"), ("x", "b")]


# Invalid UTF-8.


def test_invalid_utf8_is_one_line_with_file_and_line(write):
    message = refusal(write("a,b,c\n1,éé,c\n".encode() + b"1,caf\xc3,3\n"))
    assert message.splitlines()[1].startswith("  data.csv line 3: not valid utf-8: 1,")


def test_the_line_of_a_malformed_row_is_that_of_an_editor(write):
    text = b'a,b\n1,"x\ny\nz"\n\n\n1,2,3\n' + b"1,2\n" * 2000
    assert [row.line for row in CsvSource(write(text)).bad_rows()] == [7]
    assert [row.line for row in CsvSource(write(gzip.compress(text))).bad_rows()] == [7]


# Dates in more than one order.


@pytest.mark.parametrize(
    ("values", "counts", "message"),
    [
        (
            DAYS + ["31.12.2024"] * 400,
            {"ymd": 600, "mdy": 0, "dmy": 400, "either": 0},
            "600 are year-month-day such as '2024-01-01', "
            "400 are day-month-year such as '31.12.2024'. No order reads 99%",
        ),
        (
            ["12/31/2024"] * 30 + ["31/12/2024"] * 20 + ["1/2/2024"] * 50,
            {"ymd": 0, "mdy": 30, "dmy": 20, "either": 50},
            "20 are day-month-year such as '31/12/2024', "
            "50 such as '1/2/2024' read as day or month first",
        ),
        (
            ["12/31/2024", "12/30/2023"] * 200 + ["31/12/2024"],
            {"ymd": 0, "mdy": 400, "dmy": 1, "either": 0},
            "They are read as month-day-year, and what is not counts as missing",
        ),
    ],
)
def test_mixed_orders_of_dates_are_told_with_their_counts(values, counts, message):
    event = told({"x": values, "y": range(len(values))})["mixed_dates"]
    assert message in event.message
    assert event.details["counts"] == counts


@pytest.mark.parametrize("wishes", [{}, {"x": ColumnConfig(format="ymd")}])
def test_texts_among_dates_are_counted(wishes):
    event = told({"x": [*DAYS, "soon", "later"]}, **wishes)["unread_dates"]
    assert "has 2 texts that are no date in the order ymd" in event.message


# Numbers in train, texts in validation.


def test_a_text_in_the_validation_file_names_column_file_row_and_way_out(write):
    train = CsvSource(write("x,y\n" + "1.5,a\n2.5,b\n" * 20, "train.csv"))
    other = CsvSource(write("x,y\n1,a\n2,b\nhigh,a\n", "validation.csv"))
    schema = profile(train, target="y")
    with pytest.raises(SchemaError) as caught:
        ingest([train, other], schema, ArrayStore())
    assert str(caught.value) == (
        "column 'x' in validation.csv, row 3: expected a number, got 'high'. Mend it "
        "or leave it empty, or train with it among missing_values, or with "
        "--column x=categorical"
    )


# Columns in another order, and missing ones.


def test_files_with_their_columns_in_another_order_are_read_by_name(write, tmp_path):
    write("a,b\n1,x\n", "p1.csv")
    write("b,a\ny,2\n", "p2.csv")
    assert rows_of(open_source(str(tmp_path / "p*.csv"))) == [("1", "x"), ("2", "y")]


def test_columns_that_one_file_lacks_are_named_with_it(write, tmp_path):
    write("a,b,c,d\n1,x,2,3\n", "p1.csv")
    write("a,c,e\n1,2,3\n", "p2.csv")
    with pytest.raises(SourceError) as caught:
        open_source(str(tmp_path / "p*.csv"))
    assert str(caught.value) == (
        "p2.csv and p1.csv have different columns: p2.csv lacks b, d, and p1.csv "
        "lacks e."
    )


# An empty partition.


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a,b\n",
        b"\n \n",
        gzip.compress(b"", mtime=0),
        gzip.compress(b"a,b\n", mtime=0),
    ],
)
@pytest.mark.parametrize("name", ["p0.csv", "p2.csv"])
def test_an_empty_file_among_others_is_passed_over_with_a_note(
    write, tmp_path, content, name
):
    write("a,b\n1,x\n", "p1.csv")
    write(content, name)
    with recording(listen=lambda event: None) as recorder:
        assert rows_of(open_source(str(tmp_path / "p*.csv"))) == [("1", "x")]
    (event,) = recorder.events
    assert event.code == "empty_files"
    assert event.message.endswith(f"passed over: {name}.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "data.csv is empty"),
        (b" \n\n", "holds no text"),
        (gzip.compress(b"", mtime=0), "holds no text"),
        (b"a,b\n", "data.csv has no rows"),
    ],
)
def test_an_empty_file_alone_is_refused(write, content, message):
    path = write(content)
    with pytest.raises(KerastrainError, match=message):
        profile(open_source(path))


# A NUL byte.


@pytest.mark.parametrize(
    "line", [b"1,he\0llo,3\n", b'1,"\0",3\n', b"\0" * 9 + b"1,2,3\n", b"\0\0\n"]
)
def test_a_line_with_a_zero_byte_is_malformed(write, line):
    source = CsvSource(write(GOOD + line + b"5,6,7\n"))
    rows = rows_of(source)
    assert len(rows) == source.num_rows == 2001
    assert rows[-1] == ("5", "6", "7")
    assert rows_of(source, ["a"])[-1] == ("5",)
    (bad,) = source.bad_rows()
    assert (bad.line, "\\x00" in str(bad)) == (2002, True)


def test_many_lines_with_zero_bytes_stop_the_run(write):
    path = write(GOOD + b"1,\0,3\n" * 15)
    message = refusal(path)
    assert "15 of 2015 lines of data.csv are malformed" in message
    assert "data.csv line 2002: holds a zero byte (NUL): 1,\\x00,3" in message


def test_a_value_with_a_zero_byte_gives_the_same_code_in_the_saved_model(tmp_path):
    import keras
    import tensorflow as tf

    known = ["a", "a\0b", "a\0", "\0", "\0a"]
    column = Column(
        name="x",
        type="categorical",
        dtype="string",
        stats=ColumnStats(storage="string", num_rows=5),
    )
    raw = keras.Input((1,), dtype="string", name="x")
    values = TrainValues(known, np.full(5, 50))
    encoded = Categorical.encode(column, raw, values, FeaturesConfig())
    model = keras.Model(raw, encoded.tensor)
    array = pa.array([*known, "a\0c"])
    texts = Categorical.to_input(column, array, where="data.csv", first_row=0)
    batch = tf.constant(np.asarray(texts.to_pylist(), dtype=object)[:, None])
    here = np.ravel(model(batch))
    assert here.tolist() == [2, 3, 0, 0, 4, 0]  # a NUL at the end counts as unseen
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served")).serve(batch)
    assert np.ravel(served).tolist() == here.tolist()


# Truncated and damaged files.


def zstd(data):
    return pa.compress(data, "zstd", asbytes=True)


@pytest.mark.parametrize("pack", [gzip.compress, zstd, bz2.compress, lzma.compress])
@pytest.mark.parametrize("end", [-9, -3000, 60])
def test_a_truncated_file_is_one_line(write, pack, end):
    path = write(pack(PACKED)[:end], "data.csv.gz")
    message = refusal(path)
    assert "data.csv.gz is truncated: its compressed data end too early" in message
    assert "\n" not in message


@pytest.mark.parametrize("pack", [gzip.compress, zstd, bz2.compress, lzma.compress])
def test_packed_files_of_several_members_are_read_as_a_whole(write, pack):
    path = write(pack(b"a,b\n1,2\n") + pack(b"3,4\n"), "data.csv.xz")
    assert rows_of(open_source(path)) == [("1", "2"), ("3", "4")]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data + b"garbage" * 9,
        lambda data: data[:-8] + b"\1\2\3\4" + data[-4:],
        lambda data: data[:5000] + b"\xff\x00\xff" + data[5003:],
    ],
    ids=["garbage after it", "wrong checksum", "changed bytes"],
)
def test_a_damaged_gzip_is_one_line(write, damage):
    path = write(damage(gzip.compress(PACKED)), "data.csv.gz")
    message = refusal(path)
    assert "is damaged, or something follows its compressed data" in message


@pytest.mark.parametrize("end", [-4, -300, 1000])
def test_a_truncated_parquet_file_is_one_line(tmp_path, end):
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"a": range(10_000)}), path)
    path.write_bytes(path.read_bytes()[:end])
    message = refusal(path)
    assert "data.parquet" in message
    assert "\n" not in message


# A password in an address.


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:hunter2@127.0.0.1:1/shop?table=orders",
        "https://me:hunter2@127.0.0.1:1/data.csv",
    ],
)
def test_a_password_in_an_address_is_never_shown(address):
    with (
        recording(listen=lambda event: None) as recorder,
        pytest.raises(KerastrainError) as caught,
    ):
        rows_of(open_source(address))
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in str(recorder.events)


# A million columns.


def test_a_million_columns_are_refused_at_once(write):
    names = ",".join(f"c{i}" for i in range(1_000_000))
    path = write(f"{names}\n{'1,' * 999_999}1\n")
    start = time.perf_counter()
    message = refusal(path)
    assert time.perf_counter() - start < 20  # 1.5 s on an idle machine
    assert "columns or more; 20,000 can be read" in message


def test_a_header_longer_than_the_sample_is_read_whole(write):
    names = [f"a rather long name of a column {i:04} " + "x" * 100 for i in range(5000)]
    path = write(",".join(names) + "\n" + ",".join(["1"] * 5000) + "\n")
    assert CsvSource(path).schema.names == names


def test_one_long_line_without_an_end_is_refused(write):
    path = write("a,b," + "x" * 3_000_000)
    assert "the first line is longer than 2,097,152 bytes" in refusal(path)


# A field of 50 MB.


@pytest.mark.parametrize("quote", [b"", b'"'])
@pytest.mark.parametrize("size", [3_000_000, 50_000_000])
def test_a_very_long_field_is_a_malformed_line(write, quote, size):
    source = CsvSource(
        write(GOOD + b"1," + quote + b"x" * size + quote + b",3\n" + GOOD[6:])
    )
    rows = rows_of(source)
    assert len(rows) == source.num_rows == 4000
    (bad,) = source.bad_rows()
    assert (bad.line, bad.reason) == (2002, "longer than 2000000 bytes")
    assert len(bad.text) <= 10_000


@pytest.mark.parametrize("rows", [b"1,2,3\n", b'1,"2",3\n', b"some text\n"])
@pytest.mark.parametrize("size", [3_000_000, 10_000_000])
def test_a_quote_that_swallows_lines_stops_the_run(write, rows, size):
    text = rows.replace(b'"', b"") * (size // len(rows))
    path = write(rows.join([b"a,b,c\n", b'1,"x']) + text + b'",3\n' + GOOD[6:])
    source = CsvSource(path, 1.0)
    with pytest.raises(SourceError) as caught:
        source.scan()
    assert "data.csv line 3 opens a quote that is not closed" in str(caught.value)


# And more of what comes along.


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\r1,x\r2,y\r",
        b"\xef\xbb\xbfa,b\n1,x\n2,y\n",
        b"a,b\n1,x,\n2,y,\n",
        b"\n  \n\na,b\n1,x\n   \n\n2,y\n \n",
        b"\xef\xbb\xbf\r\n\r\na,b\r\n1,x\r\n2,y\r\n",
        b"a,b\n1,x\n2,y\n\x1a",
        b"a,b\r\n1,x\r\n2,y\r\n\x1a\r\n",
    ],
    ids=[
        "CR alone",
        "byte order mark",
        "trailing delimiter",
        "blank lines",
        "mark, then blank lines",
        "Ctrl-Z",
        "Ctrl-Z on a line",
    ],
)
def test_harmless_oddities_are_read_as_meant(write, content):
    with recording(listen=lambda event: None) as recorder:
        source = CsvSource(write(content))
        assert rows_of(source) == [("1", "x"), ("2", "y")]
        assert rows_of(source, ["a"]) == [("1",), ("2",)]
    assert source.schema.names == ["a", "b"]
    assert (source.num_rows, recorder.events) == (2, [])


def test_a_folder_with_the_name_of_a_file_is_refused(tmp_path):
    path = tmp_path / "x.csv"
    path.mkdir()
    assert "x.csv holds no data that is known" in refusal(path)


def test_a_pipe_is_refused(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.csv")
    assert "pipe.csv is a pipe or a device" in refusal(tmp_path / "pipe.csv")


def test_a_file_without_permission_is_refused(write):
    path = write("a,b\n1,2\n")
    path.chmod(0)
    try:
        path.open("rb").close()
    except PermissionError:
        assert "data.csv: Permission denied" in refusal(path)
    else:
        pytest.skip("root reads every file")


@pytest.mark.parametrize("passes", [0, 1])
def test_a_file_that_vanishes_between_passes_is_one_line(write, passes):
    path = write(GOOD)
    source = CsvSource(path)
    for _ in range(passes):
        rows_of(source)
    path.unlink()
    with pytest.raises(SourceError, match=r"Cannot read .*data.csv") as caught:
        rows_of(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(6))
def test_quoted_rows_and_very_long_lines_in_any_order_are_told_apart(write, seed):
    draw = random.Random(seed)
    parts, good = [], []
    for i in range(40):
        kind = draw.choice(["rows", "text", "long", "quote"])
        if kind == "long":
            parts.append(b"1," + b"x" * draw.choice([2_100_000, 9_000_000]) + b",3\n")
        elif kind == "quote":
            parts.append(b'1,"a"b,3\n')
        elif kind == "text":
            parts.append(b'%d,"a ""b""\n,c",%d\n' % (i, i))
            good.append((str(i), 'a "b"\n,c', str(i)))
        else:
            parts.append(b"%d,b,c\n" % i * 500)
            good += [(str(i), "b", "c")] * 500
    source = CsvSource(write(b"a,b,c\n" + b"".join(parts)), 1.0)
    assert rows_of(source) == good
    bad = [1 for p in parts if len(p) > 2_000_000 or p.startswith(b'1,"a"b')]
    assert len(source.bad_rows()) == len(bad)
