"""TensorFlow as a reader of files: on the CPU, one NumPy batch after the other."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

__all__ = ["numpy_elements", "share_gpus"]


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
