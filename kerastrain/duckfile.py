"""A file of DuckDB as a data base that is only read."""

from collections.abc import Iterator, Sequence

import duckdb
import pyarrow as pa

from kerastrain.errors import SourceError
from kerastrain.files import find_files
from kerastrain.memory import connect
from kerastrain.source import check_names, quoted

__all__ = ["DuckFile"]

_BATCH_ROWS = 20_000
# Types that the profile does not know as they are.
_READ_AS = dict.fromkeys(("decimal", "hugeint", "uhugeint"), "DOUBLE")
_READ_AS |= dict.fromkeys(
    ("enum", "uuid", "interval", "time", "time with time zone", "json", "bit")
    + ("struct", "map", "list", "array", "union", "variant"),
    "VARCHAR",
)
_READ_AS |= {"timestamp with time zone": "TIMESTAMP"}


class DuckFile:
    """A file of DuckDB, opened to be read, beside other sources of the same file."""

    def __init__(self, path: str, shown: str):
        [file] = find_files(path)
        self._connection = connect()
        try:
            # The clock of a point in time shall not depend on this machine.
            self._connection.execute("SET TimeZone = 'UTC'")
            self._connection.execute(f"ATTACH {quoted(str(file))} AS data (READ_ONLY)")
            self._connection.execute("USE data")
        except duckdb.Error as error:
            text = str(error).partition("\n")[0].rstrip(".!")
            raise SourceError(f"Cannot read {shown}: {text}.") from None

    def tables(self, *, everywhere: bool = False) -> list[str]:
        found = self._connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables "
            "WHERE table_catalog = 'data' ORDER BY ALL"
        ).fetchall()
        names = [name for schema, name in found if schema == "main"]
        others = [f"{schema}.{name}" for schema, name in found if schema != "main"]
        return names + others if everywhere else names

    def key(self, parts: Sequence[str]) -> list[str]:
        return []  # rows have an order: that in which they were put in

    def quoted(self, name: str) -> str:
        return quoted(name, '"')

    def names(self, sql: str) -> list[str]:
        return list(self._connection.sql(sql).columns)

    def batches(self, sql: str, where: str) -> Iterator[pa.RecordBatch]:
        """In the types that the profile knows; what is nested is text."""
        relation = self._connection.sql(sql)
        check_names(relation.columns, where)
        shown = []
        for name, kind in zip(relation.columns, relation.types, strict=True):
            column, read_as = quoted(name, '"'), _READ_AS.get(kind.id)
            shown.append(f"CAST({column} AS {read_as})" if read_as else column)
            shown[-1] += f" AS {column}"
        yield from relation.project(", ".join(shown)).to_arrow_reader(_BATCH_ROWS)
