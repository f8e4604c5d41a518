"""How a text table is written: compression, encoding, delimiter, quotes, header."""

import codecs
import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from kerastrain.errors import SourceError, listing

__all__ = ["Dialect", "Sample", "find_dialect", "read_sample", "rewrite"]

SAMPLE_BYTES = 1 << 19
CHUNK_BYTES = 1 << 22
# On a tie the first wins: a decimal comma lies between semicolons, never around them.
DELIMITERS = ("\t", ";", "|", ",")
HINTED = (" ", ":", "^", "~", "\x01")
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
FOREIGN = {b"PK\x03\x04": "a zip archive", b"PAR1": "a Parquet file"}
BOMS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
NOT_IN_CP1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")


@dataclass(frozen=True)
class Dialect:
    """How rows and fields are told apart; an empty `quote` means there are none."""

    delimiter: str
    quote: str
    escape: str
    has_header: bool = True

    def parse(self, text: str) -> list[list[str]]:
        """Rows of fields; blank lines are left out."""
        delimiter = self.delimiter
        if len(delimiter) > 1:
            text, delimiter = text.replace(delimiter, "\x1f"), "\x1f"
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=delimiter,
            quotechar=self.quote or None,
            doublequote=self.escape == self.quote,
            escapechar=None if self.escape == self.quote else self.escape,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
        )
        return list(_until_error(reader))


@dataclass(frozen=True)
class Sample:
    """The beginning of a file, as text; `is_whole` when there is no more of it."""

    path: Path
    text: str
    encoding: str
    compression: str
    is_whole: bool

    def rows(self, dialect: Dialect) -> list[list[str]]:
        """Rows of the sample; one that the sample may cut is left out."""
        rows = dialect.parse(self.text)
        rows = rows if self.is_whole or len(rows) < 2 else rows[:-1]
        return _without_trailing_delimiter(rows)


def read_sample(path: Path, encoding: str | None, skip: int) -> Sample:
    """The first lines of a file after `skip` lines, decoded.

    Raises:
        SourceError: not a text file, or not of the encoding that the user named.
    """
    compression = _compression(path)
    try:
        with _open_bytes(path, compression) as file:
            data = file.read(SAMPLE_BYTES)
            is_whole = not file.read(1)
    except (OSError, EOFError) as error:
        raise SourceError(f"Cannot read {path}: {error}.") from error
    encoding = encoding or _encoding(path, data)
    decoder = _codec(encoding).incrementaldecoder("replace")
    text = decoder.decode(data, is_whole).removeprefix("\ufeff")
    for _ in range(skip):
        text = re.sub(r"\A[^\r\n]*(\r\n|\r|\n)?", "", text)
    return Sample(path, text, encoding, compression, is_whole)


def find_dialect(
    sample: Sample, *, delimiter: str | None, quote: str | None, header: bool | None
) -> Dialect:
    """The dialect under which the sample is a table; what is named is kept.

    Raises:
        SourceError: no delimiter makes more than one column, or the header names
            another number of columns than every line has.
    """
    if quote is not None and len(quote) > 1:
        raise SourceError(f"A quote is one character, or none, got '{quote}'.")
    if not sample.text.strip():
        raise SourceError(f"{sample.path} holds no text.")
    delimiter = delimiter and delimiter.replace("\\t", "\t")  # as one types a tab
    best = None
    for candidate in [delimiter] if delimiter else DELIMITERS:
        dialect = _with_quotes(sample.text, candidate, quote)
        score = _score(sample.rows(dialect))
        if score and (best is None or score > best[0]):
            best = score, dialect
    if best is None and delimiter is None:
        raise _one_column(sample)
    dialect = best[1] if best else _with_quotes(sample.text, delimiter or ",", quote)
    rows = sample.rows(dialect)
    has_header = _has_header(rows) if header is None else header
    if has_header:
        _check_header(sample, rows)
    return Dialect(dialect.delimiter, dialect.quote, dialect.escape, has_header)


