"""The memory that a run may take: what it is divided into, and when it is too little.

The budget is of the whole process. What Python, TensorFlow and the libraries take
before the first row is measured; of the rest DuckDB gets a part, arrays another, and
what is left is for batches, the network and copies.
"""

import contextlib
import contextvars
import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from kerastrain.errors import DataError

__all__ = ["Budget", "connect", "give_back", "limited", "size_text"]

# Of what is left beside the libraries.
_DUCKDB_SHARE = 0.4
_ARRAYS_SHARE = 0.15
# Below it DuckDB (2.0) cannot read a wide CSV with two threads; the network, a block
# of steps and a chunk of rows take about as much again.
_LEAST_DUCKDB = 150 << 20
# Each thread that reads a CSV holds buffers of 32 MB.
_FOR_TWO_THREADS = 250 << 20
# While a whole table is profiled there are neither arrays nor a network. With 284 MB
# the profile of 30 million rows (6 GB) ended in "could not allocate block": with two
# threads as it was read, with one where equal rows are counted.
_PROFILE_SHARE = 0.65
_FOR_TWO_THREADS_IN_PROFILE = 1 << 30
_LEAST_WORK = 400 << 20


@dataclass(frozen=True)
class Budget:
    """Bytes for a run.

    Args:
        total: of the whole process.
        base: taken before the first row is read.
        folder: where what does not fit is put.
    """

    total: int
    base: int
    folder: Path | None = None

    @property
    def free(self) -> int:
        return max(0, self.total - self.base)

    @property
    def duckdb(self) -> int:
        return max(_LEAST_DUCKDB, int(self.free * _DUCKDB_SHARE))

    @property
    def profile(self) -> int:
        """Of DuckDB while it holds a whole table."""
        return max(_LEAST_DUCKDB, int(self.free * _PROFILE_SHARE))

    @property
    def arrays(self) -> int:
        return int(self.free * _ARRAYS_SHARE)

    def check(self, needed: int = 0, what: str = "") -> None:
        """DataError when the run cannot keep to the budget.

        Args:
            needed: bytes that cannot be put on disk.
            what: what needs them, and what to do about it.
        """
        least = self.base + _LEAST_WORK + needed
        if self.total >= least:
            return
        reason = f" {what}" if what else ""
        raise DataError(
            f"--memory {size_text(self.total)} is too little: this run needs about "
            f"{size_text(least)}, of which the libraries take {size_text(self.base)}."
            f"{reason} Allow more, or leave --memory out."
        )


_budget: contextvars.ContextVar[Budget | None] = contextvars.ContextVar(
    "budget", default=None
)


@contextlib.contextmanager
def limited(budget: Budget) -> Iterator[Budget]:
    """Connections that are made inside the block keep to `budget`."""
    token = _budget.set(budget)
    try:
        yield budget
    finally:
        _budget.reset(token)


def connect(
    path: str = ":memory:", *, for_table: bool = False, **settings: Any
) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection within the budget of the run, if there is one.

    Args:
        for_table: it is to hold a whole table while there is little else.
    """
    budget = _budget.get()
    if budget is not None:
        # DuckDB counts what it holds itself, without what its allocator keeps.
        limit, enough = budget.duckdb, _FOR_TWO_THREADS
        if for_table:
            limit, enough = budget.profile, _FOR_TWO_THREADS_IN_PROFILE
        settings.setdefault("memory_limit", f"{limit}B")
        if limit < enough:
            settings.setdefault("threads", 1)
        if budget.folder is not None:
            settings.setdefault("temp_directory", str(budget.folder / "spill"))
    return duckdb.connect(path, config=settings)


def give_back() -> None:
    """Return freed memory to the system: allocators keep it for the next of its kind,
    and each library of ours has one of its own."""
    pa.default_memory_pool().release_unused()
    with contextlib.suppress(OSError, AttributeError):  # glibc has it, others need not
        ctypes.CDLL(None).malloc_trim(0)


def size_text(num_bytes: float) -> str:
    """`"1.5 GB"`, with two digits.

    >>> size_text(1_500_000_000), size_text(350_000_000)
    ('1.5 GB', '350 MB')
    """
    if num_bytes >= 1e9:
        return (
            f"{num_bytes / 1e9:.2g} GB"
            if num_bytes < 1e10
            else f"{num_bytes / 1e9:.0f} GB"
        )
    return f"{num_bytes / 1e6:.0f} MB"
