"""The learning rate in every step, against the formulas computed in NumPy."""

import json
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastrain.errors import ConfigError
from kerastrain.events import recording
from kerastrain.schedules import SCHEDULES, Monitor, Steps

RATE = 0.01
LOSS = Monitor("val_loss", "min")

# Keras 3.15 with NumPy 2 says so whenever a variable is read.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ impl:DeprecationWarning")


def schedule_of(name, total_steps, per_epoch=10, peak=RATE, **options):
    steps = Steps(total_steps, per_epoch)
    return SCHEDULES.load(name)(peak, steps, LOSS, **options)


def rates(name, total_steps, steps, **options):
    rate = schedule_of(name, total_steps, **options).learning_rate
    return rate(np.array(list(steps))).numpy().tolist()


@pytest.mark.parametrize(
    ("name", "options", "at"),
    [
        (
            "cosine",
            {},
            {0: RATE / 50, 25: RATE * 0.51, 50: RATE, 525: RATE / 2, 1000: 0},
        ),
        ("cosine", {"final": 0.1}, {50: RATE, 1000: RATE / 10, 2000: RATE / 10}),
        ("cosine", {"warmup": 0.0}, {0: RATE, 500: RATE / 2, 1000: 0}),
        ("constant", {}, {0: RATE / 50, 50: RATE, 1000: RATE}),
        ("constant", {"warmup": 0.0}, {0: RATE, 1000: RATE}),
        ("step", {}, {0: RATE, 499: RATE, 500: RATE / 10, 750: RATE / 100}),
        (
            "step",
            {"factor": 0.5, "at": [0.1]},
            {99: RATE, 100: RATE / 2, 999: RATE / 2},
        ),
        ("step", {"at": []}, {0: RATE, 999: RATE}),
        ("plateau", {}, {0: RATE, 1000: RATE}),
    ],
)
def test_the_rate_is_right_at_the_corners(name, options, at):
    got = rates(name, 1000, at, **options)
    np.testing.assert_allclose(got, list(at.values()), rtol=1e-5, atol=1e-9)


# --- the formulas, in float64, one step at a time ---------------------------------


def fall(share):
    return 0.5 * (1 + np.cos(np.pi * share))


def by_drops(s, n, warm, *, total, factor=0.1, at=(0.5, 0.75)):
    return factor ** sum(s + warm >= round(share * total) for share in at)


def by_restarts(s, n, warm, *, total, periods=3, growth=2.0, shrink=0.7, final=0.0):
    length, start = n / sum(growth**k for k in range(periods)), 0.0
    for k in range(periods):
        first, end = np.round(start), np.round(start + length * growth**k)
        if first <= s and (s < end or k == periods - 1):
            return shrink**k * (final + (1 - final) * fall((s - first) / (end - first)))
        start += length * growth**k
    raise AssertionError


def by_lines(s, n, warm, *, total, tail=0.1, low=0.04, final=0.0004):
    turn = n - round(tail * total)
    return np.interp(s, [0, turn, n], [1, low, final])


def by_root_fall(s, n, warm, *, total, decay=0.2, final=0.0):
    length = round(decay * total)
    left = n - s
    return 1.0 if left >= length else 1 - (1 - final) * np.sqrt(1 - left / length)


FORMULAS = {
    "constant": lambda s, n, warm, total: 1.0,
    "plateau": lambda s, n, warm, total: 1.0,
    "step": by_drops,
    "exponential": lambda s, n, warm, total, final=0.01: final ** (s / n),
    "linear": lambda s, n, warm, total, final=0.0: 1 + (final - 1) * s / n,
    "polynomial": lambda s, n, warm, total, power=2, final=0.0: (
        final + (1 - final) * (1 - s / n) ** power
    ),
    "cosine": lambda s, n, warm, total, final=0.0: final + (1 - final) * fall(s / n),
    "cosine_restarts": by_restarts,
    "one_cycle": by_lines,
    "wsd": by_root_fall,
    "inverse_sqrt": lambda s, n, warm, total: np.sqrt(
        max(warm, 1) / (s + max(warm, 1))
    ),
    "coslog4": lambda s, n, warm, total: (
        0.5 * (1 - np.cos(2 * np.pi * np.log2(1 + 15 * (s + 0.5) / n)))
    ),
}
OPTIONS = {
    "step": {"factor": 0.3, "at": [0.2, 0.4, 0.9]},
    "exponential": {"final": 0.2},
    "linear": {"final": 0.1},
    "polynomial": {"power": 0.5, "final": 0.1},
    "cosine": {"final": 0.1},
    "cosine_restarts": {"periods": 4, "growth": 1.5, "shrink": 0.9, "final": 0.01},
    "one_cycle": {"low": 0.1, "tail": 0.2, "final": 0.01},
    "wsd": {"decay": 0.5, "final": 0.1},
}


