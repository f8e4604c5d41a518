"""What a person sees while a run goes on: on stderr, so that results can be piped."""

import time
from collections.abc import Mapping
from typing import Any, Literal, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from kerastrain.errors import ConfigError
from kerastrain.events import Event, log

__all__ = [
    "ConsoleProgress",
    "LiveOnly",
    "Progress",
    "WarningLines",
    "make_progress",
    "number_text",
]

LINES_PER_TRAINING = 10  # in a log file
MUCH_WAITING = 0.1  # share of the time; below it nothing is gained by faster input


class Progress:
    """Shows nothing; base of what does. Warnings go to the log `kerastrain`.

    Stages come in order, each ends where the next begins; epochs are counted from 1.

    Attributes:
        shows_steps: whether `on_step` is called; figures of steps are not for nothing.
        asked_s: by `time.monotonic`, since when a person waits, where that was before
            the run began; a time limit counts from then.
    """

    shows_steps = False
    asked_s: float | None = None

    def on_event(self, event: Event) -> None:
        """Something that a user must not miss."""
        log(event)

    def on_stage(self, name: str) -> None:
        """A stage of the flow begins."""

    def on_line(self, text: str) -> None:
        """Something was done inside a stage."""

    def on_epoch(
        self, epoch: int, epochs: int, logs: Mapping[str, float], epoch_s: float
    ) -> None:
        """An epoch ended. `rows_per_s` in `logs` is shown as a speed, and `left_s` is
        the time that is left at most."""

    def on_step(
        self, done: int, total: int, figures: Mapping[str, float] | None = None
    ) -> None:
        """Steps done in this stage or epoch, and what is known by then.

        Args:
            figures: any of `epoch`, `epochs`, `loss`, `left_s`, `step_ms`,
                `rows_per_s`, `input_wait`, `memory_mb`, `learning_rate`.
        """

    def close(self) -> None:
        """The run ended, well or not."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LiveOnly(Progress):
    """Passes steps on, for a live line, and keeps quiet about epochs."""

    def __init__(self, inner: Progress):
        self._inner = inner
        self.shows_steps = inner.shows_steps

    def on_step(
        self, done: int, total: int, figures: Mapping[str, float] | None = None
    ) -> None:
        self._inner.on_step(done, total, figures)


class WarningLines(Progress):
    """Warnings on stderr, as lines of their own, and nothing else."""

    def on_event(self, event: Event) -> None:
        if event.severity == "warning":
            line = Text(f"warning: {event.message}", style="yellow")
            Console(stderr=True, highlight=False).print(line, soft_wrap=True)


class ConsoleProgress(Progress):
    """Lines for stages and warnings, and in a terminal one live line for the training.

    In a log file or a notebook there is no live line, and training says about ten.
    """

    def __init__(self, console: Console | None = None):
        self._console = console or Console(stderr=True, highlight=False)
        self._stage = ""
        self._started = time.monotonic()
        self._epoch = ""
        self._unsaid = ""
        self._latest: dict[str, float] = {}
        self._live: Live | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(
                console=self._console, get_renderable=self._status, transient=True
            )
        self.shows_steps = self._live is not None

    def on_event(self, event: Event) -> None:
        if event.severity == "warning":
            self._say(f"warning: {event.message}", "yellow")
        else:
            self._say(f"note: {event.message}", "dim")

    def on_stage(self, name: str) -> None:
        self._end_stage()
        self._stage, self._started = name, time.monotonic()
        if self._live is not None:
            self._live.start(refresh=True)

    def on_line(self, text: str) -> None:
        self._say(f"  {text}")
        self._latest = {}

    def on_epoch(
        self, epoch: int, epochs: int, logs: Mapping[str, float], epoch_s: float
    ) -> None:
        self._epoch = _epoch_text(epoch, epochs, logs)
        left_s = logs.get("left_s", (epochs - epoch) * epoch_s)
        self._show({**logs, "epoch": epoch, "epochs": epochs, "left_s": left_s})
        every = -(-epochs // LINES_PER_TRAINING)
        line = f"  {self._epoch}  {_duration(epoch_s)}"
        is_due = epoch == 1 or epoch % every == 0 or epoch == epochs
        self._unsaid = "" if is_due else line
        if is_due and self._live is None:
            self._say(line)

    def on_step(
        self, done: int, total: int, figures: Mapping[str, float] | None = None
    ) -> None:
        self._show({**self._latest, **(figures or {}), "share": done / max(total, 1)})

    def close(self) -> None:
        self._end_stage()

    def _show(self, figures: dict[str, float]) -> None:
        """What the live line tells; the time that is left runs on by the clock."""
        if "left_s" in figures:
            figures["ends"] = time.monotonic() + figures.pop("left_s")
        self._latest = figures  # in one piece: another thread draws it

    def _end_stage(self) -> None:
        if self._unsaid:  # where training stopped early
            self._say(self._unsaid)
        elif self._epoch and self._live is not None:
            self._say(f"  {self._epoch}")
        if self._live is not None:
            self._live.stop()
        if self._stage:
            took = _duration(time.monotonic() - self._started)
            self._say(f"{self._stage:<12} {took:>8}", "bold")
        self._stage = self._unsaid = self._epoch = ""
        self._latest = {}

    def _status(self) -> Text:
        """The live line: what goes on, for how long, how far, how fast."""
        figures, took_s = self._latest, time.monotonic() - self._started
        text = f"{self._stage:<12} {_duration(took_s):>8}"
        if figures:
            left_s = figures.get("ends", 0.0) - time.monotonic()
            parts = [f"{self._stage} {_clock(took_s)}", *_live_parts(figures, left_s)]
            text = _fitted(parts, self._console.width)
        return Text(text, style="cyan", no_wrap=True, overflow="ellipsis")

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style), soft_wrap=True)


def make_progress(value: Progress | bool | Literal["auto"]) -> Progress:
    """`True` and `"auto"` show progress on stderr, `False` shows none."""
    if isinstance(value, Progress):
        return value
    if value is True or value == "auto":
        return ConsoleProgress()
    if value is False:
        return Progress()
    raise ConfigError(f"progress must be 'auto', True or False, got {value!r}.")


def number_text(value: float) -> str:
    """Four digits that matter, and no power of ten for amounts.

    >>> number_text(54490.6), number_text(0.43216), number_text(0.00002)
    ('54,491', '0.4322', '2e-05')
    """
    return f"{value:,.0f}" if 1_000 <= abs(value) < 1e15 else f"{value:.4g}"


def _live_parts(figures: Mapping[str, float], left_s: float) -> list[str]:
    """Parts of the live line, the most important first; empty where not known."""
    known = figures.get
    waited = known("input_wait", 0.0)
    share = f" {100 * known('share', 0.0):.0f} %" if "share" in figures else ""
    rate, loss, val_loss = known("learning_rate"), known("loss"), known("val_loss")
    return [
        f"epoch {known('epoch'):.0f}/{known('epochs'):.0f}{share}"
        if "epoch" in figures
        else share.strip(),
        "" if loss is None else f"loss {loss:.4g}",
        f"< {_clock(left_s)} left" if left_s > 0 else "",
        f"{known('step_ms'):.3g} ms/step" if known("step_ms") else "",
        f"wait {100 * waited:.0f} %" if waited > MUCH_WAITING else "",
        f"{_amount(known('rows_per_s', 0.0))} rows/s" if known("rows_per_s") else "",
        _memory(known("memory_mb", 0.0)) if known("memory_mb") else "",
        "" if rate is None else f"rate {rate:.2g}",
        "" if val_loss is None else f"val_loss {val_loss:.4g}",
    ]


def _fitted(parts: list[str], width: int) -> str:
    """Parts in a line that is not wider, without the last ones if need be.

    >>> _fitted(["train", "epoch 1/3", "", "rate 0.1"], 20)
    'train  epoch 1/3'
    """
    line = parts[0]
    for part in filter(None, parts[1:]):
        if len(line) + 2 + len(part) < width:
            line += f"  {part}"
    return line


def _clock(seconds: float) -> str:
    """`"0:07"`, `"3:05"`, `"2:07:10"`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _amount(value: float) -> str:
    """`"812"`, `"54k"`, `"1.2M"`."""
    if value < 9_950:
        return f"{value:.0f}"
    return f"{value / 1e3:.0f}k" if value < 999_500 else f"{value / 1e6:.1f}M"


