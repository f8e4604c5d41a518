"""Explanations, on models whose truth is known."""

import json
import time

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import kerastrain
from kerastrain.cli import main
from kerastrain.errors import ConfigError, RunError, SchemaError
from kerastrain.events import recording
from kerastrain.explaining import (
    HeldOut,
    explain_rows,
    explain_run,
    read_background,
    write_background,
)
from kerastrain.explaining.dependence import dependence
from kerastrain.explaining.importance import importance
from kerastrain.explaining.mistakes import losses, worst
from kerastrain.explaining.predictor import Predictor, feed_of
from kerastrain.explaining.shapley import shapley
from kerastrain.explaining.slices import slices
from kerastrain.ingest import Table
from kerastrain.parts import Parts
from kerastrain.schema import Column, ColumnStats, Schema, Target
from kerastrain.store import RunFolder, json_text

NUM_ROWS = 600
STATS = ColumnStats(storage="float", num_rows=NUM_ROWS)
LABELS = {"regression": [], "binary": ["no", "yes"], "multiclass": ["r", "s", "t"]}


def schema_of(task="regression"):
    columns = [
        Column(name=name, type="numeric", input=f"in_{name}", stats=STATS)
        for name in ("a", "b", "unused")
    ]
    text = {"type": "categorical", "dtype": "string", "stats": STATS}
    columns.append(Column(name="kind", input="in_kind", **text))
    target = Target(name="y", task=task, labels=LABELS[task])
    return Schema(columns=columns, num_rows=NUM_ROWS, target=target)


def score_of(a, b, kind, *, linear=False):
    """2a - 3b + 5 [kind is "x"], and without `linear` the product of a and b."""
    is_x = tf.cast(kind == "x", "float32")
    return 2 * a - 3 * b + 5 * is_x + (0.0 if linear else a * b)


@keras.saving.register_keras_serializable("test_explaining")
class Known(keras.layers.Layer):
    """A known function of the raw columns; NaN counts as 0."""

    def __init__(self, task, linear=False, **kwargs):
        super().__init__(**kwargs)
        self.task, self.linear, self.sleep_ms = task, linear, 0.0

    def call(self, a, b, unused, kind):
        a = tf.where(tf.math.is_nan(a), 0.0, a)
        score = score_of(a, b, kind, linear=self.linear)
        if self.sleep_ms:
            score = tf.numpy_function(self._slowly, [score], tf.float32)
        if self.task == "regression":
            return {"prediction": score}
        zero = tf.zeros_like(score)
        more = [zero, score] if self.task == "binary" else [zero, score, zero + 1]
        probabilities = tf.nn.softmax(tf.stack(more, 1))
        labels = tf.gather(LABELS[self.task], tf.argmax(probabilities, 1))
        return {"prediction": labels, "probabilities": probabilities}

    def _slowly(self, score):
        time.sleep(self.sleep_ms * len(score) / 1000)
        return score

    def compute_output_spec(self, a, b, unused, kind):
        if self.task == "regression":
            return {"prediction": keras.KerasTensor(a.shape, "float32")}
        return {
            "prediction": keras.KerasTensor(a.shape, "string"),
            "probabilities": keras.KerasTensor((None, len(LABELS[self.task]))),
        }


def model_of(task="regression", *, linear=False, sleep_ms=0.0):
    layer = Known(task, linear)
    layer.sleep_ms = sleep_ms
    inputs = {
        c.input: keras.Input((), name=c.input, dtype=c.dtype)
        for c in schema_of(task).features
    }
    return keras.Model(inputs, layer(*inputs.values()))


def raw_of(num_rows=NUM_ROWS, seed=0):
    random = np.random.default_rng(seed)
    raw = {
        f"in_{name}": random.normal(size=num_rows).astype("float32")
        for name in ("a", "b", "unused")
    }
    kinds = random.choice(np.array(["x", "y", "z"], object), num_rows)
    return raw | {"in_kind": kinds}


