"""Which kind of source reads an address, a folder or an object, told without it."""

from pathlib import Path

import datasets
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from kerastrain.errors import SourceError
from kerastrain.events import recording
from kerastrain.files import find_files, kind_of

COLUMNS = {"a": [1, 2], "b": ["x", "y"]}


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("tfds:penguins/simple", "tfds"),
        ("hf:imdb?split=test", "huggingface"),
        ("sqlite:///shop.db?table=orders", "sql"),
        ("postgresql+psycopg://me@host/shop?table=orders", "sql"),
        ("duckdb:///shop.duckdb", "sql"),
        ("teapot://host/shop", "sql"),
        ("shop.db?table=orders", "sql"),
        ("s3://bucket/rows.parquet", "parquet"),
        ("gs://bucket/rows.jsonl.gz", "json"),
        ("https://host/a.b/rows.csv?version=2.xlsx", "csv"),
        ("zip://rows.csv::https://host/rows.zip", "csv"),
    ],
)
def test_an_address_tells_its_kind_without_a_connection(address, kind):
    assert kind_of(address) == kind
    assert kind_of([address]) == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("rows.CSV.GZ", "csv"),
        ("rows.tab", "csv"),
        ("rows.ndjson.zst", "json"),
        ("rows.pq", "parquet"),
        ("rows.feather", "arrow"),
        ("rows.ods", "excel"),
        ("rows.npz", "npz"),
        ("rows.tfrecord-00000-of-00002", "tfrecord"),
        ("rows-00000-of-00002.tfrecord.gz", "tfrecord"),
        ("rows.sqlite3", "sql"),
    ],
)
def test_a_file_tells_its_kind_by_its_ending(tmp_path, name, kind):
    (tmp_path / name).write_text("not looked at")
    assert kind_of(tmp_path / name) == kind


def test_a_packed_file_that_is_packed_inside_is_to_be_unpacked(tmp_path):
    (tmp_path / "rows.parquet.gz").write_text("x")
    with pytest.raises(SourceError, match="A compressed parquet file is unpacked fi"):
        kind_of(tmp_path / "rows.parquet.gz")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (pa.table(COLUMNS), "frame"),
        (pl.DataFrame(COLUMNS), "frame"),
        (COLUMNS, "frame"),
        ((np.zeros((2, 3)), np.zeros(2)), "frame"),
        (tf.data.Dataset.range(3), "tf_dataset"),
        (tf.data.Dataset.range(3).map(lambda i: i).batch(2), "tf_dataset"),
        (datasets.Dataset.from_dict(COLUMNS), "huggingface"),
        (
            datasets.DatasetDict({"train": datasets.Dataset.from_dict(COLUMNS)}),
            "huggingface",
        ),
    ],
)
def test_an_object_tells_its_kind_by_its_class(data, kind):
    assert kind_of(data) == kind


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["a.csv", "sub/b.csv", "_SUCCESS", ".a.csv.crc"], "csv"),
        (["year=2020/a.parquet", "year=2021/a.parquet"], "parquet"),
        (["a.parquet", "README.txt", "schema.json"], "parquet"),
        (["a.jsonl", "notes.md"], "json"),
        (["cat/1.jpg", "dog/2.PNG"], "image_folder"),
        (["train/cat/1.jpg", "test/cat/2.jpg"], "image_folder"),
        (["spam/1.txt", "ham/2.txt"], "text_folder"),
        (["dataset_info.json", "state.json", "data.arrow"], "huggingface"),
        (["dataset_dict.json", "train/state.json"], "huggingface"),
        (["dataset_info.json", "features.json", "x.tfrecord"], "tfds"),
        (["p/1.0.0/dataset_info.json", "p/1.0.0/features.json"], "tfds"),
    ],
)
def test_a_folder_tells_its_kind_by_what_it_holds(tmp_path, names, kind):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("not looked at")
    assert kind_of(tmp_path) == kind
    assert kind_of(str(tmp_path) + "/") == kind


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"holds no data that is known: no files. Name its files: '.*/\*.csv'"),
        (["a.docx", "LICENSE"], "known: only files of .docx, no ending. Name its"),
        (["a.csv", "b.json", "c.json"], r"several kinds \(1 of csv, 2 of json\)"),
        (["1.jpg"], "only files of .jpg"),
    ],
)
def test_a_folder_of_nothing_or_of_several_kinds_is_told(tmp_path, names, message):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(SourceError, match=message):
        kind_of(tmp_path)


def test_files_of_a_folder_come_in_order_without_those_of_tools(tmp_path):
    for name in ("b.csv", "a.csv", "sub/c.csv", "_SUCCESS", ".x.csv", "_tmp/d.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a\n1\n")
    found = [str(path.relative_to(tmp_path)) for path in find_files(tmp_path)]
    assert found == ["a.csv", "b.csv", str(Path("sub/c.csv"))]
    assert [path.name for path in find_files(str(tmp_path / "*.csv"))] == found[:2]


def test_what_lies_beside_parquet_files_is_told(tmp_path):
    pq.write_table(pa.table(COLUMNS), tmp_path / "a.parquet")
    (tmp_path / "README.txt").write_text("x")
    with recording() as recorder:
        assert [path.name for path in find_files(tmp_path)] == ["a.parquet"]
    (event,) = recorder.events
    assert (event.code, event.message[-21:]) == (
        "files_left_out",
        "Left out: README.txt.",
    )


def test_a_glob_of_partitions_names_the_files_in_them(tmp_path):
    for year in (2019, 2020, 2021):
        (tmp_path / f"year={year}").mkdir()
        pq.write_table(pa.table(COLUMNS), tmp_path / f"year={year}" / "a.parquet")
    paths = find_files(str(tmp_path / "year=202*"))
    assert [path.parent.name for path in paths] == ["year=2020", "year=2021"]
