"""Tables and queries of data bases."""

import contextlib
import copy
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import duckdb
import pyarrow as pa
import sqlalchemy

from kerastrain.duckfile import DuckFile
from kerastrain.errors import ConfigError, SourceError, listing, suggest
from kerastrain.events import note
from kerastrain.files import find_files
from kerastrain.memory import connect
from kerastrain.remote import is_remote
from kerastrain.schema import no_such_column
from kerastrain.secrets import expand, hide_password
from kerastrain.source import Source, check_names, quoted, stream
from kerastrain.sqlrows import KeptRows, typed

__all__ = ["SqlSource"]

_PACKAGES = {
    "postgresql": "psycopg[binary]",
    "mysql": "pymysql",
    "mariadb": "pymysql",
    "mssql": "pyodbc",
    "oracle": "oracledb",
    "snowflake": "snowflake-sqlalchemy",
    "bigquery": "sqlalchemy-bigquery",
}
_REFUSALS = (sqlalchemy.exc.SQLAlchemyError, duckdb.Error)
_SYSTEM_SCHEMAS = ("information_schema", "mysql", "performance_schema", "sys")
_NO_ROWS = "WHERE 1 = 0"


class SqlSource(Source):
    """A table or a query of a data base: any address that SQLAlchemy knows, or DuckDB.

    The result is fetched once, in pieces, into a file that goes when the source goes: a
    data base gives rows in no order of its own, they may change between two passes, and
    a query may take its time. A table comes in the order of its primary key. `where`
    and `columns` are part of what the data base is asked. A password may stand in the
    environment: `postgresql://me:${DB_PASSWORD}@host/db?table=orders`.

    Args:
        query: what to read, in the SQL of the data base.
        table: what to read where there is no query; a `?table=` in the address counts
            before both. The only table by default.
    """

    def __init__(
        self,
        data: Any,
        max_bad_rows: float = 0.0,
        *,
        query: str | None = None,
        table: str | None = None,
    ):
        if query and table:
            raise ConfigError("source: a query and a table are named; give one.")
        address, in_address = _parsed(_single(data))
        self.name = hide_password(address)
        self._address = _expanded(address)
        if in_address and query:
            note(
                "query_not_used",
                f"{self.name}: the address names the table '{in_address}', so the "
                "query is not used for it.",
            )
        self._database = _open(self._address, self.name)
        self._connection = connect()
        self._kept: KeptRows | None = None
        self._where: str | None = None
        self._columns: list[str] = []
        self._query = None if in_address or not query else query.strip().rstrip("; \n")
        self._order = ""
        self._from = f"({self._query}\n) t"
        if self._query is None:
            self._choose_table(in_address or table)
        with self._asking():
            self._names = self._database.names(f"SELECT * FROM {self._from} {_NO_ROWS}")
        check_names(self._names, self.name)

    @property
    def schema(self) -> pa.Schema:
        """Known when the rows are: types of the values, not of the data base."""
        return self._rows().schema

    @property
    def num_rows(self) -> int | None:  # type: ignore[override]
        return None if self._kept is None else self._kept.num_rows

    def selected(self, where: str | None, columns: Sequence[str] = ()) -> Source:
        for name in columns:
            if name not in self._names:
                raise no_such_column(name, self._names, where=self.name)
        if where is None and not columns:
            return self
        chosen = copy.copy(self)
        chosen._kept = None
        chosen._columns = chosen._names = list(columns) or self._names
        if where is not None:
            both = self._where is not None
            chosen._where = f"({self._where}\n) AND ({where}\n)" if both else where
            chosen._check_condition(where)
        return chosen

    def scan(
        self, columns: Sequence[str] | None = None, *, batch_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        names = self.checked_columns(columns)
        shown = ", ".join(quoted(name, '"') for name in names)
        query = f"SELECT {shown} FROM {self._file()}"
        # Not handed on: the file lives as long as this source.
        yield from stream(self._connection, query, batch_rows, self.name)

    def relation(
        self, connection: duckdb.DuckDBPyConnection
    ) -> duckdb.DuckDBPyRelation:
        return connection.sql(f"FROM {self._file()}")

    def fingerprint(self) -> dict[str, Any]:
        return {
            "kind": "sql",
            "address": self.name,
            "query": hide_password(self._sql()),
            "rows": self._rows().num_rows,
            "sha256": self._rows().sha256(),
        }

    def _sql(self) -> str:
        if self._query is not None and self._where is None and not self._columns:
            return self._query  # as it is: an order inside brackets need not count
        shown = ", ".join(map(self._database.quoted, self._columns)) or "*"
        condition = "" if self._where is None else f" WHERE ({self._where}\n)"
        return f"SELECT {shown} FROM {self._from}{condition}{self._order}"

    def _rows(self) -> KeptRows:
        """The result, fetched now if not yet."""
        if self._kept is None:
            with (
                self._asking(),
                contextlib.closing(
                    self._database.batches(self._sql(), self.name)
                ) as batches,
            ):
                self._kept = KeptRows(batches, self._names)
            check_names(self._kept.schema.names, self.name)
        return self._kept

    def _file(self) -> str:
        return f"read_parquet({quoted(str(self._rows().path))})"

    def _choose_table(self, name: str | None) -> None:
        """Read the named table, or the only one."""
        with self._asking():
            names = self._database.tables() or self._database.tables(everywhere=True)
        if name is None:
            if len(names) != 1:
                shown = listing(names) or "none"
                raise SourceError(
                    f"{self.name}: which table? Name it, as ?table=NAME behind the "
                    f"address, or a query (--query). Tables: {shown}."
                )
            name = names[0]
            note("only_table", f"{self.name}: its only table, '{name}', is read.")
        parts = [name] if name in names else name.split(".")
        self._from = ".".join(map(self._database.quoted, parts))
        if name not in names:
            self._check_table(name)
        with contextlib.suppress(*_REFUSALS, NotImplementedError):
            key = [self._database.quoted(part) for part in self._database.key(parts)]
            self._order = f" ORDER BY {', '.join(key)}" if key else ""

    def _check_table(self, name: str) -> None:
        """SourceError when it is in no list and the data base does not know it."""
        try:
            self._database.names(f"SELECT * FROM {self._from} {_NO_ROWS}")
        except _REFUSALS:
            with self._asking():
                names = self._database.tables(everywhere=True)
            raise SourceError(
                f"{self.name} has no table '{name}'. {suggest(name, names)}"
                f"Tables: {listing(names)}."
            ) from None

    def _check_condition(self, where: str) -> None:
        condition = f"WHERE 1 = 0 AND ({where}\n)"
        try:
            self._database.names(f"SELECT * FROM {self._from} {condition}")
        except _REFUSALS as error:
            raise SourceError(
                f"--where {where}: {self._said(error)}. Columns of {self.name}: "
                f"{listing(self._names)}."
            ) from None

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Errors of the data base as one line, without the password."""
        try:
            yield
        except (*_REFUSALS, pa.ArrowException, ValueError) as error:
            if isinstance(error, SourceError):
                raise
            raise SourceError(f"{self.name}: {self._said(error)}.") from None
        except OSError as error:
            raise SourceError(
                f"Cannot keep the rows of {self.name} on disk: "
                f"{error.strerror or error}. Free some space, or set TMPDIR to another "
                "disk."
            ) from None

    def _said(self, error: Exception) -> str:
        text = str(getattr(error, "orig", None) or error)
        text = re.sub(r"\s*LINE \d+:.*?\^", "", text, flags=re.DOTALL)  # of our making
        text = hide_password(" ".join(text.split()), of=self._address)
        return text[:300].rstrip(".!")


# --- how data bases are asked -----------------------------------------------------


class _Alchemy:
    """A data base that SQLAlchemy knows, asked without leave to change it."""

    def __init__(self, address: str, shown: str):
        url = _url(address, shown)
        try:
            # Without a pool: a connection is closed when its pass ends.
            self._engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        except ModuleNotFoundError as error:
            package = _PACKAGES.get(url.get_backend_name(), error.name)
            raise SourceError(
                f"{shown} needs a driver: pip install '{package}'."
            ) from None
        except sqlalchemy.exc.NoSuchModuleError:
            hint = _PACKAGES.get(url.get_backend_name())
            install = f" pip install '{hint}' may bring it." if hint else ""
            raise SourceError(
                f"No data base and no remote file is known by {url.drivername}://."
                f"{install}"
            ) from None
        self._name = self._engine.dialect.name

    def tables(self, *, everywhere: bool = False) -> list[str]:
        """Tables and views of the default schema, then `schema.table` of the others."""
        inspector = sqlalchemy.inspect(self._engine)
        names = [*inspector.get_table_names(), *inspector.get_view_names()]
        for schema in inspector.get_schema_names() if everywhere else ():
            is_system = schema.startswith("pg_") or schema in _SYSTEM_SCHEMAS
            if not is_system and schema != inspector.default_schema_name:
                names += [f"{schema}.{n}" for n in inspector.get_table_names(schema)]
                names += [f"{schema}.{n}" for n in inspector.get_view_names(schema)]
        return names

    def key(self, parts: Sequence[str]) -> list[str]:
        schema = parts[-2] if len(parts) > 1 else None
        inspector = sqlalchemy.inspect(self._engine)
        return list(
            inspector.get_pk_constraint(parts[-1], schema)["constrained_columns"]
        )

    def quoted(self, name: str) -> str:
        return self._engine.dialect.identifier_preparer.quote_identifier(name)

    def names(self, sql: str) -> list[str]:
        with self._asked(sql) as result:
            return list(result.keys())

    def batches(self, sql: str, where: str) -> Iterator[pa.RecordBatch]:
        with self._asked(sql) as result:
            yield from typed(result.fetchmany, list(result.keys()), where)

    @contextlib.contextmanager
    def _asked(self, sql: str) -> Iterator[Any]:
        # As it is: colons and percent signs are no parameters.
        options: dict[str, Any] = {"stream_results": True, "no_parameters": True}
        if self._name == "postgresql":
            options["postgresql_readonly"] = True
        with self._engine.connect().execution_options(**options) as connection:
            if self._name == "sqlite":
                connection.exec_driver_sql("PRAGMA query_only = ON")
            with contextlib.closing(connection.exec_driver_sql(sql)) as result:
                yield result


def _open(address: str, shown: str) -> Any:
    if not address.startswith("duckdb://"):
        return _Alchemy(address, shown)
    return DuckFile(address.removeprefix("duckdb://").removeprefix("/"), shown)


def _url(address: str, shown: str) -> sqlalchemy.URL:
    """psycopg 3 where no driver is named: SQLAlchemy does not know `postgres://`."""
    address = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", address)
    try:
        url = sqlalchemy.make_url(address)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        url = None
    rest = "" if url is None else f"{url.host or ''}{url.database or ''}"
    if url is None or (url.password and "@" in rest):
        raise SourceError(
            f"{shown} is no address of a data base. Expected, for example, "
            "postgresql://user@host/name?table=orders. In a password write %40 for @ "
            "and %2F for /, or keep it in the environment and write ${DB_PASSWORD}."
        )
    return url


def _expanded(address: str) -> str:
    """With the values of variables, which may hold any characters."""
    expand(address)  # its errors name the address
    base, mark, options = address.partition("?")
    pairs = parse_qsl(options, keep_blank_values=True)
    return expand(base) + mark + urlencode([(name, expand(v)) for name, v in pairs])


def _single(data: Any) -> str:
    entries = [data] if isinstance(data, str | Path) else list(data)
    if len(entries) != 1:
        raise SourceError("A table is read from one data base; join them in a query.")
    return str(entries[0])


def _parsed(text: str) -> tuple[str, str | None]:
    """The address without `table`, and the table."""
    base, mark, options = text.partition("?")
    if "://" not in text or is_remote(base):
        [path] = find_files(base)
        with path.open("rb") as file:
            is_duckdb = file.read(12)[8:] == b"DUCK"
        base = f"{'duckdb' if is_duckdb else 'sqlite'}:///{path}"
    elif base.startswith("sqlite:///") and base != "sqlite:///":
        find_files(expand(base).removeprefix("sqlite:///"))  # SQLite would make one
    pairs = parse_qsl(options, keep_blank_values=True)
    table = next((value for name, value in pairs if name == "table"), None)
    others = [(name, value) for name, value in pairs if name != "table"]
    return base + (f"?{urlencode(others, safe='${}')}" if others else ""), table
