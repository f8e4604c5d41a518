"""Folders of images and of texts by class."""

import base64

import duckdb
import pyarrow as pa
import pytest

from kerastrain import folders
from kerastrain.errors import SourceError
from kerastrain.events import recording
from kerastrain.sources.image_folder import ImageFolderSource
from kerastrain.sources.text_folder import TextFolderSource

GIF = base64.b64decode("R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


def fill(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


@pytest.fixture
def images(tmp_path):
    files = {"dog/b.GIF": GIF, "cat/a.png": PNG, "cat/more/c.jpg": GIF}
    return fill(tmp_path / "pets", files)


def rows(source, **options):
    return pa.Table.from_batches(source.scan(**options)).to_pylist()


def test_an_image_is_a_row_of_bytes_path_and_first_folder_in_sorted_order(images):
    source = ImageFolderSource(images)
    assert rows(source) == [
        {"image": PNG, "path": "cat/a.png", "label": "cat"},
        {"image": GIF, "path": "cat/more/c.jpg", "label": "cat"},
        {"image": GIF, "path": "dog/b.GIF", "label": "dog"},
    ]
    assert (source.name, source.num_rows) == ("pets", 3)


def test_a_text_is_a_row_without_its_byte_order_mark(tmp_path):
    fill(tmp_path, {"neg/1.txt": "schlecht é", "pos/2.txt": b"\xef\xbb\xbfgut"})
    source = TextFolderSource(str(tmp_path))
    assert rows(source, columns=["label", "text"]) == [
        {"label": "neg", "text": "schlecht é"},
        {"label": "pos", "text": "gut"},
    ]


def test_batches_hold_so_many_rows_or_so_many_bytes(images, monkeypatch):
    source = ImageFolderSource(images)
    sizes = [batch.num_rows for batch in source.scan(batch_rows=2)]
    assert sizes == [2, 1]
    monkeypatch.setattr(folders, "BATCH_BYTES", len(PNG))
    assert [batch.num_rows for batch in source.scan()] == [1, 1, 1]
    assert [batch.num_rows for batch in source.scan(["label"])] == [3]


def test_relation_gives_the_table_to_duckdb(images):
    relation = ImageFolderSource(images).relation(duckdb.connect())
    query = "label, count(*), sum(octet_length(image))"
    found = relation.aggregate(query).order("label").fetchall()
    assert found == [("cat", 2, len(PNG) + len(GIF)), ("dog", 1, len(GIF))]


def test_a_file_that_is_no_image_is_named_and_left_out(images):
    fill(images, {"cat/z.png": "not an image", "dog/e.jpg": b""})
    with pytest.raises(SourceError, match="2 of 5 files of pets cannot be read, more"):
        ImageFolderSource(images)
    with recording() as recorder:
        source = ImageFolderSource(images, 0.5)
    assert source.num_rows == 3
    (event,) = recorder.events
    assert event.details["first"] == ["cat/z.png: no image", "dog/e.jpg: empty"]


def test_a_file_that_is_not_utf8_is_named_and_left_out(tmp_path):
    fill(tmp_path, {"a/1.txt": "good", "a/2.txt": b"caf\xe9", "b/3.txt": ""})
    with pytest.raises(SourceError, match=r"a/2.txt: not UTF-8 \(byte 3\)"):
        TextFolderSource(tmp_path)
    assert [row["text"] for row in rows(TextFolderSource(tmp_path, 0.5))] == [
        "good",
        "",
    ]


def test_empty_classes_and_files_that_are_left_out_are_told(images):
    (images / "cow").mkdir()
    fill(images, {"cat/list.csv": "a", "loose.png": PNG, ".cache/x.png": PNG})
    fill(images, {"dog/.DS_Store": "x"})
    with recording() as recorder:
        assert ImageFolderSource(images).num_rows == 3
    empty, others = recorder.events
    assert empty.message == "Classes of pets without files: cow."
    assert "2 files of pets are left out" in others.message
    assert "list.csv, loose.png" in others.message


@pytest.fixture
def parted(tmp_path):
    files = {f"{part}/cat/{part}.png": PNG for part in ("train", "test", "validation")}
    return fill(tmp_path / "pets", files)


def test_splits_above_the_classes_are_not_taken_for_classes(parted):
    message = (
        "holds the splits test, train, validation, not classes. Read one: --set "
        r"source.split=test, or name its folder, '.*pets/test', and another with --test"
    )
    with pytest.raises(SourceError, match=message):
        ImageFolderSource(parted)


def test_the_split_that_is_named_is_read(parted):
    source = ImageFolderSource(parted, split="train")
    expected = [{"image": PNG, "path": "cat/train.png", "label": "cat"}]
    assert rows(source) == rows(ImageFolderSource(parted / "train")) == expected
    assert source.name == "pets/train"
    message = "has no folder 'tst'. Did you mean 'test'. It has: test, train"
    with pytest.raises(SourceError, match=message):
        ImageFolderSource(parted, split="tst")


def test_classes_called_train_and_test_are_classes(tmp_path):
    fill(tmp_path, {"train/1.png": PNG, "test/2.png": PNG})
    labels = [row["label"] for row in rows(ImageFolderSource(tmp_path))]
    assert labels == ["test", "train"]


def test_images_without_classes_have_no_label(tmp_path):
    fill(tmp_path, {"1.png": PNG})
    with recording() as recorder:
        found = rows(ImageFolderSource(tmp_path))
    assert found == [{"image": PNG, "path": "1.png", "label": None}]
    assert [event.code for event in recorder.events] == ["no_classes"]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nothing", "There is no folder .*nothing"),
        (".", "holds no files that end in .txt. Expected one folder for each class"),
    ],
)
def test_what_is_no_folder_of_texts_is_refused(images, place, message):
    with pytest.raises(SourceError, match=message):
        TextFolderSource(images / place)
    with pytest.raises(SourceError, match="Expected a folder, got int"):
        TextFolderSource(7)


def test_fingerprint_depends_on_paths_and_contents(images):
    first = ImageFolderSource(images).fingerprint()
    assert first == ImageFolderSource(images).fingerprint()
    assert (first["files"], first["bytes"]) == (3, len(PNG) + 2 * len(GIF))
    fill(images, {"cat/a.png": PNG + b"1"})
    second = ImageFolderSource(images).fingerprint()
    (images / "cat/a.png").rename(images / "dog/a.png")
    third = ImageFolderSource(images).fingerprint()
    assert len({first["sha256"], second["sha256"], third["sha256"]}) == 3


def test_a_file_that_goes_while_it_is_read_is_named(images):
    source = ImageFolderSource(images)
    (images / "cat/a.png").unlink()
    with pytest.raises(SourceError, match=r"Cannot read .*a.png, which could be read"):
        rows(source)
