"""A source inside DuckDB, and what is counted there about each column."""

import contextlib
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from kerastrain import formats
from kerastrain.errors import DataError
from kerastrain.memory import connect
from kerastrain.schema import QUANTILES, Column, ColumnStats, Storage
from kerastrain.source import Source, quoted, unreadable

__all__ = ["Cells", "load_cells", "measure", "number_sql"]

_SAMPLE_ROWS = 50_000
_NUM_LISTABLE = 1000
# More distinct values are estimated (to about 2 %), except where it matters whether
# all differ: then they are counted among those drawn by hash, this many at most.
_EXACT_DISTINCT = 10_000
_EXACT_ROWS = 2_000_000
_NUM_TOP = 10
# Names of tests in `pyarrow.types`. A column of nulls is text without a value.
_STORAGES: dict[Storage, tuple[str, ...]] = {
    "boolean": ("boolean",),
    "integer": ("integer",),
    "float": ("floating", "decimal"),
    "timestamp": ("timestamp", "date"),
    "string": ("string", "large_string", "string_view", "null"),
}
_MAX_FLOAT32 = 3.4028235e38


@dataclass(frozen=True)
class Cells:
    """The table `cells` in DuckDB: text trimmed, "" and missing values as NULL.

    Args:
        where: name of the source, for messages.
        ids: column name to its name in `cells` (`c0`, `c1`, ...).
        storage: column name to what the source holds.
        drawn: the table of the sample; `cells` itself where it is small.
    """

    connection: duckdb.DuckDBPyConnection
    where: str
    ids: Mapping[str, str]
    storage: Mapping[str, Storage]
    num_rows: int
    drawn: str = "cells"

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql).fetchall()

    def arrow(self, sql: str) -> pa.Table:
        return self.connection.sql(sql).to_arrow_table()

    def counts(self, name: str, *, limit: int | None = None) -> pa.Table:
        """Present values of a column (`value`), most frequent first, and their rows
        (`count`)."""
        cell = self.ids[name]
        return self.arrow(
            f"SELECT {cell} AS value, count(*) AS count FROM cells "
            f"WHERE {cell} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
            + (f" LIMIT {limit}" if limit else "")
        )

    def sample(self, names: Sequence[str]) -> pa.Table:
        """About 50,000 rows at most, the same ones each time."""
        wanted = ", ".join(f'{self.ids[name]} AS "{self.ids[name]}"' for name in names)
        table = self.arrow(f"SELECT {wanted} FROM {self.drawn}")
        return table.rename_columns(list(names))

    def first_row(self, condition: str) -> int | None:
        """Number of the first row that fulfils `condition`, from 1."""
        found = self.rows(f"SELECT min(rowid) FROM cells WHERE {condition}")[0][0]
        return None if found is None else found + 1


@contextlib.contextmanager
def load_cells(
    source: Source, missing_values: Mapping[str, Sequence[str]]
) -> Iterator[Cells]:
    """Read the source once into a table that DuckDB spills to disk when it is large.

    Raises:
        SourceError: DuckDB cannot read the source.
    """
    with (
        tempfile.TemporaryDirectory(prefix="kerastrain-") as folder,
        contextlib.closing(
            connect(for_table=True, temp_directory=folder)
        ) as connection,
    ):
        storage = {field.name: _storage(field.type) for field in source.schema}
        ids = {name: f"c{i}" for i, name in enumerate(storage)}
        cells = [
            _cell_sql(name, storage[name], missing_values.get(name, ())) for name in ids
        ]
        named = ", ".join(
            f"{c} AS {id}" for c, id in zip(cells, ids.values(), strict=True)
        )
        try:
            source.relation(connection).project(named).create("cells")
        except duckdb.OutOfMemoryException as error:
            raise DataError(
                f"--memory is too little to look at all of {source.name}: DuckDB has "
                "no room in its part of it. Allow more, as --memory 3GB."
            ) from error
        except duckdb.Error as error:
            raise unreadable(source.name, error) from error
        num_rows = connection.execute("SELECT count(*) FROM cells").fetchall()[0][0]
        drawn = _draw_sample(connection, num_rows)
        yield Cells(connection, source.name, ids, storage, num_rows, drawn)


