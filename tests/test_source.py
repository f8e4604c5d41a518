"""Which source reads a given piece of data, and what is refused."""

import json

import duckdb
import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from kerastrain.config import SourceConfig
from kerastrain.errors import ConfigError, SourceError
from kerastrain.source import open_source
from kerastrain.sources.csv import CsvSource
from kerastrain.sources.frame import FrameSource
from kerastrain.sources.parquet import ParquetSource

TABLE = pa.table({"a": ["1", "2", None], "b": ["x", "y", "z"]})
NO_NULLS = pa.table({"a": ["1", "2", ""], "b": ["x", "y", "z"]})  # as NumPy has texts
ENDINGS = {"json": "jsonl", "excel": "xlsx"}
ENDINGS |= {name: name for name in ("csv", "parquet", "frame", "arrow", "npz")}


def _write_excel(folder):
    sheet = (book := openpyxl.Workbook()).active
    for row in [("a", "b"), ("1", "x"), ("2", "y"), (None, "z")]:
        sheet.append(row)
    book.save(folder / "same.xlsx")


def _write_npz(folder):
    columns = {name: np.array(NO_NULLS[name].to_pylist()) for name in ("a", "b")}
    np.savez(folder / "same.npz", **columns)


def _write_json(folder):
    lines = [json.dumps({"a": a, "b": b}) for a, b in [("1", "x"), ("2", "y")]]
    (folder / "same.jsonl").write_text("\n".join([*lines, '{"b": "z"}']))


SAME_TABLE = {
    "csv": lambda folder: pa.csv.write_csv(TABLE, folder / "same.csv"),
    "parquet": lambda folder: pq.write_table(TABLE, folder / "same.parquet"),
    "frame": lambda folder: None,
    "json": _write_json,
    "arrow": lambda folder: pa.feather.write_feather(TABLE, folder / "same.arrow"),
    "excel": _write_excel,
    "npz": _write_npz,
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data.csv").write_text("a,b\n1,x\n2,y\n,z\n")
    (tmp_path / "data.tsv").write_text("a\tb\n1\tx\n2\ty\n\tz\n")
    pq.write_table(TABLE, tmp_path / "data.parquet")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "notes.docx").write_text("a,b\n")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "notes.docx").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "kind"),
    [("data.csv", CsvSource), ("data.tsv", CsvSource), ("data.parquet", ParquetSource)],
)
def test_the_ending_says_how_a_file_is_read(folder, name, kind):
    source = open_source(str(folder / name))
    assert type(source) is kind
    assert source.name == name


@pytest.mark.parametrize("name", SAME_TABLE)
def test_every_source_gives_the_same_table_in_all_ways(folder, name):
    SAME_TABLE[name](folder)
    data = TABLE if name == "frame" else folder / f"same.{ENDINGS[name]}"
    table, missing = (NO_NULLS, "") if name == "npz" else (TABLE, None)
    source = open_source(data, SourceConfig(name=name))
    assert pa.Table.from_batches(source.scan(), source.schema) == table
    assert pa.Table.from_batches(source.scan(["b"])) == table.select(["b"])
    assert pa.Table.from_batches(source.scan(["b", "a"])) == table.select(["b", "a"])
    relation = source.relation(duckdb.connect())
    assert relation.fetchall() == [("1", "x"), ("2", "y"), (missing, "z")]
    assert source.num_rows in (3, None)  # text files are counted while they are read
    assert source.fingerprint() == source.fingerprint()
    assert json.loads(json.dumps(source.fingerprint())) == source.fingerprint()
    chosen = open_source(data, SourceConfig(name=name), where="a > 1", select=["b"])
    assert pa.Table.from_batches(chosen.scan()).to_pydict() == {"b": ["y"]}


@pytest.mark.parametrize("data", [TABLE, TABLE.to_pandas(), {"a": [1, 2]}])
def test_a_table_in_memory_is_a_frame(data):
    assert type(open_source(data)) is FrameSource


def test_a_source_is_given_back_as_it_is():
    source = open_source(TABLE)
    assert open_source(source) is source


def test_a_named_source_reads_any_ending(folder):
    (folder / "data.foo").write_text("a,b\n1,2\n")
    source = open_source(folder / "data.foo", SourceConfig(name="csv"))
    assert source.schema.names == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dat.csv", r"There is no file .*dat.csv. Did you mean 'data.csv'\?"),
        ("no/data.csv", r"There is no file .*no/data.csv.$"),
        ("empty.csv", "empty.csv is empty"),
        ("docs", r"The folder .*docs holds no data .*known.*\.docx"),
        ("*.xyz", r"No file matches '.*\*.xyz'"),
        ("notes.docx", r"Cannot tell by its ending.*Known endings: .csv, .tsv"),
        ("data.*", r"Files of one table must be of one kind.*\(csv\).*\(parquet\)"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(folder, name, message):
    with pytest.raises(SourceError, match=message) as caught:
        open_source(str(folder / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "No data file is named"),
        (42, "Cannot read data of type builtins.int"),
        (None, "Cannot read data of type builtins.NoneType"),
        (pd.DataFrame(), "the frame has no columns"),
    ],
)
def test_what_is_no_table_is_refused(data, message):
    with pytest.raises(SourceError, match=message):
        open_source(data)


def test_a_frame_is_not_read_as_a_file():
    with pytest.raises(SourceError, match="Expected a path or paths, got DataFrame"):
        open_source(pd.DataFrame({"a": [1]}), SourceConfig(name="csv"))


def test_a_file_is_read_once_though_a_glob_finds_it_again(folder):
    paths = [folder / "data.csv", str(folder / "*a.csv")]
    assert sum(batch.num_rows for batch in open_source(paths).scan()) == 3


def test_options_belong_to_the_source_that_is_found(folder):
    with pytest.raises(ConfigError, match="source.parquet has no option 'delimiter'"):
        open_source(folder / "data.parquet", SourceConfig(delimiter=","))


def test_a_source_that_a_saved_folder_names_is_not_imported(folder):
    config = SourceConfig(name="antigravity:Source")  # would open a browser
    message = "^The run was trained on a foreign source, 'antigravity:Source', which a "
    with pytest.raises(ConfigError, match=message):
        open_source(str(folder / "data.csv"), config, trusted=False)
