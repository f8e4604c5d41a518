"""Seed, precision and devices, and that they are put back."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config as tf_config

from kerastrain.config import RuntimeConfig
from kerastrain.runtime import resolved_precision, runtime


def test_everything_is_put_back_also_after_an_error():
    random.seed(5)
    np.random.seed(5)
    expected = random.random(), np.random.rand()
    random.seed(5)
    np.random.seed(5)
    policy = keras.config.dtype_policy().name
    config = RuntimeConfig(precision="mixed_bfloat16", deterministic=True)
    with pytest.raises(ZeroDivisionError), runtime(config, seed=1):
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        assert tf_config.is_op_determinism_enabled()
        raise ZeroDivisionError
    assert keras.config.dtype_policy().name == policy
    assert not tf_config.is_op_determinism_enabled()
    assert (random.random(), np.random.rand()) == expected


def test_a_seed_decides_the_initial_weights():
    def weights(seed):
        with runtime(RuntimeConfig(), seed=seed):
            return keras.layers.Dense(3).compute_output_spec, keras.random.normal((4,))

    first, again, other = (np.asarray(weights(seed)[1]) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("auto", "float32"), ("mixed_float16", "mixed_float16"), ("float32", "float32")],
)
def test_precision_is_float32_on_a_cpu_unless_named(precision, expected):
    assert resolved_precision(precision) == expected


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((7, 5), "mixed_float16"), ((8, 0), "mixed_bfloat16"), ((9, 0), "mixed_bfloat16")],
)
def test_precision_on_a_gpu_goes_by_what_it_can_do(monkeypatch, capability, expected):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["gpu"])
    monkeypatch.setattr(
        tf.config.experimental,
        "get_device_details",
        lambda device: {"compute_capability": capability},
    )
    assert resolved_precision("auto") == expected


def test_one_cpu_needs_no_strategy():
    with runtime(RuntimeConfig(strategy="auto"), seed=0) as devices:
        assert not tf.distribute.has_strategy()
    assert (devices.num_replicas, devices.precision) == (1, "float32")


def test_a_named_strategy_is_in_force_inside_the_block():
    with runtime(RuntimeConfig(strategy="mirrored"), seed=0) as devices:
        assert isinstance(tf.distribute.get_strategy(), tf.distribute.MirroredStrategy)
    assert not tf.distribute.has_strategy()
    assert devices.num_replicas == 1


def test_gpu_memory_is_taken_as_needed(monkeypatch):
    grown = []
    experimental = tf.config.experimental

    def grow(gpu, wanted):
        grown.append((gpu, wanted))
        raise RuntimeError("physical devices cannot be modified after initialization")

    monkeypatch.setattr(experimental, "set_memory_growth", grow)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["gpu"])
    with runtime(RuntimeConfig(precision="float32"), seed=0):
        assert grown == [("gpu", True)]
