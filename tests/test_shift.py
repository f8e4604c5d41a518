import types

import numpy as np
import pytest

from kerastrain.events import recording
from kerastrain.pipeline import Rows
from kerastrain.schema import Column, ColumnStats, Schema
from kerastrain.shift import check_split, measure_shift

RNG = np.random.default_rng(0)
NUM_ROWS = 2000
IS_TEST = np.arange(NUM_ROWS) % 3 == 0


def noise(width):
    return RNG.normal(size=(NUM_ROWS, width)).astype("float32")


def test_rows_of_one_kind_are_not_told_apart():
    found = measure_shift(noise(5), IS_TEST, list("abcde"))
    assert found.auc == pytest.approx(0.5, abs=0.05)
    assert not found.is_notable


def test_chance_among_very_many_columns_is_no_shift():
    found = measure_shift(noise(600), IS_TEST, [f"x{i}" for i in range(600)])
    assert found.auc == pytest.approx(0.5, abs=0.07)


def test_the_column_that_differs_is_named_with_its_auc():
    x = noise(60)
    x[IS_TEST, 41] += 2
    found = measure_shift(x, IS_TEST, [f"x{i}" for i in range(60)])
    assert found.auc > 0.85
    assert list(found.telling()) == ["x41"]


def test_gaps_on_one_side_are_a_shift():
    x = noise(3)
    x[IS_TEST, 1] = np.nan
    assert measure_shift(x, IS_TEST, list("abc")).auc == 1


def test_a_shift_of_two_columns_together_is_found_without_a_name():
    x = noise(2)
    x[:, 1] = np.where(IS_TEST, x[:, 0], -x[:, 0])
    found = measure_shift(x, IS_TEST, list("ab"))
    assert (found.auc > 0.9, found.telling()) == (True, {})


def column(name, kind):
    stats = ColumnStats(storage="float", num_rows=NUM_ROWS)
    return Column(name=name, type=kind, input=name, stats=stats)


def told(numbers, codes, keys=None, **options):
    """Events about a split of encoded columns `a` and `b` (numbers) and `c` (codes)."""
    columns = {"number": ["a", "b"], "code": ["c"]}
    front = types.SimpleNamespace(
        of_kind=lambda kind: [
            (column(name, "numeric"), types.SimpleNamespace(names=(name,)))
            for name in columns[kind]
        ]
    )
    inputs = {"numbers": numbers, "codes": codes}
    sides = [
        Rows(inputs, np.zeros(NUM_ROWS), np.ones(NUM_ROWS), np.flatnonzero(side))
        for side in (~IS_TEST, IS_TEST)
    ]
    data = types.SimpleNamespace(front=front, train=sides[0], test=sides[1])
    schema = Schema(columns=[], num_rows=NUM_ROWS, keys=keys or {})
    with recording(listen=lambda event: None) as recorder:
        check_split(data, schema, **options)
    return recorder.events


SHIFTED = noise(2) + IS_TEST[:, None].astype("float32") * [0, 2]
CODES = RNG.integers(0, 3, (NUM_ROWS, 1)).astype("int32") * 2
TIME = {"time": column("b", "numeric")}
GROUP = {"group": column("g", "categorical")}


def test_test_rows_of_a_file_that_differ_are_warned_of():
    (event,) = told(SHIFTED, CODES, has_test=True)
    assert (event.code, event.severity) == ("train_test_shift", "warning")
    assert event.details["columns"] == ["b"]
    assert event.message.startswith(
        "Test rows are of another kind than train rows: a model tells them apart with "
    )
    assert "Most of it by 'b' (0." in event.message


def test_a_split_that_was_asked_for_is_noted():
    (event,) = told(SHIFTED, CODES, keys=GROUP)
    assert event.severity == "info"


QUIET = {
    "a random split": {},
    "the column that the split goes by": {"keys": TIME},
}


@pytest.mark.parametrize("case", QUIET)
def test_a_difference_that_the_split_makes_is_not_told(case):
    assert told(SHIFTED, CODES, **QUIET[case]) == []


def test_rare_and_unseen_categories_are_no_shift():
    """Train rows hold code 1 alone, test rows code 0: so the codes are made."""
    codes = np.where(IS_TEST, 0, 1).astype("int32")[:, None]
    assert told(noise(2), codes, has_test=True) == []
