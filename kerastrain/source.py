"""What a source is, and which one reads a given piece of data."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from kerastrain.config import SourceConfig
from kerastrain.errors import ConfigError, SourceError, listing
from kerastrain.files import kind_of
from kerastrain.memory import connect
from kerastrain.schema import no_such_column
from kerastrain.sources import SOURCES

__all__ = ["Source", "open_source"]

_COMPARED_AS = ("DOUBLE", "TIMESTAMP")
MAX_COLUMNS = 20_000  # as a model, each is an input of its own


class Source(ABC):
    """Rows of a table, readable any number of times in the same order.

    A class in `SOURCES` is called with the data and the largest share of malformed
    rows that is passed over; its keyword-only arguments are its options.

    Attributes:
        name: what messages call it, such as `"churn.csv"`.
        schema: Arrow schema of what `scan` gives.
        num_rows: rows, or None when that is known only after a scan.
    """

    name: str
    schema: pa.Schema
    num_rows: int | None = None

    @abstractmethod
    def scan(
        self, columns: Sequence[str] | None = None, *, batch_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        """Batches of the named columns (all by default) in the order of the source."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """What was read, as JSON types: files with size and hash, or shape and hash."""

    def relation(
        self, connection: duckdb.DuckDBPyConnection
    ) -> duckdb.DuckDBPyRelation:
        """The table inside DuckDB; sources that DuckDB reads itself override this."""
        reader = pa.RecordBatchReader.from_batches(self.schema, self.scan())
        return connection.from_arrow(reader)

    def selected(self, where: str | None, columns: Sequence[str] = ()) -> "Source":
        """The rows that fulfil a condition, and some columns; of nothing, itself.

        A source that can leave out what is not asked for earlier overrides this.
        """
        if where is None and not columns:
            return self
        return Selected(self, where, columns)

    def checked_columns(self, columns: Sequence[str] | None) -> list[str]:
        """`columns`, or all of them; SchemaError for one that the source lacks."""
        names = list(self.schema.names)
        for name in columns or ():
            if name not in names:
                raise no_such_column(name, names, where=self.name)
        return names if columns is None else list(columns)


class Selected(Source):
    """Rows of a source that fulfil a condition, and some of its columns.

    Both go down into DuckDB's own readers, and into its scans of Arrow tables. A
    column of texts that the condition names is compared as a number where all present
    values read so, or as a time; what `scan` gives are the texts.
    """

    def __init__(self, source: Source, where: str | None, columns: Sequence[str]):
        self.source = source
        self.where = where
        names = source.checked_columns(list(columns) or None)
        self.name = source.name
        self.num_rows = source.num_rows if where is None else None
        self.schema = pa.schema([source.schema.field(name) for name in names])
        self._connection = connect()
        self._types = self._compared_as() if where else {}
        if where:
            self._check()

    def scan(
        self, columns: Sequence[str] | None = None, *, batch_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        names = self.checked_columns(columns)
        if self.where is None:
            yield from self.source.scan(names, batch_rows=batch_rows)
            return
        with self._connection.cursor() as cursor:
            relation = self._rows(cursor, names)
            try:
                yield from relation.to_arrow_reader(batch_rows)
            except (duckdb.Error, pa.ArrowException) as error:
                raise unreadable(self.name, error) from error

    def relation(
        self, connection: duckdb.DuckDBPyConnection
    ) -> duckdb.DuckDBPyRelation:
        return self._rows(connection, self.schema.names)

    def fingerprint(self) -> dict[str, Any]:
        chosen = {"where": self.where, "columns": list(self.schema.names)}
        return self.source.fingerprint() | chosen

    def _rows(
        self, connection: duckdb.DuckDBPyConnection, names: Sequence[str]
    ) -> duckdb.DuckDBPyRelation:
        relation = self.source.relation(connection)
        if self.where is None:
            return relation.project(", ".join(quoted(name, '"') for name in names))
        inner = [
            *(f"{quoted(name, chr(34))} AS r{i}" for i, name in enumerate(names)),
            *(self._typed(name) for name in self._named()),
        ]
        kept = ", ".join(f"r{i} AS {quoted(n, chr(34))}" for i, n in enumerate(names))
        typed = relation.project(", ".join(inner))
        return typed.filter(f"({self.where}\n)").project(kept)

    def _typed(self, name: str) -> str:
        column = quoted(name, '"')
        kind = self._types.get(name)
        if kind is None:
            return column
        # A bare cast would be pushed into DuckDB's CSV reader, and fail there.
        return f"TRY_CAST(trim({column}) AS {kind}) AS {column}"

    def _named(self) -> list[str]:
        """Columns whose name stands in the condition."""
        text = (self.where or "").lower()
        return [name for name in self.source.schema.names if name.lower() in text]

    def _compared_as(self) -> dict[str, str]:
        """DOUBLE or TIMESTAMP for each column of texts that all read so."""
        texts = [
            name
            for name in self._named()
            if pa.types.is_string(self.source.schema.field(name).type)
        ]
        if not texts:
            return {}
        counts = []
        for name in texts:
            cell = f"nullif(trim({quoted(name, chr(34))}), '')"
            counts.append(f"count({cell})")
            counts += [f"count(TRY_CAST({cell} AS {kind}))" for kind in _COMPARED_AS]
        with self._connection.cursor() as cursor:
            relation = self.source.relation(cursor)
            found = relation.aggregate(", ".join(counts)).fetchall()[0]
        types = {}
        for i, name in enumerate(texts):
            total, *read = found[3 * i : 3 * i + 3]
            fitting = [k for k, n in zip(_COMPARED_AS, read, strict=True) if n == total]
            if total and fitting:
                types[name] = fitting[0]
        return types

    def _check(self) -> None:
        """SourceError when the condition is none."""
        try:
            with self._connection.cursor() as cursor:
                self._rows(cursor, self.schema.names[:1]).limit(0).fetchall()
        except duckdb.Error as error:
            names = listing(self.source.schema.names, limit=20)
            text = str(error).strip().partition("\n")[0].rstrip(".!")
            raise SourceError(
                f"--where {self.where}: {text}. Columns of {self.name}: {names}."
            ) from None


def open_source(
    data: Any,
    config: SourceConfig | None = None,
    *,
    max_bad_rows: float = 0.001,
    trusted: bool = True,
    where: str | None = None,
    select: Sequence[str] = (),
) -> Source:
    """The source for files, an address or a table in memory.

    Args:
        data: a path, a list of paths, a glob, a folder, an address of a remote file,
            a data base or a published data set; or a table: pandas, polars, pyarrow,
            a mapping of names to arrays, `(X, y)`. A source is given back as it is.
        config: the source and its options; `auto` goes by the type and the ending.
        max_bad_rows: largest share of malformed rows that is passed over.
        trusted: False for a `config` read from a saved folder: a source of somebody's
            own is then not imported.
        where: a condition in SQL that rows have to fulfil.
        select: columns to keep; all by default.

    Raises:
        SourceError: nothing there, or nothing that can be read.
        ConfigError: the source has no such option, or is not trusted.
    """
    if isinstance(data, Source):
        return data.selected(where, select)
    config = config or SourceConfig()
    name = kind_of(data) if config.name == "auto" else config.name
    if not trusted and name not in SOURCES:
        raise ConfigError(
            f"The run was trained on a foreign source, '{name}', which a saved "
            "folder may not import. In Python, pass that source itself as data."
        )
    options = SOURCES.check(name, config.options, path="source")
    source: Source = SOURCES.load(name)(data, max_bad_rows, **options)
    return source.selected(where, select)


def check_names(names: Sequence[str], where: str) -> None:
    """SourceError for a table without columns, too many, or two of the same name.

    Names that differ in case alone are refused too: DuckDB takes them for one.
    """
    if not names:
        raise SourceError(f"{where} has no columns.")
    if len(names) > MAX_COLUMNS:
        raise SourceError(
            f"{where} has {len(names):,} columns or more; {MAX_COLUMNS:,} can be read, "
            "since each becomes an input of the model. Choose columns, or turn the "
            "table if its rows and columns are swapped."
        )
    count = Counter(name.lower() for name in names)
    twice = [name for name in names if count[name.lower()] > 1]
    if twice:
        is_same = len(set(twice)) < len(twice)
        how = "are the same" if is_same else "differ in case alone"
        shown = listing(f"'{name}'" for name in dict.fromkeys(twice))
        raise SourceError(
            f"{where} has columns whose names {how}: {shown}. Rename them."
        )


def quoted(text: str, mark: str = "'") -> str:
    """`text` as a literal of SQL, or with `mark='"'` as a name."""
    return mark + text.replace(mark, mark * 2) + mark


def stream(
    connection: duckdb.DuckDBPyConnection, query: str, batch_rows: int, where: str
) -> Iterator[pa.RecordBatch]:
    """Batches of a query as DuckDB makes them; SourceError when it cannot."""
    with connection.cursor() as cursor:  # a connection has one open result at a time
        try:
            yield from cursor.sql(query).to_arrow_reader(batch_rows)
        except (duckdb.Error, pa.ArrowException) as error:
            raise unreadable(where, error) from error


def unreadable(where: str, error: Exception) -> SourceError:
    """The error for data that a library refuses, in its own first line."""
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    return SourceError(f"Cannot read {where}: {text.strip().rstrip('.')}.")
