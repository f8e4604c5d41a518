"""Spreadsheets."""

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import python_calamine

from kerastrain.errors import SourceError, listing, suggest
from kerastrain.events import note
from kerastrain.files import files_fingerprint, files_name, find_files
from kerastrain.source import Source, check_names
from kerastrain.sources import SOURCES

__all__ = ["ExcelSource"]


class ExcelSource(Source):
    """A sheet of an Excel or OpenDocument file; its first row names the columns.

    A sheet fits into memory (Excel allows 1,048,576 rows). Cells that are empty are
    missing; a column of several types is read as text, with a warning.

    Args:
        sheet: its name, or its number from 0; the first by default.
    """

    def __init__(
        self, data: Any, max_bad_rows: float = 0.0, *, sheet: str | int | None = None
    ):
        self.paths = find_files(data)
        if len(self.paths) > 1:
            raise SourceError(
                f"{files_name(self.paths)}: a table is read from one spreadsheet."
            )
        self.name = self.paths[0].name
        self._fingerprint: dict[str, Any] = {}
        self._sheet = sheet
        self._frame: Source = SOURCES.load("frame")(self._columns(), max_bad_rows)
        self._frame.name = self.name
        self.schema, self.num_rows = self._frame.schema, self._frame.num_rows

    def scan(
        self, columns: Sequence[str] | None = None, *, batch_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        return self._frame.scan(columns, batch_rows=batch_rows)

    def fingerprint(self) -> dict[str, Any]:
        if not self._fingerprint:
            files = files_fingerprint(self.paths)
            self._fingerprint = files | {"sheet": self._sheet}
        return self._fingerprint

    def _columns(self) -> dict[str, list[Any]]:
        header, *rows = self._rows()
        names = [str(name).strip() or f"column{i}" for i, name in enumerate(header)]
        check_names(names, self.name)
        return {
            name: [_cell(row[i]) if i < len(row) else None for row in rows]
            for i, name in enumerate(names)
        }

    def _rows(self) -> list[list[Any]]:
        path = self.paths[0]
        try:
            book = python_calamine.CalamineWorkbook.from_path(path)
            with book:
                self._sheet = self._chosen(book.sheet_names)
                sheet = book.get_sheet_by_name(self._sheet)
                rows = sheet.to_python(skip_empty_area=True)
        except (python_calamine.CalamineError, OSError, ValueError) as error:
            if isinstance(error, SourceError):
                raise
            text = str(error).partition("\n")[0].rstrip(".")
            raise SourceError(
                f"{path} is not a spreadsheet, or it is damaged: {text}."
            ) from error
        kept = [row for row in rows if any(cell != "" for cell in row)]
        if len(kept) < 2:
            raise SourceError(
                f"Sheet '{self._sheet}' of {path.name} has no rows below a header."
            )
        return kept

    def _chosen(self, names: Sequence[str]) -> str:
        wanted, where = self._sheet, self.name
        if wanted is None:
            if len(names) > 1:
                note(
                    "first_sheet",
                    f"{where} has {len(names)} sheets; the first, '{names[0]}', is "
                    "read. For another: --set source.sheet=NAME",
                )
            return names[0]
        if isinstance(wanted, int) and 0 <= wanted < len(names):
            return names[wanted]
        if str(wanted) in names:
            return str(wanted)
        raise SourceError(
            f"{where} has no sheet '{wanted}'. {suggest(str(wanted), names)}"
            f"Sheets: {listing(names)}."
        )


def _cell(value: Any) -> Any:
    """None for an empty cell; whole numbers, which a sheet holds as 3.0, stay whole."""
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, dt.timedelta | dt.time):
        return str(value)
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return dt.datetime(value.year, value.month, value.day)
    return value
