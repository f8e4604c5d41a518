"""The one currency between columns and learners: encoded, clean tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

__all__ = ["Encoded", "TrainValues"]


@dataclass(frozen=True)
class TrainValues:
    """What the train rows hold in a column that the model reads as text.

    Args:
        values: distinct texts, missing left out, most frequent first.
        counts: rows of each, int64.
    """

    values: list[str] = field(default_factory=list)
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, "int64"))


@dataclass(frozen=True)
class Encoded:
    """A column as clean Keras tensors.

    Args:
        kind: `number` is float32 with NaN for missing, `(batch,)` or `(batch, parts)`;
            `code` is int32 `(batch,)` with 0 for missing or unseen.
        tensor: the Keras tensor.
        names: a name for each part.
        vocabulary_size: number of codes, code 0 included; for `code` only.
        labels: the value of each code, for reports.
    """

    kind: Literal["number", "code"]
    tensor: Any
    names: tuple[str, ...]
    vocabulary_size: int = 0
    labels: Mapping[int, str] = field(default_factory=dict)

    @property
    def width(self) -> int:
        return len(self.names)
