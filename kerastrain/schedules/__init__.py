"""How the learning rate moves over training.

A schedule is a function of the highest rate, the number of optimiser steps and the
metric to watch. Reading this table may not cost an import of TensorFlow.
"""

from typing import NamedTuple

from kerastrain.registry import Registry

__all__ = ["SCHEDULES", "Monitor", "Steps"]

SCHEDULES = Registry(
    "schedule",
    {
        "cosine": "kerastrain.schedules.curves:cosine",
        "cosine_restarts": "kerastrain.schedules.curves:cosine_restarts",
        "one_cycle": "kerastrain.schedules.curves:one_cycle",
        "wsd": "kerastrain.schedules.curves:wsd",
        "linear": "kerastrain.schedules.curves:linear",
        "polynomial": "kerastrain.schedules.curves:polynomial",
        "exponential": "kerastrain.schedules.curves:exponential",
        "inverse_sqrt": "kerastrain.schedules.curves:inverse_sqrt",
        "step": "kerastrain.schedules.curves:step",
        "coslog4": "kerastrain.schedules.curves:coslog4",
        "constant": "kerastrain.schedules.curves:constant",
        "plateau": "kerastrain.schedules.plateau:plateau",
    },
)


class Steps(NamedTuple):
    """Optimiser steps of the whole training, and of an epoch."""

    total: int
    per_epoch: int


class Monitor(NamedTuple):
    """The validation metric to watch, and whether `"min"` or `"max"` is better."""

    name: str
    mode: str
