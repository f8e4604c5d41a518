"""Rows alike in all features that differ in the target: what no model can tell."""

import math

from kerastrain.events import finding
from kerastrain.schema import Column, Schema, Target
from kerastrain.source import quoted
from kerastrain.statistics import Cells, number_sql

__all__ = ["find_conflicts"]

# Looked for among about this many rows, drawn by the hash of one feature, which keeps
# equal rows together: a hash of 30 features takes 0.2 s for a million rows.
_MAX_ROWS = 250_000
_MIN_DISTINCT = 10_000
# Shares of the rows, or of the target's variance, that are lost to every model.
_LITTLE, _MUCH = 0.001, 0.01


def find_conflicts(cells: Cells, schema: Schema) -> None:
    """Tell the best score that any model can have, where equal rows differ in target.

    It is a warning where a hundredth is lost, and not told below a thousandth.
    """
    target = schema.target
    if target is None or not schema.features:
        return
    step = max(1, math.ceil(cells.num_rows / _MAX_ROWS))
    names = ", ".join(cells.ids[column.name] for column in schema.features)
    finest = max(schema.features, key=lambda column: column.stats.num_distinct)
    is_fine = finest.stats.num_distinct >= _MIN_DISTINCT
    drawn_by = cells.ids[finest.name] if is_fine else names
    cells.rows(
        f"CREATE OR REPLACE TEMP TABLE alike AS SELECT hash({names}) AS h, "
        f"{_target_sql(cells, schema[target.name], target)} AS y FROM cells "
        f"WHERE hash({drawn_by}) % {step} = 0 AND y IS NOT NULL"
    )
    differing = (
        "SELECT h FROM alike GROUP BY h HAVING count(*) > 1 AND min(y) <> max(y)"
    )
    cells.rows(
        "CREATE OR REPLACE TEMP TABLE differing AS SELECT a.h, a.y FROM alike a "
        f"SEMI JOIN ({differing}) d ON a.h = d.h"
    )
    num_rows = cells.rows("SELECT count(*) FROM alike")[0][0]
    num_alike = cells.rows("SELECT count(*) FROM differing")[0][0]
    if num_alike:
        _tell(cells, target, num_alike, num_rows, step)


def _tell(
    cells: Cells, target: Target, num_alike: int, num_rows: int, step: int
) -> None:
    is_number = target.task == "regression"
    lost = _lost_variance(cells) if is_number else _lost_rows(cells) / num_rows
    if lost < _LITTLE:
        return
    goal = f"an R2 above {1 - lost:.4f}" if is_number else f"over {1 - lost:.2%} right"
    finding(
        "conflicting_rows",
        f"{'About ' if step > 1 else ''}{num_alike * step:,} rows "
        f"({num_alike / num_rows:.1%}) have a twin with the same features and another "
        f"value of '{target.name}', so no model can get {goal} on this "
        "table. Look for a column that tells them apart, or for errors in the target.",
        columns=[target.name],
        severity="warning" if lost >= _MUCH else "info",
        count=num_alike * step,
        ceiling=1 - lost,
    )


def _target_sql(cells: Cells, column: Column, target: Target) -> str:
    """The target as a number or as text; NULL where it is missing."""
    cell = cells.ids[column.name]
    text = f"CAST({cell} AS VARCHAR)"
    value = text
    if target.task == "regression":
        value = number_sql(cell, cells.storage[column.name], column.format)
    if not column.missing_values:
        return value
    listed = ", ".join(quoted(word) for word in column.missing_values)
    return f"CASE WHEN {text} NOT IN ({listed}) THEN {value} END"


def _lost_rows(cells: Cells) -> int:
    """Rows that are not of the most frequent class among those alike."""
    return cells.rows(
        "SELECT sum(n) - sum(most) FROM (SELECT sum(n) AS n, max(n) AS most FROM "
        "(SELECT h, count(*) AS n FROM differing GROUP BY h, y) GROUP BY h)"
    )[0][0]


def _lost_variance(cells: Cells) -> float:
    """Share of the target's variance that lies within rows alike."""
    within, total = cells.rows(
        "SELECT (SELECT sum(v) FROM (SELECT var_pop(y) * count(*) AS v FROM differing "
        "GROUP BY h)), (SELECT var_pop(y) * count(*) FROM alike)"
    )[0]
    return float(within) / float(total) if total else 0.0
