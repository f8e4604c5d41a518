"""Batches of a user's own data, by epoch, and how they come back after a crash."""

import itertools
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf

from kerastrain.blocks import Blocks
from kerastrain.errors import ConfigError, DataError
from kerastrain.pipeline import Rows
from kerastrain.tensors import untuned

__all__ = ["Batches", "epochs_of"]

# Gives the data set of an epoch without its first so many batches.
Epochs = Callable[[int, int], tf.data.Dataset]


class Batches:
    """The batches of each epoch, one at a time: what `Blocks` is to `Engine`.

    A data set of `tf.data` that shuffles with a seed gives another order each time it
    is gone through, which depends on how often that was before. So iterators are
    counted, and after a crash as many are opened as there were. Of the first and the
    last batch that were read a checksum is kept: the order of an unseeded shuffle, or
    of a generator, does not come back, and this shows it.

    Args:
        epochs: gives the data.
        is_drawn: the order depends on the iterators that were opened before.
        strategy: of the model.

    Attributes:
        current: the batch that was read last.
        num_blocks: batches of the epoch; without a known number that of all integers
            until the last one has been read.
        element_spec: what a batch is made of, as the strategy takes it.
        waited_s: seconds that reading took.
        read: what is part of the state of training; see `comes_back`.
    """

    steps_per_call = 1

    def __init__(
        self,
        epochs: Epochs,
        strategy: tf.distribute.Strategy,
        *,
        is_drawn: bool,
    ):
        self.epochs = epochs
        self.is_drawn = is_drawn
        self.strategy = strategy
        self.epoch = self.first_block = 0
        self.num_blocks = self.num_steps = sys.maxsize
        self.waited_s = 0.0
        self.current: Any = None
        self.element_spec: Any = None
        self._ahead: Any = None
        self._iterator: Iterator[Any] = iter(())
        self._ready: tuple[int, int] | None = None
        self._opened = self._draw = self._num_read = 0
        self._first_crc: int | None = None

    # --- reading --------------------------------------------------------------------

    def begin(self) -> None:
        """Open `epoch` at `first_block`.

        Raises:
            DataError: it has no batch, or no end.
        """
        if self._ready != (self.epoch, self.first_block):
            self._open(self.epoch, self.first_block)
            self._ahead = next(self._iterator, None)
        self._ready = None
        self._num_read = self.first_block
        if self._ahead is None and not self.first_block:
            raise DataError("The data set gives no batch in an epoch.")
        if not self.first_block:
            self._first_crc = _checksum(self._ahead)
        self._settle()

    def next(self) -> Any:
        """The next batch of the epoch; there is one as long as `has_next`."""
        start_s = time.perf_counter()
        self.current = self._ahead
        self._ahead = next(self._iterator, None)
        self.waited_s += time.perf_counter() - start_s
        self._num_read += 1
        self._settle()
        return self.current

    @property
    def has_next(self) -> bool:
        return self._ahead is not None

    @property
    def batch_size(self) -> int:
        """Rows of the batch that was read last, or is read next."""
        return sum(
            _rows_by_replica(
                self._ahead if self.current is None else self.current, self.strategy
            )
        )

    @property
    def least_rows(self) -> int:
        """Rows of that batch on the device that has the fewest."""
        return min(_rows_by_replica(self.current, self.strategy))

    def arrays(self) -> dict[str, np.ndarray]:
        """Those of the batch that was read last, by their paths, such as `"0/age"`."""
        named: dict[str, np.ndarray] = {}
        local = self.strategy.experimental_local_results
        for path, tensor in keras.tree.flatten_with_path(self.current):
            parts = [_dense(part) for part in local(tensor)]
            named["/".join(map(str, path)) or "x"] = np.concatenate(parts)
        return named

    def inputs(self, count: int) -> Iterator[Any]:
        """Inputs of so many batches at most, beside the training."""
        self._opened += 1
        data = self._distributed(self.epochs(self.epoch, 0))
        for batch in itertools.islice(data, count):
            yield keras.utils.unpack_x_y_sample_weight(batch)[0]

    def _settle(self) -> None:
        """Count the batches, now that the last one is known."""
        if self._ahead is None:
            self.num_blocks = self.num_steps = self._num_read

    def _open(self, epoch: int, first: int) -> None:
        data = self.epochs(epoch, first)
        known = int(data.cardinality())
        if known == tf.data.INFINITE_CARDINALITY:
            raise DataError(
                "The data set never ends: leave .repeat() out, or cut an epoch from it "
                "with .take(number of batches)."
            )
        is_known = known != tf.data.UNKNOWN_CARDINALITY
        self.num_blocks = self.num_steps = first + known if is_known else sys.maxsize
        self._draw, self._opened = self._opened, self._opened + 1
        distributed = self._distributed(data)
        self.element_spec = distributed.element_spec
        self._iterator = iter(distributed)
        self.current = None

    def _distributed(self, data: tf.data.Dataset) -> Any:
        if self.strategy.num_replicas_in_sync == 1:
            return data
        return self.strategy.experimental_distribute_dataset(data)

    # --- coming back ------------------------------------------------------------------

    @property
    def read(self) -> dict[str, Any]:
        return {
            "opened": self._opened,
            "draw": self._draw,
            "epoch": self.epoch,
            "first": self._first_crc,
            "last": None if self.current is None else _checksum(self.current),
        }

    @read.setter
    def read(self, value: dict[str, Any]) -> None:
        """Nothing: what was read, and is to come, is a fact of this process."""

    def comes_back(self, read: dict[str, Any], epoch: int, block: int) -> bool:
        """Go to where a crashed process was; whether the data are what they were.

        Args:
            read: what it had read.
            block: batches of `epoch` that were done; 0 after the one before.
        """
        while self.is_drawn and self._opened < read["draw"]:
            self._opened += 1
            iter(self._distributed(self.epochs(0, 0)))
        self._open(epoch if block else read["epoch"], max(0, block - 1))
        self._ahead = next(self._iterator, None)
        expected = read["last" if block else "first"]
        is_same = self._ahead is not None and _checksum(self._ahead) == expected
        if is_same and block:
            self.current, self._ahead = self._ahead, next(self._iterator, None)
            self._ready, self._first_crc = (epoch, block), read["first"]
        while self.is_drawn and self._opened < read["opened"]:
            self._opened += 1
            iter(self._distributed(self.epochs(0, 0)))
        return is_same


