"""Folders of images by class."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from kerastrain import folders
from kerastrain.source import Source

__all__ = ["ImageFolderSource"]

ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
SCHEMA = pa.schema(
    [("image", pa.binary()), ("path", pa.string()), ("label", pa.string())]
)


class ImageFolderSource(Source):
    """A folder of images with one folder for each class: `image`, `path`, `label`.

    `image` holds the bytes of a file; they are not decoded here. That a file is an
    image is told by its first bytes.

    Args:
        data: the folder.
        max_bad_rows: largest share of files that are no images and are passed over.
        split: the folder to read, where train/, test/ and so on lie above the classes.
    """

    def __init__(
        self, data: Any, max_bad_rows: float = 0.001, *, split: str | None = None
    ):
        self.name, files = folders.find_class_files(data, ENDINGS, split)
        self._files = folders.leave_out_bad(files, _problem, max_bad_rows, self.name)
        self.schema = SCHEMA
        self.num_rows = len(self._files)
        self._fingerprint: dict[str, Any] = {}

    def scan(
        self, columns: Sequence[str] | None = None, *, batch_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        names = self.checked_columns(columns)
        schema = pa.schema([SCHEMA.field(name) for name in names])
        return folders.table(self._files, schema, Path.read_bytes, batch_rows)

    def fingerprint(self) -> dict[str, Any]:
        if not self._fingerprint:
            self._fingerprint = folders.fingerprint(self.name, self._files)
        return self._fingerprint


def _problem(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(12)
    return None if _is_image(start) else "no image" if start else "empty"


def _is_image(start: bytes) -> bool:
    """By the signatures of JPEG, PNG, GIF, BMP and WebP, whatever the ending says."""
    signatures = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM")
    is_webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    return start.startswith(signatures) or is_webp
