"""Text files with a delimiter, read by DuckDB."""

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from glob import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from kerastrain.dialect import (
    MISSING_VALUES,
    Dialect,
    Sample,
    column_names,
    find_dialect,
    first_with_text,
    header_line,
    read_sample,
)
from kerastrain.errors import SourceError, listing
from kerastrain.events import note
from kerastrain.files import files_fingerprint, files_name, find_files
from kerastrain.lines import (
    LINE_BYTES,
    Look,
    examine,
    refuse_open_quote,
    repeated_headers,
    zero_bytes,
)
from kerastrain.malformed import (
    ENCODING,
    MAX_REJECTS,
    TEXT_BYTES,
    BadRow,
    Findings,
    header_sql,
    judge,
    read_rejects,
    zero_sql,
)
from kerastrain.memory import connect
from kerastrain.source import Source, check_names, quoted, stream, unreadable
from kerastrain.textfiles import (
    eight_bit_encoding,
    is_utf8,
    mixes_newlines,
    rewrite,
)

__all__ = ["BadRow", "CsvSource"]


@dataclass
class _File:
    """`path` is what the user named, `readable` what DuckDB reads instead.

    `header` is its first line, or nothing where that cannot be told.
    """

    path: Path
    readable: Path
    compression: str
    encoding: str
    columns: list[str]
    header: bytes
    skip: int
    has_mixed_newlines: bool = False
    look: Look = field(default_factory=Look)