def held_out_of(task="regression", num_rows=NUM_ROWS, seed=0):
    """Targets as the model has them, with noise."""
    raw = raw_of(num_rows, seed)
    feed = feed_of(raw, schema_of(task))
    values = Predictor(model_of(task), task).values(feed)
    random = np.random.default_rng(seed + 1)
    if task == "regression":
        y = values[:, 0] + random.normal(size=num_rows)
    else:
        drawn = (random.random((num_rows, 1)) > values.cumsum(axis=1)).sum(axis=1)
        y = np.minimum(drawn, values.shape[1] - 1).astype("int32")
    return HeldOut(raw, y, None, np.arange(num_rows))


# --- Shapley values -----------------------------------------------------------------


def test_of_a_linear_model_they_are_the_coefficients_times_the_deviations():
    schema, raw, others = schema_of(), raw_of(50), raw_of(12, seed=5)
    predictor = Predictor(model_of(linear=True), "regression")
    found, base = shapley(predictor, feed_of(raw, schema), feed_of(others, schema))

    def deviation(name):
        return raw[name] - others[name].mean()

    is_x = (raw["in_kind"] == "x") - np.mean(others["in_kind"] == "x")
    expected = [2 * deviation("in_a"), -3 * deviation("in_b"), np.zeros(50), 5 * is_x]
    np.testing.assert_allclose(found[:, :, 0].T, expected, atol=1e-4)
    means = predictor.values(feed_of(others, schema)).mean(axis=0)
    np.testing.assert_allclose(base, means, rtol=1e-6)


def test_a_product_is_shared_as_the_formula_says():
    schema, raw, others = schema_of(), raw_of(20), raw_of(9, seed=5)
    predictor = Predictor(model_of(), "regression")
    found, _ = shapley(predictor, feed_of(raw, schema), feed_of(others, schema))
    # Of a b with the origin (p, q): half of each order, (a - p) (b + q) / 2.
    p, q = others["in_a"][None], others["in_b"][None]
    shared = (raw["in_a"][:, None] - p) * (raw["in_b"][:, None] + q) / 2
    expected = 2 * (raw["in_a"] - p.mean()) + shared.mean(axis=1)
    np.testing.assert_allclose(found[:, 0, 0], expected, atol=1e-4)


@pytest.mark.parametrize("task", LABELS)
def test_they_sum_to_the_answer_less_the_base_and_do_not_depend_on_neighbours(task):
    schema, raw, others = schema_of(task), raw_of(30), raw_of(4, seed=5)
    predictor = Predictor(model_of(task), task)
    feed = feed_of(raw, schema)
    found, base = shapley(predictor, feed, feed_of(others, schema))
    np.testing.assert_allclose(
        found.sum(axis=1) + base, predictor.values(feed), atol=1e-6
    )
    alone = feed_of({name: values[7:8] for name, values in raw.items()}, schema)
    one, _ = shapley(predictor, alone, feed_of(others, schema))
    np.testing.assert_allclose(one[0], found[7], atol=1e-5)


def test_a_single_column_has_the_whole_difference():
    x = keras.Input((), name="x")
    model = keras.Model({"x": x}, {"prediction": 2 * x})
    feed, others = {"x": tf.constant([1.0, 2.0])}, {"x": tf.constant([0.0, 1.0])}
    found, base = shapley(Predictor(model, "regression"), feed, others)
    assert found[:, 0, 0].tolist() == [1.0, 3.0] and base.tolist() == [1.0]


# --- importance ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "metric"),
    [("regression", "rmse"), ("binary", "roc_auc"), ("multiclass", "log_loss")],
)
def test_a_column_that_is_not_used_is_worth_nothing(task, metric):
    predictor = Predictor(model_of(task), task)
    found = importance(predictor, held_out_of(task), schema_of(task))
    by_name = {item["name"]: item for item in found["columns"]}
    assert found["metric"] == metric and found["unmeasured"] == []
    assert by_name["unused"]["loss"] == pytest.approx(0, abs=1e-9)
    assert [n for n, item in by_name.items() if not item["matters"]] == ["unused"]
    assert [*by_name][-1] == "unused"
    for item in found["columns"]:
        assert item["low"] <= item["loss"] <= item["high"]


