"""Lines of a text table that are no rows of it: counted, named and judged.

DuckDB refuses most of them itself and tells which; those with a zero byte and those
that repeat the header it takes for rows.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb

from kerastrain.dialect import Dialect
from kerastrain.errors import SourceError
from kerastrain.events import warn
from kerastrain.lines import LINE_BYTES, MAX_NAMED, line_numbers
from kerastrain.source import quoted

__all__ = [
    "BadRow",
    "Findings",
    "header_sql",
    "judge",
    "read_rejects",
    "zero_sql",
]

# Of each malformed line this much is kept, of this many lines in a file: 2 GB when
# every line is malformed and long.
TEXT_BYTES = 10_000
MAX_REJECTS = 200_000
SHOWN = 10

BOM = "\ufeff"
ENCODING = "not valid utf-8"
OPEN_QUOTE = "a quote is not closed, or stands inside a field"
ZERO_BYTE = "holds a zero byte (NUL)"
_REASONS = {
    "UNQUOTED VALUE": OPEN_QUOTE,
    "INVALID ENCODING": ENCODING,
    "LINE SIZE OVER MAXIMUM": f"longer than {LINE_BYTES} bytes",
}

# One line for each refused row, however much is wrong with it. The text may start
# with the end of the line before and with blank lines.
_REFUSED = """
    WITH errors AS (
        SELECT s.file_path AS path, e.line_byte_position AS position,
               e.error_type::VARCHAR AS kind, e.error_message AS message,
               coalesce(e.csv_line, '') AS text, scan_id, file_id,
               row_number() OVER (PARTITION BY scan_id, file_id, line_byte_position
                                  ORDER BY e.byte_position) AS nth
        FROM reject_errors e JOIN reject_scans s USING (scan_id, file_id)
    ), refused AS (
        SELECT *, trim(text, chr(10) || chr(13)) AS bare,
               kind = 'MISSING COLUMNS'
               AND trim(text, chr(9) || chr(10) || chr(13) || chr(26) || ' ') = ''
               AS is_blank
        FROM errors WHERE nth = 1
    )
