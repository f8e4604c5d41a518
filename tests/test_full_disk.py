"""A disk that is full or read-only: one line, and what was written before is whole."""

import os
import subprocess

import keras
import numpy as np
import pytest

from kerastrain.errors import StorageError
from kerastrain.store import atomic, write_json
from kerastrain.training.stopping import BestWeights
from kerastrain.training.weights import Checkpoints


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def model():
    layers = [keras.Input((20,)), keras.layers.Dense(2_000), keras.layers.Dense(1)]
    return keras.Sequential(layers)  # 170 kB


def fill(folder):
    with (folder / "filler").open("wb") as file, pytest.raises(OSError, match="space"):
        while True:
            file.write(b"x" * 65_536)
            file.flush()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_leaves_the_last_good_checkpoint(small_disk, model):
    best = BestWeights("val_loss", "min", None)
    best.is_better = True
    folder = small_disk / "checkpoints"
    checkpoints = Checkpoints(folder, best, model, every=0, keep=1)
    checkpoints.on_epoch_end(0)
    good = [weight.copy() for weight in model.get_weights()]
    model.set_weights([weight + 1 for weight in good])
    fill(small_disk)
    message = (
        r"^Cannot write .*best.weights.h5: no space left on device. What was written "
        r"before is whole. Free some space, or name another folder with --out.$"
    )
    with pytest.raises(StorageError, match=message):
        checkpoints.on_epoch_end(1)
    assert [path.name for path in folder.iterdir()] == ["best.weights.h5"]
    model.load_weights(folder / "best.weights.h5")
    for weight, expected in zip(model.get_weights(), good, strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_a_read_only_disk_is_told(small_disk):
    write_json(small_disk / "a.json", {"a": 1})
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageError, match="a.json: read-only file system"):
        write_json(small_disk / "a.json", {"a": 2})
    assert (small_disk / "a.json").read_text() == '{\n "a": 1\n}\n'
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)


def test_another_error_stays_what_it_is(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic(tmp_path / "x") as temporary:
        temporary.write_text("half")
        1 / 0  # noqa: B018
    assert [*tmp_path.iterdir()] == []
