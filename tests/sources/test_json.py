"""JSON: arrays and lines, types, nested objects, several files, damage."""

import gzip
import json

import pyarrow as pa
import pytest

from kerastrain.errors import SourceError
from kerastrain.events import recording
from kerastrain.source import open_source
from kerastrain.sources.json import JsonSource


@pytest.fixture
def write(tmp_path):
    def _write(text, name="data.json"):
        path = tmp_path / name
        text = text if isinstance(text, str) else json.dumps(text)
        path.write_text(text)
        return path

    return _write


def rows(source):
    return pa.Table.from_batches(source.scan(), source.schema).to_pylist()


ROWS = [{"a": 1, "b": "x"}, {"a": None, "b": "y"}, {"b": "z"}]
LINES = "\n".join(map(json.dumps, ROWS))
EXPECTED = [{"a": 1, "b": "x"}, {"a": None, "b": "y"}, {"a": None, "b": "z"}]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (ROWS, "data.json"),
        (json.dumps(ROWS, indent=2), "data.json"),
        (LINES, "data.jsonl"),
        (LINES + "\n\n", "data.ndjson"),
        (LINES, "data.json"),
        ("\ufeff" + LINES, "data.jsonl"),
    ],
)
def test_an_array_and_lines_are_the_same_table(write, text, name):
    assert rows(open_source(write(text, name))) == EXPECTED


def test_a_packed_file_is_unpacked(tmp_path):
    path = tmp_path / "data.jsonl.gz"
    path.write_bytes(gzip.compress(LINES.encode()))
    assert rows(open_source(path)) == EXPECTED


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None], pa.int64()),
        ([1, 2.5], pa.float64()),
        ([True, None], pa.bool_()),
        (["x", None], pa.string()),
        (["2020-01-02", None], pa.date32()),
        ([None, None], pa.string()),
        ([2**70, 1], pa.float64()),
    ],
)
def test_types_are_those_of_all_rows(write, values, kind):
    source = JsonSource(write([{"a": value} for value in values]))
    assert source.schema.field("a").type == kind


def test_a_type_that_only_the_last_of_many_rows_has_counts(write):
    lines = ['{"a": 1}'] * 30_000 + ['{"a": 1.5, "late": "x"}']
    source = JsonSource(write("\n".join(lines), "data.jsonl"))
    assert source.schema.field("a").type == pa.float64()
    assert rows(source)[-1] == {"a": 1.5, "late": "x"}


def test_nested_objects_are_columns_of_their_own(write):
    nested = [{"id": 1, "to": {"city": "Rome", "geo": {"lat": 1.5}}}, {"id": 2}]
    assert rows(JsonSource(write(nested))) == [
        {"id": 1, "to.city": "Rome", "to.geo.lat": 1.5},
        {"id": 2, "to.city": None, "to.geo.lat": None},
    ]


def test_a_column_of_several_types_is_text_with_a_warning(write):
    with recording() as recorder:
        source = JsonSource(write([{"a": 1}, {"a": "x"}, {"a": None}]))
    assert [row["a"] for row in rows(source)] == ["1", "x", None]
    assert [event.code for event in recorder.events] == ["column_mixed_types"]


def test_files_are_one_below_the_other_and_an_empty_one_is_passed_over(write, tmp_path):
    write('{"a": 1}', "p1.jsonl")
    write("\n", "p2.jsonl")
    write('{"a": 2.5}', "p3.jsonl")
    with recording() as recorder:
        source = open_source(str(tmp_path / "*.jsonl"))
    assert [row["a"] for row in rows(source)] == [1.0, 2.5]
    assert [event.code for event in recorder.events] == ["empty_files"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n{"a": 2\n{"a": 3}', "line 2 is not JSON: "),
        ('[{"a": 1},\n{"a": }]', "line 2 is not JSON: expecting value"),
        ('[{"a": 1}', "line 1 is not JSON: "),
        ("[1, 2]", "holds no objects: expected an array of them"),
        ("1\n2\n", "holds no objects"),
        ("[]", "data.json has no columns|holds no objects|is empty|has no rows"),
    ],
)
def test_what_is_no_table_is_told_in_one_line(write, text, message):
    with pytest.raises(SourceError, match=message) as caught:
        list(JsonSource(write(text)).scan())
    assert "\n" not in str(caught.value)


def test_a_packed_file_that_is_cut_short_is_refused(tmp_path):
    path = tmp_path / "data.json.gz"
    path.write_bytes(gzip.compress((LINES * 2_000).encode())[:200])
    with pytest.raises(SourceError, match=r"data.json.gz") as caught:
        open_source(path)
    assert "\n" not in str(caught.value)


def test_keys_that_differ_in_case_alone_are_refused(write):
    # DuckDB reads the second as A_1.
    with pytest.raises(SourceError, match="whose names differ in case alone: 'a', 'A'"):
        JsonSource(write([{"a": 1, "A": 2}, {"A": 3}]))


def test_a_name_that_ends_in_a_number_is_a_name(write):
    assert rows(JsonSource(write([{"a": 1, "A_1": 2}]))) == [{"a": 1, "A_1": 2}]
