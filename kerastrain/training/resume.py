"""Checkpoints of the whole state of a fit: on disk, whole or not at all."""

import contextlib
import io
import json
import os
import zipfile
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from kerastrain.errors import RunError
from kerastrain.events import warn
from kerastrain.store import atomic
from kerastrain.training.state import Position, Snapshot

__all__ = ["CheckpointFiles"]

_DAMAGED = (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
FORMAT = 1  # of what a checkpoint holds
_SUFFIX = ".state.npz"


class CheckpointFiles:
    """The checkpoints of one fit in a folder, newest last.

    A checkpoint is an uncompressed `.npz` whose members carry a checksum. It is
    written by a thread beside the training, under another name first, flushed to the
    disk, then renamed: a kill or a power cut leaves the one before.

    Args:
        folder: where they lie.
        keep: how many are kept.
    """

    def __init__(self, folder: Path, *, keep: int = 2):
        self.folder = folder
        self.keep = keep
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._number = max([_number(path) for path in self._paths()], default=0)

    @classmethod
    def of(cls, folder: Path, every: int | str, keep: int) -> "CheckpointFiles | None":
        """None where no checkpoints are asked for."""
        return None if every in (0, "0s") else cls(folder, keep=keep)

    def write(self, snapshot: Snapshot) -> None:
        """Begin to write; waits for the one before, and raises what went wrong."""
        self.wait()
        self._number += 1
        path = self.folder / f"{self._number:09d}{_SUFFIX}"
        self._pending = self._pool.submit(self._write, path, snapshot)

    def wait(self) -> None:
        """Until all is on disk.

        Raises:
            StorageError: it cannot be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """What cannot be written is not to hide what went wrong before."""
        try:
            with contextlib.suppress(Exception) if kind else contextlib.nullcontext():
                self.wait()
        finally:
            self._pool.shutdown()

    def close(self) -> None:
        self.__exit__(None)

    def latest(self) -> Snapshot | None:
        """The newest that can be read; None where there is none.

        A damaged one is told and set aside, and the one before it taken.

        Raises:
            RunError: one cannot be read, or is of another version.
        """
        paths = self._paths()
        while paths:
            path = paths.pop()
            try:
                return _read(path)
            except RunError:
                raise
            except _DAMAGED as error:
                what = "from the one before" if paths else "from the beginning"
                warn(
                    "checkpoint_damaged",
                    f"The checkpoint {path.name} is damaged "
                    f"({str(error) or type(error).__name__}); training goes on {what}.",
                    path=str(path),
                )
                path.rename(path.with_name(f"{path.name}.damaged"))
            except OSError as error:
                raise RunError(f"Cannot read {path}: {error.strerror}.") from error
        return None

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob(f"[0-9]*{_SUFFIX}"))

    def _write(self, path: Path, snapshot: Snapshot) -> None:
        with atomic(path) as temporary:
            _write(temporary, snapshot)
        _flush_folder(path.parent)
        for old in self._paths()[: -self.keep]:
            old.unlink(missing_ok=True)


def _number(path: Path) -> int:
    return int(path.name.removesuffix(_SUFFIX))


def _write(path: Path, snapshot: Snapshot) -> None:
    about = [_about(snapshot)]
    arrays = {f"0/{name}": array for name, array in snapshot.arrays.items()}
    if snapshot.base is not None:
        about.append(_about(snapshot.base))
        arrays |= {f"1/{name}": array for name, array in snapshot.base.arrays.items()}
    text = np.frombuffer(
        json.dumps({"format": FORMAT, "states": about}).encode(), "uint8"
    )
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, about=text, **arrays)
        file.flush()
        os.fsync(file.fileno())


def _about(snapshot: Snapshot) -> dict[str, Any]:
    return {"position": asdict(snapshot.position), "about": snapshot.about}


def _flush_folder(folder: Path) -> None:
    """So that the new name outlives a power cut."""
    with contextlib.suppress(OSError):  # not every system opens folders
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _read(path: Path) -> Snapshot:
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}  # checks the sums
    about = json.loads(arrays.pop("about").tobytes())
    if about["format"] != FORMAT:
        raise RunError(
            f"{path} was written by another version of kerastrain. Train again with "
            "this one, or go on with that one."
        )
    snapshots: list[Snapshot] = []
    for number, known in enumerate(about["states"]):
        own = {
            name.partition("/")[2]: array
            for name, array in arrays.items()
            if name.startswith(f"{number}/")
        }
        snapshots.append(Snapshot(Position(**known["position"]), own, known["about"]))
    return replace(snapshots[0], base=snapshots[1] if snapshots[1:] else None)
