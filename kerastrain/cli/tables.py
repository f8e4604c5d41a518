"""Commands that list what there is: one for each table."""

import importlib
import inspect
from collections.abc import Callable
from typing import Annotated

import typer
from typer import Argument

from kerastrain.registry import Registry

__all__ = ["TABLES", "register"]

TABLES = {
    "models": "kerastrain.models:MODELS",
    "estimators": "kerastrain.estimators:ESTIMATORS",
    "sources": "kerastrain.sources:SOURCES",
    "columns": "kerastrain.columns:COLUMNS",
    "schedules": "kerastrain.schedules:SCHEDULES",
    "exports": "kerastrain.exports:EXPORTS",
    "trackers": "kerastrain.trackers:TRACKERS",
}


def register(app: typer.Typer) -> None:
    for command, place in TABLES.items():
        text = (
            f"List the {command} there are, with their options and defaults.\n\n"
            "With a name: tell what each of its options does."
        )
        example = f"Example: kerastrain {command}"
        app.command(command, help=text, epilog=example)(_listing(place))


def _listing(place: str) -> Callable[..., None]:
    def command(
        name: Annotated[str | None, Argument(help="Tell about this one.")] = None,
    ) -> None:
        module, _, attribute = place.partition(":")
        table: Registry = getattr(importlib.import_module(module), attribute)
        if name is None:
            _show_all(table)
        else:
            _show_one(table, name)

    return command


def _show_all(table: Registry) -> None:
    width = max(map(len, table))
    for name in table:
        print(f"{name:<{width}}  {table.describe(name)}")
        print(f"{'':<{width}}  options: {table.signature(name)}")


def _show_one(table: Registry, name: str) -> None:
    from kerastrain.cli.show import table as show

    print(f"{table.describe(name)}\n")
    texts = table.option_docs(name)
    rows = [
        (option, _default(parameter), texts.get(option, ""))
        for option, parameter in table.options(name).items()
    ]
    if rows:
        show(rows, ["option", "default", ""])
    else:
        print("No options.")


def _default(parameter: inspect.Parameter) -> str:
    is_needed = parameter.default is parameter.empty
    return "needed" if is_needed else repr(parameter.default)
