"""TensorFlow Datasets: a real builder, prepared in a temporary folder."""

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import tensorflow_datasets as tfds

from kerastrain.errors import SourceError
from kerastrain.events import recording
from kerastrain.sources.tfds import TfdsSource

NESTED = ("grid", "sound", "steps", "words")


class HouseKind(tfds.core.GeneratorBasedBuilder):
    """Rows of every kind of feature, in two configurations."""

    VERSION = tfds.core.Version("1.2.0")
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="all", description="With what has no cell."),
        tfds.core.BuilderConfig(name="flat", description="Without it."),
    ]

    def _info(self):
        f = tfds.features
        features = {
            "id": np.int64,
            "size": f.Scalar(np.float32),
            "old": np.bool_,
            "place": f.Tensor(shape=(2,), dtype=np.float32),
            "text": f.Text(),
            "code": np.str_,
            "kind": f.ClassLabel(names=["flat", "villa"]),
            "photo": f.Image(shape=(None, None, 3)),
            "owner": {"age": np.int32, "name": {"first": f.Text()}},
        }
        if self.builder_config.name == "all":
            features |= {
                "grid": f.Tensor(shape=(2, 3), dtype=np.uint8),
                "sound": f.Audio(),
                "steps": f.Sequence({"a": np.int32}),
                "words": f.Sequence(f.Text()),
            }
        return tfds.core.DatasetInfo(builder=self, features=f.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(10),
            "test": self._generate_examples(4),
        }

    def _generate_examples(self, num_rows):
        for i in range(num_rows):
            row = {
                "id": i,
                "size": i / 2,
                "old": i % 2 == 0,
                "place": [i, -i],
                "text": f"é {i}",
                "code": b"\xff" if i == 3 else f"c{i}",
                "kind": -1 if i == 1 else i % 2,
                "photo": np.full((2, 2, 3), i, "uint8"),
                "owner": {"age": i, "name": {"first": "A"}},
            }
            if self.builder_config.name == "all":
                row |= {
                    "grid": np.zeros((2, 3), "uint8"),
                    "sound": np.zeros(i, "int64"),
                }
                row |= {"steps": [{"a": 1}] * i, "words": ["x"] * i}
            yield i, row


