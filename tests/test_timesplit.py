"""Times asked piece by piece give what a sorted copy would."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastrain.parts import DROPPED, TEST, TRAIN, VALIDATION
from kerastrain.timesplit import Span, Timeline, time_spans

anything = st.floats(allow_nan=True, allow_infinity=True, width=64)
some_times = st.lists(st.one_of(anything, st.integers(-3, 3).map(float)), min_size=1)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr("kerastrain.timesplit._CHUNK_ROWS", 5)


def line_of(times, present=None):
    times = np.array(times, "float64")
    present = np.ones(len(times), bool) if present is None else present
    return Timeline(times, present)


@settings(deadline=None, max_examples=50)
@given(some_times, st.data())
def test_ranks_and_neighbours_are_those_of_the_sorted_times(times, data):
    is_present = st.lists(st.booleans(), min_size=len(times), max_size=len(times))
    present = np.array(data.draw(is_present))
    line = line_of(times, present)
    known = np.sort(np.array(times)[present & np.isfinite(times)])
    assert line.num_rows == len(known)
    for rank, value in enumerate(known[:20]):
        assert line.at(rank) == value
        found = line.around(value)
        assert found.num_before == np.searchsorted(known, value, "left")
        assert found.num_upto == np.searchsorted(known, value, "right")
        assert found.last_before == max(known[known < value], default=-np.inf)
        assert found.first_after == min(known[known > value], default=np.inf)


def test_rows_that_alternate_between_early_and_late_hold_the_shares():
    # Every second row of a table, as two sensors write them: a sample by place of
    # these saw one of the two only.
    times = np.arange(1_000) // 2 + np.arange(1_000) % 2 * 10_000
    line = line_of(times)
    codes = line.codes(time_spans(line, {"validation": 0.2, "test": 0.2}, 0.0))
    assert np.bincount(codes).tolist() == [600, 200, 200]
    assert times[codes == TRAIN].max() < times[codes == VALIDATION].min()


def test_a_cut_goes_to_the_nearer_end_of_equal_times():
    line = line_of([0, 1, 2, 3, 4, 5, 6, 6, 6, 9])
    shares = {"validation": 0.3, "test": 0.0}
    assert time_spans(line, shares, 0.0)[1] == Span(VALIDATION, 6.0, np.inf)
    line = line_of([0, 1, 2, 3, 5, 5, 5, 5, 8, 9])
    assert time_spans(line, shares, 0.0)[1] == Span(VALIDATION, 8.0, np.inf)


def test_a_row_is_in_no_part_while_its_time_is_within_the_gap():
    line = line_of(np.arange(10))
    codes = line.codes(time_spans(line, {"validation": 0.3, "test": 0.2}, 2.0))
    # The last train row is 4: 5 is less than 2 after it, 6 is not.
    assert codes[:7].tolist() == [TRAIN] * 5 + [DROPPED, VALIDATION]
    assert codes[7:].tolist() == [VALIDATION, DROPPED, TEST]
