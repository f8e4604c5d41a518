"""CSV: dialects, encodings, malformed lines, several files."""

import csv
import gzip
import random
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from kerastrain.errors import ConfigError, SchemaError, SourceError
from kerastrain.events import recording
from kerastrain.source import open_source
from kerastrain.sources.csv import CsvSource

TABLE = [("a", "b", "c"), ("1", "x", "007"), ("2", "y z", " 8 "), ("3", "w", "1.50")]
GOOD = b"a,b,c\n" + b"".join(b"%d,x%d,y\n" % (i, i) for i in range(2000))


def table_of(source, columns=None):
    batches = list(source.scan(columns))
    table = pa.Table.from_batches(batches, source.schema if columns is None else None)
    return [tuple(row.values()) for row in table.to_pylist()]


def text_of(table, delimiter=",", end="\n"):
    return "".join(delimiter.join(row) + end for row in table)


@pytest.fixture
def write(tmp_path):
    def _write(content, name="data.csv"):
        path = tmp_path / name
        data = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(data)
        return path

    return _write


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiter_and_line_end_are_found_and_text_is_kept_exactly(
    write, delimiter, end
):
    source = CsvSource(write(text_of(TABLE, delimiter, end)))
    assert source.schema.names == ["a", "b", "c"]
    assert set(source.schema.types) == {pa.string()}
    assert table_of(source) == TABLE[1:]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('a,b\n1,"x\ny"\n2,"p\r\nq"\n', [("1", "x\ny"), ("2", "p\r\nq")]),
        ('a,b\n1,"say ""hi"", ok"\n', [("1", 'say "hi", ok')]),
        ('a,b\n1,"say \\"hi\\", ok"\n', [("1", 'say "hi", ok')]),
        ("a,b\n1,'x, y'\n2,'it''s'\n", [("1", "x, y"), ("2", "it's")]),
        ('a,b\n1,5" pipe\n', [("1", '5" pipe')]),
        ("a,b\n1,2\n3,4", [("1", "2"), ("3", "4")]),
        ("a,b\n1,2\n\n3,4\n\n\n", [("1", "2"), ("3", "4")]),
        ("a,b\n1,2,\n3,4,\n", [("1", "2"), ("3", "4")]),
        ("a,b\n,?\nNA,nan\n", [(None, None), (None, None)]),
        ('a,b\n"",x\n', [(None, "x")]),
        ("a;b\n1,5;2,5\n", [("1,5", "2,5")]),
        ("\ufeffa,b\n1,é\n", [("1", "é")]),
    ],
)
def test_quotes_ends_and_missing_values_are_read_as_meant(write, text, rows):
    source = CsvSource(write(text))
    assert source.schema.names == ["a", "b"]
    assert table_of(source) == rows


def test_trailing_delimiters_give_an_empty_column(write):
    source = CsvSource(write("a,b,\n1,2,\n3,4,\n"))
    assert source.schema.names == ["a", "b", "column2"]
    assert table_of(source) == [("1", "2", None), ("3", "4", None)]


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({"delimiter": "::"}, [("1;2", "x;y")]),
        ({"delimiter": ";"}, [("1", "2::x", "y")]),
    ],
)
def test_a_named_delimiter_wins(write, options, rows):
    source = CsvSource(write("a;b::c;d\n1;2::x;y\n"), **options)
    assert table_of(source) == rows


def test_a_tab_can_be_named_as_one_types_it(write):
    assert table_of(CsvSource(write("a\tb\n1\t2\n"), delimiter="\\t")) == [("1", "2")]


def test_a_quote_of_two_characters_is_refused(write):
    path = write("a,b\n1,2\n")
    with pytest.raises(
        SourceError, match="A quote is one character, or none, got 'ab'"
    ):
        CsvSource(path, quote="ab")


def test_missing_values_and_quotes_can_be_named(write):
    path = write('a,b\nNA,"x\n-9,y\n')
    source = CsvSource(path, quote="", missing_values=["-9"])
    assert table_of(source) == [("NA", '"x'), (None, "y")]


