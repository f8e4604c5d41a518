"""The same table written in each format gives the same rows."""

import datetime as dt
import json

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerastrain.source import open_source

TEXTS = st.text("abcXYZ äé,;'\"", min_size=1, max_size=6).map(lambda t: f"t{t}t")
ROWS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(-(2**40), 2**40)),
        st.floats(-1e6, 1e6).map(lambda x: round(x, 3)),
        st.one_of(st.none(), TEXTS),
    ),
    min_size=2,
    max_size=12,
).filter(
    lambda rows: all(any(v is not None for v in c) for c in zip(*rows, strict=True))
)


def _excel(table, path):
    book = openpyxl.Workbook()
    book.active.append(table.column_names)
    for row in zip(*table.to_pydict().values(), strict=True):
        book.active.append(row)
    book.save(path)


def _npz(table, path):
    numbers = table["i"].to_pylist()
    texts = [text or "" for text in table["t"].to_pylist()]
    np.savez(path, i=np.array(numbers, float), x=table["x"].to_numpy(), t=texts)


def _json(table, path):
    path.write_text(json.dumps(table.to_pylist()))


def _lines(table, path):
    path.write_text("\n".join(map(json.dumps, table.to_pylist())))


WRITERS = {
    "csv": pa.csv.write_csv,
    "parquet": lambda table, path: pq.write_table(table, path, row_group_size=3),
    "json": _json,
    "jsonl": _lines,
    "feather": lambda table, path: pa.feather.write_feather(table, path, chunksize=3),
    "xlsx": _excel,
    "npz": _npz,
}


def plain(value):
    """A cell as what it means: texts of a CSV are numbers too."""
    if value is None or value == "" or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, dt.date):
        return value.isoformat()
    try:
        return float(value)
    except ValueError:
        return value


def rows(source):
    return [
        tuple(plain(batch[name][i].as_py()) for name in ("i", "x", "t"))
        for batch in source.scan()
        for i in range(batch.num_rows)
    ]


@pytest.mark.parametrize("ending", WRITERS)
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(table=ROWS)
def test_the_same_table_in_any_format_gives_the_same_rows(tmp_path, ending, table):
    i, x, t = zip(*table, strict=True)
    written = pa.table({"i": pa.array(i, pa.int64()), "x": x, "t": pa.array(t)})
    path = tmp_path / f"data.{ending}"
    WRITERS[ending](written, path)
    expected = [tuple(map(plain, row)) for row in table]
    assert rows(open_source(path)) == expected
    chosen = [row for row in expected if row[1] >= 0.5]
    assert rows(open_source(path, where="x >= 0.5")) == chosen
