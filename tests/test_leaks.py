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
    return [event.details["column"] for event in found]


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