@pytest.mark.parametrize(
    ("text", "has_header"),
    [
        ("1,x\n2,y\n3,z\n", False),
        ("id,2019,2020\na,1.5,2.5\nb,3.5,4.5\n", True),
        (",x\n0,1\n1,2\n", True),
        ("name,city\nann,rome\nbob,oslo\n", True),
    ],
)
def test_header_is_told_from_data(write, text, has_header):
    path = write(text)
    with recording() as recorder:
        source = CsvSource(path)
    assert len(table_of(source)) == text.count("\n") - has_header
    assert [e.code for e in recorder.events] == ([] if has_header else ["no_header"])
    first_name = text.split(",")[0] if has_header else ""
    assert source.schema.names[0] == (first_name or "column0")


def test_header_and_skipped_lines_can_be_named(write):
    path = write("a report\n1,2\n3,4\n")
    assert table_of(CsvSource(path, skip=1, header=True)) == [("3", "4")]
    assert CsvSource(path, skip=1, header=True).schema.names == ["1", "2"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_unicode_encodings_are_recognised(write, encoding):
    text = "name,city\nJosé,Zürich\nЮля,東京\n"
    source = CsvSource(write(text.encode(encoding)))
    assert table_of(source) == [("José", "Zürich"), ("Юля", "東京")]


@pytest.mark.parametrize("place", ["first lines", "beyond the sample"])
def test_text_that_is_not_utf8_is_read_as_cp1252_with_a_note(write, place):
    filler = "x,y\n" * (150_000 if place != "first lines" else 0)
    text = "näme,city\n" if place == "first lines" else "name,city\n"
    path = write((text + filler + "José,5 €\n").encode("cp1252"))
    with recording() as recorder:
        source = CsvSource(path)
        assert table_of(source)[-1] == ("José", "5 €")
    assert [e.code for e in recorder.events] == ["encoding_assumed"]
    assert "read as cp1252" in recorder.events[0].message
    assert source.num_rows == filler.count("\n") + 1


def test_a_named_encoding_is_taken_without_a_note(write):
    path = write("имя,город\nЮля,Омск\n".encode("cp1251"))
    with recording() as recorder:
        assert table_of(CsvSource(path, encoding="cp1251")) == [("Юля", "Омск")]
    assert recorder.events == []


def test_copies_are_removed_with_the_source(write):
    source = CsvSource(write("a,b\né,ü\n".encode("latin-1")))
    folder = source._folder
    assert list(folder.iterdir())
    del source
    assert not folder.exists()


@pytest.mark.parametrize("name", ["data.csv.gz", "data.csv"])
def test_gzip_is_read_whatever_the_ending(write, name):
    packed = gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n")
    assert table_of(CsvSource(write(packed, name))) == [("1", "2"), ("3", "4")]


@pytest.mark.parametrize("codec", ["zstd", "bz2"])
def test_other_compressions_are_read(write, codec):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(b"a,b\n1,2\n")
    path = write(sink.getvalue().to_pybytes(), "data.csv.zst")
    assert table_of(CsvSource(path)) == [("1", "2")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\n1\n2\n", "one column: no tab, semicolon, bar or comma"),
        ("a b\n1 2\n3 4\n", "one column.*Its lines look divided by ' '"),
        ("a,b,a\n1,2,3\n", "columns whose names are the same: 'a'"),
        ("a,b,A\n1,2,3\n", "names differ in case alone: 'a', 'A'"),
        ("a,b\n1,2,3\n4,5,6\n", r"header has 2 fields \(a, b\), but 2 of the first 2"),
        ("title\na,b,c\n1,2,3\n", "header has 1 fields.*source.skip=1"),
        ("\n\n", "holds no text"),
        (b"PK\x03\x04....", "is a zip archive, not a text file"),
        (b"\0\1\2\3" * 100, "not a text file: it holds zero bytes"),
    ],
)
def test_what_is_no_table_is_refused(write, content, message):
    path = write(content)
    with pytest.raises(SourceError, match=message):
        CsvSource(path)


