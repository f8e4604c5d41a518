"""Filling parts with groups of rows: to their shares, class by class."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from kerastrain.parts import TEST, TRAIN, VALIDATION

__all__ = ["by_content", "fold_by_content", "mix64"]

_LEAST_DISTINCT = 30


def mix64(values: np.ndarray, seed: int) -> np.ndarray:
    """Keyed, bijective mix of uint64 values, alike on every machine.

    Reference: Steele, Lea, Flood 2014, SplitMix64. DIFFERS: the state is the value plus
    the mixed seed.
    """
    start = 0 if seed == 0 else int(mix64(np.array([seed], np.uint64), 0)[0])
    mixed = values.astype(np.uint64) + np.uint64((start + 0x9E3779B97F4A7C15) % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def by_content(
    keys: np.ndarray, classes: np.ndarray, shares: dict[str, float]
) -> tuple[np.ndarray, int]:
    """Part of each row; rows of equal key together, unless these are too few.

    Returns:
        int8 codes `(rows,)`, and how many different keys there are where equal rows
        could not be kept together, else 0.
    """
    groups = _Groups.of(keys, classes)
    codes = groups.assign(shares)
    wanted = _quotas(groups.class_rows, groups.class_rows, shares).sum(axis=0)
    got = np.array([(codes == TEST).sum(), (codes == VALIDATION).sum()])
    has_copies = len(groups.sizes) < len(keys)
    is_off = bool(((got < wanted / 2) | (got > wanted * 2)).any())
    if has_copies and (is_off or _is_narrow(keys, codes, (VALIDATION, TEST))):
        return groups.apart(keys, classes).assign(shares), len(groups.sizes)
    return codes, 0


def fold_by_content(
    keys: np.ndarray, classes: np.ndarray, num_folds: int
) -> tuple[np.ndarray, int]:
    """Fold of each row, of about equal size in each class; otherwise as `by_content`.

    A class of fewer rows than folds is missing in the test rows of some.
    """
    groups = _Groups.of(keys, classes)
    folds = groups.folds(num_folds)
    sizes = np.bincount(folds, minlength=num_folds)
    has_copies = len(groups.sizes) < len(keys)
    is_off = sizes.max() > 2 * max(1, sizes.min())
    if has_copies and (is_off or _is_narrow(keys, folds, range(num_folds))):
        return groups.apart(keys, classes).folds(num_folds), len(groups.sizes)
    return folds, 0


def _is_narrow(keys: np.ndarray, codes: np.ndarray, parts: Iterable[int]) -> bool:
    """Whether a part is mostly copies of a handful of rows.

    Such a part tests a few combinations of values and nothing else. Where the target
    is not a function of the columns it turns the truth round: (Bonn, yes) is trained
    on, (Bonn, no) tested; a table of six combinations scored a ROC AUC of 0.
    """
    for part in parts:
        rows = keys[codes == part]
        num_distinct = len(np.unique(rows))
        if num_distinct < min(_LEAST_DISTINCT, len(rows) / 2):
            return True
    return False


@dataclass(frozen=True)
class _Groups:
    """Rows sorted by class, then key; a group is a run of equal class and key."""

    order: np.ndarray  # rows in sorted order
    sizes: np.ndarray  # rows of each group
    bounds: np.ndarray  # first group of each class, and the number of groups

    @classmethod
    def of(cls, keys: np.ndarray, classes: np.ndarray) -> "_Groups":
        order = np.lexsort((keys, classes))  # stable: copies stay in their order
        keys, classes = keys[order], classes[order]
        starts = _run_starts((keys[1:] != keys[:-1]) | (classes[1:] != classes[:-1]))
        sizes = np.diff(starts, append=len(order))
        first = classes[starts]
        bounds = np.append(_run_starts(first[1:] != first[:-1]), len(starts))
        return cls(order, sizes, bounds)

    @property
    def class_rows(self) -> np.ndarray:
        return np.add.reduceat(self.sizes, self.bounds[:-1])

    def __iter__(self) -> Iterator[slice]:
        return map(slice, self.bounds[:-1], self.bounds[1:])

    def occurrence(self) -> np.ndarray:
        """uint64, which copy of its group a row is: 0, 1, 2 ..."""
        starts = np.cumsum(self.sizes) - self.sizes
        nth = np.empty(len(self.order), np.uint64)
        nth[self.order] = np.arange(len(self.order)) - np.repeat(starts, self.sizes)
        return nth

    def apart(self, keys: np.ndarray, classes: np.ndarray) -> "_Groups":
        """Copies of a row as groups of their own, alike in any order of the rows."""
        return _Groups.of(mix64(keys + self.occurrence(), 1), classes)

    def folds(self, num_folds: int) -> np.ndarray:
        """Fold of each row, whole groups at a time."""
        kind = np.min_scalar_type(-num_folds)
        folds = np.empty(len(self.sizes), kind)
        for number, groups in enumerate(self):
            sizes = self.sizes[groups]
            middles = np.cumsum(sizes) - sizes / 2
            # Classes begin at different folds: rare ones would all be in the first.
            places = (middles * num_folds / sizes.sum()).astype(int) + number
            folds[groups] = places % num_folds
        found = np.empty(len(self.order), kind)
        found[self.order] = np.repeat(folds, self.sizes)
        return found

    def assign(self, shares: dict[str, float]) -> np.ndarray:
        """Part of each row, whole groups at a time."""
        quotas = _quotas(self.class_rows, np.diff(self.bounds), shares)
        parts = np.empty(len(self.sizes), np.int8)
        for groups, quota in zip(self, quotas.tolist(), strict=True):
            parts[groups] = _fill(self.sizes[groups], *quota)
        codes = np.empty(len(self.order), np.int8)
        codes[self.order] = np.repeat(parts, self.sizes)
        return codes


def _run_starts(is_new: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.concatenate([[True], is_new]))


def _quotas(
    num_rows: np.ndarray, num_groups: np.ndarray, shares: dict[str, float]
) -> np.ndarray:
    """Rows wanted for test and for validation. `(classes,)` -> `(classes, 2)`.

    A class of three or more groups has a row on each side; of two, train and test.
    """
    test, validation = shares["test"], shares["validation"]
    by_test = _rounded(num_rows * test)
    by_validation = _rounded(num_rows * validation)
    if test:
        by_test = np.maximum(by_test, 1) * (num_groups > 1)
    if validation:
        enough = num_groups > (2 if test else 1)
        by_test = np.minimum(by_test, np.maximum(num_rows - 2, 1))
        by_validation = np.maximum(by_validation, 1) * enough
    left = np.maximum(num_rows - 1, 0)
    by_test = np.minimum(by_test, left)
    return np.stack([by_test, np.minimum(by_validation, left - by_test)], axis=1)


def _rounded(wanted: np.ndarray) -> np.ndarray:
    """Whole numbers within one of `wanted`, with the sum of `wanted`."""
    return np.diff(np.round(np.cumsum(wanted)), prepend=0).astype(np.int64)


def _fill(sizes: np.ndarray, test: int, validation: int) -> np.ndarray:
    """Part of each group of one class: test first, then validation, the rest train.

    A group above a quarter of the rows wanted goes to train, so that one row with many
    copies does not make up a test; `test` and `validation` are rows.
    """
    parts = np.full(len(sizes), TRAIN, np.int8)
    sides = [(TEST, test), (VALIDATION, validation)]
    sides = [(part, quota) for part, quota in sides if quota > 0]
    limit = max([1, *(quota // 4 for _, quota in sides)])
    # Beside large groups, train needs its part of the small ones: it varies by them.
    splittable = sizes[sizes <= limit].sum()
    most = splittable // 3 if splittable < sizes.sum() else splittable
    for position, (part, quota) in enumerate(sides):
        num_kept = len(sides) - position  # one group for train and each later side
        free = np.flatnonzero(parts == TRAIN)
        small = free[sizes[free] <= max(1, quota // 4)]
        middles = np.cumsum(sizes[small]) - sizes[small] / 2
        chosen = small[: np.searchsorted(middles, min(quota, most), "right")]
        if len(chosen) == 0:
            chosen = free[[np.argmin(sizes[free])]]
        parts[chosen[: max(0, len(free) - num_kept)]] = part
    return parts
