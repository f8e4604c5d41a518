"""The quality gate: what is wrong with a table, told before anything is trained.

What it finds goes out as events (`kerastrain.events.finding`). Those with the severity
"warning" stop a strict run; the others are for the eye.
"""

from kerastrain.quality.conflicts import find_conflicts
from kerastrain.quality.entities import find_entities
from kerastrain.quality.leaks import find_leaks
from kerastrain.quality.sample import Sample
from kerastrain.quality.values import (
    find_far_rows,
    find_imbalance,
    find_near_constants,
)
from kerastrain.schema import Schema
from kerastrain.statistics import Cells

__all__ = ["check_table"]


def check_table(cells: Cells, schema: Schema) -> None:
    """Look at the table as a whole, with its target if it has one."""
    find_near_constants(schema)
    find_far_rows(cells, schema)
    find_entities(cells, schema)
    if schema.target is not None and schema.features:
        find_imbalance(cells, schema)
        find_conflicts(cells, schema)
        find_leaks(Sample.of(cells, schema))
