"""Text files with a delimiter, read by DuckDB."""

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from kerastrain.dialect import (
    Dialect,
    Sample,
    column_names,
    eight_bit_encoding,
    find_dialect,
    is_utf8,
    mixes_newlines,
    read_sample,
    rewrite,
)
from kerastrain.errors import SourceError, listing
from kerastrain.events import note, warn
from kerastrain.source import (
    Source,
    check_names,
    files_fingerprint,
    files_name,
    find_files,
    quoted,
    stream,
    unreadable,
)

__all__ = ["BadRow", "CsvSource"]

# What pandas takes for missing, and "?".
MISSING_VALUES = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND",
    "1.#QNAN", "<NA>", "?", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
LINE_BYTES = 2_000_000
SHOWN = 10

REJECTS = """
    SELECT s.file_path, e.line, e.line_byte_position, e.error_type, e.error_message,
           e.csv_line
    FROM reject_errors e JOIN reject_scans s USING (scan_id, file_id)
    ORDER BY e.scan_id, e.file_id, e.line_byte_position, e.byte_position
"""


@dataclass(frozen=True)
class BadRow:
    """A malformed line: `text` is all of what was taken for it."""

    file: str
    line: int
    reason: str
    text: str

    def __str__(self) -> str:
        text = " ".join(self.text[:200].split())
        text = text if len(text) <= 60 else text[:57] + "..."
        return f"{self.file} line {self.line}: {self.reason}: {text}"


