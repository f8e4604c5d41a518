"""The command `explain`."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from kerastrain.cli.runs import (
    DataArgument,
    Query,
    RunArgument,
    SourceSettings,
    SplitPart,
    Trust,
    Where,
    events_shown,
    load_run,
)
from kerastrain.errors import ConfigError

__all__ = ["register"]

SHOWN_ROWS = 5


def register(app: typer.Typer) -> None:
    example = "kerastrain explain runs/churn new.csv -o why.csv --id customer"
    app.command(epilog=f"Example: {example}")(explain)


def explain(  # noqa: PLR0913, PLR0917  (a command's options)
    run: RunArgument,
    data: DataArgument,
    out: Annotated[
        Path | None, Option("--out", "-o", help="A .csv or .parquet file, all columns.")
    ] = None,
    id_column: Annotated[
        str | None, Option("--id", help="A column to repeat beside the contributions.")
    ] = None,
    label: Annotated[
        str | None, Option("--class", help="The class to explain, by default its own.")
    ] = None,
    top: Annotated[int, Option(min=1, help="Columns of each row to print.")] = 5,
    rows: Annotated[int, Option(min=1, help="Explain this many rows at most.")] = 1_000,
    samples: Annotated[
        int, Option(min=1, max=100, help="Rows to compare with: more are more exact.")
    ] = 32,
    where: Where = None,
    query: Query = None,
    part: SplitPart = None,
    overrides: SourceSettings = None,
    trust: Trust = None,
    force: Annotated[bool, Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Tell what each column adds to what a run says about given rows.

    These are Shapley values of the raw columns. Those of a row add up to its output (a
    probability, or the predicted value) less the mean output of rows that the run kept.
    """
    from kerastrain.cli.settings import of_new_data

    _check_out(out, force)
    chosen = of_new_data(where, query, part, overrides or ())
    with events_shown():
        frame = load_run(run, trust).explain(
            data,
            label=label,
            samples=samples,
            max_rows=rows,
            id_column=id_column,
            **chosen,
        )
        if out is not None:
            _write(frame, out)
    for place, (_, row) in enumerate(frame.head(SHOWN_ROWS).iterrows()):
        _show(row, place if id_column is None else row[id_column], top)
    rest = len(frame) - SHOWN_ROWS
    if out is not None:
        print(f"{len(frame):,} rows explained in {out}")
    elif rest > 0:
        print(f"and {rest:,} more rows: -o why.csv writes all.")


def _check_out(out: Path | None, force: bool) -> None:
    if out is None:
        return
    if out.suffix.lower() not in (".csv", ".parquet"):
        raise ConfigError(f"--out {out}: the name must end in .csv or .parquet.")
    if out.exists() and not force:
        raise ConfigError(
            f"{out} exists. Name another file, or overwrite with --force."
        )


def _write(frame: Any, out: Path) -> None:
    import pyarrow as pa

    from kerastrain.store import atomic
    from kerastrain.tablefile import table_writer

    with atomic(out) as temporary, table_writer(temporary) as write:
        write(pa.Table.from_pandas(frame, preserve_index=False))


def _show(row: Any, name: Any, top: int) -> None:
    """One row: its answer, and what moved it most."""
    from kerastrain.cli.show import table

    start = "contribution_"
    added = {k.removeprefix(start): row[k] for k in row.index if k.startswith(start)}
    largest = sorted(added, key=lambda column: -abs(added[column]))[:top]
    what = f"probability of {row['explained']}" if "explained" in row else "predicted"
    print(f"row {name}: {what} {row['output']:.4g}, on average {row['base']:.4g}")
    lines = [
        [f"  {column}", _cell(row[f"cell_{column}"]), f"{added[column]:+.4g}"]
        for column in largest
    ]
    rest = sum(added.values()) - sum(added[column] for column in largest)
    if len(added) > top:
        lines.append([f"  {len(added) - top} others", "", f"{rest:+.4g}"])
    table(lines, ["  column", "value", "adds"])
    print()


def _cell(value: Any) -> str:
    if value == "" or (isinstance(value, float) and math.isnan(value)):
        return "missing"
    return value if isinstance(value, str) else f"{value:.6g}"
