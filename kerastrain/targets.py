"""What is predicted: the task that a target column asks for, and its classes."""

import math
import re
from collections.abc import Callable
from typing import Any

from kerastrain import formats
from kerastrain.columns import COLUMNS
from kerastrain.config import ColumnConfig
from kerastrain.errors import ConfigError, DataError, SchemaError, listing, suggest
from kerastrain.events import note, warn
from kerastrain.schema import Column, ColumnStats, Target, Task
from kerastrain.statistics import Cells, measure

__all__ = ["find_target"]

_MIN_ROWS = 10
_MAX_CLASSES = 1000
_RARE = 10
# Integers with at most this many values, each many times over, are taken for classes.
_MAX_INTEGER_CLASSES = 20
_MAX_INTEGER_SHARE = 0.05


def find_target(
    cells: Cells,
    name: str,
    *,
    task: str = "auto",
    positive_label: str | None = None,
    wish: ColumnConfig | None = None,
) -> tuple[Column, Target]:
    """The target's column and what is predicted.

    Raises:
        DataError: nothing can be learnt: too few rows, one value, too many classes.
        SchemaError: the column does not fit the task.
        ConfigError: `positive_label` is no class, or the task is not binary.
    """
    wish = wish or ColumnConfig()
    stats = measure(cells, name)
    is_number = _is_number(stats, wish)
    column = _target_column(name, stats, wish, is_number)
    usable = _num_usable(column, is_number)
    _check_usable(cells, column, usable)
    stats = stats.model_copy(update={"num_missing": stats.num_rows - usable})
    column = column.model_copy(update={"stats": stats})
    chosen = _checked_task(cells, column, task, is_number, usable)
    if chosen == "regression":
        if positive_label is not None:
            raise ConfigError("positive_label is for two classes, not for numbers.")
        return _numbers(column), Target(name=name, task=chosen)
    column, labels = _classes(cells, column, chosen, positive_label)
    return column, Target(name=name, task=chosen, labels=labels)


def _is_number(stats: ColumnStats, wish: ColumnConfig) -> bool:
    if wish.type is not None:
        return wish.type == "numeric"
    return COLUMNS.load("numeric").matches(stats)


def _target_column(
    name: str, stats: ColumnStats, wish: ColumnConfig, is_number: bool
) -> Column:
    """The column as numbers where it can be read so, else as text."""
    type = "numeric" if is_number else "categorical"
    described = COLUMNS.load(type).describe(stats)
    found = described.get("missing_values", [])
    described["missing_values"] = [*dict.fromkeys([*wish.missing_values, *found])]
    return Column(name=name, type=type, role="target", stats=stats, **described)


def _num_usable(column: Column, is_number: bool) -> int:
    stats = column.stats
    if not is_number:
        return stats.num_present
    read = max(stats.num_as_number, stats.num_as_formatted_number)
    return read - stats.num_infinite


def _check_usable(cells: Cells, column: Column, usable: int) -> None:
    stats = column.stats
    if stats.storage == "other" or (
        stats.storage == "timestamp" or COLUMNS.load("datetime").matches(stats)
    ):
        raise SchemaError(
            f"column '{column.name}' in {cells.where} cannot be the target: expected "
            "classes or numbers, got "
            f"{'nested or binary values' if stats.storage == 'other' else 'dates'}."
        )
    if usable < _MIN_ROWS:
        raise DataError(
            f"{cells.where} has {usable} rows with a target in '{column.name}'; "
            f"at least {_MIN_ROWS} are needed."
        )
    is_constant = column.type == "numeric" and stats.min == stats.max
    if is_constant or _num_classes(column) == 1:
        value = stats.top[0][0] if stats.top else stats.min
        raise DataError(
            f"The target '{column.name}' has one value only, {value!r}: "
            "there is nothing to learn."
        )
    dropped = stats.num_rows - usable
    if dropped:
        warn(
            "missing_target",
            f"{dropped:,} of {stats.num_rows:,} rows have no target "
            f"'{column.name}'{_infinite(stats)} and are left out.",
            column=column.name,
            count=dropped,
        )


def _infinite(stats: ColumnStats) -> str:
    count = stats.num_infinite
    return f" ({count:,} of them an infinite number)" if count else ""


def _num_classes(column: Column) -> int:
    marked = [text for text, _ in column.stats.marked]
    gaps = {*marked, *(text for text, _ in column.stats.not_numbers)}
    return column.stats.num_distinct - len(gaps & {*column.missing_values})


def _checked_task(
    cells: Cells, column: Column, task: str, is_number: bool, usable: int
) -> Task:
    num_classes = _num_classes(column)
    if task == "auto":
        chosen, reason = _inferred(column.stats, num_classes, is_number, usable)
        other = "multiclass" if chosen == "regression" else "regression"
        change = f" To change it: --task {other}" if is_number else ""
        message = f"The task is {chosen}: '{column.name}' {reason}.{change}"
        note("task_inferred", message, task=chosen)
    else:
        chosen = _asked(cells, column, task, is_number, num_classes)
    if chosen == "multiclass":
        _check_classes(column, num_classes, usable)
    return chosen


