"""What a person sees: quiet in a log file, one live line in a terminal."""

import io

import pytest
from rich.console import Console

from kerastrain.errors import ConfigError
from kerastrain.events import Event
from kerastrain.progress import (
    ConsoleProgress,
    Progress,
    WarningLines,
    _amount,
    _clock,
    _duration,
    _memory,
    make_progress,
)


def shown(*, is_terminal=False, width=100):
    """A progress display, and the text that it has written so far."""
    file = io.StringIO()
    console = Console(
        file=file, force_terminal=is_terminal, width=width, color_system=None
    )
    return ConsoleProgress(console), file


def train(progress, *, epochs, stops_at=None):
    with progress:
        progress.on_stage("train")
        for epoch in range(1, (stops_at or epochs) + 1):
            logs = {"loss": 0.5, "val_loss": 0.25, "val_roc_auc": 0.75, "rate": 1.0}
            progress.on_epoch(epoch, epochs, logs | {"rows_per_s": 12_345.6}, 2.0)


@pytest.mark.parametrize(
    ("epochs", "stops_at", "expected"),
    [
        (3, None, [1, 2, 3]),
        (40, None, [1, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40]),
        (40, 13, [1, 4, 8, 12, 13]),
        (1000, None, [1, *range(100, 1001, 100)]),
    ],
)
def test_a_log_file_gets_about_ten_lines_and_the_last_epoch(epochs, stops_at, expected):
    progress, file = shown()
    train(progress, epochs=epochs, stops_at=stops_at)
    *lines, last = file.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == [f"{e}/{epochs}" for e in expected]
    assert last.split() == ["train", "0.0", "s"]


def test_an_epoch_is_told_with_losses_one_metric_and_speed():
    progress, file = shown()
    train(progress, epochs=1)
    assert file.getvalue().splitlines()[0] == (
        "  epoch 1/1  loss 0.5  val_loss 0.25  val_roc_auc 0.75  12,346 rows/s  2.0 s"
    )


def test_a_line_in_a_log_file_is_never_cut_or_wrapped():
    progress, file = shown(width=20)
    progress.on_event(Event("code", "word " * 40))
    assert file.getvalue().count("\n") == 1
    assert file.getvalue().count("word") == 40


def test_events_are_shown_as_they_come_and_markup_is_text():
    progress, file = shown()
    progress.on_event(Event("a", "Column '[red]' is left out."))
    progress.on_event(Event("b", "3 rows dropped.", "warning"))
    assert file.getvalue() == (
        "note: Column '[red]' is left out.\nwarning: 3 rows dropped.\n"
    )


def test_each_stage_ends_in_one_line_also_after_an_error():
    progress, file = shown()
    with pytest.raises(ZeroDivisionError), progress:
        progress.on_stage("profile")
        progress.on_stage("ingest")
        raise ZeroDivisionError
    progress.close()
    assert [line.split()[0] for line in file.getvalue().splitlines()] == [
        "profile",
        "ingest",
    ]


def test_each_fold_tells_its_last_epoch_before_its_time():
    progress, file = shown()
    with progress:
        for fold in (9, 10):
            progress.on_stage(f"fold {fold} of 10")
            for epoch in range(1, 4):
                progress.on_epoch(epoch, 40, {"loss": 0.5}, 2.0)
    told = [line.split() for line in file.getvalue().splitlines()]
    assert [words[1] for words in told if words[0] == "epoch"] == ["1/40", "3/40"] * 2
    ended = [words[:4] for words in told if words[0] == "fold"]
    assert ended == [["fold", "9", "of", "10"], ["fold", "10", "of", "10"]]


def test_a_terminal_gets_one_live_line_and_keeps_the_last_epoch():
    progress, file = shown(is_terminal=True)
    with progress:
        progress.on_stage("train")
        progress.on_epoch(1, 3, {"loss": 0.5}, 10.0)
        progress.on_step(5, 10)
        status = progress._status().plain
        progress.on_epoch(2, 3, {"loss": 0.25}, 10.0)
    assert status == "train 0:00  epoch 1/3 50 %  loss 0.5  < 0:20 left"
    text = file.getvalue()
    assert "epoch 2/3  loss 0.25\n" in text
    assert "epoch 1/3  loss 0.5\n" not in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # cursor is back