def _draw_sample(connection: duckdb.DuckDBPyConnection, num_rows: int) -> str:
    """By hash, not every n-th row: a period in the data must not show."""
    step = math.ceil(num_rows / _SAMPLE_ROWS)
    if step <= 1:
        return "cells"  # a view of it costs 35 ms a query at 2,000 columns
    connection.execute(
        f"CREATE TABLE drawn AS SELECT * FROM cells WHERE hash(rowid) % {step} = 0"
    )
    return "drawn"


def _storage(kind: pa.DataType) -> Storage:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    for storage, tests in _STORAGES.items():
        if any(getattr(pa.types, f"is_{test}")(kind) for test in tests):
            return storage
    return "other"


def _cell_sql(name: str, storage: Storage, missing_values: Sequence[str]) -> str:
    cell = quoted(name, '"')
    if storage == "string":
        cell = _trimmed_sql(f"CAST({cell} AS VARCHAR)")
        if missing_values:
            listed = ", ".join(quoted(text) for text in missing_values)
            cell = f"CASE WHEN {cell} IN ({listed}) THEN NULL ELSE {cell} END"
    elif storage == "float":
        cell = f"CASE WHEN isnan({cell}::DOUBLE) THEN NULL ELSE {cell} END"
    elif storage == "timestamp":
        cell = f"CAST({cell} AS TIMESTAMP)"
    elif storage == "other":
        cell = f"nullif({cell} IS NOT NULL, false)"
    if storage in ("integer", "float"):
        for text in missing_values:
            number = f"TRY_CAST({quoted(text)} AS DOUBLE)"
            cell = f"CASE WHEN {cell} = {number} THEN NULL ELSE {cell} END"
    return cell


def _trimmed_sql(text: str) -> str:
    """Without spaces at both ends; NULL where nothing is left.

    DuckDB (2.0.0) takes 0.6 us for a trim of SPACES, five times what reading the cell
    of a CSV takes; so texts that begin and end in ASCII, not in a space, are passed.
    """
    # A cast straight from a column of a CSV is pushed into DuckDB's CSV reader, even
    # TRY_CAST, and then fails there: so this comes before all casts to other types.
    is_bare = f"{text} >= '!' AND {text} < chr(127) AND {text}[-1] BETWEEN '!' AND '~'"
    trimmed = f"nullif(trim({text}, {quoted(formats.SPACES)}), '')"
    return f"CASE WHEN {is_bare} THEN {text} ELSE {trimmed} END"


_PLAIN_SQL = "nullif(TRY_CAST(replace({cell}, '_', 'x') AS DOUBLE), 'nan'::DOUBLE)"
_FORMATTED_SQL = (
    "CASE WHEN regexp_full_match({cell}, {pattern}) THEN "
    "TRY_CAST(regexp_replace({cell}, {junk}, '', 'g') AS DOUBLE)"
    " * (CASE WHEN starts_with({cell}, '(') THEN -1 ELSE 1 END)"
    " * (CASE WHEN contains({cell}, '%') THEN 0.01 ELSE 1 END) END"
)


def number_sql(cell: str, storage: Storage, format: str | None = None) -> str:
    """The number in a cell as DOUBLE, NULL where it is none; a date in seconds."""
    if storage == "boolean":
        return f"CAST({cell} AS INTEGER)::DOUBLE"
    if storage == "timestamp":
        return f"epoch({cell})"
    if storage != "string":
        return f"CAST({cell} AS DOUBLE)"
    if format is not None and format in formats.DATES:
        return _seconds_sql(cell, format)
    if format == "formatted":
        pattern = quoted(formats.FORMATTED_NUMBER)
        junk = quoted(formats.FORMATTED_NUMBER_JUNK)
        return _FORMATTED_SQL.format(cell=cell, pattern=pattern, junk=junk)
    return _PLAIN_SQL.format(cell=cell)


