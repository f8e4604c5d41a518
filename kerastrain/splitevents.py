"""What a split has to tell: parts that are empty, uneven, or not what they seem."""

from collections.abc import Sequence

import numpy as np

from kerastrain.config import SplitConfig
from kerastrain.errors import DataError
from kerastrain.events import note, warn
from kerastrain.parts import DROPPED, TEST, Parts
from kerastrain.splitrows import Splittable

__all__ = [
    "check_sizes",
    "tell_fallback",
    "tell_group_shares",
    "tell_missing_part",
    "tell_time",
    "tell_untested",
]


def check_sizes(parts: Parts, shares: dict[str, float], num_rows: int) -> None:
    """DataError when a part that has a share is empty."""
    for name, share in shares.items():
        if share > 0 and len(getattr(parts, name)) == 0:
            raise DataError(
                f"Too few rows to split: of {num_rows} rows with a target none is left "
                f"for {name}. Give more rows, at least 3 of a class{_way_out(name)}."
            )


def _way_out(name: str) -> str:
    is_needed = name == "validation"  # the best epoch is chosen on it
    return "" if is_needed else f", or do without: --set split.{name}=0"


def tell_fallback(buckets: Sequence[tuple[int, int]]) -> None:
    """Args: different rows (0 where equal rows stay together) and rows of buckets."""
    apart = [bucket for bucket in buckets if bucket[0]]
    if not apart:
        return
    num_distinct, num_rows = (sum(column) for column in zip(*apart, strict=True))
    warn(
        "duplicates_split",
        f"Only {num_distinct} of {num_rows} rows are distinct: too few to keep equal "
        "rows on one side, so the split is row by row. Copies of train rows are in "
        "validation and test, and the scores will flatter the model. "
        "Remove the duplicates, or give test rows of your own with --test.",
        num_distinct=num_distinct,
        num_rows=num_rows,
    )


def tell_untested(table: Splittable, codes: np.ndarray, *, has_test: bool) -> None:
    """Classes without a test row, where there are test rows at all."""
    if not has_test or table.strata is None:
        return
    num_rows = table.class_counts()
    num_tested = np.zeros(len(num_rows), np.int64)
    found = table.class_counts(codes == TEST)
    num_tested[: len(found)] = found
    untested = np.flatnonzero((num_rows > 0) & (num_tested == 0))
    if len(untested):
        warn(
            "classes_untested",
            f"Classes with a single distinct row: {len(untested)}. It is trained on, "
            "so the test rows say nothing about them. Give more rows of them.",
            classes=untested.tolist(),
        )


def tell_group_shares(codes: np.ndarray, wanted: np.ndarray) -> None:
    """Where groups are so large that a share is off by half of it or more."""
    counts = np.bincount(codes[codes != DROPPED], minlength=len(wanted))
    got = counts / max(1, counts.sum())
    if (np.abs(got - wanted) <= wanted / 2).all():
        return
    names = ("train", "validation", "test")
    shown = ", ".join(
        f"{name} {got[i]:.0%} ({wanted[i]:.0%} asked for)"
        for i, name in enumerate(names)
        if wanted[i]
    )
    warn(
        "group_shares",
        f"Groups are too large for the shares of the parts; they come to {shown}.",
        shares=got.tolist(),
    )


def tell_time(
    table: Splittable, known: np.ndarray, codes: np.ndarray, gap: float
) -> None:
    """Rows that a split by time leaves out."""
    num_missing = int((table.present & ~known).sum())
    if num_missing:
        warn(
            "missing_times",
            f"{num_missing:,} rows have no time and are left out. Fill it in if they "
            "count.",
            rows=num_missing,
        )
    num_between = int((known & (codes == DROPPED)).sum())
    if num_between:
        note(
            "rows_in_gap",
            f"{num_between:,} rows lie in the gap between the parts and are left out.",
            rows=num_between,
            gap=gap,
        )


def tell_missing_part(
    table: Splittable, config: SplitConfig, codes: np.ndarray
) -> None:
    """Rows for which the split column is empty."""
    num_missing = int((table.present & (codes == DROPPED)).sum())
    if num_missing:
        warn(
            "missing_parts",
            f"{num_missing:,} rows have no part in '{config.column}' and are left out.",
            rows=num_missing,
        )
