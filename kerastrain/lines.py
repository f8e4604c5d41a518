"""What the bytes of a text table show: what DuckDB's reader misses, and where it is."""

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kerastrain.dialect import Dialect
from kerastrain.errors import SourceError
from kerastrain.textfiles import read_chunks

__all__ = [
    "LINE_BYTES",
    "Look",
    "examine",
    "line_numbers",
    "refuse_open_quote",
    "repeated_headers",
    "zero_bytes",
]

LINE_BYTES = 2_000_000
MAX_NAMED = 1_000
HEAD_BYTES = 4_096
_ZERO_BYTES = re.compile(rb"\0+")


@dataclass(frozen=True)
class Look:
    """What the bytes of a file show.

    Args:
        is_long: a line is so long that DuckDB's parallel reader would miss it.
    """

    has_zero: bool = False
    is_long: bool = False
    repeats_header: bool = False


def examine(path: Path, header: bytes) -> Look:
    """One pass over the bytes of a file; `header` is its first line, or nothing.

    Raises:
        SourceError: the file is truncated or damaged.
    """
    has_zero = is_long = False
    num_headers = 0
    for block in _blocks(path):
        has_zero = has_zero or b"\0" in block
        is_long = is_long or (len(block) > LINE_BYTES and block[-1] not in b"\r\n")
        if header and num_headers < 2 and header in block:
            num_headers += sum(1 for _ in _headers_in(block, header))
    return Look(has_zero, is_long, num_headers > 1)


def repeated_headers(path: Path, header: bytes) -> list[int]:
    """Numbers of the lines that repeat the first one, the first 1,000."""
    found = _find_lines(path, lambda block: _headers_in(block, header))
    return [line for line, _ in found][1:]


def zero_bytes(path: Path) -> dict[int, str]:
    """Number and text of the lines with a zero byte in them, the first 1,000."""
    found = dict(_find_lines(path, _ZERO_BYTES.finditer))
    return {line: text.decode("utf-8", "replace") for line, text in found.items()}


def refuse_open_quote(path: Path, position: int, dialect: Dialect, name: str) -> None:
    """SourceError where a row at or near `position` opens a quote and goes on and on.

    Where such a row begins in the block of one thread and ends in that of another,
    DuckDB names the row before it: so the next two are looked at too.
    """
    data = _bytes_at(path, position, HEAD_BYTES)
    if _open_row(data, dialect) is None:
        return
    data = _bytes_at(path, position, 3 * LINE_BYTES)
    start = _open_row(data, dialect)
    if start is None or len(data) - start < LINE_BYTES:  # the end of the file
        return
    num_lines = data.count(b"\n", start, start + LINE_BYTES)
    if num_lines:
        (line,) = line_numbers(path, [position + start])
        raise SourceError(
            f"{name} line {line} opens a quote that is not closed within {LINE_BYTES} "
            f"bytes and swallows {num_lines} lines or more. Mend the line, or read "
            "without quotes: --set source.quote=''."
        )


def _headers_in(block: bytes, header: bytes) -> Iterator[re.Match[bytes]]:
    """Where a whole line is the header."""
    # What stands before is looked at afterwards: a pattern for it is 20 times as slow.
    for match in re.finditer(re.escape(header) + rb"(?=[\r\n]|\Z)", block):
        before = block[max(0, match.start() - 3) : match.start()]
        if before[-1:] in (b"", b"\r", b"\n") or before == codecs.BOM_UTF8:
            yield match


def _blocks(path: Path) -> Iterator[bytes]:
    """The bytes in pieces of whole lines; a very long line comes in parts."""
    rest = b""
    for chunk in read_chunks(path):
        end = chunk.rfind(b"\n")
        end = chunk.rfind(b"\r") if end < 0 else end
        if end >= 0:
            yield rest + chunk[: end + 1]
            rest = chunk[end + 1 :]
        else:
            rest += chunk
            if len(rest) > LINE_BYTES:
                yield rest
                rest = b""
    if rest:
        yield rest


def _find_lines(
    path: Path, find: Callable[[bytes], Iterator[re.Match[bytes]]]
) -> Iterator[tuple[int, bytes]]:
    """Line number and text of what `find` gives for a block, of the first 1,000."""
    line, num_found, newline = 1, 0, b""
    for block in _blocks(path):
        newline = newline or (b"\n" if b"\n" in block else b"\r")
        start = 0
        for match in find(block):
            line += block.count(newline, start, match.start())
            start = match.start()
            yield line, _text_around(block, match)
            num_found += 1
            if num_found > MAX_NAMED:
                return
        line += block.count(newline, start)


def _text_around(block: bytes, match: re.Match[bytes]) -> bytes:
    """The match with up to 100 bytes of its line on both sides."""
    before = block[max(0, match.start() - 100) : match.start()]
    after = block[match.start() : match.end() + 100]
    return re.split(rb"[\r\n]", before)[-1] + re.split(rb"[\r\n]", after)[0]


def line_numbers(path: Path, positions: list[int]) -> list[int]:
    """Number of the line that each byte position (rising) lies in, from 1."""
    lines: list[int] = []
    line, done, newline = 1, 0, b""
    for chunk in read_chunks(path):
        newline = newline or (b"\n" if b"\n" in chunk else b"\r")
        start = 0
        while len(lines) < len(positions) and positions[len(lines)] - done <= len(
            chunk
        ):
            end = positions[len(lines)] - done
            line += chunk.count(newline, start, end)
            start = end
            lines.append(line)
        if len(lines) == len(positions):
            break
        line += chunk.count(newline, start)
        done += len(chunk)
    return lines + [line] * (len(positions) - len(lines))


def _bytes_at(path: Path, position: int, size: int) -> bytes:
    found = b""
    for chunk in read_chunks(path, position):
        found += chunk[: size - len(found)]
        if len(found) == size:
            break
    return found


def _open_row(data: bytes, dialect: Dialect, *, num_rows: int = 3) -> int | None:
    """Where the first of the next rows starts that does not end in `data`, or is
    longer than a line may be."""
    start = 0
    for _ in range(num_rows):
        while data[start : start + 1] in (b"\r", b"\n"):
            start += 1
        end = _row_end(data, start, dialect)
        if end is None or end - start > LINE_BYTES:
            return start
        start = end
    return None


def _row_end(data: bytes, start: int, dialect: Dialect) -> int | None:
    """Behind the last field of the row at `start`; None when `data` end before."""
    quote, escape = dialect.quote.encode(), re.escape(dialect.escape.encode())
    end_of_field = re.compile(re.escape(dialect.delimiter.encode()) + rb"|[\r\n]")
    # A quote that another one follows, or that is escaped, closes nothing.
    mark = re.escape(quote)
    closing = re.compile(
        escape + (mark if escape == mark else b".") + b"|" + mark, re.S
    )
    while True:
        if quote and data.startswith(quote, start):
            found = closing.finditer(data, start + 1)
            end = next((m.end() for m in found if m.group() == quote), None)
            if end is None:
                return None
            start = end
        match = end_of_field.search(data, start)
        if match is None:
            return None
        start = match.end()
        if match.group() in (b"\r", b"\n"):
            return start
