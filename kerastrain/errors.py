"""Every error of ours, one tree. Each is also an error Python knows.

KerastrainError             exit code 2: the user's input; one line, no traceback
├── ConfigError             ValueError    a setting is wrong
│   └── UnknownName         KeyError      a name that no table has
├── SourceError             ValueError    data cannot be read
├── SchemaError             ValueError    data are read but do not fit the schema
├── DataError               ValueError    data fit but cannot be learnt from
├── RunError                ValueError    a run folder is missing or damaged
├── StorageError            RuntimeError  the disk is full, or cannot be written
├── MissingExtra            ImportError   an optional package is not installed
├── OutOfTime               RuntimeError  a time limit leaves too little to learn in
├── ParityError             RuntimeError  exit code 3: an export differs
├── DivergenceError         RuntimeError  exit code 4: training ran into NaN
└── Interrupted             RuntimeError  exit code 130 or 143: it was stopped
"""

import difflib
from collections.abc import Iterable

__all__ = [
    "ConfigError",
    "DataError",
    "DivergenceError",
    "Interrupted",
    "KerastrainError",
    "MissingExtra",
    "OutOfTime",
    "ParityError",
    "RunError",
    "SchemaError",
    "SourceError",
    "StorageError",
    "UnknownName",
    "listing",
    "suggest",
]


class KerastrainError(Exception):
    """Base of every error that kerastrain raises on purpose."""

    exit_code = 2


class ConfigError(KerastrainError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""


class UnknownName(ConfigError, KeyError):
    """A name that is in no table."""

    __str__ = Exception.__str__  # KeyError would show the message in quotes


class SourceError(KerastrainError, ValueError):
    """Data cannot be found or read."""


class SchemaError(KerastrainError, ValueError):
    """The data do not fit the schema."""


class DataError(KerastrainError, ValueError):
    """The data fit the schema, but nothing can be learnt from them."""


class RunError(KerastrainError, ValueError):
    """A run folder is missing, unfinished or damaged."""


class StorageError(KerastrainError, RuntimeError):
    """The disk is full or read-only, or fails."""


class MissingExtra(KerastrainError, ImportError):
    """An optional package is not installed."""


class OutOfTime(KerastrainError, RuntimeError):
    """What a time limit leaves is too little to learn in."""


class ParityError(KerastrainError, RuntimeError):
    """An exported model does not give the numbers of the trained one."""

    exit_code = 3


class DivergenceError(KerastrainError, RuntimeError):
    """Training produced NaN or infinite values."""

    exit_code = 4


class Interrupted(KerastrainError, RuntimeError):
    """Training was stopped by a signal after its state was written.

    No KeyboardInterrupt: typer swallows those, with what they say.

    Args:
        signal_number: 2 for Ctrl-C, 15 for SIGTERM.
    """

    def __init__(self, message: str, signal_number: int = 2):
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number


def suggest(name: str, choices: Iterable[str]) -> str:
    """`"Did you mean 'mlp'? "`, or nothing when no choice is near `name`."""
    by_lower = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f"Did you mean '{by_lower[near[0]]}'? " if near else ""


def listing(names: Iterable[str], *, limit: int = 20) -> str:
    """Names joined by commas; beyond `limit` only their number is told."""
    names = list(names)
    more = f" (and {len(names) - limit} more)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def unknown(kind: str, name: str, choices: Iterable[str]) -> UnknownName:
    """The error for a name that is not among `choices`, with the nearest one."""
    choices = list(choices)
    return UnknownName(
        f"Unknown {kind} '{name}'. {suggest(name, choices)}"
        f"Available: {listing(choices)}."
    )
