"""The report's figures of speed, memory and processor."""

import json

import pytest

from kerastrain.report.files import RunFiles
from kerastrain.report.page import page
from kerastrain.report.resources import MAX_POINTS, resource_figures
from kerastrain.resources import COLUMNS
from kerastrain.store import RunFolder

STAGES = ("profile", "train", "train", "train", "<b>report</b>")


def files_of(folder, num_rows=5, *, gpu=""):
    lines = [",".join(COLUMNS)]
    for k in range(num_rows):
        stage = STAGES[len(STAGES) * k // num_rows]
        lines.append(f"{k + 1}.0,{stage},{10 * k},{(k + 1) * 10**8},5,6,7,{gpu},")
    folder.resources.write_text("\n".join(lines) + "\n")
    folder.history.write_text(
        "epoch,loss,rows_per_s,input_wait\n1,3.0,1000,0.2\n2,2.0,1200,0.1\n"
    )
    return RunFiles.read(folder)


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path)


def test_speed_waiting_memory_and_processor_are_drawn(folder):
    drawn = {title: figure for title, _, figure in resource_figures(files_of(folder))}
    assert [*drawn] == ["Rows per second", "Waiting for input", "Memory", "Processor"]
    assert drawn["Rows per second"]["data"][0]["y"] == [1000, 1200]
    assert drawn["Memory"]["data"][0]["y"] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert drawn["Processor"]["data"][0]["x"] == [1, 2, 3, 4, 5]


def test_every_other_stage_has_a_band_and_its_name_is_text(folder):
    layout = resource_figures(files_of(folder))[-1][2]["layout"]
    assert [(band["x0"], band["x1"]) for band in layout["shapes"]] == [(0, 1), (4, 5)]
    names = [name["text"] for name in layout["annotations"]]
    assert names == ["profile", "train", "&lt;b&gt;report…"]


def test_a_long_run_has_few_points_and_keeps_its_peak(folder):
    drawn = resource_figures(files_of(folder, 10_000))
    (memory,) = [figure for title, _, figure in drawn if title == "Memory"]
    (trace,) = memory["data"]
    assert MAX_POINTS / 2 < len(trace["x"]) <= MAX_POINTS
    assert max(trace["y"]) == pytest.approx(1000)
    assert memory["layout"]["xaxis"]["title"]["text"] == "Minutes"


def test_a_gpu_is_drawn_where_there_was_one(folder):
    title, _, drawn = resource_figures(files_of(folder, gpu="40"))[-1]
    assert title == "GPU" and drawn["data"][0]["y"] == [40] * 5


@pytest.mark.parametrize("text", ["", "seconds,stage\n1,train\n", f"{COLUMNS[0]},x\n"])
def test_a_run_that_was_not_watched_has_no_such_figures(folder, text):
    folder.resources.write_text(text)
    assert resource_figures(RunFiles.read(folder)) == []


def test_the_page_has_a_section_of_its_own_for_them(folder):
    text = page(files_of(folder))
    assert '<section id="resources">' in text and "Plotly.react" in text
    assert json.dumps("profile") in text
