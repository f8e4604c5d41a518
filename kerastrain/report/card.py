"""The small card that a run shows in a notebook."""

from kerastrain.report.answer import TASKS, headline
from kerastrain.report.files import RunFiles
from kerastrain.report.folds import folds_words
from kerastrain.report.html import count, duration, escape, truncated
from kerastrain.store import RunFolder

__all__ = ["card"]

_BOX = (
    "font-family:system-ui,sans-serif;line-height:1.45;max-width:34rem;"
    "padding:14px 18px;border:1px solid #8885;"
    "border-left:4px solid #2f5fd0;border-radius:8px"
)


def card(folder: RunFolder) -> str:
    """HTML with its styles inline: what was learnt, how good it is, rows and time."""
    files = RunFiles.read(folder)
    shown = headline(files)
    value = ""
    if shown["value"]:
        spread = f" {shown['spread']}" if shown["spread"] else ""
        interval = f" ({shown['interval']})" if shown["interval"] else ""
        value = (
            '<div style="margin:6px 0">'
            f'<b style="font-size:1.7em">{shown["value"]}</b> '
            f"{escape(shown['title'])}"
            f'<span style="opacity:.65">{spread}{interval}</span></div>'
        )
    sentence = (files.metrics.get("verdict") or {}).get("sentence")
    verdict = f"<div>{escape(sentence)}</div>" if sentence else ""
    return (
        f'<div style="{_BOX}"><b>{escape(truncated(files.target, 40))}</b> '
        f'<span style="opacity:.65">{TASKS.get(files.task, "")}</span>'
        f"{value}{verdict}"
        '<div style="opacity:.65;font-size:.85em;margin-top:8px">'
        f"{_foot(files)}</div></div>"
    )


def _foot(files: RunFiles) -> str:
    rows = files.metrics.get("num_rows") or {}
    parts = [f"{count(rows[n])} {n} rows" for n in ("train", "test") if rows.get(n)]
    parts += [folds_words(files.metrics)] if files.folds else []
    parts += [duration(files.seconds)] if files.seconds else []
    parts += [escape(files.name)]
    return " · ".join(parts)
