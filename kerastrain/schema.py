"""What the columns of a table are: names, types, roles, statistics. JSON both ways."""

import keyword
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from kerastrain.errors import RunError, SchemaError, listing, suggest
from kerastrain.reserved import is_reserved

__all__ = [
    "QUANTILES",
    "Column",
    "ColumnStats",
    "Schema",
    "Target",
    "check_present",
    "input_names",
]

Task = Literal["binary", "multiclass", "regression"]
Storage = Literal["string", "integer", "float", "boolean", "timestamp", "other"]

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ColumnStats(_Record):
    """What one pass over the source counted in a column.

    Counts are rows. `num_distinct` leaves missing values out. The `num_as_*` counts
    tell how many of the present values of a string column would read as that.
    Numbers describe numeric columns; dates are described in seconds since 1970.

    Args:
        num_infinite: numbers beyond what float32 holds; they count as missing too in
            a column of numbers.
        marked: present texts such as "NA" or "?" that often stand for a missing
            value, with their counts. They are not in the `num_as_*` counts.
        not_numbers: other texts that read as no number, most frequent first, 11 at
            most; counted only where some text reads as a number.
        quantiles: at the shares in `QUANTILES`, of a sample of the rows.
        top: most frequent values, 10 at most; empty for a column of many numbers.
    """

    storage: Storage
    num_rows: int
    num_missing: int = 0
    num_distinct: int = 0
    num_infinite: int = 0
    num_as_number: int = 0
    num_as_formatted_number: int = 0
    num_as_date: dict[str, int] = {}
    is_integral: bool = False
    mean_chars: float = 0.0
    mean_words: float = 0.0
    min: float | None = None
    max: float | None = None
    mean: float | None = None
    std: float | None = None
    quantiles: list[float] = []
    top: list[tuple[str, int]] = []
    marked: list[tuple[str, int]] = []
    not_numbers: list[tuple[str, int]] = []

    @property
    def num_present(self) -> int:
        return self.num_rows - self.num_missing

    @property
    def num_meaningful(self) -> int:
        """Present values without those that only mark a gap."""
        return self.num_present - sum(count for _, count in self.marked)


class Column(_Record):
    """One column of the source.

    Args:
        name: as the source spells it.
        type: a name in `COLUMNS`, or why it is ignored (`identifier`, `constant`,
            `empty`, `text`, `unsupported`).
        role: what the run does with it.
        input: name of the model's input for it (Keras allows fewer characters).
        dtype: what that input takes; `float32` with NaN for missing, or `string`
            with `""` for missing.
        format: how a string is to be read: a date order (`ymd`, `dmy`, `mdy`), or
            `formatted` for numbers such as "1,234", "12%", "$5".
        missing_values: texts in this column that stand for a missing value.
        reason: why an ignored column is ignored.
    """

    name: str
    type: str
    role: Literal["feature", "target", "weight", "ignored"] = "feature"
    input: str = ""
    dtype: Literal["float32", "string"] = "float32"
    format: str | None = None
    missing_values: list[str] = []
    reason: str | None = None
    stats: ColumnStats


class Target(_Record):
    """What is predicted. `labels` are the classes in the order of the probabilities;
    the last one of a binary task is the positive class. Empty for a regression."""

    name: str
    task: Task
    labels: list[str] = []


class Schema(_Record):
    """Columns in the order of the source, the target and the number of rows.

    Args:
        keys: columns that the split goes by, under `group`, `time` or `part`, as the
            ingest reads them: texts, or a time as a number. A column may be a feature
            beside.
    """

    columns: list[Column]
    num_rows: int
    target: Target | None = None
    keys: dict[str, Column] = {}

    @property
    def features(self) -> list[Column]:
        return [column for column in self.columns if column.role == "feature"]

    @property
    def weight(self) -> Column | None:
        found = [column for column in self.columns if column.role == "weight"]
        return found[0] if found else None

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise no_such_column(name, [column.name for column in self.columns])

    def without(self, name: str) -> "Schema":
        """The same without a column."""
        kept = [column for column in self.columns if column.name != name]
        return self.model_copy(update={"columns": kept})

    def dumps(self) -> str:
        return self.model_dump_json(indent=1)

    @classmethod
    def load(cls, path: Path) -> "Schema":
        """Read `schema.json`; RunError when it is missing or damaged."""
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"Cannot read the schema {path}: {error}") from error


def no_such_column(name: str, names: Iterable[str], *, where: str = "") -> SchemaError:
    """The error for a column name that the table lacks, with the nearest one."""
    names = list(names)
    shown = ", ".join(f"'{n}'" for n in names[:12])
    shown += f" (and {len(names) - 12} more)" if len(names) > 12 else ""
    place = f" in {where}" if where else ""
    return SchemaError(
        f"No column '{name}'{place}. {suggest(name, names)}Columns: {shown}."
    )


def check_present(wanted: Iterable[str], names: Iterable[str], *, where: str) -> None:
    """SchemaError for the columns in `wanted` that are not among `names`."""
    names = list(names)
    missing = [name for name in wanted if name not in names]
    if len(missing) == 1:
        raise no_such_column(missing[0], names, where=where)
    if missing:
        shown = listing((f"'{name}'" for name in missing), limit=5)
        raise SchemaError(
            f"{where} lacks {len(missing)} columns that the model needs: {shown}."
        )


def input_names(names: Iterable[str]) -> dict[str, str]:
    """Column name to model input name: letters, digits and underscores, unique.

    Keras refuses "/" in the name of an input, and a TensorFlow signature drops
    spaces and accents, so both get one plain name.

    >>> input_names(["age", "Größe (cm)", "a/b", "a b"])
    {'age': 'age', 'Größe (cm)': 'Grosse_cm', 'a/b': 'a_b', 'a b': 'a_b_2'}
    """
    taken: set[str] = set()
    mapping = {}
    for name in names:
        plain = _plain(name)
        candidate, count = plain, 1
        # In lower case: signatures are read by people, so there are no near twins.
        while candidate.lower() in taken:
            count += 1
            candidate = f"{plain}_{count}"
        taken.add(candidate.lower())
        mapping[name] = candidate
    return mapping


def _plain(name: str) -> str:
    text = unicodedata.normalize("NFKD", name.replace("ß", "ss"))
    text = text.encode("ascii", "ignore").decode()
    text = re.sub(r"\W+", "_", text).strip("_") or "column"
    # A signature is called with keyword arguments.
    if keyword.iskeyword(text) or is_reserved(text):
        return f"{text}_"
    return text if text[0].isalpha() else f"column_{text}"
