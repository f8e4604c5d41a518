"""Options of the engine together: two devices give the loss curve of one.

Where equality cannot hold, and so is not asked for: dropout (each device draws masks of
its own), and batch normalisation with accumulation (the parts of a step hold other rows
on two devices than on one, and so have other means).
"""

import itertools
import json
import subprocess
import sys
import textwrap
from typing import NamedTuple

import numpy as np
import pytest

pytestmark = pytest.mark.slow  # two processes, each of them about a minute


class Case(NamedTuple):
    """One combination; `rows` is the number of rows and the batch size."""

    accumulate: int = 1
    clip: str = "none"
    precision: str = "float32"
    rows: str = "even"
    average: str = "none"
    has_norm: bool = False
    optimizer: str = "sgd"

    def __str__(self) -> str:
        norm = ["norm"] if self.has_norm else []
        return "-".join(map(str, [*self[:5], *norm, self.optimizer]))


# Each value of an option stands beside each value of every other one at least once.
CASES = [
    Case(1, "none", "float32", "even", "none"),
    Case(1, "norm", "float32", "few", "ema"),
    Case(1, "value", "float32", "odd", "ema", has_norm=True),
    Case(1, "value", "float32", "zeros", "none", has_norm=True, optimizer="adamw"),
    Case(1, "value", "mixed_bfloat16", "even", "none", has_norm=True),
    Case(1, "each_norm", "mixed_bfloat16", "few", "ema"),
    Case(1, "each_norm", "mixed_bfloat16", "odd", "ema", optimizer="adamw"),
    Case(1, "each_norm", "mixed_float16", "even", "none", has_norm=True),
    Case(3, "none", "float32", "few", "none", optimizer="adamw"),
    Case(3, "each_norm", "float32", "zeros", "ema"),
    Case(3, "none", "mixed_bfloat16", "zeros", "none"),
    Case(3, "norm", "mixed_bfloat16", "even", "ema"),
    Case(3, "none", "mixed_float16", "odd", "ema"),
    Case(3, "norm", "mixed_float16", "odd", "none", optimizer="adamw"),
    Case(3, "norm", "mixed_float16", "zeros", "none"),
    Case(3, "value", "mixed_float16", "few", "none"),
]
# Every combination of these, beside the chosen ones above.
FULL = [
    Case(*values)
    for values in itertools.product(
        (1, 2), ("none", "norm"), ("float32", "mixed_bfloat16"),
        ("even", "odd", "even alike", "odd alike"), ("none", "ema"),
    )
]  # fmt: skip
ALL = list(dict.fromkeys([*CASES, *FULL]))
# Products of 16 bits are rounded in another order: 1e-2 is four units of bfloat16.
TOLERANCE = {"float32": 1e-5, "mixed_bfloat16": 1e-2, "mixed_float16": 1e-2}