def epochs_of(data: Any, batch_size: int, seed: int) -> tuple[Epochs, bool]:
    """The data of each epoch, and whether they depend on iterators opened before.

    Args:
        data: a data set of batches; a function of the epoch, from 0, that gives one; or
            arrays `(inputs, targets)` or `(inputs, targets, weights)`.
        batch_size: of arrays.
        seed: of the order of arrays.

    Raises:
        ConfigError: it is none of these.
        DataError: arrays have no rows, or not the same number.
    """
    if isinstance(data, tf.data.Dataset):
        return lambda _, first: data.skip(first) if first else data, True
    if callable(data):
        return lambda epoch, first: data(epoch).skip(first), False
    if isinstance(data, tuple) and len(data) in (2, 3):
        return _Shuffled(_ArrayRows(data), batch_size, seed), False
    raise ConfigError(
        "data: expected a tf.data.Dataset of batches, a function of the epoch that "
        "gives one, or arrays (inputs, targets) or (inputs, targets, weights); got "
        f"{type(data).__name__}."
    )


class _ArrayRows:
    """Arrays in any structure as rows that can be taken by position."""

    def __init__(self, arrays: Sequence[Any]):
        self.arrays = tf.nest.map_structure(np.asarray, tuple(arrays))
        flat = tf.nest.flatten(self.arrays)
        lengths = sorted({len(array) for array in flat})
        if len(lengths) != 1 or not lengths[0]:
            raise DataError(
                "data: arrays must have rows, all the same number of them; these have "
                f"{' and '.join(map(str, lengths))}."
            )
        self._num_rows = lengths[0]
        self.row_bytes = sum(array.nbytes // lengths[0] for array in flat)

    def __len__(self) -> int:
        return self._num_rows

    def take(self, positions: np.ndarray) -> Any:
        return tf.nest.map_structure(lambda array: array[positions], self.arrays)


@dataclass(frozen=True)
class _Shuffled:
    """Rows in an order of `(seed, epoch)`, in batches that differ by a row at most."""

    rows: _ArrayRows
    batch_size: int
    seed: int

    def __call__(self, epoch: int, first: int) -> tf.data.Dataset:
        blocks = Blocks(cast(Rows, self.rows), self.batch_size, 1, self.seed)
        steps = blocks.steps(epoch)[first:]
        spec = tf.nest.map_structure(
            lambda a: tf.TensorSpec((None, *a.shape[1:]), a.dtype), self.rows.arrays
        )
        data = tf.data.Dataset.from_generator(
            lambda: (self.rows.take(step) for step in steps), output_signature=spec
        )
        counted = data.apply(tf.data.experimental.assert_cardinality(len(steps)))
        return untuned(counted.prefetch(2))


def _rows_by_replica(batch: Any, strategy: tf.distribute.Strategy) -> list[int]:
    first = keras.tree.flatten(keras.utils.unpack_x_y_sample_weight(batch)[0])[0]
    return [int(tf.shape(a)[0]) for a in strategy.experimental_local_results(first)]


def _dense(tensor: Any) -> np.ndarray:
    """Texts as fixed-width bytes, which files take without pickle."""
    tensor = tensor.to_tensor() if hasattr(tensor, "to_tensor") else tensor
    array = tensor.numpy()
    return array.astype("S") if array.dtype == object else array


def _checksum(batch: Any) -> int:
    """Of all its bytes."""
    total = 0
    for tensor in tf.nest.flatten(batch, expand_composites=True):
        array = tensor.numpy()
        is_text = array.dtype == object
        data = b"\0".join(array.ravel()) if is_text else array.tobytes()
        total = zlib.crc32(data, total)
    return total
