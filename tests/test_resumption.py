"""A run that is killed goes on and ends with the numbers of one that is not."""

import json
import subprocess
import sys
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
        {"imbalance": {"method": "oversample"}, "optimizer": {"name": "sgd"}},
    ],
    ids=str,
)
def test_fifty_kills_at_random_moments_change_no_number(tmp_path, settings):
    """Ten for each of five kinds of training."""
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


def test_a_signal_tells_how_to_go_on(data, tmp_path, capsys):
    import os
    import signal

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
