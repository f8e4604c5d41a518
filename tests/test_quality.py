"""The quality gate on public sets, some with leaks, and on small tables."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from kerastrain.errors import DataError
from kerastrain.events import Event, recording, refuse_findings
from kerastrain.profile import profile
from kerastrain.report.data import data_section
from kerastrain.report.files import RunFiles
from kerastrain.source import open_source
from kerastrain.sources.frame import FrameSource

SETS = Path(__file__).parents[2] / "shared" / "data"
LEAKS = ("possible_leak", "function_of_columns", "gaps_tell_class")
RNG = np.random.default_rng(0)
NUM_ROWS = 3000
NOISE = RNG.normal(size=NUM_ROWS)


def findings(data, **settings):
    with recording(listen=lambda event: None) as recorder:
        profile(data, **settings)
    return [event for event in recorder.events if event.details.get("gate")]


def of_set(file, **settings):
    """Columns that are warned of as leaks, and those that are noted to stand out."""
    if not SETS.is_dir():
        pytest.skip(f"the public sets are not at {SETS}")
    found = findings(open_source(str(SETS / file)), **settings)
    leaks = [e for e in found if e.code in LEAKS]
    assert all(event.severity == "warning" for event in leaks)
    dominant = [e.details["columns"] for e in found if e.code == "dominant_column"]
    return {name for e in leaks for name in e.details["columns"]}, dominant


WITH_LEAKS = {
    "bike_hourly/hour.csv": ("cnt", {"casual", "registered"}),
    "nyc_taxis/taxis.csv": ("fare", {"total", "tip", "tolls"}),
    "car_claims/car_claims.parquet": ("clm", {"numclaims", "claimcst0"}),
    "text_trec/train.csv": ("label", {"fine"}),
}
HONEST = {
    "abalone19/abalone19.csv": "Class",
    "penguins/penguins.csv": "species",
    "titanic/titanic.csv": "Survived",
    "telco_churn/telco_churn.csv": "Churn",
    "california/housing.csv": "median_house_value",
    "letter/letter.csv": "lettr",
    "inst_eval/inst_eval.parquet": "y",
}
HONEST_AND_LARGE = {
    "adult/train.csv": "income",
    "ames/ames.csv": "Sale_Price",
    "beijing_pm25/pollution.csv": "pm2.5",
    "diamonds/diamonds.csv": "price",
    "kddcup99_10pct/kddcup.parquet": "label",
}


@pytest.mark.parametrize("file", WITH_LEAKS)
def test_leaks_of_public_sets_are_found_and_no_other_column(file):
    target, leaks = WITH_LEAKS[file]
    assert of_set(file, target=target) == (leaks, [])


@pytest.mark.parametrize("file", [f for f in WITH_LEAKS if "trec" not in f])
def test_without_its_leaks_a_public_set_raises_no_alarm(file):
    target, leaks = WITH_LEAKS[file]
    assert of_set(file, target=target, ignore=sorted(leaks)) == (set(), [])


@pytest.mark.parametrize("file", HONEST)
def test_a_public_set_without_leaks_raises_no_alarm(file):
    assert of_set(file, target=HONEST[file]) == (set(), [])


@pytest.mark.slow
@pytest.mark.parametrize("file", HONEST_AND_LARGE)
def test_a_large_public_set_without_leaks_raises_no_alarm(file):
    assert of_set(file, target=HONEST_AND_LARGE[file]) == (set(), [])


def test_the_duration_of_a_call_stands_out():
    assert of_set("bank/bank.csv", target="deposit") == (set(), [["duration"]])
    without = of_set("bank/bank.csv", target="deposit", ignore=["duration"])
    assert without == (set(), [])


def table(y=None, **columns):
    """Findings by code about a table with a column of noise."""
    y = NOISE + RNG.normal(size=NUM_ROWS) if y is None else y
    data = FrameSource(pa.table({"y": y, "noise": NOISE, **columns}), 0.0)
    return {event.code: event for event in findings(data, target="y")}


def test_an_unremarkable_table_has_no_findings():
    assert table(city=RNG.choice([f"c{i}" for i in range(60)], NUM_ROWS)) == {}


def test_a_nearly_constant_column_is_named():
    almost = np.where(np.arange(NUM_ROWS) == 7, 1.0, 0.0)
    event = table(almost=almost)["near_constant"]
    assert (event.details["columns"], event.severity) == (["almost"], "info")
    assert event.message == (
        "Column 'almost' has one value, or none, in at least 99.9% of the rows and can "
        "hardly help. To leave out: --ignore almost"
    )


def test_classes_of_very_different_size_are_told():
    y = np.where(np.arange(NUM_ROWS) % 200 == 0, "rare", "common")
    event = table(y)["imbalance"]
    assert event.details["ratio"] == pytest.approx(199)
    assert "2,985 rows of 'common', 15 of 'rare' (199:1)" in event.message


def test_classes_of_hundred_to_one_are_no_finding():
    assert "imbalance" not in table(np.where(np.arange(NUM_ROWS) % 90 == 0, "a", "b"))


FAR = {
    "a sentinel": np.where(np.arange(NUM_ROWS) == 5, 999_999.0, np.abs(NOISE) + 1),
    "an error of unit": np.where(np.arange(NUM_ROWS) == 5, 1700.0, 1.7 + NOISE / 100),
    "below": np.where(np.arange(NUM_ROWS) == 5, -1e6, NOISE),
}
SKEWED = {
    "log-normal": np.exp(2 * NOISE),
    "counts": RNG.poisson(0.02, NUM_ROWS),
    "exponential": RNG.exponential(size=NUM_ROWS),
    "years": 2000 + RNG.integers(0, 24, NUM_ROWS),
}


@pytest.mark.parametrize("case", FAR)
def test_a_row_far_outside_is_told_with_its_value(case):
    event = table(column=FAR[case])["rows_far_outside"]
    assert event.details["columns"] == ["column"]
    assert "'column' (1 row, up to " in event.message


@pytest.mark.parametrize("case", SKEWED)
def test_honest_skew_is_not_far_outside(case):
    assert "rows_far_outside" not in table(column=SKEWED[case])


def test_equal_rows_with_different_classes_give_a_ceiling():
    pairs = {"a": np.arange(2000) // 2, "b": np.arange(2000) // 2 % 7}
    y = np.where(np.arange(2000) % 10 == 0, "no", "yes")
    data = FrameSource(pa.table({"y": y, **pairs}), 0.0)
    (event,) = [e for e in findings(data, target="y") if e.code == "conflicting_rows"]
    # 200 pairs of a yes and a no: one row of each is lost.
    assert event.details["ceiling"] == pytest.approx(0.9)
    assert (event.details["count"], event.severity) == (400, "warning")


def test_equal_rows_with_different_numbers_give_a_ceiling():
    groups = RNG.integers(0, 300, NUM_ROWS)
    y = groups + NOISE * 30
    data = FrameSource(pa.table({"y": y, "a": groups, "b": -groups}), 0.0)
    (event,) = [e for e in findings(data, target="y") if e.code == "conflicting_rows"]
    within = sum(y[groups == g].var() * (groups == g).sum() for g in range(300))
    assert event.details["ceiling"] == pytest.approx(1 - within / y.var() / NUM_ROWS)


PEOPLE = RNG.integers(0, 300, NUM_ROWS)
ENTITIES = {
    "patient_id": PEOPLE,
    "customer": [f"Ann {i}" for i in PEOPLE],
    "userID": [f"u{i}" for i in PEOPLE],
    "subject": PEOPLE % 30,
    "order_id": PEOPLE + 10_000,
}
CATEGORIES = {
    "customer_age": PEOPLE,
    "zip": PEOPLE,
    "city": [f"Town {i}" for i in PEOPLE],
    "category_id": PEOPLE % 10,
    "year": 1700 + PEOPLE,
}


@pytest.mark.parametrize("name", ENTITIES)
def test_somebody_with_many_rows_is_offered_as_a_group(name):
    event = table(**{name: ENTITIES[name]})["same_entity"]
    assert (event.details["columns"], event.severity) == ([name], "warning")
    assert event.message.endswith(f"--group {name}")
    assert event.details["share"] > 0.99


def test_values_that_look_like_codes_are_noted():
    event = table(plate=[f"B-{i:05}" for i in PEOPLE])["same_entity"]
    assert event.severity == "info"


@pytest.mark.parametrize("name", CATEGORIES)
def test_an_ordinary_category_is_nobody(name):
    assert "same_entity" not in table(**{name: CATEGORIES[name]})


def test_a_split_by_group_needs_no_such_offer():
    data = FrameSource(pa.table({"y": NOISE, "x": -NOISE, "patient": PEOPLE}), 0.0)
    found = findings(data, target="y", keys={"group": "patient"})
    assert "same_entity" not in [event.code for event in found]


def test_identifiers_and_constants_are_findings():
    data = {"id": np.arange(NUM_ROWS), "same": np.zeros(NUM_ROWS)}
    found = findings(FrameSource(pa.table({"y": NOISE, "x": PEOPLE, **data}), 0.0))
    assert [e.details["columns"] for e in found] == [["id"], ["same"]]


def event(code, severity, **details):
    return Event(code, f"{code}!", severity, details)


def test_a_strict_run_is_stopped_by_all_warnings_of_the_gate_at_once():
    events = [
        event("a", "warning", gate=True),
        event("b", "info", gate=True),
        event("c", "warning"),
        event("d", "warning", gate=True),
    ]
    message = (
        r"^The quality gate warns 2 times, and with --strict that stops the run: "
        r"\(1\) a! \(2\) d!$"
    )
    with pytest.raises(DataError, match=message):
        refuse_findings(events)


def test_a_strict_run_is_not_stopped_by_notes():
    refuse_findings([event("b", "info", gate=True), event("c", "warning")])


def test_the_report_lists_findings_with_their_columns_warnings_first():
    events = [
        event("near_constant", "info", gate=True, columns=["a<b"]),
        event("possible_leak", "warning", gate=True, columns=["paid", "sum"]),
        event("rows_dropped", "warning", columns=["c"]),
    ]
    page = data_section(RunFiles("run", events=[asdict(e) for e in events]))
    assert page.index("Possible leak") < page.index("Near constant")
    assert "<td>paid, sum</td>" in page
    assert "a&lt;b" in page
    assert "Rows dropped" not in page
