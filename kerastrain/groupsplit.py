"""Whole groups in parts: shares of rows and of classes as even as groups allow."""

from dataclasses import dataclass, replace

import numpy as np

from kerastrain.arrays import pieces
from kerastrain.assign import mix64
from kerastrain.splitrows import Splittable

__all__ = ["Tally", "assign_groups", "whole_groups"]

# Groups beyond so many are small beside the parts: they follow in one sweep.
_MAX_GREEDY = 3_000
_CHUNK_ROWS = 1 << 20
_GOLDEN = 0.618_033_988_749_895


def assign_groups(
    table: Splittable, shares: np.ndarray, seed: int
) -> tuple[np.ndarray, int]:
    """Parts by group, so that they come near their shares, in each class.

    Args:
        shares: of the parts, with sum 1.

    Returns:
        place in `shares` of each row, -1 for rows without a target; number of groups.
    """
    left = np.outer(shares, table.class_counts())
    kind = np.min_scalar_type(-len(shares))
    found, num_groups = np.full(len(table.present), -1, kind), 0
    for rows in replace(table, strata=None).buckets(table.group_keys):
        tally = Tally.of(table, rows)
        # The bucket of a heavy group comes first; the others make up for it.
        wanted = left / np.maximum(left.sum(axis=0), 1e-9)
        wanted *= np.bincount(tally.classes, tally.num_rows, minlength=left.shape[1])
        parts = whole_groups(tally, mix64(tally.names, seed), wanted)
        for piece in pieces(len(rows), _CHUNK_ROWS):
            place = np.searchsorted(tally.names, table.group_keys(rows[piece]))
            found[rows[piece]] = parts[place]
        left = np.maximum(left - tally.placed(parts, left.shape), 0)
        num_groups += len(tally.names)
    return found, num_groups


@dataclass(frozen=True, eq=False)
class Tally:
    """Rows of each class in each group, as far as there are any.

    Args:
        names: uint64 of each group, sorted, `(groups,)`.
        group: place in `names`, sorted, `(cells,)`, as are the two below.
    """

    names: np.ndarray
    group: np.ndarray
    classes: np.ndarray
    num_rows: np.ndarray

    @classmethod
    def of(cls, table: Splittable, rows: np.ndarray) -> "Tally":
        """Counted in pieces: one group may have most rows of the table."""
        found = [
            _cells(
                table.group_keys(rows[piece]),
                table.classes(rows[piece]).astype(np.int64),
                np.ones(piece.stop - piece.start),
            )
            for piece in pieces(len(rows), _CHUNK_ROWS)
        ]
        columns = [np.concatenate(column) for column in zip(*found, strict=True)]
        keys, classes, num_rows = columns if len(found) == 1 else _cells(*columns)
        names, group = np.unique(keys, return_inverse=True)
        return cls(names, group, classes, num_rows)

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each group."""
        return np.bincount(self.group, self.num_rows)

    def placed(self, parts: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Rows of each class in each part, `(parts, classes)`."""
        cells = parts[self.group].astype(np.int64) * shape[1] + self.classes
        return np.bincount(cells, self.num_rows, minlength=shape[0] * shape[1]).reshape(
            shape
        )

    def main_class(self) -> np.ndarray:
        """The most frequent class of each group."""
        order = np.lexsort((self.num_rows, self.group))
        last = np.searchsorted(self.group, np.arange(len(self.names)), side="right")
        return self.classes[order[last - 1]]


