"""The answer: how good, against what, how sure; then every metric in a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from kerastrain.evaluation import METRICS, Metric, num_decimals
from kerastrain.report.files import RunFiles
from kerastrain.report.folds import folds_words, spread_text
from kerastrain.report.html import (
    count,
    duration,
    escape,
    fixed,
    number,
    percent,
    section,
    size,
    table,
    truncated,
)

__all__ = ["answer", "headline", "metric_table"]

Estimate = Mapping[str, float | None]
TASKS = {
    "binary": "binary classification",
    "multiclass": "classification",
    "regression": "regression",
}


def headline(files: RunFiles) -> dict[str, str]:
    """Title, value, interval and spread over folds of the primary metric as text.

    All but the title may be empty.
    """
    part = files.evaluated_part
    name = files.metrics.get("primary") or next(iter(METRICS.get(files.task, {})), "")
    known = METRICS.get(files.task, {}).get(name)
    found = files.scores(part).get(name, {}) if part else {}
    empty = {"title": known.title if known else name, "value": "", "interval": ""}
    empty["spread"] = ""
    value, low, high = (found.get(key) for key in ("value", "low", "high"))
    if value is None:
        return empty
    digits = num_decimals(value, low, high)
    interval = "" if low is None else f"{fixed(low, digits)} to {fixed(high, digits)}"
    spread = ""
    if found.get("spread") is not None:
        spread = spread_text(found["spread"], digits)
    return empty | {
        "value": fixed(value, digits), "interval": interval, "spread": spread
    }  # fmt: skip


def answer(files: RunFiles) -> str:
    """The top of the page."""
    shown = headline(files)
    where = f"{TASKS.get(files.task, 'prediction')} · {escape(files.name)}"
    started = str(files.environment.get("started", ""))[:10]
    where += f" · {escape(started)}" if started else ""
    return (
        f'<header id="answer"><p class="eyebrow">{where}</p>'
        f"<h1>Predicting <em>{escape(truncated(files.target, 60))}</em></h1>"
        f'<div class="hero"><div class="big">{_big_number(files, shown)}</div>'
        f'<div class="against">{_verdict(files)}{_ladder(files)}</div></div>'
        f"{_facts(files)}</header>"
    )


def _big_number(files: RunFiles, shown: Mapping[str, str]) -> str:
    part = files.evaluated_part
    if not shown["value"]:
        text = "This run holds no evaluation."
        if part:
            text = f"{escape(shown['title'])} is not defined on the {part} rows."
        return f'<p class="caption">{text}</p>'
    rows = (files.metrics.get("num_rows") or {}).get(part)
    on = f" on {count(rows)} {part} rows" if rows else f" on the {part} rows"
    length = " long" if len(shown["value"]) > 7 else ""
    return (
        f'<p class="caption strong">{escape(shown["title"])}{on}</p>'
        f'<p class="number{length}">{shown["value"]}</p>'
        f'{_sureness(files, shown)}<p class="meaning">{_meaning(files)}</p>'
    )


def _sureness(files: RunFiles, shown: Mapping[str, str]) -> str:
    """What stands under the number: over folds, and its interval."""
    lines = []
    if files.is_mean_of_folds:
        between = f", {shown['spread']} between them" if shown["spread"] else ""
        lines.append(f"Mean of {folds_words(files.metrics)}{between}")
    if shown["interval"]:
        lines.append(f"95 % interval {shown['interval']}")
    return "".join(f'<p class="caption">{line}</p>' for line in lines)


def _meaning(files: RunFiles) -> str:
    """What the numbers say in plain words."""
    scores = files.scores(files.evaluated_part)
    value = {name: cell["value"] for name, cell in scores.items()}
    auc, accuracy, error = (value.get(n) for n in ("roc_auc", "accuracy", "median_ae"))
    if files.task == "binary" and auc is not None:
        name = escape(truncated(files.metrics.get("positive_label", "positive")))
        return (
            f"Of two rows of which one is <b>{name}</b>, "
            f"it gives that one the higher probability in {percent(auc)} of the cases."
        )
    if files.task == "multiclass" and accuracy is not None:
        return f"It names the right class in {percent(accuracy)} of the rows."
    if files.task == "regression" and error is not None:
        return f"Half of the predictions are off by less than {number(error, 3)}."
    return ""


def _verdict(files: RunFiles) -> str:
    verdict = files.metrics.get("verdict") or {}
    low, high = verdict.get("low"), verdict.get("high")
    tone = "unsure"
    if low is not None and low > 0:
        tone = "good"
    elif high is not None and high < 0:
        tone = "bad"
    sentence = verdict.get("sentence")
    if files.evaluated_part == "validation":
        sentence = (
            "There are no test rows: these numbers come from the validation rows, by "
            "which the best epoch was chosen, so they flatter the model a little."
        )
    return f'<p class="verdict {tone}">{escape(sentence)}</p>' if sentence else ""


def _ladder(files: RunFiles) -> str:
    """The primary metric of the model and of each baseline, as dots on one scale."""
    name = files.metrics.get("primary", "")
    ours = (
        files.scores(files.evaluated_part).get(name) if files.evaluated_part else None
    )
    if not ours or ours["value"] is None:
        return ""
    others = [
        (key, {"value": (values or {}).get(name)})
        for key, values in (files.metrics.get("baselines") or {}).items()
    ]
    rungs: list[tuple[str, Estimate]] = [("this model", ours), *reversed(others)]
    rungs = [(key, cell) for key, cell in rungs if cell.get("value") is not None]
    folds = [(fold.get("test") or {}).get(name) for fold in files.folds]
    marks = [value for value in folds if value is not None]
    ends = [cell.get(k) for _, cell in rungs for k in ("value", "low", "high")]
    known = [v for v in ends if v is not None] + marks
    low, high = min(known), max(known)
    margin = 0.06 * (high - low) or 1.0
    scale = (low - margin, high + margin)
    digits = num_decimals(ours["value"], ours["low"], ours["high"])
    lines = "".join(
        _rung(key, cell, scale, digits, marks if cell is ours else ())
        for key, cell in rungs
    )
    said = _direction(files.task, name, has_folds=bool(marks))
    return f'<div class="ladder">{lines}</div>{said}'


def _rung(
    key: str,
    cell: Estimate,
    scale: tuple[float, float],
    digits: int,
    folds: Sequence[float],
) -> str:
    start, end = scale

    def place(value: float | None) -> float:
        return 100 * ((value or 0.0) - start) / (end - start)

    bar = ""
    if cell.get("low") is not None:
        left, right = place(cell["low"]), place(cell["high"])
        width = max(right - left, 0.0)
        bar = f'<i class="bar" style="left:{left:.2f}%;width:{width:.2f}%"></i>'
    bar += "".join(
        f'<i class="fold" style="left:{place(value):.2f}%"></i>' for value in folds
    )
    dot = f'<i class="dot" style="left:{place(cell["value"]):.2f}%"></i>'
    kind = "ours" if key == "this model" else "theirs"
    return (
        f'<div class="rung {kind}"><span>{escape(truncated(key))}</span>'
        f'<span class="track">{bar}{dot}</span>'
        f"<span>{fixed(cell['value'], digits)}</span></div>"
    )


def _direction(task: str, name: str, *, has_folds: bool) -> str:
    metric = METRICS.get(task, {}).get(name)
    if metric is None:
        return ""
    better = "higher is better" if metric.greater_is_better else "lower is better"
    marks = "; a thin line is a fold" if has_folds else ""
    return f'<p class="caption">{escape(metric.title)}: {better}{marks}</p>'


def _facts(files: RunFiles) -> str:
    """Numbers under the answer: rows, columns, time, the check of the export."""
    facts = []
    rows = files.metrics.get("num_rows") or {}
    if rows:
        name = "rows trained on" + (" in fold 1" if files.folds else "")
        facts.append((name, count(rows.get("train") or 0)))
    if files.schema:
        facts.append(("columns used", count(len(files.schema.features))))
    if files.seconds:
        facts.append(("from start to end", duration(files.seconds)))
    if files.environment.get("peak_memory_bytes"):
        facts.append(("peak memory", size(files.environment["peak_memory_bytes"])))
    for name, check in (files.metrics.get("parity") or {}).items():
        facts.append((f"{name} check", _parity(check)))
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in facts
    )
    return f'<dl class="facts">{cells}</dl>' if cells else ""


def _parity(check: Mapping[str, Any]) -> str:
    difference, tolerance = check["max_difference"], check["tolerance"]
    if difference > tolerance:
        return f'<span class="bad">differs by {number(difference, 2)}</span>'
    return f"same to {number(difference, 2)}" if difference else "identical"


def metric_table(files: RunFiles) -> str:
    """Every metric with its interval, beside the baselines and the validation rows."""
    part = files.evaluated_part
    scores = files.scores(part) if part else {}
    if not scores:
        return ""
    baselines = files.metrics.get("baselines") or {}
    has_validation = part == "test" and bool(files.metrics.get("validation"))
    has_spread = any(cell.get("spread") is not None for cell in scores.values())
    head = ["metric", "mean" if has_spread else "this model"]
    head += ["spread"] if has_spread else []
    head += ["95 % interval", *(truncated(n) for n in baselines)]
    head += ["validation rows"] if has_validation else []
    lines = []
    for name, cell in scores.items():
        known = METRICS.get(files.task, {}).get(name)
        others = [(values or {}).get(name) for values in baselines.values()]
        validation = files.scores("validation").get(name, {}).get("value")
        ours, *rest = _estimate_cells(cell, others, known)
        spread = [spread_text(cell.get("spread"), _digits(cell))] if has_spread else []
        last = [_decimals(validation, cell)] if has_validation else []
        lines.append([_metric_name(name, known), ours, *spread, *rest, *last])
    kind = "metrics estimates" + (" with-spread" if has_spread else "")
    kind += " with-validation" if has_validation else ""
    lead = _said_of_metrics(files) if part == "test" else ""
    return section("metrics", "Every metric", table(head, lines, kind=kind), lead=lead)


def _said_of_metrics(files: RunFiles) -> str:
    if not files.is_mean_of_folds:
        return "Intervals are from the bootstrap over the test rows; the best is bold."
    return (
        "Mean and spread (standard deviation) are those of the folds, the baselines "
        "means likewise; the best is bold. Intervals are from the bootstrap over the "
        "test rows of each fold, and at least as wide as the folds differ."
    )


def _digits(cell: Estimate) -> int:
    value = cell["value"]
    return 4 if value is None else num_decimals(value, cell["low"], cell["high"])


def _decimals(value: float | None, like: Estimate) -> str:
    """With as many decimals as the estimate beside it."""
    if value is None or like["value"] is None:
        return number(value)
    return fixed(value, _digits(like))


def _metric_name(name: str, known: Metric | None) -> str:
    if known is None:
        return escape(name)
    arrow = "↑" if known.greater_is_better else "↓"
    words = "higher" if known.greater_is_better else "lower"
    title = escape(known.title)
    return f'{title} <span class="arrow" title="{words} is better">{arrow}</span>'


def _estimate_cells(
    cell: Estimate, others: list[float | None], known: Metric | None
) -> list[str]:
    value, low, high = (cell.get(key) for key in ("value", "low", "high"))
    if value is None:
        return ["–", "–", *(number(other) for other in others)]
    digits = num_decimals(value, low, high)
    present = [v for v in (value, *others) if v is not None]
    best = (max if known is None or known.greater_is_better else min)(present)

    def shown(v: float | None) -> str:
        text = "–" if v is None else fixed(v, digits)
        return f"<b>{text}</b>" if v == best else text

    interval = "–" if low is None else f"{fixed(low, digits)} to {fixed(high, digits)}"
    return [shown(value), interval, *(shown(other) for other in others)]
