"""RunFolder and whole-or-nothing writes."""

import datetime as dt
import json
import math
import re

import numpy as np
import pytest

from kerastrain.errors import ConfigError, RunError
from kerastrain.events import Event, note, read_events, recording, warn
from kerastrain.store import RunFolder, atomic, json_text, read_json, write_json


def fill(path, kind):
    """Make a file or a folder with one file at `path`."""
    if kind == "file":
        path.write_text("new")
    else:
        path.mkdir()
        (path / "part").write_text("new")


def content(path):
    return (path / "part" if path.is_dir() else path).read_text()


@pytest.mark.parametrize("old", [None, "file", "folder"])
@pytest.mark.parametrize("new", ["file", "folder"])
def test_atomic_replaces_a_file_or_folder_and_leaves_nothing_else(tmp_path, old, new):
    path = tmp_path / "made" / "model.keras"
    path.parent.mkdir()
    if old:
        fill(path, old)
    with atomic(path) as temporary:
        assert temporary.suffix == ".keras"
        fill(temporary, new)
    assert content(path) == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("old", ["file", "folder"])
def test_after_an_error_the_old_content_is_there_and_no_part_of_the_new(tmp_path, old):
    path = tmp_path / "model"
    fill(path, old)
    with pytest.raises(KeyError), atomic(path) as temporary:
        fill(temporary, old)
        raise KeyError
    assert content(path) == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_keeps_the_old_folder(tmp_path):
    fill(tmp_path / "model", "folder")
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "model"):
        pass
    assert content(tmp_path / "model") == "new"


def test_parts_of_a_killed_process_with_the_same_number_are_not_mixed_in(tmp_path):
    with atomic(tmp_path / "model") as temporary:
        temporary.mkdir()
    fill(temporary, "folder")
    with atomic(tmp_path / "model") as temporary:
        temporary.mkdir()
    assert list((tmp_path / "model").iterdir()) == []


def test_json_is_strict_and_takes_what_metrics_are_made_of(tmp_path):
    value = {
        "nan": math.nan,
        "inf": [np.float32("inf"), -math.inf],
        "numpy": np.array([[1, 2]]),
        "scalar": np.int64(3),
        "bool": np.bool_(True),
        "text": "é",
        "path": tmp_path,
        "date": dt.date(2026, 1, 2),
        1: None,
    }
    text = json_text(value)
    assert json.loads(text, parse_constant=pytest.fail) == {
        "nan": None,
        "inf": [None, None],
        "numpy": [[1, 2]],
        "scalar": 3,
        "bool": True,
        "text": "é",
        "path": str(tmp_path),
        "date": "2026-01-02",
        "1": None,
    }
    assert "é" in text


def test_json_comes_back_as_it_was_written(tmp_path):
    write_json(tmp_path / "metrics.json", {"a": [1, 2.5, None, "x"]})
    assert read_json(tmp_path / "metrics.json") == {"a": [1, 2.5, None, "x"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is missing: the run was stopped before it was written. Train again."),
        ("{", "Cannot read .*metrics.json: Expecting property name"),
    ],
)
def test_a_missing_or_damaged_file_of_a_run_is_told(tmp_path, text, message):
    path = tmp_path / "metrics.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RunError, match=message):
        read_json(path)


def test_create_makes_the_named_folder_or_takes_an_empty_one(tmp_path):
    out = tmp_path / "a" / "b"
    assert RunFolder.create(str(out), name="x").path == out
    assert RunFolder.create(str(out), name="x").path == out


def test_runs_of_one_second_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [RunFolder.create(None, name="my data/é.csv").path for _ in range(3)]
    assert len(set(paths)) == 3
    assert all(re.match(r"runs/my_data_é.csv-\d{8}-\d{6}", str(p)) for p in paths)


def test_create_refuses_a_folder_that_holds_something(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is not empty. Name another with --out"):
        RunFolder.create(str(tmp_path), name="x")


def test_create_refuses_a_place_where_no_folder_can_be(tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ConfigError, match="Cannot make the run folder .*file"):
            RunFolder.create(str(out), name="x")


def test_open_refuses_what_is_no_run(tmp_path):
    with pytest.raises(RunError, match="There is no run folder"):
        RunFolder.open(tmp_path / "nothing")
    with pytest.raises(RunError, match="is not a run folder: it has no config.yaml"):
        RunFolder.open(tmp_path)
    (tmp_path / "config.yaml").write_text("")
    assert RunFolder.open(tmp_path).path == tmp_path


def test_events_go_to_the_file_and_to_the_listener_in_order(tmp_path):
    heard: list[Event] = []
    with recording(tmp_path / "events.jsonl", heard.append) as recorder:
        note("chosen", "It was chosen.", value=np.float32(1.5))
        warn("dropped", "Rows were dropped.", rows=[1, 2], share=math.nan)
    assert heard == recorder.events
    assert [event.severity for event in heard] == ["info", "warning"]
    assert all(dt.datetime.fromisoformat(event.time).tzinfo for event in heard)
    written = read_events(tmp_path / "events.jsonl")
    assert [event.code for event in written] == ["chosen", "dropped"]
    assert written[1].details == {"rows": [1, 2], "share": None}


def test_events_of_a_killed_run_are_read_up_to_the_line_that_was_cut(tmp_path):
    path = tmp_path / "events.jsonl"
    with recording(path):
        note("whole", "A whole line.")
    path.write_text(path.read_text() + '{"code": "cut", "mess')
    assert [event.code for event in read_events(path)] == ["whole"]
    assert read_events(tmp_path / "none.jsonl") == []


def test_what_nobody_listens_to_is_logged(caplog):
    caplog.set_level("INFO", logger="kerastrain")
    warn("a", "Outside of a run.")
    with recording():
        note("b", "Without a listener.")
    with recording(listen=lambda event: None):
        warn("c", "Heard by a listener.")
    assert caplog.messages == ["Outside of a run.", "Without a listener."]


def test_a_folder_that_holds_only_the_events_of_a_refused_run_is_taken(tmp_path):
    (tmp_path / "events.jsonl").write_text("{}")
    folder = RunFolder.create(str(tmp_path), name="x")
    assert not folder.events.exists()
    folder.events.write_text("{}")
    folder.config.write_text("target: y")
    with pytest.raises(ConfigError, match="is not empty"):
        RunFolder.create(str(tmp_path), name="x")


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    message = f"Cannot make the folder {tmp_path}/file/inside: Not a directory."
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        write_json(tmp_path / "file" / "inside" / "metrics.json", {})
