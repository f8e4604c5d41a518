"""Folders of images by class."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from kerastrain import folders

__all__ = ["ImageFolderSource"]

ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")


class ImageFolderSource(folders.ClassFolder):
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
        name, files = folders.find_class_files(data, ENDINGS, split)
        files = folders.leave_out_bad(files, _problem, max_bad_rows, name)
        super().__init__(name, files, pa.field("image", pa.binary()), Path.read_bytes)


def _problem(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(12)
    return None if _is_image(start) else "no image" if start else "empty"


def _is_image(start: bytes) -> bool:
    """By the signatures of JPEG, PNG, GIF, BMP and WebP, whatever the ending says."""
    signatures = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM")
    is_webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    return start.startswith(signatures) or is_webp