PROGRAM = """
    import json, os, sys
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    num_devices = int(sys.argv[1])
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * num_devices
    )
    import keras, numpy as np
    from kerastrain.blocks import Blocks
    from kerastrain.config import AverageConfig, OptimizerConfig, RuntimeConfig
    from kerastrain.engine import Average, Clipping, Engine, make_optimizer
    from kerastrain.pipeline import Rows
    from kerastrain.runtime import runtime

    EPOCHS = 4
    # Rows and batch size. Steps of "odd" have 28 and 29 rows, those of "few" 2 and 3:
    # a device then has a single row, and parts of a step none at all.
    SIZES = {"even": (192, 32), "odd": (225, 32), "zeros": (225, 32), "few": (41, 3)}
    LIMIT = {"norm": 0.5, "each_norm": 0.2, "value": 0.05}

    def rows_of(kind):
        kind, _, is_alike = kind.partition(" ")
        num_rows, batch_size = SIZES[kind]
        rng = np.random.default_rng(0)
        codes = rng.integers(0, 5, (num_rows, 2)).astype("int32")
        numbers = rng.normal(size=(num_rows, 4)).astype("float32")
        # Small enough that no float16 gradient, times 2^15, overflows: on one device,
        # or in one part, that comes earlier, and the step would be skipped there alone.
        y = (numbers[:, 0] / 2 + codes[:, 0] / 4).astype("float32")
        weight = rng.uniform(0.5, 2, num_rows).astype("float32")
        if is_alike:
            weight[:] = 1
        if kind == "zeros":
            weight *= rng.uniform(size=num_rows) > 0.7
        inputs = {"c": codes, "n": numbers}
        return Rows(inputs, y, weight, np.arange(num_rows)), batch_size

    def engine_of(has_norm):
        inputs = [keras.Input((2,), dtype="int32"), keras.Input((4,))]
        vectors = keras.layers.Flatten()(keras.layers.Embedding(5, 3)(inputs[0]))
        x = keras.layers.Concatenate()([vectors, inputs[1]])
        # Before a norm a bias has no gradient but rounding, which Adam makes large.
        x = keras.layers.Dense(16, use_bias=not has_norm)(x)
        if has_norm:
            x = keras.layers.BatchNormalization()(x)
        x = keras.layers.Activation("tanh")(x)
        return Engine(inputs, keras.layers.Dense(1, dtype="float32")(x))

    def squared(targets, outputs):
        return keras.ops.square(outputs[:, 0] - targets)

    def fitted(accumulate, clip, precision, rows, average, has_norm, optimizer):
        strategy = "mirrored" if num_devices > 1 else "none"
        rows, batch_size = rows_of(rows)
        config = RuntimeConfig(strategy=strategy, precision=precision)
        options = {"momentum": 0.9} if optimizer == "sgd" else {}
        with runtime(config, seed=1) as devices:
            assert devices.num_replicas == num_devices
            engine = engine_of(has_norm)
            variables = engine.trainable_variables
            made = make_optimizer(
                OptimizerConfig(name=optimizer, **options), 0.02, variables
            )
            ema = AverageConfig(name="ema", momentum=0.9)
            kept = None if average == "none" else Average(ema, engine, EPOCHS)
            limits = {} if clip == "none" else {clip: LIMIT[clip]}
            engine.prepare(
                made, squared, clipping=Clipping(**limits), accumulate=accumulate,
                average=kept,
            )
            blocks = Blocks(rows, batch_size, 3, seed=0, num_replicas=num_devices)
            losses = []
            for blocks.epoch in range(EPOCHS):
                data = engine.distributed(blocks)
                history = engine.fit(data, verbose=0, shuffle=False)
                losses.append(history.history["loss"][0])
            found = kept.variables if kept else engine.weights
            sums = [float(np.abs(np.asarray(v)).sum()) for v in found]
            return {"losses": losses, "weights": sums}

    print(json.dumps([fitted(*case) for case in json.loads(sys.argv[2])]))
"""


def started(num_devices, cases):
    code = textwrap.dedent(PROGRAM)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(num_devices), json.dumps(cases)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result_of(process):
    out, err = process.communicate()
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def curves():
    """Losses of each case on one and on two logical CPUs, and more on one."""
    in_one_part = [case._replace(accumulate=1) for case in ALL if case.accumulate > 1]
    limited = [Case(clip=clip) for clip in ("norm", "each_norm", "value")]
    cases = list(dict.fromkeys([*ALL, *in_one_part, *limited]))
    one, two = map(result_of, (started(1, cases), started(2, ALL)))
    return dict(zip(cases, one, strict=True)), dict(zip(ALL, two, strict=True))


@pytest.mark.parametrize("case", ALL, ids=str)
def test_two_devices_give_the_curve_of_one(curves, case):
    one, two = (found[case] for found in curves)
    tolerance = TOLERANCE[case.precision]
    assert one["losses"][-1] < 0.95 * one["losses"][0], "the curve has to move"
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=tolerance)
    np.testing.assert_allclose(two["weights"], one["weights"], rtol=10 * tolerance)


@pytest.mark.parametrize("case", [c for c in ALL if c.accumulate > 1], ids=str)
def test_a_step_in_parts_is_the_step_in_one(curves, case):
    parts, one = (curves[0][c] for c in (case, case._replace(accumulate=1)))
    tolerance = TOLERANCE[case.precision]
    np.testing.assert_allclose(parts["losses"], one["losses"], rtol=tolerance)
    np.testing.assert_allclose(parts["weights"], one["weights"], rtol=10 * tolerance)


@pytest.mark.parametrize("clip", ["norm", "each_norm", "value"])
def test_every_limit_changes_the_curve(curves, clip):
    """Else the cases with it would show nothing."""
    one, case = curves[0], Case()
    gap = np.subtract(one[case._replace(clip=clip)]["losses"], one[case]["losses"])
    assert np.abs(gap).max() > 0.02 * one[case]["losses"][0]


@pytest.mark.parametrize("pair", [(a, b) for a in range(5) for b in range(a)])
def test_the_cases_hold_every_pair_of_values(pair):
    first, second = ({case[place] for case in CASES} for place in pair)
    held = {tuple(case[place] for place in pair) for case in CASES}
    missing = {(a, b) for a in first for b in second} - held
    assert not missing
