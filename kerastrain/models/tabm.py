"""TabM: many networks in one, trained side by side."""

from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kerastrain.features import Features
from kerastrain.layers import CategoryEmbedding, Impute
from kerastrain.nets.members import (
    BestMembers,
    LinearBatchEnsemble,
    MemberScale,
    SharedDense,
    Start,
)
from kerastrain.nets.piecewise import OneHotCodes, PiecewiseLinearEmbedding, bin_edges
from kerastrain.nets.quantile import QuantileNormal
from kerastrain.nets.realmlp_layers import TakeColumns

__all__ = ["recipe", "tabm"]

MAX_ONE_HOT = 50  # codes


def tabm(
    features: Features,
    *,
    arch: Literal["tabm", "tabm-mini"] = "tabm-mini",
    k: int = 32,
    widths: Sequence[int] | None = None,
    dropout: float = 0.1,
    bins: int = 48,
    embedding_dim: int = 16,
    prune: int = 0,
) -> Any:
    """TabM: many small networks that share most weights, and the mean of them.

    Args:
        arch: `tabm-mini` gives each member scales of its own for the inputs alone,
            `tabm` in every layer too.
        k: members. The time of a step grows with it.
        widths: units of each hidden layer; null is two of 512, or three where numbers
            are not embedded.
        dropout: share of units dropped after each hidden layer.
        bins: of each number, for its vector; 0 gives numbers as they are.
        embedding_dim: length of the vector of a number or a category.
        prune: members that are kept at most after training, those that are best
            together on validation rows; 0 keeps all.

    Reference: Gorishniy et al. 2025, "TabM", arXiv 2410.24210; defaults as in TabArena.
    DIFFERS: all members see the same batch, as the authors advise (TabArena draws one
    for each); missing numbers get the median; rare categories are a category of their
    own, and columns of more than 50 have a learnt vector: one-hot they would be wider
    than all else.
    """
    x, chunks, is_embedded = _columns(features, bins, embedding_dim)
    start: Start = "normal" if is_embedded else "signs"
    if arch == "tabm-mini":
        x = MemberScale(k, start, chunks, name="member_scale")(x)
    for number, width in enumerate(widths or [512] * (2 if is_embedded else 3)):
        if arch == "tabm-mini":
            layer = SharedDense(width, name=f"block_{number + 1}")
        else:
            first: tuple[Start, list[int]] = ("ones", []) if number else (start, chunks)
            layer = LinearBatchEnsemble(width, k, *first, name=f"block_{number + 1}")
        x = keras.layers.Activation("relu")(layer(x))
        if dropout:
            x = keras.layers.Dropout(dropout)(x)
    return BestMembers(prune, name="best_members")(x) if prune else x


def recipe(task: str, num_rows: int) -> dict[str, Any]:
    """How it is trained unless told otherwise: as in TabArena.

    DIFFERS: 200 epochs at most; the gradient is really clipped, as the paper does.
    """
    sizes = ((2_800, 32), (4_500, 64), (6_400, 128), (32_000, 256), (108_000, 512))
    fitting = [size for rows, size in sizes if num_rows < rows]
    return {
        "optimizer": {
            "name": "adamw",
            "learning_rate": 2e-3,
            "weight_decay": 3e-4,
            "epsilon": 1e-8,
            "clip_norm": 1.0,
        },
        "schedule": {"name": "constant"},
        "fit": {
            "batch_size": fitting[0] if fitting else 1_024,
            "epochs": 200,
            "patience": 16,
        },
    }


def _columns(
    features: Features, bins: int, embedding_dim: int
) -> tuple[Any, list[int], bool]:
    """All columns side by side, the width of each, and whether numbers are embedded."""
    parts: list[tuple[Any, list[int]]] = []
    is_embedded = features.numbers is not None and bins > 0
    if features.numbers is not None:
        parts.append(_numbers(features, bins, embedding_dim))
        gaps = features.missing_indicators()
        if gaps is not None:
            parts.append((gaps, [1] * gaps.shape[-1]))
    if features.codes is not None:
        parts += _categories(features, embedding_dim)
    tensors = [tensor for tensor, _ in parts]
    x = tensors[0] if len(tensors) == 1 else keras.layers.Concatenate()(tensors)
    return x, [width for _, widths in parts for width in widths], is_embedded


def _numbers(features: Features, bins: int, dim: int) -> tuple[Any, list[int]]:
    """Normal by rank, then vectors; as many quantiles as the authors take."""
    statistics = features.statistics
    num_columns = len(statistics.median)
    num_knots = int(np.clip(statistics.num_rows // 30, 10, 1_000))
    normal = QuantileNormal.of(statistics.quantiles_at(np.linspace(0, 1, num_knots)))
    x = normal(Impute(statistics.median.tolist())(features.numbers))
    if not bins:
        return x, [1] * num_columns
    # Fewer bins than rows, else there are rows with a bin of their own.
    num_bins = max(1, min(bins, statistics.num_rows - 1))
    quantiles = statistics.quantiles_at(np.linspace(0, 1, num_bins + 1))
    edges = bin_edges(ops.convert_to_numpy(normal(quantiles.T)).T)
    embedded = PiecewiseLinearEmbedding.of(edges, dim, name="number_embedding")(x)
    return keras.layers.Flatten()(embedded), [dim] * num_columns


def _categories(features: Features, dim: int) -> list[tuple[Any, list[int]]]:
    """One-hot, but for columns of many codes, which get vectors."""
    sizes = features.vocabulary_sizes
    few = [column for column, size in enumerate(sizes) if size <= MAX_ONE_HOT]
    many = [column for column, size in enumerate(sizes) if size > MAX_ONE_HOT]
    parts = []
    if few:
        chosen = [sizes[column] for column in few]
        hot = OneHotCodes(chosen, name="one_hot")(TakeColumns(few)(features.codes))
        parts.append((hot, [size - 1 for size in chosen]))
    if many:
        layer = CategoryEmbedding([sizes[column] for column in many], dim)
        parts.append((layer(TakeColumns(many)(features.codes)), [dim] * len(many)))
    return parts