def test_a_column_that_the_model_uses_wrongly_is_not_seen_to_matter():
    held_out = held_out_of()
    noise = np.random.default_rng(3).normal(size=NUM_ROWS)
    y = 2 * held_out.raw["in_a"] + noise
    only_a = HeldOut(held_out.raw, y, None, held_out.rows)
    predictor = Predictor(model_of(linear=True), "regression")
    found = importance(predictor, only_a, schema_of())
    matters = {item["name"]: item["matters"] for item in found["columns"]}
    assert matters == {"a": True, "b": False, "kind": False, "unused": False}


def test_where_the_primary_metric_is_undefined_another_is_taken():
    held_out = held_out_of("binary", 100)
    one = HeldOut(held_out.raw, np.ones(100, "int32"), None, held_out.rows)
    predictor = Predictor(model_of("binary"), "binary")
    found = importance(predictor, one, schema_of("binary"))
    assert found["metric"] == "log_loss" and found["score"] > 0


def test_columns_that_the_time_does_not_reach_are_named():
    predictor = Predictor(model_of(), "regression")
    found = importance(predictor, held_out_of(), schema_of(), until_s=time.monotonic())
    assert found["unmeasured"] == ["a", "b", "unused", "kind"]


# --- dependence ---------------------------------------------------------------------


def test_the_dependence_on_a_number_is_the_line_that_the_model_has():
    schema, held_out = schema_of(), held_out_of(num_rows=200)
    held_out.raw["in_a"][3] = np.nan
    predictor = Predictor(model_of(linear=True), "regression")
    found = dependence(predictor, held_out, schema, schema["a"])
    (one,) = found["lines"]
    values = np.array(found["values"])
    assert (np.diff(values) > 0).all() and len(values) == 20
    np.testing.assert_allclose(np.diff(one["mean"]), 2 * np.diff(values), atol=1e-4)
    assert (one["low"] < one["mean"]).all() and (one["mean"] < one["high"]).all()
    zero = np.interp(0, values, one["mean"])
    assert found["missing"] == [pytest.approx(zero, abs=1e-3)]


def test_the_dependence_on_a_category_is_told_for_the_frequent_ones():
    schema, held_out = schema_of("multiclass"), held_out_of("multiclass")
    held_out.raw["in_kind"][:3] = ["", "  ", "seldom"]
    predictor = Predictor(model_of("multiclass"), "multiclass")
    found = dependence(predictor, held_out, schema, schema["kind"])
    assert {*found["values"]} == {"x", "y", "z", "seldom"}
    assert found["values"][-1] == "seldom" and len(found["missing"]) == 3
    by_class = {one["name"]: one["mean"] for one in found["lines"]}
    assert np.argmax(by_class["s"]) == found["values"].index("x")


def test_dates_stand_in_their_order():
    day = {"type": "datetime", "dtype": "string", "format": "dmy"}
    stats = ColumnStats(storage="string", num_rows=3, min=365 * 86_400.0)
    column = Column(name="day", input="day", stats=stats, **day)
    target = Target(name="y", task="regression")
    schema = Schema(columns=[column], num_rows=3, target=target)
    text = keras.Input((), name="day", dtype="string")
    length = keras.layers.Lambda(
        lambda t: tf.cast(tf.strings.length(t), "float32"), output_shape=()
    )
    model = keras.Model({"day": text}, {"prediction": length(text)})
    raw = {"day": np.array(["02.01.2021", "03.05.1999", "1.1.2020"], object)}
    rows = HeldOut(raw, np.zeros(3), None, np.arange(3))
    found = dependence(Predictor(model, "regression"), rows, schema, column)
    assert found["values"] == ["1999-05-03", "2020-01-01", "2021-01-02"]
    assert found["lines"][0]["mean"].tolist() == [10, 8, 10]


