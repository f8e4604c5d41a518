"""Conditions on rows in SQL, such as `year < 2020 AND city IN ('a', 'b')`."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from kerastrain.errors import SourceError, listing

__all__ = ["Condition", "in_quotes", "quoted"]

_KEPT = "__kept_"  # begin of the names of raw columns, beside those compared
# In this order. DuckDB would round "1.5" to a whole number, so those are told by their
# digits; above 18 of them a float is near enough.
_READS_AS = {
    "BIGINT": "count(*) FILTER (regexp_full_match(CELL, '[-+]?[0-9]{1,18}'))",
    "DOUBLE": "count(TRY_CAST(CELL AS DOUBLE))",
    "TIMESTAMP": "count(TRY_CAST(CELL AS TIMESTAMP))",
}


class Condition:
    """A condition on the rows of a table, and how texts are compared in it.

    A column of texts is compared as a number where all its present values read so, as
    a time where they read so, else as text. The rows that come out are untouched.

    Args:
        text: SQL that gives true or false for a row.
        schema: of the table.
        where: what messages call the table.

    Attributes:
        columns: names of the columns that the condition is about.
        texts: those of them that hold texts.
    """

    def __init__(self, text: str, schema: pa.Schema, where: str):
        self.text = text
        self._schema = schema
        self._where = where
        self.columns = self._named()
        self.texts = [
            n for n in self.columns if pa.types.is_string(schema.field(n).type)
        ]
        self._types: dict[str, str] = {}
        self._kept = _KEPT
        while any(name.lower().startswith(self._kept) for name in schema.names):
            self._kept += "_"

    def settle(self, texts: duckdb.DuckDBPyRelation | None) -> None:
        """Find out how texts are compared, and whether all of it makes sense.

        Args:
            texts: the table, or its columns `texts`; None where there are none.

        Raises:
            SourceError: the condition is none.
        """
        self._types = {} if texts is None else self._read_as(texts)
        # A column may have to stay text, as in zip LIKE '0%'.
        ways = [self._types]
        ways += [_without(self._types, name) for name in self._types]
        ways += [{}] if len(self._types) > 1 else []
        problems = []
        for types in ways:
            self._types = types
            problem = self._problem()
            if problem is None:
                return
            problems.append(problem)
        raise self.refusal(problems[0])

    def rows(
        self, relation: duckdb.DuckDBPyRelation, names: Sequence[str]
    ) -> duckdb.DuckDBPyRelation:
        """The named columns of the rows that fulfil the condition."""
        inner = [f"{self._kept}{i}" for i in range(len(names))]
        pairs = list(zip(names, inner, strict=True))
        raw = [f"{in_quotes(name)} AS {kept}" for name, kept in pairs]
        compared = [self._compared(name) for name in self.columns]
        kept = [f"{kept} AS {in_quotes(name)}" for name, kept in pairs]
        typed = relation.project(", ".join(raw + compared))
        return typed.filter(f"({self.text}\n)").project(", ".join(kept))

    def refusal(self, error: Exception) -> SourceError:
        """The error for what DuckDB says about the condition."""
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0].rstrip(".!") if lines else type(error).__name__
        reason = re.sub(r"^\w+ Error: ", "", reason)
        hint = f"Columns of {self._where}: {listing(self._schema.names)}."
        if "Cannot compare" in reason or "Could not convert" in reason:
            hint = (
                "For texts that are not all numbers write TRY_CAST(NAME AS DOUBLE), "
                "and put texts into single quotes."
            )
        return SourceError(f"The condition '{self.text}': {reason}. {hint}")

    def _named(self) -> list[str]:
        """Columns of the table that the condition names, in the order of the table."""
        query = f"SELECT 1 FROM t WHERE ({self.text}\n)"
        with duckdb.connect() as connection:
            found = connection.execute("SELECT json_serialize_sql(?)", [query])
            parsed = json.loads(found.fetchall()[0][0])
        if parsed["error"] or len(parsed["statements"]) != 1:
            raise self.refusal(
                ValueError(parsed.get("error_message", "not one condition"))
            )
        named = {name.lower() for name in _column_names(parsed)}
        return [name for name in self._schema.names if name.lower() in named]

    def _compared(self, name: str) -> str:
        column, kind = in_quotes(name), self._types.get(name)
        if kind is None:
            return column
        # A bare cast would be pushed into DuckDB's CSV reader, and fail there.
        return f"TRY_CAST(trim({column}) AS {kind}) AS {column}"

    def _read_as(self, relation: duckdb.DuckDBPyRelation) -> dict[str, str]:
        """Type for each column of texts whose present values all read as that."""
        counts = []
        for name in self.texts:
            cell = f"nullif(trim({in_quotes(name)}), '')"
            counts.append(f"count({cell})")
            counts += [count.replace("CELL", cell) for count in _READS_AS.values()]
        found = iter(relation.aggregate(", ".join(counts)).fetchall()[0])
        types = {}
        for name in self.texts:
            total = next(found)
            read = {kind: next(found) for kind in _READS_AS}
            fitting = [kind for kind, count in read.items() if count == total > 0]
            if fitting:
                types[name] = fitting[0]
        return types

    def _problem(self) -> Exception | None:
        """What DuckDB says about the condition, asked about no rows."""
        try:
            with duckdb.connect() as connection:
                empty = connection.from_arrow(self._schema.empty_table())
                self.rows(empty, self._schema.names[:1]).fetchall()
        except duckdb.Error as error:
            return error
        return None


def quoted(text: str, mark: str = "'") -> str:
    """`text` as a literal of SQL, or with `mark='"'` as a name."""
    return mark + text.replace(mark, mark * 2) + mark


def in_quotes(name: str) -> str:
    """The name of a column in SQL."""
    return quoted(name, '"')


def _without(types: dict[str, str], name: str) -> dict[str, str]:
    return {other: kind for other, kind in types.items() if other != name}


def _column_names(node: Any) -> Iterator[str]:
    """Names in the references to columns, anywhere in a parsed query."""
    if isinstance(node, list):
        for item in node:
            yield from _column_names(item)
    elif isinstance(node, dict):
        if node.get("class") == "COLUMN_REF":
            yield from node.get("column_names", [])
        for value in node.values():
            yield from _column_names(value)
