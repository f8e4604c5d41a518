"""The rows that are split, and what they are split by."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from kerastrain.arrays import pieces
from kerastrain.assign import mix64
from kerastrain.errors import DataError
from kerastrain.parts import DROPPED, Keys

__all__ = ["Splittable"]

# Beyond it rows are split in buckets of half as many, by the bits of their keys.
_MAX_AT_ONCE = 2_000_000


@dataclass(frozen=True, eq=False)
class Splittable:
    """Rows with a target, and what they are split by.

    Args:
        told: codes of the events of this split; folds tell each of them once.
    """

    strata: np.ndarray | None
    present: np.ndarray
    hashes: np.ndarray
    keys: Keys
    num_present: int
    told: set[str] = field(default_factory=set)

    @classmethod
    def of(
        cls,
        strata: np.ndarray | None,
        present: np.ndarray,
        hashes: np.ndarray,
        keys: Keys | None,
    ) -> "Splittable":
        num_present = int(np.count_nonzero(present))
        if num_present == 0:
            raise DataError(
                f"No row has a target: all {len(present)} are missing. "
                "Check the name of the target and its missing values."
            )
        return cls(strata, present, hashes, keys or Keys(), num_present)

    def classes(self, rows: np.ndarray) -> np.ndarray:
        return (
            np.zeros(len(rows), np.int32)
            if self.strata is None
            else (self.strata[rows])
        )

    def group_keys(self, rows: np.ndarray | slice) -> np.ndarray:
        """uint64 of the group of rows; a row without one is a group of its own."""
        assert self.keys.group is not None, "the ingest reads the column of the groups"
        groups = self.keys.group[rows]
        is_missing = groups == 0
        if is_missing.any():
            groups = np.where(is_missing, self.hashes[rows], groups)
        return np.asarray(groups)

    def content_keys(self, rows: np.ndarray | slice) -> np.ndarray:
        """uint64 hash of the content of rows."""
        return np.asarray(self.hashes[rows])

    def by_part(self, codes: list[int]) -> np.ndarray:
        """Code of each row by its name; the last of `codes` is for no name."""
        part = self.keys.part
        assert part is not None, "the ingest reads the column of the parts"
        table = np.array(codes, np.min_scalar_type(-len(codes)))
        found = np.empty(len(self.present), table.dtype)
        for piece in pieces(len(found), 1 << 20):
            found[piece] = table[part[piece]]
        return found

    def within(self, is_chosen: np.ndarray) -> "Splittable":
        """Only the rows that are chosen, bool `(rows,)`."""
        present = self.present & is_chosen
        return replace(self, present=present, num_present=int(present.sum()))

    def empty_codes(self) -> np.ndarray:
        return np.full(len(self.present), DROPPED, np.int8)

    def buckets(self, keys: Callable[[slice], np.ndarray]) -> Iterator[np.ndarray]:
        """Row numbers in buckets, the largest first; rows of equal key stand in one.

        Rows of rare classes have a bucket of their own, so that a class of three rows
        has one on each side.
        """
        if self.num_present <= _MAX_AT_ONCE:
            yield np.flatnonzero(self.present)
            return
        num_buckets = -(-2 * self.num_present // _MAX_AT_ONCE)
        bucket = np.full(len(self.present), -1, np.min_scalar_type(-num_buckets - 1))
        sizes = np.zeros(num_buckets + 1, np.int64)
        rare = self._rare_classes(1_000 * num_buckets)
        for piece in pieces(len(bucket), 1 << 20):
            mixed = mix64(keys(piece), 1) >> np.uint64(40)
            of = (mixed % np.uint64(num_buckets)).astype(np.int16)
            if self.strata is not None and rare.any():
                classes = np.maximum(self.strata[piece], 0)
                of = np.where(rare[classes], num_buckets, of)
            bucket[piece] = np.where(self.present[piece], of, -1)
            sizes += np.bincount(of[self.present[piece]], minlength=len(sizes))
        for number in np.argsort(-sizes, kind="stable"):
            if sizes[number]:
                yield np.flatnonzero(bucket == number)

    def _rare_classes(self, least_rows: int) -> np.ndarray:
        """bool `(classes,)`: rare ones, as far as all of them fit into one bucket."""
        counts = self.class_counts()
        order = np.argsort(counts, kind="stable")
        is_rare = np.zeros(len(counts), bool)
        fits = np.cumsum(counts[order]) <= _MAX_AT_ONCE
        is_rare[order] = fits & (counts[order] < least_rows)
        return is_rare

    def class_counts(self, mask: np.ndarray | None = None) -> np.ndarray:
        """Rows of each class among those with a target (and in `mask`)."""
        if self.strata is None:
            return np.array([self.num_present])
        counts = np.zeros(1, np.int64)
        for piece in pieces(len(self.present), 1 << 20):
            chosen = self.present[piece] if mask is None else mask[piece]
            found = np.bincount(self.strata[piece][chosen], minlength=len(counts))
            found[: len(counts)] += counts
            counts = found
        return counts
