"""Clean columns as the networks of this folder's layers want them."""

from typing import Any, Literal

import keras
import numpy as np

from kerastrain.features import Features
from kerastrain.layers import Impute
from kerastrain.nets.periodic import PeriodicEmbedding
from kerastrain.nets.quantile import QuantileNormal

__all__ = ["Scaling", "flat_columns", "normal_numbers", "scaled_numbers"]

Scaling = Literal["normal", "log", "clip"]


def normal_numbers(features: Features) -> Any:
    """Numbers imputed by medians, then normal by their rank: `(batch, n)`.

    As many quantiles as Gorishniy et al. 2021 take: one for 30 rows, 10 at least and
    1,000 at most.
    """
    statistics = features.statistics
    num_knots = int(np.clip(statistics.num_rows // 30, 10, 1_000))
    quantiles = statistics.quantiles_at(np.linspace(0, 1, num_knots))
    imputed = Impute(statistics.median.tolist())(features.numbers)
    return QuantileNormal.of(quantiles)(imputed)


def scaled_numbers(features: Features, scaling: Scaling) -> Any:
    """Numbers without gaps, of about unit spread: `(batch, n)`."""
    if scaling == "normal":
        return normal_numbers(features)
    return features.scaled_numbers(squash=scaling)


def flat_columns(
    features: Features,
    *,
    scaling: Scaling,
    embedding_dim: int = 8,
    frequencies: int = 0,
    frequency_scale: float = 0.01,
) -> Any:
    """All columns as one float matrix: numbers, indicators of gaps, categories.

    Args:
        scaling: of the numbers.
        embedding_dim: length of the vector of a category.
        frequencies: of a `PeriodicEmbedding` of the numbers; 0 leaves them as they are.
        frequency_scale: of its initial frequencies.
    """
    parts = []
    if features.numbers is not None:
        numbers = scaled_numbers(features, scaling)
        if frequencies:
            waves = PeriodicEmbedding(
                num_frequencies=frequencies, scale=frequency_scale
            )
            numbers = keras.layers.Flatten()(waves(numbers))
        parts = [numbers, features.missing_indicators()]
    if features.codes is not None:
        parts.append(features.embedded_codes(dim=embedding_dim))
    parts = [part for part in parts if part is not None]
    return parts[0] if len(parts) == 1 else keras.layers.Concatenate()(parts)