def by_hand(name, total, num_warm, **options):
    """Rates of all steps."""
    expected = []
    for step in range(total):
        if step < num_warm:
            share = np.interp(step, [0, num_warm], [1 / num_warm, 1])
        else:
            after = step - num_warm
            args = (after, total - num_warm, num_warm)
            share = FORMULAS[name](*args, total=total, **options)
        expected.append(RATE * share)
    return expected


def test_every_schedule_has_its_formula():
    assert FORMULAS.keys() == SCHEDULES.keys()


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("has_options", [False, True])
def test_every_step_has_the_rate_of_the_formula(name, has_options):
    options = OPTIONS.get(name, {}) if has_options else {}
    got = rates(name, 300, range(300), warmup=0.1, **options)
    expected = by_hand(name, 300, 30, **options)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-8)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(
    ("warmup", "num_warm"),
    [
        (0.0, 0), (0, 0), (0.25, 15), (1, 1), (7, 7), ("7 steps", 7), ("1 step", 1),
        ("1 epoch", 12), ("2 epochs", 24), ("1.5 epochs", 18), ("2epochs", 24),
    ],
)  # fmt: skip
def test_the_warm_up_is_a_share_or_steps_or_epochs(name, warmup, num_warm):
    got = rates(name, 60, range(60), per_epoch=12, warmup=warmup)
    expected = by_hand(name, 60, num_warm)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-8)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("total_steps", [1, 2, 7])
def test_every_schedule_works_in_a_very_short_run(name, total_steps):
    got = rates(name, total_steps, range(total_steps))
    assert all(0 < rate <= RATE * 1.0001 for rate in got)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_warm_up_that_is_longer_than_training_is_said(name):
    with recording() as recorder:
        got = rates(name, 8, range(8), warmup=16)
    line = np.interp(range(8), [0, 16], [RATE / 16, RATE])
    np.testing.assert_allclose(got, line, rtol=1e-5)
    (event,) = recorder.events
    assert (event.code, event.severity) == ("warmup_too_long", "warning")
    assert event.message.startswith(
        f"schedule.{name}.warmup: 16 is longer than training, which has 8 steps"
    )


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    peak=st.floats(1e-7, 100),
    total=st.integers(1, 2_000_000),
    warmup=st.one_of(st.floats(0, 0.99), st.integers(0, 100_000)),
    final=st.floats(0, 0.99),
)
def test_the_rate_is_never_negative_nor_above_the_peak(
    name, peak, total, warmup, final
):
    has_final = "final" in SCHEDULES.options(name) and name != "one_cycle"
    options = {"final": max(final, 1e-6)} if has_final else {}
    rate = schedule_of(name, total, peak=peak, warmup=warmup, **options).learning_rate
    at = {0, 1, total // 3, total // 2, total - 1, total, 2 * total}
    got = rate(np.array(sorted(at))).numpy().tolist()
    assert all(0 <= value <= np.float32(peak) for value in got)


# --- what the optimiser sees ------------------------------------------------------


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_the_rate_is_a_float32_tensor_of_the_step_whatever_the_precision(policy):
    was = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        rate = schedule_of("cosine", 100).learning_rate
        value = rate(keras.ops.convert_to_tensor(7, "int64"))
    finally:
        keras.config.set_dtype_policy(was)
    assert value.dtype == "float32"
    assert float(value) == pytest.approx(by_hand("cosine", 100, 5)[7], rel=1e-6)


def test_the_scale_lowers_all_rates_to_come_also_inside_a_compiled_step():
    import tensorflow as tf

    rate = schedule_of("linear", 100, warmup=0.0).learning_rate
    compiled = tf.function(rate)
    before = float(compiled(tf.constant(50)))
    rate.lower(0.5)
    rate.lower(0.5)
    assert float(rate.scale.value) == 0.25
    assert float(compiled(tf.constant(50))) == pytest.approx(before / 4)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1, 1, 1], 0.3), ([3, 2, 1], 1.0), ([1] * 5, 0.09), ([1, np.nan, 2, 1], 0.3)],
)
def test_plateau_lowers_the_rate_only_when_the_metric_stands_still(values, expected):
    schedule = schedule_of("plateau", 100, patience=2)
    (callback,) = schedule.callbacks
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(schedule.learning_rate), "mse")
    callback.set_model(model)
    callback.on_train_begin()
    with recording() as recorder:
        for epoch, value in enumerate(values):
            callback.on_epoch_end(epoch, {"val_loss": value})
    assert float(model.optimizer.learning_rate) == pytest.approx(RATE * expected)
    codes = [event.code for event in recorder.events]
    assert codes == ["rate_reduced"] * round(np.log(expected) / np.log(0.3))


def test_plateau_says_when_it_lowers_the_rate():
    (callback,) = schedule_of("plateau", 100, patience=1).callbacks
    with recording() as recorder:
        for epoch in range(2):
            callback.on_epoch_end(epoch, {"val_loss": 1.0})
    (event,) = recorder.events
    assert event.message == (
        "val_loss has not got better for 1 epoch: from epoch 3 on the learning rate "
        "is 0.003."
    )


