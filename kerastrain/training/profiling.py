"""A look inside chosen steps, for TensorBoard."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kerastrain.errors import ConfigError
from kerastrain.events import note, warn

__all__ = ["Profile"]


class Profile(keras.callbacks.Callback):
    """Writes a TensorFlow profile of some steps to `plugins/profile` of a folder.

    Calls of several steps are profiled whole, so it may begin and end a few steps
    further out.

    Args:
        folder: that TensorBoard is shown.
        steps: the first and the last step, counted from 1 over the whole training, as
            "100:120".
        steps_per_call: steps that a call of the compiled function makes at most.

    Raises:
        ConfigError: the last step comes before the first.
    """

    remembered: tuple[str, ...] = ()  # a profile does not outlive its process

    def __init__(self, folder: Path, steps: str, steps_per_call: int):
        super().__init__()
        self.folder = folder
        self.steps_per_call = steps_per_call
        first, _, last = steps.partition(":")
        self.first, self.last = max(1, int(first)), int(last)
        if self.last < self.first:
            raise ConfigError(
                f"--profile-steps {steps} ends before it begins. Name the first and "
                "the last step, as 100:120."
            )
        self._began: int | None = None
        self._is_over = False
        self._marker: AbstractContextManager | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self._end()  # of a training that was broken off
        self._is_over = self._done() >= self.last

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        done = self._done()
        if self._is_over or done + self.steps_per_call < self.first:
            return
        if self._began is None:
            self._began = done + 1
            tf.profiler.experimental.start(str(self.folder))
        self._marker = tf.profiler.experimental.Trace("steps", step_num=done + 1, _r=1)
        self._marker.__enter__()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._close_marker()
        if self._began is not None and self._done() >= self.last:
            self._end()

    def on_train_end(self, logs: Any = None) -> None:
        self._end()
        if not self._is_over:
            warn(
                "profile_missed",
                f"There is no profile: training ended after {self._done()} steps, "
                f"before step {self.first}. Name earlier ones with --profile-steps.",
            )

    def _done(self) -> int:
        return int(self.model.optimizer.iterations.numpy())

    def _close_marker(self) -> None:
        if self._marker is not None:
            self._marker.__exit__(None, None, None)
        self._marker = None

    def _end(self) -> None:
        self._close_marker()
        if self._began is None:
            return
        tf.profiler.experimental.stop()
        note(
            "profiled",
            f"Steps {self._began} to {self._done()} are profiled in {self.folder}: "
            "tensorboard --logdir shows them, with the package xprof.",
            first=self._began,
            last=self._done(),
        )
        self._began, self._is_over = None, True
