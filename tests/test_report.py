import copy
import functools
import html.parser
import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import kerastrain.report
from kerastrain.cli.show import run_summary
from kerastrain.curves import curves
from kerastrain.errors import RunError
from kerastrain.evaluation import METRICS, compare, evaluate, primary, score, verdict
from kerastrain.report import card, write_report
from kerastrain.report.files import RunFiles
from kerastrain.report.folds import folds_summary
from kerastrain.report.html import (
    count,
    date,
    duration,
    fixed,
    number,
    percent,
    size,
    truncated,
)
from kerastrain.schema import QUANTILES, Column, ColumnStats, Schema, Target
from kerastrain.store import RunFolder, write_json, write_text

EVIL = "<script>alert(1)</script><b>&\"'`$title"
LABELS = {
    "binary": ["no", EVIL],
    "multiclass": [EVIL, *(f"class number {k} of many" for k in range(25))],
    "regression": [],
}
TASKS = list(LABELS)


def predictions(task, num_rows=300):
    random = np.random.default_rng(0)
    if task == "regression":
        y = random.normal(1e5, 3e4, num_rows)
        return y, y + random.normal(0, 5e3, num_rows)
    num_classes = len(LABELS[task])
    y = random.integers(num_classes, size=num_rows)
    odds = random.random((num_rows, num_classes)) + 2 * np.eye(num_classes)[y]
    return y, odds / odds.sum(axis=1, keepdims=True)


def metrics_of(task):
    return copy.deepcopy(computed_metrics(task))


@functools.cache
def computed_metrics(task):
    y, ours = predictions(task)
    theirs = ours[::-1]
    found = compare(task, y, ours, theirs)
    named = {"sentence": verdict(task, found, baseline="linear"), "baseline": "linear"}
    return {
        "task": task,
        "target": EVIL,
        "labels": LABELS[task],
        "positive_label": EVIL if task == "binary" else None,
        "primary": primary(task),
        "num_rows": {"train": 1400, "validation": 300, "test": len(y), "dropped": 3},
        "test": evaluate(task, y, ours),
        "validation": score(task, y, ours),
        "baselines": {"majority": score(task, y, theirs), EVIL: score(task, y, theirs)},
        "verdict": found | named,
        "curves": curves(task, y, ours, LABELS[task]),
        "parity": {
            "saved_model": {"max_difference": 1e-7, "tolerance": 1e-4, "rows": 9}
        },
    }


def schema_of(task):
    rows = {"num_rows": 2003, "num_missing": 700}
    spread = {"min": -1.0, "max": 9e4, "quantiles": [float(k) for k in range(7)]}
    text = ColumnStats(storage="string", num_distinct=3, top=[(EVIL, 900)], **rows)
    numbers = ColumnStats(storage="float", num_distinct=900, **spread, **rows)
    empty = ColumnStats(storage="string", num_rows=2003, num_missing=2003)
    columns = [
        Column(name=EVIL, type="target", role="target", stats=text),
        Column(name=EVIL, type="categorical", stats=text),
        Column(name="size", type="numeric", stats=numbers),
        Column(name="day", type="datetime", stats=numbers),
        Column(name="weight", type="numeric", role="weight", stats=numbers),
        Column(name="gone", type="empty", role="ignored", reason=EVIL, stats=empty),
    ]
    return Schema(columns=columns, num_rows=2003, target=Target(name=EVIL, task=task))


def write_run(folder, task):
    """A run folder with every file that the report reads, hostile names throughout."""
    write_json(folder.metrics, metrics_of(task))
    write_text(folder.schema, schema_of(task).dumps())
    write_text(folder.config, f"target: {json.dumps(EVIL)}\nmodel: {{name: mlp}}\n")
    columns = {"epoch": [1, 2, 3], "loss": [3.0, 2, 1], "val_loss": [2.0, 1, 1.5]}
    columns |= {
        f"val_{primary(task)}": [0.5, 0.6, math.nan],
        "learning_rate": [1e-3] * 3,
    }
    pd.DataFrame(columns).to_csv(folder.history, index=False)
    event = {"code": "x", "message": EVIL, "severity": "warning"}
    write_text(folder.events, json.dumps(event | {"severity": "info"}) + "\n")
    with folder.events.open("a") as file:
        file.write(json.dumps(event) + "\n")
    stages = [{"name": "fit", "seconds": 75.2, "peak_memory_bytes": 2_500_000_000}]
    environment = {"stages": stages, "data": {"file": EVIL, "bytes": 12345}, "gpus": []}
    environment |= {"packages": {"keras": "3"}, "git": {"commit": "abc", "dirty": True}}
    environment |= {"command": ["kerastrain", EVIL], "cpu": EVIL, "cores": 2, "seed": 0}
    write_json(folder.environment, environment)


