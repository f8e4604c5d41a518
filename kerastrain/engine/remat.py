"""Activations computed again in the backward pass, so that few are kept.

Chen et al. 2016, "Training deep nets with sublinear memory cost". Keras' own
(`keras.remat`, `RematScope`) draws other dropout masks when it computes again, moves
the statistics of batch normalisation twice, and fails inside of `fit`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from kerastrain.errors import ConfigError

__all__ = ["recomputed"]

Results = tuple[Any, list[tf.Tensor]]


def recomputed(
    model: keras.Model, num_segments: int | None = None
) -> Callable[..., Results]:
    """`model` as a function that keeps only what crosses from segment to segment.

    It is called as `(inputs, training=True)`, in a replica context, and gives the
    outputs and what `model.losses` would give: losses that layers add, and those of
    regularised weights. Seeds of dropout and moving statistics move once, as in
    `model(inputs, training=True)`, of which losses and gradients are those.

    A segment runs on the values of all variables as they were before it, so the second
    time it computes the same; new values are assigned when all segments have run.

    Args:
        model: a functional model; a nested model is one call of a layer.
        num_segments: by default the square root of the number of calls of layers.
    """
    segments = _segments(model, num_segments)

    def run(inputs: Any, training: bool = True) -> Results:
        live = {
            id(spec): keras.ops.convert_to_tensor(value, dtype=spec.dtype)
            for spec, value in zip(
                model.inputs, keras.tree.flatten(inputs), strict=True
            )
        }
        states = {id(v): _now(v) for segment in segments for v in segment.states}
        before = dict(states)
        losses: list[tf.Tensor] = []
        for segment in segments:
            # What the last one computes is needed at once: nothing would be saved.
            is_plain = segment is segments[-1] or not segment.gives_floats
            call = segment.run if is_plain else segment.recompute
            found = call(live, states, training)
            live |= found.tensors
            states |= found.states
            losses += found.losses
        for variable in {id(v): v for s in segments for v in s.states}.values():
            if states[id(variable)] is not before[id(variable)]:
                variable.assign(states[id(variable)])
        weights = [w for w in model.trainable_weights if w.regularizer is not None]
        losses += [weight.regularizer(weight) for weight in weights]
        outputs = [live[id(tensor)] for tensor in model.outputs]
        return keras.tree.pack_sequence_as(model.output, outputs), losses

    return run


def _now(variable: keras.Variable) -> tf.Tensor:
    """Its value; of a mirrored variable, that on this device."""
    return tf.convert_to_tensor(variable.value)


# --- segments -----------------------------------------------------------------------

Tensors = dict[int, tf.Tensor]  # by the id of a Keras tensor or variable


@dataclass
class _Found:
    """What a segment has computed."""

    tensors: Tensors = field(default_factory=dict)
    states: Tensors = field(default_factory=dict)
    losses: list[tf.Tensor] = field(default_factory=list)

    @property
    def floats(self) -> Tensors:
        """What has a gradient."""
        return {key: t for key, t in self.tensors.items() if t.dtype.is_floating}


@dataclass
class _Segment:
    """Consecutive calls of layers.

    Args:
        calls: in the order in which they run.
        given: tensors from before that they read.
        kept: tensors of theirs that are read later.
    """

    calls: Sequence[Any]
    given: Sequence[keras.KerasTensor]
    kept: Sequence[keras.KerasTensor]

    def __post_init__(self) -> None:
        layers = [c.operation for c in self.calls]
        layers = [each for each in layers if isinstance(each, keras.layers.Layer)]
        learnt = {id(v): v for each in layers for v in each.trainable_variables}
        states = {id(v): v for each in layers for v in each.non_trainable_variables}
        self.learnt = list(learnt.values())
        self.states = [v for key, v in states.items() if key not in learnt]
        self.gives_floats = any(
            keras.backend.is_float_dtype(tensor.dtype) for tensor in self.kept
        )

    def run(
        self,
        live: Tensors,
        states: Tensors,
        training: bool,
        weights: Sequence[tf.Tensor] | None = None,
    ) -> _Found:
        """Run the calls; no variable changes.

        Args:
            weights: values of `learnt`; by default those of now.
        """
        weights = [_now(v) for v in self.learnt] if weights is None else weights
        values = [
            *zip(self.learnt, weights, strict=True),
            *((v, states[id(v)]) for v in self.states),
        ]
        tensors = {id(tensor): live[id(tensor)] for tensor in self.given}
        with keras.StatelessScope(
            values, collect_losses=True, initialize_variables=False
        ) as scope:
            for call in self.calls:
                args, options = call.arguments.fill_in(tensors)
                if isinstance(call.operation, keras.layers.Layer):
                    options["training"] = training
                outputs = keras.tree.flatten(call.operation(*args, **options))
                tensors |= dict(zip(map(id, call.outputs), outputs, strict=True))
                self._refuse_hidden_state(scope, call.operation)
        return _Found(
            {id(tensor): tensors[id(tensor)] for tensor in self.kept},
            {id(v): scope.get_current_value(v) for v in self.states},
            [tf.cast(loss, tf.float32) for loss in scope.losses],
        )

    def recompute(self, live: Tensors, states: Tensors, training: bool) -> _Found:
        """The same, and once more when gradients are taken."""
        # As they are now: the dicts go on changing before the second run.
        live = {id(tensor): live[id(tensor)] for tensor in self.given}
        states = {id(v): states[id(v)] for v in self.states}
        given = [key for key, tensor in live.items() if tensor.dtype.is_floating]
        masks = [_mask_of(live[key]) for key in given]
        runs: list[tuple[Tensors, _Found]] = []

        def forward(*values: tf.Tensor) -> list[tf.Tensor]:
            again = dict(zip(given, values[: len(given)], strict=True))
            for tensor, mask in zip(again.values(), masks, strict=True):
                tensor._keras_mask = mask
            found = self.run(live | again, states, training, values[len(given) :])
            runs.append((again, found))
            return [*found.floats.values(), *found.losses]

        inputs = [live[key] for key in given]
        results = tf.recompute_grad(forward)(*inputs, *map(_now, self.learnt))
        # Whole numbers, masks and states have no gradient: those of the first run.
        again, found = runs[0]
        for key, tensor in again.items():  # attention takes the masks off its inputs
            live[key]._keras_mask = _mask_of(tensor)
        floats = found.floats
        for (key, first), tensor in zip(floats.items(), results, strict=False):
            tensor._keras_mask = _mask_of(first)
            found.tensors[key] = tensor
        found.losses = list(results[len(floats) :])
        return found

    def _refuse_hidden_state(self, scope: Any, operation: Any) -> None:
        known = {id(v) for v in (*self.learnt, *self.states)}
        if scope.state_mapping.keys() - known:
            raise ConfigError(
                f"fit.remat: the layer '{operation.name}' changes a variable that is "
                "not its own, as keras.random does without a seed. Give it a "
                "keras.random.SeedGenerator as an attribute, or leave remat off."
            )


def _mask_of(tensor: tf.Tensor) -> tf.Tensor | None:
    """What a layer that masks attached to its output."""
    return getattr(tensor, "_keras_mask", None)


def _segments(model: keras.Model, num_segments: int | None) -> list[_Segment]:
    # In Keras 3.15 only a private attribute knows every call of a shared layer.
    depths = sorted(model._nodes_by_depth.items(), reverse=True)
    calls = [node for _, nodes in depths for node in nodes if not node.is_input]
    count = min(num_segments or math.isqrt(len(calls)), len(calls))
    ends = [0, *_cuts(model, calls, count), len(calls)]
    segments = []
    for start, end in zip(ends, ends[1:], strict=False):
        inside = {id(t) for call in calls[start:end] for t in call.outputs}
        later = {id(t) for call in calls[end:] for t in call.input_tensors}
        later |= {id(tensor) for tensor in model.outputs}
        reads = [t for call in calls[start:end] for t in call.input_tensors]
        given = {id(t): t for t in reads if id(t) not in inside}
        kept = [t for c in calls[start:end] for t in c.outputs if id(t) in later]
        segments.append(_Segment(calls[start:end], list(given.values()), kept))
    return segments


def _cuts(model: keras.Model, calls: Sequence[Any], count: int) -> list[int]:
    """Where segments end: evenly, moved to where the least crosses."""
    last_use = {id(tensor): len(calls) for tensor in model.outputs}
    for place, call in enumerate(calls):
        for tensor in call.input_tensors:
            last_use[id(tensor)] = max(place, last_use.get(id(tensor), 0))

    def crossing(end: int) -> int:
        """Numbers per row that calls from `end` on read of what stands before."""
        tensors = [tensor for call in calls[:end] for tensor in call.outputs]
        live = [t for t in tensors if last_use.get(id(t), -1) >= end]
        return sum(math.prod(size or 1 for size in t.shape[1:]) for t in live)

    length = len(calls) / max(1, count)
    reach = int((length - 1) / 2)
    cuts = []
    for number in range(1, count):
        even = round(number * length)
        near = range(even - reach, even + reach + 1)
        cuts.append(min(near, key=lambda end: (crossing(end), abs(end - even))))
    return cuts
