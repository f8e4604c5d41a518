"""What the model goes by, and where it is weakest: from `explanation.json`."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerastrain.evaluation import METRICS
from kerastrain.report.figures import OTHER, OURS, QUIET, Figure, figure, label, line
from kerastrain.report.files import RunFiles
from kerastrain.report.html import (
    count,
    details,
    escape,
    fixed,
    number,
    percent,
    section,
    table,
    truncated,
)

__all__ = ["explanation_figures", "weak_section"]

MAX_COLUMNS = 10  # a line of 24 pixels for each in a figure of usual height
MAX_NAMED = 4
MAX_CHARS = 20  # of a name beside a figure
MAX_WORST, MAX_CELLS = 10, 5
NUM_PILES = 40
LINES = (OURS, OTHER, "var(--good)", QUIET)
Item = Mapping[str, Any]
Drawn = tuple[str, str, Figure]


def explanation_figures(files: RunFiles) -> list[Drawn]:
    """Importance, contributions and dependence; nothing of a run without them."""
    found = files.explanation
    if not found:
        return []
    drawn = [_importance(found, files.task)]
    if found.get("contributions"):
        drawn.append(_contributions(found["contributions"], files))
    return drawn + [_dependence(item, files) for item in found["dependence"]]


# --- importance -------------------------------------------------------------------


def _importance(found: Item, task: str) -> Drawn:
    importance = found["importance"]
    columns = importance["columns"][:MAX_COLUMNS]
    title = METRICS[task][importance["metric"]].title
    names = [label(item["name"], MAX_CHARS) for item in columns]
    losses = [item["loss"] or 0.0 for item in columns]
    half = [
        0.0 if item["high"] is None else (item["high"] - item["low"]) / 2
        for item in columns
    ]
    colors = [OURS if item["matters"] else QUIET for item in columns]
    trace = {
        "type": "bar", "orientation": "h", "x": losses, "width": 0.6,
        "y": list(range(len(columns))), "marker": {"color": colors, "opacity": 0.75},
        "error_x": {"array": half, "color": "var(--ink-soft)", "thickness": 1.2},
        "text": names, "textposition": "none", "customdata": half,
        "hovertemplate": "%{text}<br>%{x:.3~g} ± %{customdata:.2~g}<extra></extra>",
    }  # fmt: skip
    axis = _names_axis(names)
    made = figure(
        [trace], f"Worse by ({title})", "", yaxis=axis, xaxis={"zeroline": True}
    )
    said = (
        f"How much worse {title} is on {_rows(found)} when a column is shuffled, with "
        f"its 95 % interval. {_unimportant(importance)}"
    )
    if found.get("is_seen"):
        said += " Models of other folds have seen these rows, which flatters the model."
    return "What each column is worth", said.strip(), made


def _rows(found: Item) -> str:
    return f"{count(found['importance']['num_rows'])} {found['part']} rows"


def _unimportant(importance: Item) -> str:
    names = [item["name"] for item in importance["columns"] if not item["matters"]]
    parts = []
    if not names and not importance["unmeasured"]:
        return ""
    if names and len(names) == len(importance["columns"]):
        parts.append("No column is seen to matter by itself.")
    elif names:
        parts.append(
            f"Not seen to matter beside the others (grey): {len(names):,} of "
            f"{len(importance['columns']):,}, least {_listed(names[::-1])}."
        )
    unmeasured = importance["unmeasured"]
    if unmeasured:
        parts.append(f"No time was left to measure {_listed(unmeasured)}.")
    return " ".join(parts)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(truncated(name, 30) for name in names[:MAX_NAMED])
    more = len(names) - MAX_NAMED
    return shown + (f" and {more:,} more" if more > 0 else "")


def _names_axis(names: Sequence[str]) -> dict[str, Any]:
    """Columns by their number, from top to bottom."""
    return {
        "tickvals": list(range(len(names))), "ticktext": [*names], "ticks": "",
        "range": [len(names) - 0.5, -0.5], "zeroline": False, "showgrid": False,
    }  # fmt: skip


# --- contributions ----------------------------------------------------------------


def _contributions(found: Item, files: RunFiles) -> Drawn:
    columns = found["columns"][:MAX_COLUMNS]
    names = [label(item["name"], MAX_CHARS) for item in columns]
    traces = [_swarm(item, place) for place, item in enumerate(columns)]
    xaxis = {"zeroline": True, "zerolinecolor": "var(--quiet)", "nticks": 5}
    is_number = files.task == "regression"
    title = f"Change of the {'value' if is_number else 'probability'}"
    axis = _names_axis(names)
    made = figure(traces, title, "", yaxis=axis, xaxis=xaxis | {"tickangle": 0})
    said = (
        f"Shapley values of {count(found['num_rows'])} rows, a point each: what the "
        f"column adds to {_output(files)}. Blue cells are small, orange ones large; "
        "grey ones have no order."
    )
    return "What moves the answer", said, made


def _swarm(item: Item, place: int) -> Figure:
    """Points of one column; those close together are piled up around its line."""
    values = np.asarray(item["values"], float)
    ranks = item["ranks"]
    if ranks is None:
        marker: dict[str, Any] = {"color": QUIET}
    else:
        scale = [[0, OURS], [0.5, "var(--heat-1)"], [1, OTHER]]
        colors = [0.5 if rank is None else rank for rank in ranks]
        marker = {"color": colors, "colorscale": scale, "cmin": 0, "cmax": 1}
    cells = [label(cell or "missing", 40) for cell in item["cells"]]
    return {
        "type": "scatter", "mode": "markers", "x": values.tolist(),
        "y": (place + _piled(values)).tolist(), "text": cells,
        "name": label(item["name"], 30),
        "marker": marker | {"size": 5, "opacity": 0.8},
        "hovertemplate": "%{fullData.name} = %{text}<br>%{x:+.3~g}<extra></extra>",
    }  # fmt: skip


def _piled(values: np.ndarray) -> np.ndarray:
    """Offsets within ±0.35 such that values of one pile stand apart."""
    spread = float(np.ptp(values)) or 1.0
    piles = np.floor((values - values.min()) / spread * NUM_PILES)
    offsets = np.zeros(len(values))
    for pile in np.unique(piles):
        rows = np.flatnonzero(piles == pile)
        step = min(0.08, 0.7 / max(len(rows) - 1, 1))
        offsets[rows] = (np.arange(len(rows)) - (len(rows) - 1) / 2) * step
    return offsets


def _output(files: RunFiles) -> str:
    if files.task == "regression":
        return "the predicted value"
    if files.task == "multiclass":
        return "the probability of the row's class"
    return f"the probability of {truncated(files.metrics.get('positive_label'))}"


# --- dependence -------------------------------------------------------------------


def _dependence(item: Item, files: RunFiles) -> Drawn:
    is_ordered = item["type"] in ("numeric", "datetime")
    lines, x = item["lines"], item["values"]
    xaxis: dict[str, Any] = {}
    if not is_ordered:
        x = list(range(len(x)))
        names = [label(text, 16) for text in item["values"]]
        xaxis = {"tickvals": x, "ticktext": names, "zeroline": False}
    traces = []
    for one, color in zip(lines, LINES, strict=False):
        if is_ordered and "low" in one:
            traces += _band(x, one)
        traces.append(_mean_line(x, one, color, is_ordered))
    said = "The mean answer when the column is set to a value"
    if "low" in lines[0]:
        said += f"; {'in the band' if is_ordered else 'within the bars'} lie four of "
        said += "five rows"
    made = figure(
        traces, label(item["column"], 40), _answer(files), xaxis=xaxis,
        showlegend=len(lines) > 1,
    )  # fmt: skip
    return f"By {truncated(item['column'], 40)}", f"{said}. {_missing(item)}", made


def _mean_line(x: Sequence, one: Item, color: str, is_ordered: bool) -> Figure:
    mode = "lines+markers" if is_ordered else "markers"
    size = 5 if is_ordered else 9
    more: dict[str, Any] = {"marker": {"size": size, "color": color}}
    if not is_ordered and "low" in one:
        more["error_y"] = {
            "array": _minus(one["high"], one["mean"]), "symmetric": False,
            "arrayminus": _minus(one["mean"], one["low"]), "color": color,
            "thickness": 1.2,
        }  # fmt: skip
    hover = "%{x}: %{y:.4~g}<extra></extra>"
    name = label(one["name"])
    return line(
        x, one["mean"], name, color, mode=mode, hovertemplate=hover, **more
    )  # fmt: skip


def _minus(some: Sequence[float], others: Sequence[float]) -> list[float]:
    return [max(a - b, 0.0) for a, b in zip(some, others, strict=True)]


def _band(x: Sequence, one: Item) -> list[Figure]:
    none = {"width": 0}
    hidden = {"hoverinfo": "skip", "showlegend": False}
    return [
        line(x, one["low"], "", QUIET, line=none, **hidden),
        line(
            x, one["high"], "", QUIET, line=none, fill="tonexty",
            fillcolor="var(--ours-faint)", **hidden,
        ),
    ]  # fmt: skip


def _answer(files: RunFiles) -> str:
    if files.task == "regression":
        return "Predicted value"
    if files.task == "multiclass":
        return "Probability"
    return f"Probability of {label(files.metrics.get('positive_label'), 16)}"


def _missing(item: Item) -> str:
    if item["missing"] is None:
        return ""
    names = [one["name"] for one in item["lines"]]
    shown = [
        number(value, 3) if len(names) == 1 else f"{truncated(name)} {number(value, 3)}"
        for name, value in zip(names, item["missing"], strict=True)
    ]
    return f"Where it is missing: {', '.join(shown)}."


# --- the weak spots ---------------------------------------------------------------


def weak_section(files: RunFiles) -> str:
    """Slices that are clearly worse, and the rows with the largest errors."""
    found = files.explanation
    if not found:
        return ""
    return section(
        "weak",
        "Where it is weakest",
        _slices(found["slices"], files) + _worst(found["worst"], files),
        lead=_weak_words(found["slices"], found["part"], files.task),
    )


def _weak_words(slices: Item, part: str, task: str) -> str:
    tested = f"{count(slices['num_tested'])} slices of {count(slices['num_rows'])}"
    if not slices["num_tested"]:
        rows = count(slices["num_rows"])
        return f"{rows} {part} rows are too few to look for slices that are worse."
    if not slices["found"]:
        return f"Of {tested} {part} rows none is clearly worse than the rest."
    said = (
        f"Of {tested} {part} rows these are clearly worse than the rest: by a fifth or "
        "more, and not by chance, although many were looked at."
    )
    if task != "regression":
        said += (
            " Where the model expects the loss, by its own probabilities, the rows are "
            "hard to tell; where it expects less, it is too sure."
        )
    return said


def _slices(slices: Item, files: RunFiles) -> str:
    if not slices["found"]:
        return ""
    is_number = files.task == "regression"
    loss = "mean error" if is_number else "log loss"
    head = ["rows where", "rows", loss, "elsewhere"]
    head += [] if is_number else ["as it expects", "wrong", "elsewhere"]
    lines = []
    for item in slices["found"]:
        cells = [
            " and ".join(_condition(*one) for one in item["conditions"]),
            count(item["num_rows"]),
            _loss(item["loss"], is_number),
            _loss(item["rest"], is_number),
        ]
        if not is_number:
            cells.append(_loss(item["expected"], is_number))
            cells += [percent(item["wrong"]), percent(item["wrong_rest"])]
        lines.append(cells)
    return table(head, lines, kind="metrics")


def _loss(value: float, is_number: bool) -> str:
    return number(value, 3) if is_number else fixed(value, 2)


def _condition(name: str, text: str) -> str:
    return f"{escape(truncated(name, 30))}: <b>{escape(truncated(text, 40))}</b>"


def _worst(worst: Sequence[Item], files: RunFiles) -> str:
    if not worst:
        return ""
    is_number = files.task == "regression"
    names = list(worst[0]["cells"])[:MAX_CELLS]
    head = ["row", "true", "predicted", "off by" if is_number else "given to the truth"]
    head += [truncated(name, 20) for name in names]
    lines = []
    for item in worst[:MAX_WORST]:
        first = [_value(item["true"]), _value(item["predicted"])]
        last = (
            number(item["loss"]) if is_number else percent(item.get("probability", 0.0))
        )
        cells = [escape(truncated(item["cells"][name], 24)) or "–" for name in names]
        lines.append([count(item["row"]), *first, last, *cells])
    return details(
        f"The {len(lines)} rows with the largest errors (rows count from 0)",
        table(head, lines, kind="metrics"),
    )


def _value(value: Any) -> str:
    if isinstance(value, str):
        return html.escape(truncated(value))
    return number(value)
