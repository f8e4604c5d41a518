"""What happened on the way, the configuration and the machine."""

from typing import Any

from kerastrain.report.files import RunFiles
from kerastrain.report.html import (
    count,
    details,
    duration,
    escape,
    section,
    size,
    table,
)

__all__ = ["configuration", "environment", "events"]

MAX_OPEN = 12  # notes beyond it are folded away
MAX_HASH = 12


def events(files: RunFiles) -> str:
    """Warnings first, then the choices that were made for the user."""
    warnings = [e for e in files.events if e.get("severity") == "warning"]
    notes = [e for e in files.events if e.get("severity") != "warning"]
    body = _list(warnings) + _list(notes[:MAX_OPEN])
    if len(notes) > MAX_OPEN:
        rest = notes[MAX_OPEN:]
        body += details(f"{len(rest)} more", _list(rest))
    lead = f"{len(warnings) or 'No'} warning{'' if len(warnings) == 1 else 's'}, "
    lead += f"{len(notes)} note{'' if len(notes) == 1 else 's'}."
    return section("events", "What you should know", body, lead=lead if body else "")


def _list(found: list[dict[str, Any]]) -> str:
    lines = "".join(
        f'<li class="{"warning" if e.get("severity") == "warning" else "info"}">'
        f"<span>{escape(e.get('message', ''))}</span>"
        f"<code>{escape(e.get('code', ''))}</code></li>"
        for e in found
    )
    return f'<ul class="events">{lines}</ul>' if lines else ""


def configuration(files: RunFiles) -> str:
    """The parts that people ask for first, then the whole file."""
    if not files.config_text:
        return ""
    chosen = [
        (name, _inline(files.config[name]))
        for name in ("model", "fit", "optimizer", "schedule", "objective", "split")
        if files.config.get(name)
    ]
    body = table([], [(escape(k), f"<code>{escape(v)}</code>") for k, v in chosen])
    body += details("config.yaml", f"<pre>{escape(files.config_text)}</pre>")
    lead = "This file, given to <code>--config</code>, makes the same run again."
    return section("configuration", "Configuration", body, lead=lead)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_inline(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(_inline(item) for item in value) + "]"
    return "none" if value is None else str(value)


def environment(files: RunFiles) -> str:
    found = files.environment
    if not found:
        return ""
    body = _stages(found.get("stages") or [])
    body += table([], [(escape(k), escape(v)) for k, v in _machine(found) if v])
    packages = found.get("packages") or {}
    versions = [(escape(k), escape(v or "not installed")) for k, v in packages.items()]
    if versions:
        body += details("Package versions", table([], versions))
    return section("environment", "Time, memory and machine", body)


def _stages(stages: list[dict[str, Any]]) -> str:
    """Each stage in its order: time with a bar, and peak memory, the highest marked."""
    if not stages:
        return ""
    longest = max(stage["seconds"] for stage in stages) or 1
    peaks = [stage.get("peak_memory_bytes") or 0 for stage in stages]
    highest = peaks.index(max(peaks))
    lines = [
        [
            escape(stage["name"]),
            f'<i><i style="width:{100 * stage["seconds"] / longest:.1f}%"></i></i>',
            duration(stage["seconds"]),
            _peak(stage, is_highest=index == highest and len(stages) > 1),
        ]
        for index, stage in enumerate(stages)
    ]
    head = ["stage", "", "time", "peak memory"]
    said = "Peak memory is what the whole process held resident during the stage."
    return table(head, lines, kind="stages") + f'<p class="caption">{said}</p>'


def _peak(stage: dict[str, Any], *, is_highest: bool) -> str:
    shown = size(stage.get("peak_memory_bytes"))
    if not is_highest or not stage.get("peak_memory_bytes"):
        return shown
    return f'<b class="highest" title="the highest of all stages">{shown}</b>'


def _machine(found: dict[str, Any]) -> list[tuple[str, str]]:
    memory = found.get("memory_bytes")
    cores = found.get("cores")
    processor = str(found.get("cpu") or "")
    processor += f" ({cores} cores)" if processor and cores else ""
    command = found.get("command") or ""
    return [
        ("Command", command if isinstance(command, str) else " ".join(command)),
        ("Started", str(found.get("started") or "")),
        ("Seed", str(found.get("seed", ""))),
        ("Data", _fingerprint(found.get("data"))),
        ("Code", _git(found.get("git"))),
        ("Python", str(found.get("python") or "")),
        ("System", str(found.get("platform") or "")),
        ("Processor", processor),
        ("GPU", ", ".join(found.get("gpus") or []) or "none"),
        ("Memory", size(memory) if memory else ""),
        ("Peak memory", size(found.get("peak_memory_bytes"))),
    ]


def _git(git: dict[str, Any] | None) -> str:
    if not git:
        return ""
    commit = str(git.get("commit") or git.get("hash") or "")[:MAX_HASH]
    return f"{commit}, with uncommitted changes" if git.get("dirty") else commit


def _fingerprint(value: Any) -> str:
    """Nested values in a line; hashes are cut, numbers grouped."""
    if isinstance(value, dict):
        parts = (f"{key}: {_fingerprint(item)}" for key, item in value.items())
        return ", ".join(parts)
    if isinstance(value, list):
        shown = "; ".join(_fingerprint(item) for item in value[:5])
        return shown + (f"; and {len(value) - 5} more" if len(value) > 5 else "")
    if isinstance(value, int) and not isinstance(value, bool):
        return count(value)
    text = "" if value is None else str(value)
    is_hash = len(text) >= 32 and " " not in text and "/" not in text
    return text[:MAX_HASH] + "…" if is_hash else text