def test_one_column_is_read_when_the_delimiter_is_named(write):
    source = CsvSource(write("a\n1\n2\n"), delimiter=",")
    assert table_of(source) == [("1",), ("2",)]


@pytest.mark.parametrize("text", ["a,b\n", "a,b"])
def test_a_header_alone_is_a_table_of_no_rows(write, text):
    source = CsvSource(write(text))
    assert table_of(source) == []
    assert (source.schema.names, source.num_rows) == (["a", "b"], 0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1,2\n", "2 fields instead of 3: 1,2"),
        (b"1,2,3,4\n", "4 fields instead of 3: 1,2,3,4"),
        (b'1,"a"b,3\n', "a quote is not closed, or stands inside a field"),
        (b"1,caf\xc3,3\n\xc3\xa9,\xc3\xa9,\xc3\xa9\n", "not valid utf-8"),
        (b"1," + b"x" * 2_500_000 + b",2\n", "longer than 2000000 bytes"),
    ],
)
def test_a_malformed_line_is_left_out_and_named_once(write, line, reason):
    path = write(GOOD + line + b"5,6,7\n")
    source = CsvSource(path)
    with recording() as recorder:
        rows = table_of(source)
        assert rows[-1] == ("5", "6", "7")
        # However few columns are read, the rows are the same.
        for i, name in enumerate("abc"):
            assert table_of(source, [name]) == [(row[i],) for row in rows]
    (bad,) = source.bad_rows()
    assert (bad.file, bad.line) == ("data.csv", 2002)
    assert reason in str(bad)
    assert [e.code for e in recorder.events] == ["bad_rows"]
    assert recorder.events[0].details["count"] == 1
    assert source.num_rows == len(rows) == 2001 + (b"\xa9" in line)


def test_too_many_malformed_lines_stop_with_the_first_ten(write):
    path = write(GOOD + b"1,2\n" * 15)
    with pytest.raises(SourceError) as caught:
        CsvSource(path).scan()
    first, *rows = str(caught.value).splitlines()
    assert "15 of 2015 lines of data.csv are malformed" in first
    assert "more than the 0.10% that may be" in first
    assert len(rows) == 10
    assert rows[0] == "  data.csv line 2002: 2 fields instead of 3: 1,2"


def test_the_share_of_malformed_lines_is_the_users_to_set(write):
    path = write(GOOD + b"1,2\n" * 15)
    assert len(table_of(CsvSource(path, 0.01))) == 2000


def test_a_quote_that_swallows_the_rest_of_the_file_stops_the_run(write):
    path = write(b'a,b,c\n1,"x,3\n' + b"1,2,3\n" * 500_000)
    with pytest.raises(SourceError, match="line 2 opens a quote that is not closed"):
        CsvSource(path, 1.0).scan()


@pytest.mark.parametrize(
    "text", ["a,b\r\n1,2\n3,4\r\n", "a,b\n1,2\r\n3,4\n", 'a,b\n1,"2"\r\n3,"4"\n']
)
def test_mixed_line_ends_are_read_with_a_note(write, text):
    path = write(text)
    with recording() as recorder:
        assert table_of(CsvSource(path)) == [("1", "2"), ("3", "4")]
    assert [e.code for e in recorder.events] == ["newlines_mixed"]


def test_several_files_are_matched_by_column_name(write, tmp_path):
    write("a,b\n1,x\n", "p1.csv")
    write("b,a\ny,2\n", "p2.csv")
    write(gzip.compress(b"a,b\n3,z\n"), "p3.csv.gz")
    source = open_source(str(tmp_path / "p*"))
    assert source.name == "p1.csv and 2 more"
    assert table_of(source) == [("1", "x"), ("2", "y"), ("3", "z")]
    assert table_of(source, ["b"]) == [("x",), ("y",), ("z",)]


