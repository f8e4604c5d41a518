"""What every part of a configuration is made of."""

import importlib
import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from kerastrain.registry import Registry

__all__ = [
    "Auto",
    "Bytes",
    "Count",
    "Every",
    "Named",
    "Part",
    "Seconds",
    "Span",
    "as_bytes",
    "given",
    "named",
]

Auto = Literal["auto"]
Count = Annotated[int, Field(ge=1)]


class Part(BaseModel):
    """Base of every part: frozen, and an unknown key is an error."""

    # A label or a column may be named 1, and YAML reads that as a number.
    model_config = ConfigDict(
        frozen=True, extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False
    )


def given(part: Part) -> dict[str, Any]:
    """What the user set of a part, as JSON types: reading it gives an equal part, of
    which the same is set."""
    dumped = part.model_dump(mode="json")
    values = {
        name: getattr(part, name) for name in dumped if name in part.model_fields_set
    }
    return {
        name: given(value) if isinstance(value, Part) else dumped[name]
        for name, value in values.items()
    }


class Named(Part):
    """A name in a table, with options beside it: `{name: mlp, dropout: 0.2}`.

    The plain name is allowed too. Options are the keyword-only arguments of what the
    table holds under that name.
    """

    model_config = ConfigDict(extra="allow")
    table: ClassVar[str]
    path: ClassVar[str]

    name: str

    @model_validator(mode="before")
    @classmethod
    def _from_plain(cls, value: Any) -> Any:
        return named(value, "name")

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    @classmethod
    def registry(cls) -> Registry:
        """The table; a listing imports neither TensorFlow nor an entry."""
        module, _, attribute = cls.table.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def checked(self) -> Self:
        """With all options, as the types that the entry asks for, else ConfigError."""
        options = self.registry().check(self.name, self.options, path=self.path)
        values = {"name": self.name} | options
        kind: Any = type(self)
        return kind.model_construct(_fields_set=self.model_fields_set, **values)


def named(value: Any, key: str) -> Any:
    return {key: value} if isinstance(value, str) else value


_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def as_bytes(value: Any) -> Any:
    """`"2GB"` to 2_000_000_000; GiB and the like count in powers of 1024."""
    if not isinstance(value, str) or value == "auto":
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", value, re.I)
    if not match:
        raise ValueError("expected a size such as 500MB or 2GiB")
    number, unit, is_binary = match.groups()
    scale = _UNITS[unit.upper()]
    if is_binary:
        scale = 1024 ** list(_UNITS).index(unit.upper())
    return int(float(number) * scale)


Bytes = Annotated[
    int,
    Field(ge=0),
    BeforeValidator(as_bytes),
    WithJsonSchema({"type": ["integer", "string"], "examples": ["500MB", "2GiB"]}),
]


# --- times ------------------------------------------------------------------------

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)\s*")


def _seconds(value: Any) -> Any:
    """`"90s"`, `"10m"`, `"1h30m"` to seconds; a number is seconds already."""
    if not isinstance(value, str) or value == "auto":
        return value
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
        return float(value)
    parts = _TIME.findall(value)
    if not parts or _TIME.sub("", value).strip():
        raise ValueError(f"expected a time such as 90s, 10m or 1h30m, got '{value}'")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


Seconds = Annotated[
    float,
    Field(gt=0),
    BeforeValidator(_seconds),
    WithJsonSchema({"type": ["number", "string"], "examples": ["90s", "10m"]}),
]


def _every(value: Any) -> Any:
    """A number of steps as it is; `"60s"` as `"60s"`, checked."""
    if isinstance(value, str) and re.fullmatch(r"\s*\d+\s*(steps?)?\s*", value):
        value = int(value.replace("steps", "").replace("step", ""))
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    try:
        if isinstance(value, str):
            return f"{_seconds(value):g}s"
    except ValueError:
        pass
    raise ValueError(f"expected steps, as 500, or a time, as 60s or 10m; got {value}")


# Steps as a number, or seconds as text ("60s").
Every = Annotated[
    int | str,
    BeforeValidator(_every),
    WithJsonSchema({"type": ["integer", "string"], "examples": [500, "60s"]}),
]


def _span(value: Any) -> Any:
    """Epochs as a number; `"500 steps"` as it is, checked."""
    if isinstance(value, str) and re.fullmatch(r"\s*[1-9]\d*\s*(epochs?)?\s*", value):
        value = int(re.sub(r"\D", "", value))
    if isinstance(value, str) and re.fullmatch(r"\s*[1-9]\d*\s*steps?\s*", value):
        return f"{int(re.sub(r'[^0-9]', '', value))} steps"
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ValueError("expected epochs, as 10, or steps, as '500 steps'")


# Epochs as a number, or steps as text ("500 steps").
Span = Annotated[
    int | str,
    BeforeValidator(_span),
    WithJsonSchema({"type": ["integer", "string"], "examples": [10, "500 steps"]}),
]