class CsvSource(Source):
    """Text files with a delimiter (CSV, TSV and kin); every column is text.

    Delimiter, quotes, header and encoding are found out where they are not named.
    Before the first scan the files are read once to find the malformed lines.

    Args:
        data: a path, paths or a glob. Files have the same columns, in any order.
        max_bad_rows: largest share of malformed lines that is passed over.
        delimiter: of one or more characters.
        quote: `""` when there are no quotes.
        header: whether the first line names the columns.
        encoding: any of Python's.
        missing_values: texts that mean "missing"; by default those of pandas and "?".
        skip: lines before the header.
    """

    def __init__(
        self,
        data: Any,
        max_bad_rows: float = 0.001,
        *,
        delimiter: str | None = None,
        quote: str | None = None,
        header: bool | None = None,
        encoding: str | None = None,
        missing_values: list[str] | None = None,
        skip: int = 0,
    ):
        self.paths = find_files(data)
        self.name = files_name(self.paths)
        self.num_rows: int | None = None
        self._max_bad_rows = max_bad_rows
        self._missing = MISSING_VALUES if missing_values is None else missing_values
        self._is_free = encoding is None  # to guess another after a closer look
        self._skip = skip
        self._connection = connect()
        self._folder: Path | None = None
        self._num_copies = 0
        self._kept: Path | None = None
        self._bad_rows: list[BadRow] | None = None
        self._is_parallel = True
        self._fingerprint: dict[str, Any] = {}

        sample = first_with_text(self.paths, encoding, skip)
        self._dialect = find_dialect(
            sample, delimiter=delimiter, quote=quote, header=header
        )
        if header is None and not self._dialect.has_header:
            _note_no_header(self.name)
        self._files = self._open_all(encoding)
        columns = self._files[0].columns
        self._check_columns()
        self.schema = pa.schema([(name, pa.string()) for name in columns])

    def scan(
        self, columns: Sequence[str] | None = None, *, batch_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        names = self.checked_columns(columns)
        self.bad_rows()
        return stream(self._connection, self._query(names), batch_rows, self.name)

    def relation(
        self, connection: duckdb.DuckDBPyConnection
    ) -> duckdb.DuckDBPyRelation:
        self.bad_rows()
        return connection.sql(self._query(self.schema.names))

    def fingerprint(self) -> dict[str, Any]:
        self._fingerprint = self._fingerprint or files_fingerprint(self.paths)
        return self._fingerprint

    def bad_rows(self) -> list[BadRow]:
        """Malformed lines (the first 1,000), which no scan gives; found once.

        Raises:
            SourceError: their share is above `max_bad_rows`.
        """
        if self._bad_rows is None:
            for file in self._files:
                file.look = examine(file.readable, file.header)
            found = self._read_all()
            judge(found, self.name, self._max_bad_rows)
            if not found.is_clean:
                self._keep_good_rows()
            self.num_rows, self._bad_rows = found.num_rows, found.rows
        return self._bad_rows

    def _open_all(self, encoding: str | None) -> list[_File]:
        """The files with text in them; those without a row are told."""
        files, rowless = [], []
        for path in self.paths:
            sample = read_sample(path, encoding, self._skip)
            if sample.text.strip():
                files.append(self._open(path, sample))
            if sample.num_rows(self._dialect) == 0:
                rowless.append(path.name)
        if rowless and len(self.paths) > 1:
            shown = listing(rowless, limit=10)
            note("empty_files", f"Files without rows are passed over: {shown}.")
        return files

    def _open(self, path: Path, sample: Sample) -> _File:
        names = column_names(sample, self._dialect)
        check_names(names, path.name)
        file = _File(
            path=path,
            readable=path,
            compression=sample.compression,
            encoding=sample.encoding,
            columns=names,
            header=header_line(sample, self._dialect),
            skip=sample.skip,
        )
        self._make_readable(file)
        return file

    def _make_readable(self, file: _File) -> None:
        if not is_utf8(file.encoding):
            if self._is_free:
                _note_encoding(file)
            self._rewrite(file)
        elif file.compression in ("bz2", "xz"):  # which DuckDB does not read
            self._rewrite(file)

    def _rewrite(self, file: _File) -> None:
        if file.readable == file.path:
            file.readable = self._temporary(f"{self._num_copies}.csv")
            self._num_copies += 1
        rewrite(
            file.path, file.encoding, file.readable, one_newline=file.has_mixed_newlines
        )
        file.compression = "none"

    def _temporary(self, name: str) -> Path:
        """A path in a folder that goes when this source goes."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="kerastrain-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder / name

    def _check_columns(self) -> None:
        first = self._files[0]
        for file in self._files[1:]:
            lacks = [
                f"{one.path.name} lacks {listing(missing, limit=5)}"
                for one, other in ((file, first), (first, file))
                if (missing := [c for c in other.columns if c not in one.columns])
            ]
            if lacks:
                raise SourceError(
                    f"{file.path.name} and {first.path.name} have different columns: "
                    f"{', and '.join(lacks)}."
                )

    def _read_all(self) -> Findings:
        """What is good and what is not; a second look where one is needed."""
        try:
            found = self._count()
        except duckdb.Error as error:
            if not self._mend_newlines():
                raise unreadable(self.name, error) from error
            found = self._count()
        if any("\r" in row.text for row in found.rows) and self._mend_newlines():
            found = self._count()
        if self._mend_encoding(found.rows):
            found = self._count()
        for path, position in found.open_quotes[:20]:
            name = self._names()[str(path)]
            refuse_open_quote(path, position, self._dialect, name)
        if any(file.look.is_long for file in self._files):
            self._is_parallel = False
            found = self._count()
        return found

    def _names(self) -> dict[str, str]:
        return {str(file.readable): file.path.name for file in self._files}

    def _count(self) -> Findings:
        # Every column is counted: what nothing asks for, DuckDB does not check.
        counts = ", ".join(f"count({quoted(c, chr(34))})" for c in self.schema.names)
        query = self._query(self.schema.names, is_check=True)
        zeros, headers = self._not_rows()
        with self._connection.cursor() as cursor:
            # All of it is fetched: the tables of rejects are made at the end.
            cursor.execute(
                f"SELECT count(*), count(*) FILTER ({zeros}), "
                f"count(*) FILTER ({headers}), {counts} FROM ({query})"
            )
            num_all, num_zero, num_headers, *_ = cursor.fetchall()[0]
            found = read_rejects(cursor, self._dialect, self._names())
        found.num_rows = num_all - num_zero - num_headers
        found.num_headers = num_headers
        for file in self._files if num_zero else []:
            found.add_zero_bytes(file.path.name, zero_bytes(file.readable))
        found.num_bad += num_zero
        for file in self._files if num_headers else []:
            lines = repeated_headers(file.readable, file.header)
            found.headers += [(file.path.name, line) for line in lines]
        return found

    def _not_rows(self) -> tuple[str, str]:
        """Conditions: whether a row holds a zero byte, whether it is the header."""
        looks, names = [file.look for file in self._files], self.schema.names
        zeros = any(look.has_zero for look in looks)
        headers = any(look.repeats_header for look in looks)
        return (
            zero_sql(names) if zeros else "false",
            header_sql(names, self._missing) if headers else "false",
        )

    def _mend_newlines(self) -> bool:
        """Give files with mixed line ends one; False when there is none to mend."""
        files = [file for file in self._files if not file.has_mixed_newlines]
        mixed = [file for file in files if mixes_newlines(file.readable)]
        for file in mixed:
            note(
                "newlines_mixed",
                f"{file.path.name} mixes line ends; each is read as a new line.",
            )
            file.has_mixed_newlines = True
            self._rewrite(file)
        return bool(mixed)

    def _mend_encoding(self, found: list[BadRow]) -> bool:
        """Take files for cp1252 where more is wrong as utf-8 than is right."""
        wrong = {row.file for row in found if row.reason == ENCODING}
        files = [file for file in self._files if file.path.name in wrong]
        is_mended = False
        for file in files if self._is_free else []:
            encoding = eight_bit_encoding(file.path)
            if encoding is not None:
                file.encoding, is_mended = encoding, True
                _note_encoding(file)
                self._rewrite(file)
        return is_mended

    def _keep_good_rows(self) -> None:
        """Copy the good rows: which lines DuckDB drops depends on the columns read."""
        kept = self._temporary("rows.parquet")
        query = self._query(self.schema.names, is_check=True)
        with self._connection.cursor() as cursor:
            unwanted = " OR ".join(self._not_rows())
            query = f"SELECT * FROM ({query}) WHERE ({unwanted}) IS NOT TRUE"
            cursor.execute(f"COPY ({query}) TO {quoted(str(kept))} (FORMAT parquet)")
        self._kept = kept

    def _query(self, columns: Sequence[str], *, is_check: bool = False) -> str:
        if self._kept is not None:
            shown = ", ".join(quoted(name, '"') for name in columns)
            return f"SELECT {shown} FROM read_parquet({quoted(str(self._kept))})"
        parts = []
        for (names, compression, skip), group in groupby(self._files, _layout):
            places = {name: i for i, name in enumerate(names)}
            shown = ", ".join(f"c{places[c]} AS {quoted(c, chr(34))}" for c in columns)
            files = [file.readable for file in group]
            options = self._options(len(names), compression, skip, is_check)
            paths = ", ".join(quoted(escape(str(path))) for path in files)
            parts.append(f"SELECT {shown} FROM read_csv([{paths}], {options})")
        return " UNION ALL ".join(parts)

    def _options(
        self, num_columns: int, compression: str, skip: int, is_check: bool
    ) -> str:
        """Everything is named: DuckDB's own sniffing would decide file by file."""
        types = ", ".join(f"'c{i}': 'VARCHAR'" for i in range(num_columns))
        missing = ", ".join(map(quoted, self._missing))
        dialect: Dialect = self._dialect
        options = {
            "auto_detect": "false",
            "delim": quoted(dialect.delimiter),
            "quote": quoted(dialect.quote),
            "escape": quoted(dialect.escape),
            "header": str(dialect.has_header).lower(),
            "skip": str(skip),
            "compression": quoted(compression),
            "columns": f"{{{types}}}",
            "nullstr": f"[{missing}]",
            "max_line_size": str(LINE_BYTES),
            # Before a line beyond its blocks of 8 MB the parallel reader loses rows.
            "parallel": str(self._is_parallel).lower(),
        }
        if is_check:
            options |= {
                "store_rejects": "true",
                "rejects_limit": str(MAX_REJECTS),
                "rejects_line_size_limit": str(TEXT_BYTES),
            }
        return ", ".join(f"{key}={value}" for key, value in options.items())


def _layout(file: _File) -> tuple[tuple[str, ...], str, int]:
    return tuple(file.columns), file.compression, file.skip


def _note_encoding(file: _File) -> None:
    note(
        "encoding_assumed",
        f"{file.path.name} is not utf-8 and is read as {file.encoding}. If letters "
        "look wrong, name the encoding: --set source.encoding=...",
        encoding=file.encoding,
    )


def _note_no_header(name: str) -> None:
    note(
        "no_header",
        f"The first line of {name} looks like data, so columns are called "
        "column0, column1 and so on. If it is the header: --set source.header=true.",
    )
