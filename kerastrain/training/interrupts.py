"""Ctrl-C and SIGTERM while training goes on: seen between two calls, not amid one."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from kerastrain.events import note

__all__ = ["Interrupts", "noticing"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Which signal came, if any."""

    def __init__(self) -> None:
        self.number: int | None = None

    @property
    def name(self) -> str:
        return "Ctrl-C" if self.number == signal.SIGINT else "SIGTERM"


@contextlib.contextmanager
def noticing() -> Iterator[Interrupts]:
    """Inside the block the first signal is only noted; a second one acts as before.

    Signals are the main thread's business: in another one nothing is changed.
    """
    interrupts = Interrupts()
    before: dict[Any, Any] = {}

    def notice(number: int, frame: FrameType | None) -> None:
        if interrupts.number is None:
            interrupts.number = number
            note(
                "stopping",
                f"{interrupts.name}: training stops after this call, with its state "
                "written. Once more to stop at once.",
            )
            return
        _put_back(before)
        signal.raise_signal(number)

    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            before[number] = signal.signal(number, notice)
    try:
        yield interrupts
    finally:
        _put_back(before)


def _put_back(handlers: dict[Any, Any]) -> None:
    for number, handler in handlers.items():
        # None: it was set by code outside of Python, which cannot be put back.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
