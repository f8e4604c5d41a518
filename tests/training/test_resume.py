"""Checkpoints of the whole state: whole, in order, and readable after damage."""

import numpy as np
import pytest

from kerastrain.errors import RunError, StorageError
from kerastrain.events import recording
from kerastrain.training.resume import CheckpointFiles
from kerastrain.training.state import Position, Snapshot


def snapshot_of(number, base=None):
    arrays = {
        "variable/0": np.full((3, 4), number, "float32"),
        "variable/1": np.array(number, "int64"),
        "callback/2/best_weights/0": np.array([np.nan, np.inf, -0.0]),
    }
    about = {"variables": ["kernel (3, 4)", "count ()"], "callbacks": [{"x": 0.1}]}
    return Snapshot(Position(number, 2), arrays, about, base)


def written(folder, numbers, **options):
    files = CheckpointFiles(folder, **options)
    for number in numbers:
        files.write(snapshot_of(number))
    files.close()
    return sorted(folder.iterdir())


def is_same(a, b):
    pairs = [(a.arrays[name], b.arrays[name]) for name in a.arrays]
    return (
        a.position == b.position
        and a.about == b.about
        and a.arrays.keys() == b.arrays.keys()
        and all(x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in pairs)
    )


def test_a_state_reads_back_bit_for_bit(tmp_path):
    files = CheckpointFiles(tmp_path)
    files.write(snapshot_of(7, base=snapshot_of(6)))
    files.close()
    found = CheckpointFiles(tmp_path).latest()
    assert is_same(found, snapshot_of(7)) and is_same(found.base, snapshot_of(6))


def test_an_empty_folder_has_none(tmp_path):
    assert CheckpointFiles(tmp_path / "nothing").latest() is None


def test_a_limited_number_is_kept_and_numbers_go_on_in_a_new_process(tmp_path):
    written(tmp_path, [1, 2, 3], keep=2)
    paths = written(tmp_path, [4], keep=2)
    assert [path.name for path in paths] == [
        "000000003.state.npz",
        "000000004.state.npz",
    ]
    assert CheckpointFiles(tmp_path).latest().position.epoch == 4


def _cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path):
    path.write_bytes(b"")


def _flip(path):
    data = bytearray(path.read_bytes())
    data[data.index(np.full((3, 4), 2, "float32").tobytes()) + 5] ^= 1
    path.write_bytes(data)


def _other(path):
    path.write_bytes(b"PK no zip at all")


@pytest.mark.parametrize("damage", [_cut, _empty, _flip, _other])
def test_a_damaged_newest_falls_back_to_the_one_before(tmp_path, damage):
    damage(written(tmp_path, [1, 2])[-1])
    with recording() as recorder:
        found = CheckpointFiles(tmp_path).latest()
    assert is_same(found, snapshot_of(1))
    (event,) = recorder.events
    assert event.code == "checkpoint_damaged" and event.severity == "warning"
    assert "000000002.state.npz is damaged" in event.message


def test_where_all_are_damaged_training_begins_anew_and_says_so(tmp_path):
    for path in written(tmp_path, [1, 2]):
        _cut(path)
    with recording() as recorder:
        assert CheckpointFiles(tmp_path).latest() is None
    assert [event.code for event in recorder.events] == ["checkpoint_damaged"] * 2


def test_a_kill_while_writing_leaves_the_one_before(tmp_path):
    written(tmp_path, [1])
    (tmp_path / ".123.part.000000002.state.npz").write_bytes(b"half of it")
    assert is_same(CheckpointFiles(tmp_path).latest(), snapshot_of(1))


def test_a_disk_that_fails_is_told_by_the_next_write(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    files = CheckpointFiles(tmp_path)
    monkeypatch.setattr(np, "savez", full)
    files.write(snapshot_of(1))
    with pytest.raises(StorageError, match="no space left on device"):
        files.write(snapshot_of(2))
    files.close()


def test_a_file_that_cannot_be_read_for_now_is_not_taken_for_damaged(
    tmp_path, monkeypatch
):
    paths = written(tmp_path, [1, 2])

    def refuse(_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(type(paths[0]), "read_bytes", refuse)
    with pytest.raises(RunError, match="000000002.state.npz: Too many open files"):
        CheckpointFiles(tmp_path).latest()
    monkeypatch.undo()
    assert is_same(CheckpointFiles(tmp_path).latest(), snapshot_of(2))


def test_a_checkpoint_of_another_version_is_refused(tmp_path, monkeypatch):
    written(tmp_path, [1])
    monkeypatch.setattr("kerastrain.training.resume.FORMAT", 2)
    with pytest.raises(RunError, match="was written by another version"):
        CheckpointFiles(tmp_path).latest()


def test_a_full_disk_does_not_hide_what_went_wrong_before(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(ZeroDivisionError), CheckpointFiles(tmp_path) as files:
        files.write(snapshot_of(1))
        raise ZeroDivisionError
