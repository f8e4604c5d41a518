"""Columns that name whom a row is about: somebody who is on both sides of a split."""

from kerastrain.detection import name_words
from kerastrain.events import finding
from kerastrain.schema import Column, Schema
from kerastrain.statistics import Cells

__all__ = ["find_entities"]

# Whoever is known by one of these words acts more than once, and acts alike.
_NOUNS = {
    "account", "animal", "athlete", "buyer", "client", "consumer", "customer", "device",
    "donor", "driver", "employee", "household", "learner", "machine", "member", "owner",
    "participant", "passenger", "patient", "person", "player", "policyholder", "pupil",
    "seller", "sensor", "session", "speaker", "student", "subject", "subscriber",
    "teacher", "user", "vehicle", "visitor", "worker",
}  # fmt: skip
# What may follow such a word and still name the same; "customer_age" does not.
_SUFFIXES = {"id", "key", "code", "no", "nr", "num", "number", "name", "uuid"}
_IDS = {"id", "uuid", "guid", "email", "phone", "iban", "ssn", "vin"}
_MIN_NAMED = 20
_MIN_VALUES = 50
_MIN_ROWS_PER_VALUE = 2.0
# More rows of each value make an ordinary category, such as the id of a product group
# or an article number; a word for somebody has no such limit.
_MAX_ROWS_PER_ID = 200.0
_MAX_ROWS_PER_CODE = 20.0
_MIN_SHARE = 0.5
# Of the rows that are not in train, by default.
_HELD_OUT = 0.3
_SOUNDS = {"somebody": "somebody", "id": "something", "code": "something"}
_UNUSABLE = ("unsupported", "empty", "constant", "datetime", "boolean")


def find_entities(cells: Cells, schema: Schema) -> None:
    """Warn where most rows of a random test would be about somebody seen in training.

    The share follows from the counts: of n rows about one, those beside a test row are
    all held out with a chance of 0.3 to the power of n - 1.
    """
    if schema.keys:  # the split goes by a column already
        return
    for column in schema.columns:
        kind = _kind(column)
        if kind is not None:
            _tell(cells, column, kind)


def _kind(column: Column) -> str | None:
    """`somebody` or `id` by the name, `code` by the look of the values."""
    stats = column.stats
    is_text = stats.storage == "string" and column.type != "numeric"
    is_known = column.role in ("target", "weight") or column.type in _UNUSABLE
    if is_known or not stats.num_distinct or not (is_text or stats.is_integral):
        return None
    rows_per_value = stats.num_present / stats.num_distinct
    if rows_per_value < _MIN_ROWS_PER_VALUE:
        return None
    words = name_words(column.name)
    if _names_somebody(words) and stats.num_distinct >= _MIN_NAMED:
        return "somebody"
    if stats.num_distinct < _MIN_VALUES or rows_per_value > _MAX_ROWS_PER_ID:
        return None
    if words and words[-1] in _IDS:
        return "id"
    is_code = is_text and rows_per_value <= _MAX_ROWS_PER_CODE
    return "code" if is_code and _look_like_codes(stats.top) else None


def _names_somebody(words: list[str]) -> bool:
    while len(words) > 1 and words[-1] in _SUFFIXES:
        words = words[:-1]
    return bool(words) and words[-1] in _NOUNS


def _look_like_codes(top: list[tuple[str, int]]) -> bool:
    """One word with digits in it, such as "P-10442"."""
    return bool(top) and all(
        any(c.isdigit() for c in text) and " " not in text for text, _ in top
    )


def _tell(cells: Cells, column: Column, kind: str) -> None:
    cell = cells.ids[column.name]
    num_values, num_rows, num_seen = cells.rows(
        f"SELECT count(*), sum(k), sum(k * (1 - pow({_HELD_OUT}, k - 1))) FROM "
        f"(SELECT count(*) AS k FROM cells WHERE {cell} IS NOT NULL GROUP BY {cell})"
    )[0]
    share = float(num_seen) / float(num_rows)
    if share < _MIN_SHARE:
        return
    finding(
        "same_entity",
        f"Column '{column.name}' looks like the name of {_SOUNDS[kind]}: "
        f"{num_values:,} values in {num_rows:,} rows. In a random split about "
        f"{share:.0%} of the test rows have a value that is trained on too, and the "
        "scores flatter a model that is to meet new ones. To keep equal values on one "
        f"side: --group {column.name}",
        columns=[column.name],
        severity="info" if kind == "code" else "warning",
        values=num_values,
        share=share,
    )
