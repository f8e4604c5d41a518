"""Arrays in memory and over files hold the same, and take what they may."""

import mmap
import re

import numpy as np
import psutil
import pytest

from kerastrain.arrays import (
    ArrayStore,
    Chosen,
    DiskArray,
    chunk_rows,
    class_counts,
    mean_and_std,
    pieces,
)
from kerastrain.errors import DataError


@pytest.fixture
def store(tmp_path):
    return ArrayStore(tmp_path / "arrays", budget_bytes=0)


KEYS = [
    3,
    slice(2, 5),
    np.array([4, 0, 4]),
    (slice(None), slice(1, 2)),
    (np.array([1, 2]), 1),
    (np.array([5, 0, 2]), slice(1, 3)),
    np.array([True, False, True, False, False, True]),
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_an_array_on_disk_reads_and_writes_like_one_in_memory(store, key):
    plain = np.arange(18, dtype="float32").reshape(6, 3)
    array = store.empty((6, 3), "float32")
    assert isinstance(array, DiskArray)
    array[:] = plain
    read = array[key]
    np.testing.assert_array_equal(read, plain[key])
    assert type(read) is np.ndarray
    array[key], plain[key] = -1, -1
    np.testing.assert_array_equal(array[:], plain)
    np.testing.assert_array_equal(np.load(array.filename), plain)


def test_what_is_read_from_disk_is_a_copy(store):
    array = store.empty((4,), "int32")
    array[:] = 7
    array[:2][:] = 0
    assert array[:].tolist() == [7, 7, 7, 7]


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="Linux only")
def test_passes_over_an_array_on_disk_take_no_memory(store):
    array = store.empty((16, 1 << 20), "float32")  # 64 MB
    process = psutil.Process()
    before = process.memory_info().rss
    for i in range(len(array)):
        array[i] = i
    for i in range(len(array)):
        assert array[i, 5] == i
    assert process.memory_info().rss - before < 24 << 20


@pytest.mark.parametrize("is_sorted", [True, False])
def test_rows_all_over_a_file_are_gathered_in_stretches(store, is_sorted, monkeypatch):
    monkeypatch.setattr("kerastrain.arrays._STRETCH_BYTES", 1 << 20)
    array = store.empty((1 << 22, 4), "float32")  # 64 MB
    for piece in pieces(len(array)):
        array[piece] = np.arange(4 * piece.start, 4 * piece.stop).reshape(-1, 4)
    rows = np.random.default_rng(0).integers(0, 1 << 22, 10_000)
    rows = np.sort(rows) if is_sorted else rows
    process = psutil.Process()
    before, found = process.memory_info().rss, array[rows]
    assert process.memory_info().rss - before < 24 << 20
    np.testing.assert_array_equal(found[:, 0], (rows * 4).astype("float32"))
    np.testing.assert_array_equal(array[rows[:3]], found[:3])
    assert array[rows[:0]].shape == (0, 4)


def test_memory_is_used_up_to_the_budget_and_then_files(tmp_path):
    store = ArrayStore(tmp_path / "arrays", budget_bytes=100)
    kinds = [type(store.empty((n,), "int8")) for n in (60, 60, 40)]
    assert kinds == [np.ndarray, DiskArray, np.ndarray]
    assert len([*(tmp_path / "arrays").iterdir()]) == 1
    store.remove_files()
    assert not (tmp_path / "arrays").exists()


def test_what_a_section_took_is_free_after_it(tmp_path):
    store = ArrayStore(tmp_path / "arrays", budget_bytes=100)
    kept = store.empty((50,), "int8")
    with store.section():
        store.empty((50,), "int8")
        assert isinstance(store.empty((50,), "int8"), DiskArray)
    assert [*(tmp_path / "arrays").iterdir()] == []
    assert store.used_bytes == 50 == kept.nbytes
    assert type(store.empty((50,), "int8")) is np.ndarray
    store.take_back(kept, kept, np.zeros(3))  # twice, or a stranger: no matter
    assert store.used_bytes == 50


def test_a_copy_in_the_store_holds_the_same(store):
    array = np.arange(10) * 3
    np.testing.assert_array_equal(store.stored(array)[:], array)


def test_a_full_disk_is_told_before_anything_is_written(store, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", refuse)
    message = "No room for 4 GB of encoded rows in "
    with pytest.raises(DataError, match=f"^{re.escape(message)}.*--memory 8GB"):
        store.empty((1_000_000_000,), "float32")


def test_chosen_rows_come_in_pieces(monkeypatch):
    array = np.arange(3_000_000)
    chosen = Chosen(array, np.arange(0, 3_000_000, 2))
    assert [len(piece) for piece in chosen] == [1 << 20, 1_500_000 - (1 << 20)]
    assert len(chosen) == 1_500_000
    np.testing.assert_allclose(
        mean_and_std(chosen), (array[::2].mean(), array[::2].std())
    )
    assert class_counts(Chosen(array % 3, chosen.rows), 3).tolist() == [500_000] * 3


def test_pieces_and_chunks_cover_all_rows():
    assert [*pieces(0)] == []
    assert [*pieces(4, 4)] == [slice(0, 4)]
    assert chunk_rows(0) == 65_536
    assert chunk_rows(1 << 30) == 256