# --- errors and slices --------------------------------------------------------------


def test_a_planted_slice_is_found_and_comes_first():
    schema, held_out = schema_of(), held_out_of(num_rows=2_000)
    loss = np.random.default_rng(0).exponential(size=2_000)
    loss[held_out.raw["in_kind"] == "y"] *= 1.7
    loss[held_out.raw["in_a"] > 1.1] *= 3
    found = slices(held_out, schema, loss)["found"]
    (name, text), *_ = found[0]["conditions"]
    assert name == "a" and text.endswith("and above")
    assert (("kind", "y"),) in [item["conditions"] for item in found]
    for item in found:
        assert 0 < item["low"] < item["loss"] - item["rest"] < item["high"]


def test_on_noise_no_slice_is_reported_for_most_seeds():
    schema, held_out = schema_of(), held_out_of(num_rows=1_000)
    num_wrong = sum(
        bool(slices(held_out, schema, random.exponential(size=1_000))["found"])
        for random in map(np.random.default_rng, range(40))
    )
    assert num_wrong <= 4  # 2 are expected


def test_a_pair_of_columns_that_is_bad_only_together_is_found():
    schema, held_out = schema_of(), held_out_of(num_rows=4_000)
    loss = np.random.default_rng(0).exponential(size=4_000)
    bad = (held_out.raw["in_a"] > 0.7) & (held_out.raw["in_kind"] == "z")
    loss[bad] *= 4
    found = slices(held_out, schema, loss, top=["a", "kind"])["found"]
    first = dict(found[0]["conditions"])
    assert first["kind"] == "z" and first["a"].endswith("and above")


def test_slices_of_few_rows_are_not_looked_at():
    found = slices(held_out_of(num_rows=50), schema_of(), np.ones(50))
    assert found["num_tested"] == 0 and found["found"] == []


def test_rows_of_more_weight_count_more_in_a_slice():
    held_out = held_out_of(num_rows=400)
    is_y = held_out.raw["in_kind"] == "y"
    random = np.random.default_rng(0)
    loss = random.exponential(size=400)
    loss[is_y] = np.where(np.arange(is_y.sum()) % 2, 9.0, 1.0) + loss[is_y] / 10
    weight = np.ones(400, "float32")
    weight[np.flatnonzero(is_y)[1::2]] = 3
    heavy = HeldOut(held_out.raw, held_out.targets, weight, held_out.rows)
    found = {
        i["conditions"]: i["loss"] for i in slices(heavy, schema_of(), loss)["found"]
    }
    assert found[(("kind", "y"),)] == pytest.approx(7.1, abs=0.1)


def test_the_worst_rows_come_first_with_their_cells():
    schema, held_out = schema_of("binary"), held_out_of("binary")
    answers = Predictor(model_of("binary"), "binary").answers(
        feed_of(held_out.raw, schema)
    )
    loss = losses(schema.target, held_out.targets, answers)
    first, second, *_ = worst(held_out, schema, answers, loss, ["kind"])
    assert first["row"] == int(loss.argmax()) and first["loss"] >= second["loss"]
    assert first["predicted"] != first["true"] and first["probability"] < 0.5
    assert [*first["cells"]] == ["kind", "a", "b", "unused"]
    assert first["cells"]["kind"] == held_out.raw["in_kind"][first["row"]]


# --- all of it ----------------------------------------------------------------------


@pytest.mark.parametrize("task", LABELS)
def test_what_a_run_keeps_is_json_and_whole(task):
    found = json.loads(
        json_text(explain_run(model_of(task), held_out_of(task), schema_of(task)))
    )
    assert found["part"] == "test" and found["num_rows"] == NUM_ROWS
    assert found["importance"]["num_rows"] == NUM_ROWS
    assert len(found["dependence"]) == 3
    first, *_, last = found["contributions"]["columns"]
    assert first["name"] in ("kind", "b") and len(first["values"]) == 100
    assert last["name"] == "unused" and last["size"] == pytest.approx(0, abs=1e-6)
    assert len(found["worst"]) == 20


