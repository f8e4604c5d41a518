"""What layers take from the train rows before the first step."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kerastrain.pipeline import Rows

__all__ = ["follow_progress", "initialise"]

# Enough for a spread to 1 %; all of 200,000 rows would take ten times as long.
_MAX_ROWS = 20_000


def initialise(core: keras.Model, rows: Rows) -> None:
    """Call `initialise(inputs, targets, random)` of the layers that have it, in order.

    Each sees what those before it give, now that they are initialised. Chance comes
    from Keras' global seed. What has been trained before is put back afterwards, by
    whoever resumes it.

    Args:
        core: layers below nested models are not looked at.
        rows: to train on; at most 20,000 of them, evenly spaced, are inputs, but all
            their targets are given.
    """
    if not any(hasattr(layer, "initialise") for layer in core.layers):
        return
    seed = int(ops.convert_to_numpy(keras.random.randint((), 0, 2**31 - 1)))
    random = np.random.default_rng(seed)
    sample = rows.at_most(_MAX_ROWS)
    values = [ops.convert_to_tensor(a[sample.index]) for a in sample.inputs.values()]
    live = {id(t): value for t, value in zip(core.inputs, values, strict=True)}
    # In Keras 3.15 only a private attribute knows the calls of layers in their order.
    depths = sorted(core._nodes_by_depth.items(), reverse=True)
    for call in [node for _, nodes in depths for node in nodes if not node.is_input]:
        args, options = call.arguments.fill_in(live)
        if hasattr(call.operation, "initialise"):
            call.operation.initialise(args[0], rows.targets, random)
        outputs = keras.tree.flatten(call.operation(*args, **options))
        live |= dict(zip(map(id, call.outputs), outputs, strict=True))


def follow_progress(core: keras.Model, optimizer: Any, num_steps: int) -> None:
    """Tell the layers that go by it how far training is: `progress` of each.

    It reads the optimiser's counter when it is called, in the compiled step too, so
    that a resumed training is as far as the one before.
    """

    def progress() -> Any:
        done = ops.cast(optimizer.iterations, "float32")
        return ops.minimum(done / max(1, num_steps), 1.0)

    for layer in core.layers:
        if hasattr(layer, "progress"):
            layer.progress = progress
