"""DCN-V2: products of columns beside, or below, a deep network."""

from collections.abc import Sequence
from typing import Any, Literal

import keras

from kerastrain.features import Features
from kerastrain.nets.cross import Cross
from kerastrain.nets.inputs import flat_columns

__all__ = ["dcn_v2", "recipe"]


def dcn_v2(
    features: Features,
    *,
    structure: Literal["parallel", "stacked"] = "parallel",
    cross_layers: int = 3,
    rank: int | None = None,
    experts: int = 1,
    widths: Sequence[int] = (256, 256),
    dropout: float = 0.1,
    scaling: Literal["normal", "log", "clip"] = "normal",
) -> Any:
    """DCN-V2: cross layers that multiply columns, with a deep network.

    Reference: Wang et al. 2021, "DCN V2: improved deep & cross network", arXiv
    2008.13535, section 3. DIFFERS: smaller, and with dropout, for tables of less than
    the paper's tens of millions of rows.

    Args:
        structure: `parallel`, deep network and cross layers both on the columns; or
            `stacked`, the deep network on the cross layers.
        cross_layers: how many; one more makes products of one more column.
        rank: of the weights of a cross layer; null is full rank.
        experts: low-rank layers of which a cross layer is a mixture; needs `rank`.
        widths: units of each layer of the deep network.
        dropout: share of units dropped after each of them.
        scaling: of numbers: normal by their rank; or robustly, with the tails drawn in
            by a signed logarithm or clipped smoothly at three interquartile ranges.
    """
    columns = flat_columns(features, scaling=scaling)
    crossed = columns
    # Parallel by default, since products alone lose what is plain: the validation loss
    # after 12 epochs was 0.35 against 0.78 on letter, 0.25 against 0.32 on california,
    # 0.399 against 0.398 on telco_churn.
    for _ in range(cross_layers):
        crossed = Cross(rank, num_experts=experts)([columns, crossed])
    if structure == "stacked":
        return _deep(crossed, widths, dropout)
    deep = _deep(columns, widths, dropout)
    return keras.layers.Concatenate()([crossed, deep])


def _deep(x: Any, widths: Sequence[int], dropout: float) -> Any:
    for width in widths:
        layer = keras.layers.Dense(
            width, activation="relu", kernel_initializer="he_normal"
        )
        x = keras.layers.Dropout(dropout)(layer(x))
    return x


def recipe(task: str, num_rows: int) -> dict[str, Any]:
    """How it is trained unless told otherwise; the clipping is the paper's."""
    return {
        "optimizer": {
            "name": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 1e-5,
            "clip_norm": 10.0,
        },
        "fit": {"patience": 16},
    }
