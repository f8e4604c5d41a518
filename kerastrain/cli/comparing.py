"""The command `compare`."""

import json
from typing import Annotated, Any

import typer
from typer import Argument, Option

from kerastrain.cli.runs import BadRows, Query, SourceSettings, SplitPart, Where
from kerastrain.cli.stages import load_stage

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    example = "Example: kerastrain compare runs/linear runs/auto"
    app.command(epilog=example)(compare)


def compare(  # noqa: PLR0913, PLR0917  (a command's options)
    run_a: Annotated[str, Argument(help="The folder of a run.")],
    run_b: Annotated[str, Argument(help="The folder of the other.")],
    data: Annotated[
        list[str] | None,
        Argument(help="Labelled rows for both; by default the test rows they share."),
    ] = None,
    where: Where = None,
    query: Query = None,
    part: SplitPart = None,
    max_bad_rows: BadRows = 0.001,
    overrides: SourceSettings = None,
    as_json: Annotated[
        bool, Option("--json", help="For programs: JSON instead of a table.")
    ] = False,
) -> None:
    """Tell whether one run is better than another, or only luckier.

    Both are scored on the same rows, which are drawn again and again with replacement
    (paired bootstrap).
    """
    from kerastrain.cli.settings import of_new_data
    from kerastrain.events import recording
    from kerastrain.progress import ConsoleProgress

    chosen = of_new_data(where, query, part, overrides or ())
    if data:
        load_stage("serving")  # here, so that TensorFlow is silent while it loads
    stage = load_stage("comparing")
    with ConsoleProgress() as progress, recording(listen=progress.on_event):
        found = stage.compare(
            run_a, run_b, data or None, max_bad_rows=max_bad_rows, **chosen
        )
    if as_json:
        print(json.dumps(found.as_dict(), indent=1))
    else:
        _show(found)


def _show(found: Any) -> None:
    from kerastrain.cli.show import table

    print(f"A  {found.run_a}\nB  {found.run_b}\n")
    rows = [(name, score["a"], score["b"]) for name, score in found.scores.items()]
    table(rows, ["metric", "A", "B"])
    print(f"\n{found.num_rows:,} {found.rows}\n\n{found.sentence}")
