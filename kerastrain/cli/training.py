"""The command `train`."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from kerastrain.cli.splitting import (
    Folds,
    Gap,
    Group,
    Refit,
    Repeats,
    SplitColumn,
    Test,
    TimeColumn,
    Validation,
)
from kerastrain.cli.stages import load_stage

__all__ = ["register"]


# The setting that each option stands for.
_SETTINGS = {
    "data": "data",
    "target": "target",
    "task": "task",
    "model": "model.name",
    "quality": "model.quality",
    "max_latency": "model.max_latency",
    "max_size": "model.max_size",
    "epochs": "fit.epochs",
    "batch_size": "fit.batch_size",
    "find_lr": "fit.find_rate",
    "out": "out",
    "seed": "seed",
    "where": "where",
    "query": "source.query",
    "part": "source.split",
    "validation": "validation",
    "test": "test",
    "group": "split.group",
    "time_column": "split.time",
    "gap": "split.gap",
    "split_column": "split.column",
    "folds": "split.folds",
    "repeats": "split.repeats",
    "refit": "split.refit",
    "imbalance": "imbalance.method",
    "strict": "strict",
    "weight": "weight",
    "positive": "positive_label",
    "ignore": "ignore",
    "keep": "keep",
    "max_bad_rows": "max_bad_rows",
    "memory": "runtime.memory",
    "keep_arrays": "runtime.keep_arrays",
    "precision": "runtime.precision",
    "time_limit": "fit.time_limit",
    "checkpoint_every": "checkpoint.every",
    "remat": "fit.remat",
    "deterministic": "runtime.deterministic",
    "profile_steps": "watch.profile_steps",
    "watch_norms": "watch.norms",
}


def register(app: typer.Typer) -> None:
    example = (
        "Example: kerastrain train mydata.csv --target churn --model mlp "
        "--set model.dropout=0.2 --out runs/churn"
    )
    app.command(epilog=example)(train)


def train(  # noqa: PLR0913, PLR0917  (a command's options)
    data: Annotated[
        list[str] | None,
        Argument(
            help="Files, globs, a folder or an address; see `kerastrain sources`.",
            show_default=False,
        ),
    ] = None,
    target: Annotated[str | None, Option(help="The column to predict.")] = None,
    task: Annotated[
        str | None,
        Option(help="binary, multiclass or regression; by default as the target is."),
    ] = None,
    model: Annotated[
        str | None,
        Option(help="auto, or a name that `kerastrain models` or `estimators` lists."),
    ] = None,
    quality: Annotated[
        str | None,
        Option(help="Of auto: fast, good (the default) or best.", show_default=False),
    ] = None,
    max_latency: Annotated[
        float | None,
        Option(
            help="Of auto: milliseconds that one row may take.",
            rich_help_panel="Going on, time and memory",
        ),
    ] = None,
    max_size: Annotated[
        str | None,
        Option(
            help="Of auto: what the weights may take, as 20MB.",
            rich_help_panel="Going on, time and memory",
        ),
    ] = None,
    epochs: Annotated[int | None, Option(help="At most so many.")] = None,
    batch_size: Annotated[
        str | None,
        Option(help="Rows per step, over all devices; auto measures the fastest."),
    ] = None,
    find_lr: Annotated[
        bool | None,
        Option(
            "--find-lr",
            help="Measure the learning rate before training.",
            rich_help_panel="Training",
        ),
    ] = None,
    out: Annotated[
        str | None, Option(help="Folder for the run; by default one under runs/.")
    ] = None,
    seed: Annotated[
        int | None,
        Option(
            help="Of split, weights, order and dropout; 0 by default.",
            rich_help_panel="Training",
        ),
    ] = None,
    where: Annotated[
        str | None,
        Option(
            help='A condition in SQL for rows, as "year < 2020".',
            rich_help_panel="Data",
        ),
    ] = None,
    columns: Annotated[
        str | None,
        Option(help="The columns to read, divided by commas.", rich_help_panel="Data"),
    ] = None,
    query: Annotated[
        str | None,
        Option(
            help="What to read from a data base, in its SQL.", rich_help_panel="Data"
        ),
    ] = None,
    part: Annotated[
        str | None,
        Option(
            "--split",
            help="Part of a published data set, as train[:80%].",
            rich_help_panel="Data",
        ),
    ] = None,
    validation: Validation = None,
    test: Test = None,
    group: Group = None,
    time_column: TimeColumn = None,
    gap: Gap = None,
    split_column: SplitColumn = None,
    folds: Folds = None,
    repeats: Repeats = None,
    refit: Refit = None,
    imbalance: Annotated[
        str | None,
        Option(
            help="auto, none, class_weights, focal, oversample, undersample or smote.",
            rich_help_panel="Training",
        ),
    ] = None,
    strict: Annotated[
        bool | None,
        Option(
            "--strict",
            help="Findings of the quality gate stop the run.",
            rich_help_panel="Training",
        ),
    ] = None,
    weight: Annotated[
        str | None, Option(help="A column of row weights.", rich_help_panel="Data")
    ] = None,
    positive: Annotated[
        str | None,
        Option(
            help="Which class of a binary target is the positive one.",
            rich_help_panel="Data",
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        Option(
            metavar="NAME=TYPE",
            help="What a column is (repeat).",
            rich_help_panel="Data",
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        Option(help="A column to leave out (repeat).", rich_help_panel="Data"),
    ] = None,
    keep: Annotated[
        list[str] | None,
        Option(
            help="A column to use that would be left out, as an id (repeat).",
            rich_help_panel="Data",
        ),
    ] = None,
    max_bad_rows: Annotated[
        float | None,
        Option(
            help="Share of malformed lines to pass over; 0.001 by default.",
            rich_help_panel="Data",
        ),
    ] = None,
    memory: Annotated[
        str | None,
        Option(
            help="For the whole run, as 2GB; what is more goes to disk.",
            rich_help_panel="Going on, time and memory",
        ),
    ] = None,
    keep_arrays: Annotated[
        bool | None,
        Option(
            "--keep-arrays",
            help="Leave the encoded rows in the run folder.",
            rich_help_panel="Going on, time and memory",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        Option(
            help="auto, float32, mixed_bfloat16 or mixed_float16.",
            rich_help_panel="Training",
        ),
    ] = None,
    deterministic: Annotated[
        bool | None,
        Option(
            "--deterministic/--no-deterministic",
            help="The same bits in every run; on unless switched off.",
            show_default=False,
            rich_help_panel="Training",
        ),
    ] = None,
    profile_steps: Annotated[
        str | None,
        Option(
            help="Steps to profile for TensorBoard, as 100:120.",
            rich_help_panel="Watching",
        ),
    ] = None,
    watch_norms: Annotated[
        bool | None,
        Option(
            "--watch-norms",
            help="Norms of gradient and weights of each layer, to TensorBoard.",
            rich_help_panel="Watching",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        Option(
            help="A YAML file, or the folder of a run, to take settings from.",
            rich_help_panel="Settings",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="PATH=VALUE",
            help="Any setting of `kerastrain config show`, above all others (repeat).",
            rich_help_panel="Settings",
        ),
    ] = None,
    resume: Annotated[
        str | None,
        Option(
            metavar="RUN",
            help="Go on in the folder of a run that was stopped, and nothing else.",
            rich_help_panel="Going on, time and memory",
        ),
    ] = None,
    time_limit: Annotated[
        str | None,
        Option(
            help="So that the run ends in that time, as 10m; the best epoch is kept.",
            rich_help_panel="Going on, time and memory",
        ),
    ] = None,
    checkpoint_every: Annotated[
        str | None,
        Option(
            help="Steps (500) or a time (30s) between states to go on from.",
            rich_help_panel="Going on, time and memory",
        ),
    ] = None,
    remat: Annotated[
        bool | None,
        Option(
            "--remat",
            help="Compute activations twice instead of keeping them.",
            rich_help_panel="Training",
        ),
    ] = None,
    quiet: Annotated[
        bool,
        Option(
            "--quiet",
            "-q",
            help="No progress, only warnings and the result.",
            rich_help_panel="Watching",
        ),
    ] = False,
) -> None:
    """Train on a table, evaluate, export, verify and report.

    Column types, task, split, model and schedule are found out; each can be set.
    Settings count in this order: --set, then the other options, then --config.
    """
    given = locals()
    from kerastrain.cli.settings import settings, with_target
    from kerastrain.config import parse_config

    named: dict[str, Any] = {path: given[name] for name, path in _SETTINGS.items()}
    named["select"] = [n.strip() for n in (columns or "").split(",") if n.strip()]
    if resume is not None:
        _refuse_beside_resume(named, config, column, overrides)
        from kerastrain.resumption import request_of

        request_of(resume)  # what cannot go on is told before TensorFlow is imported
        _run(None, quiet, resume)
        return
    chosen = settings(config, named, column or (), overrides or ())
    where = str(config) if config else "configuration"
    _run(parse_config(with_target(chosen), where=where), quiet)


def _refuse_beside_resume(named: dict[str, Any], *others: Any) -> None:
    from kerastrain.errors import ConfigError

    given = [name for name, value in named.items() if value not in (None, [])]
    if given or any(others):
        raise ConfigError(
            "Beside --resume no other setting counts: a run goes on as it was begun. "
            f"Leave {', '.join(given) or '--config, --column and --set'} out."
        )


def _run(config: Any, quiet: bool, resume: str | None = None) -> None:
    from kerastrain.cli.show import run_summary
    from kerastrain.progress import ConsoleProgress, WarningLines

    if not quiet and sys.stderr.isatty():
        print("start", end="\r", file=sys.stderr, flush=True)  # TensorFlow takes 6 s
    asked_s = time.monotonic()
    stage = load_stage("run")
    with WarningLines() if quiet else ConsoleProgress() as progress:
        progress.asked_s = asked_s
        run = stage.train(config, progress=progress, resume=resume)
    run_summary(run)
