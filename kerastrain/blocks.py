"""Shuffled rows in blocks of many steps: the batches that training reads."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from kerastrain.pipeline import Arrays, Rows
from kerastrain.tensors import untuned

__all__ = ["Blocks"]

# Rows of a window are copied into memory together, in the order of the file.
WINDOW_BYTES = 32 << 20
RUN_ROWS = 1_024

Taken = tuple[Arrays, np.ndarray, np.ndarray]
Block = tuple[Arrays, np.ndarray, np.ndarray, np.ndarray]


@dataclass
class Blocks:
    """Shuffled rows in blocks of many steps, as a `tf.data` data set.

    An element is `(inputs, target, weight, bounds)`: the rows of up to
    `steps_per_call` steps, and int32 `(steps + 1,)` that parts them into steps; the
    engine takes it apart inside one call of its compiled function. The order of rows
    depends on `(seed, epoch)` and the shape of the rows alone, not on where they lie;
    set `epoch` before each iteration, and `first_block` to begin in the middle.

    Rows of more than `WINDOW_BYTES` are shuffled in two levels: runs of 1,024 rows in
    random order, then the rows of as many runs as fill the window. Reads from disk stay
    local, and no list of all rows is needed (240 MB for 30 million).

    The steps of an epoch differ in size by one row at most. A short last batch would
    weigh its rows more than others and give batch normalisation next to nothing to
    average over.

    With several replicas, consecutive elements are the shards of one block: element
    `k` goes to replica `k % num_replicas`, and step `s` of all shards together is step
    `s` as one device would see it.

    Args:
        rows: what is read.
        batch_size: most rows per step over all replicas.
        steps_per_call: steps in a block.
        seed: of the order.
        num_replicas: devices that share a batch.
    """

    rows: Rows
    batch_size: int
    steps_per_call: int
    seed: int
    num_replicas: int = 1
    epoch: int = 0
    first_block: int = 0

    @property
    def num_steps(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    @property
    def num_blocks(self) -> int:
        return -(-self.num_steps // self.steps_per_call)

    @property
    def window(self) -> int:
        """Rows that are shuffled among each other."""
        return max(RUN_ROWS, WINDOW_BYTES // max(1, self.rows.row_bytes))

    def order(self, epoch: int) -> Iterator[np.ndarray]:
        """Positions of the rows in the order of an epoch, int64, in pieces."""
        generator = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        num_rows = len(self.rows)
        if num_rows <= self.window:
            yield generator.permutation(num_rows)
            return
        # Runs begin elsewhere in each epoch, so that their ends move.
        first = int(generator.integers(RUN_ROWS))
        starts = generator.permutation(np.arange(first - RUN_ROWS, num_rows, RUN_ROWS))
        num_runs = self.window // RUN_ROWS
        for at in range(0, len(starts), num_runs):
            rows = starts[at : at + num_runs, None] + np.arange(RUN_ROWS)
            yield generator.permutation(rows[(rows >= 0) & (rows < num_rows)])

    @property
    def step_sizes(self) -> np.ndarray:
        """Rows of each step, int64 `(num_steps,)`."""
        least, num_larger = divmod(len(self.rows), self.num_steps)
        return least + (np.arange(self.num_steps) < num_larger)

    def steps(self, epoch: int) -> list[np.ndarray]:
        """Positions of the rows of each step of an epoch."""
        order = np.concatenate([*self.order(epoch)])
        return np.split(order, np.cumsum(self.step_sizes)[:-1])

    def rows_of(self, epoch: int, step: int) -> np.ndarray:
        """Positions of the rows of one step, without those of all."""
        first = int(self.step_sizes[:step].sum())
        end = first + int(self.step_sizes[step])
        found, seen = [], 0
        for piece in self.order(epoch):
            found.append(piece[max(0, first - seen) : max(0, end - seen)])
            seen += len(piece)
            if seen >= end:
                break
        return np.concatenate(found)

    def __iter__(self) -> Iterator[Block]:
        first = self.first_block * self.steps_per_call
        pool = _Pool(self.rows, self.order(self.epoch))
        pool.skip(int(self.step_sizes[:first].sum()))
        for start in range(first, self.num_steps, self.steps_per_call):
            sizes = self.step_sizes[start : start + self.steps_per_call]
            ends = np.cumsum([0, *sizes])
            arrays = pool.take(int(ends[-1]))
            for replica in range(self.num_replicas):
                yield self._shard(arrays, ends, replica)

    def _shard(self, arrays: Taken, ends: np.ndarray, replica: int) -> Block:
        """What a replica gets of the steps that end there in `arrays`."""
        inputs, target, weight = arrays
        if self.num_replicas == 1:
            return inputs, target, weight, ends.astype("int32")
        steps = [np.arange(*pair) for pair in itertools.pairwise(ends)]
        parts = [np.array_split(step, self.num_replicas)[replica] for step in steps]
        is_empty = np.array([not len(part) for part in parts])
        # A step of fewer rows than replicas: a row that counts as none stands in.
        parts = [part if len(part) else steps[0][:1] for part in parts]
        bounds = np.cumsum([0, *map(len, parts)]).astype("int32")
        rows = np.concatenate(parts)
        inputs = {name: array[rows] for name, array in inputs.items()}
        weight = weight[rows]
        weight[bounds[:-1][is_empty]] = 0
        return inputs, target[rows], weight, bounds

    def dataset(self) -> tf.data.Dataset:
        """The elements; two blocks are kept ready."""
        example = (*self.rows.take(np.zeros(0, "int64")), np.zeros(0, "int32"))
        spec = tf.nest.map_structure(
            lambda a: tf.TensorSpec((None, *a.shape[1:]), a.dtype), example
        )
        data = tf.data.Dataset.from_generator(lambda: iter(self), output_signature=spec)
        return untuned(data.prefetch(2 * self.num_replicas))


class _Pool:
    """Rows in the order of an epoch, a window of them in memory at a time."""

    def __init__(self, rows: Rows, order: Iterator[np.ndarray]):
        self._rows = rows
        self._order = order
        self._held: Taken = rows.take(np.zeros(0, "int64"))

    def skip(self, num_rows: int) -> None:
        """Pass over rows without reading them."""
        while num_rows:
            piece = next(self._order)
            if len(piece) > num_rows:
                self._held = self._rows.take(piece[num_rows:])
            num_rows -= min(num_rows, len(piece))

    def take(self, num_rows: int) -> Taken:
        """The next rows; there are always so many."""
        while len(self._held[1]) < num_rows:
            more = self._rows.take(next(self._order))
            self._held = _each(lambda a, b: np.concatenate([a, b]), self._held, more)
        taken = _each(lambda array: array[:num_rows], self._held)
        self._held = _each(lambda array: array[num_rows:], self._held)
        return taken


def _each(function: Callable[..., np.ndarray], *many: Taken) -> Taken:
    """`function` of the arrays that stand in the same place."""
    inputs, targets, weights = zip(*many, strict=True)
    by_name = {name: function(*(one[name] for one in inputs)) for name in inputs[0]}
    return by_name, function(*targets), function(*weights)
