"""What mixed precision costs, seen after the first epoch."""

import math
from typing import Any

import keras

from kerastrain.engine import Engine
from kerastrain.engine.precision import Precision, compare_precisions
from kerastrain.events import note, warn
from kerastrain.pipeline import Rows

__all__ = ["PrecisionCheck"]

# Of the spread of the outputs. bfloat16 keeps 8 bits: 0.4 % of a number.
LARGEST_SHARE = 0.05
NUM_ROWS = 1_024


class PrecisionCheck(keras.callbacks.Callback):
    """Compares outputs with those in float32 once, after the first epoch.

    Args:
        rows: rows as the engine takes them; some of them are enough.
        policy: the precision of the run; nothing is done in float32.
    """

    def __init__(self, engine: Engine, rows: Rows, policy: Precision):
        super().__init__()
        self.engine = engine
        self.rows = rows.at_most(NUM_ROWS)
        self.policy = policy

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch > 0 or self.policy == "float32" or not len(self.rows):
            return
        off = compare_precisions(self.engine, self.rows)
        details = {
            "precision": self.policy,
            "mean": off.mean,
            "maximum": off.maximum,
            "spread": off.spread,
            "num_rows": len(self.rows),
        }
        message = (
            f"After the first epoch, outputs in {self.policy} differ from float32 by "
            f"{off.mean:.2%} of their spread on average, {off.maximum:.2%} at most."
        )
        if math.isfinite(off.mean) and off.mean <= LARGEST_SHARE:
            note("precision_checked", message, **details)
            return
        advice = " Train in float32 (--set runtime.precision=float32)."
        warn("precision_checked", message + advice, **details)
