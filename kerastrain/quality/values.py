"""What is wrong with the values of single columns: too alike, too far, too rare."""

import math

from kerastrain import formats
from kerastrain.events import finding
from kerastrain.quality.functions import ignoring, named
from kerastrain.schema import Column, ColumnStats, Schema
from kerastrain.statistics import Cells, number_sql

__all__ = ["find_far_rows", "find_imbalance", "find_near_constants"]

_NEAR_CONSTANT = 0.999
_MIN_ROWS = 1000  # of fewer, one row is more than the rest of 99.9 %
_MAX_RATIO = 100
# Far outside, from the median: beyond so many interquartile ranges, so many ranges
# from the 1 % to the 99 % quantile and, in logarithms, two of these. Honest skew has no
# value there: the largest of a million log-normal numbers is 1.1 ranges of logarithms
# away, `y` of the diamonds (58.9 mm, an error) 3.2.
_FAR_QUARTILES, _FAR_RANGES, _FAR_LOG_RANGES = 25.0, 10.0, 2.0
# Where numbers may be 0 or below, logarithms say nothing.
_FAR_RANGES_ALONE = 100.0


def find_near_constants(schema: Schema) -> None:
    """Note columns that hold one value, or a gap, in nearly every row."""
    if schema.num_rows < _MIN_ROWS:
        return
    names = [c.name for c in schema.features if _largest_share(c) >= _NEAR_CONSTANT]
    if names:
        verb = "have" if len(names) > 1 else "has"
        finding(
            "near_constant",
            f"{named(names)} {verb} one value, or none, in at least "
            f"{_NEAR_CONSTANT:.1%} of the rows and can hardly help. To leave out: "
            f"{ignoring(names)}",
            columns=names,
            severity="info",
        )


def _largest_share(column: Column) -> float:
    stats = column.stats
    most = max([stats.num_missing, *(count for _, count in stats.top[:1])])
    return most / max(1, stats.num_rows)


def find_imbalance(cells: Cells, schema: Schema) -> None:
    """Warn where the largest class has over 100 times the rows of the smallest."""
    target = schema.target
    if target is None or target.task == "regression":
        return
    counts = _class_counts(cells, schema[target.name])
    most, least = max(counts.values(), default=0), min(counts.values(), default=1)
    if most <= _MAX_RATIO * least:
        return
    largest, smallest = (
        next(label for label, count in counts.items() if count == wanted)
        for wanted in (most, least)
    )
    finding(
        "imbalance",
        f"Classes of '{target.name}' differ much in size: {most:,} rows of "
        f"'{largest}', {least:,} of '{smallest}' ({most / least:,.0f}:1). Accuracy "
        "says little then: look at the average precision (PR AUC) or macro F1, and let "
        "a remedy be measured: --imbalance auto",
        columns=[target.name],
        ratio=most / least,
    )


def _class_counts(cells: Cells, column: Column) -> dict[str, int]:
    """Rows of each class, largest first."""
    table = cells.counts(column.name)
    texts = formats.as_text(table.column("value"), column.missing_values).to_pylist()
    pairs = zip(texts, table.column("count").to_pylist(), strict=True)
    return {text: count for text, count in pairs if text}


def find_far_rows(cells: Cells, schema: Schema) -> None:
    """Note columns of numbers with values far outside of all others."""
    target = schema.target
    is_goal = target is not None and target.task == "regression"
    columns = [c for c in schema.features if c.type == "numeric"]
    columns += [schema[target.name]] if target is not None and is_goal else []
    found = {}
    for column in columns:
        low, high = _fences(column.stats)
        least, most = column.stats.min, column.stats.max
        if least is not None and most is not None and (least < low or most > high):
            found[column.name] = _far_text(cells, column, low, high)
    if found:
        listed = "; ".join(f"'{name}' {text}" for name, text in list(found.items())[:5])
        more = f"; and {len(found) - 5} more columns" if len(found) > 5 else ""
        finding(
            "rows_far_outside",
            f"Values lie far outside of all others: {listed}{more}. Look whether they "
            "are errors or stand for a missing value (columns: {NAME: "
            "{missing_values: [...]}}); true values may stay.",
            columns=list(found),
            severity="info",
        )


def _fences(stats: ColumnStats) -> tuple[float, float]:
    """Below and above which a value is far outside."""
    if not stats.quantiles or stats.quantiles[0] == stats.quantiles[-1]:
        return -math.inf, math.inf
    first, _, quarter, median, three, _, last = stats.quantiles
    if first <= 0:
        reach = _FAR_RANGES_ALONE * (last - first)
        return median - reach, median + reach
    reach = max(_FAR_QUARTILES * (three - quarter), _FAR_RANGES * (last - first))
    factor = (last / first) ** _FAR_LOG_RANGES
    return min(median - reach, median / factor), max(median + reach, median * factor)


def _far_text(cells: Cells, column: Column, low: float, high: float) -> str:
    stats = column.stats
    number = number_sql(cells.ids[column.name], stats.storage, column.format)
    count = cells.rows(
        f"SELECT count(*) FROM (SELECT {number} AS n FROM cells) "
        f"WHERE n < {low!r} OR n > {high!r}"
    )[0][0]
    assert stats.min is not None and stats.max is not None
    extreme = stats.max if stats.max > high else stats.min
    rows = "row" if count == 1 else "rows"
    return f"({count:,} {rows}, up to {extreme:.6g}; median {stats.quantiles[3]:.6g})"
