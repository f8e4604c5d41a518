"""Text columns that hold two kinds of values: a type that changes, two date orders."""

from collections import defaultdict
from collections.abc import Mapping

from kerastrain import formats
from kerastrain.events import note, warn
from kerastrain.schema import Column, ColumnStats
from kerastrain.source import quoted
from kerastrain.statistics import Cells, number_sql

__all__ = ["say_mixtures"]

_MIN_ROWS = 20
# Fewer values of a kind are strays, unless all the others are numbers or dates.
_MIN_SHARE = 0.05
_ALMOST_ALL = 0.95
# A column changes its type where most of each kind lie in blocks of that kind alone;
# 20 rows are hardly ever of one kind by chance.
_BLOCK_ROWS = 20
_MAX_BLOCKS = 200
_MIN_IN_BLOCKS = 0.8
_ORDERS = {
    "ymd": "year-month-day",
    "mdy": "month-day-year",
    "dmy": "day-month-year",
}


def say_mixtures(cells: Cells, column: Column, *, is_set: bool = False) -> None:
    """Warn of a text column whose type leaves out a part of its values.

    Args:
        is_set: the user has set the type: then only unread dates are told.
    """
    stats = column.stats
    if stats.storage != "string":
        return
    is_large = stats.num_meaningful >= _MIN_ROWS and not is_set
    is_told = is_large and _may_mix_dates(stats) and _say_mixed_dates(cells, column)
    if is_told:
        return
    num_dates = max(stats.num_as_date.values(), default=0)
    num_read = max(stats.num_as_number, stats.num_as_formatted_number, num_dates)
    if column.type == "datetime":
        _say_unread_dates(column)
    has_both = is_large and num_read >= _MIN_SHARE * stats.num_meaningful
    if has_both and column.type == "categorical":
        _say_mixed_types(cells, column)


def _say_unread_dates(column: Column) -> None:
    stats = column.stats
    unread = stats.num_meaningful - stats.num_as_date.get(column.format or "", 0)
    if unread > 0:
        warn(
            "unread_dates",
            f"Column '{column.name}' has {unread:,} texts that are no date in the "
            f"order {column.format}; they count as missing.",
            column=column.name,
            count=unread,
        )


def _may_mix_dates(stats: ColumnStats) -> bool:
    counts = stats.num_as_date.values()
    is_one_order = max(counts, default=0) == stats.num_meaningful
    return not is_one_order and 2 * sum(counts) >= stats.num_meaningful


def _say_mixed_dates(cells: Cells, column: Column) -> bool:
    cell = cells.ids[column.name]
    is_date = {
        order: f"regexp_full_match({cell}, {quoted(pattern)})"
        for order, pattern in formats.DATES.items()
    }
    ymd, mdy, dmy = (is_date[order] for order in _ORDERS)
    conditions = [ymd, f"{mdy} AND NOT {dmy}", f"{dmy} AND NOT {mdy}"]
    wanted = ", ".join(
        f"count(*) FILTER ({c}), arg_min({cell}, rowid) FILTER ({c})"
        for c in (*conditions, f"{mdy} AND {dmy}")
    )
    *found, num_both, both = cells.rows(f"SELECT {wanted} FROM cells")[0]
    counts = dict(zip(_ORDERS, found[::2], strict=True))
    num_dates = sum(counts.values()) + num_both
    if sum(map(bool, counts.values())) < 2 or 2 * num_dates < column.stats.num_present:
        return False
    shown = [
        f"{count:,} are {name} such as {example!r}"
        for count, name, example in zip(
            counts.values(), _ORDERS.values(), found[1::2], strict=True
        )
        if count
    ]
    if num_both:
        shown.append(f"{num_both:,} such as {both!r} read as day or month first")
    warn(
        "mixed_dates",
        f"Column '{column.name}' mixes the order of dates: {', '.join(shown)}. "
        f"{_fate_of_dates(column)} Write all of them in one way, such as 2024-12-31.",
        column=column.name,
        counts=counts | {"either": num_both},
    )
    return True


def _fate_of_dates(column: Column) -> str:
    if column.type == "datetime":
        order = _ORDERS[column.format or "ymd"]
        return f"They are read as {order}, and what is not counts as missing."
    return "No order reads 99% of them, so that none is read as a date."