def test_a_slow_model_is_asked_less_and_the_time_is_kept():
    held_out, schema = held_out_of(), schema_of()
    model = model_of(sleep_ms=0.5)
    started_s = time.monotonic()
    found = explain_run(model, held_out, schema, seconds=1.5)
    # One call traces the model before, and each part is one call at least.
    assert time.monotonic() - started_s < 4
    assert found["importance"]["num_rows"] == 200
    assert found["contributions"] is None or found["contributions"]["num_rows"] < 100


def test_without_rows_there_is_nothing():
    none = held_out_of().take(np.arange(0))
    assert explain_run(model_of(), none, schema_of()) == {}


# --- the rows -----------------------------------------------------------------------


def table_of(held_out, weight=None):
    raw = held_out.raw
    numbers = {name: raw[f"in_{name}"] for name in ("a", "b", "unused")}
    numbers["kind"] = raw["in_kind"]
    return Table(NUM_ROWS, numbers, {}, held_out.targets, weight)


def parts_of(train, validation, test):
    return Parts(*(np.arange(*ends) for ends in (train, validation, test)))


def test_test_rows_are_taken_or_validation_rows_where_there_are_none():
    table, schema = table_of(held_out_of()), schema_of()
    parts = parts_of((0, 300), (300, 400), (400, 600))
    found = HeldOut.of(table, schema, [parts])
    assert (found.part, len(found), found.is_seen) == ("test", 200, False)
    assert found.rows.tolist() == list(range(400, 600))
    found = HeldOut.of(table, schema, [parts_of((0, 300), (300, 400), (0, 0))])
    assert (found.part, len(found)) == ("validation", 100)


def test_rows_of_no_weight_are_left_out_and_folds_are_told():
    weight = np.arange(NUM_ROWS, dtype="float32") % 2
    table, schema = table_of(held_out_of(), weight), schema_of()
    fits = [parts_of((0, 300), (0, 0), ends) for ends in ((300, 400), (400, 500))]
    found = HeldOut.of(table, schema, fits)
    assert found.is_seen and found.rows.tolist() == list(range(301, 400, 2))
    assert not HeldOut.of(table, schema, fits[:1] * 2).is_seen


def test_the_background_comes_back_as_it_was_written(tmp_path):
    path, schema = tmp_path / "background.parquet", schema_of()
    held_out = held_out_of(num_rows=80)
    held_out.raw["in_a"][0] = np.nan
    write_background(path, held_out, schema)
    back = read_background(path, schema)
    for name, values in held_out.raw.items():
        np.testing.assert_array_equal(back[name], values)
    path.write_text("broken")
    with pytest.raises(RunError, match="Cannot read the background rows"):
        read_background(path, schema)


def batches_of(raw, schema, size=8):
    feed = feed_of(raw, schema)
    for start in range(0, len(raw["in_a"]), size):
        yield None, {name: v[start : start + size] for name, v in feed.items()}


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path)
    write_background(folder.background, held_out_of(), schema_of())
    return folder


@pytest.mark.parametrize(
    ("task", "label", "explained"),
    [
        ("regression", None, None),
        ("binary", None, "yes"),
        ("binary", "no", "no"),
        ("multiclass", None, "own"),
        ("multiclass", "t", "t"),
    ],
)
def test_a_row_of_contributions_adds_up(folder, task, label, explained):
    schema = schema_of(task)
    frame = explain_rows(
        model_of(task), batches_of(raw_of(20), schema), folder, schema,
        label=label, samples=5,
    )  # fmt: skip
    added = frame.filter(like="contribution_").sum(axis=1) + frame["base"]
    np.testing.assert_allclose(added, frame["output"], atol=1e-5)
    assert frame["cell_kind"].tolist() == raw_of(20)["in_kind"].tolist()
    if explained == "own":
        assert (frame["explained"] == frame["prediction"]).all()
    elif explained is not None:
        assert {*frame["explained"]} == {explained}


