"""The command `train`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from kerastrain.cli.stages import load_stage

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    example = (
        "Example: kerastrain train mydata.csv --target churn --model mlp "
        "--set model.dropout=0.2 --out runs/churn"
    )
    app.command(epilog=example)(train)


def train(  # noqa: PLR0913, PLR0917  (a command's options)
    data: Annotated[
        list[str] | None,
        Argument(help="Files or globs to train on: CSV, Parquet.", show_default=False),
    ] = None,
    target: Annotated[str | None, Option(help="The column to predict.")] = None,
    task: Annotated[
        str | None,
        Option(help="binary, multiclass or regression; by default as the target is."),
    ] = None,
    model: Annotated[
        str | None, Option(help="A name that `kerastrain models` lists.")
    ] = None,
    epochs: Annotated[int | None, Option(help="At most so many.")] = None,
    batch_size: Annotated[
        int | None, Option(help="Rows per step, over all devices.")
    ] = None,
    out: Annotated[
        str | None, Option(help="Folder for the run; by default one under runs/.")
    ] = None,
    seed: Annotated[
        int | None, Option(help="Of split, weights, order and dropout; 0 by default.")
    ] = None,
    test: Annotated[
        list[str] | None, Option(help="A file with test rows of your own (repeat).")
    ] = None,
    weight: Annotated[str | None, Option(help="A column of row weights.")] = None,
    positive: Annotated[
        str | None, Option(help="Which class of a binary target is the positive one.")
    ] = None,
    column: Annotated[
        list[str] | None,
        Option(metavar="NAME=TYPE", help="What a column is (repeat)."),
    ] = None,
    ignore: Annotated[
        list[str] | None, Option(help="A column to leave out (repeat).")
    ] = None,
    keep: Annotated[
        list[str] | None,
        Option(help="A column to use that would be left out, as an id (repeat)."),
    ] = None,
    max_bad_rows: Annotated[
        float | None,
        Option(help="Share of malformed lines to pass over; 0.001 by default."),
    ] = None,
    memory: Annotated[
        str | None, Option(help="For encoded rows, as 2GB; more goes to disk.")
    ] = None,
    precision: Annotated[
        str | None, Option(help="auto, float32, mixed_bfloat16 or mixed_float16.")
    ] = None,
    config: Annotated[
        Path | None,
        Option(help="A YAML file, or the folder of a run, to take settings from."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="PATH=VALUE",
            help="Any setting of `kerastrain config show`, above all others (repeat).",
        ),
    ] = None,
    quiet: Annotated[
        bool, Option("--quiet", "-q", help="No progress, only warnings and the result.")
    ] = False,
) -> None:
    """Train on a table, evaluate, export, verify and report.

    Column types, task, split, model and schedule are found out; each can be set.
    Settings count in this order: --set, then the other options, then --config.
    """
    from kerastrain.cli.settings import settings, with_target
    from kerastrain.config import parse_config

    named = {
        "data": data,
        "target": target,
        "task": task,
        "model.name": model,
        "fit.epochs": epochs,
        "fit.batch_size": batch_size,
        "out": out,
        "seed": seed,
        "test": test,
        "weight": weight,
        "positive_label": positive,
        "ignore": ignore,
        "keep": keep,
        "max_bad_rows": max_bad_rows,
        "runtime.memory": memory,
        "runtime.precision": precision,
    }
    chosen = settings(config, named, column or (), overrides or ())
    where = str(config) if config else "configuration"
    _run(parse_config(with_target(chosen), where=where), quiet)


def _run(config: Any, quiet: bool) -> None:
    from kerastrain.cli.show import run_summary
    from kerastrain.progress import ConsoleProgress, WarningLines

    if not quiet and sys.stderr.isatty():
        print("start", end="\r", file=sys.stderr, flush=True)  # TensorFlow takes 6 s
    stage = load_stage("run")
    with WarningLines() if quiet else ConsoleProgress() as progress:
        run = stage.train(config, progress=progress)
    run_summary(run)
