"""What a table holds: the schema, statistics over all rows, and warnings."""

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from typing import Any

from kerastrain.config import ColumnConfig
from kerastrain.detection import detect, matching_type
from kerastrain.errors import ConfigError, DataError
from kerastrain.events import note, warn
from kerastrain.quality import check_table
from kerastrain.schema import Column, Schema, Target, input_names, no_such_column
from kerastrain.source import Source
from kerastrain.splitkeys import split_key, without_key
from kerastrain.statistics import Cells, load_cells, measure
from kerastrain.targets import find_target

__all__ = ["profile", "summary_rows"]

# Duplicates are looked for among about this many rows, drawn by the hash of the row,
# which keeps equal rows together.
_DUPLICATE_ROWS = 2_000_000


def profile(  # noqa: PLR0913  (what a user may know about a table)
    source: Source,
    *,
    target: str | None = None,
    task: str = "auto",
    positive_label: str | None = None,
    weight: str | None = None,
    columns: Mapping[str, ColumnConfig] | None = None,
    ignore: Sequence[str] = (),
    keep: Sequence[str] = (),
    keys: Mapping[str, str] | None = None,
) -> Schema:
    """Decide over all rows what each column is and what is predicted.

    Args:
        target: the column to predict; None describes the table only.
        task: `auto`, `binary`, `multiclass` or `regression`.
        positive_label: which of two classes is the positive one.
        weight: a column of row weights, 0 and above.
        columns: types, formats and missing values that the user sets.
        ignore: columns to leave out.
        keep: columns to use although they would be left out.
        keys: columns that the split goes by, under `group`, `time` or `part`.

    Raises:
        SchemaError: no such column, or the data do not fit what was set.
        DataError: nothing can be learnt from the table.
        ConfigError: settings that contradict each other.
    """
    columns, keys = columns or {}, keys or {}
    _check_names(source, [target, weight, *columns, *ignore, *keep, *keys.values()])
    _check_roles(target, weight, ignore)
    missing = {name: wish.missing_values for name, wish in columns.items()}
    with load_cells(source, missing) as cells:
        if not cells.num_rows:
            raise DataError(f"{source.name} has no rows.")
        found: Target | None = None
        described: dict[str, Column] = {}
        if target is not None:
            described[target], found = find_target(
                cells,
                target,
                task=task,
                positive_label=positive_label,
                wish=columns.get(target),
            )
        for name in cells.ids:
            if name not in described:
                wish = columns.get(name, ColumnConfig())
                described[name] = _feature(cells, name, wish, ignore, keep, weight)
        found_keys = {
            kind: split_key(kind, described[name], cells.where)
            for kind, name in keys.items()
        }
        for kind, name in keys.items():
            described[name] = without_key(kind, described[name], keep)
        ordered = _named_inputs([described[name] for name in cells.ids])
        schema = Schema(
            columns=ordered, num_rows=cells.num_rows, target=found, keys=found_keys
        )
        _check_learnable(schema, source.name)
        _tell_duplicates(cells, schema)
        check_table(cells, schema)
    return schema


def _check_names(source: Source, names: Sequence[str | None]) -> None:
    for name in names:
        if name is not None and name not in source.schema.names:
            raise no_such_column(name, source.schema.names, where=source.name)


def _check_roles(target: str | None, weight: str | None, ignore: Sequence[str]) -> None:
    if target is not None and target == weight:
        raise ConfigError(f"Column '{target}' cannot be both target and weight.")
    for role, name in (("target", target), ("weight", weight)):
        if name in ignore:
            raise ConfigError(f"Column '{name}' is the {role} and cannot be ignored.")


def _feature(
    cells: Cells,
    name: str,
    wish: ColumnConfig,
    ignore: Sequence[str],
    keep: Sequence[str],
    weight: str | None,
) -> Column:
    if name == weight:
        return _weight_column(cells, name, wish)
    if name in ignore:
        stats = measure(cells, name)
        reason = "left out by the user"
        return Column(
            name=name,
            type=matching_type(stats),
            role="ignored",
            reason=reason,
            stats=stats,
        )
    return detect(cells, name, wish, keep=name in keep)


