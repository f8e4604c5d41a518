"""What a source is, and which one reads a given piece of data."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from kerastrain.config import SourceConfig
from kerastrain.errors import ConfigError, SourceError, listing
from kerastrain.files import is_files, kind_of
from kerastrain.memory import connect
from kerastrain.schema import no_such_column
from kerastrain.selection import Condition, in_quotes, quoted
from kerastrain.sources import SOURCES

__all__ = ["Source", "open_source", "quoted", "source_of_new_data"]

MAX_COLUMNS = 20_000  # as a model, each is an input of its own
MOST_TO_CHOOSE_FROM = 200_000  # even to name them all takes seconds beyond it
# Beyond the first batch Arrow hands DuckDB's errors on as its own, or as OSError.
_REFUSALS = (duckdb.Error, pa.ArrowException, OSError)
_THROUGH_ARROW = re.compile(
    r"reading the Arrow source failed: \w+: (.*?)\.? Detail: Python exception", re.S
)
# Options that say which rows are read; the others say how they are written.
_OF_ROWS = ("query", "table", "split", "revision", "sheet")


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
        known = set(names)
        for name in columns or ():
            if name not in known:
                raise no_such_column(name, names, where=self.name)
        return names if columns is None else list(columns)


class Selected(Source):
    """Rows of a source that fulfil a condition, and some of its columns.

    Both go down into DuckDB's own readers and into its scans of Arrow tables; other
    sources are asked for the columns that are needed.
    """

    def __init__(self, source: Source, where: str | None, columns: Sequence[str]):
        self.source = source
        self._columns = list(dict.fromkeys(columns))
        names = source.checked_columns(self._columns or None)
        self.name = source.name
        self.num_rows = source.num_rows if where is None else None
        self.schema = pa.schema([source.schema.field(name) for name in names])
        self._connection = connect()
        self._condition: Condition | None = None
        if where is not None:
            self._condition = Condition(where, source.schema, source.name)
            self._settle(self._condition)

    def scan(
        self, columns: Sequence[str] | None = None, *, batch_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        names = self.checked_columns(columns)
        if self._condition is None:
            yield from self.source.scan(names, batch_rows=batch_rows)
            return
        schema = pa.schema([self.schema.field(name) for name in names])
        with self._connection.cursor() as cursor:
            try:
                rows = self._rows(cursor, names)
                for batch in rows.to_arrow_reader(batch_rows):
                    yield batch if batch.schema == schema else batch.cast(schema)
            except _REFUSALS as error:
                if "Conversion Error" in str(error):
                    raise self._condition.refusal(error) from error
                raise unreadable(self.name, error) from error

    def relation(
        self, connection: duckdb.DuckDBPyConnection
    ) -> duckdb.DuckDBPyRelation:
        return self._rows(connection, self.schema.names)

    def fingerprint(self) -> dict[str, Any]:
        found = dict(self.source.fingerprint())
        if self._condition is not None:
            found["where"] = self._condition.text
        return found | ({"columns": self._columns} if self._columns else {})

    def selected(self, where: str | None, columns: Sequence[str] = ()) -> Source:
        if where is None and not columns:
            return self
        self.checked_columns(columns)
        if self._condition is not None and where is not None:
            where = f"({self._condition.text}\n) AND ({where}\n)"
        elif self._condition is not None:
            where = self._condition.text
        return Selected(self.source, where, columns or self._columns)

    def _settle(self, condition: Condition) -> None:
        if not condition.texts:
            condition.settle(None)
            return
        with self._connection.cursor() as cursor:
            try:
                condition.settle(self._table(cursor, condition.texts))
            except _REFUSALS as error:
                raise unreadable(self.name, error) from error

    def _rows(
        self, connection: duckdb.DuckDBPyConnection, names: Sequence[str]
    ) -> duckdb.DuckDBPyRelation:
        if self._condition is None:
            table = self._table(connection, names)
            return table.project(", ".join(map(in_quotes, names)))
        needed = dict.fromkeys([*names, *self._condition.columns])
        return self._condition.rows(self._table(connection, [*needed]), names)

    def _table(
        self, connection: duckdb.DuckDBPyConnection, needed: Sequence[str]
    ) -> duckdb.DuckDBPyRelation:
        """The source inside DuckDB; where Python reads it, only what is needed."""
        source = self.source
        if type(source).relation is not Source.relation:
            return source.relation(connection)
        schema = pa.schema([source.schema.field(name) for name in needed])
        reader = pa.RecordBatchReader.from_batches(schema, source.scan(needed))
        return connection.from_arrow(reader)


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
        return _not_too_wide(data.selected(where, select))
    if is_files(data) and isinstance(data, list | tuple) and len(data) == 1:
        data = data[0]  # one address, as the command line gives it
    config = config or SourceConfig()
    name = kind_of(data) if config.name == "auto" else config.name
    if not trusted and name not in SOURCES:
        raise ConfigError(
            f"The run was trained on a foreign source, '{name}', which a saved "
            "folder may not import. In Python, pass that source itself as data."
        )
    options = SOURCES.check(name, config.options, path="source")
    source: Source = SOURCES.load(name)(data, max_bad_rows, **options)
    return _not_too_wide(source.selected(where, select))


def source_of_new_data(
    config: SourceConfig, data: Any, given: Mapping[str, Any]
) -> SourceConfig:
    """How new data are read by a run: as its own where they are of the same kind.

    What chose the rows of the run, such as a query, chooses none of the new ones.

    Args:
        config: of the run.
        given: options for the new data, which may have a `name`.
    """
    given = dict(given)
    name = given.pop("name", None) or _kind_of_new_data(config.name, data)
    known = SOURCES.options(name) if name in SOURCES else {}
    kept = {k: v for k, v in config.options.items() if k in known and k not in _OF_ROWS}
    return SourceConfig(name=name, **(kept | given))


def _kind_of_new_data(recorded: str, data: Any) -> str:
    """By the data; what the run was read by counts where they do not tell."""
    if isinstance(data, Source):
        return "auto"
    if recorded != "auto" and recorded not in SOURCES:
        return recorded  # somebody's own
    try:
        return kind_of(data)
    except SourceError:
        if recorded == "auto" or not is_files(data):
            raise
        return recorded


def check_names(names: Sequence[str], where: str) -> None:
    """SourceError for a table without columns, too many, or two of the same name.

    Names that differ in case alone are refused too: DuckDB takes them for one.
    """
    if not names:
        raise SourceError(f"{where} has no columns.")
    if len(names) > MOST_TO_CHOOSE_FROM:
        raise _too_wide(where, len(names))
    count = Counter(name.lower() for name in names)
    twice = [name for name in names if count[name.lower()] > 1]
    if twice:
        is_same = len(set(twice)) < len(twice)
        how = "are the same" if is_same else "differ in case alone"
        shown = listing(f"'{name}'" for name in dict.fromkeys(twice))
        raise SourceError(
            f"{where} has columns whose names {how}: {shown}. Rename them."
        )


def _not_too_wide(source: Source) -> Source:
    if len(source.schema) > MAX_COLUMNS:
        raise _too_wide(source.name, len(source.schema))
    return source


def _too_wide(where: str, num_columns: int) -> SourceError:
    choose = "Choose columns (--columns a,b; in Python select), or turn"
    return SourceError(
        f"{where} has {num_columns:,} columns or more; {MAX_COLUMNS:,} can be read, "
        "since each becomes an input of the model. "
        f"{choose if num_columns <= MOST_TO_CHOOSE_FROM else 'Turn'} the table if its "
        "rows and columns are swapped."
    )


def stream(
    connection: duckdb.DuckDBPyConnection, query: str, batch_rows: int, where: str
) -> Iterator[pa.RecordBatch]:
    """Batches of a query as DuckDB makes them; SourceError when it cannot."""
    with connection.cursor() as cursor:  # a connection has one open result at a time
        try:
            yield from cursor.sql(query).to_arrow_reader(batch_rows)
        except _REFUSALS as error:
            raise unreadable(where, error) from error


def unreadable(where: str, error: Exception) -> SourceError:
    """The error for data that a library refuses, in its own first line.

    What a source said itself, while DuckDB asked it for rows, is said again.
    """
    ours = _THROUGH_ARROW.search(str(error))
    if ours is not None:
        return SourceError(f"{ours[1].rstrip('.')}.")
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    return SourceError(f"Cannot read {where}: {text.strip().rstrip('.')}.")