def _say_mixed_types(cells: Cells, column: Column) -> None:
    """Say which kinds there are, and where one gives way to the other."""
    num_blocks = max(1, min(_MAX_BLOCKS, cells.num_rows // _BLOCK_ROWS))
    block, kind = f"rowid * {num_blocks} // {cells.num_rows}", _kind_sql(cells, column)
    blocks: dict[int, dict[str, int]] = defaultdict(dict)
    for number, name, count in cells.rows(
        f"SELECT {block} AS block, {kind} AS kind, count(*) FROM cells "
        "WHERE kind IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2"
    ):
        blocks[number][name] = count
    shares = _shares(blocks)
    if len(shares) < 2:
        return
    by_block = {number: _kind_of(counts) for number, counts in blocks.items()}
    if all(_in_own_blocks(name, blocks, by_block) for name in shares):
        _say_change(cells, column, by_block, shares)
    else:
        _say_mixed(column, shares)


def _kind_sql(cells: Cells, column: Column) -> str:
    """`numbers`, `dates` or `texts`; NULL for what often marks a missing value."""
    cell, stats = cells.ids[column.name], column.stats
    marks = ", ".join(quoted(word) for word in sorted(formats.MISSING_WORDS))
    dates = [
        f"regexp_full_match({cell}, {quoted(formats.DATES[order])})"
        for order, count in stats.num_as_date.items()
        if count
    ]
    return (
        f"CASE WHEN {cell} IS NULL OR lower({cell}) IN ({marks}) THEN NULL "
        f"WHEN {number_sql(cell, 'string')} IS NOT NULL OR "
        f"regexp_full_match({cell}, {quoted(formats.FORMATTED_NUMBER)}) THEN 'numbers' "
        f"WHEN {' OR '.join(dates) or 'false'} THEN 'dates' ELSE 'texts' END"
    )


def _shares(blocks: Mapping[int, Mapping[str, int]]) -> dict[str, float]:
    """Share of each kind that is more than a few strays, the largest first."""
    total: dict[str, int] = defaultdict(int)
    for counts in blocks.values():
        for name, count in counts.items():
            total[name] += count
    shares = {name: count / sum(total.values()) for name, count in total.items()}
    most = max(shares, key=shares.__getitem__, default="texts")
    is_nearly_all = most != "texts" and shares[most] >= _ALMOST_ALL
    kept = {k: v for k, v in shares.items() if is_nearly_all or v >= _MIN_SHARE}
    return dict(sorted(kept.items(), key=lambda item: -item[1]))


def _kind_of(counts: Mapping[str, int]) -> str | None:
    """The kind of nearly all values of a block."""
    name = max(counts, key=counts.__getitem__)
    return name if counts[name] >= _ALMOST_ALL * sum(counts.values()) else None


def _in_own_blocks(
    name: str,
    blocks: Mapping[int, Mapping[str, int]],
    by_block: Mapping[int, str | None],
) -> bool:
    counts = {number: counts.get(name, 0) for number, counts in blocks.items()}
    own = sum(count for number, count in counts.items() if by_block[number] == name)
    return own >= _MIN_IN_BLOCKS * sum(counts.values())


def _say_change(
    cells: Cells,
    column: Column,
    by_block: Mapping[int, str | None],
    shares: Mapping[str, float],
) -> None:
    pure = [(number, kind) for number, kind in by_block.items() if kind in shares]
    before = pure[0][1]
    last, after = next(
        (pure[i - 1][0], kind) for i, (_, kind) in enumerate(pure) if kind != before
    )
    num_blocks = max(1, min(_MAX_BLOCKS, cells.num_rows // _BLOCK_ROWS))
    start = last * cells.num_rows // num_blocks
    is_after = f"{_kind_sql(cells, column)} = {quoted(after or '')}"
    row = cells.first_row(f"rowid >= {start} AND {is_after}") or start + 1
    cell = cells.ids[column.name]
    value = cells.rows(f"SELECT {cell} FROM cells WHERE rowid = {row - 1}")[0][0]
    warn(
        "type_changes",
        f"Column '{column.name}' in {cells.where} changes from {before} to {after} at "
        f"row {row:,}, {value[:60]!r} ({_percent(shares)}), and is not read as "
        f"{_wanted(shares)}. Mend it, or leave the {after} empty, or confirm it: "
        f"--column {column.name}=categorical",
        column=column.name,
        row=row,
        shares=dict(shares),
    )


def _say_mixed(column: Column, shares: Mapping[str, float]) -> None:
    # Nearly all numbers is a mistake more often than a choice.
    say = warn if max(shares.values()) >= 0.9 and "texts" in shares else note
    texts = [text for text, _ in column.stats.not_numbers]
    example = f", such as {texts[0][:60]!r}," if texts else ""
    say(
        "mixed_types",
        f"Column '{column.name}' holds {_percent(shares)}{example} and is not read as "
        f"{_wanted(shares)}. If it should be, mend the others, or name them as "
        f"missing: columns: {{{column.name}: {{missing_values: [...]}}}}. If not, "
        f"confirm it: --column {column.name}=categorical",
        column=column.name,
        shares=dict(shares),
    )


def _percent(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{share:.1%} {name}" for name, share in shares.items())


def _wanted(shares: Mapping[str, float]) -> str:
    return next(name for name in shares if name != "texts")
