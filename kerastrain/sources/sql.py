"""Tables and queries of data bases."""

import contextlib
import copy
import hashlib
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy

from kerastrain.errors import ConfigError, SourceError, listing, suggest
from kerastrain.events import note
from kerastrain.memory import connect
from kerastrain.secrets import expand, hide_password
from kerastrain.source import Source, check_names, quoted, stream, unreadable
from kerastrain.sqlrows import arrow_schema, batches

__all__ = ["SqlSource"]

FETCH_ROWS = 20_000
_HINTS = {
    "postgresql": "psycopg[binary]",
    "mysql": "pymysql",
    "mariadb": "pymysql",
    "mssql": "pyodbc",
    "oracle": "oracledb",
    "snowflake": "snowflake-sqlalchemy",
    "bigquery": "sqlalchemy-bigquery",
}


_READ_AS = dict.fromkeys(("decimal", "hugeint", "uhugeint"), "DOUBLE")
_READ_AS |= dict.fromkeys(
    ("enum", "uuid", "interval", "time", "struct", "map", "list", "array", "json"),
    "VARCHAR",
)
_READ_AS |= {"timestamp with time zone": "TIMESTAMP"}
_REFUSALS = (sqlalchemy.exc.SQLAlchemyError, duckdb.Error, pa.ArrowException)


