"""Profiles of chosen steps, as TensorBoard finds them."""

import keras
import numpy as np
import pytest

from kerastrain.cli import main, training
from kerastrain.errors import ConfigError
from kerastrain.events import recording
from kerastrain.training.profiling import Profile


def fitted(folder, steps, *, already=0, steps_per_call=1):
    """A fit of 12 steps; the events of it."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", steps_per_execution=steps_per_call)
    model.optimizer.iterations.assign(already)
    x = np.zeros((24, 2))
    profile = Profile(folder, steps, steps_per_call)
    with recording() as recorder:
        model.fit(x, x[:, 0], batch_size=4, epochs=2, verbose=0, callbacks=[profile])
    return recorder.events


def profiles(folder):
    return [*folder.glob("plugins/profile/*/*.xplane.pb")]


@pytest.mark.parametrize(
    ("steps", "steps_per_call", "profiled"),
    [("4:5", 1, (4, 5)), ("4:5", 3, (4, 6)), ("5:8", 3, (4, 9)), ("0:1", 1, (1, 1))],
)
def test_whole_calls_that_hold_the_steps_are_profiled(
    tmp_path, steps, steps_per_call, profiled
):
    (event,) = fitted(tmp_path, steps, steps_per_call=steps_per_call)
    assert (event.details["first"], event.details["last"]) == profiled
    (file,) = profiles(tmp_path)
    content = file.read_bytes()
    assert len(content) > 1000 and b"step_num" in content


def test_steps_after_the_end_are_missed_and_said(tmp_path):
    (event,) = fitted(tmp_path, "100:120")
    assert event.message.startswith("There is no profile: training ended after 12 ")
    assert event.severity == "warning" and not profiles(tmp_path)


def test_a_profile_that_training_ends_in_is_written(tmp_path):
    (event,) = fitted(tmp_path, "12:20")
    assert event.message.startswith("Steps 12 to 12 are profiled in")
    assert profiles(tmp_path)


def test_a_run_that_goes_on_behind_the_steps_profiles_nothing(tmp_path):
    assert fitted(tmp_path, "4:5", already=30) == []
    assert not profiles(tmp_path)


def test_steps_that_end_before_they_begin_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="--profile-steps 5:4 ends before it begins"):
        Profile(tmp_path, "5:4", 1)


def test_the_command_line_sets_what_is_watched(monkeypatch, tmp_path):
    chosen = []
    monkeypatch.setattr(training, "_run", lambda config, *_: chosen.append(config))
    data = tmp_path / "a.csv"
    data.write_text("a,y\n1,2\n")
    asked = ["--profile-steps", "100:120", "--watch-norms"]
    main(["train", str(data), "--target", "y", *asked])
    main(["train", str(data), "--target", "y"])
    assert [config.watch.profile_steps for config in chosen] == ["100:120", None]
    assert [config.watch.norms for config in chosen] == [True, False]
