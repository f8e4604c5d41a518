"""What kind of column it is, by what was counted in it and by what the user says."""

import math
import re
from collections.abc import Iterable

from kerastrain import formats
from kerastrain.columns import COLUMNS
from kerastrain.config import ColumnConfig
from kerastrain.errors import ConfigError, SchemaError
from kerastrain.events import note, warn
from kerastrain.mixtures import say_mixtures
from kerastrain.schema import Column, ColumnStats
from kerastrain.source import quoted
from kerastrain.statistics import Cells, describe_dates, measure

__all__ = ["detect", "matching_type", "name_words"]

# Below this many rows "all values differ" says nothing.
_MIN_IDENTIFIER_ROWS = 20
_IDENTIFIER_WORDS = {"id", "key", "uuid", "guid", "index", "number", "no", "nr"}
_NAME_WORDS = 3.0
_TEXT_CHARS = 50.0
_MIN_DATE_SHARE = 0.5
_DECIMAL_COMMA = r"[-+]?(?:[0-9]{1,3}(?:\.[0-9]{3})+|[0-9]+),[0-9]+"

_REASONS = {
    "empty": "every value is missing",
    "constant": "it has one value only",
    "identifier": "its values name rows and would be learnt by heart",
    "text": "its texts are short and mostly differ, as names do",
    "unsupported": "nested, binary and time values are not learnt from yet",
}


def detect(
    cells: Cells, name: str, wish: ColumnConfig, *, keep: bool = False
) -> Column:
    """The column as it is to be used; ignored where nothing can be learnt from it.

    Args:
        wish: what the user set for the column; obeyed where the data fit.
        keep: use the column even if it would be ignored.

    Raises:
        SchemaError: the data do not fit the type that the user set.
    """
    stats = measure(cells, name)
    column = _typed(name, stats, wish)
    _check_fit(cells, column, wish)
    say_mixtures(cells, column, is_set=bool(wish.type or wish.format))
    column = _with_stats_as_read(cells, column)
    _say_decimal_commas(column)
    if wish.type is None and not keep:
        reason = _why_ignored(name, column.stats, column.type)
        if reason is not None:
            return _ignored(column, reason)
    if column.type == "unsupported":
        raise SchemaError(
            f"column '{name}' in {cells.where} holds nested or binary values "
            f"and cannot be used. Leave it out: --ignore {name}"
        )
    _say_what_was_read(column, wish)
    return column


def matching_type(stats: ColumnStats) -> str:
    """The first type in COLUMNS that takes such a column, or `unsupported`."""
    for name in COLUMNS:
        if COLUMNS.load(name).matches(stats):
            return name
    return "unsupported"


def _typed(name: str, stats: ColumnStats, wish: ColumnConfig) -> Column:
    asked = wish.type or _type_of_format(name, wish.format)
    if wish.format and asked != _type_of_format(name, wish.format):
        raise ConfigError(
            f"columns.{name}: the format {wish.format!r} is none of type {asked!r}."
        )
    type = asked or matching_type(stats)
    if stats.storage == "other":
        type = "unsupported"
    if type == "unsupported":
        return Column(name=name, type=type, stats=stats)
    described = COLUMNS.load(type).describe(stats)
    if wish.format:
        described |= {"format": wish.format, "dtype": "string"}
    found = described.get("missing_values", [])
    described["missing_values"] = [*dict.fromkeys([*wish.missing_values, *found])]
    return Column(name=name, type=type, stats=stats, **described)


def _type_of_format(name: str, format: str | None) -> str | None:
    if format is None:
        return None
    if format in formats.DATES:
        return "datetime"
    if format == "formatted":
        return "numeric"
    known = ", ".join([*formats.DATES, "formatted"])
    raise ConfigError(
        f"columns.{name}.format: expected one of {known}, got {format!r}."
    )


def _check_fit(cells: Cells, column: Column, wish: ColumnConfig) -> None:
    """Name the first row that a type set by the user does not fit."""
    is_set = wish.type is not None or wish.format is not None
    if not is_set or column.type == "unsupported":
        return
    if column.type == "datetime":
        _check_dates(cells, column)
    elif column.type not in ("categorical", "text"):
        leaf, cell = COLUMNS.load(column.type), cells.ids[column.name]
        # A type that matches drops stray texts as missing; one that does not match
        # was asked for by name and has to hold for every value.
        if not leaf.matches(column.stats):
            column = column.model_copy(update={"missing_values": wish.missing_values})
            values = cells.arrow(f"SELECT {cell} AS value FROM cells ORDER BY rowid")
            array = values.column("value").combine_chunks()
            leaf.to_input(column, array, where=cells.where, first_row=0)


def _check_dates(cells: Cells, column: Column) -> None:
    stats, order = column.stats, column.format or "ymd"
    if stats.storage == "timestamp":
        return
    num_read = stats.num_as_date.get(order, 0)
    if num_read >= _MIN_DATE_SHARE * max(1, stats.num_meaningful):
        return
    cell = cells.ids[column.name]
    pattern = quoted(formats.DATES[order])
    wrong = f"NOT regexp_full_match(CAST({cell} AS VARCHAR), {pattern})"
    row = cells.first_row(wrong)
    if row is None:
        return
    got = cells.rows(f"SELECT {cell} FROM cells WHERE rowid = {row - 1}")[0][0]
    raise SchemaError(
        f"column '{column.name}' in {cells.where}, row {row}: expected a date in the "
        f"order {order}, got {str(got)[:60]!r}. Set its order, as in "
        f"columns: {{{column.name}: {{format: dmy}}}}, or another type."
    )