def column_names(sample: Sample, dialect: Dialect) -> list[str]:
    """Names in the header; `column<i>` where there is none."""
    rows = sample.rows(dialect)
    if dialect.has_header:
        return [name or f"column{i}" for i, name in enumerate(rows[0])]
    widths = Counter(map(len, rows))
    return [f"column{i}" for i in range(widths.most_common(1)[0][0])]


def eight_bit_encoding(path: Path) -> str | None:
    """`cp1252` or `latin-1` when the file is more likely that than utf-8."""
    return _eight_bit(_chunks(path))


def mixes_newlines(path: Path) -> bool:
    """Whether more than one of LF, CR LF and CR ends lines (or stands in fields)."""
    found = set()
    for chunk in _chunks(path):
        found.update(re.findall(rb"\r\n|\n|\r(?!\Z)", chunk))
    return len(found) > 1


def rewrite(path: Path, encoding: str, target: Path, *, one_newline: bool) -> None:
    """Copy a file as plain utf-8; with `one_newline` every line ends in LF."""
    # Bytes that are no utf-8 stay what they are: DuckDB names their lines.
    errors = "surrogateescape" if is_utf8(encoding) else "strict"
    newline = None if one_newline else ""
    try:
        with (
            _open_bytes(path, _compression(path)) as raw,
            io.TextIOWrapper(raw, encoding, errors, newline) as source,
            target.open("w", encoding="utf-8", errors=errors, newline="") as copy,
        ):
            while text := source.read(CHUNK_BYTES):
                copy.write(text)
    except UnicodeError as error:
        raise SourceError(
            f"{path} is not {encoding}: {error}. "
            "Name its encoding: --set source.encoding=..."
        ) from error
    except (OSError, EOFError) as error:
        raise SourceError(f"Cannot read {path}: {error}.") from error


def is_utf8(encoding: str) -> bool:
    return _codec(encoding).name in ("utf-8", "utf-8-sig", "ascii")


def _codec(encoding: str) -> codecs.CodecInfo:
    try:
        return codecs.lookup(encoding)
    except LookupError:
        raise SourceError(
            f"Unknown encoding '{encoding}'. Known are utf-8, utf-16, latin-1, cp1252 "
            "and the others of Python."
        ) from None


