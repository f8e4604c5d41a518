"""How fast training goes: for the live line, the history and the trackers."""

import time
from typing import Any

import keras

from kerastrain.environment import resident_bytes
from kerastrain.progress import Progress

__all__ = ["Pace", "Watch"]

# What is shown takes 1 ms to find, most of it the rate of a schedule. To read the loss
# is to wait for the step: on a CPU it is there (0.002 ms), a GPU would stand idle.
SHOWN_EVERY_S = 0.5


class Pace:
    """Time, steps and waiting for input since `start`, as `model` counts them.

    Steps that the optimiser skipped do not count.

    Args:
        model: the one that is fitted. What it waited is its `waited_s`, if it has one.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self.start()

    def start(self) -> None:
        self._start = self._now()
        self.seconds, self.steps, self.waited_s = 0.0, 0, 0.0

    def look(self) -> None:
        """Take the time; the figures are those of the last look."""
        seconds, steps, waited_s = self._now()
        self.seconds = seconds - self._start[0]
        self.steps = max(0, steps - self._start[1])
        self.waited_s = waited_s - self._start[2]

    def figures(self) -> dict[str, float]:
        """`step_ms`, and `input_wait` as a share; empty before the first step."""
        if not self.steps:
            return {}
        found = {"step_ms": 1000 * self.seconds / self.steps}
        if hasattr(self.model, "waited_s"):
            found["input_wait"] = min(1.0, max(0.0, self.waited_s / self.seconds))
        return found

    def _now(self) -> tuple[float, int, float]:
        iterations = int(self.model.optimizer.iterations.numpy())
        waited_s = getattr(self.model, "waited_s", 0.0)
        return time.perf_counter(), iterations, waited_s


class Watch(keras.callbacks.Callback):
    """Adds speed, waiting and memory to the logs, and keeps the live line up to date.

    Adds `step_ms`, `rows_per_s`, `input_wait` (share of the time) and `memory_mb`
    (resident), and stands right behind `Validate`, so that the callbacks after it see
    them. Speed is that of training alone, without validation and, in the first epoch,
    without the first call, in which the model is compiled.

    Args:
        progress: where it is shown.
        epochs: at most.
        num_rows: train rows of an epoch.
        steps_per_epoch: an epoch that begins in the middle makes fewer.
    """

    remembered: tuple[str, ...] = ()  # clocks of another process tell nothing

    def __init__(
        self, progress: Progress, epochs: int, num_rows: int, steps_per_epoch: int
    ):
        super().__init__()
        self.progress = progress
        self.epochs = epochs
        self.num_rows = num_rows
        self.steps_per_epoch = steps_per_epoch

    def on_train_begin(self, logs: Any = None) -> None:
        self._is_compiled = False
        self._step_s = self._rest_s = 0.0
        self._ended_s: float | None = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._ended_s is not None:  # with what other callbacks did
            self._rest_s = time.perf_counter() - self._ended_s
        self._epoch = epoch
        self._whole = self._warm = Pace(self.model)
        before = (
            int(self.model.optimizer.iterations.numpy()) - epoch * self.steps_per_epoch
        )
        self._before = min(max(0, before), self.steps_per_epoch)
        self._due_s = 0.0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._whole.look()
        if self._warm is not self._whole:
            self._warm.look()
        if not self._is_compiled:
            self._is_compiled, self._warm = True, Pace(self.model)
        now_s = time.perf_counter()
        self._ended_s = now_s
        if self.progress.shows_steps and now_s >= self._due_s:
            self._due_s = now_s + SHOWN_EVERY_S
            done = min(self._before + self._whole.steps, self.steps_per_epoch)
            speed = self._figures() if self._warm.steps else {}  # not of compiling
            shown = speed | self._in_progress(logs or {}, done)
            self.progress.on_step(done, self.steps_per_epoch, shown)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = {} if logs is None else logs
        logs |= self._figures()
        if self._ended_s is not None:
            self._rest_s = time.perf_counter() - self._ended_s
        shown = dict(logs)
        epoch_s = shown.pop("epoch_s", self._whole.seconds + self._rest_s)
        shown["left_s"] = (self.epochs - epoch - 1) * self._epoch_s()
        self.progress.on_epoch(epoch + 1, self.epochs, shown, epoch_s)

    def _figures(self) -> dict[str, float]:
        pace = self._warm if self._warm.steps else self._whole
        found = pace.figures()
        if found:
            self._step_s = found["step_ms"] / 1000
            share = pace.steps / self.steps_per_epoch
            found["rows_per_s"] = self.num_rows * share / pace.seconds
        return found | {"memory_mb": resident_bytes() / 1e6}

    def _in_progress(self, logs: dict[str, Any], done: int) -> dict[str, float]:
        """What the live line shows beside the figures."""
        shown: dict[str, float] = {"epoch": self._epoch + 1, "epochs": self.epochs}
        if "loss" in logs:
            shown["loss"] = float(logs["loss"])
        shown["learning_rate"] = float(
            keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        )
        if self._warm.steps:  # the time of the compiling call tells nothing
            left_s = (self.steps_per_epoch - done) * self._step_s + self._rest_s
            later = self.epochs - self._epoch - 1
            shown["left_s"] = left_s + later * self._epoch_s()
        return shown

    def _epoch_s(self) -> float:
        """Seconds of a whole epoch, by what was measured last."""
        return self.steps_per_epoch * self._step_s + self._rest_s
