"""The leaderboard on the page and on the terminal."""

import copy
import re
from types import SimpleNamespace

import pytest

from kerastrain.cli.show import run_summary
from kerastrain.leaderboard import Entry, Leaderboard
from kerastrain.report import write_report
from kerastrain.report.files import RunFiles
from kerastrain.report.leaderboard import leaderboard_figures, leaderboard_table
from kerastrain.store import RunFolder, write_json

REASON = "failed: <b>no luck</b>"
BOARD = Leaderboard(
    "roc_auc",
    True,
    [
        Entry("linear", "fitted", 0.0, 0.8336, 0.8412, 2.5, 26.5, 0.0006, 2),
        Entry("catboost", REASON),
        Entry("ensemble", "fitted", 1.0, 0.8456, 0.8476, 62.0, 155.0, 1.2, 2),
        Entry("xgboost", "fitted", 1.0, 0.837, 0.8409, 4.9, 61.3, 0.57, 2),
    ],
)
METRICS = {"task": "binary", "leaderboard": BOARD.as_dict()}


def files(metrics):
    return RunFiles("run", metrics=metrics)


def cells(html):
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    return [
        [re.sub("<.*?>", " ", c).strip() for c in re.findall("<td>(.*?)</td>", row)]
        for row in rows[1:]
    ]


def test_the_table_has_the_best_first_and_tells_why_one_is_left_out():
    html = leaderboard_table(files(METRICS))
    rows = cells(html)
    assert [row[0].split()[0] for row in rows] == [
        "ensemble", "xgboost", "linear", "catboost"
    ]  # fmt: skip
    assert rows[0][1:] == ["1.00", "0.846", "0.8476", "1 min 2 s", "155", "1.2", "2"]
    assert rows[2][6] == "&lt; 0.01"
    assert rows[3][1:] == ["–"] * 7
    assert "failed: &lt;b&gt;no luck&lt;/b&gt;" in html


def test_figures_show_what_a_score_costs():
    drawn = leaderboard_figures(files(METRICS))
    assert [title for title, _, _ in drawn] == [
        "Score and fitting time", "Score and speed"
    ]  # fmt: skip
    _, said, figure = drawn[0]
    assert said == "Blue models are in the ensemble, orange ones are not."
    (trace,) = figure["data"]
    assert trace["text"] == ["ensemble", "xgboost", "linear"]
    assert trace["x"] == [62.0, 4.9, 2.5]
    assert trace["textposition"] == ["middle left", "middle right", "middle right"]


@pytest.mark.parametrize("kept", [[], ["catboost"], ["catboost", "linear"]])
def test_few_models_are_not_drawn(kept):
    metrics = copy.deepcopy(METRICS)
    board = metrics["leaderboard"]
    board["entries"] = [e for e in board["entries"] if e["model"] in kept]
    assert leaderboard_figures(files(metrics)) == []
    assert len(cells(leaderboard_table(files(metrics)))) == len(kept)


def test_errors_of_thousands_need_few_decimals():
    metrics = {"task": "regression", "leaderboard": {"metric": "rmse", "entries": [
        {"model": "linear", "status": "fitted", "validation": 54321.98, "test": 0.51234}
    ]}}  # fmt: skip
    row = cells(leaderboard_table(files(metrics)))[0]
    assert row == ["linear", "–", "54,322.0", "0.512", "–", "–", "–", "–"]


@pytest.mark.parametrize("metrics", [{}, METRICS])
def test_the_page_has_the_section_when_there_are_models(tmp_path, metrics):
    folder = RunFolder(tmp_path)
    write_json(folder.metrics, metrics)
    page = write_report(folder).read_text()
    assert ('<section id="leaderboard">' in page) == bool(metrics)
    assert ('href="#leaderboard"' in page) == bool(metrics)
    assert ("plotly.js" in page) == bool(metrics)


def shown(metrics, tmp_path, capsys):
    run_summary(SimpleNamespace(metrics=metrics, folder=RunFolder(tmp_path)))
    lines = capsys.readouterr().out.splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("model, by roc_auc")]
    return [line.split() for line in lines[starts[0] : starts[0] + 5]]


def test_the_terminal_shows_it_after_a_run(tmp_path, capsys):
    head, first, *_, last = shown(METRICS, tmp_path, capsys)
    assert head[3:7] == ["weight", "validation", "test", "folds"]
    assert head[-2:] == ["left", "out"]
    assert first == ["ensemble", "1", "0.8456", "0.8476", "2", "62", "155", "1.2"]
    assert " ".join(last) == f"catboost {REASON}"


def test_the_terminal_has_no_column_of_reasons_where_all_were_fitted(tmp_path, capsys):
    metrics = copy.deepcopy(METRICS)
    metrics["leaderboard"]["entries"].pop()
    head, *_ = shown(metrics, tmp_path, capsys)
    assert head[-1] == "MB"