def _weight_column(cells: Cells, name: str, wish: ColumnConfig) -> Column:
    """Numbers, read outside the model: always float32."""
    wish = wish.model_copy(update={"type": "numeric"})
    column = detect(cells, name, wish, keep=True)
    return column.model_copy(update={"role": "weight", "dtype": "float32"})


def _named_inputs(columns: Sequence[Column]) -> list[Column]:
    names = input_names([c.name for c in columns if c.role == "feature"])
    return [c.model_copy(update={"input": names.get(c.name, "")}) for c in columns]


def _check_learnable(schema: Schema, where: str) -> None:
    if schema.target is None or schema.features:
        return
    reasons = [f"'{c.name}' ({c.type})" for c in schema.columns if c.role == "ignored"]
    left_out = f" Left out: {', '.join(reasons[:10])}." if reasons else ""
    raise DataError(
        f"{where} has no column to predict '{schema.target.name}' from.{left_out}"
    )


def _tell_duplicates(cells: Cells, schema: Schema) -> None:
    """Rows that are equal in all columns but identifiers."""
    names = [
        c.name for c in schema.columns if c.type not in ("identifier", "unsupported")
    ]
    if not names:
        return
    row_hash = f"hash({', '.join(cells.ids[name] for name in names)})"
    step = max(1, math.ceil(cells.num_rows / _DUPLICATE_ROWS))
    num_rows, num_different = cells.rows(
        f"SELECT count(h), count(DISTINCT h) FROM (SELECT {row_hash} AS h FROM cells) "
        f"WHERE h % {step} = 0"
    )[0]
    if num_rows == num_different:
        return
    share = 1 - num_different / num_rows
    count = round(share * cells.num_rows)
    say = warn if share >= 0.01 else note
    say(
        "duplicate_rows",
        f"{'About ' if step > 1 else ''}{count:,} of {cells.num_rows:,} rows "
        f"({_share(count, cells.num_rows)}) repeat an earlier row. "
        "The split keeps equal rows on one side.",
        count=count,
        share=share,
    )


def summary_rows(schema: Schema) -> list[dict[str, Any]]:
    """One row of plain text for each column, for a table on a screen.

    Keys: name, type, role, missing, distinct, values, note.
    """
    return [
        {
            "name": column.name,
            "type": column.type,
            "role": column.role,
            "missing": _share(column.stats.num_missing, schema.num_rows),
            "distinct": f"{column.stats.num_distinct:,}",
            "values": _values(column),
            "note": _remark(column),
        }
        for column in schema.columns
    ]


def _share(count: int, num_rows: int) -> str:
    share = count / max(1, num_rows)
    return "" if not count else "<0.1%" if share < 0.001 else f"{share:.1%}"


def _values(column: Column) -> str:
    """Range and median of numbers, range of dates, else the most frequent values."""
    stats = column.stats
    if column.type == "datetime" and stats.min is not None and stats.max is not None:
        return f"{_date(stats.min)} to {_date(stats.max)}"
    if column.type in ("numeric", "identifier") and stats.quantiles:
        median = stats.quantiles[len(stats.quantiles) // 2]
        return f"{stats.min:.6g} to {stats.max:.6g}, median {median:.6g}"
    shown = [f"{text[:24]} ({_share(n, stats.num_rows)})" for text, n in stats.top[:3]]
    more = ", ..." if shown and stats.num_distinct > len(shown) else ""
    return ", ".join(shown) + more


def _date(seconds: float) -> str:
    # By addition: fromtimestamp refuses years before 1970 on some systems.
    start = dt.datetime(1970, 1, 1)
    return (start + dt.timedelta(seconds=seconds)).strftime("%Y-%m-%d")


def _remark(column: Column) -> str:
    if column.reason:
        return column.reason
    parts = [f"read as {column.format}"] if column.format else []
    if column.missing_values:
        texts = ", ".join(repr(text) for text in column.missing_values[:3])
        parts.append(f"missing: {texts}")
    return "; ".join(parts)
