"""What a run took of the machine, as the file of it tells."""

import csv
import signal
import subprocess
import sys
import threading
import time
import types

import pytest

from kerastrain import resources
from kerastrain.resources import COLUMNS, ResourceSampler


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def wait_for_rows(path, number):
    end_s = time.monotonic() + 20
    while len(path.read_text().splitlines()) <= number and time.monotonic() < end_s:
        time.sleep(0.01)


def test_rows_tell_the_stage_and_what_it_takes(tmp_path):
    path = tmp_path / "resources.csv"
    with ResourceSampler(path, 0.01) as sampler:
        sampler.stage = "fold 1 of 2, again"
        wait_for_rows(path, 3)
    rows = rows_of(path)
    assert tuple(rows[0]) == COLUMNS
    assert {row["stage"] for row in rows[1:]} == {"fold 1 of 2, again"}
    seconds = [float(row["seconds"]) for row in rows]
    assert len(rows) >= 4 and seconds == sorted(seconds)
    assert float(rows[-1]["resident_bytes"]) > 1e6 < float(rows[-1]["available_bytes"])
    assert all(float(rows[-1][name]) >= 0 for name in ("cpu_percent", "written_bytes"))


def test_a_short_block_leaves_one_row_and_no_thread(tmp_path):
    before = threading.active_count()
    with ResourceSampler(tmp_path / "resources.csv", 60.0):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert len(rows_of(tmp_path / "resources.csv")) == 1


def test_rows_become_rarer_so_that_days_stay_small(tmp_path):
    sampler = ResourceSampler(tmp_path / "resources.csv", 1.0)
    seconds = 0.0
    while seconds < 3 * 24 * 3600:
        seconds += sampler.wait_s
        sampler.num_rows += 1
    assert sampler.num_rows < 15_000


def test_the_end_of_a_stage_has_a_row_of_its_own(tmp_path):
    with ResourceSampler(tmp_path / "resources.csv", 60.0) as sampler:
        sampler.stage = "profile"
        sampler.stage = "train"
    rows = rows_of(tmp_path / "resources.csv")
    assert [row["stage"] for row in rows] == ["profile", "train"]


@pytest.mark.parametrize("end", ["", "101.0,train,5"])
def test_a_file_that_is_there_goes_on_behind_its_last_whole_row(tmp_path, end):
    path = tmp_path / "resources.csv"
    cells = ",".join(["100.0", "train", *["1"] * 5, "", ""])
    path.write_text(f"{','.join(COLUMNS)}\n{cells}\n" + end)
    with ResourceSampler(path, 60.0) as sampler:
        assert sampler.num_rows == 1
    first, second = rows_of(path)
    assert first["seconds"] == "100.0" and 100 <= float(second["seconds"]) < 120


def test_a_file_with_other_columns_is_begun_anew(tmp_path):
    path = tmp_path / "resources.csv"
    path.write_text("time,memory\n1,2\n")
    with ResourceSampler(path, 60.0):
        pass
    assert len(rows_of(path)) == 1


def test_all_rows_are_whole_after_a_kill(tmp_path):
    path = tmp_path / "resources.csv"
    code = (
        "import sys, time, pathlib\n"
        "from kerastrain.resources import ResourceSampler\n"
        "with ResourceSampler(pathlib.Path(sys.argv[1]), 0.001): time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)])
    end_s = time.monotonic() + 30
    while not path.is_file() and time.monotonic() < end_s:
        time.sleep(0.01)
    wait_for_rows(path, 20)
    process.send_signal(signal.SIGKILL)
    process.wait()
    text = path.read_text()
    assert text.endswith("\n")
    assert {line.count(",") for line in text.splitlines()} == {len(COLUMNS) - 1}


def test_a_disk_that_is_full_ends_the_rows_and_not_the_run(tmp_path, monkeypatch):
    def fails(*_):
        raise OSError(28, "No space left on device")

    with ResourceSampler(tmp_path / "resources.csv", 0.01) as sampler:
        monkeypatch.setattr(sampler, "_row", fails)
        sampler._thread.join(20)
        assert not sampler._thread.is_alive()


def test_a_gpu_is_told_where_there_is_one(tmp_path, monkeypatch):
    nvml = types.SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUtilizationRates=lambda one: types.SimpleNamespace(gpu=40 + one),
    )
    memory = types.SimpleNamespace(get_memory_info=lambda _: {"current": 7, "peak": 9})
    config = types.SimpleNamespace(
        list_physical_devices=lambda _: ["a", "b"], experimental=memory
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setitem(sys.modules, "tensorflow", types.SimpleNamespace(config=config))
    with ResourceSampler(tmp_path / "resources.csv", 60.0) as sampler:
        sampler.has_devices = True
    (row,) = rows_of(tmp_path / "resources.csv")
    assert (row["gpu_percent"], row["gpu_bytes"]) == ("40.5", "14")


def test_devices_are_not_asked_before_they_are_set_up(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "_gpu_bytes", lambda: 1 / 0)
    with ResourceSampler(tmp_path / "resources.csv", 60.0):
        pass
    (row,) = rows_of(tmp_path / "resources.csv")
    assert row["gpu_bytes"] == ""
