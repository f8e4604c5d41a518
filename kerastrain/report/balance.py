"""What was measured before the classes of very different size were treated."""

from collections.abc import Mapping

from kerastrain.report.files import RunFiles
from kerastrain.report.html import count, escape, fixed, section, table

__all__ = ["balance_section"]


def balance_section(files: RunFiles) -> str:
    """A line for each method; empty where nothing was measured."""
    choice = files.metrics.get("imbalance") or {}
    scores = choice.get("scores") or {}
    if not scores:
        return ""
    chosen = choice.get("chosen", "")
    lines = [_line(name, cell, name == chosen) for name, cell in scores.items()]
    head = ["method", "average precision", "gains at least", "log loss", ""]
    body = table(head, lines, kind="metrics")
    return section("balance", "Rare classes", body, lead=_lead(choice.get("num_rows")))


def _line(name: str, cell: Mapping[str, float | None], is_chosen: bool) -> list[str]:
    words = escape(name.replace("_", " "))
    gain = cell.get("gain_low")
    return [
        f"<b>{words}</b>" if is_chosen else words,
        fixed(cell.get("average_precision"), 3),
        "–" if gain is None else f"{gain:+.3f}",
        fixed(cell.get("log_loss"), 4),
        '<span class="badge">chosen</span>' if is_chosen else "",
    ]


def _lead(num_rows: Mapping[str, int] | None) -> str:
    rows = ""
    if num_rows:
        rows = (
            f" on {count(num_rows['train'])} train rows and measured on "
            f"{count(num_rows['validation'])} validation rows"
        )
    return (
        f"Each way was tried with a small network{rows}. A way is chosen only if it is "
        "better than none beyond chance: the low end of the 95 % interval of its gain "
        "is above 0."
    )
