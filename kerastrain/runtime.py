"""Seed, devices, strategy and precision; a context manager that puts it all back."""

import contextlib
import functools
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from kerastrain.config import RuntimeConfig
from kerastrain.errors import ConfigError
from kerastrain.tensors import share_gpus

__all__ = ["Devices", "runtime"]


@dataclass(frozen=True)
class Devices:
    """What the run computes on.

    Args:
        precision: name of the Keras dtype policy in force.
        num_replicas: devices that share a batch.
        names: of those devices.
    """

    precision: str
    num_replicas: int
    names: tuple[str, ...]


@contextlib.contextmanager
def runtime(config: RuntimeConfig, *, seed: int) -> Iterator[Devices]:
    """Inside the block models are built and fitted as `config` says.

    Afterwards the precision, op determinism and the states of Python's and NumPy's
    generators are what they were. TensorFlow's global seed cannot be read and stays.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    policy = keras.config.dtype_policy()
    share_gpus()
    names = _device_names(config.strategy)
    precision = resolved_precision(config.precision)
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(precision)
    try:
        with _deterministic(config.deterministic), _scope(names), _quiet_tracing():
            yield Devices(precision, max(1, len(names)), names or ("default",))
    finally:
        keras.config.set_dtype_policy(policy)
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def resolved_precision(precision: str) -> str:
    """`auto` by the hardware: bfloat16 from compute capability 8.0 on."""
    if precision != "auto":
        return precision
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "float32"
    capability = tf.config.experimental.get_device_details(gpus[0])
    major = capability.get("compute_capability", (0, 0))[0]
    return "mixed_bfloat16" if major >= 8 else "mixed_float16"


def _device_names(strategy: str) -> tuple[str, ...]:
    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    if strategy == "none" or (strategy == "auto" and len(gpus) < 2):
        return ()
    names = gpus or [device.name for device in tf.config.list_logical_devices("CPU")]
    if strategy == "mirrored" and not names:
        raise ConfigError("runtime.strategy: mirrored found no device.")
    return tuple(names)


@functools.cache
def _mirrored(names: tuple[str, ...]) -> tf.distribute.Strategy:
    """One strategy per process: a second one on the same devices aborts in TF 2.21
    ("Shape mismatch in the collective instance")."""
    return tf.distribute.MirroredStrategy(list(names))


@contextlib.contextmanager
def _scope(names: tuple[str, ...]) -> Iterator[None]:
    if not names:
        yield
        return
    with _mirrored(names).scope():
        yield


@contextlib.contextmanager
def _quiet_tracing() -> Iterator[None]:
    """Without TensorFlow's warning that one function was traced for each of several
    models: that is what folds are."""

    def is_other(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    logger = logging.getLogger("tensorflow")
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


@contextlib.contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    # TensorFlow offers no public way back.
    from tensorflow.python.framework import config as tf_config

    was = tf_config.is_op_determinism_enabled()
    if wanted and not was:
        tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        if wanted and not was:
            tf_config.disable_op_determinism()