def test_rows_beyond_the_largest_number_are_left_out_with_a_note(folder):
    schema = schema_of()
    with recording() as recorder:
        frame = explain_rows(
            model_of(), batches_of(raw_of(20), schema), folder, schema, max_rows=11
        )
    assert len(frame) == 11
    assert [event.code for event in recorder.events] == ["rows_explained"]


def test_a_run_that_kept_no_rows_compares_the_rows_with_each_other(tmp_path):
    schema = schema_of()
    with recording() as recorder:
        frame = explain_rows(
            model_of(), batches_of(raw_of(10), schema), RunFolder(tmp_path), schema
        )
    assert frame["base"].iloc[0] == pytest.approx(frame["output"].mean(), rel=1e-5)
    assert [event.code for event in recorder.events] == ["no_background"]


def test_an_unknown_class_and_an_empty_table_are_refused(folder):
    schema, model = schema_of("binary"), model_of("binary")
    with pytest.raises(ConfigError, match="no class 'yess'. Did you mean 'yes'"):
        explain_rows(model, [], folder, schema, label="yess")
    with pytest.raises(ConfigError, match="There are no rows to explain"):
        explain_rows(model, [], folder, schema)


# --- a run --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short training; what the stage of the run writes is there."""
    random = np.random.default_rng(0)
    table = pd.DataFrame({"a": random.normal(size=400), "b": ["x", "y"] * 200})
    table["y"] = table["a"] * 2 + (table["b"] == "x")
    place = tmp_path_factory.mktemp("run")
    table.insert(0, "number", [f"n{i}" for i in range(400)])
    table.to_csv(place / "data.csv", index=False)
    quick = {"fit": {"epochs": 1}, "split": {"folds": 1}, "exports": []}
    made = kerastrain.train(
        str(place / "data.csv"), "y", model="linear", out=str(place / "run"),
        progress=False, **quick,
    )  # fmt: skip
    raw = {
        "a": table["a"].to_numpy("float32"),
        "b": table["b"].to_numpy(object),
    }
    held_out = HeldOut(raw, table["y"].to_numpy(), None, np.arange(400))
    write_background(made.folder.background, held_out, made.schema)
    return made


def test_a_finished_run_explains_a_table(run):
    frame = pd.DataFrame({"a": [0.5, -2.0, None], "b": ["x", "y", "never seen"]})
    found = kerastrain.load(run.folder.path).explain(frame)
    added = found["contribution_a"] + found["contribution_b"] + found["base"]
    np.testing.assert_allclose(added, run.predict(frame)["prediction"], atol=1e-5)


def test_the_command_prints_and_writes_contributions(run, tmp_path, capsys):
    data, out = str(run.folder.path.parent / "data.csv"), tmp_path / "why.csv"
    options = ["--id", "number", "--rows", "7", "--top", "1", "--samples", "3"]
    command = ["explain", str(run.folder.path), data, "-o", str(out), *options]
    assert main(command) == 0
    told = capsys.readouterr()
    assert "row n0: predicted" in told.out and "1 others" in told.out
    assert f"7 rows explained in {out}" in told.out
    written = pd.read_csv(out)
    assert written["number"].tolist() == [f"n{i}" for i in range(7)]
    assert "contribution_a" in written.columns
    assert main(command) == 2
    assert "exists. Name another file" in capsys.readouterr().err
    assert main([*command[:-8], "-o", "why.txt"]) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nmber", "No column 'nmber' in .* Did you mean 'number'"),
        ("base", "The id column 'base' has the name of a column of explanations"),
    ],
)
def test_an_id_column_that_cannot_stand_there_is_refused(run, name, message):
    frame = pd.DataFrame({"a": [0.5], "b": ["x"], "number": ["n"], "base": [1]})
    with pytest.raises((SchemaError, ConfigError), match=message):
        run.explain(frame, id_column=name)