@dataclass
class _File:
    """`path` is what the user named, `readable` what DuckDB reads instead."""

    path: Path
    readable: Path
    compression: str
    encoding: str
    columns: list[str]
    has_mixed_newlines: bool = False


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
        self._connection = duckdb.connect()
        self._folder: Path | None = None
        self._num_copies = 0
        self._kept: Path | None = None
        self._bad_rows: list[BadRow] | None = None
        self._fingerprint: dict[str, Any] = {}

        sample = read_sample(self.paths[0], encoding, skip)
        self._dialect = find_dialect(
            sample, delimiter=delimiter, quote=quote, header=header
        )
        if header is None and not self._dialect.has_header:
            _note_no_header(self.name)
        self._files = [self._open(path, encoding) for path in self.paths]
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
        """Malformed lines, which no scan gives; the files are read for it once.

        Raises:
            SourceError: their share is above `max_bad_rows`.
        """
        if self._bad_rows is None:
            num_rows, found = self._read_all()
            num_bad = sum(1 + row.text.count("\n") for row in found)
            self._judge(found, num_bad, num_bad + num_rows)
            if found:
                self._keep_good_rows()
            self.num_rows, self._bad_rows = num_rows, found
        return self._bad_rows

    def _open(self, path: Path, encoding: str | None) -> _File:
        sample = read_sample(path, encoding, self._skip)
        names = column_names(sample, self._dialect)
        check_names(names, path.name)
        file = _File(path, path, sample.compression, sample.encoding, names)
        self._make_readable(file, sample)
        return file

    def _make_readable(self, file: _File, sample: Sample) -> None:
        if not is_utf8(file.encoding):
            if self._is_free:
                _note_encoding(file)
            self._rewrite(file)
        elif sample.compression == "bz2":
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
            different = sorted(set(file.columns) ^ set(first.columns))
            if different:
                raise SourceError(
                    f"{file.path.name} and {first.path.name} have different columns: "
                    f"{listing(different)} are in one of them only."
                )

    def _read_all(self) -> tuple[int, list[BadRow]]:
        """Number of good rows, and the bad ones; a second look where one is needed."""
        try:
            num_rows, found = self._count()
        except duckdb.Error as error:
            if not self._mend_newlines():
                raise unreadable(self.name, error) from error
            num_rows, found = self._count()
        if any("\r" in row.text for row in found) and self._mend_newlines():
            num_rows, found = self._count()
        if self._mend_encoding(found):
            num_rows, found = self._count()
        return num_rows, found

    def _count(self) -> tuple[int, list[BadRow]]:
        # Every column is counted: what nothing asks for, DuckDB does not check.
        counts = ", ".join(f"count({quoted(c, chr(34))})" for c in self.schema.names)
        query = self._query(self.schema.names, is_check=True)
        with self._connection.cursor() as cursor:
            # All of it is fetched: the tables of rejects are made at the end.
            cursor.execute(f"SELECT count(*), {counts} FROM ({query})")
            rows = cursor.fetchall()
            rejects = cursor.execute(REJECTS).fetchall()
        return rows[0][0], self._found(rejects)

    def _found(self, rejects: list[tuple]) -> list[BadRow]:
        """One BadRow for a line, however much is wrong with it."""
        names = {str(file.readable): file.path.name for file in self._files}
        found: dict[tuple[str, int], BadRow] = {}
        for path, line, position, kind, message, text in rejects:
            reason = _reason(kind, message)
            row = BadRow(names.get(path, path), line, reason, text or "")
            found.setdefault((path, position), row)
        return list(found.values())

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

    def _judge(self, found: list[BadRow], num_bad: int, num_lines: int) -> None:
        for row in found:
            if len(row.text) >= LINE_BYTES and "\n" in row.text:
                raise SourceError(
                    f"{row.file} line {row.line} opens a quote that is not closed and "
                    f"swallows {row.text.count(chr(10))} lines or more. Mend the line, "
                    "or read without quotes: --set source.quote=''."
                )
        if not found:
            return
        rows = "\n".join(f"  {row}" for row in found[:SHOWN])
        share = f"{num_bad} of {num_lines} lines of {self.name} are malformed"
        if num_bad > self._max_bad_rows * num_lines:
            raise SourceError(
                f"{share}, more than the {self._max_bad_rows:.2%} that may be. "
                f"Mend them or raise --max-bad-rows.\n{rows}"
            )
        shown = [str(row) for row in found[:SHOWN]]
        warn("bad_rows", f"{share} and left out:\n{rows}", count=num_bad, first=shown)

    def _keep_good_rows(self) -> None:
        """Copy the good rows: which lines DuckDB drops depends on the columns read."""
        kept = self._temporary("rows.parquet")
        query = self._query(self.schema.names, is_check=True)
        with self._connection.cursor() as cursor:
            cursor.execute(f"COPY ({query}) TO {quoted(str(kept))} (FORMAT parquet)")
        self._kept = kept

    def _query(self, columns: Sequence[str], *, is_check: bool = False) -> str:
        if self._kept is not None:
            shown = ", ".join(quoted(name, '"') for name in columns)
            return f"SELECT {shown} FROM read_parquet({quoted(str(self._kept))})"
        parts = []
        for (names, compression), group in groupby(self._files, _layout):
            places = {name: i for i, name in enumerate(names)}
            shown = ", ".join(f"c{places[c]} AS {quoted(c, chr(34))}" for c in columns)
            files = [file.readable for file in group]
            options = self._options(len(names), compression, is_check)
            paths = ", ".join(quoted(escape(str(path))) for path in files)
            parts.append(f"SELECT {shown} FROM read_csv([{paths}], {options})")
        return " UNION ALL ".join(parts)

    def _options(self, num_columns: int, compression: str, is_check: bool) -> str:
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
            "skip": str(self._skip),
            "compression": quoted(compression),
            "columns": f"{{{types}}}",
            "nullstr": f"[{missing}]",
            "max_line_size": str(LINE_BYTES),
        }
        if is_check:
            options |= {
                "store_rejects": "true",
                "rejects_limit": "0",
                "rejects_line_size_limit": str(LINE_BYTES),
            }
        return ", ".join(f"{key}={value}" for key, value in options.items())


def _layout(file: _File) -> tuple[tuple[str, ...], str]:
    return tuple(file.columns), file.compression


ENCODING = "not valid utf-8"
REASONS = {
    "UNQUOTED VALUE": "a quote is not closed, or stands inside a field",
    "INVALID ENCODING": ENCODING,
    "LINE SIZE OVER MAXIMUM": f"longer than {LINE_BYTES} bytes",
}


def _reason(kind: str, message: str) -> str:
    if kind in ("MISSING COLUMNS", "TOO MANY COLUMNS"):
        words = message.split()  # "Expected Number of Columns: 3 Found: 2"
        return f"{words[-1]} fields instead of {words[-3]}"
    return REASONS.get(kind, message.splitlines()[0] if message else kind.lower())


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
