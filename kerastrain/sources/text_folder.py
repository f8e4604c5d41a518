"""Folders of text files by class."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from kerastrain import folders
from kerastrain.source import Source

__all__ = ["TextFolderSource"]

ENDINGS = (".txt",)
SCHEMA = pa.schema(
    [("text", pa.string()), ("path", pa.string()), ("label", pa.string())]
)


class TextFolderSource(Source):
    """A folder of text files with one folder for each class: `text`, `path`, `label`.

    Args:
        data: the folder.
        max_bad_rows: largest share of files that are not UTF-8 and are passed over.
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
        return folders.table(self._files, schema, _text, batch_rows)

    def fingerprint(self) -> dict[str, Any]:
        if not self._fingerprint:
            self._fingerprint = folders.fingerprint(self.name, self._files)
        return self._fingerprint


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig")


def _problem(path: Path) -> str | None:
    try:
        _text(path)
    except UnicodeDecodeError as error:
        return f"not UTF-8 (byte {error.start})"
    return None