def test_plateau_goes_on_where_its_state_was_kept():
    one = schedule_of("plateau", 100, patience=2).callbacks[0]
    one.on_epoch_end(0, {"val_loss": 1.0})
    one.on_epoch_end(1, {"val_loss": 1.0})
    other = schedule_of("plateau", 100, patience=2).callbacks[0]
    other.best, other.num_waited = one.best, one.num_waited
    other.on_train_begin()
    other.on_epoch_end(2, {"val_loss": 1.0})
    assert float(other.rate.scale.value) == pytest.approx(0.3)


TWO_DEVICES = """
    import json
    import keras, numpy as np, tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    from kerastrain.blocks import Blocks
    from kerastrain.config import RuntimeConfig
    from kerastrain.engine import Engine
    from kerastrain.pipeline import Rows
    from kerastrain.runtime import runtime
    from kerastrain.schedules import SCHEDULES, Monitor, Steps

    x = np.ones((60, 1), "float32")
    rows = Rows({"x": x}, x[:, 0], x[:, 0], np.arange(60))
    with runtime(RuntimeConfig(strategy="mirrored"), seed=0) as devices:
        rate = SCHEDULES.load("cosine_restarts")(
            0.01, Steps(20, 10), Monitor("val_loss", "min"), warmup="4 steps"
        ).learning_rate
        inputs = keras.Input((1,))
        engine = Engine(inputs, keras.layers.Dense(1, kernel_initializer="zeros")(inputs))
        # The gradient of the kernel is -1 always: a step moves it by the rate.
        engine.prepare(keras.optimizers.SGD(rate), lambda y, z: -z[:, 0])
        moves = []
        for epoch in range(2):
            blocks = Blocks(rows, 6, 1, 0, devices.num_replicas, epoch)
            seen = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: (
                moves.append(float(keras.ops.convert_to_numpy(engine.weights[0])[0, 0]))))
            engine.fit(engine.distributed(blocks), verbose=0, shuffle=False,
                       callbacks=[seen])
            rate.lower(0.5)
    print(json.dumps([devices.num_replicas, np.diff([0, *moves]).tolist()]))
"""  # noqa: E501


@pytest.mark.filterwarnings("default")
def test_the_rate_is_the_same_in_the_steps_of_two_devices(run_python):
    last = run_python(textwrap.dedent(TWO_DEVICES)).splitlines()[-1]
    num_replicas, moves = json.loads(last)
    expected = np.array(by_hand("cosine_restarts", 20, 4))
    expected[10:] /= 2  # lowered after the first epoch
    assert num_replicas == 2
    np.testing.assert_allclose(moves, expected, rtol=1e-3, atol=1e-7)


# --- what is refused --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cosine", {"warmup": 1.0}, "schedule.cosine.warmup: expected a share from 0"),
        ("cosine", {"final": -0.1}, "schedule.cosine.final: expected a share from 0"),
        (
            "constant",
            {"warmup": -2},
            "schedule.constant.warmup: expected a share from 0",
        ),
        (
            "wsd",
            {"warmup": "2 weeks"},
            r"schedule.wsd.warmup: expected a share from 0 to below 1, steps \(500\) "
            r"or epochs \('2 epochs'\), got 2 weeks\.",
        ),
        ("linear", {"warmup": True}, "schedule.linear.warmup: expected a share"),
        ("linear", {"warmup": "-1 steps"}, "schedule.linear.warmup: expected a share"),
        ("step", {"at": [1.5]}, "schedule.step.at: expected a share from 0"),
        ("step", {"at": [0.7, 0.5]}, "schedule.step.at: expected growing shares"),
        ("step", {"factor": 0.0}, "schedule.step.factor: expected more than 0"),
        (
            "plateau",
            {"factor": 1.0},
            "schedule.plateau.factor: expected a share from 0",
        ),
        (
            "exponential",
            {"final": 0.0},
            "schedule.exponential.final: expected more than 0 and at most 1, got 0.0",
        ),
        (
            "polynomial",
            {"power": 0},
            "schedule.polynomial.power: expected more than 0",
        ),
        (
            "cosine_restarts",
            {"periods": 0},
            "schedule.cosine_restarts.periods: expected 1 or more, got 0",
        ),
        (
            "one_cycle",
            {"low": 0.1, "final": 0.2},
            r"schedule.one_cycle.final: expected at most low \(0.1\), got 0.2",
        ),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        schedule_of(name, 100, **options)


@pytest.mark.parametrize("warmup", [0.05, 500, "2 epochs", 0, 0.0])
def test_a_configuration_keeps_the_warm_up_as_it_was_written(warmup):
    checked = SCHEDULES.check("cosine", {"warmup": warmup}, path="schedule")["warmup"]
    assert (type(checked), checked) == (type(warmup), warmup)


def test_reading_the_table_imports_no_keras():
    code = (
        "import sys; from kerastrain.schedules import SCHEDULES; "
        "[(SCHEDULES.options(n), SCHEDULES.describe(n)) for n in SCHEDULES]; "
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