@pytest.fixture(scope="module", params=TASKS)
def run(request, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    write_run(folder, request.param)
    return folder


class Reader(html.parser.HTMLParser):
    """Balanced tags, visible text, attributes and scripts of a page."""

    VOID = ("meta", "br", "link", "img")

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.scripts, self.text = [], [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.attributes += [(tag, name, value) for name, value in attributes]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif "style" not in self.open:
            self.text += data

    @property
    def figures(self):
        return [json.loads(text) for text in self.scripts if text.startswith('{"data"')]


def read(folder):
    return Reader(write_report(folder).read_text("utf-8"))


def test_the_page_is_well_formed_and_asks_the_network_for_nothing(run):
    page = read(run)
    assert page.open == []
    asked = [
        (name, value) for _, name, value in page.attributes if name in ("src", "href")
    ]
    assert asked
    assert all(value.startswith("#") for _, value in asked)
    assert ("meta", "content") in {(tag, name) for tag, name, _ in page.attributes}


def test_names_from_the_data_are_text_and_never_code(run):
    page = read(run)
    # Script blocks are ours alone: figures, plotly.js and the one that draws.
    assert len(page.scripts) == len(page.figures) + 2
    assert "alert(1)" not in page.scripts[-1]
    assert EVIL in page.text
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "<script" not in json.dumps(page.figures)


def test_every_part_of_the_run_is_told(run):
    page = read(run)
    metrics = json.loads(run.metrics.read_text())
    for title in (metric.title for metric in METRICS[metrics["task"]].values()):
        assert title in page.text
    for text in (
        metrics["verdict"]["sentence"],
        "1,400",
        "1 warning, 1 note.",
        "35 % missing",
        "1970-01-01",
        "1 min 15 s",
        "2.5 GB",
        "abc, with uncommitted changes",
        "config.yaml",
    ):
        assert text in page.text


@pytest.mark.parametrize(
    ("task", "titles"),
    [
        (
            "binary",
            ["ROC curve", "Precision and recall", "Confusion matrix", "Calibration"],
        ),
        ("multiclass", ["Confusion matrix", "Each class"]),
        ("regression", ["Predicted against true", "Residuals"]),
    ],
)
def test_each_task_has_its_figures(tmp_path, task, titles):
    folder = RunFolder(tmp_path)
    write_json(folder.metrics, metrics_of(task))
    page = read(folder)
    labelled = [value for _, name, value in page.attributes if name == "aria-label"]
    assert set(titles) <= set(labelled)
    assert len(page.figures) == len(labelled)


def test_colours_of_figures_are_defined_in_the_style_sheet(run):
    folder = Path(kerastrain.report.__file__).parent
    used = set(re.findall(r"var\((--[\w-]+)\)", json.dumps(read(run).figures)))
    used |= set(re.findall(r"var\((--[\w-]+)\)", (folder / "script.js").read_text()))
    style = (folder / "style.css").read_text()
    light, dark = style.split("prefers-color-scheme: dark", 1)
    for name in used:
        assert f"{name}:" in light
        assert f"{name}:" in dark


@pytest.mark.parametrize(
    "missing", ["metrics", "schema", "config", "history", "events", "environment"]
)
def test_a_missing_file_leaves_the_rest_of_the_page(tmp_path, missing):
    folder = RunFolder(tmp_path)
    write_run(folder, "binary")
    whole = read(folder)
    getattr(folder, missing).unlink()
    page = read(folder)
    assert page.open == []
    assert len(page.text) < len(whole.text)
    assert card(folder)


def test_an_empty_folder_gives_a_page_that_says_so_without_plotly(tmp_path):
    path = write_report(RunFolder(tmp_path))
    assert "This run holds no evaluation." in path.read_text("utf-8")
    assert path.stat().st_size < 50_000


def test_without_test_rows_the_validation_rows_answer(tmp_path):
    folder = RunFolder(tmp_path)
    nothing = dict.fromkeys(
        METRICS["binary"], {"value": None, "low": None, "high": None}
    )
    metrics = metrics_of("binary") | {"test": nothing, "curves": {}, "verdict": {}}
    write_json(folder.metrics, metrics)
    text = read(folder).text
    assert "ROC AUC on 300 validation rows" in text
    assert "There are no test rows" in text


def test_an_undefined_primary_metric_is_said(tmp_path):
    folder = RunFolder(tmp_path)
    metrics = metrics_of("binary")
    metrics["test"]["roc_auc"] = {"value": None, "low": None, "high": None}
    write_json(folder.metrics, metrics)
    assert "ROC AUC is not defined on the test rows." in read(folder).text


def test_a_damaged_file_is_named(tmp_path):
    folder = RunFolder(tmp_path)
    folder.metrics.write_text('{"task":')
    with pytest.raises(RunError, match=r"Cannot read .*metrics\.json"):
        write_report(folder)


@pytest.mark.parametrize(
    ("monitor", "best"),
    [("auto", 1), ("val_loss", 1), ("roc_auc", 2), ("val_log_loss", 0), ("gone", 1)],
)
def test_the_best_epoch_goes_by_what_was_monitored(monitor, best):
    history = [
        {"val_loss": 2.0, "val_roc_auc": 0.6, "val_log_loss": 0.1},
        {"val_loss": 1.0, "val_roc_auc": math.nan, "val_log_loss": 0.2},
        {"val_loss": 1.5, "val_roc_auc": 0.8, "val_log_loss": math.nan},
    ]
    config = {"fit": {"monitor": monitor}}
    files = RunFiles("x", config, metrics={"task": "binary"}, history=history)
    assert files.best_epoch == best


def test_the_card_is_small_and_tells_the_answer(run):
    text = card(run)
    page, metrics = Reader(text), json.loads(run.metrics.read_text())
    assert page.open == []
    assert page.scripts == []
    assert len(text) < 2_500
    assert metrics["verdict"]["sentence"] in page.text
    assert "1,400 train rows · 300 test rows · 1 min 15 s" in page.text


def test_many_columns_are_folded_away(tmp_path):
    folder = RunFolder(tmp_path)
    stats = ColumnStats(storage="string", num_rows=9)
    columns = [Column(name=f"c{k}", type="numeric", stats=stats) for k in range(70)]
    write_text(folder.schema, Schema(columns=columns, num_rows=9).dumps())
    assert "10 columns more" in read(folder).text


def test_a_constant_column_has_a_strip():
    quantiles = [5.0] * len(QUANTILES)
    stats = ColumnStats(
        storage="float", num_rows=9, num_distinct=9, min=5, max=5, quantiles=quantiles
    )
    column = Column(name="five", type="numeric", stats=stats)
    assert "M100.0 1V21" in kerastrain.report.data._spread(column)


def mean_and_spread(records):
    values = {name: [record[name] for record in records] for name in records[0]}
    return {
        name: {"value": float(np.mean(v)), "spread": float(np.std(v, ddof=1))}
        for name, v in values.items()
    }


def write_folds(folder, task, *, kind="content", has_own_test=False, epochs=None):
    """A run of five folds; a time split has train rows that grow from fold to fold."""
    write_run(folder, task)
    metrics, records, history = metrics_of(task), [], []
    all_y, good = predictions(task)
    middling = (good + good[::-1]) / 2
    metrics["test"] = evaluate(task, all_y, middling)
    for fold in range(1, 6):
        train = 320 * fold if kind == "time" else 1600
        scores = score(task, all_y[fold - 1 :: 5], middling[fold - 1 :: 5])
        own = {"validation": scores, "best_epoch": 3 + fold}
        if not has_own_test:
            own["test"] = scores
        dropped = 7 + 1600 - train  # what comes later is in no part of this fold
        rows = {"train": train, "validation": 200, "test": 400, "dropped": dropped}
        records.append({"fold": fold, "num_rows": rows, **own})
        history += curve_of(fold, 10 + fold, task)
    part = "validation" if has_own_test else "test"
    means = mean_and_spread([record[part] for record in records])
    if has_own_test:
        metrics["cross_validation"] = means
    else:
        metrics["test"] = {n: metrics["test"][n] | cell for n, cell in means.items()}
    history += curve_of(0, epochs, task) if epochs else []
    column, gap = (EVIL, "7d") if kind == "time" else (None, None)
    metrics |= {
        "folds": records,
        "num_folds": 5,
        "repeats": 1,
        "best_epoch": 6,
        "refit": {"epochs": epochs} if epochs else None,
        "split": {"kind": kind, "column": column, "gap": gap, "dropped": 7},
    }
    write_json(folder.metrics, metrics)
    pd.DataFrame(history).to_csv(folder.history, index=False)
    names = ["profile", *(f"fold {fold} of 5" for fold in range(1, 6)), "report"]
    peaks = [4e8, 9e8, 1.1e9, 2.5e9, 1.2e9, 1.2e9, 1.2e9]
    stages = [
        {"name": name, "seconds": 12.5, "peak_memory_bytes": peak}
        for name, peak in zip(names, peaks, strict=True)
    ]
    write_json(folder.environment, {"stages": stages})


def curve_of(fold, num_epochs, task):
    random = np.random.default_rng(fold)
    return [
        {
            "fold": fold,
            "epoch": epoch,
            "loss": 0.3 + 1 / epoch,
            "val_loss": 0.4 + 1 / epoch + 0.01 * epoch + random.normal(0, 0.02),
            f"val_{primary(task)}": 0.8 - 0.3 / epoch + random.normal(0, 0.01),
            "learning_rate": 1e-3,
        }
        for epoch in range(1, num_epochs + 1)
    ]


def figure_named(page, title):
    labelled = [value for _, name, value in page.attributes if name == "aria-label"]
    return page.figures[labelled.index(title)]


def test_the_mean_of_folds_is_told_with_its_spread(tmp_path):
    folder = RunFolder(tmp_path)
    write_folds(folder, "binary")
    text = read(folder).text
    found = json.loads(folder.metrics.read_text())["test"]["roc_auc"]
    assert f"5 folds, ± {found['spread']:.3f} between them95 % interval" in text
    assert f"ROC AUC on 300 test rows{found['value']:.3f}" in text
    for words in (
        "Each row was tested once, by a model that never saw it. The model that is "
        "kept is the average of the 5. ± is the standard deviation between folds.",
        "Mean and spread (standard deviation) are those of the folds",
        "mean ± spread",
        "each fold",
        "a thin line is a fold",
        "median 6",
        "Rows are split by a hash of their content. 7 rows are in no part.",
        "train 1,600validation 200test 400",
    ):
        assert words in text
    assert "5 folds" in Reader(card(folder)).text


def test_each_fold_and_the_refit_have_a_learning_curve(tmp_path):
    folder = RunFolder(tmp_path)
    write_folds(folder, "binary", epochs=6)
    page = read(folder)
    traces = figure_named(page, "Loss")["data"]
    *lines, best = traces
    assert len(lines) == 6 + 5  # the refit has no rows that it is not trained on
    shown = [trace["name"] for trace in lines if trace["showlegend"]]
    assert shown == ["train", "validation"]
    assert [trace["line"]["dash"] for trace in lines].count("dash") == 1
    assert "Dashed: trained again on all rows." in page.text
    assert best["x"] == [4, 5, 6, 7, 8]
    assert "trained again on all rows, for 6 epochs, the median" in page.text
    assert len(figure_named(page, "Learning rate")["data"]) == 6


def test_folds_of_time_are_tested_on_what_came_later(tmp_path):
    folder = RunFolder(tmp_path)
    write_folds(folder, "regression", kind="time", epochs=6)
    text = read(folder).text
    assert "was tested on rows later than all that it had seen" in text
    assert "Each row was tested" not in text
    assert "a gap of 7d is left out. 7 rows are in no part of the last fold." in text
    assert "fold 1fold 2fold 3fold 4fold 5" in text
    assert "train 320 to 1,600" in text


def test_test_rows_of_ones_own_stand_apart_from_the_folds(tmp_path):
    folder = RunFolder(tmp_path)
    write_folds(folder, "binary", has_own_test=True)
    text = read(folder).text
    assert "Mean of 5 folds" not in text
    assert "The test rows are your own and no fold saw them." in text
    assert "Mean and spread" not in text


@pytest.mark.parametrize("missing", ["num_rows", "best_epoch", "test"])
def test_a_fold_that_lacks_something_leaves_a_page(tmp_path, missing):
    folder = RunFolder(tmp_path)
    write_folds(folder, "binary")
    metrics = json.loads(folder.metrics.read_text())
    metrics["folds"][1].pop(missing)
    write_json(folder.metrics, metrics)
    page = read(folder)
    assert page.open == []
    assert "Mean of 5 folds" in page.text


def test_the_highest_peak_of_memory_is_marked_once(tmp_path):
    folder = RunFolder(tmp_path)
    write_folds(folder, "binary")
    page = write_report(folder).read_text("utf-8")
    assert re.findall(r'<b class="highest"[^>]*>([^<]*)<', page) == ["2.5 GB"]
    assert "fold 3 of 5" in page


def test_what_was_measured_for_rare_classes_is_a_table(tmp_path):
    folder = RunFolder(tmp_path)
    scores = {"none": (0.3, 0.1, None), "focal": (0.41, 0.11, 0.05)}
    keys = ("average_precision", "log_loss", "gain_low")
    choice = {
        "chosen": "focal",
        "num_rows": {"train": 5000, "validation": 900},
        "scores": {
            name: dict(zip(keys, values, strict=True))
            for name, values in scores.items()
        },
    }
    write_json(folder.metrics, metrics_of("binary") | {"imbalance": choice})
    text = read(folder).text
    assert "with a small network on 5,000 train rows and measured on 900" in text
    assert "focal0.410+0.0500.1100chosen" in text


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ({"kind": "group", "column": "user", "dropped": 1}, "same user are always"),
        ({"kind": "column", "column": "part", "dropped": 1}, "as column part says"),
    ],
)
def test_the_rule_of_the_split_is_told(tmp_path, split, said):
    folder = RunFolder(tmp_path)
    write_json(folder.metrics, metrics_of("binary") | {"split": split})
    text = read(folder).text
    assert said in text
    assert "1 row is in no part." in text


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({}, ""),
        ({"folds": [{}] * 5}, "Mean of 5 folds; the model is their average."),
        (
            {"folds": [{}] * 6, "num_folds": 3, "repeats": 2, "refit": {"epochs": 4}},
            "Mean of 3 folds, 2 times; the model was trained again on all rows, for 4 "
            "epochs.",
        ),
        (
            {"folds": [{}] * 5, "cross_validation": {"mae": {}}},
            "The model is the average of 5 folds.",
        ),
    ],
)
def test_folds_are_summed_up_in_a_line(metrics, said):
    assert folds_summary(metrics) == said