FIGURES = {
    "epoch": 12, "epochs": 100, "loss": 0.43211, "left_s": 740.0, "step_ms": 14.93,
    "rows_per_s": 52_345.0, "input_wait": 0.123, "memory_mb": 1234.0,
    "learning_rate": 0.00098765,
}  # fmt: skip


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (
            160,
            "train 0:00  epoch 12/100 45 %  loss 0.4321  < 12:20 left  14.9 ms/step  "
            "wait 12 %  52k rows/s  1.2 GB  rate 0.00099  val_loss 0.45",
        ),
        (
            100,
            "train 0:00  epoch 12/100 45 %  loss 0.4321  < 12:20 left  14.9 ms/step  "
            "wait 12 %  52k rows/s",
        ),
        (60, "train 0:00  epoch 12/100 45 %  loss 0.4321  < 12:20 left"),
    ],
)
def test_the_live_line_tells_what_fits_the_width(width, expected):
    progress, _ = shown(is_terminal=True, width=width)
    with progress:
        progress.on_stage("train")
        progress.on_epoch(11, 100, {"val_loss": 0.45}, 1.0)
        progress.on_step(45, 100, FIGURES)
        assert progress._status().plain == expected


def test_little_waiting_is_not_worth_a_word():
    progress, file = shown(is_terminal=True, width=160)
    with progress:
        progress.on_stage("train")
        progress.on_step(45, 100, FIGURES | {"input_wait": 0.1})
        assert "wait" not in progress._status().plain
        progress.on_epoch(1, 1, {"loss": 0.5, "input_wait": 0.25}, 1.0)
    assert "epoch 1/1  loss 0.5  wait 25 %" in file.getvalue()


def test_steps_before_the_first_epoch_are_shown_as_a_share():
    progress, _ = shown(is_terminal=True)
    with progress:
        progress.on_stage("train")
        progress.on_step(1, 4)
        assert progress._status().plain == "train 0:00  25 %"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_steps_are_asked_for_where_they_are_shown(is_terminal):
    assert shown(is_terminal=is_terminal)[0].shows_steps == is_terminal


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (_clock(7.4), "0:07"),
        (_clock(185), "3:05"),
        (_clock(7630), "2:07:10"),
        (_amount(812.2), "812"),
        (_amount(54_490), "54k"),
        (_amount(1_234_567), "1.2M"),
        (_memory(812), "812 MB"),
    ],
)
def test_figures_of_the_live_line_are_short(text, expected):
    assert text == expected


def test_the_silent_display_still_logs_warnings(caplog):
    with Progress() as progress:
        progress.on_stage("train")
        progress.on_epoch(1, 2, {}, 1.0)
        progress.on_step(1, 2)
        progress.on_event(Event("a", "Chosen."))
        progress.on_event(Event("b", "Dropped.", "warning"))
    assert caplog.messages == ["Dropped."]


@pytest.mark.parametrize(
    ("value", "kind"),
    [("auto", ConsoleProgress), (True, ConsoleProgress), (False, Progress)],
)
def test_make_progress_takes_what_train_takes(value, kind):
    assert type(make_progress(value)) is kind


def test_make_progress_passes_a_display_through_and_refuses_others():
    progress = Progress()
    assert make_progress(progress) is progress
    with pytest.raises(ConfigError, match="must be 'auto', True or False, got 'yes'"):
        make_progress("yes")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7620, "2 h 07 min"),
    ],
)
def test_durations_are_short(seconds, text):
    assert _duration(seconds) == text


def test_quiet_prints_warnings_alone(capsys):
    with WarningLines() as progress:
        progress.on_stage("train")
        progress.on_event(Event("rare", "A class [red] is rare.", "warning"))
        progress.on_event(Event("task", "The task is binary."))
    assert capsys.readouterr().err == "warning: A class [red] is rare.\n"
