"""The bytes of text files: compression, encoding, copies that DuckDB can read."""

import codecs
import io
import lzma
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa

from kerastrain.errors import SourceError

__all__ = [
    "codec",
    "compression_of",
    "damaged",
    "eight_bit",
    "eight_bit_encoding",
    "is_utf8",
    "mixes_newlines",
    "open_bytes",
    "read_chunks",
    "rewrite",
]

CHUNK_BYTES = 1 << 22
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
MAGIC |= {b"\xfd7zX": "xz"}
FOREIGN = {b"PK\x03\x04": "a zip archive", b"PAR1": "a Parquet file"}
NOT_IN_CP1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")


def eight_bit_encoding(path: Path) -> str | None:
    """`cp1252` or `latin-1` when the file is more likely that than utf-8."""
    return eight_bit(read_chunks(path))


def mixes_newlines(path: Path) -> bool:
    """Whether more than one of LF, CR LF and CR ends lines (or stands in fields)."""
    found = set()
    for chunk in read_chunks(path):
        found.update(re.findall(rb"\r\n|\n|\r(?!\Z)", chunk))
    return len(found) > 1


def rewrite(path: Path, encoding: str, target: Path, *, one_newline: bool) -> None:
    """Copy a file as plain utf-8; with `one_newline` every line ends in LF."""
    # Bytes that are no utf-8 stay what they are: DuckDB names their lines.
    errors = "surrogateescape" if is_utf8(encoding) else "strict"
    newline = None if one_newline else ""
    try:
        with (
            open_bytes(path, compression_of(path)) as raw,
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
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise damaged(path, error) from error


def read_chunks(path: Path, start: int = 0) -> Iterator[bytes]:
    """The bytes of a file from `start` on, decompressed, 4 MB at a time.

    Raises:
        SourceError: the file is truncated, damaged or gone.
    """
    try:
        compression = compression_of(path)
        with open_bytes(path, compression) as file:
            if compression == "none":
                file.seek(start)
                start = 0
            while chunk := file.read(CHUNK_BYTES):
                yield chunk[start:]
                start = max(0, start - len(chunk))
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> SourceError:
    """The error for a file that cannot be read to its end."""
    text = str(error)
    if isinstance(error, EOFError) or "runcated" in text:
        return SourceError(
            f"{path} is truncated: its compressed data end too early. "
            "Copy it again, or download it again."
        )
    if isinstance(error, lzma.LZMAError) or "inflate" in text or "ecompress" in text:
        return SourceError(
            f"{path} is damaged, or something follows its compressed data: {text}."
        )
    reason = getattr(error, "strerror", None) or text
    return SourceError(f"Cannot read {path}: {reason}.")


def is_utf8(encoding: str) -> bool:
    return codec(encoding).name in ("utf-8", "utf-8-sig", "ascii")


def codec(encoding: str) -> codecs.CodecInfo:
    try:
        return codecs.lookup(encoding)
    except LookupError:
        raise SourceError(
            f"Unknown encoding '{encoding}'. Known are utf-8, utf-16, latin-1, cp1252 "
            "and the others of Python."
        ) from None


def compression_of(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    for magic, kind in FOREIGN.items():
        if head.startswith(magic):
            raise SourceError(f"{path} is {kind}, not a text file.")
    return next(
        (kind for magic, kind in MAGIC.items() if head.startswith(magic)), "none"
    )


def open_bytes(path: Path, compression: str) -> IO[bytes]:
    """The bytes of a file, decompressed."""
    if compression == "none":
        return path.open("rb")
    if compression == "xz":
        return lzma.open(path)  # Arrow knows no xz
    return pa.input_stream(path, compression=compression)


def eight_bit(chunks: Iterator[bytes]) -> str | None:
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
