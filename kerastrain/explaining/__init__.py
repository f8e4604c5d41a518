"""Why a model says what it says: of any learner, through its model from raw columns."""

from kerastrain.explaining.rows import explain_rows
from kerastrain.explaining.sample import HeldOut, read_background, write_background
from kerastrain.explaining.study import explain_run

__all__ = [
    "HeldOut",
    "explain_rows",
    "explain_run",
    "read_background",
    "write_background",
]