def _with_stats_as_read(cells: Cells, column: Column) -> Column:
    """What is missing for this type: texts that are no number, and infinities."""
    stats = column.stats
    if column.type == "datetime":
        stats = describe_dates(cells, column)
    num_missing = _num_missing(column, stats)
    if num_missing > stats.num_missing:
        stats = stats.model_copy(update={"num_missing": num_missing})
    return column.model_copy(update={"stats": stats})


def _num_missing(column: Column, stats: ColumnStats) -> int:
    if column.type == "numeric":
        formatted = column.format == "formatted"
        read = stats.num_as_formatted_number if formatted else stats.num_as_number
        return stats.num_rows - read + stats.num_infinite
    if column.type == "datetime" and stats.storage == "string":
        return stats.num_rows - stats.num_as_date[column.format or "ymd"]
    if column.type == "boolean":
        return stats.num_rows - stats.num_meaningful
    return stats.num_missing


def _why_ignored(name: str, stats: ColumnStats, type: str) -> str | None:
    if stats.num_present == 0:
        return "empty"
    if type == "unsupported":
        return "unsupported"
    if stats.num_distinct == 1 and stats.num_missing == 0:
        return "constant"
    if type == "categorical" and _is_text(stats):
        return "text"
    return "identifier" if _is_identifier(name, stats, type) else None


def _is_text(stats: ColumnStats) -> bool:
    """Long or of some words, and mostly different: names, addresses, hashes.

    Free text, of more words, is a column type of its own.
    """
    mostly_different = stats.num_distinct > stats.num_present / 2
    is_long = stats.mean_chars >= _TEXT_CHARS or stats.mean_words >= _NAME_WORDS
    return is_long and mostly_different


def _is_identifier(name: str, stats: ColumnStats, type: str) -> bool:
    if stats.num_present < _MIN_IDENTIFIER_ROWS:
        return False
    if type == "categorical":
        return stats.num_distinct >= math.ceil(0.99 * stats.num_present)
    if type != "numeric" or not stats.is_integral:
        return False
    if stats.num_distinct < stats.num_present or stats.min is None or stats.max is None:
        return False
    density = stats.num_distinct / (stats.max - stats.min + 1)
    return density >= 0.9 or not _IDENTIFIER_WORDS.isdisjoint(name_words(name))


def name_words(name: str) -> list[str]:
    """`"customerID"` to customer, id."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def _ignored(column: Column, reason: str) -> Column:
    name = column.name
    how = f"--column {name}=text" if reason == "text" else f"--keep {name}"
    way_out = "" if reason in ("empty", "unsupported") else f" Use it: {how}"
    note(
        "column_ignored",
        f"Column '{name}' is left out ({reason}): {_REASONS[reason]}.{way_out}",
        column=name,
        reason=reason,
        columns=[name],
        gate=reason in ("identifier", "constant"),
    )
    ignored = {"type": reason, "role": "ignored", "reason": _REASONS[reason]}
    return column.model_copy(update=ignored)


def _say_decimal_commas(column: Column) -> None:
    texts = [text for text, _ in column.stats.top]
    if column.type != "categorical" or not texts:
        return
    if all(re.fullmatch(_DECIMAL_COMMA, text) for text in texts):
        warn(
            "decimal_commas",
            f"Column '{column.name}' holds numbers with a decimal comma, such as "
            f"'{texts[0]}', and they are read as categories. To use them as numbers, "
            "write them with a point.",
            column=column.name,
        )


def _say_what_was_read(column: Column, wish: ColumnConfig) -> None:
    stats = column.stats
    if column.type == "numeric":
        _say_missing_texts(column, stats.not_numbers)
        if stats.num_infinite:
            warn(
                "infinite_numbers",
                f"Column '{column.name}' has {stats.num_infinite:,} infinite numbers; "
                "they count as missing.",
                column=column.name,
                count=stats.num_infinite,
            )
    elif column.type == "datetime":
        _say_date_order(column, wish)


def _say_missing_texts(column: Column, texts: Iterable[tuple[str, int]]) -> None:
    counts = {t: count for t, count in texts if t in column.missing_values}
    if not counts:
        return
    shown = ", ".join(f"{text!r} ({count:,} rows)" for text, count in counts.items())
    warn(
        "texts_among_numbers",
        f"Column '{column.name}' is read as numbers; these texts in it count as "
        f"missing: {shown}. If they mean something: --column {column.name}=categorical",
        column=column.name,
        texts=counts,
    )


def _say_date_order(column: Column, wish: ColumnConfig) -> None:
    stats = column.stats
    orders = stats.num_as_date
    num_read = orders.get(column.format or "", 0)
    if wish.format is None and num_read and orders["mdy"] == orders["dmy"] == num_read:
        warn(
            "ambiguous_dates",
            f"Dates in column '{column.name}' are read as month/day/year, but every "
            "one would read as day/month/year too. If that is meant: "
            f"columns: {{{column.name}: {{format: dmy}}}}",
            column=column.name,
        )
