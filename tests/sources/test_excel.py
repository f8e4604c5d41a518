"""Spreadsheets: types, sheets, several files, damage."""

import datetime as dt

import openpyxl
import pyarrow as pa
import pytest

from kerastrain.config import SourceConfig
from kerastrain.errors import SourceError
from kerastrain.events import recording
from kerastrain.source import open_source
from kerastrain.sources.excel import ExcelSource


@pytest.fixture
def write(tmp_path):
    def _write(sheets, name="data.xlsx"):
        if isinstance(sheets, list):
            sheets = {"Sheet": sheets}
        book = openpyxl.Workbook()
        book.remove(book.active)
        for title, cells in sheets.items():
            sheet = book.create_sheet(title)
            for row in cells:
                sheet.append(row)
        book.save(tmp_path / name)
        return tmp_path / name

    return _write


def columns(source):
    return pa.Table.from_batches(source.scan(), source.schema).to_pydict()


def test_types_and_missing_cells_are_kept(write):
    day = dt.datetime(2020, 1, 2, 3, 4)
    cells = [["n", "x", "s", "t", "b"], [1, 1.5, "a", day, True], [None] * 5]
    cells.append([3, None, " ", None, None])
    source = open_source(write(cells))
    assert columns(source) == {
        "n": [1, 3],
        "x": [1.5, None],
        "s": ["a", None],
        "t": [day, None],
        "b": [True, None],
    }
    assert source.schema.field("n").type == pa.int64()
    assert pa.types.is_timestamp(source.schema.field("t").type)
    assert source.num_rows == 2


def test_a_table_may_begin_anywhere_and_rows_may_be_short(write):
    cells = [[], [], [None, "a", "b"], [None, 1], [None, 2, "y"]]
    assert columns(ExcelSource(write(cells))) == {"a": [1, 2], "b": [None, "y"]}


def test_a_column_without_a_name_gets_one_where_it_has_values(write):
    cells = [["a", None, None], [1, "x", None]]
    assert columns(ExcelSource(write(cells))) == {"a": [1], "column1": ["x"]}


def test_a_column_of_several_types_is_text_with_a_warning(write):
    with recording() as recorder:
        source = ExcelSource(write([["a"], [1], ["x"]]))
    assert columns(source) == {"a": ["1", "x"]}
    assert [event.code for event in recorder.events] == ["column_mixed_types"]


@pytest.mark.parametrize(
    ("sheet", "value"), [(None, 1), ("two", 2), (1, 2), ("1", 2), ("2024", 3), (0, 1)]
)
def test_a_sheet_is_named_or_numbered(write, sheet, value):
    sheets = {"one": [["a"], [1]], "two": [["a"], [2]], "2024": [["a"], [3]]}
    config = SourceConfig() if sheet is None else SourceConfig(sheet=sheet)
    with recording() as recorder:
        source = open_source(write(sheets), config)
    assert columns(source) == {"a": [value]}
    assert [e.code for e in recorder.events] == (
        ["first_sheet"] if sheet is None else []
    )


def test_sheets_of_files_lie_one_below_the_other(write, tmp_path):
    write([["a", "b"], [1, "x"]], "p1.xlsx")
    write([["b", "a"], ["y", 2.5]], "p2.xlsx")
    source = open_source(str(tmp_path / "*.xlsx"))
    assert columns(source) == {"a": [1.0, 2.5], "b": ["x", "y"]}


@pytest.mark.parametrize(
    ("cells", "options", "message"),
    [
        (
            [["a"], [1]],
            {"sheet": "Sheat"},
            "no sheet 'Sheat'. Did you mean 'Sheet'.*: ",
        ),
        ([["a"], [1]], {"sheet": 3}, r"no sheet '3'.*Sheets: Sheet\."),
        ([["a", "b"]], {}, "Sheet 'Sheet' of data.xlsx has no rows"),
        ([], {}, "Sheet 'Sheet' of data.xlsx has no rows"),
        ([["a", "a"], [1, 2]], {}, "whose names are the same: 'a'"),
    ],
)
def test_what_is_no_table_is_told_in_one_line(write, cells, options, message):
    with pytest.raises(SourceError, match=message) as caught:
        ExcelSource(write(cells), **options)
    assert "\n" not in str(caught.value)


def test_files_of_other_columns_are_refused(write):
    paths = [write([["a"], [1]], "p1.xlsx"), write([["c"], [1]], "p2.xlsx")]
    with pytest.raises(SourceError, match=r"p2.xlsx and p1.xlsx have different col"):
        ExcelSource(paths)


@pytest.mark.parametrize("name", ["data.xlsx", "data.xls", "data.ods"])
def test_a_damaged_file_is_told_in_one_line(write, tmp_path, name):
    whole = write([["a"], [1]]).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=f"{name} is not a spreadsheet, or") as caught:
        open_source(tmp_path / name)
    assert "\n" not in str(caught.value)
