"""How results look on a terminal, and in a file that they are piped to."""

import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["metrics_table", "run_summary", "table"]

PIPED_WIDTH = 160  # characters; without a terminal nothing tells how wide a line may be


def table(rows: Iterable[Sequence[Any]], header: Sequence[str]) -> None:
    """Print rows under a header; numbers stand to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = [list(row) for row in rows]
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, name in enumerate(header):
        values = [row[place] for row in rows]
        is_number = all(isinstance(v, int | float) or v is None for v in values)
        justify: Any = "right" if is_number else "left"
        shown.add_column(Text(name, style="bold"), justify=justify, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(_cell(value)) for value in row))
    width = None if sys.stdout.isatty() else PIPED_WIDTH
    Console(width=width, highlight=False).print(shown)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        from kerastrain.progress import number_text  # loads rich

        return number_text(value)
    return f"{value:,}" if type(value) is int else str(value)


def metrics_table(
    scores: Mapping[str, Mapping[str, float]],
    baselines: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Each metric with its spread over folds and interval, beside the baselines."""
    others = dict(baselines or {})
    has_spread = any(score.get("spread") is not None for score in scores.values())
    rows = []
    for name, score in scores.items():
        beside = [values.get(name) for values in others.values()]
        spread = [_spread(score)] if has_spread else []
        rows.append([name, score.get("value"), *spread, _interval(score), *beside])
    spread = ["spread"] if has_spread else []
    header = ["metric", "test" if others else "value", *spread, "95 % interval"]
    table(rows, [*header, *others])


def _spread(score: Mapping[str, float | None]) -> str:
    spread = score.get("spread")
    # Its third digit means nothing: it comes of a handful of folds.
    return "" if spread is None else f"± {_cell(float(f'{spread:.2g}'))}"


def _interval(score: Mapping[str, float | None]) -> str:
    """Nothing where a metric is undefined, as AUC on rows of one class."""
    low, high = score.get("low"), score.get("high")
    return "" if low is None or high is None else f"{_cell(low)} to {_cell(high)}"


def run_summary(run: Any) -> None:
    """What a person wants to know after a training, and what to do next."""
    from kerastrain.events import read_events

    folder = run.folder
    sentence = run.metrics.get("verdict", {}).get("sentence")
    if sentence:
        print(f"\n{sentence}\n")
    if run.metrics.get("test"):
        metrics_table(run.metrics["test"], run.metrics.get("baselines"))
    else:
        print("No test rows, so nothing tells how good the model is on new data.")
    _folds(run.metrics)
    _leaderboard(run.metrics)
    events = read_events(folder.events)
    count = sum(event.severity == "warning" for event in events)
    if count:
        print(f"\n{count} {'warning' if count == 1 else 'warnings'}, see the report.")
    print(f"\nreport       {folder.report}")
    in_parts = folder.model_parts.is_dir()
    print(f"model        {folder.model_parts if in_parts else folder.model}")
    if folder.exports.is_dir():
        for path in sorted(folder.exports.iterdir()):
            print(f"{path.stem:<12} {path}")
    place = shlex.quote(str(folder.path))
    print(f"\nNext: {_command()} predict {place} NEW.csv -o predictions.csv")


def _folds(metrics: Mapping[str, Any]) -> None:
    """What came of a cross-validation; nothing for a single split."""
    if "folds" not in metrics:
        return
    from kerastrain.report.folds import folds_summary  # loads scikit-learn

    print(f"\n{folds_summary(metrics)}")
    validated = metrics.get("cross_validation")
    if validated:
        rows = [
            [name, cell["value"], _spread(cell)] for name, cell in validated.items()
        ]
        print()
        table(rows, ["validation rows of the folds", "mean", "spread"])


def _leaderboard(metrics: Mapping[str, Any]) -> None:
    """The models that were tried; nothing where there was one alone."""
    board = metrics.get("leaderboard")
    if not board or not board["entries"]:
        return
    columns = {
        "model": f"model, by {board['metric']}", "weight": "weight",
        "validation": "validation", "test": "test", "folds": "folds", "fit_s": "fit s",
        "predict_ms": "ms per 1,000", "size_mb": "MB", "status": "left out",
    }  # fmt: skip
    entries = [
        entry | {"status": "" if entry["status"] == "fitted" else entry["status"]}
        for entry in board["entries"]
    ]
    if not any(entry["status"] for entry in entries):
        del columns["status"]
    print()
    table([[e[key] for key in columns] for e in entries], [*columns.values()])


def _command() -> str:
    """How this shell starts us: the script where it is on the path, else Python."""
    script = Path(sys.executable).with_name("kerastrain")
    if shutil.which("kerastrain") == str(script):
        return "kerastrain"
    here = Path(sys.executable)
    if here.is_relative_to(Path.cwd()):
        here = here.relative_to(Path.cwd())
    return f"{shlex.quote(str(here))} -m kerastrain"
