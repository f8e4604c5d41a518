"""TFRecord files of tf.Example."""

import duckdb
import pyarrow as pa
import pytest
import tensorflow as tf

from kerastrain.errors import SourceError
from kerastrain.events import recording
from kerastrain.sources.tfrecord import TfRecordSource


def example(**features):
    """A serialized tf.Example; a list is a feature of many values."""
    kinds = {int: "int64_list", float: "float_list", bytes: "bytes_list"}
    made = tf.train.Example()
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        feature = made.features.feature[name]
        if values:
            getattr(feature, kinds[type(values[0])]).value.extend(values)
    return made.SerializeToString()


RECORDS = [
    example(id=1, size=1.5, text="é".encode(), place=[1.0, 2.0], photo=b"\xff\xfe"),
    example(id=2, size=[], text=b"b", place=[3.0, 4.0], photo=b"x", pair=[b"p", b"q"]),
    example(id=3, text=b""),
]
ROWS = [
    {"id": 1, "pair_0": None, "pair_1": None, "photo": b"\xff\xfe", "place_0": 1.0,
     "place_1": 2.0, "size": 1.5, "text": "é"},
    {"id": 2, "pair_0": "p", "pair_1": "q", "photo": b"x", "place_0": 3.0,
     "place_1": 4.0, "size": None, "text": "b"},
    {"id": 3, "pair_0": None, "pair_1": None, "photo": None, "place_0": None,
     "place_1": None, "size": None, "text": ""},
]  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def _write(records=RECORDS, name="rows.tfrecord", compression=None):
        path = tmp_path / name
        with tf.io.TFRecordWriter(str(path), compression) as writer:
            for record in records:
                writer.write(record)
        return path

    return _write


def rows(source, *names, **options):
    batches = source.scan(names or None, **options)
    return pa.Table.from_batches(batches).to_pylist()


@pytest.mark.parametrize(
    ("name", "compression"), [("a.tfrecord", None), ("a.tfrecord.gz", "GZIP")]
)
def test_features_become_columns(write, name, compression):
    source = TfRecordSource(write(name=name, compression=compression))
    assert rows(source) == ROWS
    assert (source.name, source.num_rows) == (name, 3)
    assert next(source.scan()).schema == source.schema
    types = [source.schema.field(c).type for c in ("id", "size", "text", "photo")]
    assert types == [pa.int64(), pa.float32(), pa.string(), pa.binary()]


def test_files_are_read_one_after_the_other_in_batches(write, tmp_path):
    for part in range(2):
        write([example(i=5 * part + i, x=0.5) for i in range(5)], f"{part}.tfrecord")
    source = TfRecordSource(str(tmp_path / "*.tfrecord"))
    batches = list(source.scan(["i"], batch_rows=3))
    assert [batch.num_rows for batch in batches] == [3, 2, 3, 2]
    assert [row["i"] for row in rows(source, "i")] == list(range(10))
    assert batches == list(source.scan(["i"], batch_rows=3))
    relation = source.relation(duckdb.connect())
    assert relation.aggregate("sum(i), sum(x)").fetchall() == [(45, 5.0)]


def test_what_a_later_file_adds_is_missing_in_the_first(write):
    paths = [write([example(a=1)], "1"), write([example(b=2)], "2")]
    assert rows(TfRecordSource(paths)) == [{"a": 1, "b": None}, {"a": None, "b": 2}]


def test_lists_are_refused_with_the_list_or_left_out(write):
    path = write([example(a=1, b=[1], c=[0.0] * 65), example(a=2, b=[1, 2])])
    message = (
        r"rows.tfrecord has columns that hold more than one value in a cell: b \(list "
        r"of int64\), c \(65 x float\). Leave them out: --set source.skip_nested=true"
    )
    with pytest.raises(SourceError, match=message):
        TfRecordSource(path)
    with recording() as recorder:
        assert rows(TfRecordSource(path, skip_nested=True)) == [{"a": 1}, {"a": 2}]
    assert recorder.events[0].details["columns"] == ["b", "c"]


def cut(content):
    return content[:-3]


def flip(content):
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    ("damage", "number", "compression"),
    [(cut, "1,000", None), (flip, "501", None), (cut, None, "GZIP")],
)
def test_damage_is_told_with_its_place(write, damage, number, compression):
    records = [example(a=1000 + i) for i in range(1000)]
    path = write(records, "rows.tfrecord", compression)
    path.write_bytes(damage(path.read_bytes()))
    message = f"rows.tfrecord, record {number}: the file is cut short or damaged there"
    if number is None:
        message = "rows.tfrecord is cut short or damaged: Compressed file ended before"
    with pytest.raises(SourceError, match=message) as caught:
        TfRecordSource(path)
    assert "\n" not in str(caught.value)
    assert "{{" not in str(caught.value)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([example(a=1), b"junk"], r"record 2: not a tf.Example \(Error parsing"),
        ([example(a=1), example(a=1.0)], "record 2: feature 'a' is float, before it w"),
        ([example()], "The records of rows.tfrecord hold no features"),
        ([], "rows.tfrecord is empty"),
    ],
)
def test_records_that_make_no_table_are_refused(write, records, message):
    with pytest.raises(SourceError, match=message):
        TfRecordSource(write(records))


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "rows.tfrecord").write_text("a,b\n1,2\n3,4\n5,6\n")
    with pytest.raises(SourceError, match="record 1: .*even a TFRecord file"):
        TfRecordSource(tmp_path / "rows.tfrecord")


def test_a_file_that_changes_while_it_is_read_is_named(write):
    source = TfRecordSource(write())
    path = source.paths[0]
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(SourceError, match="rows.tfrecord, which could be read before"):
        rows(source)


def test_fingerprint_tells_the_files(write):
    (file,) = TfRecordSource(write()).fingerprint()["files"]
    assert file["path"].endswith("rows.tfrecord")
    assert len(file["sha256"]) == 64
