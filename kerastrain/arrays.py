"""Arrays in memory up to a budget, then over files that take no memory to speak of."""

import contextlib
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerastrain.errors import DataError

__all__ = [
    "ArrayStore",
    "Chosen",
    "DiskArray",
    "chunk_rows",
    "class_counts",
    "mean_and_std",
    "pieces",
]

# Rows are worked on in chunks of this size: large enough to make a call of a model
# free, small enough that a few of them at once stay far below any budget.
CHUNK_BYTES = 16 << 20
MAX_CHUNK_ROWS = 65_536
# Linux maps up to 2 MB around each row that is touched: one gather of 200,000 rows all
# over a file of 1 GB would have all of it in memory.
_STRETCH_BYTES = 32 << 20
_STRETCH_ROWS = 16


def chunk_rows(row_bytes: int) -> int:
    """Rows of a chunk: 65,536, fewer where a row is wide.

    >>> chunk_rows(100), chunk_rows(8_000)
    (65536, 2097)
    """
    return int(np.clip(CHUNK_BYTES // max(1, row_bytes), 256, MAX_CHUNK_ROWS))


def pieces(num_rows: int, size: int = MAX_CHUNK_ROWS) -> Iterator[slice]:
    """Slices that cover `num_rows` rows in order.

    >>> list(pieces(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    for start in range(0, num_rows, size):
        yield slice(start, min(start + size, num_rows))


@dataclass(frozen=True, eq=False)
class Chosen:
    """Rows of an array, copied piece by piece as they are iterated over."""

    array: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[np.ndarray]:
        for piece in pieces(len(self.rows), 1 << 20):
            yield self.array[self.rows[piece]]


def class_counts(classes: "np.ndarray | Chosen", num_classes: int) -> np.ndarray:
    """Rows of each class, int64 `(num_classes,)`."""
    counts = np.zeros(num_classes, "int64")
    for piece in _in_pieces(classes):
        counts += np.bincount(piece, minlength=num_classes)
    return counts


def mean_and_std(values: "np.ndarray | Chosen") -> tuple[float, float]:
    """Mean and population standard deviation in two passes, as NumPy's."""
    mean = sum(piece.sum() for piece in _in_pieces(values)) / len(values)
    squares = sum(((piece - mean) ** 2).sum() for piece in _in_pieces(values))
    return float(mean), float(np.sqrt(squares / len(values)))


def _in_pieces(values: "np.ndarray | Chosen") -> Iterator[np.ndarray]:
    return iter(values) if isinstance(values, Chosen) else iter([values])


def _is_unordered(rows: np.ndarray) -> bool:
    return bool((rows[1:] < rows[:-1]).any())


class DiskArray(np.memmap):
    """An array over a file; what is read is a copy, and its pages are let go at once.

    Pages of a mapped file count as memory of the process for as long as they are
    mapped, and Linux takes them back only when the whole machine is short of memory:
    one pass over 10 GB would show as 10 GB. They stay in the page cache, so that the
    next access costs a fault and no read, while the machine has room.
    """

    def __getitem__(self, key: Any) -> Any:
        rows, *columns = key if isinstance(key, tuple) else (key,)
        if isinstance(rows, np.ndarray) and rows.dtype.kind in "iu" and rows.ndim == 1:
            if any(isinstance(column, np.ndarray) for column in columns):
                raise TypeError("rows and columns by position at once are not read")
            return self._gathered(rows)[(slice(None), *columns)]
        found = self.view(np.ndarray)[key]
        if isinstance(found, np.ndarray):
            found = found.copy() if found.base is not None else found
            self.let_go()
        return found

    def _gathered(self, rows: np.ndarray) -> np.ndarray:
        """Rows by position, read in the order of the file, a stretch at a time."""
        plain = self.view(np.ndarray)
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        order = np.argsort(rows, kind="stable") if _is_unordered(rows) else None
        rows = rows if order is None else rows[order]
        row_bytes = self.itemsize * int(np.prod(self.shape[1:]))
        stretch, start = max(1, _STRETCH_BYTES // max(1, row_bytes)), 0
        while start < len(rows):
            end = int(np.searchsorted(rows, rows[start] + stretch))
            piece = slice(start, max(end, start + _STRETCH_ROWS))
            found[piece if order is None else order[piece]] = plain[rows[piece]]
            self.let_go()
            start = piece.stop
        return found

    def __setitem__(self, key: Any, value: Any) -> None:
        # Of a subclass NumPy would write into what __getitem__ gives: into the copy.
        self.view(np.ndarray)[key] = value
        self.let_go()

    def let_go(self) -> None:
        """Unmap the pages that were touched; the file keeps what was written."""
        mapped = getattr(self, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


class ArrayStore:
    """Gives out arrays: in memory up to a budget, then as `DiskArray`.

    Args:
        folder: where the files lie; made when the first is needed.
        budget_bytes: of all arrays given out; None for no limit.
    """

    def __init__(self, folder: Path | None = None, budget_bytes: int | None = None):
        self.folder = folder
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self.num_files = 0
        self._given: list[np.ndarray] = []

    def empty(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """An array to be filled; C order."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        fits = self.budget_bytes is None or self.used_bytes + size <= self.budget_bytes
        if fits or self.folder is None or not size:
            self.used_bytes += size
            array = np.empty(shape, dtype)
        else:
            array = self._on_disk(self.folder, shape, dtype, size)
        self._given.append(array)
        return array

    def stored(self, array: np.ndarray) -> np.ndarray:
        """A copy of `array` that counts."""
        copy = self.empty(array.shape, array.dtype.str)
        for piece in pieces(len(array), 1 << 20):
            copy[piece] = array[piece]
        return copy

    @contextlib.contextmanager
    def section(self) -> Iterator["ArrayStore"]:
        """What is given out inside the block is taken back at its end."""
        before = len(self._given)
        try:
            yield self
        finally:
            self.take_back(*self._given[before:])

    def take_back(self, *arrays: np.ndarray) -> None:
        """Room for others: files of these arrays go, and memory counts as free."""
        for array in arrays:
            place = next((i for i, a in enumerate(self._given) if a is array), None)
            if place is None:
                continue
            del self._given[place]
            if isinstance(array, DiskArray):
                self._unlink(Path(str(array.filename)))
            else:
                self.used_bytes -= array.nbytes

    def remove_files(self) -> None:
        """Delete the files. Arrays over them stay readable while they are held."""
        if self.folder is None or not self.folder.is_dir():
            return
        for path in self.folder.glob("*.npy"):
            self._unlink(path)
        with contextlib.suppress(OSError):  # somebody else's files are in it
            self.folder.rmdir()

    def _on_disk(
        self, folder: Path, shape: tuple[int, ...], dtype: str, size: int
    ) -> DiskArray:
        folder.mkdir(parents=True, exist_ok=True)
        self.num_files += 1
        path = folder / f"{self.num_files:04d}.npy"
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        _reserve(path, size)
        return array.view(DiskArray)

    @staticmethod
    def _unlink(path: Path) -> None:
        with contextlib.suppress(PermissionError, FileNotFoundError):
            path.unlink()  # Windows: an array is held


def _reserve(path: Path, size: int) -> None:
    """Take the disk space now: a full disk would kill the process (SIGBUS) later."""
    if not hasattr(os, "posix_fallocate"):  # macOS, Windows
        return
    with path.open("rb+") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            raise DataError(
                f"No room for {size / 1e9:.2g} GB of encoded rows in {path.parent}: "
                f"{error.strerror}. Free some space, name another --out, or allow more "
                "memory (--memory 8GB)."
            ) from None
