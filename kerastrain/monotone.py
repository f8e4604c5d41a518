"""Columns that a prediction rises or falls with, by their names."""

from collections.abc import Mapping

from kerastrain.errors import ConfigError, listing, suggest
from kerastrain.estimator import Setting

__all__ = ["directions"]


def directions(
    monotone: Mapping[str | int, int] | None,
    setting: Setting,
    *,
    keeps_absolute: bool = False,
) -> list[int]:
    """-1, 0 or 1 for each column of numbers, then 0 for each of codes.

    Args:
        monotone: by the name of the column, or of a part of it such as `date.year`; or
            by its place in the matrix of numbers.
        keeps_absolute: the library keeps the order under the absolute error too.

    Raises:
        ConfigError: no such column, it is not one number, no such direction, a loss
            whose leaves break it, or more than two classes.
    """
    wanted = {
        _place(column, setting): _checked(column, way)
        for column, way in (monotone or {}).items()
    }
    if any(wanted.values()):
        _check_kept(setting, keeps_absolute)
    num_numbers = len(setting.statistics.median)
    whole = range(num_numbers + len(setting.vocabulary_sizes))
    return [wanted.get(column, 0) for column in whole]


def _checked(column: str | int, way: int) -> int:
    if way not in (-1, 0, 1):
        raise ConfigError(
            f"monotone: column {column!r} has {way!r}; it takes 1 (rising), -1 "
            "(falling) or 0."
        )
    return int(way)


def _check_kept(setting: Setting, keeps_absolute: bool) -> None:
    if setting.num_outputs > 1:
        raise ConfigError(
            "monotone: the scores of more than two classes cannot all rise with a "
            "column; leave it out, or make it a question of two classes."
        )
    is_absolute = setting.task == "regression" and setting.loss == "mae"
    if is_absolute and not keeps_absolute:
        raise ConfigError(
            "monotone: under the absolute error this library sets leaves anew, which "
            "breaks the order; take objective.loss mse or huber, or catboost."
        )


def _place(column: str | int, setting: Setting) -> int:
    """Where a column stands in the matrix of numbers."""
    parts = setting.columns.get(str(column))
    if parts is not None:
        if len(parts) != 1:
            raise ConfigError(f"monotone: {_what_became(column, parts)}")
        column = parts[0]
    names = [part for parts in setting.columns.values() for part in parts]
    if column in names:
        return names.index(column)
    num_numbers = len(setting.statistics.median)
    if str(column).isdecimal() and int(column) < num_numbers:
        return int(column)
    known = [*setting.columns, *(name for name in names if name not in setting.columns)]
    near = suggest(str(column), known)
    numbers = listing(names) or f"0 to {num_numbers - 1}"
    raise ConfigError(
        f"monotone: there is no column {column!r}. {near}Columns of numbers: {numbers}."
    )


def _what_became(column: str | int, parts: tuple[str, ...]) -> str:
    if not parts:
        return (
            f"column {column!r} is no number but codes, which have no order; leave it "
            f"out, or declare it a number: --column {column}=numeric."
        )
    return (
        f"column {column!r} became {len(parts)} numbers, so which of them? Name one: "
        f"{listing(parts)}."
    )
