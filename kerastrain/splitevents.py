"""What a split has to tell: parts that are empty, uneven, or not what they seem."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kerastrain.arrays import pieces
from kerastrain.errors import DataError
from kerastrain.events import note, warn
from kerastrain.parts import DROPPED, NAMES, TEST, Parts
from kerastrain.splitrows import Splittable

__all__ = [
    "check_sizes",
    "tell_fallback",
    "tell_gap",
    "tell_group_shares",
    "tell_missing_groups",
    "tell_missing_parts",
    "tell_missing_times",
    "tell_own_part",
    "tell_untested",
    "tell_validation_drawn",
]


def _tell(
    table: Splittable, say: Callable[..., None], code: str, message: str, **details: Any
) -> None:
    """Once in a split, however many folds it has."""
    if code not in table.told:
        table.told.add(code)
        say(code, message, **details)


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


def tell_fallback(table: Splittable, buckets: Sequence[tuple[int, int]]) -> None:
    """Args: different rows (0 where equal rows stay together) and rows of buckets."""
    apart = [bucket for bucket in buckets if bucket[0]]
    if not apart:
        return
    num_distinct, num_rows = (sum(column) for column in zip(*apart, strict=True))
    _tell(
        table,
        warn,
        "duplicates_split",
        f"Only {num_distinct} of {num_rows} rows are distinct: too few to keep equal "
        "rows on one side, so the split is row by row. Copies of train rows are in "
        "validation and test, and the scores will flatter the model. "
        "Remove the duplicates, or give test rows of your own with --test.",
        num_distinct=num_distinct,
        num_rows=num_rows,
    )


def tell_untested(table: Splittable, codes: np.ndarray, *, by_content: bool) -> None:
    """Classes without a test row, where there are test rows at all."""
    num_tested = table.class_counts(codes == TEST)
    if table.strata is None or not num_tested.any():
        return
    num_rows = table.class_counts()
    num_tested = np.pad(num_tested, (0, len(num_rows) - len(num_tested)))
    untested = np.flatnonzero((num_rows > 0) & (num_tested == 0))
    if not len(untested):
        return
    found = (
        f"Classes with a single distinct row: {len(untested)}. It is trained on, so the"
        if by_content
        else f"Classes that have no row in test: {len(untested)}. The"
    )
    _tell(
        table,
        warn,
        "classes_untested",
        f"{found} test rows say nothing about them. Give more rows of them.",
        classes=untested.tolist(),
    )


def tell_missing_groups(table: Splittable) -> None:
    """Rows that have no group."""
    groups, num_missing = table.keys.group, 0
    assert groups is not None, "the ingest reads the column of the groups"
    for piece in pieces(len(table.present), 1 << 20):
        num_missing += int(((groups[piece] == 0) & table.present[piece]).sum())
    if num_missing:
        _tell(
            table,
            warn,
            "missing_groups",
            f"{num_missing:,} rows have no group; each of them counts as a group of "
            "its own. Fill the group in if they belong together.",
            rows=num_missing,
        )


def tell_group_shares(
    table: Splittable, codes: np.ndarray, wanted: np.ndarray, *, in_folds: bool = False
) -> None:
    """Where groups are so large that a share is off by half of it or more."""
    counts = np.bincount(codes[codes >= 0], minlength=len(wanted))
    got = counts / max(1, counts.sum())
    if (np.abs(got - wanted) <= wanted / 2).all():
        return
    names = [f"fold {i + 1}" if in_folds else NAMES[i] for i in range(len(wanted))]
    shown = ", ".join(
        f"{name} {got[i]:.0%} ({wanted[i]:.0%} asked for)"
        for i, name in enumerate(names)
        if wanted[i]
    )
    _tell(
        table,
        warn,
        "group_shares",
        f"Groups are too large for the shares of the parts; they come to {shown}.",
        shares=got.tolist(),
    )


def tell_missing_times(table: Splittable, num_known: int) -> None:
    """Rows that have no time."""
    num_missing = table.num_present - num_known
    if num_missing:
        _tell(
            table,
            warn,
            "missing_times",
            f"{num_missing:,} rows have no time and are left out. Fill it in if they "
            "count.",
            rows=num_missing,
        )


def tell_gap(table: Splittable, num_rows: int, gap: float, *, in_folds: bool) -> None:
    """Rows between the parts."""
    if num_rows:
        together = ", all folds together," if in_folds else ""
        _tell(
            table,
            note,
            "rows_in_gap",
            f"{num_rows:,} rows{together} lie in the gap between the parts and are "
            "left out.",
            rows=num_rows,
            gap=gap,
        )


def tell_missing_parts(
    table: Splittable, column: str | None, codes: np.ndarray
) -> None:
    """Rows for which the split column is empty: their code is `DROPPED`."""
    num_missing = int((table.present & (codes == DROPPED)).sum())
    if num_missing:
        _tell(
            table,
            warn,
            "missing_parts",
            f"{num_missing:,} rows have no part in '{column}' and are left out.",
            rows=num_missing,
        )


def tell_own_part(column: str | None, name: str, num_rows: int) -> None:
    """Rows of a part that lies in a file of its own."""
    if num_rows:
        warn(
            "own_part",
            f"{num_rows:,} rows that '{column}' names {name} are left out: the {name} "
            f"rows are those of --{name}. Leave --{name} out to use them.",
            part=name,
            rows=num_rows,
        )


def tell_validation_drawn(column: str | None) -> None:
    note(
        "validation_drawn",
        f"Column '{column}' names no validation rows; they are drawn from the train "
        "rows.",
    )
