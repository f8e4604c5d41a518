"""Spreadsheets."""

import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import python_calamine

from kerastrain.errors import SourceError, listing, suggest
from kerastrain.events import note
from kerastrain.files import files_fingerprint, files_name, find_files
from kerastrain.remote import address_of
from kerastrain.source import Source, check_names
from kerastrain.sources import SOURCES

__all__ = ["ExcelSource"]


class ExcelSource(Source):
    """A sheet of an Excel or OpenDocument file; its first row names the columns.

    A sheet is read into memory (Excel allows 1,048,576 rows). Cells that are empty or
    hold an error such as #N/A are missing; a column of several types is read as text,
    with a warning. Of several files the sheets lie one below the other.

    Args:
        sheet: its name, or its number from 0; the first by default.
    """

    def __init__(
        self, data: Any, max_bad_rows: float = 0.0, *, sheet: str | int | None = None
    ):
        self.paths = find_files(data)
        self.name = files_name(self.paths)
        self._fingerprint: dict[str, Any] = {}
        read = [_read_sheet(path, sheet) for path in self.paths]
        self._sheets = [name for name, _ in read]
        columns = _one_below_the_other(self.paths, [table for _, table in read])
        self._frame: Source = SOURCES.load("frame")(columns, max_bad_rows)
        self.schema, self.num_rows = self._frame.schema, self._frame.num_rows

    def scan(
        self, columns: Sequence[str] | None = None, *, batch_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        return self._frame.scan(self.checked_columns(columns), batch_rows=batch_rows)

    def fingerprint(self) -> dict[str, Any]:
        if not self._fingerprint:
            sheets = {"sheets": self._sheets}
            self._fingerprint = files_fingerprint(self.paths) | sheets
        return self._fingerprint


def _read_sheet(path: Path, wanted: str | int | None) -> tuple[str, dict[str, list]]:
    """Name and columns of a sheet; SourceError when there are no rows."""
    try:
        with python_calamine.CalamineWorkbook.from_path(path) as book:
            name = _chosen(book.sheet_names, wanted, path.name)
            rows = book.get_sheet_by_name(name).to_python(skip_empty_area=True)
    except python_calamine.PasswordError:
        raise SourceError(
            f"{address_of(path)} is locked with a password. Save it without one."
        ) from None
    except (python_calamine.CalamineError, OSError) as error:
        text = str(error).partition("\n")[0].rstrip(".")
        raise SourceError(
            f"{address_of(path)} is not a spreadsheet, or it is damaged: {text}."
        ) from error
    cells = [[_cell(cell) for cell in row] for row in rows]
    header, *rows = [row for row in cells if any(c is not None for c in row)] or [[]]
    if not rows:
        raise SourceError(f"Sheet '{name}' of {path.name} has no rows below a header.")
    return name, _by_column(header, rows, path.name)


def _chosen(names: Sequence[str], wanted: str | int | None, where: str) -> str:
    if wanted is None:
        if len(names) > 1:
            note(
                "first_sheet",
                f"{where} has {len(names)} sheets; the first, '{names[0]}', is read. "
                "For another: --set source.sheet=NAME",
                sheets=list(names),
            )
        return names[0]
    if str(wanted) in names:  # a sheet may be called 2024
        return str(wanted)
    if str(wanted).isdecimal() and int(wanted) < len(names):
        return names[int(wanted)]
    raise SourceError(
        f"{where} has no sheet '{wanted}'. {suggest(str(wanted), names)}"
        f"Sheets: {listing(names)}."
    )


def _by_column(header: list[Any], rows: list[list[Any]], where: str) -> dict[str, list]:
    """Columns by name; those without a name and without a value are none."""
    columns = list(zip(*rows, strict=True))
    used = [
        i
        for i, name in enumerate(header)
        if name is not None or any(value is not None for value in columns[i])
    ]
    names = [
        f"column{i}" if header[i] is None else str(header[i]).strip() for i in used
    ]
    check_names(names, where)
    return {name: list(columns[i]) for name, i in zip(names, used, strict=True)}


def _cell(value: Any) -> Any:
    """None for an empty cell; whole numbers, which a sheet holds as 3.0, are whole."""
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dt.timedelta | dt.time):
        return str(value)
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return dt.datetime(value.year, value.month, value.day)
    return value


def _one_below_the_other(
    paths: Sequence[Path], tables: Sequence[dict[str, list]]
) -> dict[str, list]:
    first = tables[0]
    for path, table in zip(paths, tables, strict=True):
        if different := sorted(table.keys() ^ first.keys()):
            raise SourceError(
                f"{path.name} and {paths[0].name} have different columns: "
                f"{listing(different, limit=5)} are in one of them only."
            )
    return {name: [v for table in tables for v in table[name]] for name in first}