"""
_COUNT = (
    "SELECT coalesce(sum(1 + length(bare) - length(replace(bare, chr(10), ''))) "
    "FILTER (NOT is_blank), 0)::BIGINT, count(*) FILTER (is_blank) FROM refused"
)
_FIRST = (
    "SELECT path, position, kind, message, text FROM refused WHERE NOT is_blank "
    f"ORDER BY scan_id, file_id, position LIMIT {MAX_NAMED}"
)


@dataclass(frozen=True)
class BadRow:
    """A malformed line: `text` is the beginning of what was taken for it."""

    file: str
    line: int
    reason: str
    text: str

    def __str__(self) -> str:
        text = " ".join(self.text[:200].split())
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
        text = text if len(text) <= 60 else text[:57] + "..."
        return f"{self.file} line {self.line}: {self.reason}: {text}"


@dataclass
class Findings:
    """What one reading of all files found.

    Args:
        num_rows: good rows.
        num_bad: malformed lines, of which `rows` are the first 1,000.
        num_blank: lines of white space alone, or of the Ctrl-Z of old systems.
        headers: file and line of repeated headers, the first 1,000.
        open_quotes: file and byte where DuckDB may have lost its place.
    """

    num_rows: int = 0
    num_bad: int = 0
    rows: list[BadRow] = field(default_factory=list)
    num_blank: int = 0
    num_headers: int = 0
    headers: list[tuple[str, int]] = field(default_factory=list)
    open_quotes: list[tuple[Path, int]] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.num_bad or self.num_blank or self.num_headers)

    def add_zero_bytes(self, file: str, lines: Mapping[int, str]) -> None:
        """Name the lines (number and text) that are not among `rows` already."""
        known = {(row.file, row.line) for row in self.rows}
        for line, text in lines.items():
            if (file, line) not in known and len(self.rows) < MAX_NAMED:
                self.rows.append(BadRow(file, line, ZERO_BYTE, text))


def zero_sql(names: Sequence[str]) -> str:
    """Whether a row of text columns holds a zero byte, as a condition."""
    return " OR ".join(f"contains({quoted(name, chr(34))}, chr(0))" for name in names)


def header_sql(names: Sequence[str], missing_values: Collection[str]) -> str:
    """Whether a row repeats the names of the columns, as a condition."""
    # A name that was made up, or that is read as missing, is no text in the row.
    shown = [
        name
        for i, name in enumerate(names)
        if name != f"column{i}" and name not in missing_values
    ]
    equal = (
        f"{quoted(name, chr(34))} IN ({quoted(name)}, {quoted(BOM + name)})"
        for name in shown
    )
    return " AND ".join(equal) if len(shown) > 1 else "false"


def read_rejects(
    cursor: duckdb.DuckDBPyConnection, dialect: Dialect, names: Mapping[str, str]
) -> Findings:
    """What the last check query on `cursor` refused.

    Args:
        names: what the user calls each of the paths that were read.
    """
    num_bad, num_blank = cursor.execute(_REFUSED + _COUNT).fetchall()[0]
    found = Findings(num_bad=num_bad, num_blank=num_blank)
    starts: dict[str, list[int]] = {}
    rows = cursor.execute(_REFUSED + _FIRST).fetchall()
    for path, position, kind, message, text in rows:
        bare = text.lstrip("\r\n")
        start = position - 1 + len(text) - len(bare)
        starts.setdefault(path, []).append(start)
        found.rows.append(BadRow(names[path], 0, _reason(kind, message), bare))
        if _may_swallow_lines(kind, bare, dialect):
            found.open_quotes.append((Path(path), start))
    lines = [n for path, at in starts.items() for n in line_numbers(Path(path), at)]
    found.rows = [
        replace(row, line=line) for row, line in zip(found.rows, lines, strict=True)
    ]
    return found


def _may_swallow_lines(kind: str, text: str, dialect: Dialect) -> bool:
    """Whether a row may have opened a quote that is closed far below, or nowhere."""
    if kind == "LINE SIZE OVER MAXIMUM":
        return "\n" in text or "\r" in text
    return kind == "UNQUOTED VALUE" and not _has_odd_quote(text, dialect)


def _has_odd_quote(text: str, dialect: Dialect) -> bool:
    """Whether a quote that stands inside a field explains why a row is refused."""
    quote, mark = re.escape(dialect.quote), re.escape(dialect.delimiter)
    odd = rf"(?<!^)(?<!{mark})(?<!{quote}){quote}(?!{quote}|{mark}|[\r\n]|$)"
    return bool(quote) and re.search(odd, text) is not None


def judge(found: Findings, where: str, max_bad_rows: float) -> None:
    """Say what was left out; SourceError when it is more than the user allows."""
    if found.num_headers:
        shown = ", ".join(f"{file} line {line}" for file, line in found.headers[:SHOWN])
        warn(
            "repeated_headers",
            f"Lines of {where} that repeat the header are left out "
            f"({found.num_headers}): {shown}.",
            count=found.num_headers,
            first=[list(place) for place in found.headers[:SHOWN]],
        )
    if not found.num_bad:
        return
    num_lines = found.num_bad + found.num_rows
    first = [str(row) for row in found.rows[:SHOWN]]
    rows = "\n".join(f"  {row}" for row in first)
    share = f"{found.num_bad} of {num_lines} lines of {where} are malformed"
    if found.num_bad > max_bad_rows * num_lines:
        raise SourceError(
            f"{share}, more than the {max_bad_rows:.2%} that may be. "
            f"Mend them or raise --max-bad-rows.\n{rows}"
        )
    warn(
        "bad_rows",
        f"{share} and left out:\n{rows}",
        count=found.num_bad,
        first=first,
    )


def _reason(kind: str, message: str) -> str:
    if kind in ("MISSING COLUMNS", "TOO MANY COLUMNS"):
        words = message.split()  # "Expected Number of Columns: 3 Found: 2"
        return f"{words[-1]} fields instead of {words[-3]}"
    return _REASONS.get(kind, message.splitlines()[0] if message else kind.lower())
