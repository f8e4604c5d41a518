"""What `train` is given in Python: addresses, tables, functions, callbacks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from kerastrain.errors import ConfigError
from kerastrain.models import LEARNERS

__all__ = [
    "addresses",
    "check_callbacks",
    "is_address",
    "refuse_beside",
    "refuse_with_resume",
    "with_lent",
]


def refuse_beside(data: Any, **arguments: Any) -> None:
    """ConfigError for arguments that would have no effect."""
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise ConfigError(
            f"Beside a configuration ({type(data).__name__}), {', '.join(given)} would "
            "have no effect: set them in it."
        )


def check_callbacks(callbacks: Sequence[Any]) -> None:
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise ConfigError(
                f"callbacks: expected Keras callbacks, got {type(callback).__name__}."
            )


def with_lent(settings: dict[str, Any]) -> dict[str, Any]:
    """With a network that is given as a function, alone or with options, by a name."""
    model = settings.get("model")
    network = model.get("name") if isinstance(model, dict) else model
    if not callable(network):
        return settings
    options = model if isinstance(model, dict) else {}
    return settings | {"model": options | {"name": LEARNERS.lend(network)}}


def refuse_with_resume(**arguments: Any) -> None:
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise ConfigError(
            f"Beside resume, {', '.join(given)} would have no effect: a run goes on "
            "with the settings that it was begun with."
        )


def is_address(value: Any) -> bool:
    is_list = isinstance(value, list | tuple)
    parts = value if is_list else [value]
    return value is None or all(isinstance(part, str | Path) for part in parts)


def addresses(value: Any) -> str | list[str]:
    return str(value) if isinstance(value, str | Path) else [str(v) for v in value]
