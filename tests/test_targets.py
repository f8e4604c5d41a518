import re

import numpy as np
import pyarrow as pa
import pytest

from kerastrain.config import ColumnConfig
from kerastrain.errors import ConfigError, DataError, SchemaError
from kerastrain.events import recording
from kerastrain.profile import profile
from kerastrain.sources.frame import FrameSource

NUM_ROWS = 200
RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=NUM_ROWS)


def profiled(y, **settings):
    data = FrameSource(pa.table({"x": NOISE[: len(y)], "y": y}), 0.0)
    with recording(listen=lambda event: None) as recorder:
        schema = profile(data, target="y", **settings)
    return schema, recorder.events


def repeated(*values):
    return [values[i % len(values)] for i in range(NUM_ROWS)]


TASKS = {
    "words": (repeated("yes", "no"), "binary", ["no", "yes"]),
    "arrow booleans": (repeated(True, False), "binary", ["false", "true"]),
    "integers 0 and 1": (repeated(1, 0), "binary", ["0", "1"]),
    "floats 1 and 2": (repeated(2.0, 1.0, None), "binary", ["1", "2"]),
    "words with gaps": (repeated("b", "a", "", None), "binary", ["a", "b"]),
    "three words": (repeated("c", "a", "b"), "multiclass", ["a", "b", "c"]),
    "few integers": (repeated(10, 9, 1), "multiclass", ["1", "9", "10"]),
    "few integers as text": (repeated("10", "9", "1"), "multiclass", ["1", "9", "10"]),
    "many integers": (list(range(NUM_ROWS)), "regression", []),
    "fractions": (repeated(0.5, 1.5, 2.0), "regression", []),
    "money": ([f"${i},000" for i in range(1, NUM_ROWS + 1)], "regression", []),
    "numbers and NA": (["NA", *map(str, NOISE[1:])], "regression", []),
}


@pytest.mark.parametrize("case", TASKS)
def test_the_task_follows_from_the_target(case):
    y, task, labels = TASKS[case]
    schema, events = profiled(y)
    assert (schema.target.task, schema.target.labels) == (task, labels)
    is_number = task == "regression"
    column = schema["y"]
    assert column.role == "target"
    assert column.dtype == ("float32" if is_number else "string")
    assert column.type == ("numeric" if is_number else "categorical")
    (event,) = [e for e in events if e.code == "task_inferred"]
    assert event.message.startswith(f"The task is {task}: 'y' h")


def test_labels_are_the_texts_that_the_target_is_read_as():
    from kerastrain.columns import COLUMNS

    y = pa.array(np.float32(repeated(0.1, 3.0, 7.5)))
    schema, _ = profiled(y, task="multiclass")
    read = COLUMNS.load("categorical").to_input(schema["y"], y, where="", first_row=0)
    assert schema.target.labels == ["0.1", "3", "7.5"]
    assert set(read.to_pylist()) == set(schema.target.labels)


@pytest.mark.parametrize(
    ("y", "task"),
    [
        (repeated(0, 1), "regression"),
        (repeated(True, False), "regression"),
        (repeated(1, 2, 3), "regression"),
        (list(range(50)) * 4, "multiclass"),
    ],
)
def test_a_task_that_the_user_names_is_obeyed(y, task):
    schema, events = profiled(y, task=task)
    assert schema.target.task == task
    assert schema["y"].type == ("numeric" if task == "regression" else "categorical")
    assert not [e for e in events if e.code == "task_inferred"]


@pytest.mark.parametrize(
    ("y", "settings", "error", "message"),
    [
        (
            repeated("1", "a", "b"),
            {"task": "regression"},
            SchemaError,
            "column 'y' in .*, row 2: expected a number, got 'a'",
        ),
        (
            repeated(1, 2, 3),
            {"task": "binary"},
            DataError,
            "'y' has 3 values, but a binary task needs two",
        ),
        (repeated(1, 2), {"task": "ranking"}, ConfigError, "task: expected auto"),
        (repeated("a"), {}, DataError, "'y' has one value only, 'a'"),
        (repeated(7, None), {}, DataError, "'y' has one value only, '7'"),
        (repeated("1.5", "NA"), {}, DataError, "'y' has one value only"),
        (
            [f"w{i}" for i in range(NUM_ROWS)],
            {},
            DataError,
            "200 different values in 200 rows: most classes have a single row",
        ),
        (
            [f"2019-01-{1 + i % 28:02}" for i in range(NUM_ROWS)],
            {},
            SchemaError,
            "cannot be the target: expected classes or numbers, got dates",
        ),
        ([[1]] * NUM_ROWS, {}, SchemaError, "got nested or binary values"),
        (
            ["a", "b", "a"],
            {},
            DataError,
            "has 3 rows with a target in 'y'; at least 10",
        ),
        ([None] * NUM_ROWS, {}, DataError, "has 0 rows with a target in 'y'"),
        (
            repeated("yes", "no"),
            {"positive_label": "yess"},
            ConfigError,
            "has no class 'yess'. Did you mean 'yes'\\? Classes: no, yes",
        ),
        (
            repeated("a", "b", "c"),
            {"positive_label": "a"},
            ConfigError,
            "positive_label is for two classes; 'y' has 3",
        ),
        (
            list(NOISE),
            {"positive_label": "1"},
            ConfigError,
            "positive_label is for two classes, not for numbers",
        ),
    ],
)
def test_a_target_that_cannot_be_learnt_is_refused(y, settings, error, message):
    with pytest.raises(error, match=message):
        profiled(y, **settings)


def test_too_many_classes_are_refused():
    y = [f"w{i % 1001}" for i in range(4004)]
    data = FrameSource(pa.table({"x": np.arange(4004) * 0.5, "y": y}), 0.0)
    with pytest.raises(DataError, match="has 1,001 classes; at most 1,000"):
        profile(data, target="y")


def test_the_positive_label_comes_last():
    schema, _ = profiled(repeated("yes", "no"), positive_label="no")
    assert schema.target.labels == ["yes", "no"]


def test_integers_that_the_user_calls_categories_are_classes():
    wish = {"y": ColumnConfig(type="categorical")}
    schema, _ = profiled(list(range(50)) * 4, columns=wish)
    assert schema.target.task == "multiclass"
    assert schema.target.labels == [str(i) for i in range(50)]


@pytest.mark.parametrize(
    "y", [[None] * 3 + [*NOISE[3:]], ["?", "NA", "NA", *map(str, NOISE[3:])]]
)
def test_rows_without_a_target_are_counted(y):
    schema, events = profiled(y)
    assert schema["y"].stats.num_missing == 3
    (event,) = [e for e in events if e.code == "missing_target"]
    assert event.message == "3 of 200 rows have no target 'y' and are left out."


def test_rare_classes_are_named_with_their_rows():
    y = ["a"] * 150 + ["b"] * 41 + ["c"] * 9
    _, events = profiled(y)
    (event,) = [e for e in events if e.code == "rare_classes"]
    assert event.details["classes"] == {"c": 9}
    assert re.match(
        "1 of 3 classes of 'y' have fewer than 10 rows: 'c' \\(9\\)", event.message
    )
