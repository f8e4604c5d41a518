"""How a text table is written: compression, encoding, delimiter, quotes, header."""

import codecs
import csv
import io
import lzma
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kerastrain.errors import SourceError, listing
from kerastrain.source import MAX_COLUMNS
from kerastrain.textfiles import codec, compression_of, damaged, eight_bit, open_bytes

__all__ = [
    "MISSING_VALUES",
    "Dialect",
    "Sample",
    "column_names",
    "find_dialect",
    "first_with_text",
    "header_line",
    "read_sample",
]

SAMPLE_BYTES = 1 << 19
WIDE_BYTES = 1 << 21  # read beyond it where it holds no two lines
# On a tie the first wins: a decimal comma lies between semicolons, never around them.
DELIMITERS = ("\t", ";", "|", ",")
HINTED = (" ", ":", "^", "~", "\x01")
# What pandas takes for missing, and "?".
MISSING_VALUES = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND",
    "1.#QNAN", "<NA>", "?", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
BOMS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


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
    """The beginning of a file, as text; `is_whole` when there is no more of it.

    Args:
        skip: lines before the text: those that the user names, and blank ones.
    """

    path: Path
    text: str
    encoding: str
    compression: str
    is_whole: bool
    skip: int

    @property
    def is_cut(self) -> bool:
        """Whether even the first line is longer than the sample."""
        return not self.is_whole and not re.search(r"[\r\n]", self.text)

    def rows(self, dialect: Dialect) -> list[list[str]]:
        """Rows of the sample; one that the sample may cut is left out."""
        rows = dialect.parse(self.text)
        rows = rows if self.is_whole or len(rows) < 2 else rows[:-1]
        return _without_trailing_delimiter(rows)

    def num_rows(self, dialect: Dialect) -> int | None:
        """Rows below the header; None where the sample is not all of the file."""
        if not self.is_whole:
            return None
        rows = self.rows(dialect) if self.text.strip() else []
        return max(0, len(rows) - dialect.has_header)


def read_sample(path: Path, encoding: str | None, skip: int) -> Sample:
    """The first lines of a file after `skip` lines, decoded.

    Raises:
        SourceError: not a text file, or not of the encoding that the user named.
    """
    compression = compression_of(path)
    try:
        with open_bytes(path, compression) as file:
            data = file.read(SAMPLE_BYTES)
            if len(re.findall(rb"[\r\n]+", data)) < 2:  # a header of many columns
                data += file.read(WIDE_BYTES)
            is_whole = not file.read(1)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise damaged(path, error) from error
    encoding = encoding or _encoding(path, data)
    decoder = codec(encoding).incrementaldecoder("replace")
    text = decoder.decode(data, is_whole).removeprefix("\ufeff")
    for _ in range(skip):
        text = re.sub(r"\A[^\r\n]*(\r\n|\r|\n)?", "", text)
    while match := re.match(r"[ \t]*(\r\n|\r|\n)", text):
        text, skip = text[match.end() :], skip + 1
    return Sample(path, text, encoding, compression, is_whole, skip)


def first_with_text(paths: Sequence[Path], encoding: str | None, skip: int) -> Sample:
    """The sample of the first file that is more than white space, or of the last."""
    for path in paths:
        sample = read_sample(path, encoding, skip)
        if sample.text.strip():
            break
    return sample


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
    """Names in the header; `column<i>` where there is none.

    Raises:
        SourceError: the first line is longer than any line may be.
    """
    rows = sample.rows(dialect)
    if sample.is_cut and len(rows[0]) <= MAX_COLUMNS:
        raise _long_line(sample)
    if dialect.has_header:
        return [name or f"column{i}" for i, name in enumerate(rows[0])]
    widths = Counter(map(len, rows))
    return [f"column{i}" for i in range(widths.most_common(1)[0][0])]


def header_line(sample: Sample, dialect: Dialect) -> bytes:
    """The header as it is written; nothing where it is not one line of two names."""
    line = next((ln for ln in sample.text.splitlines() if ln.strip()), "")
    rows = dialect.parse(line)
    is_all = len(rows) == 1 and len(rows[0]) > 1 and dialect.has_header
    return line.encode() if is_all else b""


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
    return eight_bit(iter([data])) or "utf-8"


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


def _long_line(sample: Sample) -> SourceError:
    return SourceError(
        f"{sample.path}: the first line is longer than {WIDE_BYTES:,} bytes. "
        "Is it a text file with a line for each row?"
    )


def _one_column(sample: Sample) -> SourceError:
    if sample.is_cut:
        return _long_line(sample)
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
