"""How fast training went, and what the run took of the machine over its time."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from kerastrain.report.figures import OTHER, OURS, Figure, figure, label, line
from kerastrain.report.files import RunFiles
from kerastrain.report.learning import epoch_chart

__all__ = ["resource_figures"]

Drawn = tuple[str, str, Figure]
Row = dict[str, Any]
MAX_POINTS = 500
LEAST_POINTS = 3
# Share of the width below which the name of a stage does not fit over its band.
LEAST_NAMED = 0.07


def resource_figures(files: RunFiles) -> list[Drawn]:
    """`(title, one sentence, figure)`; empty for a run that was not watched."""
    drawn = [_speed(files), _waiting(files)]
    rows = files.resources
    if len(rows) >= LEAST_POINTS:
        drawn += [_memory(rows), _processor(rows), _gpu(rows)]
    return [item for item in drawn if item is not None]


def _speed(files: RunFiles) -> Drawn | None:
    said = "Of training alone, without validation."
    return _by_epoch(files, "Rows per second", said, "rows_per_s", OURS)


def _waiting(files: RunFiles) -> Drawn | None:
    said = "Share of the training time. Above 10 % faster input would pay."
    drawn = _by_epoch(files, "Waiting for input", said, "input_wait", OTHER)
    if drawn is not None:
        drawn[2]["layout"]["yaxis"] |= {"tickformat": ".0%", "hoverformat": ".1%"}
    return drawn


def _by_epoch(
    files: RunFiles, title: str, said: str, column: str, color: str
) -> Drawn | None:
    if not files.history:
        return None
    drawn = epoch_chart(files, title, said, [(column, "", color)])
    if drawn is not None:
        drawn[2]["layout"].pop("shapes", None)  # which epoch is best is no matter here
        drawn[2]["layout"]["yaxis"] |= {"rangemode": "tozero"}
    return drawn


def _memory(rows: Sequence[Row]) -> Drawn:
    peak = max(row["resident_bytes"] for row in rows)
    values = _binned(rows, "resident_bytes", max, scale=1e-9)
    said = f"Resident memory of the process, sampled; {peak / 1e9:.2g} GB at the most."
    return "Memory", said, _over_time(rows, values, "GB", OURS, "%{y:.2f} GB")


def _processor(rows: Sequence[Row]) -> Drawn:
    values = _binned(rows, "cpu_percent", _mean, scale=1.0)
    said = "Of the process; a core that is busy all the time is 100 %."
    return "Processor", said, _over_time(rows, values, "%", OTHER, "%{y:.0f} %")


def _gpu(rows: Sequence[Row]) -> Drawn | None:
    if all(math.isnan(row["gpu_percent"]) for row in rows):
        return None
    values = _binned(rows, "gpu_percent", _mean, scale=1.0)
    said = "Mean use of the GPUs."
    return "GPU", said, _over_time(rows, values, "%", OTHER, "%{y:.0f} %")


def _binned(
    rows: Sequence[Row], column: str, by: Any, *, scale: float
) -> list[tuple[float, float]]:
    """At most `MAX_POINTS` points `(seconds, value)`; each stands for a few rows."""
    size = -(-len(rows) // MAX_POINTS)
    points = []
    for first in range(0, len(rows), size):
        few = [row for row in rows[first : first + size] if math.isfinite(row[column])]
        if few:
            points.append((few[-1]["seconds"], scale * by(row[column] for row in few)))
    return points


def _mean(values: Any) -> float:
    found = list(values)
    return sum(found) / len(found)


def _over_time(
    rows: Sequence[Row],
    points: list[tuple[float, float]],
    unit: str,
    color: str,
    hover: str,
) -> Figure:
    """A curve over the seconds of the run, with a band for every other stage."""
    in_minutes = rows[-1]["seconds"] > 600
    scale = 1 / 60 if in_minutes else 1.0
    x, y = [scale * seconds for seconds, _ in points], [value for _, value in points]
    hover = f"%{{x:.1f}} {'min' if in_minutes else 's'}<br>{hover}<extra></extra>"
    traces = [line(x, y, "", color, hovertemplate=hover)]
    made = figure(traces, "Minutes" if in_minutes else "Seconds", unit)
    made["layout"]["yaxis"] |= {"rangemode": "tozero"}
    end = scale * rows[-1]["seconds"]
    made["layout"]["xaxis"] |= {"range": [0, end], "showgrid": False}
    return _with_bands(made, _bands(rows, scale))


def _bands(rows: Sequence[Row], scale: float) -> list[tuple[str, float, float]]:
    """`(stage, begin, end)` of rows in a row that are of the same stage."""
    bands: list[tuple[str, float, float]] = []
    begin = 0.0
    for stage, of_it in itertools.groupby(rows, key=lambda row: row["stage"]):
        end = scale * list(of_it)[-1]["seconds"]
        bands.append((stage, begin, end))
        begin = end
    return bands


def _with_bands(made: Figure, bands: list[tuple[str, float, float]]) -> Figure:
    total = bands[-1][2] or 1.0
    shapes, names = [], []
    for index, (stage, begin, end) in enumerate(bands):
        if index % 2 == 0:
            shapes.append(_band(begin, end))
        share = (end - begin) / total
        if share > LEAST_NAMED:
            shown = label(stage, max(3, int(50 * share)))
            names.append(_name(shown, (begin + end) / 2))
    made["layout"] |= {"shapes": shapes, "annotations": names}
    return made


def _band(begin: float, end: float) -> dict[str, Any]:
    ends = {"x0": begin, "x1": end, "y0": 0, "y1": 1, "yref": "paper"}
    look = {"fillcolor": "var(--grid)", "opacity": 0.55, "line": {"width": 0}}
    return {"type": "rect", "layer": "below"} | ends | look


def _name(text: str, x: float) -> dict[str, Any]:
    return {
        "text": text, "x": x, "y": 1, "yref": "paper", "yanchor": "bottom",
        "showarrow": False, "font": {"size": 11, "color": "var(--ink-faint)"},
    }  # fmt: skip
