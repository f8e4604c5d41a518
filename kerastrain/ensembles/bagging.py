"""Folds inside the rows to learn from, so that each is held out of a learner once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from kerastrain.assign import fold_by_content, mix64
from kerastrain.pipeline import Rows

__all__ = ["Bag", "bags_of"]

_SEED = 7_919  # beside that of the split


@dataclass(frozen=True)
class Bag:
    """What one learner of each member is fitted on.

    Args:
        places: of its validation rows among all rows that are held out.
    """

    train: Rows
    validation: Rows
    places: np.ndarray


def bags_of(
    train: Rows, validation: Rows, labels: Sequence[str], num_folds: int, seed: int
) -> tuple[Rows, list[Bag]]:
    """All rows that are held out of a learner, and the folds.

    With one fold that is the validation part; else the train and validation parts are
    dealt out to folds anew, class by class. Equal rows stay together, or a model that
    remembers would look better than it is, unless too few rows differ.
    """
    if num_folds == 1:
        return validation, [Bag(train, validation, np.arange(len(validation)))]
    index = np.sort(np.concatenate([train.index, validation.index]))
    pool = replace(train, index=index)
    fold = _dealt(pool, labels, num_folds, seed)
    bags = []
    for number in range(num_folds):
        held = fold == number
        parts = (replace(pool, index=index[~held]), replace(pool, index=index[held]))
        bags.append(Bag(*parts, np.flatnonzero(held)))
    return pool, bags


def _dealt(pool: Rows, labels: Sequence[str], num_folds: int, seed: int) -> np.ndarray:
    """Number of the fold of each row, int64 `(rows,)`."""
    keys = mix64(_keys(pool), (seed + _SEED) % 2**32)
    classes = pool.targets if labels else np.zeros(len(pool))
    return fold_by_content(keys, classes.astype("int64"), num_folds)[0]


def _keys(pool: Rows) -> np.ndarray:
    """The same for rows of equal columns, uint64 `(rows,)`."""
    keys = np.zeros(len(pool), "uint64")
    for piece, chunk in zip(pool.pieces(), pool.chunks(), strict=True):
        for name in sorted(chunk):
            hashes = pd.util.hash_pandas_object(pd.DataFrame(chunk[name]), index=False)
            keys[piece] = keys[piece] * np.uint64(31) + hashes.to_numpy()
    return keys
