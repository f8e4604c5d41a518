"""The parity gate on small models."""

import keras
import numpy as np
import pytest

from kerastrain.errors import ConfigError
from kerastrain.exports.saved_model import saved_model
from kerastrain.parity import _reason, golden_cases, verify
from kerastrain.schema import Column, ColumnStats, Schema, Target

STATS = ColumnStats(storage="float", num_rows=10)
SCHEMA = Schema(
    columns=[
        Column(name="a", input="a", type="numeric", role="feature", stats=STATS),
        Column(name="y", type="numeric", role="target", stats=STATS),
    ],
    num_rows=10,
    target=Target(name="y", task="regression"),
)


@pytest.fixture(scope="module")
def model():
    a = keras.Input((), name="a")
    number = keras.ops.where(keras.ops.isfinite(a), keras.ops.tanh(a), 0.0)
    return keras.Model({"a": a}, {"prediction": number * 2.0})


@pytest.mark.slow
def test_an_export_is_replayed_in_batches_of_its_own_size(model, tmp_path):
    golden = golden_cases(model, SCHEMA, {"a": np.arange(10, dtype="float32")})
    path = saved_model(model, tmp_path, batch_size=4)
    outcome = verify("saved_model", path, golden)
    assert outcome["max_difference"] <= outcome["tolerance"]
    assert outcome["rows"] == sum(case["num_rows"] for case in golden["cases"])


def test_a_batch_without_rows_is_refused(model, tmp_path):
    message = "^exports.saved_model.batch_size: expected 1 or more, got 0.$"
    with pytest.raises(ConfigError, match=message):
        saved_model(model, tmp_path, batch_size=0)


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        (
            "Traceback\nValueError: bad shape\n\t [[{{node x}}]]\n",
            "ValueError: bad shape",
        ),
        ("a.b.InvalidArgumentError: no\n", "a.b.InvalidArgumentError: no"),
        ("killed\n", "killed"),
        ("", "no output"),
    ],
)
def test_the_reason_of_a_failure_is_the_line_that_names_it(stderr, reason):
    assert _reason(stderr) == reason


@pytest.mark.parametrize(
    ("policy", "tolerance"),
    [("float32", 1e-5), ("mixed_float16", 2e-3), ("mixed_bfloat16", 2e-2)],
)
def test_the_least_precise_layer_decides_the_tolerance(policy, tolerance):
    a = keras.Input((), name="a")
    inner = keras.Sequential([keras.layers.Dense(1, dtype=policy)])
    number = keras.ops.cast(inner(keras.ops.tanh(a)[:, None])[:, 0], "float32")
    number = keras.ops.nan_to_num(number)
    model = keras.Model({"a": a}, {"prediction": number})
    golden = golden_cases(model, SCHEMA, {"a": np.zeros(2, "float32")})
    assert golden["tolerance"] == pytest.approx(tolerance, rel=0.9)
