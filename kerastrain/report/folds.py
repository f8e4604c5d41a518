"""The folds of a cross-validation: what they scored, and which model came of them."""

from collections.abc import Mapping
from typing import Any

from kerastrain.evaluation import METRICS, num_decimals
from kerastrain.report.files import RunFiles
from kerastrain.report.html import count, escape, fixed, number, section, table

__all__ = ["folds_section", "folds_summary", "folds_words", "spread_text"]


def folds_words(metrics: Mapping[str, Any]) -> str:
    """`5 folds`, or `5 folds, 2 times`; empty for a single split."""
    if not metrics.get("folds"):
        return ""
    num_folds, repeats = _numbers(metrics)
    return f"{num_folds} folds" + (f", {repeats} times" if repeats > 1 else "")


def folds_summary(metrics: Mapping[str, Any]) -> str:
    """One line: what the numbers are, and which model is kept; empty without folds."""
    words = folds_words(metrics)
    if not words:
        return ""
    epochs = (metrics.get("refit") or {}).get("epochs")
    if metrics.get("cross_validation"):
        if epochs is None:
            return f"The model is the average of {words}."
        return f"The model was trained again after {words}{_for(epochs)}."
    kept = "the model is their average"
    if epochs is not None:
        kept = f"the model was trained again on all rows{_for(epochs)}"
    return f"Mean of {words}; {kept}."


def _for(epochs: int) -> str:
    """Nothing where the model knows no epochs."""
    return f", for {epochs} epochs" if epochs else ""


def spread_text(spread: float | None, digits: int) -> str:
    """`± 0.013`; a spread too small for `digits` decimals is written out."""
    if spread is None:
        return "–"
    is_seen = spread == 0 or round(spread, digits) > 0
    return f"± {fixed(spread, digits) if is_seen else number(spread, 2)}"


def folds_section(files: RunFiles) -> str:
    """A line for each fold, the mean below, and what both mean."""
    if not files.folds:
        return ""
    part = "test" if files.is_mean_of_folds else "validation"
    means = files.scores("test" if part == "test" else "cross_validation")
    known = METRICS.get(files.task, {})
    names = [name for name in known if name in means]
    digits = {name: _digits(means[name]) for name in names}
    lines = [_line(fold, part, digits) for fold in files.folds]
    best = files.metrics.get("best_epoch")
    middle = f"median {best:g}" if best is not None else "–"
    lines.append(
        [
            "mean ± spread",
            "",
            middle,
            *(_mean(means[name], digits[name]) for name in names),
        ]
    )
    head = ["fold", f"{part} rows", "best epoch"]
    head += [known[name].title for name in names]
    body = table(head, lines, kind="metrics folds")
    return section("folds", "Folds", body, lead=_meaning(files))


def _line(fold: Mapping[str, Any], part: str, digits: Mapping[str, int]) -> list[str]:
    rows = (fold.get("num_rows") or {}).get(part)
    epoch, scores = fold.get("best_epoch"), fold.get(part) or {}
    return [
        escape(fold.get("fold", "")),
        "–" if rows is None else count(rows),
        "–" if epoch is None else f"{epoch:g}",
        *(fixed(scores.get(name), digits[name]) for name in digits),
    ]


def _digits(cell: Mapping[str, float | None]) -> int:
    value, spread = cell.get("value"), cell.get("spread")
    if value is None:
        return 4
    half = spread or 0.0
    return num_decimals(value, value - half, value + half)


def _mean(cell: Mapping[str, float | None], digits: int) -> str:
    if cell.get("value") is None:
        return "–"
    spread = spread_text(cell.get("spread"), digits)
    return f"{fixed(cell['value'], digits)} <small>{spread}</small>"


def _meaning(files: RunFiles) -> str:
    _, repeats = _numbers(files.metrics)
    if not files.is_mean_of_folds:
        tested = (
            "The test rows are your own and no fold saw them. The rows of a fold chose "
            "the epoch of its model, so the numbers here flatter it a little."
        )
    elif (files.metrics.get("split") or {}).get("kind") == "time":
        tested = (
            "The model of each fold was tested on rows later than all that it had seen."
        )
    else:
        times = "once" if repeats == 1 else f"{repeats} times"
        tested = f"Each row was tested {times}, by a model that never saw it."
    return f"{tested} {_kept(files)} ± is the standard deviation between folds."


def _kept(files: RunFiles) -> str:
    epochs = (files.metrics.get("refit") or {}).get("epochs")
    if epochs is None:
        return f"The model that is kept is the average of the {len(files.folds)}."
    told = f"{_for(epochs)}, the median of the folds" if epochs else ""
    return f"The model that is kept was trained again on all rows{told}."


def _numbers(metrics: Mapping[str, Any]) -> tuple[int, int]:
    """Folds of a repeat, and repeats."""
    repeats = metrics.get("repeats") or 1
    return metrics.get("num_folds") or len(metrics["folds"]) // repeats, repeats
