"""The callback that takes the state of training, and that sees when it goes wrong."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras

from kerastrain.engine import Engine, Guest
from kerastrain.errors import Interrupted
from kerastrain.events import note
from kerastrain.training.interrupts import Interrupts
from kerastrain.training.resume import CheckpointFiles
from kerastrain.training.state import Position, Snapshot, capture, restore

__all__ = ["Diverged", "Keeper"]

# Steps in a row that a loss scale may skip: it begins at 2^15 and is halved each time.
MAX_SKIPPED = 64


class Diverged(Exception):
    """A step was not finite.

    Args:
        position: the block in which it was.
        step: its number in the epoch, from 0; None where it is not known.
        what: `loss`, `gradient` ...
    """

    def __init__(self, position: Position, step: int | None, what: str):
        super().__init__(what)
        self.position = position
        self.step = step
        self.what = what


class Keeper(keras.callbacks.Callback):
    """Last in the list of callbacks, so that it sees what all others have done.

    It takes the state at the end of each epoch, to go back to, and every so often,
    to resume from; the latter are written by a thread.

    Args:
        engine: what is fitted.
        blocks: its rows, as `Blocks` or the `Batches` of a guest; the callback sets
            where an epoch begins.
        watched: all other callbacks.
        others: variables beside those of the engine.
        files: where checkpoints are written; None writes none.
        every: steps, or seconds as "30s", between them; 0 never.
        interrupts: seen after each call.

    Attributes:
        mended: what was changed after divergences and lack of memory; in the state.
        start: the state that the next `fit` begins from; None for that of the engine.
    """

    remembered = ("mended", "_num_skipped")

    def __init__(
        self,
        engine: Engine | Guest,
        blocks: Any,
        watched: Sequence[keras.callbacks.Callback],
        *,
        others: Sequence[Any] = (),
        files: CheckpointFiles | None = None,
        every: int | str = 0,
        interrupts: Interrupts | None = None,
    ):
        super().__init__()
        self.engine = engine
        self.blocks = blocks
        self.watched = [*watched, self]
        self.others = others
        self.files = files
        self.interrupts = interrupts or Interrupts()
        self._every_s = float(every[:-1]) if isinstance(every, str) else math.inf
        self._every_steps = every if isinstance(every, int) and every else math.inf
        self.mended: dict[str, Any] = {}
        self.start: Snapshot | None = None
        self.base: Snapshot | None = None
        self.position = Position()
        self._num_skipped = 0

    def take(self, position: Position) -> Snapshot:
        return capture(self.engine, self.watched, position, others=self.others)

    def put_back(self, snapshot: Snapshot) -> None:
        restore(snapshot, self.engine, self.watched, others=self.others)

    # --- what fit calls ---------------------------------------------------------------

    def on_train_begin(self, logs: Any = None) -> None:
        if self.start is not None:
            self.put_back(self.start)
            self.engine.stop_training = self.start.about["stop_training"]
            self.position = self.start.position
            self.base = self.start.base or self.start
        else:
            self.position = Position()
            self.base = self.take(self.position)
        self._written_s = time.monotonic()
        self._written_steps = self._num_steps()
        self._is_first = True
        self.engine.stop_reason = ""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        block = self.position.block if self._is_first else 0
        self.position = Position(epoch, block)
        self.blocks.epoch, self.blocks.first_block = epoch, block
        self.engine.begin_epoch(epoch, self.blocks.num_blocks - block)
        if self._is_first and block and self.start is not None:
            # Keras has reset the metrics since `on_train_begin`.
            self.put_back(self.start)
        self._is_first = False

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._check_steps()
        self.position = replace(self.position, block=self.position.block + 1)
        if self.position.block < self.blocks.num_blocks:  # else `on_epoch_end` follows
            self._keep()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for name in ("loss", "val_loss"):
            if not math.isfinite((logs or {}).get(name, 0.0)):
                raise Diverged(self.position, None, name)
        if self.engine.stop_training and not self.engine.stop_reason:
            note(
                "stopped_by_callback",
                f"A callback stopped training after epoch {epoch + 1}.",
                epoch=epoch + 1,
            )
        self.position = Position(epoch + 1)
        # Not when the next epoch begins: callbacks that change something there would
        # do so twice after going back.
        self.base = self._good(self.position, Position(epoch))
        self._keep(self.base)

    # --- what it does -----------------------------------------------------------------

    def _num_steps(self) -> int:
        return int(self.engine.optimizer.iterations.numpy())

    def _check_steps(self) -> None:
        first_bad, num_bad = self.engine.first_bad, self.engine.num_bad
        if first_bad < 0:
            self._num_skipped = 0
            return
        if self.engine.is_loss_scaled:  # it has skipped them, and lowered the scale
            self._num_skipped += num_bad
            if self._num_skipped <= MAX_SKIPPED:
                return
        step = self.position.block * self.blocks.steps_per_call + first_bad
        raise Diverged(self.position, step, "gradient")

    def _keep(self, snapshot: Snapshot | None = None) -> None:
        is_asked = self.interrupts.number is not None
        is_ending = self.engine.stop_training and snapshot is None
        if self.files is not None and not is_ending and (is_asked or self._is_due()):
            snapshot = snapshot or self._good(self.position, self.position)
            has_base = self.position.block > 0 and self.base is not None
            self.files.write(replace(snapshot, base=self.base if has_base else None))
            self._written_s = time.monotonic()
            self._written_steps = self._num_steps()
        if is_asked:
            self._stop()

    def _good(self, position: Position, where: Position) -> Snapshot:
        """The state, unless the last update has spoilt it, `where` that was."""
        taken = self.take(position)
        if not taken.is_finite:
            raise Diverged(where, None, "A weight")
        return taken

    def _is_due(self) -> bool:
        is_late = time.monotonic() - self._written_s >= self._every_s
        return is_late or self._num_steps() - self._written_steps >= self._every_steps

    def _stop(self) -> None:
        where = f"epoch {self.position.epoch + 1}"
        kept = ""
        if self.files is not None:
            self.files.wait()
            kept = " Its state is written."
        raise Interrupted(
            f"Stopped by {self.interrupts.name} in {where}.{kept}",
            self.interrupts.number or 2,
        )