def _seconds_sql(cell: str, order: str) -> str:
    # Anchored, because an extract takes the first match: "3" of "31" would do.
    pattern = quoted(f"^{formats.DATES[order]}$")
    parts = [*order, "hour", "minute", "second"]
    names = ", ".join(quoted(part) for part in parts)
    # One extract into a struct: six take six times as long.
    day = "t.y || '-' || t.m || '-' || t.d"
    clock = [f"coalesce(TRY_CAST(t.{part} AS INTEGER), 0)" for part in parts[3:]]
    seconds = f"{clock[0]} * 3600 + {clock[1]} * 60 + {clock[2]}"
    return (
        f"list_transform([regexp_extract({cell}, {pattern}, [{names}])], "
        f"lambda t: epoch(TRY_CAST({day} AS DATE)) + {seconds})[1]"
    )


def measure(cells: Cells, name: str) -> ColumnStats:
    """Count over all rows what one column holds."""
    cell, storage = cells.ids[name], cells.storage[name]
    counted = _basic_counts(cells, cell, storage)
    if storage == "string" and counted["num_as_number"] < counted["num_present"]:
        counted |= _text_counts(cells, name)
    if "num_distinct" not in counted:
        counted["num_distinct"] = _num_distinct(cells, cell, counted)
    is_listable = storage != "other" and counted["num_distinct"] <= _NUM_LISTABLE
    if is_listable and "top" not in counted:
        counted["top"] = _top(cells, name)
    counted["num_missing"] = cells.num_rows - counted.pop("num_present")
    return ColumnStats(storage=storage, num_rows=cells.num_rows, **counted)


def _basic_counts(cells: Cells, cell: str, storage: Storage) -> dict[str, Any]:
    if storage == "other":
        present = cells.rows(f"SELECT count({cell}) FROM cells")[0][0]
        return {"num_present": present, "num_as_number": 0, "num_distinct": present}
    is_small = cells.num_rows <= _EXACT_DISTINCT
    more = {
        "num_present": "count(c)",
        "mean_chars": "avg(length(c))" if storage == "string" else "0",
        "num_distinct": "count(DISTINCT c)" if is_small else "NULL",
    }
    counted = _moments(cells, cell, number_sql(cell, storage), more)
    if counted["num_distinct"] is None:
        del counted["num_distinct"]
    return counted | {"mean_chars": counted["mean_chars"] or 0.0}


