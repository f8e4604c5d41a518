"""Small pieces of HTML: escaped text, numbers for people, tables."""

import datetime as dt
import html
import math
from collections.abc import Iterable, Sequence

__all__ = [
    "count", "date", "details", "duration", "escape", "fixed", "number", "percent",
    "section", "size", "table", "truncated",
]  # fmt: skip


def escape(value: object) -> str:
    """Text that shows as it is, in an element or in a quoted attribute."""
    return html.escape(str(value), quote=True)


def truncated(text: object, limit: int = 24) -> str:
    """At most `limit` characters; not escaped."""
    plain = " ".join(str(text).split())
    return plain if len(plain) <= limit else plain[: limit - 1].rstrip() + "…"


def count(value: float) -> str:
    """`12345` as `12,345`."""
    return f"{int(value):,}"


def fixed(value: float | None, digits: int) -> str:
    """With `digits` decimals, thousands apart; no minus before a zero."""
    if value is None:
        return "–"
    return f"{round(value, digits) + 0.0:,.{digits}f}"


def number(value: float | None, digits: int = 4) -> str:
    """`digits` significant digits, thousands apart; a dash for None or NaN."""
    if value is None or not math.isfinite(value):
        return "–"
    size_of = abs(value)
    if value == 0 or 1e-4 <= size_of < 1e9:
        whole = 1 if value == 0 else math.floor(math.log10(size_of)) + 1
        text = f"{value:,.{min(max(digits - max(whole, 1), 0), 6)}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.{digits}g}"


def percent(share: float) -> str:
    """`0.1234` as `12 %`; shares near an end never look like the end."""
    value = 100 * share
    if 0 < value < 0.1:
        return "< 0.1 %"
    if 99.9 < value < 100:
        return "> 99.9 %"
    is_near_an_end = 0 < value < 9.95 or 99 < value < 100
    return f"{value:.1f} %" if is_near_an_end else f"{value:.0f} %"


def duration(seconds: float) -> str:
    """`75.2` as `1 min 15 s`."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def size(num_bytes: float | None) -> str:
    """`2_500_000_000` as `2.5 GB`."""
    if num_bytes is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return (
                f"{num_bytes:.0f} {unit}"
                if num_bytes >= 10
                else f"{num_bytes:.1f} {unit}"
            )
        num_bytes /= 1000
    return f"{num_bytes:,.1f} TB"


def date(seconds: float | None) -> str:
    """Seconds since 1970 as a day."""
    try:
        start = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        return (start + dt.timedelta(seconds=seconds or 0)).date().isoformat()
    except OverflowError:
        return "–"


def section(name: str, title: str, body: str, *, lead: str = "") -> str:
    """A part of the page that the navigation can jump to; nothing without a body."""
    if not body:
        return ""
    lead = f'<p class="lead">{lead}</p>' if lead else ""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{lead}{body}</section>'


def details(summary: str, body: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "plain"
) -> str:
    """A table of cells that are HTML already; on a narrow page it scrolls."""
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    header = f"<thead><tr>{cells}</tr></thead>" if head else ""
    lines = "".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows
    )
    body = f'<table class="{kind}">{header}<tbody>{lines}</tbody></table>'
    return f'<div class="scroll">{body}</div>'