class FarAway(tfds.core.GeneratorBasedBuilder):
    """A builder that needs the network, which refuses."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict({"a": np.int64})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        raise ConnectionError("Failed to resolve\nexample.org")

    def _generate_examples(self):
        yield 0, {"a": 1}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    tfds.disable_progress_bar()
    for config in ("all", "flat"):
        HouseKind(data_dir=folder, config=config).download_and_prepare()
    return folder


@pytest.fixture
def no_preparing(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("what is prepared needs no builder")

    monkeypatch.setattr(tfds, "builder", refuse)


def table(source, **options):
    batches = list(source.scan(**options))
    return pa.Table.from_batches(batches).sort_by("id")


@pytest.mark.usefixtures("no_preparing")
def test_features_become_columns(prepared):
    source = TfdsSource("tfds:house_kind/flat", data_dir=str(prepared))
    assert (source.name, source.num_rows) == ("house_kind/flat/1.2.0", 10)
    found = table(source)
    assert found.schema == source.schema
    rows = found.to_pylist()
    photos = [row.pop("photo") for row in rows]
    assert all(photo.startswith(b"\x89PNG") for photo in photos)
    assert rows[3] == {
        "code": "\ufffd",
        "id": 3,
        "kind": "villa",
        "old": False,
        "owner.age": 3,
        "owner.name.first": "A",
        "place_0": 3.0,
        "place_1": -3.0,
        "size": 1.5,
        "text": "é 3",
    }
    assert [row["kind"] for row in rows[:3]] == ["flat", None, "flat"]


def test_scans_are_repeatable_and_give_the_columns_that_are_asked_for(prepared):
    source = TfdsSource("tfds:house_kind/flat", data_dir=str(prepared))
    names = ["place_1", "id", "owner.age"]
    first, second = (list(source.scan(names, batch_rows=4)) for _ in range(2))
    assert first == second
    assert [batch.num_rows for batch in first] == [4, 4, 2]
    assert first[0].schema.names == names
    relation = source.relation(duckdb.connect())
    assert relation.aggregate("sum(id)").fetchall() == [(45,)]


def test_labels_are_numbers_when_names_are_not_wanted(prepared):
    source = TfdsSource(
        "tfds:house_kind/flat", data_dir=str(prepared), label_names=False
    )
    assert table(source)["kind"].to_pylist()[:4] == [0, -1, 0, 1]


def test_features_that_no_cell_holds_are_refused_with_the_list(prepared):
    message = (
        r"columns that hold more than one value in a cell: grid \(2 x 3 x uint8\), "
        r"sound \(list of int64\), steps \(list of records of a\), "
        r"words \(list of string\). Leave them out: --set source.skip_nested=true"
    )
    with pytest.raises(SourceError, match=message):
        TfdsSource("tfds:house_kind/all", data_dir=str(prepared))
    with recording() as recorder:
        source = TfdsSource(
            "tfds:house_kind/all", data_dir=str(prepared), skip_nested=True
        )
    assert recorder.events[-1].details["columns"] == list(NESTED)
    other = TfdsSource("tfds:house_kind/flat", data_dir=str(prepared))
    assert table(source) == table(other)


@pytest.mark.parametrize(
    ("address", "split", "num_rows"),
    [
        ("tfds:house_kind/flat", "train", 10),
        ("tfds:house_kind/flat", "train[:80%]", 8),
        ("tfds:house_kind/flat", "all", 14),
        ("tfds:house_kind/flat:1.2.0", "train[2:4]+test", 6),
        ("tfds:house_kind/flat?split=test", None, 4),
        ("tfds:house_kind/flat?split=train[:50%]+test", "train", 9),
        ("tfds:house_kind/flat?split=train%5B%3A50%25%5D", None, 5),
    ],
)
def test_the_split_that_is_named_is_read(prepared, address, split, num_rows):
    source = TfdsSource(address, data_dir=str(prepared), split=split)
    assert source.num_rows == table(source, columns=["id"]).num_rows == num_rows


def test_without_a_split_train_is_read_and_the_others_are_told(prepared):
    with recording() as recorder:
        TfdsSource("tfds:house_kind/flat", data_dir=str(prepared))
    (event,) = recorder.events
    assert event.message.startswith("The split 'train' of house_kind/flat/1.2.0 is re")
    assert event.details["splits"] == ["train", "test"]


@pytest.mark.usefixtures("no_preparing")
def test_a_folder_is_read_by_its_path_and_the_default_place_by_a_variable(
    prepared, monkeypatch
):
    below = "house_kind/flat/1.2.0"
    assert TfdsSource(prepared / below).num_rows == 10
    assert TfdsSource(str(prepared / "house_kind/flat")).name == below
    message = r"should hold one prepared TensorFlow data set, found 2: .*all/1.2.0, "
    with pytest.raises(SourceError, match=message):
        TfdsSource(prepared)
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", prepared)
    assert TfdsSource("tfds:house_kind/flat").num_rows == 10


def test_a_data_set_that_is_not_prepared_is_prepared(tmp_path, capsys):
    source = TfdsSource("tfds:house_kind/flat", data_dir=str(tmp_path))
    assert source.num_rows == 10
    assert (tmp_path / "house_kind/flat/1.2.0/features.json").is_file()
    assert capsys.readouterr().out == ""


def test_a_failing_network_is_one_line(tmp_path):
    message = (
        "^The TensorFlow data set 'far_away' is not on this machine and cannot be "
        "prepared: Failed to resolve example.org. Without a network, prepare it where "
        r"there is one \(tfds build far_away\), copy its folder, and name that one.$"
    )
    with pytest.raises(SourceError, match=message):
        TfdsSource("tfds:far_away", data_dir=str(tmp_path))


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ModuleNotFoundError("No module named 'beam'", name="beam")

    monkeypatch.setattr(tfds, "builder", fail)
    message = "another package is needed: No module named 'beam'. Install it with pip"
    with pytest.raises(SourceError, match=message):
        TfdsSource("tfds:far_away", data_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("tfds:house_kin", r"no TensorFlow data set 'house_kin', neither in .*Did you"),
        ("tfds:house_kind/flat:9.9.9", "cannot be prepared: .* 9.9.9, only: 1.2.0"),
        ("tfds:a b", "'tfds:a b': Parsing builder name string a b failed"),
        ("tfds:", "'tfds:' names no data set. Expected 'tfds:NAME'"),
        ("tfds:x?seed=1", "only a split is known, as in 'tfds:x.split=test'"),
        ("tfds:house_kind/flat?split=val", "Cannot read split 'val' of house_kind"),
        (42, "Expected 'tfds:NAME' or a folder, got int"),
    ],
)
def test_what_is_no_data_set_is_refused_in_one_line(prepared, address, message):
    with pytest.raises(SourceError, match=message) as caught:
        TfdsSource(address, data_dir=str(prepared))
    assert "\n" not in str(caught.value)


def test_damaged_files_are_named(prepared, tmp_path):
    source = prepared / "house_kind/flat/1.2.0"
    for path in source.iterdir():
        content = path.read_bytes()
        is_rows = "tfrecord" in path.name
        (tmp_path / path.name).write_bytes(content[:-50] if is_rows else content)
    damaged = TfdsSource(tmp_path)
    with pytest.raises(SourceError, match="Cannot read house_kind.*prepare it anew"):
        list(damaged.scan())
    (tmp_path / "features.json").write_text("{")
    with pytest.raises(SourceError, match="is not a whole TensorFlow data set"):
        TfdsSource(tmp_path)


def test_fingerprint_tells_name_version_split_and_files(prepared):
    source = TfdsSource("tfds:house_kind/flat?split=test", data_dir=str(prepared))
    found = source.fingerprint()
    (file,) = found.pop("files")
    assert file["path"].endswith("house_kind-test.tfrecord-00000-of-00001")
    assert len(file["sha256"]) == 64
    assert found == {
        "kind": "tfds",
        "name": "house_kind",
        "config": "flat",
        "version": "1.2.0",
        "split": "test",
        "rows": 4,
    }
