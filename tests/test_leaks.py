import numpy as np
import pyarrow as pa
import pytest

from kerastrain.events import recording
from kerastrain.profile import profile
from kerastrain.sources.frame import FrameSource

NUM_ROWS = 3000
RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=NUM_ROWS)
PRICE = np.exp(RNG.normal(size=NUM_ROWS) * 2)
CHURN = (RNG.random(NUM_ROWS) < 0.1).astype(int)
KIND = RNG.choice(list("abcd"), NUM_ROWS)


def leaks(y, **columns):
    """Names of the columns that are warned of."""
    data = FrameSource(pa.table({"y": y, "noise": NOISE, **columns}), 0.0)
    with recording(listen=lambda event: None) as recorder:
        profile(data, target="y", keep=list(columns))
    found = [e for e in recorder.events if e.code == "possible_leak"]
    return [name for event in found for name in event.details["columns"]]


LEAKS = {
    "a copy": (CHURN, CHURN),
    "a copy in words": (CHURN, np.where(CHURN, "gone", "here")),
    "a sum that is paid afterwards": (CHURN, CHURN * PRICE),
    "missing where there is no churn": (CHURN, np.where(CHURN, NOISE, np.nan)),
    "a finer class": (KIND, np.char.add(KIND, RNG.choice(list("xyz"), NUM_ROWS))),
    "the price with little noise": (PRICE, PRICE + 0.01 * NOISE),
    "the logarithm of the price": (PRICE, np.log(PRICE)),
    "the price as text": (PRICE, [f"${price:,.4f}" for price in PRICE]),
}


@pytest.mark.parametrize("case", LEAKS)
def test_a_column_that_knows_the_answer_is_named(case):
    y, column = LEAKS[case]
    assert leaks(y, column=column) == ["column"]


HONEST = {
    "a good predictor": (CHURN, CHURN + 0.5 * NOISE),
    "an identifier": (CHURN, [f"id{i}" for i in range(NUM_ROWS)]),
    "a name of nearly every row": (CHURN, [f"n{i // 2}" for i in range(NUM_ROWS)]),
    "a different number in every row": (CHURN, RNG.normal(size=NUM_ROWS)),
    "half the classes": (KIND, np.where(KIND == "a", "a", "other")),
    "the price with noise": (PRICE, PRICE + 0.2 * PRICE.std() * NOISE),
}


@pytest.mark.parametrize("case", HONEST)
def test_an_honest_column_raises_no_alarm(case):
    y, column = HONEST[case]
    assert leaks(y, column=column) == []


def test_an_easy_task_raises_no_alarm():
    """Where each of many columns nearly decides it, none of them is suspicious."""
    columns = {f"x{i}": CHURN * 6 + RNG.normal(size=NUM_ROWS) for i in range(5)}
    assert leaks(CHURN, x0=columns["x0"]) == ["x0"]
    assert leaks(CHURN, **columns) == []


def found(y, code, **columns):
    """Columns of each finding of that kind."""
    data = FrameSource(pa.table({"y": y, "noise": NOISE, **columns}), 0.0)
    with recording(listen=lambda event: None) as recorder:
        profile(data, target="y", keep=list(columns))
    return [e.details["columns"] for e in recorder.events if e.code == code]


A, B = RNG.gamma(2, 10, NUM_ROWS), RNG.gamma(2, 5, NUM_ROWS)
ERROR = RNG.normal(size=NUM_ROWS)  # in no column
TOGETHER = {
    "a sum": A + B,
    "a difference with gaps": 3 * A - B,
    "a product": A * B,
    "a sum with little noise": A + B + 0.3 * ERROR,
}


@pytest.mark.parametrize("case", TOGETHER)
def test_columns_that_give_the_target_away_together_are_named(case):
    a = np.where(np.arange(NUM_ROWS) % 500 == 0, np.nan, A) if "gaps" in case else A
    (columns,) = found(TOGETHER[case], "function_of_columns", a=a, b=B)
    assert sorted(columns) == ["a", "b"]


def test_a_sum_with_much_noise_raises_no_alarm():
    y = A + B + 4 * ERROR
    assert found(y, "function_of_columns", a=A, b=B) == []


def test_a_few_huge_rows_do_not_make_a_function():
    huge = np.where(np.arange(NUM_ROWS) % 1000 == 0, 1e6, 0.0)
    y = RNG.normal(size=NUM_ROWS) + huge
    columns = {"a": huge + A, "b": huge + B, "c": huge + A[::-1]}
    assert found(y, "function_of_columns", **columns) == []


def test_a_sum_of_many_honest_columns_with_noise_is_none():
    parts = {f"x{i}": RNG.normal(size=NUM_ROWS) for i in range(8)}
    y = sum(parts.values()) + 0.2 * ERROR
    assert found(y, "function_of_columns", **parts) == []


GAPS = {
    "filled": np.where(CHURN * (RNG.random(NUM_ROWS) < 0.4), NOISE, np.nan),
    "dated": ["2024-01-02" if gone and i % 3 else None for i, gone in enumerate(CHURN)],
    "empty": np.where(CHURN * (RNG.random(NUM_ROWS) < 0.4), np.nan, NOISE),
}


@pytest.mark.parametrize("case", GAPS)
def test_a_column_with_gaps_that_tell_the_class_is_named(case):
    assert found(CHURN, "gaps_tell_class", column=GAPS[case]) == [["column"]]


def test_gaps_by_chance_raise_no_alarm():
    column = np.where(RNG.random(NUM_ROWS) < 0.4, NOISE, np.nan)
    assert found(CHURN, "gaps_tell_class", column=column) == []


def test_a_column_that_stands_out_is_noted():
    columns = {"strong": CHURN + 0.5 * ERROR, "weak": CHURN + 5 * A}
    assert found(CHURN, "dominant_column", **columns) == [["strong"]]


def test_of_very_many_classes_a_copy_is_found_all_the_same():
    y = [f"k{i}" for i in RNG.integers(0, 80, NUM_ROWS)]
    assert found(y, "possible_leak", copy=[f"c{name}" for name in y]) == [["copy"]]
