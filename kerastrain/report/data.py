"""The data of a run: how the rows were split, and each column at a glance."""

from collections.abc import Sequence
from typing import Any

from kerastrain.report.files import RunFiles
from kerastrain.report.html import (
    count,
    date,
    details,
    escape,
    number,
    percent,
    section,
    table,
    truncated,
)
from kerastrain.report.parts import split_part
from kerastrain.schema import QUANTILES, Column, ColumnStats

__all__ = ["data_section"]

MAX_OPEN = 60  # columns beyond it are folded away
MAX_BARS = 4
MAX_TARGET_BARS = 30
MAX_NAMED = 12


def data_section(files: RunFiles) -> str:
    schema = files.schema
    body = split_part(files) + _findings(files)
    if schema is None:
        return section("data", "The data", body)
    by_role: dict[str, list[Column]] = {}
    for column in schema.columns:
        by_role.setdefault(column.role, []).append(column)
    for column in by_role.get("target", []):
        body += f"<h3>Target</h3>{_target(column)}"
    used = by_role.get("feature", []) + by_role.get("weight", [])
    if used:
        body += f"<h3>{_columns_text(len(used))} used</h3>{_grid(used[:MAX_OPEN])}"
    if len(used) > MAX_OPEN:
        rest = used[MAX_OPEN:]
        body += details(f"{_columns_text(len(rest))} more", _grid(rest))
    ignored = by_role.get("ignored", [])
    if ignored:
        body += f"<h3>{_columns_text(len(ignored))} left out</h3>{_grid(ignored)}"
    lead = (
        f"{count(schema.num_rows)} rows, {_columns_text(len(schema.columns))}. A strip "
        "reaches from the 1 % to the 99 % quantile, its box holds half of the rows; "
        "below it stand the least, the middle and the largest value."
    )
    return section("data", "The data", body, lead=lead)


def _columns_text(num: int) -> str:
    return f"{num:,} column" + ("" if num == 1 else "s")


def _findings(files: RunFiles) -> str:
    """What the quality gate found, warnings first; the events tell it in full."""
    found = [e for e in files.events if (e.get("details") or {}).get("gate")]
    found.sort(key=lambda event: event.get("severity") != "warning")
    rows = [
        (escape(e.get("severity", "")), escape(_title(e)), escape(_named(e)))
        for e in found
    ]
    if not rows:
        return ""
    head = ("Severity", "Finding", "Columns")
    return f"<h3>Quality checks</h3>{table(head, rows)}"


def _title(event: dict[str, Any]) -> str:
    """`possible_leak` as "Possible leak"."""
    return str(event.get("code", "")).replace("_", " ").capitalize()


def _named(event: dict[str, Any]) -> str:
    names = [str(name) for name in event["details"].get("columns") or ()]
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(truncated(name, 40) for name in names[:MAX_NAMED]) + more


def _target(column: Column) -> str:
    """The classes with their shares, or the spread of the values."""
    stats = column.stats
    top = stats.top[:MAX_TARGET_BARS]
    is_classes = bool(top) and (stats.storage != "float" or stats.num_distinct <= 10)
    body = _bars(top, stats, 30) if is_classes and stats.num_distinct <= 100 else ""
    body = body or _spread(column)
    num_more = stats.num_distinct - len(top)
    more = (
        f"<p>and {count(num_more)} more classes</p>"
        if "bars" in body and num_more
        else ""
    )
    name = escape(truncated(column.name, 60))
    missing = _missing(stats)
    return f'<div class="target"><b>{name}</b>{body}{more}<p>{missing}</p></div>'


def _grid(columns: Sequence[Column]) -> str:
    return f'<div class="columns">{"".join(_card(column) for column in columns)}</div>'


def _card(column: Column) -> str:
    stats = column.stats
    name, title = escape(truncated(column.name, 40)), escape(column.name)
    reason = f'<p class="reason">{escape(column.reason)}</p>' if column.reason else ""
    weight = ' <span class="badge">row weight</span>' if column.role == "weight" else ""
    return (
        f'<article class="{column.role}"><h4 title="{title}">{name}</h4>'
        f'<p class="kind"><span class="badge">{escape(column.type)}</span>{weight} '
        f"{_missing(stats)} · {count(stats.num_distinct)} distinct</p>"
        f"{reason}{_picture(column)}</article>"
    )


def _missing(stats: ColumnStats) -> str:
    if not stats.num_missing:
        return "none missing"
    share = stats.num_missing / max(stats.num_rows, 1)
    kind = ' class="much"' if share > 0.3 else ""
    return f"<span{kind}>{percent(share)} missing</span>"


def _picture(column: Column) -> str:
    """Bars of the most frequent values, or the spread of the numbers."""
    stats = column.stats
    has_spread = len(stats.quantiles) == len(QUANTILES) and stats.max is not None
    if has_spread and (stats.num_distinct > 6 or column.type == "datetime"):
        return _spread(column)
    return _bars(stats.top[:MAX_BARS], stats, 18)


def _bars(top: Sequence[tuple[str, int]], stats: ColumnStats, limit: int) -> str:
    """A line for each value: its name, a bar, its share of the present rows."""
    total = max(stats.num_present, 1)
    longest = max((num for _, num in top), default=1)
    lines = "".join(
        f'<li><span title="{escape(value)}">{escape(truncated(value, limit))}</span>'
        f'<i><i style="width:{100 * num / max(longest, 1):.1f}%"></i></i>'
        f"<span>{percent(num / total)}</span></li>"
        for value, num in top
    )
    return f'<ul class="bars">{lines}</ul>' if lines else ""


def _spread(column: Column) -> str:
    """A strip from the 1 % to the 99 % quantile: half of the rows lie in the box."""
    stats = column.stats
    if len(stats.quantiles) != len(QUANTILES) or stats.min is None:
        return ""
    first, low, quarter, middle, three, high, last = stats.quantiles
    width = last - first

    def place(value: float) -> float:
        return 2 + 196 * ((value - first) / width if width > 0 else 0.5)

    a, b, c, d, e = (place(value) for value in (low, quarter, middle, three, high))
    show = date if column.type == "datetime" else lambda value: number(value, 4)
    strip = (
        '<svg class="spread" viewBox="0 0 200 22" preserveAspectRatio="none" '
        'aria-hidden="true"><path d="M2 11H198"/>'
        f'<path class="most" d="M{a:.1f} 11H{e:.1f}"/>'
        f'<rect x="{b:.1f}" y="4" width="{max(d - b, 1):.1f}" height="14" rx="2"/>'
        f'<path class="middle" d="M{c:.1f} 1V21"/></svg>'
    )
    least, most = f"<span>{show(stats.min)}</span>", f"<span>{show(stats.max)}</span>"
    return f'{strip}<p class="ends">{least}<b>{show(middle)}</b>{most}</p>'
