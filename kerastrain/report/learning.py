"""Learning curves: losses, validation metrics and the learning rate over the epochs."""

import math
from collections.abc import Sequence
from typing import Any

from kerastrain.evaluation import METRICS
from kerastrain.report.figures import OTHER, OURS, QUIET, Figure, figure, line
from kerastrain.report.files import RunFiles

__all__ = ["epoch_chart", "learning_figures"]

Series = Sequence[tuple[str, str, str]]  # column, name, colour
Epochs = Sequence[dict[str, float]]


def learning_figures(files: RunFiles) -> list[tuple[str, str, Figure]]:
    """`(title, one sentence, figure)`; empty without a history."""
    if not files.history:
        return []
    drawn = [_losses(files), _metric(files), _learning_rate(files), _finder(files)]
    return [item for item in drawn if item is not None]


def _losses(files: RunFiles) -> tuple[str, str, Figure] | None:
    series = [("loss", "train", QUIET), ("val_loss", "validation", OURS)]
    return epoch_chart(files, "Loss", "What training lowers.", series)


def _metric(files: RunFiles) -> tuple[str, str, Figure] | None:
    """The validation curve of the primary metric, or of another that tells more."""
    table = METRICS.get(files.task, {})
    found = [name for name in table if f"val_{name}" in files.history[0]]
    if not found:
        return None
    # Log loss and RMSE look like the loss, which has a chart of its own.
    telling = [name for name in found if name not in ("log_loss", "rmse")] or found
    name = files.metrics.get("primary")
    name = name if name in telling else telling[0]
    title = table[name].title
    series = [(name, "train", QUIET), (f"val_{name}", "validation", OURS)]
    return epoch_chart(
        files, title, f"{title} on rows that are not trained on.", series
    )


def _learning_rate(files: RunFiles) -> tuple[str, str, Figure] | None:
    series = [("learning_rate", "", OTHER)]
    chart = epoch_chart(files, "Learning rate", "At the end of each epoch.", series)
    if chart is not None:
        chart[2]["layout"]["yaxis"] |= {
            "exponentformat": "power",
            "rangemode": "tozero",
        }
    return chart


def _finder(files: RunFiles) -> tuple[str, str, Figure] | None:
    """The loss at growing rates, measured before training."""
    curve = files.metrics.get("rate_curve") or {}
    if not curve.get("points"):
        return None
    rates, losses = (list(part) for part in zip(*curve["points"], strict=True))
    hover = "rate %{x:.2~g}<br>loss %{y:.4~g}<extra></extra>"
    trace = line(rates, losses, "", hovertemplate=hover)
    axis = {"type": "log", "exponentformat": "power", "dtick": 1}
    made = figure([trace], "Learning rate", "Loss, smoothed", xaxis=axis)
    said = "A few steps at growing rates, before training."
    if curve.get("suggested"):
        made["layout"]["shapes"] = [_mark(curve["suggested"])]
        said += f" Dotted: {curve['suggested']:.2g}, a tenth of where it is least."
    return "Learning rate finder", said, made


def epoch_chart(
    files: RunFiles, title: str, said: str, series: Series
) -> tuple[str, str, Figure] | None:
    """Columns of the history over the epochs; None where they are not there."""
    if "fold" in files.history[0]:
        return _fold_chart(files, title, said, series)
    epochs = [row.get("epoch", index) for index, row in enumerate(files.history)]
    traces = []
    for column, name, color in series:
        values = _values(files.history, column)
        if any(value is not None for value in values):
            few = {"mode": "lines+markers"} if len(values) < 15 else {}
            hover = "epoch %{x}<br>%{y:.5~g}<extra></extra>"
            traces.append(line(epochs, values, name, color, hovertemplate=hover, **few))
    if not traces:
        return None
    made = figure(traces, "Epoch", "", showlegend=len(traces) > 1)
    best = files.best_epoch
    if best is not None and files.monitor != "loss":
        made["layout"]["shapes"] = [_mark(epochs[best])]
        if title == "Loss":
            said += f" Dotted: epoch {epochs[best]:g}, the best, which was kept."
    return title, said, made


def _values(rows: Epochs, column: str) -> list[float | None]:
    values = [row.get(column, math.nan) for row in rows]
    return [value if math.isfinite(value) else None for value in values]


def _mark(at: float) -> dict[str, Any]:
    """A dotted line from bottom to top."""
    style = {"color": QUIET, "width": 1.5, "dash": "dot"}
    ends = {"x0": at, "x1": at, "y0": 0, "y1": 1}
    return {"type": "line", "yref": "paper", "line": style} | ends


# --- folds ------------------------------------------------------------------------


def _fold_chart(
    files: RunFiles, title: str, said: str, series: Series
) -> tuple[str, str, Figure] | None:
    """A thin line for each fold and a dashed one for the refit, which is fold 0."""
    folds: dict[int, list[dict[str, float]]] = {}
    for row in files.history:
        if math.isfinite(row["fold"]):
            folds.setdefault(int(row["fold"]), []).append(row)
    traces = []
    for column, name, color in series:
        traces += _fold_lines(folds, column, name, color)
    if not traces:
        return None
    watched = series[-1][0]
    if watched.startswith("val_"):
        traces += _best_epochs(files, folds, watched)
        said += " A line is a fold, its dot the best epoch, which was kept."
    if any(trace.get("line", {}).get("dash") == "dash" for trace in traces):
        said += " Dashed: trained again on all rows."
    is_named = any(trace["showlegend"] for trace in traces)
    return title, said, figure(traces, "Epoch", "", showlegend=is_named)


def _fold_lines(
    folds: dict[int, list[dict[str, float]]], column: str, name: str, color: str
) -> list[Figure]:
    """Traces of one column; they share an entry in the legend."""
    traces: list[Figure] = []
    for fold, rows in folds.items():
        values = _values(rows, column)
        # All rows are train rows of the refit: what its validation rows say is no test.
        is_seen = not fold and column.startswith("val_")
        if is_seen or all(value is None for value in values):
            continue
        where, style = f"fold {fold}", {"width": 1.2, "dash": "solid"}
        if not fold:
            where, style = "all rows", {"width": 1.8, "dash": "dash"}
        hover = f"{where}, epoch %{{x}}<br>{name} %{{y:.5~g}}<extra></extra>"
        epochs = [row.get("epoch", index) for index, row in enumerate(rows, start=1)]
        few = {"mode": "lines+markers", "marker": {"size": 4}} if len(rows) < 3 else {}
        traces.append(
            line(
                epochs, values, name, color, line=style, hovertemplate=hover,
                opacity=0.8, legendgroup=name,
                showlegend=bool(name) and not traces, **few,
            )
        )  # fmt: skip
    return traces


def _best_epochs(
    files: RunFiles, folds: dict[int, list[dict[str, float]]], column: str
) -> list[Figure]:
    """One trace with a dot on the curve of each fold."""
    found = []
    for record in files.folds:
        for row in folds.get(int(record.get("fold", -1)), []):
            value = row.get(column, math.nan)
            if row.get("epoch") == record.get("best_epoch") and math.isfinite(value):
                found.append((record["fold"], row["epoch"], value))
    if not found:
        return []
    numbers, x, y = (list(part) for part in zip(*found, strict=True))
    return [
        {
            "type": "scatter", "mode": "markers", "x": x, "y": y, "name": "",
            "marker": {"color": OURS, "size": 8}, "customdata": numbers,
            "hovertemplate": "fold %{customdata}, epoch %{x}<br>%{y:.5~g}"
            "<extra></extra>", "showlegend": False,
        }
    ]  # fmt: skip
