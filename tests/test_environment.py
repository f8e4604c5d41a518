"""Stages with time and memory, and the description of the machine."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from kerastrain import environment
from kerastrain.environment import Stages, cgroup_limits, describe, free_memory_bytes


def test_a_stage_is_recorded_with_its_time_and_memory():
    stages = Stages()
    with stages("profile"):
        time.sleep(0.05)
    (record,) = stages.records
    assert record["name"] == "profile"
    assert 0.05 <= record["seconds"] < 5
    assert record["peak_memory_bytes"] > 10**6


def test_memory_that_a_stage_gives_back_counts_for_it_and_not_for_the_next():
    stages = Stages()
    with stages("large"):
        block = np.ones(50_000_000)
        time.sleep(0.2)  # more than one sample
        del block
    with stages("small"):
        pass
    large, small = (record["peak_memory_bytes"] for record in stages.records)
    assert large - small > 300_000_000


def test_a_stage_that_fails_is_recorded_too():
    stages = Stages()
    with pytest.raises(ZeroDivisionError), stages("fit"):
        _ = 1 / 0
    assert [record["name"] for record in stages.records] == ["fit"]


def test_a_stage_inside_another_is_recorded_first():
    stages = Stages()
    with stages("outer"), stages("inner"):
        pass
    assert [record["name"] for record in stages.records] == ["inner", "outer"]


def test_the_description_is_json_and_names_packages_and_hardware():
    stages = Stages()
    with stages("profile"):
        pass
    told = describe(7, {"sha256": "ab"}, ["kerastrain", "train"], stages=stages)
    assert json.loads(json.dumps(told)) == told
    assert told["packages"]["numpy"] == np.__version__
    assert (told["seed"], told["data"]) == (7, {"sha256": "ab"})
    assert told["command"] == ["kerastrain", "train"]
    assert told["started"].endswith("+00:00")
    assert told["stages"] == stages.records
    assert told["cores"] >= 1
    assert told["cpu"]
    assert told["memory_bytes"] > told["peak_memory_bytes"] > 10**6


def test_describing_imports_no_tensorflow():
    code = (
        "import sys; from kerastrain.environment import describe; "
        "assert describe(0, {}, '')['gpus'] == []; "
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def git(*arguments):
    name = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *name, *arguments], check=True, capture_output=True)


def test_the_commit_is_told_and_whether_files_differ_from_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git("init")
    (tmp_path / "a.txt").write_text("a")
    git("add", "a.txt")
    git("commit", "-m", "first")
    clean = describe(0, {}, "")["git"]
    (tmp_path / "a.txt").write_text("b")
    changed = describe(0, {}, "")["git"]
    assert len(clean["commit"]) == 40
    assert (clean["dirty"], changed["dirty"]) == (False, True)
    assert clean["commit"] == changed["commit"]


@pytest.mark.parametrize("path", ["", os.environ["PATH"]], ids=["no git", "no repo"])
def test_without_git_or_a_repository_the_commit_is_null(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", path)
    assert describe(0, {}, "")["git"] is None


def fill(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_limits_of_all_cgroups_around_the_process_are_found(tmp_path):
    root, own = tmp_path / "cgroup", tmp_path / "own"
    own.write_text("0::/box/job\n")
    fill(root / "box", {"memory.max": "4000\n", "memory.current": "1000\n"})
    stat = "anon 500\ninactive_file 300\n"
    fill(
        root / "box" / "job",
        {"memory.max": "2000\n", "memory.current": "800\n", "memory.stat": stat},
    )
    assert cgroup_limits(root, own) == [(2000, 500), (4000, 1000)]


@pytest.mark.parametrize(
    ("limit", "expected"), [("3000", [(3000, 700)]), (str(2**63 - 4096), [])]
)
def test_limits_of_version_1_are_found_too(tmp_path, limit, expected):
    root, own = tmp_path / "cgroup", tmp_path / "own"
    own.write_text("5:cpu,cpuacct:/\n4:memory:/elsewhere\n")
    files = {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": "700"}
    fill(root / "memory", files)
    assert cgroup_limits(root, own) == expected


def test_an_unlimited_cgroup_sets_no_limit(tmp_path):
    own = tmp_path / "own"
    own.write_text("0::/\n")
    fill(tmp_path / "cgroup", {"memory.max": "max\n", "memory.current": "1000\n"})
    assert cgroup_limits(tmp_path / "cgroup", own) == []


@pytest.mark.parametrize(("limit", "used", "free"), [(9000, 2000, 7000), (10, 20, 0)])
def test_free_memory_is_what_the_container_leaves(monkeypatch, limit, used, free):
    monkeypatch.setattr(environment, "cgroup_limits", lambda: [(limit, used)])
    assert free_memory_bytes() == free


def test_free_memory_without_limits_is_that_of_the_machine(monkeypatch):
    monkeypatch.setattr(environment, "cgroup_limits", list)
    assert 10**6 < free_memory_bytes() <= describe(0, {}, "")["memory_bytes"]
