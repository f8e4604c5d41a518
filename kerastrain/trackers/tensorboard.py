"""TensorBoard."""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
import yaml

__all__ = ["TensorBoard"]


class TensorBoard(keras.callbacks.Callback):
    """Losses, metrics, learning rate, step time, configuration, hyper-parameters.

    Args:
        folder: of the event files.
        config: the resolved configuration of the run.
        steps_per_epoch: to turn the time of an epoch into that of a step.
        histograms: also write the distribution of each weight after every epoch.
    """

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

    def on_train_begin(self, logs: Any = None) -> None:
        self._writer = tf.summary.create_file_writer(str(self.folder))
        self.log_config(self.config)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        with self._writer.as_default(step=epoch + 1):
            for name, value in (logs or {}).items():
                tf.summary.scalar(_tag(name), value)
            if logs and "epoch_s" in logs:
                step_ms = 1000 * logs["epoch_s"] / self.steps_per_epoch
                tf.summary.scalar("time/step_ms", step_ms)
            if self.histograms:
                for weight in self.model.trainable_weights:
                    tf.summary.histogram(weight.path, weight.value)

    def on_train_end(self, logs: Any = None) -> None:
        self._writer.close()

    def log_config(self, config: dict[str, Any]) -> None:
        """The configuration as text, and its plain values as hyper-parameters."""
        # Imported here: it is 0.3 s that a listing of trackers need not pay.
        from tensorboard.plugins.hparams import api as hparams

        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        with self._writer.as_default(step=0):
            tf.summary.text("config", "\n".join(f"    {x}" for x in text.splitlines()))
            hparams.hparams(_plain_values(config))

    def log_artifact(self, name: str, text: str) -> None:
        """A text beside the curves."""
        with self._writer.as_default(step=0):
            tf.summary.text(name, text)


def _tag(name: str) -> str:
    """`val_loss` to `loss/validation`: TensorBoard groups by what stands in front."""
    if name == "epoch_s":
        return "time/epoch_s"
    if name == "learning_rate":
        return name
    is_validation = name.startswith("val_")
    return f"{name.removeprefix('val_')}/{'validation' if is_validation else 'train'}"


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
