"""TensorBoard."""

import math
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import yaml

from kerastrain.environment import resident_bytes
from kerastrain.training.watch import Pace

__all__ = ["TensorBoard"]

POINT_EVERY_S = 1.0  # a point of ten curves takes 2 ms


class TensorBoard(keras.callbacks.Callback):
    """Losses, metrics, rate, speed, memory, configuration, hyper-parameters.

    There are two runs to see: in `folder` a point per epoch, in its folder `steps` a
    point per second over the steps. Where a run goes on after a crash, or goes back
    after a NaN, the points that it makes anew replace the old ones.

    With `watch.norms` in `config` also the norms of the gradient and of the weights,
    of all and of each layer; those of the gradient where the model has
    `gradient_norms`.

    Args:
        folder: of the event files.
        config: the resolved configuration of the run.
        steps_per_epoch: to turn the time of an epoch into that of a step, where
            nobody measured that.
        histograms: also write the distribution of each weight after every epoch.
    """

    remembered: tuple[str, ...] = ()  # its files tell where it was

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any],
        steps_per_epoch: int,
        *,
        histograms: bool = False,
    ):
        super().__init__()
        self.folder = folder
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self.histograms = histograms
        self.norms = bool((config.get("watch") or {}).get("norms"))
        self._axes: list[_Axis] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self._close()  # a training that was broken off
        self._epochs = _Axis(self.folder)
        self._steps = _Axis(self.folder / "steps")
        self._axes = [self._epochs, self._steps]
        if self._epochs.is_new:
            self.log_config(self.config)
        self._pace: Pace | None = None
        self._due_s = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._pace is not None:
            self._pace.start()  # what lies between epochs is no step

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if time.perf_counter() < self._due_s:
            return
        if self._pace is None:  # the first call compiles; it has no speed
            self._pace = Pace(self.model)
        self._pace.look()
        optimizer = self.model.optimizer
        shown = {f"steps/{name}": value for name, value in (logs or {}).items()}
        shown["steps/learning_rate"] = optimizer.learning_rate
        shown |= {f"steps/{n}": value for n, value in self._pace.figures().items()}
        shown["steps/memory_mb"] = resident_bytes() / 1e6
        self._steps.write(int(optimizer.iterations.numpy()), shown | self._norms())
        self._pace.start()
        self._due_s = time.perf_counter() + POINT_EVERY_S

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        shown = {_tag(name): value for name, value in (logs or {}).items()}
        if logs and "epoch_s" in logs:
            step_ms = 1000 * logs["epoch_s"] / self.steps_per_epoch
            shown.setdefault("time/step_ms", step_ms)
        self._epochs.write(epoch + 1, shown | self._norms())
        if self.histograms:
            with self._epochs.writer.as_default(step=epoch + 1):
                for weight in self.model.trainable_weights:
                    tf.summary.histogram(weight.path, weight.value)
        for axis in self._axes:
            axis.writer.flush()

    def on_train_end(self, logs: Any = None) -> None:
        self._close()

    def _close(self) -> None:
        for axis in self._axes:
            axis.writer.close()
        self._axes = []

    def log_config(self, config: dict[str, Any]) -> None:
        """The configuration as text, and its plain values as hyper-parameters."""
        # Imported here: it is 0.3 s that a listing of trackers need not pay.
        from tensorboard.plugins.hparams import api as hparams

        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        with self._epochs.writer.as_default(step=0):
            tf.summary.text("config", "\n".join(f"    {x}" for x in text.splitlines()))
            hparams.hparams(_plain_values(config))

    def log_artifact(self, name: str, text: str) -> None:
        """A text beside the curves."""
        with self._epochs.writer.as_default(step=0):
            tf.summary.text(name, text)

    def _norms(self) -> dict[str, float]:
        if not self.norms:
            return {}
        weights = {
            weight.path: float(np.linalg.norm(keras.ops.convert_to_numpy(weight)))
            for weight in self.model.trainable_weights
        }
        found = _by_layer("weight_norm", weights)
        if hasattr(self.model, "gradient_norms"):
            found |= _by_layer("gradient_norm", self.model.gradient_norms())
        return found


class _Axis:
    """Event files in a folder whose points come in the order of their steps.

    Before a point that is not behind all others, TensorBoard is told to forget those
    that are. When there are files of an earlier process, any may be.
    """

    def __init__(self, folder: Path):
        self.is_new = not any(folder.glob("events.out.*"))
        self.writer = tf.summary.create_file_writer(str(folder))
        self._last = -1 if self.is_new else sys.maxsize
        if self.is_new:
            self._start(0)  # the first mark in a folder is not taken for a restart

    def write(self, step: int, scalars: Mapping[str, Any]) -> None:
        if step <= self._last:
            self._start(step)
        self._last = step
        summary = tf.compat.v1.Summary()
        for name, value in scalars.items():
            summary.value.add(tag=name, simple_value=float(value))
        # At once: each `tf.summary.scalar` takes 0.5 ms.
        with self.writer.as_default():
            tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step)

    def _start(self, step: int) -> None:
        """The mark of a restart; `purge_step` of TensorFlow 1 has no successor."""
        kinds = tf.compat.v1.summary
        start = kinds.SessionLog(status=kinds.SessionLog.START)
        event = tf.compat.v1.Event(step=step, wall_time=time.time(), session_log=start)
        tf.raw_ops.ImportEvent(
            writer=self.writer._resource, event=event.SerializeToString()
        )


# Behind them "/validation" or "/train" would say nothing.
_GROUPS = {
    "epoch_s": "time/epoch_s",
    "step_ms": "time/step_ms",
    "rows_per_s": "time/rows_per_s",
    "input_wait": "time/input_wait",
    "memory_mb": "memory/resident_mb",
    "learning_rate": "learning_rate",
    "gradient_norm": "gradient_norm/global",
}


def _tag(name: str) -> str:
    """`val_loss` to `loss/validation`: TensorBoard groups by what stands in front."""
    if name in _GROUPS:
        return _GROUPS[name]
    is_validation = name.startswith("val_")
    return f"{name.removeprefix('val_')}/{'validation' if is_validation else 'train'}"


def _by_layer(group: str, norms: Mapping[str, float]) -> dict[str, float]:
    """Norms of weights by their path to those of their layers and of all together.

    >>> _by_layer("norm", {"dense/kernel": 3.0, "dense/bias": 4.0})
    {'norm/dense': 5.0, 'norm/global': 5.0}
    """
    squares: dict[str, float] = defaultdict(float)
    for path, norm in norms.items():
        squares[path.rpartition("/")[0] or path] += norm**2
        squares["global"] += norm**2
    return {
        f"{group}/{layer}": math.sqrt(squares[layer])
        for layer in sorted(squares, key=lambda layer: layer == "global")
    }


def _plain_values(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, value in config.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict):
            plain |= _plain_values(value, f"{path}.")
        elif isinstance(value, bool | int | float | str):
            plain[path] = value
        elif isinstance(value, list | tuple) and key not in ("data", "test"):
            plain[path] = str(value)
    return plain
