"""Everything a user must not miss: rows dropped, columns ignored, choices made.

An event goes to the log, to `events.jsonl` of the run, to the report, and to
whoever listens (the command line). A stage says `note(...)` or `warn(...)`; where
it ends up is the business of the run that records.
"""

import contextlib
import contextvars
import datetime as dt
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from kerastrain.errors import DataError
from kerastrain.secrets import hide_password, hide_passwords
from kerastrain.store import json_text

__all__ = [
    "Event",
    "Recorder",
    "finding",
    "log",
    "note",
    "read_events",
    "recording",
    "refuse_findings",
    "warn",
]

logger = logging.getLogger("kerastrain")
Severity = Literal["info", "warning"]


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Args:
        code: stable name for programs, such as `"column_ignored"`.
        message: one or two sentences for people: what, where, what to do.
        severity: `"info"` for choices, `"warning"` for what may hurt the result.
        details: values behind the message, written as JSON.
    """

    code: str
    message: str
    severity: Severity = "info"
    details: dict[str, Any] = field(default_factory=dict)
    time: str = ""


@dataclass
class Recorder:
    """Collects events in order, appends each to a file and tells a listener.

    Args:
        known: codes and messages that stand in the file already, of a run that goes on
            and looks at its data once more.
    """

    path: Path | None = None
    listen: Callable[[Event], None] | None = None
    events: list[Event] = field(default_factory=list)
    known: set[tuple[str, str]] = field(default_factory=set)

    def add(self, event: Event) -> None:
        self.events.append(event)
        if event.code == "resumed":  # what comes now is new, also if it reads alike
            self.known.clear()
        is_known = (event.code, event.message) in self.known
        if self.path is not None and not is_known:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json_text(asdict(event)) + "\n")
        if self.listen is not None:
            self.listen(event)


_recorder: contextvars.ContextVar[Recorder | None] = contextvars.ContextVar(
    "recorder", default=None
)


@contextlib.contextmanager
def recording(
    path: Path | None = None,
    listen: Callable[[Event], None] | None = None,
    *,
    goes_on: bool = False,
) -> Iterator[Recorder]:
    """Events inside the block go to `path` (JSON lines) and to `listen`.

    Args:
        goes_on: what stands in the file is not written again, but that it goes on.
    """
    recorder = Recorder(path, listen)
    if goes_on and path is not None:
        old = [e for e in read_events(path) if e.code != "resumed"]
        recorder.known = {(event.code, event.message) for event in old}
        _end_line(path)
    token = _recorder.set(recorder)
    try:
        yield recorder
    finally:
        _recorder.reset(token)


def _end_line(path: Path) -> None:
    """Where a full disk cut the last line short, the next one is not to stick to it."""
    if path.exists() and path.read_bytes()[-1:] not in (b"", b"\n"):
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")


def note(code: str, message: str, **details: Any) -> None:
    """Record a choice that was made for the user."""
    _record(code, message, "info", details)


def warn(code: str, message: str, **details: Any) -> None:
    """Record something that may hurt the result."""
    _record(code, message, "warning", details)


def finding(
    code: str,
    message: str,
    *,
    columns: Sequence[str] = (),
    severity: Severity = "warning",
    **details: Any,
) -> None:
    """Record what the quality gate found; a warning stops a strict run.

    Args:
        columns: names of the columns that it is about.
    """
    _record(code, message, severity, {"gate": True, "columns": [*columns], **details})


def refuse_findings(events: Iterable[Event]) -> None:
    """DataError that lists what the quality gate warned of, if it did."""
    found = [e for e in events if e.details.get("gate") and e.severity == "warning"]
    if found:
        listed = " ".join(f"({i}) {e.message}" for i, e in enumerate(found, 1))
        raise DataError(
            f"The quality gate warns {len(found)} time{'s' if len(found) > 1 else ''}, "
            f"and with --strict that stops the run: {listed}"
        )


def _record(
    code: str, message: str, severity: Severity, details: dict[str, Any]
) -> None:
    now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    shown, values = hide_password(message), hide_passwords(details)
    event = Event(code, shown, severity, values, now)
    recorder = _recorder.get()
    if recorder is None or recorder.listen is None:
        log(event)
    if recorder is not None:
        recorder.add(event)


def log(event: Event) -> None:
    """Tell an event to Python's logging, where nobody else listens."""
    level = logging.WARNING if event.severity == "warning" else logging.INFO
    logger.log(level, event.message)


def read_events(path: Path) -> list[Event]:
    """The events of a run; a last line that a kill cut short is left out."""
    events = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            events.append(Event(**json.loads(line)))
    return events
