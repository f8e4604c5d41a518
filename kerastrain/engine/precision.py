"""The precision of a model that is built already, and what it costs in its outputs."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

from kerastrain.layers import Exact
from kerastrain.pipeline import Rows, outputs_of

__all__ = [
    "Difference",
    "Precision",
    "compare_precisions",
    "in_precision",
    "set_precision",
]

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]


def set_precision(model: keras.Model, policy: Precision) -> None:
    """Let every layer of a built model, nested ones too, compute in a precision.

    Weights are float32 under each of them and do not change. What is float32 on purpose
    stays so: layers that give an output of the model (the head), `Exact` layers, and
    in a model of mixed precision all that are float32 beside them.

    Functions that were traced before go on as they were: trace them again
    (`engine.retrace()`). Loss scaling is chosen when a model is compiled: `prepare` it
    again after a change to or from `mixed_float16`.

    Args:
        model: a functional model; layers that it shares with others change there too.
    """
    layers = list(_following(model))
    for layer in layers:
        layer.dtype_policy = policy
    _remember(model, layers)


@contextlib.contextmanager
def in_precision(model: keras.Model, policy: Precision) -> Iterator[None]:
    """Inside the block the model computes in `policy`."""
    before = [(layer, layer.dtype_policy) for layer in _following(model)]
    try:
        for layer, _ in before:
            layer.dtype_policy = policy
        yield
    finally:
        for layer, old in before:
            layer.dtype_policy = old


def _following(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Layers whose precision is that of the run."""
    known = getattr(model, "_kerastrain_following", None)
    if known is not None:
        yield from known.layers
        return
    layers = list(model._flatten_layers())
    mixed = [layer for layer in layers if layer.compute_dtype != layer.variable_dtype]
    yield from mixed or _not_on_purpose(model, layers)


def _not_on_purpose(model: keras.Model, layers: list) -> Iterator[keras.layers.Layer]:
    heads = {id(tensor) for tensor in model.outputs}
    nodes = [node for each in model._nodes_by_depth.values() for node in each]
    kept: set[int] = set()
    for node in nodes:
        is_head = any(id(tensor) in heads for tensor in node.output_tensors)
        if is_head and isinstance(node.operation, keras.layers.Layer):
            kept |= {id(layer) for layer in node.operation._flatten_layers()}
    for layer in layers:
        is_float = keras.backend.is_float_dtype(layer.compute_dtype)
        if id(layer) not in kept and is_float and not isinstance(layer, Exact):
            yield layer


@dataclass
class _Following:
    """An object of its own, because Keras tracks lists of layers as attributes."""

    layers: list


def _remember(model: keras.Model, layers: list) -> None:
    """In float32 it cannot be seen any more which layers were mixed."""
    object.__setattr__(model, "_kerastrain_following", _Following(layers))


@dataclass(frozen=True)
class Difference:
    """How far outputs in a precision lie from those in float32.

    Args:
        mean: absolute difference over the spread of the float32 outputs.
        maximum: the largest one, likewise.
        spread: standard deviation of the float32 outputs over the rows.
    """

    mean: float
    maximum: float
    spread: float


def compare_precisions(model: keras.Model, rows: Rows) -> Difference:
    """Outputs of `rows` as the model computes them now against float32.

    Each is computed without a traced function. Afterwards all is as it was.
    """
    found = _outputs(model, rows)
    with in_precision(model, "float32"):
        exact = _outputs(model, rows)
    spread = float(exact.std(axis=0, dtype="float64").mean())
    off = np.abs(found - exact) / max(spread, np.finfo("float32").tiny)
    return Difference(float(off.mean()), float(off.max()), spread)


def _outputs(model: keras.Model, rows: Rows) -> np.ndarray:
    def forward(x: Any) -> Any:
        inputs = keras.tree.pack_sequence_as(model.input, list(x.values()))
        return keras.ops.cast(model(inputs, training=False), "float32")

    return outputs_of(forward, rows, model.output_shape[-1])
