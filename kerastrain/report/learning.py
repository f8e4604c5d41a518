"""Learning curves: losses, validation metrics and the learning rate over the epochs."""

import math
from typing import Any

from kerastrain.evaluation import METRICS
from kerastrain.report.figures import OTHER, OURS, QUIET, Figure, figure, line
from kerastrain.report.files import RunFiles

__all__ = ["learning_figures"]


def learning_figures(files: RunFiles) -> list[tuple[str, str, Figure]]:
    """`(title, one sentence, figure)`; empty without a history."""
    if not files.history:
        return []
    drawn = [_losses(files), _metric(files), _learning_rate(files)]
    return [item for item in drawn if item is not None]


def _losses(files: RunFiles) -> tuple[str, str, Figure] | None:
    series = [("loss", "train", QUIET), ("val_loss", "validation", OURS)]
    return _chart(files, "Loss", "What training lowers.", series)


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
    return _chart(files, title, f"{title} on rows that are not trained on.", series)


def _learning_rate(files: RunFiles) -> tuple[str, str, Figure] | None:
    series = [("learning_rate", "", OTHER)]
    chart = _chart(files, "Learning rate", "At the end of each epoch.", series)
    if chart is not None:
        chart[2]["layout"]["yaxis"] |= {
            "exponentformat": "power",
            "rangemode": "tozero",
        }
    return chart


def _chart(
    files: RunFiles, title: str, said: str, series: list[tuple[str, str, str]]
) -> tuple[str, str, Figure] | None:
    epochs = [row.get("epoch", index) for index, row in enumerate(files.history)]
    traces = []
    for column, name, color in series:
        values = [_json(row.get(column, math.nan)) for row in files.history]
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


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _mark(epoch: float) -> dict[str, Any]:
    """A dotted line from bottom to top."""
    style = {"color": QUIET, "width": 1.5, "dash": "dot"}
    ends = {"x0": epoch, "x1": epoch, "y0": 0, "y1": 1}
    return {"type": "line", "yref": "paper", "line": style} | ends