def test_a_bad_line_in_the_second_file_is_named_by_that_file(write):
    paths = [write(GOOD, "p1.csv"), write(b"b,c,a\n1,2,3\n1,2\n", "p2.csv")]
    source = CsvSource(paths)
    assert [str(row) for row in source.bad_rows()] == [
        "p2.csv line 3: 2 fields instead of 3: 1,2"
    ]
    assert table_of(source)[-1] == ("3", "1", "2")


def test_files_of_other_columns_are_refused(write):
    paths = [write("a,b\n1,2\n", "p1.csv"), write("a,c\n1,2\n", "p2.csv")]
    with pytest.raises(
        SourceError, match=r"different columns: p2.csv lacks b, and p1.csv lacks c"
    ):
        CsvSource(paths)


def test_order_and_text_hold_over_many_batches(tmp_path):
    generator = random.Random(0)
    words = ["a", "b\nc", 'd,"e"', "x\r\ny", " z ", "q" * 200]
    rows = [
        (str(i), generator.choice(words), f"{generator.randint(0, 999):05}")
        for i in range(310_000)
    ]
    path = tmp_path / "big.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("a", "b", "c"), *rows])
    source = CsvSource(path)
    batches = list(source.scan(["c", "a", "b"], batch_rows=50_000))
    assert len(batches) > 3
    columns = [pa.chunked_array(c).to_pylist() for c in zip(*batches, strict=True)]
    got = list(zip(columns[1], columns[2], columns[0], strict=True))
    assert got == rows  # one comparison: pytest's own diff would take minutes


def test_two_scans_run_side_by_side(write):
    source = CsvSource(write(GOOD))
    first, second = source.scan(["a"]), source.scan(["b"])
    assert next(first).num_rows == next(second).num_rows == 2000


def test_relation_gives_the_table_to_duckdb(write):
    source = CsvSource(write(GOOD + b"1,2\n"))
    connection = duckdb.connect()
    relation = source.relation(connection)
    assert relation.columns == ["a", "b", "c"]
    assert relation.aggregate("count(*), max(b)").fetchall() == [(2000, "x999")]


def test_names_with_quotes_and_globs_in_them_are_read(tmp_path):
    folder = tmp_path / "it's [1]"
    folder.mkdir()
    path = Path(folder / "a*b.csv")
    path.write_text('x "y",select\n1,2\n')
    source = open_source(path)
    assert source.schema.names == ['x "y"', "select"]
    assert table_of(source, ["select"]) == [("2",)]


def test_a_column_that_is_not_there_is_suggested(write):
    source = CsvSource(write("age,sex\n1,m\n"))
    with pytest.raises(
        SchemaError, match=r"No column 'agee' in data.csv. Did you mean"
    ):
        source.scan(["agee"])


def test_an_unknown_encoding_is_refused(write):
    path = write("a,b\n1,2\n")
    with pytest.raises(SourceError, match="Unknown encoding 'utf-9'"):
        CsvSource(path, encoding="utf-9")


def test_bytes_beyond_a_named_encoding_are_refused(write):
    path = write("a,b\n1,2\n".encode("utf-16") + b"\x00")
    with pytest.raises(SourceError, match="is not utf-16"):
        CsvSource(path)


def test_options_come_from_the_configuration(write):
    from kerastrain.config import SourceConfig

    path = write("a\n1\n", "data.csv")
    assert open_source(path, SourceConfig(delimiter=",")).schema.names == ["a"]
    with pytest.raises(ConfigError, match="source.csv has no option 'delimeter'"):
        open_source(path, SourceConfig(name="csv", delimeter=","))


def test_fingerprint_has_size_and_hash(write):
    path = write("a,b\n1,2\n")
    print_ = CsvSource(path).fingerprint()
    (file,) = print_["files"]
    assert file["bytes"] == 8
    assert file["sha256"] == CsvSource(path).fingerprint()["files"][0]["sha256"]
    path.write_text("a,b\n1,3\n")
    assert file["sha256"] != CsvSource(path).fingerprint()["files"][0]["sha256"]
