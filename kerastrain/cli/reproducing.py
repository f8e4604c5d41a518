"""The command `reproduce`."""

import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Annotated, Any

import typer
from typer import Argument, Option

from kerastrain.cli.stages import load_stage

__all__ = ["register"]

DIFFERS = 1  # exit code
SHOWN = 8  # differences of a file; the first tell where to look


def register(app: typer.Typer) -> None:
    example = "Example: kerastrain reproduce runs/churn --out runs/churn-again"
    app.command(epilog=example)(reproduce)


def reproduce(
    run: Annotated[str, Argument(help="The folder of a run.")],
    out: Annotated[
        str | None, Option(help="Folder for the new run; by default one under runs/.")
    ] = None,
    force: Annotated[
        bool, Option("--force", help="Train although the data changed.")
    ] = False,
    quiet: Annotated[
        bool, Option("--quiet", "-q", help="No progress, only warnings and the result.")
    ] = False,
) -> None:
    """Train a run again from its folder and tell which numbers differ.

    Compared are all scores, losses, weights (bit for bit), the split and predictions;
    times, memory, dates and paths are not. The exit code is 0 when nothing differs, and
    1 when something does.

    What the configuration of the run names is imported, as `train` does: do this with
    runs of people that you trust.
    """
    from kerastrain.progress import ConsoleProgress, WarningLines
    from kerastrain.store import RunFolder

    RunFolder.open(run)  # what is none is told before TensorFlow is imported
    if not quiet and sys.stderr.isatty():
        print("start", end="\r", file=sys.stderr, flush=True)  # TensorFlow takes 6 s
    stage = load_stage("reproduction")
    with WarningLines() if quiet else ConsoleProgress() as progress:
        found = stage.reproduce(run, out=out, force=force, progress=progress)
    _show(found, run)
    if not found.is_same:
        raise typer.Exit(DIFFERS)


def _show(found: Any, run: str) -> None:
    from kerastrain.cli.show import table

    again = found.run.folder.path
    if found.environment:
        rows = [[d.name, _text(d.recorded), _text(d.now)] for d in found.environment]
        table(rows, ["environment", "recorded", "now"])
        print()
    if found.is_same:
        print(
            f"Nothing differs: {found.num_values:,} values of {run} are the same in "
            f"{again}."
        )
        return
    table(_rows(found.differences), ["file", "value", "recorded", "now", "difference"])
    print(f"\nWhat is not the same in {run} and {again}: {len(found.differences):,}.")


def _rows(differences: Sequence[Any]) -> Iterator[list[str]]:
    """The first of each file, and how many more there are."""
    for file, group in groupby(differences, key=lambda d: d.file):
        of_file = list(group)
        for d in of_file[:SHOWN]:
            size = "" if d.size is None else f"{d.size:.3g}"
            yield [file, d.name, _text(d.recorded), _text(d.now), size]
        if len(of_file) > SHOWN:
            yield [file, f"and {len(of_file) - SHOWN} more", "", "", ""]


def _text(value: Any) -> str:
    """All digits: four of them may look the same."""
    return repr(value) if isinstance(value, float) else str(value)
