"""How the rows were split: bars of the parts, one for each fold, and the rule."""

from collections.abc import Mapping, Sequence
from typing import Any

from kerastrain.report.files import RunFiles
from kerastrain.report.html import count, escape, percent, truncated

__all__ = ["split_part"]

PARTS = ("train", "validation", "test", "dropped")
MAX_FOLDS = 12  # bars; more of them are as alike
Rows = Mapping[str, int]


def split_part(files: RunFiles) -> str:
    """Bars with a legend, and a sentence on the rule; empty when no rows are known."""
    folds = [fold["num_rows"] for fold in files.folds if fold.get("num_rows")]
    bars = _fold_bars(folds) if folds else _single_bar(files)
    rule = _rule(files.metrics.get("split") or {}, folds)
    return bars + (f'<p class="rule">{rule}</p>' if rule else "")


def _single_bar(files: RunFiles) -> str:
    """One bar of all rows, cut into the parts of the split."""
    rows = files.metrics.get("num_rows") or {}
    total = sum(rows.get(part) or 0 for part in PARTS)
    if not total:
        return ""
    shares = {
        part: f"{count(rows[part])} <small>({percent(rows[part] / total)})</small>"
        for part in PARTS
        if rows.get(part)
    }
    return _bar(rows, total, PARTS) + _legend(shares)


def _fold_bars(folds: Sequence[Rows]) -> str:
    """A bar for each fold, all on one scale: those of a time split grow."""
    totals = [sum(rows.get(part) or 0 for part in PARTS[:3]) for rows in folds]
    longest = max(*totals, 1)
    named = [(f"fold {number}", rows) for number, rows in enumerate(folds, start=1)]
    if _are_alike(folds):
        named = [("each fold", folds[0])]
    lines = "".join(
        f"<li><span>{name}</span>{_bar(rows, longest, PARTS[:3])}</li>"
        for name, rows in named[:MAX_FOLDS]
    )
    more = len(named) - MAX_FOLDS
    if more > 0:
        lines += f"<li><span></span><small>and {more} more</small></li>"
    ranges = {part: _range([r.get(part) or 0 for r in folds]) for part in PARTS[:3]}
    present = {part: text for part, text in ranges.items() if text}
    return f'<ul class="splits">{lines}</ul>{_legend(present)}'


def _are_alike(folds: Sequence[Rows]) -> bool:
    """Whether no part differs by more than a fiftieth between folds."""
    parts = [[rows.get(part) or 0 for rows in folds] for part in PARTS[:3]]
    return all(max(nums) - min(nums) <= max(nums) / 50 for nums in parts)


def _range(nums: Sequence[int]) -> str:
    low, high = min(nums), max(nums)
    if not high:
        return ""
    return count(low) if low == high else f"{count(low)} to {count(high)}"


def _bar(rows: Rows, total: int, parts: Sequence[str]) -> str:
    present = [(part, rows[part]) for part in parts if rows.get(part)]
    pieces = "".join(
        f'<i class="{part}" style="flex:{num / total:.4f} 0 3px"></i>'
        for part, num in present
    )
    rest = 1 - sum(num for _, num in present) / total
    if rest > 0:
        pieces += f'<i class="none" style="flex:{rest:.4f} 0 0"></i>'
    return f'<div class="split">{pieces}</div>'


def _legend(texts: Mapping[str, str]) -> str:
    entries = "".join(
        f'<span><i class="{part}"></i>{part} {text}</span>'
        for part, text in texts.items()
    )
    return f'<p class="legend">{entries}</p>'


def _rule(split: Mapping[str, Any], folds: Sequence[Rows]) -> str:
    """By what a row came into its part, and what lies in none."""
    column = f"<b>{escape(truncated(split.get('column') or '?', 40))}</b>"
    rule = {
        "content": "Rows are split by a hash of their content.",
        "group": f"Rows with the same {column} are always in the same part.",
        "time": f"Split by time, {column}: train rows come first, then validation, "
        "then test rows.",
        "column": f"Split as column {column} says.",
    }.get(split.get("kind", ""), "")
    if rule and split.get("gap"):
        rule += f" Between the parts a gap of {escape(split['gap'])} is left out."
    # A fold of time leaves out what comes later; nothing comes after the last.
    dropped = folds[-1].get("dropped") if folds else split.get("dropped")
    if rule and dropped:
        verb = "row is" if dropped == 1 else "rows are"
        where = " of the last fold" if folds and split["kind"] == "time" else ""
        rule += f" {count(dropped)} {verb} in no part{where}."
    return rule
