"""The parity gate: an export must give the numbers of the trained model.

Golden rows, with what the trained model says about them, ship inside the export
together with a program that replays them. The gate runs that program in a fresh
process that knows the format's own library and not kerastrain.
"""

import contextlib
import importlib
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastrain.decision import rule_of
from kerastrain.errors import ParityError
from kerastrain.exports import EXPORTS
from kerastrain.schema import Schema
from kerastrain.store import write_json, write_text

__all__ = ["export_verified", "golden_cases", "verify"]

# Worst seen over formats and models: 1.6e-6 of the largest output. See the findings
# on batch size: even in one process the last bits depend on it.
TOLERANCE = 1e-5
# Layers of 16 bits round after each operation, and a saved graph fuses other operations
# than a call in Python does: 3.2e-5 was seen after two epochs on penguins.
TOLERANCES = {"float16": 2e-3, "bfloat16": 2e-2}
MAX_ROWS = 256
_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "PYTHONDONTWRITEBYTECODE": "1",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # this process holds memory there too
}
EXTREMES = (math.nan, 0.0, -0.0, 1e30, -1e30, 1e-30, math.inf, -math.inf)
TEXTS = ("", "never seen before", "N/A", "  ", "Ünïcödé ☃", "0", "-1", "2024-02-30")

Raw = Mapping[str, np.ndarray]


_LIMIT_S = 900


def golden_cases(model: keras.Model, schema: Schema, raw: Raw) -> dict[str, Any]:
    """Inputs and what the model says about them, as JSON types.

    Args:
        raw: real rows, by input name: float32 or texts, `(rows,)` each. Rows that are
            missing, unseen, empty or extreme in every column are added, and one of
            the rows is a batch of its own.
    """
    rows = {
        column.input: _with_hard_rows(raw[column.input][:MAX_ROWS], column.dtype)
        for column in schema.features
    }
    one = {name: values[:1] for name, values in rows.items()}
    tolerance = _tolerance(model)
    with _full_float32():
        cases = [_case(model, rows, tolerance), _case(model, one, tolerance)]
    largest = max(
        (np.abs(np.asarray(c["outputs"]["prediction"], "float64")).max(initial=1.0))
        if schema.target is not None and schema.target.task == "regression"
        else 1.0
        for c in cases
    )
    return {"tolerance": tolerance * max(1.0, float(largest)), "cases": cases}


@contextlib.contextmanager
def _full_float32() -> Iterator[None]:
    """Without TensorFloat-32, whose 10 bits of mantissa a CPU would not repeat."""
    was = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(was)


def _tolerance(model: keras.Model) -> float:
    """By the least precise layer, however deep it sits, and the steepest at the end."""
    dtypes = {layer.compute_dtype for layer in model._flatten_layers()}
    # A steep layer of `layers_decision` makes the differences before it larger.
    steepest = max(getattr(layer, "steepness", 1.0) for layer in model.layers)
    return max(1.0, steepest) * max(TOLERANCES.get(d, TOLERANCE) for d in dtypes)


def _with_hard_rows(values: np.ndarray, dtype: str) -> np.ndarray:
    hard: tuple = EXTREMES if dtype == "float32" else TEXTS
    kind = "float32" if dtype == "float32" else object
    return np.concatenate([np.asarray(values, kind), np.asarray(hard, kind)])


def _case(model: keras.Model, rows: Raw, tolerance: float) -> dict[str, Any]:
    dtypes = {
        name: "string" if v.dtype == object else "float32" for name, v in rows.items()
    }
    feed = {name: tf.constant(values, dtypes[name]) for name, values in rows.items()}
    outputs = {
        name: value.numpy() for name, value in model(feed, training=False).items()
    }
    num_rows = len(next(iter(rows.values())))
    return {
        "num_rows": num_rows,
        "inputs": {
            name: {"dtype": dtypes[name], "values": _plain(values)}
            for name, values in rows.items()
        },
        "outputs": {name: _plain(values) for name, values in outputs.items()},
        "is_sure": _is_sure(model, outputs.get("probabilities"), num_rows, tolerance),
    }


def _plain(values: np.ndarray) -> list:
    """As JSON has it: NaN is null, and 1e39 is what float32 takes for infinite."""
    if values.dtype == object:
        return [v.decode("utf-8") if isinstance(v, bytes) else v for v in values]
    wide = np.clip(values.astype("float64"), -1e39, 1e39).astype(object)
    wide[np.isnan(values)] = None
    return wide.tolist()


def _is_sure(
    model: keras.Model,
    probabilities: np.ndarray | None,
    num_rows: int,
    tolerance: float,
) -> list[bool]:
    """False where two labels tie within the tolerance: either is right."""
    rule = rule_of(model)
    if rule is None or probabilities is None or probabilities.shape[1] < 2:
        return [True] * num_rows
    return [bool(margin > tolerance) for margin in rule.margins(probabilities)]


def export_verified(
    name: str, model: keras.Model, folder: Path, golden: dict[str, Any], **options: Any
) -> tuple[Path, dict[str, Any]]:
    """Write `model` in a format of `EXPORTS` under `folder` and replay golden rows.

    Returns:
        The path, and what `verify` found.

    Raises:
        ParityError: the export does not give the model's numbers.
    """
    options = EXPORTS.check(name, options, path="exports")
    path = EXPORTS.load(name)(model, folder, **options)
    return path, verify(name, path, golden)


def verify(name: str, path: Path, golden: dict[str, Any]) -> dict[str, Any]:
    """Put golden rows and self-test into an export and run it in a fresh process.

    Returns:
        `max_difference`, `tolerance`, `rows`, `wrong_labels`.

    Raises:
        ParityError: a prediction differs, or the export cannot be loaded.
    """
    write_json(path / "golden.json", golden)
    module = importlib.import_module(EXPORTS[name].partition(":")[0])
    write_text(path / "selftest.py", module.SELF_TEST)
    try:
        result = subprocess.run(
            [sys.executable, "selftest.py"],
            cwd=path,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LIMIT_S,
            env=os.environ | _ENVIRONMENT,
        )
    except subprocess.TimeoutExpired:
        raise ParityError(
            f"The {name} export in {path} gave no answer within {_LIMIT_S} s."
        ) from None
    try:
        outcome = json.loads(result.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        reason = _reason(result.stderr)
        raise ParityError(
            f"The {name} export in {path} cannot be loaded: {reason}"
        ) from None
    if not outcome.pop("passed"):
        raise ParityError(
            f"The {name} export in {path} differs from the trained model by up to "
            f"{outcome['max_difference']:.2g} (tolerance {outcome['tolerance']:.2g}), "
            f"with {outcome['wrong_labels']} other labels, on {outcome['rows']} golden "
            "rows. Do not use it; python selftest.py in its folder repeats the check."
        )
    return outcome


def _reason(stderr: str) -> str:
    """The line of a traceback that names the error; else the last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    return (named or lines or ["no output"])[-1]
