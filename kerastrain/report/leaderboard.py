"""The models of a portfolio: what each reached, took and weighs in the ensemble."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kerastrain.evaluation import METRICS
from kerastrain.report.figures import OTHER, OURS, Figure, figure, label
from kerastrain.report.files import RunFiles
from kerastrain.report.html import duration, escape, fixed, number, table, truncated

__all__ = ["leaderboard_figures", "leaderboard_lead", "leaderboard_table"]

Entry = Mapping[str, Any]
LEAST_DOTS = 3
MAX_REASON = 160  # characters; the whole of it is in leaderboard.csv and the events


def leaderboard_table(files: RunFiles) -> str:
    """A line for each model, those that failed with their reason; or nothing."""
    entries = _entries(files)
    if not entries:
        return ""
    title = _title(files)
    head = ["model", "weight", f"{title}, held out", f"{title}, test", "fitting"]
    head += ["ms per 1,000 rows", "MB", "folds"]
    digits = {key: _digits(entries, key) for key in ("validation", "test")}
    lines = [_line(entry, digits) for entry in entries]
    return table(head, lines, kind="metrics leaderboard")


def leaderboard_lead(files: RunFiles) -> str:
    """What the numbers are of."""
    mean = " Numbers are means over the folds." if files.folds else ""
    return (
        "Held out: on rows that a model was not fitted on. They chose the weights, "
        f"which flatters the ensemble a little; the test rows chose nothing.{mean}"
    )


def leaderboard_figures(files: RunFiles) -> list[tuple[str, str, Figure]]:
    """What a better score costs, in fitting and in predicting."""
    title = _title(files)
    drawn = [
        _scatter(files, title, "fit_s", "Score and fitting time", "Seconds to fit"),
        _scatter(
            files, title, "predict_ms", "Score and speed", "Milliseconds per 1,000 rows"
        ),
    ]
    return [item for item in drawn if item is not None]


def _entries(files: RunFiles) -> list[Entry]:
    return (files.metrics.get("leaderboard") or {}).get("entries") or []


def _title(files: RunFiles) -> str:
    name = (files.metrics.get("leaderboard") or {}).get("metric", "")
    known = METRICS.get(files.task, {}).get(name)
    return known.title if known else name


def _digits(entries: Sequence[Entry], key: str) -> int:
    """So many decimals that neighbours in the list can be told apart, 3 to 5."""
    known = sorted(entry[key] for entry in entries if entry.get(key) is not None)
    if not known or max(map(abs, known)) >= 1_000:
        return 1
    gaps = [b - a for a, b in zip(known, known[1:], strict=False) if b > a]
    return 3 if not gaps or min(gaps) >= 1e-3 else 4


def _line(entry: Entry, digits: Mapping[str, int]) -> list[str]:
    name = escape(truncated(entry["model"], 40))
    if entry["status"] != "fitted":
        reason = escape(truncated(entry["status"], MAX_REASON))
        name += f'<p class="reason">{reason}</p>'
    elif entry["model"] == "ensemble":
        name = f"<b>{name}</b>"
    seconds, weight = entry.get("fit_s"), entry.get("weight")
    return [
        name,
        "–" if weight is None else fixed(weight, 2),
        *(fixed(entry.get(key), digits[key]) for key in ("validation", "test")),
        "–" if seconds is None else duration(seconds),
        number(entry.get("predict_ms"), 3),
        _size(entry.get("size_mb")),
        number(entry.get("folds"), 3),
    ]


def _size(megabytes: float | None) -> str:
    return "&lt; 0.01" if megabytes and megabytes < 0.01 else number(megabytes, 3)


def _scatter(
    files: RunFiles, title: str, key: str, name: str, axis: str
) -> tuple[str, str, Figure] | None:
    """A dot for each model with its name; nothing below three, which say nothing."""
    known = [
        entry
        for entry in _entries(files)
        if entry.get(key) and entry.get("validation") is not None
    ]
    if len(known) < LEAST_DOTS:
        return None
    x = [entry[key] for entry in known]
    is_used = [(entry.get("weight") or 0) > 0 for entry in known]
    is_blend = [entry["model"] == "ensemble" for entry in known]
    trace = {
        "type": "scatter", "mode": "markers+text", "x": x,
        "y": [entry["validation"] for entry in known],
        "text": [label(entry["model"]) for entry in known],
        "textposition": _sides(x), "cliponaxis": False,
        "marker": {
            "color": [OURS if used else OTHER for used in is_used],
            "size": [13 if blend else 10 for blend in is_blend],
            "symbol": ["diamond" if blend else "circle" for blend in is_blend],
        },
        "hovertemplate": "%{text}<br>%{x:,.3~g}: %{y:.5~g}<extra></extra>",
    }  # fmt: skip
    said = "Blue models are in the ensemble, orange ones are not."
    if all(is_used):
        said = "Every model that was fitted is in the ensemble."
    return name, said, figure([trace], axis, title, xaxis=_log_axis(x))


def _sides(x: Sequence[float]) -> list[str]:
    """A name stands on the side on which there is room."""
    middle = math.sqrt(min(x) * max(x))
    return ["middle left" if value > middle else "middle right" for value in x]


def _log_axis(x: Sequence[float]) -> dict[str, Any]:
    low, high = math.log10(min(x)), math.log10(max(x))
    margin = max(0.08 * (high - low), 0.05)
    ticks = "D2" if high - low < 2 else 1  # 1, 2, 5, 10; powers of ten alone
    return {"type": "log", "dtick": ticks, "range": [low - margin, high + margin]}
