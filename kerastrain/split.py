"""Which rows are trained on, validated on and tested on.

The side of a row goes by its content and the seed, never by its place: the same rows
in another order, or read in other chunks, land on the same sides. Equal rows stay
together, because a copy of a train row in the test rows is no test.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kerastrain.config import SplitConfig
from kerastrain.errors import DataError, RunError
from kerastrain.events import warn
from kerastrain.store import atomic

__all__ = ["Parts", "split"]

PARTS = ("train", "validation", "test", "dropped")
TRAIN, VALIDATION, TEST, DROPPED = range(4)
_LEAST_DISTINCT = 30


@dataclass(frozen=True, eq=False)
class Keys:
    """What rows are split by besides their content, `(rows,)` each.

    Args:
        group: uint64 hash of the group's name; 0 for missing.
        time: float64 seconds since 1970, or a number; NaN for missing.
        part: int32 position in `part_names`.
        part_names: texts of the split column; "" for missing.
    """

    group: np.ndarray | None = None
    time: np.ndarray | None = None
    part: np.ndarray | None = None
    part_names: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Parts:
    """Row numbers of each part, sorted, int64; counted from 0 in the source.

    Args:
        num_dropped: rows in no part, because their target is missing.
        seed: what the split was made with.
        shares: of `validation` and `test`, as they were asked for.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    num_dropped: int = 0
    seed: int = 0
    shares: dict[str, float] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """SHA-256 over the row numbers of the parts, as hex digits."""
        digest = hashlib.sha256()
        for rows in (self.train, self.validation, self.test):
            digest.update(len(rows).to_bytes(8, "little"))
            digest.update(rows.astype("<i8", copy=False).data)
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write one line per row of the source: its number and its part."""
        num_kept = len(self.train) + len(self.validation) + len(self.test)
        codes = np.full(num_kept + self.num_dropped, DROPPED, np.int8)
        for code, rows in enumerate((self.train, self.validation, self.test)):
            codes[rows] = code
        table = pa.table(
            {
                "row": np.arange(len(codes), dtype=np.int64),
                "part": pa.DictionaryArray.from_arrays(codes, list(PARTS)),
            }
        )
        known = {"seed": str(self.seed), "hash": self.hash}
        known |= {name: repr(share) for name, share in self.shares.items()}
        with atomic(path) as temporary:
            pq.write_table(table.replace_schema_metadata(known), temporary)

    def with_test(self, rows: np.ndarray, num_rows: int) -> "Parts":
        """With test rows of one's own, which lie behind the rows that were split.

        Args:
            num_rows: of both tables together; rows in no part count as dropped.
        """
        num_dropped = num_rows - len(self.train) - len(self.validation) - len(rows)
        return replace(self, test=rows, num_dropped=num_dropped)

    @classmethod
    def load(cls, path: Path) -> "Parts":
        """Read what `save` wrote; RunError when it is missing, damaged or altered."""
        try:
            table = pq.read_table(path)
            known = {k.decode(): v.decode() for k, v in table.schema.metadata.items()}
            names = table["part"].combine_chunks().cast(pa.string())
            codes = _codes(names.to_numpy(zero_copy_only=False))
            shares = {k: float(known[k]) for k in PARTS if k in known}
            parts = _parts(codes, int(known["seed"]), shares)
        except (OSError, KeyError, ValueError, AttributeError) as error:
            raise RunError(f"Cannot read the split {path}: {error}") from error
        if parts.hash != known.get("hash"):
            raise RunError(f"The split {path} was altered: its hash differs.")
        return parts


def split(
    strata: np.ndarray | None,
    present: np.ndarray,
    row_hashes: np.ndarray,
    config: SplitConfig,
    *,
    seed: int,
    has_test: bool = False,
) -> Parts:
    """Rows of train, validation and test, in the shares that `config` asks for.

    Args:
        strata: int32 class of each row, shares hold within each; None for a regression.
        present: bool, False where the target is missing: such rows go to no part.
        row_hashes: uint64 hash of the whole row; equal rows have equal hashes.
        seed: of the run; a seed in `config` goes first.
        has_test: there are test rows in a file of their own: none are taken from here.

    Shapes: all `(rows,)`.

    Raises:
        DataError: so few rows that a part with a share would be empty, or none.
    """
    seed = seed if config.seed is None else config.seed
    shares = {"validation": config.validation, "test": 0.0 if has_test else config.test}
    codes = np.full(len(present), DROPPED, np.int8)
    rows = np.flatnonzero(present)
    if len(rows) == 0:
        raise DataError(
            f"No row has a target: all {len(present)} are missing. "
            "Check the name of the target and its missing values."
        )
    classes = np.zeros(len(rows), np.int32) if strata is None else strata[rows]
    keys = mix64(row_hashes[rows], seed)
    codes[rows] = _split_groups(keys, classes, shares)
    parts = _parts(codes, seed, shares)
    _check_sizes(parts, len(rows))
    _tell_untested(classes, codes[rows], shares)
    return parts


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


def _split_groups(
    keys: np.ndarray, classes: np.ndarray, shares: dict[str, float]
) -> np.ndarray:
    """Part of each row; rows of equal key together, unless these are too few."""
    groups = _Groups.of(keys, classes)
    codes = groups.assign(shares)
    wanted = _quotas(groups.class_rows, groups.class_rows, shares).sum(axis=0)
    got = np.array([(codes == TEST).sum(), (codes == VALIDATION).sum()])
    has_copies = len(groups.sizes) < len(keys)
    is_off = bool(((got < wanted / 2) | (got > wanted * 2)).any())
    if has_copies and (is_off or _is_narrow(keys, codes)):
        _tell_fallback(len(groups.sizes), len(keys))
        copies = _Groups.of(mix64(keys + groups.occurrence(), 1), classes)
        codes = copies.assign(shares)
    return codes


def _is_narrow(keys: np.ndarray, codes: np.ndarray) -> bool:
    """Whether a part is mostly copies of a handful of rows.

    Such a part tests a few combinations of values and nothing else. Where the target
    is not a function of the columns it turns the truth round: (Bonn, yes) is trained
    on, (Bonn, no) tested; a table of six combinations scored a ROC AUC of 0.
    """
    for part in (VALIDATION, TEST):
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


def _codes(names: np.ndarray) -> np.ndarray:
    codes = np.full(len(names), -1, np.int8)
    for code, name in enumerate(PARTS):
        codes[names == name] = code
    if (codes < 0).any():
        raise ValueError(f"a part other than {', '.join(PARTS)}")
    return codes


def _parts(codes: np.ndarray, seed: int, shares: dict[str, float]) -> Parts:
    return Parts(
        train=np.flatnonzero(codes == TRAIN),
        validation=np.flatnonzero(codes == VALIDATION),
        test=np.flatnonzero(codes == TEST),
        num_dropped=int((codes == DROPPED).sum()),
        seed=seed,
        shares=dict(shares),
    )


def _check_sizes(parts: Parts, num_rows: int) -> None:
    for name, share in parts.shares.items():
        if share > 0 and len(getattr(parts, name)) == 0:
            raise DataError(
                f"Too few rows to split: of {num_rows} rows with a target none is left "
                f"for {name}. Give more rows, at least 3 of a class{_way_out(name)}."
            )


def _way_out(name: str) -> str:
    is_needed = name == "validation"  # the best epoch is chosen on it
    return "" if is_needed else f", or do without: --set split.{name}=0"


def _tell_fallback(num_distinct: int, num_rows: int) -> None:
    warn(
        "duplicates_split",
        f"Only {num_distinct} of {num_rows} rows are distinct: too few to keep equal "
        "rows on one side, so the split is row by row. Copies of train rows are in "
        "validation and test, and the scores will flatter the model. "
        "Remove the duplicates, or give test rows of your own with --test.",
        num_distinct=num_distinct,
        num_rows=num_rows,
    )


def _tell_untested(
    classes: np.ndarray, codes: np.ndarray, shares: dict[str, float]
) -> None:
    if shares["test"] == 0:
        return
    num_rows = np.bincount(classes)
    num_tested = np.bincount(classes[codes == TEST], minlength=len(num_rows))
    untested = np.flatnonzero((num_rows > 0) & (num_tested == 0))
    if len(untested):
        warn(
            "classes_untested",
            f"Classes with a single distinct row: {len(untested)}. It is trained on, "
            "so the test rows say nothing about them. Give more rows of them.",
            classes=untested.tolist(),
        )
