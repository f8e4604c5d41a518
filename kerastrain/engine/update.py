"""What becomes of the gradient of a step: summed over devices, clipped, applied."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from kerastrain.engine.gradients import Clipping

__all__ = ["summed", "sums", "update"]


def update(
    optimizer: keras.optimizers.Optimizer,
    weights: Sequence[Any],
    gradients: Sequence[Any],
    loss: tf.Tensor,
    clipping: Clipping,
    *,
    moves: tf.Tensor | None = None,
    keeps_norms: bool = False,
) -> tuple[tf.Tensor, ...]:
    """Sum over devices, clip, update; in a replica context.

    Gradients are made dense first: Adam squares each slice of an embedding's
    gradient by itself, so a code that occurs twice in a batch would count as
    g1^2 + g2^2 where (g1 + g2)^2 is right.

    Args:
        gradients: of the weights, this device's part; None where there is none.
        loss: this device's part.
        moves: 0 for each weight that is frozen, else 1.
        keeps_norms: norms of single gradients are asked for.

    Returns:
        Whether loss and gradient are finite, the norm of the gradient, and norms of
        those of the weights (else 0).
    """
    context = tf.distribute.get_replica_context()
    places = [i for i, gradient in enumerate(gradients) if gradient is not None]
    dense = [tf.convert_to_tensor(gradients[i]) for i in places]
    num_replicas = context.num_replicas_in_sync
    if num_replicas > 1:
        *dense, loss = context.all_reduce("SUM", [*dense, loss])
    if moves is not None:  # what is frozen must not fill moments and norms
        dense = [g * moves[i] for g, i in zip(dense, places, strict=True)]
    scale = optimizer.scale_loss(tf.constant(1.0))
    norm = tf.linalg.global_norm(dense) / scale
    is_finite = tf.math.is_finite(norm) & tf.math.is_finite(loss)
    norms = tf.stack([tf.norm(g) for g in dense]) / scale if keeps_norms else 0
    dense = clipping(dense, scale)
    if num_replicas > 1:  # the optimizer sums over devices once more
        dense = [gradient / num_replicas for gradient in dense]
    optimizer.apply_gradients(zip(dense, [weights[i] for i in places], strict=True))
    return is_finite, norm, norms


def sums(totals: list | None, gradients: Sequence[Any]) -> list:
    """Entry by entry, dense; None where there is no gradient."""
    dense = [None if g is None else tf.convert_to_tensor(g) for g in gradients]
    if totals is None:
        return dense
    return [
        b if a is None else a if b is None else a + b
        for a, b in zip(totals, dense, strict=True)
    ]


# Parts that stand in the graph one after the other; a graph of 1,000 of them takes
# minutes and gigabytes to trace.
MAX_UNROLLED = 4


def summed(
    part_of: Callable[[Any], tuple[tf.Tensor, Sequence[Any]]],
    num_parts: int,
    *,
    unrolled: bool = False,
) -> tuple[tf.Tensor, list]:
    """Losses and gradients of all parts of a step, one part in memory at a time.

    Args:
        part_of: number of a part to its loss and gradients.
        unrolled: without a loop in the graph.
    """
    loss, first = part_of(0)
    total = sums(None, first)
    if unrolled or num_parts <= MAX_UNROLLED:
        for part in range(1, num_parts):
            # One after the other, or all parts would be in memory at once.
            with tf.control_dependencies([g for g in total if g is not None]):
                more, gradients = part_of(tf.constant(part))
            loss, total = loss + more, sums(total, gradients)
        return loss, total
    places = [i for i, gradient in enumerate(total) if gradient is not None]

    def add(part: Any, loss: Any, held: Any) -> tuple:
        more, gradients = part_of(part)
        dense = [tf.convert_to_tensor(gradients[i]) for i in places]
        return part + 1, loss + more, [a + b for a, b in zip(held, dense, strict=True)]

    _, loss, held = tf.while_loop(
        lambda part, *_: part < num_parts,
        add,
        [tf.constant(1), loss, [total[i] for i in places]],
        parallel_iterations=1,
    )
    for place, gradient in zip(places, held, strict=True):
        total[place] = gradient
    return loss, total
