"""Folders of text files by class."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from kerastrain import folders

__all__ = ["TextFolderSource"]

ENDINGS = (".txt",)


class TextFolderSource(folders.ClassFolder):
    """A folder of text files with one folder for each class: `text`, `path`, `label`.

    Args:
        data: the folder.
        max_bad_rows: largest share of files that are not UTF-8 and are passed over.
        split: the folder to read, where train/, test/ and so on lie above the classes.
    """

    def __init__(
        self, data: Any, max_bad_rows: float = 0.001, *, split: str | None = None
    ):
        name, files = folders.find_class_files(data, ENDINGS, split)
        files = folders.leave_out_bad(files, _problem, max_bad_rows, name)
        super().__init__(name, files, pa.field("text", pa.string()), _text)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig")


def _problem(path: Path) -> str | None:
    try:
        _text(path)
    except UnicodeDecodeError as error:
        return f"not UTF-8 (byte {error.start})"
    return None
