"""Hugging Face data sets: saved, cached and in memory, never from the network."""

import datetime as dt
import json

import datasets
import duckdb
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from kerastrain.errors import SourceError
from kerastrain.events import recording
from kerastrain.sources import huggingface
from kerastrain.sources.huggingface import HuggingFaceSource

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)
NOON = dt.datetime(2020, 1, 2, 12, tzinfo=dt.UTC)

FEATURES = Features(
    {
        "id": Value("int64"),
        "kind": ClassLabel(names=["no", "yes"]),
        "owner": {"age": Value("float32"), "sex": ClassLabel(names=["f", "m"])},
        "photo": datasets.Image(),
        "place": List(Value("int32"), length=2),
        "text": Value("large_string"),
        "when": Value("timestamp[us, tz=UTC]"),
    }
)
NESTED = Features(
    {
        "words": List(Value("string")),
        "grid": datasets.Array2D((2, 2), "int32"),
        "parts": List({"a": Value("int32")}),
    }
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """The loader fails at once, and finds no cache but the one of a test."""
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.fixture
def data(tmp_path):
    (tmp_path / "photo.png").write_bytes(PNG)
    columns = {
        "id": [1, 2, 3, 4],
        "kind": [0, 1, -1, None],
        "owner": [{"age": 1, "sex": 0}, {"age": 2, "sex": 1}, None, {"age": None}],
        "photo": [{"bytes": PNG}, {"path": str(tmp_path / "photo.png")}, None, None],
        "place": [[1, 2], [3, 4], [5, 6], None],
        "text": ["a", "é", None, "d"],
        "when": [NOON, None, None, None],
    }
    columns["photo"] = [
        photo and {"bytes": None, "path": None} | photo for photo in columns["photo"]
    ]
    return Dataset.from_dict(columns, features=FEATURES)


def rows(source, *names, **options):
    batches = source.scan(names or None, **options)
    return pa.Table.from_batches(batches).to_pylist()


def test_features_become_columns(data):
    source = HuggingFaceSource(data)
    first, second, third, last = rows(source)
    assert first == {
        "id": 1,
        "kind": "no",
        "owner.age": 1.0,
        "owner.sex": "f",
        "photo": PNG,
        "place_0": 1,
        "place_1": 2,
        "text": "a",
        "when": dt.datetime(2020, 1, 2, 12),
    }
    assert second["photo"] == PNG
    assert (third["kind"], third["owner.sex"], third["photo"]) == (None, None, None)
    assert (last["kind"], last["place_1"], last["owner.sex"]) == (None, None, None)
    assert list(source.scan())[0].schema == source.schema
    assert source.num_rows == 4


def test_labels_are_numbers_when_names_are_not_wanted(data):
    found = rows(HuggingFaceSource(data, label_names=False), "kind", "owner.sex")
    assert [row["kind"] for row in found] == [0, 1, -1, None]


def test_a_selected_and_shuffled_data_set_keeps_its_own_order(data):
    source = HuggingFaceSource(data.select([3, 0, 2]))
    assert [row["id"] for row in rows(source, "id", "text")] == [4, 1, 3]
    shuffled = data.shuffle(seed=1)
    found = [row["id"] for row in rows(HuggingFaceSource(shuffled), batch_rows=3)]
    assert found == shuffled["id"][:]


def test_scans_are_repeatable_and_give_the_columns_that_are_asked_for(data):
    source = HuggingFaceSource(data)
    first, second = (list(source.scan(["text", "id"], batch_rows=3)) for _ in "ab")
    assert first == second
    assert [batch.num_rows for batch in first] == [3, 1]
    assert first[0].schema.names == ["text", "id"]
    relation = source.relation(duckdb.connect())
    assert relation.aggregate("sum(id)").fetchall() == [(10,)]


def test_cells_that_hold_files_come_in_small_batches(data):
    many = datasets.concatenate_datasets([data] * 20)
    sizes = [batch.num_rows for batch in HuggingFaceSource(many).scan()]
    assert sizes == [64, 16]


def test_lists_are_refused_with_the_list_or_left_out():
    columns = {"id": [1], "words": [["a"]], "grid": [[[1, 2], [3, 4]]]}
    columns["parts"] = [[{"a": 1}]]
    data = Dataset.from_dict(columns, Features({"id": Value("int8")} | NESTED))
    message = (
        r"^the data set has columns that hold more than one value in a cell: words "
        r"\(list of string\), grid \(list of list of int32\), parts \(list of records "
        r"of a\). Leave them out: --set source.skip_nested=true.$"
    )
    with pytest.raises(SourceError, match=message):
        HuggingFaceSource(data)
    with recording() as recorder:
        assert rows(HuggingFaceSource(data, skip_nested=True)) == [{"id": 1}]
    assert recorder.events[0].details["columns"] == ["words", "grid", "parts"]


@pytest.fixture
def saved(data, tmp_path):
    folder = tmp_path / "houses"
    parts = {"train": data, "test": data.select([1, 0])}
    DatasetDict(parts).save_to_disk(folder)
    return folder


@pytest.mark.parametrize(
    ("split", "ids"),
    [
        ("train", [1, 2, 3, 4]),
        ("test", [2, 1]),
        ("train[1:]+test", [2, 3, 4, 2, 1]),
        ("train[:50%]", [1, 2]),
        ("train[-25%:]", [4]),
        ("all", [1, 2, 3, 4, 2, 1]),
    ],
)
@pytest.mark.parametrize("is_saved", [True, False])
def test_the_split_that_is_named_is_read(saved, split, ids, is_saved):
    data = saved if is_saved else datasets.load_from_disk(str(saved))
    source = HuggingFaceSource(data, split=split)
    assert [row["id"] for row in rows(source, "id")] == ids
    assert source.num_rows == len(ids)


def test_without_a_split_train_is_read_and_the_others_are_told(saved, data):
    with recording() as recorder:
        source = HuggingFaceSource(str(saved))
    assert (source.name, source.num_rows) == ("houses", 4)
    (event,) = recorder.events
    assert event.message == (
        "The split 'train' of houses is read. It also has test: --set "
        "source.split=..., where 'all' is all of them."
    )
    with pytest.raises(SourceError, match="has the splits a, b. Choose one: --set sou"):
        HuggingFaceSource(DatasetDict({"a": data, "b": data}))


def test_a_single_data_set_in_a_folder_is_read(data, tmp_path):
    data.save_to_disk(tmp_path / "one")
    source = HuggingFaceSource(tmp_path / "one")
    assert rows(source) == rows(HuggingFaceSource(data))


@pytest.fixture
def cached(data, tmp_path):
    """What a download leaves in the cache, for `me/houses` and for `old` (small)."""
    for name, config in (("me___houses", "default"), ("old", "small")):
        folder = tmp_path / "cache" / name / config / "0.0.0" / "abc"
        data.save_to_disk(tmp_path / "saved")
        folder.mkdir(parents=True)
        short = name.rpartition("_")[2]
        source = next((tmp_path / "saved").glob("*.arrow"))
        source.rename(folder / f"{short}-train.arrow")
        info = json.loads((tmp_path / "saved" / "dataset_info.json").read_text())
        splits = {"train": {"name": "train", "num_examples": 4, "dataset_name": short}}
        info |= {"config_name": config, "dataset_name": short, "splits": splits}
        info |= {"builder_name": short, "version": "0.0.0"}
        (folder / "dataset_info.json").write_text(json.dumps(info))


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize(
    "address",
    ["hf:me/houses", "hf:me/houses/default", "hf:old", "hf:old/small?split=train[:4]"],
)
def test_without_a_network_the_cache_is_read(address, data, capfd):
    source = HuggingFaceSource(address)
    assert rows(source) == rows(HuggingFaceSource(data))
    found = source.fingerprint()
    assert found["config"] in ("default", "small")
    assert found["split"].startswith("train")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("address", ["hf:nobody/nothing", "hf:nothing", "hf:a/b/c"])
def test_a_failing_network_is_one_line(address):
    message = (
        f"^Cannot load the Hugging Face data set '{address[3:]}': Couldn't reach .* on "
        "the Hub.*Check the name. Without a network, load it once where there is one"
    )
    with pytest.raises(SourceError, match=message) as caught:
        HuggingFaceSource(address)
    assert "\n" not in str(caught.value)


def test_what_is_asked_of_the_hub_is_the_data_set_and_its_configuration(monkeypatch):
    asked = []

    def load(path, config, revision):
        asked.append((path, config, revision))
        raise datasets.exceptions.DatasetNotFoundError("no such data set")

    monkeypatch.setattr(huggingface.datasets, "load_dataset", load)
    for address in ("hf:a", "hf:a/b", "hf:a/b/c/d"):
        with pytest.raises(SourceError, match="no such data set. Check the name"):
            HuggingFaceSource(address, revision="v1")
    whole = [("a", None, "v1"), ("a/b", None, "v1"), ("a", "b", "v1")]
    assert asked == [*whole, ("a/b", "c/d", "v1")]


def test_progress_bars_are_as_they_were():
    datasets.enable_progress_bars()
    with pytest.raises(SourceError):
        HuggingFaceSource("hf:nothing")
    assert not datasets.are_progress_bars_disabled()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf:", "'hf:' names no data set. Expected 'hf:NAME'"),
        ("hf:a?config=b", "only a split is known, as in 'hf:a.split=test'"),
        (42, "Expected 'hf:NAME', a folder or a Dataset, got int"),
    ],
)
def test_what_is_no_data_set_is_refused(address, message):
    with pytest.raises(SourceError, match=message):
        HuggingFaceSource(address)


