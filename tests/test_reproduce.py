"""A run trained again: the same numbers, or a table of those that differ."""

import csv
import io
import json
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import kerastrain
from kerastrain import reproduction
from kerastrain.cli import main
from kerastrain.differences import differences, values_of
from kerastrain.errors import ConfigError, DataError, RunError, SourceError
from kerastrain.serving import Run
from kerastrain.store import RunFolder

PENGUINS = Path(__file__).parent.parent / "examples" / "data" / "penguins.csv"
QUICK = {
    "fit": {"epochs": 2},
    "split": {"folds": 1},
    "exports": [],
    "trackers": [],
    "progress": False,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "penguins.csv"
    return Path(shutil.copy(PENGUINS, path))


@pytest.fixture(scope="module")
def recorded(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "first"
    return kerastrain.train(str(data), "species", out=str(out), **QUICK)


@pytest.fixture
def copy(recorded, tmp_path):
    """The run in a folder that a test may change."""
    return RunFolder(shutil.copytree(recorded.folder.path, tmp_path / "copy"))


@pytest.fixture
def trained(monkeypatch):
    """Instead of training, the run in the folder that a test puts here comes out.

    Behind it stand the configuration and the tables that training was asked for.
    """
    calls = []

    def train_again(config, *, frames, progress):
        calls.append((config, frames))
        return Run(calls[0])

    monkeypatch.setattr(reproduction, "train_again", train_again)
    return calls


def test_a_run_that_is_trained_again_has_the_same_numbers(recorded, tmp_path):
    again = kerastrain.reproduce(recorded, out=tmp_path / "again", progress=False)
    assert again.differences == []
    assert again.is_same
    assert again.environment == []
    assert again.run.folder.path == tmp_path / "again"
    assert again.num_values > 10_000
    assert again.run.config.out == str(tmp_path / "again")


@pytest.mark.slow
def test_another_seed_in_the_configuration_shows_everywhere(copy, tmp_path):
    text = copy.config.read_text()
    copy.config.write_text(text.replace("\nseed: 0\n", "\nseed: 1\n"))
    again = kerastrain.reproduce(copy.path, out=tmp_path / "again", progress=False)
    assert {d.file for d in again.differences} == {
        "metrics.json", "history.csv", "model.keras", "split.parquet", "golden.json",
    }  # fmt: skip
    seeds = [(d.name, d.recorded, d.now) for d in again.environment]
    assert ("seed", 0, 1) in seeds


@pytest.fixture
def changed_cell(data):
    """One cell of the data is another while a test runs."""
    before = data.read_text()
    data.write_text(before.replace("39.1", "39.2", 1))
    yield
    data.write_text(before)


@pytest.mark.usefixtures("changed_cell")
def test_a_changed_cell_of_the_data_is_refused_before_training(
    recorded, trained, tmp_path
):
    with pytest.raises(
        DataError,
        match=r"not those of .*first: .*penguins.csv: sha256 \w{12}... then, \w{12}... "
        r"now\. Put the old ones back, or train on these with --force",
    ):
        kerastrain.reproduce(recorded, out=tmp_path / "again", progress=False)
    assert trained == []


@pytest.mark.slow
@pytest.mark.usefixtures("changed_cell")
def test_with_force_changed_data_are_trained_on_and_told(recorded, tmp_path):
    again = kerastrain.reproduce(
        recorded, out=tmp_path / "again", force=True, progress=False
    )
    files = {d.file for d in again.differences}
    assert {"data", "history.csv", "model.keras"} <= files
    assert again.differences[0].name.endswith("penguins.csv: sha256")


def test_a_file_that_moved_is_the_same_data(recorded, data, trained, tmp_path):
    moved = shutil.copy(data, tmp_path / "moved.csv")
    trained.append(recorded.folder)
    again = kerastrain.reproduce(recorded, data=moved, progress=False)
    assert again.is_same
    config, frames = trained[1]
    assert (config.data, frames) == (str(moved), {})


def test_data_that_are_gone_are_told(copy, tmp_path):
    text = copy.config.read_text()
    copy.config.write_text(text.replace("penguins.csv", "gone.csv"))
    with pytest.raises(SourceError, match="gone.csv"):
        kerastrain.reproduce(copy.path, out=tmp_path / "again", progress=False)


# --- what is compared -------------------------------------------------------------


def found(recorded, copy):
    before, after = values_of(recorded.folder), values_of(copy)
    return [d for file in before for d in differences(file, before[file], after[file])]


def test_a_score_that_was_tampered_with_is_found(recorded, copy):
    metrics = json.loads(copy.metrics.read_text())
    value = metrics["test"]["accuracy"]["value"]
    metrics["test"]["accuracy"]["value"] = np.nextafter(value, 2)
    copy.metrics.write_text(json.dumps(metrics))
    (difference,) = found(recorded, copy)
    assert difference.name == "test.accuracy.value"
    assert (difference.recorded, difference.file) == (value, "metrics.json")
    assert 0 < difference.size < 1e-15


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("best_epoch"), ("best_epoch", 2, "missing")),
        (lambda m: m.update(new=None), ("new", "missing", None)),
        (lambda m: m.update(primary="accuracy"), ("primary", "log_loss", "accuracy")),
        (lambda m: m.update(labels=["a"]), ("labels", "3 values", "1 values")),
        (
            lambda m: m.update(labels=["Adelie", "Chinstrap", "x"]),
            ("labels[2]", "Gentoo", "x"),
        ),
        (lambda m: m.update(best_epoch=None), ("best_epoch", 2, None)),
    ],
)
def test_what_is_missing_or_no_number_is_told(recorded, copy, change, message):
    metrics = json.loads(copy.metrics.read_text())
    change(metrics)
    copy.metrics.write_text(json.dumps(metrics))
    (d,) = found(recorded, copy)
    assert (d.name, d.recorded, d.now) == message
    assert d.size is None


