"""RealMLP-TD: a feed-forward network whose recipe was tuned over many data sets."""

from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np

from kerastrain.features import Features
from kerastrain.layers import CategoryEmbedding, RobustScale, SmoothClip
from kerastrain.nets.fading import FadingDropout
from kerastrain.nets.realmlp_layers import (
    PBLD,
    Clamp,
    FrontScale,
    LogitOfTwo,
    NTKDense,
    ParametricActivation,
    SmallOneHot,
    TakeColumns,
)

__all__ = ["realmlp", "recipe"]


def realmlp(
    features: Features,
    *,
    widths: Sequence[int] = (256, 256, 256),
    dropout: float = 0.15,
    activation: Literal["auto", "selu", "mish", "relu", "gelu", "silu"] = "auto",
    is_regression: bool = False,
    frequency_scale: float = 0.1,
    max_one_hot: int = 8,
    embedding_dim: int = 8,
) -> Any:
    """RealMLP-TD: waves of numbers, learnt scales, and a start made to the data.

    Args:
        widths: units of each hidden layer.
        dropout: share of units dropped in the first half of training; it then fades.
        activation: `auto` is selu for classes and mish for numbers.
        is_regression: the target is a number, whose predictions stay in its range;
            set by the recipe.
        frequency_scale: standard deviation of the initial frequencies of the waves.
        max_one_hot: known values up to which a column of categories is one-hot.
        embedding_dim: length of the vector of a category of other columns.

    Reference: Holzmüller et al. 2024, "Better by default", arXiv 2407.04491, and their
    package pytabkit. DIFFERS: missing numbers get the median and an indicator, as in
    AutoGluon, but for the mean there; the vector of missing categories starts at 0.
    """
    if activation == "auto":
        activation = "mish" if is_regression else "selu"
    x = _columns(features, frequency_scale, max_one_hot, embedding_dim)
    x = FrontScale(name="front_scale")(x)
    for number, width in enumerate(widths, 1):
        x = NTKDense(width, name=f"hidden_{number}")(x)
        x = ParametricActivation(activation, name=f"activation_{number}")(x)
        x = FadingDropout(dropout, name=f"dropout_{number}")(x)
    return _outputs(x, features.num_outputs, is_regression)


def recipe(task: str, num_rows: int) -> dict[str, Any]:
    """How the authors train it.

    DIFFERS: labels are not smoothed, since that is off for log loss and AUC; batches
    grow from 30,000 rows on, as in TabArena; the last, smaller batch of an epoch is
    used; of tied epochs the first is kept.
    """
    is_regression = task == "regression"
    sizes = [size for rows, size in ((30_000, 256), (100_000, 512)) if num_rows <= rows]
    return {
        "model": {"is_regression": is_regression},
        "optimizer": {
            "name": "adam",
            "learning_rate": 0.2 if is_regression else 0.04,
            "weight_decay": 0.02,
            "decay_schedule": "flat_cos",
            "clip_norm": None,
            "beta_1": 0.9,
            "beta_2": 0.95,
            "epsilon": 1e-8,
        },
        "schedule": {"name": "coslog4"},
        "fit": {
            "epochs": 256,
            "batch_size": sizes[0] if sizes else 1_024,
            "patience": None,
        },
    }


def _columns(features: Features, scale: float, max_one_hot: int, dim: int) -> Any:
    """All columns side by side: numbers in waves, one-hots, vectors of categories."""
    parts = []
    if features.numbers is not None:
        numbers = features.scaled_numbers(squash="clip")
        parts.append(PBLD(sigma=scale, name="pbld")(numbers))
        missing = features.missing_indicators()
        parts += [] if missing is None else [_scaled(missing, features)]
    sizes = features.vocabulary_sizes
    most = max_one_hot + 2  # beside missing and rare
    few = [column for column, size in enumerate(sizes) if size <= most]
    many = [column for column, size in enumerate(sizes) if size > most]
    if few:
        hot = SmallOneHot([sizes[column] for column in few], name="one_hot")
        parts.append(hot(TakeColumns(few)(features.codes)))
    if many:
        chosen = [sizes[column] for column in many]
        vectors = CategoryEmbedding(chosen, dim, scale=1.0, name="embedding")
        parts.append(vectors(TakeColumns(many)(features.codes)))
    return parts[0] if len(parts) == 1 else keras.layers.Concatenate()(parts)


def _scaled(missing: Any, features: Features) -> Any:
    """Indicators centred, scaled and clipped as one-hots are."""
    share = features.statistics.missing
    share = share[share > 0]
    is_spread = (share > 0.25) & (share < 0.75)
    factor = np.where(share < 1, np.where(is_spread, 1.0, 2.0), 0.0)
    center = (share > 0.5).astype(float)
    return SmoothClip()(RobustScale(center.tolist(), factor.tolist())(missing))


def _outputs(x: Any, num_outputs: int, is_regression: bool) -> Any:
    """Logits or a standardised value; a last layer called "outputs" is its own head."""
    if is_regression:
        value = NTKDense(num_outputs, dtype="float32", name="last")(x)
        return Clamp(name="outputs")(value)
    if num_outputs == 1:
        scores = NTKDense(2, dtype="float32", name="last")(x)
        return LogitOfTwo(name="outputs")(scores)
    return NTKDense(num_outputs, dtype="float32", name="outputs")(x)
