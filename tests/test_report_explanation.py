"""The report's sections on what a model goes by and where it is weak."""

import json

import pytest

from kerastrain.report.explanation import explanation_figures, weak_section
from kerastrain.report.files import RunFiles
from kerastrain.report.page import page

EVIL = "<script>alert(1)</script>"
MODEL_SAYS = {"binary": "yes", "multiclass": "t", "regression": "prediction"}


def column(name, loss, *, matters=True):
    ends = {"low": loss - 0.01, "high": loss + 0.01}
    return {"name": name, "loss": loss, "spread": 0.001, "matters": matters} | ends


def dependence(kind, values, names, **more):
    lines = [{"name": name, "mean": [0.1, 0.2]} for name in names]
    if len(names) == 1:
        lines[0] |= {"low": [0.0, 0.1], "high": [0.3, 0.4]}
    given = {"column": EVIL, "type": kind, "values": values, "lines": lines}
    return given | {"missing": None} | more


def explanation(task="binary", *, found=True):
    points = {"values": [0.1, -0.2, 0.1], "cells": ["1", "", EVIL], "size": 0.1}
    one = {
        "conditions": [[EVIL, "25 to below 30"], ["b", "x"]], "num_rows": 40,
        "loss": 0.9, "rest": 0.3, "low": 0.4, "high": 0.8, "p": 0.001,
        "expected": 0.5, "wrong": 0.4, "wrong_rest": 0.1,
    }  # fmt: skip
    row = {"row": 1234, "true": EVIL, "predicted": "no", "loss": 3.0}
    row |= {"probability": 0.05, "cells": {EVIL: EVIL, "b": ""}}
    return {
        "part": "test",
        "is_seen": False,
        "num_rows": 500,
        "importance": {
            "metric": {"regression": "rmse", "binary": "roc_auc"}.get(task, "log_loss"),
            "score": 0.8, "num_rows": 500, "repeats": 5, "unmeasured": [],
            "columns": [column(EVIL, 0.2), column("b", 0.0, matters=False)],
        },
        "contributions": {
            "method": "sampled",
            "num_rows": 3,
            "columns": [
                {"name": EVIL, "ranks": [0.0, None, 1.0]} | points,
                {"name": "b", "ranks": None} | points,
            ],
        },
        "dependence": [
            dependence("numeric", [1.0, 2.0], [MODEL_SAYS[task]], missing=[0.25]),
            dependence("categorical", [EVIL, "x"], ["r", "s", EVIL]),
        ],
        "worst": [row],
        "slices": {"num_tested": 50, "num_rows": 500, "found": [one] * found},
    }  # fmt: skip


def files_of(task="binary", **more):
    metrics = {"task": task, "positive_label": EVIL, "target": "y"}
    found = explanation(task, **more)
    return RunFiles("run", metrics=metrics, explanation=found)


@pytest.mark.parametrize("task", MODEL_SAYS)
def test_every_figure_of_a_task_is_drawn_and_names_are_text(task):
    drawn = explanation_figures(files_of(task))
    titles = [title for title, _, _ in drawn]
    assert titles[:2] == ["What each column is worth", "What moves the answer"]
    assert len(titles) == 4
    assert "<script" not in json.dumps([figure for _, _, figure in drawn])


def test_columns_that_do_not_matter_are_told():
    files = files_of()
    _, said, figure = explanation_figures(files)[0]
    assert "Not seen to matter beside the others (grey): 1 of 2, least b." in said
    assert figure["data"][0]["marker"]["color"] == ["var(--ours)", "var(--quiet)"]
    files.explanation["importance"]["columns"][0]["matters"] = False
    files.explanation["importance"]["unmeasured"] = [f"c{i}" for i in range(9)]
    files.explanation["is_seen"] = True
    said = explanation_figures(files)[0][1]
    assert "No column is seen to matter by itself." in said
    assert "No time was left to measure c0, c1, c2, c3 and 5 more." in said
    assert "Models of other folds have seen these rows" in said


def test_missing_cells_and_the_band_are_told():
    _, said, figure = explanation_figures(files_of())[2]
    assert said.endswith("four of five rows. Where it is missing: 0.25.")
    assert [trace.get("fill") for trace in figure["data"]] == [None, "tonexty", None]


def test_points_that_are_alike_are_piled_up():
    trace = explanation_figures(files_of())[1][2]["data"][0]
    first, _, third = trace["y"]
    assert first != third and abs(first - third) < 0.2


def test_weak_slices_and_rows_are_tables():
    text = weak_section(files_of())
    assert "&lt;script&gt;" in text and "<script" not in text
    for shown in ("25 to below 30", "0.90", "0.50", "40 %", "1,234", "5.0 %"):
        assert shown in text


def test_that_no_slice_is_worse_is_told():
    text = weak_section(files_of("regression", found=False))
    assert "Of 50 slices of 500 test rows none is clearly worse than the rest." in text


def test_a_run_without_explanations_has_no_such_sections():
    files = RunFiles("run", metrics={"task": "binary"})
    assert explanation_figures(files) == [] and weak_section(files) == ""


def test_the_page_holds_both_sections():
    text = page(files_of())
    assert 'id="explanation"' in text and 'id="weak"' in text