class Finished:
    """A run as far as the summary looks."""

    def __init__(self, folder):
        self.folder, self.metrics = folder, json.loads(folder.metrics.read_text())


def test_the_terminal_shows_mean_and_spread_of_folds(tmp_path, capsys):
    folder = RunFolder(tmp_path)
    write_folds(folder, "binary")
    run_summary(Finished(folder))
    shown = capsys.readouterr().out
    head = next(line for line in shown.splitlines() if line.startswith("metric"))
    assert head.split()[:3] == ["metric", "test", "spread"]
    assert "Mean of 5 folds; the model is their average." in shown
    spread = Finished(folder).metrics["test"]["accuracy"]["spread"]
    assert f"± {spread:.2g} " in shown


def test_the_terminal_shows_folds_beside_test_rows_of_ones_own(tmp_path, capsys):
    folder = RunFolder(tmp_path)
    write_folds(folder, "regression", has_own_test=True)
    run_summary(Finished(folder))
    shown = capsys.readouterr().out
    assert "The model is the average of 5 folds." in shown
    assert "validation rows of the folds" in shown
    assert "e+" not in shown


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (number(None), "–"),
        (number(math.nan), "–"),
        (number(0), "0"),
        (number(0.5), "0.5"),
        (number(1234567.8), "1,234,568"),
        (number(12.3456), "12.35"),
        (number(1.2e-7, 2), "1.2e-07"),
        (number(-0.25), "-0.25"),
        (fixed(-0.00001, 3), "0.000"),
        (percent(0), "0 %"),
        (percent(0.0001), "< 0.1 %"),
        (percent(0.0123), "1.2 %"),
        (percent(0.5), "50 %"),
        (percent(0.996), "99.6 %"),
        (percent(0.99996), "> 99.9 %"),
        (percent(1), "100 %"),
        (duration(0.25), "0.25 s"),
        (duration(59.94), "59.9 s"),
        (duration(75.2), "1 min 15 s"),
        (duration(3 * 3600 + 61), "3 h 1 min"),
        (size(None), "–"),
        (size(999), "999 B"),
        (size(2_500_000_000), "2.5 GB"),
        (size(3e15), "3,000.0 TB"),
        (date(86_400), "1970-01-02"),
        (date(1e20), "–"),
        (count(12345), "12,345"),
        (truncated("a  b\nc"), "a b c"),
        (truncated("abcdefgh", 5), "abcd…"),
    ],
)
def test_numbers_are_written_for_people(shown, text):
    assert shown == text
