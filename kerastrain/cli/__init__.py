"""The command line. Only this folder prints results, and only `main` maps errors.

Commands import their stages inside, so `--help`, a listing and a refused
configuration cost no TensorFlow.
"""

import contextlib
import errno
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Annotated

import typer

from kerastrain import __version__
from kerastrain.cli import (
    comparing,
    configs,
    explaining,
    reproducing,
    runs,
    tables,
    training,
)
from kerastrain.errors import Interrupted, KerastrainError
from kerastrain.secrets import hide_password

__all__ = ["main"]

INTERRUPTED = 130  # what shells expect after Ctrl-C
# What the machine refuses, and the user can mend; any other OSError is a bug of ours.
REFUSED = {
    errno.EACCES: "may not be written or read",
    errno.EPERM: "may not be written or read",
    errno.EROFS: "lies on a disk that is read-only",
    errno.ENOSPC: "does not fit on the disk",
    errno.EDQUOT: "does not fit in the quota of the disk",
    errno.ENAMETOOLONG: "has too long a name",
    errno.ENOTDIR: "lies in something that is no folder",
    errno.EISDIR: "is a folder",
}

app = typer.Typer(
    name="kerastrain",
    help="A table in, one verified Keras model from raw columns to the decision out.",
    epilog="Example: kerastrain train mydata.csv --target churn",
    add_completion=True,
    pretty_exceptions_enable=False,  # a traceback is a bug of ours: show it as it is
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(__version__)
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show it."
        ),
    ] = False,
) -> None:
    """Options before the command."""


training.register(app)
runs.register(app)
explaining.register(app)
comparing.register(app)
reproducing.register(app)
tables.register(app)
configs.register(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code.

    0 is success, 1 a run that does not repeat (`reproduce`), 2 a mistake in the input,
    3 an export that differs from the model, 4 a training that diverged, 130 Ctrl-C,
    143 SIGTERM; anything else is a bug and a traceback.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    interrupts: list[int] = []
    try:
        with _noting_interrupts(interrupts):
            code = app(
                given or ["--help"], prog_name="kerastrain", standalone_mode=False
            )
    except Interrupted as error:
        return _fail(str(error), error.exit_code)
    except (Exception, KeyboardInterrupt) as error:
        if interrupts or isinstance(error, KeyboardInterrupt):
            code = INTERRUPTED
        else:
            return _told(error)
    return _fail("stopped.", code) if code == INTERRUPTED else int(code or 0)


@contextlib.contextmanager
def _noting_interrupts(interrupts: list[int]) -> Iterator[None]:
    """Remember Ctrl-C: C++ code that it reaches makes another exception of it."""

    def note(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # someone else's business: a test runner, or a shell's background job
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _told(error: Exception) -> int:
    """One line and an exit code for what the user can mend; else `error` again."""
    if isinstance(error, KerastrainError):
        return _fail(str(error), error.exit_code)
    if isinstance(error, typer.exceptions.TyperException):
        return _fail(error.format_message().rstrip(".") + f".{_hint(error)}", 2)
    if isinstance(error, OSError) and error.errno in REFUSED:
        reason = str(error.strerror).rstrip(".")
        place = f"{error.filename} {REFUSED[error.errno]}: " if error.filename else ""
        return _fail(f"{place}{reason}.", 2)
    raise error


def _fail(message: str, code: int) -> int:
    prefix = "" if code >= INTERRUPTED else "error: "
    print(f"{prefix}{hide_password(message)}", file=sys.stderr)
    return code


def _hint(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f" See {context.command_path} --help." if context else ""
