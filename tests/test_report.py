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
from kerastrain.curves import curves
from kerastrain.errors import RunError
from kerastrain.evaluation import METRICS, compare, evaluate, primary, score, verdict
from kerastrain.report import card, write_report
from kerastrain.report.files import RunFiles
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