def _memory(megabytes: float) -> str:
    """`"812 MB"`, `"1.2 GB"`."""
    if megabytes < 1_000:
        return f"{megabytes:.0f} MB"
    return f"{megabytes / 1_000:.1f} GB"


def _epoch_text(epoch: int, epochs: int, logs: Mapping[str, float]) -> str:
    parts = [f"epoch {epoch}/{epochs}"]
    parts += [f"{key} {number_text(logs[key])}" for key in _shown(logs)]
    if logs.get("rows_per_s"):
        parts.append(f"{logs['rows_per_s']:,.0f} rows/s")
    if logs.get("input_wait", 0.0) > MUCH_WAITING:
        parts.append(f"wait {100 * logs['input_wait']:.0f} %")
    return "  ".join(parts)


def _shown(logs: Mapping[str, Any]) -> list[str]:
    """The loss, the validation loss and one validation metric: what fits a line."""
    validation = [key for key in logs if key.startswith("val_") and key != "val_loss"]
    return [key for key in ("loss", "val_loss", *validation[:1]) if key in logs]


def _duration(seconds: float) -> str:
    """`"0.4 s"`, `"12 s"`, `"3 min 05 s"`, `"2 h 07 min"`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes_left = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min {rest:02d} s"
    return f"{hours} h {minutes_left:02d} min"
