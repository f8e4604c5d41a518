import itertools

import numpy as np
import pyarrow as pa
import pytest

from kerastrain import formats, statistics
from kerastrain.config import ColumnConfig
from kerastrain.profile import profile
from kerastrain.schema import Schema
from kerastrain.sources.frame import FrameSource

NUM_ROWS = 120


def profiled(columns=None, **data):
    return profile(FrameSource(pa.table(data), 0.0), columns=columns)


def test_statistics_are_exact_and_survive_json():
    data = dict(
        number=[None, "", *map(str, range(1, 119))],
        money=[f"({i})" if i % 2 else f"${i},000" for i in range(1, NUM_ROWS + 1)],
        word=["b", "a", "b", None] * 30,
        when=[f"{1 + i % 31:02}.12.1969 12:00" for i in range(NUM_ROWS)],
    )
    schema = profiled({"when": ColumnConfig(format="dmy")}, **data)
    number = schema["number"].stats
    assert (number.num_missing, number.num_distinct, number.is_integral) == (
        2,
        118,
        True,
    )
    assert (number.min, number.max, number.mean) == (1, 118, 59.5)
    assert number.quantiles[3] == 59.5
    assert number.std == pytest.approx(np.arange(1, 119).std())
    assert schema["money"].stats.min == -119
    assert schema["money"].stats.max == 120_000
    assert schema["word"].stats.top == [("b", 60), ("a", 30)]
    assert schema["when"].stats.min == -31 * 86_400 + 43_200
    assert schema["when"].stats.max == -43_200
    assert Schema.model_validate_json(schema.dumps()) == schema


def test_texts_lose_the_spaces_at_both_ends_and_keep_all_else():
    # what is passed without a look and what is trimmed, at either end and alone
    ends = [*formats.SPACES, "", "!", "~", "\x7f", "\u200b", "\u00e9", "\u5b57"]
    texts = [*map("".join, itertools.product(ends, ["", "a", "a b"], ends))]
    with statistics.load_cells(FrameSource(pa.table({"t": texts}), 0.0), {}) as cells:
        got = [text for (text,) in cells.rows("SELECT c0 FROM cells ORDER BY rowid")]
    assert got == [text.strip(formats.SPACES) or None for text in texts]


def test_counts_stay_right_where_large_tables_are_sampled(monkeypatch):
    monkeypatch.setattr(statistics, "_EXACT_DISTINCT", 50)
    monkeypatch.setattr(statistics, "_EXACT_ROWS", 1000)
    monkeypatch.setattr(statistics, "_SAMPLE_ROWS", 1000)
    num_rows = 20_000
    schema = profiled(
        id=np.arange(num_rows),
        nearly=[*range(num_rows - 1), 0],
        word=[f"w{i % 5}" for i in range(num_rows)],
        number=np.arange(num_rows) / 2,
    )
    assert schema["id"].stats.num_distinct == num_rows
    assert schema["id"].type == "identifier"
    assert schema["word"].stats.num_distinct == 5
    number = schema["number"].stats
    assert (number.min, number.max) == (0, (num_rows - 1) / 2)
    assert number.num_distinct == pytest.approx(num_rows, rel=0.1)
    assert number.quantiles[3] == pytest.approx(num_rows / 4, rel=0.1)


def test_a_sample_does_not_follow_a_period_in_the_data(monkeypatch):
    monkeypatch.setattr(statistics, "_SAMPLE_ROWS", 1000)
    source = FrameSource(pa.table({"hour": np.arange(24_000) % 24}), 0.0)
    with statistics.load_cells(source, {}) as cells:
        hours = cells.sample(["hour"]).column("hour").to_pylist()
    assert len(hours) == pytest.approx(1000, rel=0.2)
    assert set(hours) == set(range(24))


def test_column_names_with_any_signs_are_measured():
    names = ['a "b"', "a;b", "class", "größe / cm", "c1"]
    schema = profiled(**{name: [1.5, 2.5] for name in names})
    assert [c.stats.max for c in schema.columns] == [2.5] * 5


def test_a_column_of_numbers_costs_few_queries(monkeypatch):
    """At 2,000 columns the queries are nearly all of the time."""
    counted = []
    for method in ("rows", "arrow"):
        plain = getattr(statistics.Cells, method)
        monkeypatch.setattr(
            statistics.Cells,
            method,
            lambda cells, sql, plain=plain: counted.append(sql) or plain(cells, sql),
        )
    source = FrameSource(pa.table({f"c{i}": np.arange(50.0) + i for i in range(20)}))
    with statistics.load_cells(source, {}) as cells:
        for name in cells.ids:
            statistics.measure(cells, name)
    assert len(counted) <= 2 * 20
