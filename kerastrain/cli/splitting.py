"""Options of `train` about which rows train, choose and test."""

from typing import Annotated

from typer import Option

__all__ = [
    "Folds",
    "Gap",
    "Group",
    "Refit",
    "Repeats",
    "SplitColumn",
    "Test",
    "TimeColumn",
    "Validation",
]

Validation = Annotated[
    list[str] | None,
    Option(
        help="A file with validation rows of your own (repeat).",
        rich_help_panel="Split",
    ),
]
Test = Annotated[
    list[str] | None,
    Option(help="A file with test rows of your own (repeat).", rich_help_panel="Split"),
]
Group = Annotated[
    str | None,
    Option(
        help="A column whose equal values stay on one side.",
        rich_help_panel="Split",
    ),
]
TimeColumn = Annotated[
    str | None,
    Option(help="A column in whose order rows are split.", rich_help_panel="Split"),
]
Gap = Annotated[
    str | None,
    Option(
        help="Left out between the parts of a time split, as 7d.",
        rich_help_panel="Split",
    ),
]
SplitColumn = Annotated[
    str | None,
    Option(help="A column that names the part of each row.", rich_help_panel="Split"),
]
Folds = Annotated[
    int | None,
    Option(
        help="Folds of a cross-validation; 1 is a single split.",
        rich_help_panel="Split",
    ),
]
Repeats = Annotated[
    int | None,
    Option(help="How often the folds are drawn anew.", rich_help_panel="Split"),
]
Refit = Annotated[
    bool | None,
    Option(
        "--refit/--no-refit",
        help="After the folds train one model on all rows.",
        show_default=False,
        rich_help_panel="Split",
    ),
]
