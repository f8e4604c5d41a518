"""What is there around the stages of a run: its folder, events, progress, memory."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerastrain import environment
from kerastrain.arrays import ArrayStore
from kerastrain.config import RunConfig
from kerastrain.environment import Stages
from kerastrain.events import Recorder, recording
from kerastrain.memory import Budget, give_back, size_text
from kerastrain.progress import Progress
from kerastrain.resources import ResourceSampler
from kerastrain.resumption import Claim, claim, going_on
from kerastrain.schema import Schema
from kerastrain.secrets import HIDDEN, hide_password
from kerastrain.store import RunFolder
from kerastrain.texts import text_bytes

__all__ = ["Scene", "array_store", "budget", "remove_arrays", "scene"]


@dataclass(frozen=True)
class Scene:
    """What is there around the stages of a run.

    Args:
        stage: times a stage and tells it to the progress.
        started_s: by `time.monotonic`.
    """

    claimed: Claim
    recorder: Recorder
    progress: Progress
    stages: Stages
    stage: Callable[[str], Any]
    sampler: ResourceSampler
    started_s: float


@contextmanager
def scene(
    config: RunConfig, frames: dict[str, Any], progress: Progress
) -> Iterator[Scene]:
    """The folder of the run, claimed, with its events and resources being recorded."""
    started_s, stages = progress.asked_s or time.monotonic(), Stages()
    with ExitStack() as stack:
        stack.enter_context(progress)
        claimed = stack.enter_context(claim(config, _run_name(config), sorted(frames)))
        folder = claimed.folder
        stack.enter_context(going_on(folder))
        recorder = stack.enter_context(
            recording(folder.events, progress.on_event, goes_on=claimed.is_resumed)
        )
        sampler = stack.enter_context(
            ResourceSampler(folder.resources, config.watch.resources_every)
        )
        stage = _announced(stages, progress, sampler)
        yield Scene(claimed, recorder, progress, stages, stage, sampler, started_s)


def _run_name(config: RunConfig) -> str:
    data = config.data[0] if isinstance(config.data, list) else config.data
    shown = hide_password(data or "frame").replace(HIDDEN, "")
    plain = re.split("[?*]", shown)[0].rstrip("/")
    stem = Path(plain).name.rpartition(":")[2].partition(".")[0] or "data"
    return f"{stem}-{config.target}"


def _announced(
    stages: Stages, progress: Progress, sampler: ResourceSampler
) -> Callable[[str], Any]:
    @contextmanager
    def stage(name: str) -> Iterator[None]:
        progress.on_stage(name)
        sampler.stage = name
        with stages(name):
            yield
        give_back()

    return stage


def budget(config: RunConfig, folder: RunFolder) -> Budget:
    """What the run may take; DataError when that is too little for any run."""
    base, total = environment.resident_bytes(), config.runtime.memory
    if total == "auto":
        total = base + environment.free_memory_bytes() // 2
    budget = Budget(total, base, folder.arrays)
    budget.check()
    return budget


def array_store(budget: Budget, schema: Schema, folder: RunFolder) -> ArrayStore:
    """DataError when what cannot be put on disk does not fit."""
    needed, name = text_bytes(schema)
    budget.check(
        needed,
        f"Different texts take {size_text(needed)}, those of '{name}' the most: leave "
        f"it out (--ignore {name}) if they name rows."
        if needed
        else "",
    )
    return ArrayStore(folder.arrays, budget.arrays)


def remove_arrays(store: ArrayStore, config: RunConfig) -> None:
    if not config.runtime.keep_arrays:
        store.remove_files()