def _cells(
    keys: np.ndarray, classes: np.ndarray, num_rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Key, class and rows of each pair of them that there is, in this order."""
    names, place = np.unique(keys, return_inverse=True)
    num_classes = int(classes.max()) + 1
    cells, which = np.unique(place * num_classes + classes, return_inverse=True)
    return (
        names[cells // num_classes],
        cells % num_classes,
        np.bincount(which, num_rows),
    )


def whole_groups(tally: Tally, keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Part of each group, so that each part comes near the rows that it wants.

    Large groups go first, each to the part that lacks most; what comes after the first
    3,000 is small, and fills the parts by its most frequent class.
    Reference: the idea is that of scikit-learn's StratifiedGroupKFold. DIFFERS: parts
    of any share; ties go by key, not by place.

    Args:
        keys: uint64, different for each group; alike for any order of the rows.
        wanted: rows of each class in each part; a part that wants none gets none.

    Shapes: `(groups,)`, `(parts, classes)` -> `(groups,)`.
    """
    sizes = tally.sizes
    order = np.lexsort((keys, -sizes))
    active = np.flatnonzero(wanted.sum(axis=1) > 0)
    found = np.zeros(len(sizes), np.int16)
    large, rest = order[:_MAX_GREEDY], order[_MAX_GREEDY:]
    found[large], left = _greedy(tally, large, wanted[active])
    if len(rest):
        main = tally.main_class()[rest]
        found[rest] = _swept(main, sizes[rest], keys[rest], np.maximum(left, 0))
    found = _without_empty_parts(found, order, len(active))
    return active[found].astype(np.min_scalar_type(-len(wanted)))


def _greedy(
    tally: Tally, groups: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Part of each of `groups`, in their order; and what is wanted after that.

    A part lacks what it wants less half of the group, over all that it wanted: halves
    keep parts of any share level (Sainte-Laguë), and a group larger than a part away
    from it. Lack of rows counts as much as lack of classes, and a class of a group or
    two says little (over the group, not the fewer rows wanted): such classes cannot be
    even, but the parts still come to their shares.
    """
    left, wanted_rows = wanted.copy(), wanted.sum(axis=1)
    class_rows = np.maximum(wanted.sum(axis=0), 1)
    left_rows, found = wanted_rows.copy(), []
    starts = np.searchsorted(tally.group, groups)
    ends = np.searchsorted(tally.group, groups, side="right")
    for start, end in zip(starts, ends, strict=True):
        classes, num_rows = tally.classes[start:end], tally.num_rows[start:end]
        weights = num_rows / class_rows[classes]
        over = np.maximum(wanted[:, classes], num_rows)
        lack = (left[:, classes] - num_rows / 2) / over
        lack_rows = (left_rows - num_rows.sum() / 2) / wanted_rows
        lack_classes = (lack * weights).sum(axis=1) / weights.sum()
        part = int(np.argmax(lack_classes + lack_rows))
        left[part, classes] -= num_rows
        left_rows[part] -= num_rows.sum()
        found.append(part)
    return np.array(found, np.int16), left


def _swept(
    classes: np.ndarray, sizes: np.ndarray, keys: np.ndarray, left: np.ndarray
) -> np.ndarray:
    """Parts of small groups in the order of their keys, by what is left of a class.

    Each class begins at a place of its own: classes of two groups would otherwise all
    go to train and validation, and none to test.
    """
    order = np.lexsort((keys, classes))
    classes, sizes = classes[order], sizes[order]
    starts = np.flatnonzero(np.append(True, classes[1:] != classes[:-1]))
    number = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(order)))
    totals = np.add.reduceat(sizes, starts)
    before = np.cumsum(totals) - totals
    place = (np.cumsum(sizes) - sizes / 2 - before[number]) / totals[number]
    turns = np.arange(len(starts)) * _GOLDEN + float(keys[order[0]]) / 2**64
    place = (place + turns[number]) % 1
    ends = np.cumsum(left[:, classes[starts]], axis=0)
    ends /= np.maximum(ends[-1], 1e-9)
    parts = np.zeros(len(order), np.int16)
    for end in ends[:-1]:
        parts += place >= end[number]
    found = np.empty(len(order), np.int16)
    found[order] = parts
    return found


def _without_empty_parts(
    found: np.ndarray, order: np.ndarray, num_parts: int
) -> np.ndarray:
    """With a group in each part: the last in `order` of the part that has most."""
    num_groups = np.bincount(found, minlength=num_parts)
    for part in np.flatnonzero(num_groups == 0):
        fullest = int(num_groups.argmax())
        if num_groups[fullest] > 1:
            moved = order[np.flatnonzero(found[order] == fullest)[-1]]
            found[moved] = part
            num_groups[fullest] -= 1
            num_groups[part] += 1
    return found
