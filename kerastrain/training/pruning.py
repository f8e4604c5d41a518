"""Members of a network that are kept after training: those that are best together."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kerastrain.events import note
from kerastrain.nets.members import BestMembers, MeanOfMembers
from kerastrain.objective import Objective
from kerastrain.pipeline import Rows

__all__ = ["chosen_members", "pruned", "with_members"]

# Rows that are asked at most: 50,000 of 32 members are 6 MB, and tell losses apart to
# half a percent.
_MAX_ROWS = 50_000


def pruned(
    numeric: keras.Model, core: keras.Model, rows: Rows, objective: Objective
) -> keras.Model:
    """`numeric` with its best members alone, where it says that some are to go.

    They are taken out, not switched off: the model is as much smaller and faster.

    Args:
        core: that part of it that was trained.
        rows: validation rows, as the core takes them.
    """
    marks = [layer for layer in numeric.layers if isinstance(layer, BestMembers)]
    if not marks or not len(rows):
        return numeric
    rows = rows.at_most(_MAX_ROWS)
    answers = _answers(_apart(core), rows, objective)
    counts = rows.weights if rows.weights.any() else None
    loss = _loss_of(objective, rows.targets, counts)
    chosen = chosen_members(answers, loss, marks[0].most)
    before, after = loss(answers.mean(axis=1)), loss(answers[:, chosen].mean(axis=1))
    details = {"members": chosen, "loss_before": before, "loss_after": after}
    k = answers.shape[1]
    if after > before or len(chosen) == k:
        note("members_kept", f"All {k} members are kept: fewer are worse.", **details)
        return numeric
    note(
        "members_pruned",
        f"{len(chosen)} of {k} members are kept. Together their loss on validation "
        f"rows is {after:.5g}; that of all is {before:.5g}.",
        **details,
    )
    return with_members(numeric, chosen)


def _apart(core: keras.Model) -> keras.Model:
    """Inputs of the core to the outputs of its members."""
    # In Keras 3.15 the core has nodes of its own, which no public attribute gives.
    nodes = [node for found in core._nodes_by_depth.values() for node in found]
    means = [node for node in nodes if isinstance(node.operation, MeanOfMembers)]
    return keras.Model(core.inputs, means[0].input_tensors[0])


def _answers(members: keras.Model, rows: Rows, objective: Objective) -> np.ndarray:
    """What each member says of each row: its value, or how probable it holds the true
    class, float32 `(rows, k)`. Their mean is what all say together."""
    found = []
    for piece, inputs in zip(rows.pieces(4_096), rows.chunks(4_096), strict=True):
        outputs = keras.ops.convert_to_numpy(members([*inputs.values()]))
        if objective.task == "regression":
            found.append(outputs[:, :, 0])
            continue
        if objective.task == "binary":
            outputs = np.concatenate([np.zeros_like(outputs), outputs], axis=2)
        targets = rows.target[rows.index[piece]]
        exponent = np.exp(outputs - outputs.max(axis=2, keepdims=True))
        true = np.take_along_axis(exponent, targets[:, None, None], axis=2)[:, :, 0]
        found.append(true / exponent.sum(axis=2))
    return np.concatenate(found)


def _loss_of(objective: Objective, targets: np.ndarray, weight: Any) -> Any:
    """Mean answers `(rows,)` to their loss: log loss, whatever loss of classes was
    trained by."""
    if objective.task != "regression":
        return lambda true: float(
            np.average(-np.log(np.maximum(true, 1e-30)), weights=weight)
        )
    row_loss = objective.row_loss()
    return lambda values: float(
        np.average(np.asarray(row_loss(targets, values[:, None])), weights=weight)
    )


def chosen_members(answers: np.ndarray, loss: Any, most: int) -> list[int]:
    """Members, `most` at most, that are best together: each in turn is the one whose
    answer lowers the loss of the mean most. The best of the sets on the way is taken.

    Args:
        answers: of each member, `(rows, k)`.
        loss: a mean answer `(rows,)` to a number.
    """
    total = np.zeros(len(answers))
    left, losses = list(range(answers.shape[1])), []
    order: list[int] = []
    while left and len(order) < most:
        tried = [loss((total + answers[:, one]) / (len(order) + 1)) for one in left]
        best = int(np.argmin(tried))
        losses.append(tried[best])
        order.append(left.pop(best))
        total += answers[:, order[-1]]
    return sorted(order[: int(np.argmin(losses)) + 1])


def with_members(model: keras.Model, members: Sequence[int]) -> keras.Model:
    """A copy of `model`, weights included, that has these members alone.

    Layers with members say how many by `k` in their configuration, or take it from
    their input; in their weights members come first.
    """

    def copy(layer: Any) -> Any:
        config = layer.get_config()
        if "k" in config:
            config["k"] = len(members)
        return type(layer).from_config(config)

    smaller = keras.models.clone_model(model, clone_function=copy)
    for old, new in zip(model.layers, smaller.layers, strict=True):
        weights = zip(old.get_weights(), new.get_weights(), strict=True)
        new.set_weights([a if a.shape == b.shape else a[members] for a, b in weights])
    return smaller
