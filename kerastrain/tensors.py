"""TensorFlow data sets: read on the CPU as NumPy batches, and run without tuning."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

__all__ = ["numpy_elements", "share_gpus", "untuned"]


def numpy_elements(dataset: Callable[[], tf.data.Dataset]) -> Iterator[Any]:
    """Elements of a data set with NumPy arrays for its tensors.

    The device is named around each step, not around the loop: between two steps the
    caller's own code runs, which must not land on the CPU.
    """
    share_gpus()
    with tf.device("CPU:0"):
        iterator = dataset().as_numpy_iterator()
    while True:
        with tf.device("CPU:0"):
            try:
                element = next(iterator)
            except StopIteration:
                return
        yield element


def share_gpus() -> None:
    """Take GPU memory as needed.

    The first operation opens all GPUs, and by default TensorFlow then takes all of
    their memory: long before training starts, and the process that replays an export
    on the same GPU finds none.
    """
    for gpu in tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):  # in use already: cannot be changed
            tf.config.experimental.set_memory_growth(gpu, True)


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The same without the thread that tunes buffers.

    For one whose buffers are fixed: there is nothing to tune, and a process that had
    trained for some minutes waited 30 to 58 s for that thread before it ended.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