class SqlSource(Source):
    """A table or a query of a data base: any address that SQLAlchemy knows, or DuckDB.

    The result is fetched once, in pieces, into a file that goes when the source goes:
    a data base gives rows in no order and may change between two passes. `where` and
    `columns` are part of the query. A password may stand in the environment:
    `postgresql://me:${DB_PASSWORD}@host/db?table=orders`.

    Args:
        query: what to read, in the SQL of the data base.
        table: what to read where there is no query; also `?table=` in the address. The
            only table by default.
    """

    def __init__(
        self,
        data: Any,
        max_bad_rows: float = 0.0,
        *,
        query: str | None = None,
        table: str | None = None,
    ):
        self._address, in_address = _parsed(_single(data))
        self.name = hide_password(self._address)
        self._engine = _engine(self._address)
        self._connection = connect()
        self._folder = tempfile.gettempdir()
        if query and (table or in_address):
            raise ConfigError("source: a query and a table are named; give one.")
        chosen = query or f"SELECT * FROM {self._table(table or in_address)}"
        self._query = chosen.strip().rstrip(";")
        self._open()

    def _open(self) -> None:
        """Ask the data base what the query gives, without reading it."""
        self._folder = tempfile.mkdtemp(prefix="kerastrain-sql-")
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._file: Path | None = None
        self._digest = ""
        self.num_rows = None
        with self._asking():
            self.schema = self._described()
        check_names(self.schema.names, self.name)

    def selected(self, where: str | None, columns: Sequence[str] = ()) -> Source:
        if where is None and not columns:
            return self
        names = self.checked_columns(list(columns) or None)
        shown = ", ".join(self._engine.quoted(name) for name in names)
        condition = f" WHERE ({where}\n)" if where else ""
        chosen = copy.copy(self)
        chosen._query = f"SELECT {shown} FROM ({self._query}\n) AS t{condition}"
        chosen._open()
        return chosen

    def scan(
        self, columns: Sequence[str] | None = None, *, batch_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        names = self.checked_columns(columns)
        shown = ", ".join(quoted(name, '"') for name in names)
        query = f"SELECT {shown} FROM {self._stored()}"
        # Not handed on: the file of the result lives as long as this source.
        yield from stream(self._connection, query, batch_rows, self.name)

    def relation(
        self, connection: duckdb.DuckDBPyConnection
    ) -> duckdb.DuckDBPyRelation:
        return connection.sql(f"FROM {self._stored()}")

    def fingerprint(self) -> dict[str, Any]:
        self._stored()
        return {
            "kind": "sql",
            "address": self.name,
            "query": hide_password(self._query),
            "rows": self.num_rows,
            "sha256": self._digest,
        }

    def _described(self) -> pa.Schema:
        return self._engine.schema(self._query)

    def _table(self, name: str | None) -> str:
        """The table's name as SQL; the only one where none is named."""
        with self._asking():
            names = self._engine.tables()
        if name is None:
            if len(names) != 1:
                shown = listing(names) or "none"
                raise SourceError(
                    f"{self.name}: which table? Name it, as ?table=NAME behind the "
                    f"address, or a query (--query). Tables: {shown}."
                )
            note("only_table", f"{self.name}: its only table, '{names[0]}', is read.")
            name = names[0]
        elif name not in names and "." not in name:
            raise SourceError(
                f"{self.name} has no table '{name}'. {suggest(name, names)}"
                f"Tables: {listing(names)}."
            )
        return ".".join(self._engine.quoted(part) for part in name.split("."))

    def _stored(self) -> str:
        """What DuckDB reads: the file of the result, fetched now if not yet."""
        if self._file is None:
            path = Path(self._folder) / "rows.parquet"
            digest, num_rows = hashlib.sha256(), 0
            with self._asking(), pq.ParquetWriter(path, self.schema) as writer:
                for batch in self._engine.batches(self._query, self.schema):
                    writer.write_batch(batch)
                    num_rows += batch.num_rows
                    for column in batch.columns:
                        for buffer in column.buffers():
                            digest.update(buffer or b"")
            self._file, self.num_rows = path, num_rows
            self._digest = digest.hexdigest()
        return f"read_parquet({quoted(str(self._file))})"

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Errors of the data base as one line, without the password."""
        try:
            yield
        except (
            sqlalchemy.exc.SQLAlchemyError,
            duckdb.Error,
            pa.ArrowException,
        ) as error:
            cause = getattr(error, "orig", None) or error
            text = " ".join(str(cause).split())[:300].rstrip(".")
            raise SourceError(
                f"{self.name}: {hide_password(text).replace(self._secret(), '***')}."
            ) from None
        except OSError as error:
            raise SourceError(
                f"Cannot keep the rows of {self.name} in {self._folder}: "
                f"{error.strerror or error}. Free some space, or set TMPDIR to another "
                "disk."
            ) from None

    def _secret(self) -> str:
        with contextlib.suppress(Exception):
            return _expanded(sqlalchemy.make_url(self._address)).password or "\0"
        return "\0"


# --- how data bases are asked -----------------------------------------------------


class _Alchemy:
    """A data base that SQLAlchemy knows."""

    def __init__(self, address: str):
        try:
            url = _expanded(sqlalchemy.make_url(_with_driver(address)))
            # Without a pool: a connection is closed when its pass ends.
            self._engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        except ModuleNotFoundError as error:
            scheme = address.partition("://")[0].partition("+")[0]
            package = _HINTS.get(scheme, error.name)
            raise SourceError(
                f"{hide_password(address)} needs a driver: pip install '{package}'."
            ) from None
        except sqlalchemy.exc.NoSuchModuleError:
            scheme = address.partition("://")[0]
            hint = _HINTS.get(scheme.partition("+")[0])
            install = f" pip install '{hint}' may bring it." if hint else ""
            raise SourceError(
                f"No data base and no remote file is known by {scheme}://.{install}"
            ) from None
        except sqlalchemy.exc.ArgumentError:
            raise SourceError(
                f"{hide_password(address)} is no address of a data base. Expected, for "
                "example, postgresql://user@host/name?table=orders."
            ) from None

    def tables(self) -> list[str]:
        inspector = sqlalchemy.inspect(self._engine)
        return [*inspector.get_table_names(), *inspector.get_view_names()]

    def quoted(self, name: str) -> str:
        return self._engine.dialect.identifier_preparer.quote(name)

    def schema(self, query: str) -> pa.Schema:
        is_dynamic = self._engine.dialect.name == "sqlite"
        with self._engine.connect() as connection:
            return arrow_schema(connection, query, is_dynamic=is_dynamic)

    def batches(self, query: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        options = {"stream_results": True, "yield_per": FETCH_ROWS}
        with self._engine.connect() as connection:
            result = connection.execution_options(**options).execute(
                sqlalchemy.text(query.replace(":", r"\:"))
            )
            yield from batches(result.partitions(FETCH_ROWS), schema)


class _DuckDb:
    """A file of DuckDB, opened to be read."""

    def __init__(self, path: str):
        try:
            self._connection = connect(path, access_mode="READ_ONLY")
        except duckdb.Error as error:
            raise unreadable(path, error) from None

    def tables(self) -> list[str]:
        return [row[0] for row in self._connection.execute("SHOW TABLES").fetchall()]

    def quoted(self, name: str) -> str:
        return quoted(name, '"')

    def schema(self, query: str) -> pa.Schema:
        return self._plain(query, limit=" LIMIT 0").to_arrow_table().schema

    def batches(self, query: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        yield from self._plain(query).to_arrow_reader(FETCH_ROWS)

    def _plain(self, query: str, limit: str = "") -> duckdb.DuckDBPyRelation:
        """In the types that the profile knows; what is nested is text."""
        relation = self._connection.sql(f"SELECT * FROM ({query}\n){limit}")
        shown = []
        for name, kind in zip(relation.columns, relation.types, strict=True):
            column, read_as = quoted(name, '"'), _READ_AS.get(kind.id)
            cast = f"CAST({column} AS {read_as}) AS {column}" if read_as else column
            shown.append(cast)
        return relation.project(", ".join(shown))


def _engine(address: str) -> Any:
    if address.startswith("duckdb://"):
        return _DuckDb(expand(address).removeprefix("duckdb://").removeprefix("/"))
    return _Alchemy(address)


def _expanded(url: sqlalchemy.URL) -> sqlalchemy.URL:
    """With the values of variables, which may hold any character as they are."""
    parts = {name: getattr(url, name) for name in ("username", "password", "host")}
    parts["database"] = url.database
    expand(url.render_as_string(hide_password=False))  # its errors name the address
    known: Any = {name: expand(value) for name, value in parts.items() if value}
    return url.set(**known)


def _with_driver(address: str) -> str:
    """psycopg 3, which we ask for; SQLAlchemy's own choice is its predecessor."""
    scheme, mark, rest = address.partition("://")
    if scheme in ("postgresql", "postgres"):
        return f"postgresql+psycopg{mark}{rest}"
    return address


def _single(data: Any) -> str:
    entries = [data] if isinstance(data, str | Path) else list(data)
    if len(entries) != 1:
        raise SourceError("A table is read from one data base; join them in a query.")
    return str(entries[0])


def _parsed(text: str) -> tuple[str, str | None]:
    """The address without `table`, and the table."""
    path = Path(text.partition("?")[0]).expanduser()
    if "://" not in text:
        if not path.is_file():
            raise SourceError(f"There is no file {path}.")
        with path.open("rb") as file:
            is_duckdb = file.read(12)[8:] == b"DUCK"
        kind = "duckdb" if is_duckdb else "sqlite"
        text = f"{kind}:///{path}" + text[len(text.partition("?")[0]) :]
    base, _, options = text.partition("?")
    if base.startswith("sqlite:///") and base != "sqlite:///":
        place = Path(expand(base).removeprefix("sqlite:///"))
        if not place.is_file():  # SQLite would make an empty one
            raise SourceError(f"There is no file {place}.")
    pairs = parse_qsl(options, keep_blank_values=True)
    table = next((value for name, value in pairs if name == "table"), None)
    others = [(name, value) for name, value in pairs if name != "table"]
    return base + (f"?{urlencode(others, safe='${}')}" if others else ""), table