def test_losses_are_compared_and_times_are_not(recorded, copy):
    with copy.history.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["epoch_s"] = "99"
    rows[1]["loss"] = "0.25"
    with copy.history.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (d,) = found(recorded, copy)
    assert (d.file, d.name, d.now) == ("history.csv", "loss[1]", 0.25)


def test_one_bit_of_one_weight_is_found(recorded, copy):
    with zipfile.ZipFile(copy.model) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    weights = io.BytesIO(parts["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        names = []
        file.visititems(
            lambda name, node: (
                names.append(name)
                if isinstance(node, h5py.Dataset) and node.shape
                else None
            )
        )
        values = file[names[-1]][()]
        values.ravel()[1:2].view("uint32")[...] ^= 1
        file[names[-1]][...] = values
    parts["model.weights.h5"] = weights.getvalue()
    with zipfile.ZipFile(copy.model, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    (d,) = found(recorded, copy)
    assert d.file == "model.keras"
    assert d.name.startswith(names[-1])
    assert 0 < d.size < 1e-6


def test_a_row_in_another_part_is_found(recorded, copy):
    table = pq.read_table(copy.split).to_pandas()
    table["part"] = table["part"].astype(object)
    before = table["part"][7]
    table.loc[7, "part"] = "validation" if before != "validation" else "test"
    table["part"] = table["part"].astype("category")
    table.to_parquet(copy.split)
    (d,) = found(recorded, copy)
    assert (d.file, d.name, d.recorded) == ("split.parquet", "part[7]", before)


def test_a_prediction_on_a_golden_row_is_found(recorded, copy):
    golden = json.loads(copy.golden.read_text())
    golden["cases"][0]["outputs"]["probabilities"][3][1] += 0.5
    copy.golden.write_text(json.dumps(golden))
    (d,) = found(recorded, copy)
    assert d.name == "cases[0].outputs.probabilities[3, 1]"
    assert d.size == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["metrics.json", "history.csv", "golden.json"])
def test_a_run_without_one_of_its_files_is_refused(copy, trained, name):
    (copy.path / name).unlink()
    with pytest.raises(RunError, match=f"{name} is missing: .* Train again"):
        kerastrain.reproduce(copy.path, progress=False)
    assert trained == []


@pytest.mark.parametrize("name", ["metrics.json", "model.keras", "split.parquet"])
def test_a_damaged_file_is_told(copy, trained, name):
    (copy.path / name).write_bytes(b"{nothing")
    with pytest.raises(RunError, match=rf"{name}"):
        kerastrain.reproduce(copy.path, progress=False)
    assert trained == []


# --- where the data come from -----------------------------------------------------


@pytest.mark.slow
def test_a_run_on_a_table_in_memory_takes_that_table_again(trained, tmp_path):
    frame = pd.read_csv(PENGUINS)
    first = tmp_path / "first"
    run = kerastrain.train(frame, "species", out=str(first), **QUICK)
    with pytest.raises(
        ConfigError,
        match=r"first was trained on a table in memory, which a run does not keep. In "
        r"Python: kerastrain.reproduce\('.*first', data=frame\)\.",
    ):
        kerastrain.reproduce(run, progress=False)
    trained.append(run.folder)
    assert kerastrain.reproduce(run, data=frame, progress=False).is_same
    assert list(trained[1][1]) == ["data"]
    with pytest.raises(DataError, match=r"data\.rows 344 then, 343 now"):
        kerastrain.reproduce(run, data=frame[1:], progress=False)


def test_a_password_that_was_hidden_comes_from_a_variable(copy, trained, monkeypatch):
    text = copy.config.read_text().splitlines()
    at = next(i for i, line in enumerate(text) if line.startswith("data:"))
    text[at : at + (2 if text[at] == "data:" else 1)] = [
        "data: postgresql://me:***@localhost:1/db"
    ]
    copy.config.write_text("\n".join(text))
    monkeypatch.delenv("DB_PASSWORD", raising=False)
    with pytest.raises(ConfigError, match="no variable DB_PASSWORD. Set it"):
        kerastrain.reproduce(copy.path, progress=False)
    assert trained == []


# --- the command ------------------------------------------------------------------


def test_the_command_says_in_one_line_that_nothing_differs(
    recorded, copy, trained, capsys
):
    trained.append(recorded.folder)
    assert main(["reproduce", str(copy.path), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Nothing differs: ")
    assert len(out.splitlines()) == 1


def test_the_command_shows_what_differs_and_ends_with_code_1(
    recorded, copy, trained, capsys
):
    trained.append(recorded.folder)
    metrics = json.loads(copy.metrics.read_text())
    metrics["test"]["accuracy"]["value"] = 0.125
    copy.metrics.write_text(json.dumps(metrics))
    environment = json.loads(copy.environment.read_text())
    environment["packages"]["keras"] = "3.0.0"
    copy.environment.write_text(json.dumps(environment))
    assert main(["reproduce", str(copy.path), "--out", "x"]) == 1
    captured = capsys.readouterr()
    rows = [line.split() for line in captured.out.splitlines()]
    assert ["environment", "recorded", "now"] in rows
    assert any(row[:2] == ["packages.keras", "3.0.0"] for row in rows)
    assert any(
        row[:3] == ["metrics.json", "test.accuracy.value", "0.125"] for row in rows
    )
    assert "packages.keras 3.0.0 then" in " ".join(captured.err.split())


def test_the_command_shows_the_first_differences_of_each_file(
    recorded, copy, trained, capsys
):
    trained.append(recorded.folder)
    metrics = json.loads(copy.metrics.read_text()) | {f"x{i}": i for i in range(20)}
    copy.metrics.write_text(json.dumps(metrics))
    assert main(["reproduce", str(copy.path), "--quiet"]) == 1
    assert "and 12 more" in capsys.readouterr().out


def test_a_run_that_is_not_deterministic_is_compared_and_said_to_be(
    recorded, copy, trained, capsys
):
    trained.append(recorded.folder)
    text = copy.config.read_text()
    copy.config.write_text(text.replace("deterministic: true", "deterministic: false"))
    assert main(["reproduce", str(copy.path)]) == 0
    assert "not deterministic" in " ".join(capsys.readouterr().err.split())


def test_the_command_refuses_what_is_no_run(tmp_path, capsys):
    assert main(["reproduce", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"), [("--deterministic", True), ("--no-deterministic", False)]
)
def test_determinism_is_an_option_of_train(monkeypatch, option, value, data):
    from kerastrain.cli import training

    configs = []
    monkeypatch.setattr(training, "_run", lambda config, *_: configs.append(config))
    assert main(["train", str(data), "--target", "species", option]) == 0
    assert configs[0].runtime.deterministic is value
