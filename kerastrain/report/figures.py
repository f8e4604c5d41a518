"""Plotly figures as plain mappings. Colours are CSS variables; script.js resolves them.

Text from the data goes through `label`: plotly reads a little HTML in its texts.
"""

import html
import math
from collections.abc import Sequence
from typing import Any

from kerastrain.report.files import RunFiles
from kerastrain.report.html import percent, truncated

__all__ = ["figures"]

Figure = dict[str, Any]
OURS, OTHER, QUIET = "var(--ours)", "var(--other)", "var(--quiet)"
MAX_CLASSES_WITH_COUNTS = 12


def figures(files: RunFiles) -> list[tuple[str, str, Figure]]:
    """`(title, one sentence, figure)` of everything that the metrics allow to draw."""
    curves = files.metrics.get("curves") or {}
    labels = [str(name) for name in files.metrics.get("labels") or []]
    positive = str(files.metrics.get("positive_label") or (labels or ["?"])[-1])
    drawn = []
    for name, draw in _DRAWERS.items():
        if curves.get(name):
            drawn.append(draw(curves[name], positive))
    return drawn


def label(text: object, limit: int = 24) -> str:
    """A name from the data as plotly shows it letter for letter."""
    return html.escape(truncated(text, limit), quote=False)


def line(x: Sequence, y: Sequence, name: str, color: str = OURS, **more: Any) -> Figure:
    style = {"color": color, "width": 2, **more.pop("line", {})}
    return {
        "type": "scatter", "mode": "lines", "x": x, "y": y, "name": name, "line": style,
        **more,
    }  # fmt: skip


def figure(traces: list[Figure], x: str, y: str, **layout: Any) -> Figure:
    """Traces over two titled axes; `xaxis`, `yaxis` and the rest go to the layout."""
    xaxis = {"title": {"text": x}, **layout.pop("xaxis", {})}
    yaxis = {"title": {"text": y}, **layout.pop("yaxis", {})}
    return {"data": traces, "layout": {"xaxis": xaxis, "yaxis": yaxis, **layout}}


_SHARE = {"range": [-0.02, 1.02], "dtick": 0.25, "tickformat": ".2~f"}


def _diagonal(low: float = 0.0, high: float = 1.0) -> Figure:
    dash = {"dash": "dot", "width": 1.5}
    return line([low, high], [low, high], "", QUIET, line=dash, hoverinfo="skip")


def _roc(curve: Figure, positive: str) -> tuple[str, str, Figure]:
    traces = [
        _diagonal(),
        line(
            curve["false_positive_rate"],
            curve["true_positive_rate"],
            "",
            hovertemplate="false alarms %{x:.3f}<br>found %{y:.3f}<extra></extra>",
            fill="tozeroy",
            fillcolor="var(--ours-faint)",
        ),
    ]
    said = f"Share of {positive!r} rows found, against false alarms among the others."
    made = figure(
        traces, "False positive rate", "True positive rate", xaxis=_SHARE, yaxis=_SHARE
    )
    return "ROC curve", said, made


def _pr(curve: Figure, positive: str) -> tuple[str, str, Figure]:
    trace = line(
        curve["recall"],
        curve["precision"],
        "",
        hovertemplate="found %{x:.3f}<br>right %{y:.3f}<extra></extra>",
        fill="tozeroy",
        fillcolor="var(--ours-faint)",
    )
    said = (
        f"The share of true ones among rows called {positive!r}, against those found."
    )
    made = figure([trace], "Recall", "Precision", xaxis=_SHARE, yaxis=_SHARE)
    return "Precision and recall", said, made


def _calibration(curve: Figure, positive: str) -> tuple[str, str, Figure]:
    trace = line(
        curve["predicted"],
        curve["observed"],
        "",
        mode="lines+markers",
        marker={"size": 8, "color": OURS},
        customdata=curve["count"],
        hovertemplate="predicted %{x:.3f}<br>observed %{y:.3f}<br>"
        "%{customdata:,} rows<extra></extra>",
    )
    said = (
        "On the dotted line a predicted 70 % is right 70 % of the time. "
        "Each point holds about as many rows."
    )
    made = figure(
        [_diagonal(), trace],
        f"Predicted probability of {label(positive, 16)}",
        "Observed share",
        xaxis=_SHARE,
        yaxis=_SHARE,
    )
    return "Calibration", said, made


def _scores(bars: Figure, positive: str) -> tuple[str, str, Figure]:
    edges = bars["edges"]
    middles = [(a + b) / 2 for a, b in zip(edges, edges[1:], strict=False)]
    traces = []
    for key, name, color in (
        ("negative", "other rows", QUIET),
        ("positive", f"{label(positive)} rows", OURS),
    ):
        total = max(sum(bars[key]), 1)
        shares = [value / total for value in bars[key]]
        traces.append(
            {
                "type": "bar", "x": middles, "y": shares, "name": name,
                "marker": {"color": color, "opacity": 0.7}, "customdata": bars[key],
                "hovertemplate": "about %{x:.2f}: %{customdata:,} rows<extra></extra>",
            }
        )  # fmt: skip
    said = "The further apart the two heaps, the easier the decision."
    made = figure(
        traces, f"Predicted probability of {label(positive, 16)}", "Share of the rows",
        barmode="overlay", bargap=0.05, showlegend=True,
        xaxis=_SHARE | {"range": [0, 1]}, yaxis={"tickformat": ".0%"},
    )  # fmt: skip
    return "Predicted probabilities", said, made


