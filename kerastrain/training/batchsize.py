"""The batch size by measurement: the largest that fits, or the fastest."""

import itertools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import tensorflow as tf

from kerastrain.blocks import Blocks
from kerastrain.engine import Engine
from kerastrain.events import note
from kerastrain.training.state import unchanged

__all__ = ["OUT_OF_MEMORY", "best_batch_size", "rows_per_second"]

OUT_OF_MEMORY = (tf.errors.ResourceExhaustedError, MemoryError)
SMALLEST, LARGEST_ON_CPU = 32, 8_192
LEAST_GAIN = 1.05  # a larger batch takes fewer steps for the same rows
ROWS_PER_CALL = 16_384
REPEATS = 3


@dataclass(frozen=True)
class _Measured:
    """What a batch size did; `rows_per_s` is None where it did not fit."""

    batch_size: int
    rows_per_s: float | None


def best_batch_size(
    engine: Engine, blocks_of: Callable[[int], Blocks], *, has_gpu: bool
) -> int:
    """Rows per step, a power of two: on a GPU the most that fit, on a CPU the fastest.

    Steps are taken with real rows; afterwards the engine is what it was. Its compiled
    function is traced once, for all sizes and for `fit`. The choice and the table
    behind it are an event.

    Args:
        engine: prepared; its strategy is that of the run.
        blocks_of: batch size to the train rows in blocks.
        has_gpu: on a CPU sizes end at 8,192, and where rows per second grow by less
            than 5 %. Everywhere a batch is at most a quarter of the rows.
    """
    num_rows = len(blocks_of(SMALLEST).rows)
    largest = num_rows // 4 if has_gpu else min(num_rows // 4, LARGEST_ON_CPU)
    sizes = itertools.takewhile(
        lambda size: size <= max(largest, SMALLEST),
        (SMALLEST << doubled for doubled in itertools.count()),
    )
    table: list[_Measured] = []
    chosen = SMALLEST
    for size in sizes:
        blocks = blocks_of(size)
        if not has_gpu:  # less to wait for; memory is not what is asked
            steps = max(1, ROWS_PER_CALL // size)
            blocks = replace(blocks, steps_per_call=min(blocks.steps_per_call, steps))
        repeats = 1 if has_gpu else REPEATS
        measured = _Measured(size, rows_per_second(engine, blocks, repeats))
        table.append(measured)
        if not _is_better(table, has_gpu):
            break
        chosen = size
    _tell(chosen, table, has_gpu)
    return chosen


def _is_better(table: list[_Measured], has_gpu: bool) -> bool:
    """Whether the last size beats those before it."""
    *before, last = (measured.rows_per_s for measured in table)
    if last is None:
        return False
    return has_gpu or not before or last >= LEAST_GAIN * max(r or 0 for r in before)


def rows_per_second(engine: Engine, blocks: Blocks, repeats: int) -> float | None:
    """Of the best of some calls on one block after a first one; None if memory ends.

    Steps are taken with real rows; afterwards the engine is what it was.
    """
    num_rows = int(blocks.step_sizes[: blocks.steps_per_call].sum())
    times = []
    with unchanged(engine):
        try:
            block = _OneBlock(engine.distributed(blocks))
            train = engine.make_train_function()
            for _ in range(1 + repeats):
                start_s = time.perf_counter()
                float(train(block)["loss"])  # waits for the device
                times.append(time.perf_counter() - start_s)
        except OUT_OF_MEMORY:
            return None
    return num_rows / min(times[1:])


class _OneBlock:
    """An iterator that gives the first element of a data set for ever."""

    def __init__(self, data: Any):
        iterator = iter(data)
        self.element_spec = iterator.element_spec
        self._element = next(iterator)

    def __next__(self) -> Any:
        return self._element


def _tell(chosen: int, table: list[_Measured], has_gpu: bool) -> None:
    last = table[-1]
    reason = "the fastest that was measured"
    if has_gpu:
        reason = "the largest up to a quarter of the rows"
        if last.rows_per_s is None:
            reason = f"the largest that fits ({last.batch_size:,} do not)"
    if table[0].rows_per_s is None:
        reason = f"the smallest that is tried, and even {SMALLEST} did not fit"
    note(
        "batch_size_chosen",
        f"Batches have {chosen:,} rows: {reason}.",
        batch_size=chosen,
        measured=[asdict(measured) for measured in table],
    )
