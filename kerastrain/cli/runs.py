"""Commands on data and on finished runs: profile, predict, evaluate, report, export."""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from kerastrain.cli.stages import load_stage
from kerastrain.errors import ConfigError

__all__ = ["events_shown", "load_run", "register"]

RunArgument = Annotated[str, Argument(help="The folder of a run.")]
DataArgument = Annotated[
    list[str],
    Argument(help="Files, globs, a folder or an address; see `kerastrain sources`."),
]
BadRows = Annotated[float, Option(help="Share of malformed lines to pass over.")]
Where = Annotated[
    str | None, Option(help='A condition in SQL for rows, as "year < 2020".')
]
Query = Annotated[str | None, Option(help="What to read from a data base, in its SQL.")]
SplitPart = Annotated[
    str | None,
    Option("--split", help="Part of a published data set, as train[:80%]."),
]
SourceSettings = Annotated[
    list[str] | None,
    Option(
        "--set",
        metavar="PATH=VALUE",
        help="A setting of the source of the data, as source.sheet=May (repeat).",
    ),
]


Trust = Annotated[
    list[str] | None,
    Option(
        metavar="TYPE",
        help="A type that the run's own estimator is of, as my_pkg.MyClass (repeat).",
    ),
]


def register(app: typer.Typer) -> None:
    examples: dict[Callable[..., None], str] = {
        profile: "kerastrain profile mydata.csv --target churn",
        predict: "kerastrain predict runs/churn new.csv -o out.csv --id customer",
        evaluate: "kerastrain evaluate runs/churn labelled.csv",
        report: "kerastrain report runs/churn",
        export: "kerastrain export runs/churn --format saved_model --set batch_size=1",
    }
    for command, example in examples.items():
        app.command(epilog=f"Example: {example}")(command)


def profile(  # noqa: PLR0913, PLR0917  (a command's options)
    data: DataArgument,
    target: Annotated[str | None, Option(help="The column to predict.")] = None,
    where: Where = None,
    columns: Annotated[
        str | None, Option(help="The columns to read, divided by commas.")
    ] = None,
    query: Query = None,
    part: SplitPart = None,
    column: Annotated[
        list[str] | None,
        Option(metavar="NAME=TYPE", help="What a column is (repeat)."),
    ] = None,
    max_bad_rows: BadRows = 0.001,
    overrides: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="PATH=VALUE",
            help="A setting of the source or a column, as source.delimiter=; (repeat).",
        ),
    ] = None,
    out: Annotated[
        Path | None, Option("--out", "-o", help="Write the schema there, as JSON.")
    ] = None,
) -> None:
    """Tell what each column is, what it holds and what is wrong with it."""
    from kerastrain import profile as stage
    from kerastrain.cli.settings import settings
    from kerastrain.cli.show import table
    from kerastrain.config import parse_config
    from kerastrain.source import open_source

    chosen = [name.strip() for name in (columns or "").split(",") if name.strip()]
    if chosen and target is not None and target not in chosen:
        chosen.append(target)
    named = {"target": target or "", "source.query": query, "source.split": part}
    config = parse_config(settings(None, named, column or (), overrides or ()))
    with events_shown():
        source = open_source(
            data, config.source, max_bad_rows=max_bad_rows, where=where, select=chosen
        )
        schema = stage.profile(source, target=target, columns=config.columns)
    rows = stage.summary_rows(schema)
    if rows:
        table([list(row.values()) for row in rows], list(rows[0]))
    print(f"\n{schema.num_rows:,} rows, {len(schema.columns)} columns")
    if out is not None:
        from kerastrain.store import write_text

        write_text(out, schema.dumps() + "\n")


def predict(  # noqa: PLR0913, PLR0917  (a command's options)
    run: RunArgument,
    data: DataArgument,
    out: Annotated[Path, Option("--out", "-o", help="A .csv or .parquet file.")],
    id_column: Annotated[
        str | None, Option("--id", help="A column to repeat beside the predictions.")
    ] = None,
    where: Where = None,
    query: Query = None,
    part: SplitPart = None,
    max_bad_rows: BadRows = 0.0,
    overrides: SourceSettings = None,
    trust: Trust = None,
    force: Annotated[bool, Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Predict rows of any number, in their order, into a file.

    Its columns are `prediction` and, for classes, `probability_<label>`.
    """
    from kerastrain.cli.settings import of_new_data

    if out.suffix.lower() not in (".csv", ".parquet"):
        raise ConfigError(f"--out {out}: the name must end in .csv or .parquet.")
    if out.exists() and not force:
        raise ConfigError(
            f"{out} exists. Name another file, or overwrite with --force."
        )
    chosen = of_new_data(where, query, part, overrides or ())
    with events_shown():
        num_rows = load_run(run, trust).predict_file(
            data, out, id_column=id_column, max_bad_rows=max_bad_rows, **chosen
        )
    print(f"{num_rows:,} predictions in {out}")


def evaluate(  # noqa: PLR0913, PLR0917  (a command's options)
    run: RunArgument,
    data: DataArgument,
    where: Where = None,
    query: Query = None,
    part: SplitPart = None,
    max_bad_rows: BadRows = 0.001,
    overrides: SourceSettings = None,
    trust: Trust = None,
    as_json: Annotated[
        bool, Option("--json", help="For programs: JSON instead of a table.")
    ] = False,
) -> None:
    """Measure a run on rows whose target is known, with 95 % intervals."""
    from kerastrain.cli.settings import of_new_data
    from kerastrain.cli.show import metrics_table

    chosen = of_new_data(where, query, part, overrides or ())
    with events_shown():
        scores = load_run(run, trust).evaluate(
            data, max_bad_rows=max_bad_rows, **chosen
        )
    if as_json:
        print(json.dumps(scores, indent=1))
    else:
        metrics_table(scores)


def report(run: RunArgument) -> None:
    """Write the report of a run again: one HTML page."""
    from kerastrain.store import RunFolder

    folder = RunFolder.open(run)
    print(load_stage("report").write_report(folder))


def export(
    run: RunArgument,
    name: Annotated[
        str, Option("--format", help="A name that `kerastrain exports` lists.")
    ] = "saved_model",
    options: Annotated[
        list[str] | None,
        Option("--set", metavar="OPTION=VALUE", help="An option of it (repeat)."),
    ] = None,
) -> None:
    """Export the model of a run and verify the export against it."""
    from kerastrain.config.file import with_overrides
    from kerastrain.exports import EXPORTS

    chosen = EXPORTS.check(name, with_overrides({}, options or ()), path="exports")
    with events_shown():
        path = load_run(run).export(name, **chosen)
    print(path)


@contextlib.contextmanager
def events_shown() -> Iterator[None]:
    """Notes and warnings of the stages inside go to stderr as they come."""
    from kerastrain.events import recording
    from kerastrain.progress import ConsoleProgress

    with ConsoleProgress() as progress, recording(listen=progress.on_event):
        yield


def load_run(run: str, trusted: Sequence[str] | None = None) -> Any:
    """A run; what is no run folder is told before TensorFlow is imported."""
    from kerastrain.store import RunFolder

    RunFolder.open(run)
    load = load_stage("serving").load
    return load(run, trusted=trusted) if trusted else load(run)