def _confusion(matrix: Figure, positive: str) -> tuple[str, str, Figure]:
    names, counts = matrix["labels"], matrix["counts"]
    index = list(range(len(names)))
    shares = [[value / max(sum(row), 1) for value in row] for row in counts]
    axis = _class_axis(names) | {"showgrid": False, "constrain": "domain"}
    trace = {
        "type": "heatmap", "x": index, "y": index, "zmin": 0, "zmax": 1,
        # The root makes a share of 1 % visible beside one of 99 %.
        "z": [[share**0.5 for share in row] for row in shares],
        "colorscale": [[step / 2, f"var(--heat-{step})"] for step in range(3)],
        "showscale": False, "xgap": 2, "ygap": 2, "hoverinfo": "text",
        "hovertext": [
            [
                f"{label(true, 40)}<br>taken for {label(other, 40)}:<br>"
                f"{counts[i][j]:,} rows, {percent(shares[i][j])}"
                for j, other in enumerate(names)
            ]
            for i, true in enumerate(names)
        ],
    }  # fmt: skip
    if len(names) <= MAX_CLASSES_WITH_COUNTS:
        trace["text"] = [[f"{value:,}" for value in row] for row in counts]
        trace["texttemplate"] = "%{text}"
        trace["textfont"] = {"size": 14 if len(names) < 6 else 11}
    said = (
        "The truth goes down, the prediction across; the colour is the share of a row."
    )
    if matrix.get("num_hidden"):
        said += f" The {matrix['num_hidden']} smallest classes are not shown."
    made = figure([trace], "Predicted", "True", xaxis=axis, yaxis=axis)
    made["layout"]["yaxis"] |= {"range": axis["range"][::-1]}
    made["size"] = _class_size(len(names)) | {"min_width": 50 + 12 * len(names)}
    return "Confusion matrix", said, made


def _class_axis(names: Sequence[str]) -> dict[str, Any]:
    """Classes by their number, because two names may be equal once they are cut."""
    is_small = len(names) <= MAX_CLASSES_WITH_COUNTS
    return {
        "tickvals": list(range(len(names))), "zeroline": False, "showline": False,
        "ticktext": [label(name, 18 if is_small else 12) for name in names],
        "tickfont": {"size": 13 if is_small else 11}, "ticks": "",
        "range": [-0.5, len(names) - 0.5],
    }  # fmt: skip


def _class_size(num_classes: int) -> dict[str, int]:
    """Pixels at which every class has a row that can be read."""
    return {"height": max(320, 130 + 22 * num_classes)}


def _per_class(values: Figure, positive: str) -> tuple[str, str, Figure]:
    names = values["labels"]
    index = list(range(len(names)))
    traces = [_joints(index, values["precision"], values["recall"])]
    for key, color, symbol in (
        ("precision", OTHER, "diamond"),
        ("recall", OURS, "circle"),
    ):
        hover = (
            f"%{{text}}<br>{key} %{{x:.3f}}<br>%{{customdata:,}} rows<extra></extra>"
        )
        traces.append(
            {
                "type": "scatter", "mode": "markers", "x": values[key], "y": index,
                "marker": {"color": color, "size": 9, "symbol": symbol}, "name": key,
                "text": [label(name, 40) for name in names], "hovertemplate": hover,
                "customdata": values["count"],
            }
        )  # fmt: skip
    least = min(*values["precision"], *values["recall"])
    xaxis = {"range": [max(math.floor(10 * least - 0.3) / 10, -0.02), 1.02]}
    axis = _class_axis(names)
    yaxis = axis | {"range": axis["range"][::-1]}
    made = figure(traces, "Share", "", yaxis=yaxis, xaxis=xaxis, showlegend=True)
    made["size"] = _class_size(len(names))
    said = "Precision: how often the model is right when it names the class. "
    said += "Recall: how much of the class it finds."
    return "Each class", said, made


def _joints(index: list[int], left: list[float], right: list[float]) -> Figure:
    """Thin lines between the two dots of each class."""
    x = [v for a, b in zip(left, right, strict=True) for v in (a, b, None)]
    y = [v for i in index for v in (i, i, None)]
    thin = {"width": 1}
    return line(x, y, "", QUIET, line=thin, hoverinfo="skip", showlegend=False)


def _pairs(pairs: Figure, positive: str) -> tuple[str, str, Figure]:
    true, predicted = pairs["true"], pairs["predicted"]
    trace = {
        "type": "scatter", "mode": "markers", "x": true, "y": predicted,
        "marker": {"color": OURS, "size": 5, "opacity": 0.45},
        "hovertemplate": "true %{x:,.5~g}<br>predicted %{y:,.5~g}<extra></extra>",
    }  # fmt: skip
    ends = min(*true, *predicted), max(*true, *predicted)
    said = f"{len(true):,} test rows; on the dotted line the prediction is right."
    made = figure([_diagonal(*ends), trace], "True value", "Predicted value")
    return "Predicted against true", said, made


def _residuals(bars: Figure, positive: str) -> tuple[str, str, Figure]:
    edges = bars["edges"]
    trace = {
        "type": "bar", "y": bars["counts"], "marker": {"color": OURS, "opacity": 0.8},
        "x": [(a + b) / 2 for a, b in zip(edges, edges[1:], strict=False)],
        "hovertemplate": "about %{x:,.4~g}: %{y:,} rows<extra></extra>",
    }  # fmt: skip
    said = "Predicted minus true: left of 0 the prediction is too low."
    if bars["num_outside"]:
        said += f" The {bars['num_outside']:,} outermost rows are not shown."
    made = figure([trace], "Residual", "Test rows", bargap=0.05)
    made["layout"]["xaxis"] |= {"zeroline": True}
    return "Residuals", said, made


_DRAWERS = {
    "roc": _roc,
    "pr": _pr,
    "confusion": _confusion,
    "calibration": _calibration,
    "scores": _scores,
    "per_class": _per_class,
    "pairs": _pairs,
    "residuals": _residuals,
}
