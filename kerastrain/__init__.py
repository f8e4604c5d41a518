"""A table in, one verified Keras model from raw columns to the decision out.

    run = kerastrain.train("mydata.csv", target="churn")
    run.predict(frame)
    kerastrain.load(run.folder)

Importing this package loads nothing heavy; each name is imported when it is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerastrain.comparing import compare
    from kerastrain.config import RunConfig
    from kerastrain.errors import (
        ConfigError,
        DataError,
        DivergenceError,
        KerastrainError,
        MissingExtra,
        ParityError,
        RunError,
        SchemaError,
        SourceError,
        UnknownName,
    )
    from kerastrain.guests import fit
    from kerastrain.reproduction import reproduce
    from kerastrain.run import train
    from kerastrain.schema import Schema
    from kerastrain.serving import load

__all__ = [
    "ConfigError",
    "DataError",
    "DivergenceError",
    "KerastrainError",
    "MissingExtra",
    "ParityError",
    "RunConfig",
    "RunError",
    "Schema",
    "SchemaError",
    "SourceError",
    "UnknownName",
    "compare",
    "fit",
    "load",
    "reproduce",
    "train",
]

__version__ = "0.1.0"

_HOMES = {
    "RunConfig": "config",
    "Schema": "schema",
    "compare": "comparing",
    "fit": "guests",
    "load": "serving",
    "reproduce": "reproduction",
    "train": "run",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'kerastrain' has no attribute '{name}'")
    home = _HOMES.get(name, "errors")
    return getattr(importlib.import_module(f"kerastrain.{home}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