def _moments(
    cells: Cells, cell: str, number: str, more: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Range, mean and so on of the finite numbers, and how many there are.

    Args:
        more: other counts over the cell `c`. They share the query: at 2,000 columns
            the queries are most of the time.
    """
    more, quantile = dict(more or {}), f"quantile_cont(f, {list(QUANTILES)})"
    is_all = cells.drawn == "cells"
    wanted = [quantile if is_all else "NULL", *more.values()]
    read, fine, low, high, mean, std, integral, quantiles, *others = cells.rows(
        "SELECT count(n), count(f), min(f), max(f), avg(f), stddev_pop(f), "
        f"bool_and(f = floor(f)), {', '.join(wanted)} "
        f"FROM {_finite_sql(cell, number, 'cells')}"
    )[0]
    if not is_all:
        drawn = _finite_sql(cell, number, cells.drawn)
        quantiles = cells.rows(f"SELECT {quantile} FROM {drawn}")[0][0]
    return dict(zip(more, others, strict=True)) | {
        "num_as_number": read,
        "num_infinite": read - fine,
        "min": low,
        "max": high,
        "mean": mean,
        "std": std,
        "is_integral": bool(integral),
        "quantiles": quantiles or [],
    }


def _finite_sql(cell: str, number: str, table: str) -> str:
    """`c` is the cell, `n` its number, `f` the same where float32 holds it."""
    return (
        f"(SELECT c, n, CASE WHEN abs(n) <= {_MAX_FLOAT32} THEN n END AS f "
        f"FROM (SELECT {cell} AS c, {number} AS n FROM {table}))"
    )


def _text_counts(cells: Cells, name: str) -> dict[str, Any]:
    """What the different texts of a column look like; each is looked at once."""
    cell = cells.ids[name]
    cells.rows(
        f"CREATE OR REPLACE TEMP TABLE texts AS SELECT {cell} AS t, count(*) AS k, "
        f"{number_sql(cell, 'string')} IS NOT NULL AS is_number, "
        f"{_matches(cell, formats.FORMATTED_NUMBER)} AS is_formatted "
        f"FROM cells WHERE {cell} IS NOT NULL GROUP BY 1"
    )
    marks = ", ".join(quoted(word) for word in sorted(formats.MISSING_WORDS))
    orders = [
        f"coalesce(sum(k) FILTER ({_matches('t', pattern)}), 0)::BIGINT"
        for pattern in formats.DATES.values()
    ]
    distinct, words, formatted, *dates = cells.rows(
        "SELECT count(*), sum(k * (1 + length(t) - length(replace(t, ' ', '')))) "
        "/ sum(k), coalesce(sum(k) FILTER (is_formatted), 0)::BIGINT, "
        f"{', '.join(orders)} FROM texts"
    )[0]
    first = "ORDER BY k DESC, t LIMIT"
    marked = cells.rows(f"SELECT t, k FROM texts WHERE lower(t) IN ({marks})")
    others = (
        "SELECT t, k FROM texts WHERE NOT is_number AND NOT is_formatted "
        f"AND lower(t) NOT IN ({marks}) {first} {_NUM_TOP + 1}"
    )
    counted = {
        "num_distinct": distinct,
        "mean_words": float(words),
        "num_as_formatted_number": formatted,
        "num_as_date": dict(zip(formats.DATES, dates, strict=True)),
        "marked": sorted(marked),
        "not_numbers": cells.rows(others) if formatted else [],
        "top": cells.rows(f"SELECT t, k FROM texts {first} {_NUM_TOP}"),
    }
    num_plain = cells.rows("SELECT sum(k) FILTER (is_number) FROM texts")[0][0] or 0
    if formatted > num_plain:
        moments = _moments(cells, cell, number_sql(cell, "string", "formatted"))
        counted |= moments | {"num_as_number": int(num_plain)}
    return counted


def _matches(cell: str, pattern: str) -> str:
    return f"regexp_full_match({cell}, {quoted(pattern)})"


def describe_dates(cells: Cells, column: Column) -> ColumnStats:
    """`column.stats` with the range of the dates in it, in seconds since 1970."""
    cell = cells.ids[column.name]
    number = number_sql(cell, cells.storage[column.name], column.format)
    moments = _moments(cells, cell, number)
    moments["num_as_number"] = column.stats.num_as_number
    return column.stats.model_copy(update=moments)


def _num_distinct(cells: Cells, cell: str, counted: Mapping[str, Any]) -> int:
    """Exact where few, or where it decides whether a column is an identifier."""
    num_present = counted["num_present"]
    near = cells.rows(f"SELECT approx_count_distinct({cell}) FROM cells")[0][0]
    is_quantity = counted["num_as_number"] == num_present and not counted["is_integral"]
    if near > _EXACT_DISTINCT and (is_quantity or near < num_present / 2):
        return min(near, num_present)
    step = math.ceil(near / _EXACT_ROWS) or 1
    different, rows = cells.rows(
        f"SELECT count(DISTINCT {cell}), count({cell}) FROM cells "
        + (f"WHERE hash({cell}) % {step} = 0" if step > 1 else "")
    )[0]
    return num_present if different == rows else min(different * step, num_present)


def _top(cells: Cells, name: str) -> list[tuple[str, int]]:
    table = cells.counts(name, limit=_NUM_TOP)
    texts = formats.as_text(table.column("value")).to_pylist()
    return list(zip(texts, table.column("count").to_pylist(), strict=True))
