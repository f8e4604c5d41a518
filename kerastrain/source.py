"""What a source is, and which one reads a given piece of data."""

import glob
import hashlib
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from kerastrain.config import SourceConfig
from kerastrain.errors import ConfigError, SourceError, listing, suggest
from kerastrain.events import note
from kerastrain.schema import no_such_column
from kerastrain.sources import SOURCES

__all__ = ["Source", "open_source"]

ENDINGS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".txt": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
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

    def checked_columns(self, columns: Sequence[str] | None) -> list[str]:
        """`columns`, or all of them; SchemaError for one that the source lacks."""
        names = list(self.schema.names)
        for name in columns or ():
            if name not in names:
                raise no_such_column(name, names, where=self.name)
        return names if columns is None else list(columns)


def open_source(
    data: Any,
    config: SourceConfig | None = None,
    *,
    max_bad_rows: float = 0.001,
    trusted: bool = True,
) -> Source:
    """The source for files or for a table in memory.

    Args:
        data: a path, a list of paths, a glob, or a table: pandas, polars, pyarrow, or
            a mapping of names to arrays. A source is given back as it is.
        config: the source and its options; `auto` goes by the type and the ending.
        max_bad_rows: largest share of malformed rows that is passed over.
        trusted: False for a `config` read from a saved folder: a source of somebody's
            own is then not imported.

    Raises:
        SourceError: nothing there, or nothing that can be read.
        ConfigError: the source has no such option, or is not trusted.
    """
    if isinstance(data, Source):
        return data
    config = config or SourceConfig()
    name = _kind_of(data) if config.name == "auto" else config.name
    if not trusted and name not in SOURCES:
        raise ConfigError(
            f"The run was trained on a foreign source, '{name}', which a saved "
            "folder may not import. In Python, pass that source itself as data."
        )
    options = SOURCES.check(name, config.options, path="source")
    return SOURCES.load(name)(data, max_bad_rows, **options)


def find_files(data: Any) -> list[Path]:
    """Paths for a path, a list of paths or a glob; each is a file with bytes in it.

    Empty files among others are passed over with a note.
    """
    paths = _named_files(data)
    empty = [path for path in paths if not path.stat().st_size]
    if len(empty) == len(paths):
        raise SourceError(f"{files_name(paths)} is empty.")
    if empty:
        shown = listing((path.name for path in empty), limit=10)
        note("empty_files", f"Files without rows are passed over: {shown}.")
    return [path for path in paths if path not in empty]


def _named_files(data: Any) -> list[Path]:
    if not _is_files(data):
        raise SourceError(f"Expected a path or paths, got {type(data).__name__}.")
    entries = [data] if isinstance(data, str | os.PathLike) else list(data)
    paths = [path for entry in entries for path in _expand(os.fspath(entry))]
    if not paths:
        raise SourceError("No data file is named.")
    return list(dict.fromkeys(paths))


def files_name(paths: Sequence[Path]) -> str:
    """`"a.csv"`, or `"a.csv and 3 more"`."""
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return paths[0].name + more


def files_fingerprint(paths: Iterable[Path]) -> dict[str, Any]:
    """Path, size in bytes and SHA-256 of each file."""
    files = []
    for path in paths:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        files.append({"path": str(path), "bytes": size, "sha256": digest})
    return {"kind": "files", "files": files}


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


def _is_files(data: Any) -> bool:
    if isinstance(data, str | os.PathLike):
        return True
    is_list = isinstance(data, list | tuple)
    return is_list and all(isinstance(item, str | os.PathLike) for item in data)


def _kind_of(data: Any) -> str:
    if not _is_files(data):
        return "frame"
    by_kind = {_kind_by_ending(path): path.name for path in _named_files(data)}
    if len(by_kind) > 1:
        shown = ", ".join(f"{name} ({kind})" for kind, name in by_kind.items())
        raise SourceError(f"Files of one table must be of one kind, got {shown}.")
    return next(iter(by_kind))


def _kind_by_ending(path: Path) -> str:
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    kind = ENDINGS.get(plain.suffix.lower())
    if kind is None:
        raise SourceError(
            f"Cannot tell by its ending what kind of file {path} is. Known endings: "
            f"{', '.join(ENDINGS)}. Or name the source: --set source.name=csv."
        )
    return kind


def _expand(text: str) -> list[Path]:
    path = Path(text).expanduser()
    if glob.has_magic(text) and not path.exists():
        found = sorted(glob.glob(str(path), recursive=True))
        paths = [Path(name) for name in found if Path(name).is_file()]
        if not paths:
            raise SourceError(f"No file matches '{text}'.")
    else:
        paths = [path]
    for path in paths:
        _check_file(path)
    return paths


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise SourceError(f"{path} is a folder. Name its files: '{path / '*.csv'}'.")
    if path.exists() and not path.is_file():
        raise SourceError(
            f"{path} is a pipe or a device. Rows are read more than once: write them "
            "to a file first."
        )
    if not path.is_file():
        near = path.parent.iterdir() if path.parent.is_dir() else ()
        hint = suggest(path.name, [item.name for item in near])
        raise SourceError(f"There is no file {path}. {hint}".rstrip())
    try:
        path.open("rb").close()
    except OSError as error:
        raise SourceError(f"Cannot read {path}: {error.strerror}.") from None
