"""The batch size that is measured."""

import json
import random
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastrain.blocks import Blocks
from kerastrain.config import AverageConfig
from kerastrain.engine import Average, Engine
from kerastrain.events import recording
from kerastrain.pipeline import Rows
from kerastrain.training import batchsize
from kerastrain.training.batchsize import best_batch_size


def rows_of(num_rows):
    x = np.random.default_rng(0).normal(size=(num_rows, 4)).astype("float32")
    ones = np.ones(num_rows, "float32")
    return Rows({"x": x}, x[:, 0], ones, np.arange(num_rows))


def engine_of():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = keras.layers.BatchNormalization()(keras.layers.Dense(8)(inputs))
    x = keras.layers.Dropout(0.3)(x)
    engine = Engine(inputs, keras.layers.Dense(1)(x))
    return engine.prepare(
        keras.optimizers.Adam(0.1),
        lambda y, outputs: tf.square(outputs[:, 0] - y),
        average=Average(AverageConfig(name="ema"), engine, epochs=1),
    )


def blocks_of(rows):
    return lambda size: Blocks(rows, size, 4, seed=0)


def chosen(rows, *, has_gpu, engine=None):
    """The choice and its event."""
    with recording() as recorder:
        size = best_batch_size(engine or engine_of(), blocks_of(rows), has_gpu=has_gpu)
    (event,) = [e for e in recorder.events if e.code == "batch_size_chosen"]
    assert event.details["batch_size"] == size
    return size, event


