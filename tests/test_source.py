"""Which source reads a given piece of data, and what is refused."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerastrain.config import SourceConfig
from kerastrain.errors import ConfigError, SourceError
from kerastrain.source import open_source
from kerastrain.sources import SOURCES
from kerastrain.sources.csv import CsvSource
from kerastrain.sources.frame import FrameSource
from kerastrain.sources.parquet import ParquetSource

TABLE = pa.table({"a": ["1", "2", None], "b": ["x", "y", "z"]})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data.csv").write_text("a,b\n1,x\n2,y\n,z\n")
    (tmp_path / "data.tsv").write_text("a\tb\n1\tx\n2\ty\n\tz\n")
    pq.write_table(TABLE, tmp_path / "data.parquet")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "notes.docx").write_text("a,b\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "kind"),
    [("data.csv", CsvSource), ("data.tsv", CsvSource), ("data.parquet", ParquetSource)],
)
def test_the_ending_says_how_a_file_is_read(folder, name, kind):
    source = open_source(str(folder / name))
    assert type(source) is kind
    assert source.name == name


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_gives_the_same_table_in_all_ways(folder, name):
    data = {"csv": folder / "data.csv", "parquet": folder / "data.parquet"}
    source = open_source(data.get(name, TABLE), SourceConfig(name=name))
    assert pa.Table.from_batches(source.scan(), source.schema) == TABLE
    assert pa.Table.from_batches(source.scan(["b"])) == TABLE.select(["b"])
    assert source.num_rows == 3
    assert source.fingerprint() == source.fingerprint()


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
        ("", r"is a folder. Name its files: '.*\*.csv'"),
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
