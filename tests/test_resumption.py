"""A run that is killed goes on and ends with the numbers of one that is not."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import kerastrain
from kerastrain.cli import main
from kerastrain.config import parse_config
from kerastrain.errors import ConfigError, Interrupted, RunError
from kerastrain.events import read_events
from kerastrain.resumption import claim, request_of
from kerastrain.store import RunFolder, read_json

KILLS = Path(__file__).parent / "kills.py"
SETTINGS = {
    "split": {"folds": 1},
    "fit": {"epochs": 25, "batch_size": 32, "steps_per_call": 2, "patience": None},
    "checkpoint": {"every": 1},
    "model": {"name": "mlp", "widths": [16], "dropout": 0.2},
    "exports": [],
}
QUICK = SETTINGS | {"fit": {"epochs": 3, "batch_size": 32}, "progress": False}


def killed(folder, num_kills, **settings):
    done = subprocess.run(
        [sys.executable, str(KILLS), folder, str(num_kills), json.dumps(settings)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-4_000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_five_kills_at_random_moments_change_no_number(tmp_path):
    kills, _, resumed, different = killed(tmp_path, 5, **SETTINGS)
    assert kills == 5 and resumed > 0
    assert different == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"split": {"folds": 2}, "average": "ema"},
        {"schedule": "plateau", "checkpoint": {"every": "0.2s"}},
        {"average": "swa", "fit": SETTINGS["fit"] | {"accumulate": 2}},
        {
            "model": {"name": "linear"},
            "imbalance": {"method": "oversample"},
            "optimizer": {"name": "sgd"},
        },
    ],
    ids=str,
)
def test_fifty_kills_at_random_moments_change_no_number(tmp_path, settings):
    """Ten for each of five kinds of training, of two models."""
    kills, _, resumed, different = killed(tmp_path, 10, **(SETTINGS | settings))
    assert kills == 10 and resumed > 0
    assert different == []


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.csv"
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 3)), columns=["a", "b", "c"])
    frame["y"] = np.where(frame["a"] > 0, "yes", "no")
    frame.to_csv(path, index=False)
    return path


class Stop(Exception):
    """Of a callback; stands for a crash."""


def stopping(epoch):
    import keras

    class Stopping(keras.callbacks.Callback):
        remembered = ()

        def on_epoch_begin(self, number, logs=None):
            if number == epoch:
                raise Stop

    return Stopping()


@pytest.fixture
def stopped(data, tmp_path):
    """The folder of a run that crashed in its second epoch."""
    out = tmp_path / "run"
    with pytest.raises(Stop):
        kerastrain.train(str(data), "y", out=str(out), callbacks=[stopping(1)], **QUICK)
    return out


def test_the_same_call_goes_on_and_says_where(data, stopped):
    run = kerastrain.train(
        str(data), "y", out=str(stopped), callbacks=[stopping(None)], **QUICK
    )
    codes = [event.code for event in read_events(run.folder.events)]
    assert codes.count("resumed") == 1
    assert codes.count("task_detected") <= 1  # what is found again is not told again
    assert len(run.history) == 3
    assert not [*(stopped / "checkpoints").rglob("*.npz")]  # not needed any more


def test_resume_goes_on_with_the_settings_of_the_run(stopped):
    run = kerastrain.train(resume=stopped, callbacks=[stopping(None)], progress=False)
    assert len(run.history) == 3
    with pytest.raises(RunError, match=r"^The run in .* is finished: .*report\.html"):
        kerastrain.train(resume=stopped)


def test_nothing_can_be_set_beside_resume(stopped, capsys):
    with pytest.raises(ConfigError, match="Beside resume, seed would have no effect"):
        kerastrain.train(resume=stopped, seed=3)
    assert main(["train", "--resume", str(stopped), "--epochs", "9"]) == 2
    assert "Leave fit.epochs out." in capsys.readouterr().err


def test_data_that_changed_are_refused(data, stopped, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text(data.read_text().replace("yes", "no", 1))
    request = read_json(stopped / "request.json")
    text = json.dumps(request).replace(str(data), str(other))
    (stopped / "request.json").write_text(text)
    with pytest.raises(RunError, match="^The data changed since the run in "):
        kerastrain.train(resume=stopped, progress=False)


def test_other_settings_in_the_folder_of_a_run_are_refused_by_name(data, stopped):
    message = r"holds an unfinished run with other settings \(seed\)\. To go on with it"
    with pytest.raises(ConfigError, match=message):
        kerastrain.train(str(data), "y", out=str(stopped), seed=9, **QUICK)


def test_a_second_process_is_refused(data, tmp_path):
    config = parse_config(
        {"data": str(data), "target": "y", "out": str(tmp_path / "r")}
    )
    with claim(config, "x", []):
        code = (
            "import sys; from kerastrain import train;"
            "train(sys.argv[1], 'y', out=sys.argv[2])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(data), config.out],
            capture_output=True,
            text=True,
            check=False,
        )
    assert "RunError: Another process is training in" in done.stderr


def test_a_table_in_memory_has_to_be_given_again(data, tmp_path):
    frame, out = pd.read_csv(data), str(tmp_path / "run")
    with pytest.raises(Stop):
        kerastrain.train(frame, "y", out=out, callbacks=[stopping(1)], **QUICK)
    with pytest.raises(RunError, match="was begun with a table in memory"):
        kerastrain.train(resume=out)
    run = kerastrain.train(
        frame, resume=out, callbacks=[stopping(None)], progress=False
    )
    assert len(run.history) == 3


def test_a_folder_that_holds_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="holds no run to go on with"):
        request_of(str(tmp_path))


def test_a_password_is_not_kept_and_has_to_be_given_again(tmp_path):
    config = parse_config(
        {"data": "postgresql://me:secret@host/db?table=t", "target": "y"}
        | {"out": str(tmp_path / "run")}
    )
    with claim(config, "x", []) as claimed:
        folder = claimed.folder
    assert "secret" not in folder.request.read_text()
    with pytest.raises(RunError, match="The password of the data is not kept"):
        request_of(str(folder.path))


def test_what_a_refused_run_leaves_may_be_replaced(data, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Exception, match="^No column 'z'"):
        kerastrain.train(str(data), "z", out=str(out), progress=False)
    assert (out / "request.json").is_file()
    assert not RunFolder(out).has_work
    config = parse_config({"data": str(data), "target": "y", "out": str(out)})
    with claim(config, "x", []) as claimed:
        assert not claimed.is_resumed


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_to_the_command_tells_how_to_go_on(data, tmp_path, number):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "kerastrain", "train", str(data)]
    command += [
        "--target",
        "y",
        "--folds",
        "1",
        "--epochs",
        "100000",
        "--out",
        str(out),
    ]
    command += ["--model", "mlp", "--set", "fit.patience=null"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    while not (out / "history.csv").exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err[-2_000:]
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    last = err.strip().splitlines()[-1]
    assert last.startswith(f"Stopped by {name} in epoch ")
    assert last.endswith(f"To go on: kerastrain train --resume {out}")


@pytest.mark.slow
def test_a_line_that_a_full_disk_cut_short_does_not_matter(data, stopped):
    events = stopped / "events.jsonl"
    events.write_text(events.read_text().rstrip()[:-20])
    run = kerastrain.train(resume=stopped, callbacks=[stopping(None)], progress=False)
    assert run.folder.report.is_file()
    assert "resumed" in [event.code for event in read_events(events)]


def test_what_killed_processes_left_over_is_removed(data, tmp_path):
    out = tmp_path / "run"
    left = [
        out / ".999.part.request.json",
        out / "checkpoints/.12.part.best.weights.h5",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    left[1].unlink()
    left[1].parent.rmdir()
    with pytest.raises(Stop):
        kerastrain.train(str(data), "y", out=str(out), callbacks=[stopping(1)], **QUICK)
    left[1].touch()
    kerastrain.train(resume=out, callbacks=[stopping(None)], progress=False)
    assert not any(path.exists() for path in left)


def test_a_rate_may_be_set_by_callbacks_of_keras(data, tmp_path):
    import keras

    plateau = keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=100)
    settings = QUICK | {"schedule": {"name": "constant", "warmup": 0}}
    run = kerastrain.train(
        str(data), "y", out=str(tmp_path / "run"), callbacks=[plateau], **settings
    )
    rates = run.history["learning_rate"]
    assert rates[2] == pytest.approx(0.1 * rates[1])


def test_what_is_no_callback_is_refused(data):
    with pytest.raises(ConfigError, match="expected Keras callbacks, got builtin"):
        kerastrain.train(str(data), "y", callbacks=[print])


def test_a_signal_tells_how_to_go_on(data, tmp_path, capsys):
    import os

    import keras

    class Signal(keras.callbacks.Callback):
        remembered = ()

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1 and number is not None:
                os.kill(os.getpid(), number)

    number, out = signal.SIGTERM, tmp_path / "run"
    message = rf"Its state is written\. To go on: kerastrain train --resume {out}$"
    with pytest.raises(Interrupted, match=message) as caught:
        kerastrain.train(str(data), "y", out=str(out), callbacks=[Signal()], **QUICK)
    assert caught.value.exit_code == 143
    number = None
    run = kerastrain.train(resume=out, callbacks=[Signal()], progress=False)
    assert len(run.history) == 3