def test_a_streamed_data_set_is_refused(data):
    with pytest.raises(SourceError, match="Load it without streaming=True"):
        HuggingFaceSource(data.to_iterable_dataset())


def test_an_unknown_split_is_refused_with_the_known_ones(saved):
    message = r"Cannot read split 'val' of houses: Unknown split \"val\". Should be one"
    with pytest.raises(SourceError, match=message):
        HuggingFaceSource(saved, split="val")


def test_a_damaged_folder_is_refused(saved, tmp_path):
    with pytest.raises(SourceError, match="is not a whole data set of save_to_disk"):
        HuggingFaceSource(tmp_path)
    (saved / "train" / "state.json").unlink()
    with pytest.raises(SourceError, match="houses is not a whole data set of save_to"):
        HuggingFaceSource(saved)


def test_a_photo_whose_file_is_gone_is_named(data, tmp_path):
    (tmp_path / "photo.png").unlink()
    with pytest.raises(SourceError, match="column 'photo' of the data set.*photo.png"):
        list(HuggingFaceSource(data).scan())


def test_fingerprint_depends_on_rows_and_their_order(data):
    first, again = (HuggingFaceSource(data).fingerprint() for _ in range(2))
    other = HuggingFaceSource(data.select([1, 0, 2, 3])).fingerprint()
    assert first == again
    assert first["sha256"] != other["sha256"]
    assert (first["kind"], first["rows"]) == ("huggingface", 4)