class Machine:
    """Stands in for the train function: a clock, and memory that ends."""

    def __init__(self, monkeypatch, seconds_of, most_rows=None):
        self.now = 0.0
        self.seconds_of = seconds_of
        self.most_rows = most_rows
        monkeypatch.setattr(batchsize.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(Engine, "make_train_function", lambda _: self.train)

    def train(self, iterator):
        bounds = next(iterator)[-1].numpy()
        size = int(np.diff(bounds).max())
        if self.most_rows is not None and size > self.most_rows:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        self.now += self.seconds_of(size) * (len(bounds) - 1)
        return {"loss": 0.0}


def test_on_a_gpu_it_is_the_largest_that_fits(monkeypatch):
    Machine(monkeypatch, lambda size: 1.0 * size, most_rows=300)
    size, event = chosen(rows_of(8_192), has_gpu=True)
    assert size == 256
    assert event.message == (
        "Batches have 256 rows: the largest that fits (512 do not)."
    )
    table = [(m["batch_size"], m["rows_per_s"]) for m in event.details["measured"]]
    assert table == [(32, 1.0), (64, 1.0), (128, 1.0), (256, 1.0), (512, None)]


def test_on_a_gpu_with_room_it_ends_at_a_quarter_of_the_rows(monkeypatch):
    Machine(monkeypatch, lambda size: 1.0)
    size, event = chosen(rows_of(1_000), has_gpu=True)
    assert size == 128
    assert "the largest up to a quarter of the rows." in event.message


def test_when_nothing_fits_the_smallest_is_left_to_what_follows(monkeypatch):
    Machine(monkeypatch, lambda size: 1.0, most_rows=8)
    size, event = chosen(rows_of(1_000), has_gpu=True)
    assert size == 32
    assert "even 32 did not fit" in event.message


@pytest.mark.parametrize(
    ("seconds_of", "expected"),
    [
        (lambda size: 1.0, 8_192),  # a step costs the same: the larger, the faster
        (
            lambda size: 0.01 * size,
            32,
        ),  # a row costs the same: fewer steps gain nothing
        (lambda size: 1.0 + 0.01 * size, 1_024),  # 2,048 would gain less than 5 %
    ],
)
def test_on_a_cpu_it_grows_while_rows_per_second_do(monkeypatch, seconds_of, expected):
    Machine(monkeypatch, seconds_of)
    size, _ = chosen(rows_of(65_536), has_gpu=False)
    assert size == expected


@pytest.mark.parametrize("num_rows", [3, 100, 200])
def test_few_rows_have_small_batches(num_rows):
    size, _ = chosen(rows_of(num_rows), has_gpu=False)
    assert size == 32


def all_of(engine):
    variables = [*engine.variables, *engine.optimizer.variables]
    variables += engine.average.variables
    return [variable.numpy() for variable in variables]


@pytest.mark.parametrize("has_gpu", [False, True])
def test_engine_and_generators_are_untouched(has_gpu):
    engine = engine_of()
    before = all_of(engine)
    python, numpy = random.getstate(), np.random.get_state()[1].copy()
    _, event = chosen(rows_of(1_000), has_gpu=has_gpu, engine=engine)
    assert event.details["measured"][0]["rows_per_s"] > 0
    for one, other in zip(before, all_of(engine), strict=True):
        np.testing.assert_array_equal(other, one)
    assert random.getstate() == python
    np.testing.assert_array_equal(np.random.get_state()[1], numpy)
    assert engine.waited_s == 0


def test_training_afterwards_is_that_of_an_engine_that_was_not_measured():
    rows, weights = rows_of(500), []
    for is_measured in (False, True):
        engine = engine_of()
        if is_measured:
            chosen(rows, has_gpu=False, engine=engine)
        engine.fit(blocks_of(rows)(64).dataset(), epochs=2, verbose=0, shuffle=False)
        weights.append(all_of(engine))
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(other, one)


def test_a_step_that_runs_out_of_memory_leaves_the_engine_as_it_was(monkeypatch):
    engine = engine_of()
    before = all_of(engine)
    make = Engine.make_train_function

    def made(self):
        train = make(self)

        def limited(iterator):
            result = train(iterator)  # weights have moved when memory ends
            if len(next(iterator)[1]) > 4 * 64:
                raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
            return result

        return limited

    monkeypatch.setattr(Engine, "make_train_function", made)
    size, _ = chosen(rows_of(1_000), has_gpu=True, engine=engine)
    assert size == 64
    for one, other in zip(before, all_of(engine), strict=True):
        np.testing.assert_array_equal(other, one)


TWO_DEVICES = """
    import json, os
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    import keras, numpy as np
    from kerastrain.blocks import Blocks
    from kerastrain.config import RuntimeConfig
    from kerastrain.engine import Engine
    from kerastrain.pipeline import Rows
    from kerastrain.runtime import runtime
    from kerastrain.training.batchsize import best_batch_size

    x = np.random.default_rng(0).normal(size=(500, 4)).astype("float32")
    rows = Rows({"x": x}, x[:, 0], np.ones(500, "float32"), np.arange(500))
    result = []
    for is_measured in (False, True):
        with runtime(RuntimeConfig(strategy="mirrored"), seed=1) as devices:
            inputs = keras.Input((4,))
            h = keras.layers.BatchNormalization()(keras.layers.Dense(8)(inputs))
            h = keras.layers.Dropout(0.2)(h)
            engine = Engine(inputs, keras.layers.Dense(1)(h))
            loss = lambda y, out: keras.ops.square(out[:, 0] - y)
            engine.prepare(keras.optimizers.Adam(0.01), loss)
            of = lambda size: Blocks(
                rows, size, 4, seed=0, num_replicas=devices.num_replicas
            )
            size = best_batch_size(engine, of, has_gpu=True) if is_measured else 0
            history = engine.fit(
                engine.distributed(of(64)), epochs=2, verbose=0, shuffle=False
            ).history["loss"]
            weights = [float(abs(w).sum()) for w in engine.get_weights()]
            result.append([devices.num_replicas, history, weights])
    print(json.dumps([size, *result]))
"""


@pytest.mark.slow
def test_an_engine_on_two_devices_is_untouched_too(run_python):
    size, plain, measured = json.loads(run_python(textwrap.dedent(TWO_DEVICES)))
    assert (size, plain[0]) == (64, 2)
    assert measured == plain