def _inferred(
    stats: ColumnStats, num_classes: int, is_number: bool, usable: int
) -> tuple[Task, str]:
    if num_classes == 2:
        return "binary", "has two values"
    if not is_number:
        return "multiclass", f"has {num_classes:,} classes"
    if not stats.is_integral:
        return "regression", "holds numbers with fractions"
    few = num_classes <= min(_MAX_INTEGER_CLASSES, _MAX_INTEGER_SHARE * usable)
    if few:
        return "multiclass", f"holds {num_classes} different integers"
    return "regression", f"holds {num_classes:,} different numbers"


def _asked(
    cells: Cells, column: Column, task: str, is_number: bool, num_classes: int
) -> Task:
    if task == "regression":
        if not is_number:
            _refuse_words(cells, column)
        return "regression"
    if task == "binary":
        if num_classes != 2:
            raise DataError(
                f"The target '{column.name}' has {num_classes:,} values, but a binary "
                "task needs two. Leave --task out, or name another."
            )
        return "binary"
    if task == "multiclass":
        return "multiclass"
    raise ConfigError(
        f"task: expected auto, binary, multiclass or regression, got {task!r}."
    )


def _refuse_words(cells: Cells, column: Column) -> None:
    """SchemaError with the first row that is no number."""
    cell = cells.ids[column.name]
    array = cells.arrow(f"SELECT {cell} AS value FROM cells ORDER BY rowid")
    as_number = column.model_copy(update={"type": "numeric", "dtype": "float32"})
    COLUMNS.load("numeric").to_input(
        as_number,
        array.column("value").combine_chunks(),
        where=cells.where,
        first_row=0,
    )


def _check_classes(column: Column, num_classes: int, usable: int) -> None:
    name = column.name
    if num_classes > _MAX_CLASSES:
        raise DataError(
            f"The target '{name}' has {num_classes:,} classes; at most "
            f"{_MAX_CLASSES:,} can be learnt. Is it the right column?"
        )
    if num_classes > usable / 2:
        raise DataError(
            f"The target '{name}' has {num_classes:,} different values in {usable:,} "
            "rows: most classes have a single row, so none can be learnt."
        )


def _numbers(column: Column) -> Column:
    """The target of a regression is read by the ingest, not the model: never text."""
    return column.model_copy(update={"type": "numeric", "dtype": "float32"})


def _classes(
    cells: Cells, column: Column, task: Task, positive_label: str | None
) -> tuple[Column, list[str]]:
    column = column.model_copy(
        update={"type": "categorical", "dtype": "string", "format": None}
    )
    counts = _label_counts(cells, column)
    labels = sorted(counts, key=_label_order(counts))
    if positive_label is not None:
        labels = _with_last(labels, positive_label, task, column.name)
    rare = {label: counts[label] for label in labels if counts[label] < _RARE}
    if rare:
        shown = [f"{label!r} ({count})" for label, count in rare.items()]
        warn(
            "rare_classes",
            f"{len(rare)} of {len(labels)} classes of '{column.name}' have fewer than "
            f"{_RARE} rows: {listing(shown)}. Their scores will be uncertain.",
            classes=rare,
        )
    return column, labels


def _label_counts(cells: Cells, column: Column) -> dict[str, int]:
    """Rows of each class, by the text that `Categorical.to_input` gives it."""
    table = cells.counts(column.name)
    leaf = COLUMNS.load("categorical")
    values = table.column("value").combine_chunks()
    texts = leaf.to_input(column, values, where=cells.where, first_row=0)
    counts: dict[str, int] = {}
    pairs = zip(texts.to_pylist(), table.column("count").to_pylist(), strict=True)
    for text, count in pairs:
        if text:
            counts[text] = counts.get(text, 0) + count
    return counts


def _label_order(labels: dict[str, int]) -> Callable[[str], Any]:
    """Numbers by size when all labels are numbers, else by the alphabet."""
    if all(re.fullmatch(formats.NUMBER, label) for label in labels):
        return lambda label: (float(label) if math.isfinite(float(label)) else 0, label)
    return lambda label: label


def _with_last(labels: list[str], positive: str, task: Task, name: str) -> list[str]:
    if task != "binary":
        raise ConfigError(
            f"positive_label is for two classes; '{name}' has {len(labels)}."
        )
    if positive not in labels:
        raise ConfigError(
            f"positive_label: '{name}' has no class {positive!r}. "
            f"{suggest(positive, labels)}Classes: {listing(labels)}."
        )
    return [label for label in labels if label != positive] + [positive]