def _compression(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    for magic, kind in FOREIGN.items():
        if head.startswith(magic):
            raise SourceError(f"{path} is {kind}, not a text file.")
    return next(
        (kind for magic, kind in MAGIC.items() if head.startswith(magic)), "none"
    )


def _open_bytes(path: Path, compression: str) -> BinaryIO:
    """The bytes of a file, decompressed."""
    if compression == "none":
        return path.open("rb")
    return pa.input_stream(path, compression=compression)


def _chunks(path: Path) -> Iterator[bytes]:
    with _open_bytes(path, _compression(path)) as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _encoding(path: Path, data: bytes) -> str:
    for bom, encoding in BOMS.items():
        if data.startswith(bom):
            return encoding
    if b"\0" in data:
        # Latin text in utf-16 has a zero in every other byte.
        for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
            zeros, others = data[offset::2].count(0), data[1 - offset :: 2].count(0)
            if zeros > len(data) * 0.3 > others:
                return encoding
        if data.count(0) > len(data) * 0.01:
            raise SourceError(f"{path} is not a text file: it holds zero bytes.")
    return _eight_bit(iter([data])) or "utf-8"


def _eight_bit(chunks: Iterator[bytes]) -> str | None:
    """`cp1252` or `latin-1` when more is wrong as utf-8 than is right, else None."""
    decoder = codecs.getincrementaldecoder("utf-8")("ignore")
    num_right = num_wrong = num_bytes = 0
    encoding = "cp1252"
    for chunk in chunks:
        text = decoder.decode(chunk)
        num_bytes += len(chunk)
        num_wrong += len(chunk) - len(text.encode())
        num_right += len(text) - len(text.encode("ascii", "ignore"))
        if NOT_IN_CP1252.search(chunk):
            encoding = "latin-1"
    num_wrong -= len(decoder.getstate()[0])  # a character that the sample cuts
    return encoding if num_wrong > num_right else None


def _until_error(reader: Iterator[list[str]]) -> Iterator[list[str]]:
    try:
        yield from (row for row in reader if row)
    except csv.Error:  # a field beyond Python's limit: what came before is enough
        return


def _without_trailing_delimiter(rows: list[list[str]]) -> list[list[str]]:
    """Rows cut to the header where all that lies beyond it is one empty field."""
    width = len(rows[0]) if rows else 0
    longer = [row for row in rows if len(row) > width]
    if any(row[width:] != [""] for row in longer):
        return rows
    return [row[:width] for row in rows]


def _with_quotes(text: str, delimiter: str, quote: str | None) -> Dialect:
    mark = re.escape(delimiter)
    if quote is None:
        single = len(re.findall(rf"(?:^|{mark})'[^'\r\n]*'(?={mark}|$)", text, re.M))
        has_single = '"' not in text and single >= max(1, text.count("\n") // 2)
        quote = "'" if has_single else '"'
    backslash = rf"\\{re.escape(quote)}(?!{mark}|[\r\n]|\Z)" if quote else r"\Z."
    return Dialect(delimiter, quote, "\\" if re.search(backslash, text) else quote)


def _score(rows: list[list[str]]) -> tuple[bool, float] | None:
    """Higher is more of a table; None when it would be one column."""
    widths = Counter(map(len, rows))
    width, count = widths.most_common(1)[0] if widths else (0, 0)
    if max(widths, default=0) < 2 or (width < 2 and len(rows[0]) < 2):
        return None
    return len(rows[0]) == width, round(count / len(rows), 2)


def _one_column(sample: Sample) -> SourceError:
    lines = sample.text.splitlines()
    for mark in HINTED:
        rows = sample.rows(_with_quotes(sample.text, mark, None))
        if (_score(rows) or (False, 0))[0] and len(lines) > 1:
            hint = f"Its lines look divided by {mark!r}. "
            break
    else:
        hint = ""
    return SourceError(
        f"{sample.path} would be read as one column: no tab, semicolon, bar or comma "
        f"divides its lines. {hint}Name the delimiter: "
        "--set source.delimiter=..."
    )


def _check_header(sample: Sample, rows: list[list[str]]) -> None:
    widths = Counter(map(len, rows[1:]))
    if not widths or len(rows[0]) in widths:
        return
    width, count = widths.most_common(1)[0]
    raise SourceError(
        f"{sample.path}: the header has {len(rows[0])} fields "
        f"({listing(rows[0], limit=5)}), but {count} of the first {len(rows) - 1} "
        f"lines have {width}. Mend the header, or leave lines out: "
        "--set source.skip=1."
    )


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return None if math.isnan(value) else value


def _has_header(rows: list[list[str]]) -> bool:
    """False when the first line would pass for one of the lines below it.

    A column votes when it holds numbers: for a header when its first field is no
    number, or (as a year would) lies far outside the range of the others.
    """
    first, rest = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    votes = []
    for cell, values in zip(first, zip(*rest, strict=True), strict=False):
        present = [value for value in values if value.strip()]
        numbers = [n for n in map(_number, present) if n is not None]
        if cell.strip() and present and len(numbers) >= 0.9 * len(present):
            value = _number(cell)
            low, high = min(numbers), max(numbers)
            margin = max(high - low, 1)
            inside = value is not None and low - margin <= value <= high + margin
            votes.append(not inside)
    if not votes:
        return all(_number(cell) is None for cell in first)
    return sum(votes) * 2 >= len(votes)
