"""The whole flow in one function: a table in, a run folder out."""

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerastrain import environment
from kerastrain.arrays import ArrayStore
from kerastrain.assessment import assess
from kerastrain.config import ColumnConfig, RunConfig, parse_config
from kerastrain.events import Recorder, recording, warn
from kerastrain.fitting import Job
from kerastrain.folds import cross_validate
from kerastrain.gate import Gate
from kerastrain.given import (
    addresses,
    check_callbacks,
    is_address,
    refuse_beside,
    refuse_with_resume,
    with_lent,
)
from kerastrain.ingest import Table, ingest
from kerastrain.inputs import Sources, described, draw, open_sources, split_keys
from kerastrain.learner import Learner, resolved_fit
from kerastrain.memory import Budget, give_back, limited, size_text
from kerastrain.parity import golden_cases
from kerastrain.parts import Parts, save_parts
from kerastrain.profile import profile
from kerastrain.progress import Progress, make_progress
from kerastrain.report import write_report
from kerastrain.resources import ResourceSampler
from kerastrain.resumption import Claim, claim, going_on, request_of
from kerastrain.runtime import Devices, resolved_precision, runtime
from kerastrain.schema import Schema
from kerastrain.secrets import HIDDEN, hide_password
from kerastrain.serving import Run
from kerastrain.source import Source
from kerastrain.store import RunFolder, write_json, write_text
from kerastrain.texts import text_bytes

__all__ = ["run", "train"]

Stages = environment.Stages


def train(
    data: Any = None,
    target: str | None = None,
    *,
    validation: Any = None,
    test: Any = None,
    progress: Progress | bool = True,
    callbacks: Sequence[Any] = (),
    resume: str | Path | None = None,
    **settings: Any,
) -> Run:
    """Train, evaluate, export and report; everything but the target is inferred.

    Args:
        data: a path, a glob or a list of them; a pandas, polars or pyarrow table; or
            a configuration (`RunConfig`, or its mapping).
        target: the column to predict.
        validation: validation rows of one's own, in any form that `data` may have.
        test: test rows of one's own, likewise.
        progress: shown on stderr; False is silent.
        callbacks: Keras callbacks of one's own; they see validation metrics in `logs`.
            Their attributes that are numbers or arrays outlive a crash.
        resume: the folder of a run that was stopped, to go on in; alone, or with the
            tables that it was begun with. The same call with the same `out` does so
            too. It ends with the numbers of a run that was never stopped.
        settings: any key of the configuration, such as `model="linear"`,
            `model={"name": "mlp", "dropout": 0.2}`, `seed=1`, `out="runs/first"`;
            `model` may be a function of yours: features to a Keras tensor.

    Returns:
        The run: `.metrics`, `.history`, `.predict(frame)`, `.model`, `.folder`.

    Raises:
        KerastrainError: see `kerastrain.errors`; each tells what to do.

    >>> import kerastrain
    >>> run = kerastrain.train("mydata.csv", target="churn")  # doctest: +SKIP
    """
    settings = with_lent(settings)
    check_callbacks(callbacks)
    shown: dict[str, Any] = {
        "progress": make_progress(progress),
        "callbacks": callbacks,
    }
    if resume is not None:
        refuse_with_resume(target=target, **settings)
        frames = {"data": data, "validation": validation, "test": test}
        given = {name: value for name, value in frames.items() if value is not None}
        return run(request_of(str(resume), given), frames=given, **shown)
    if isinstance(data, RunConfig):
        refuse_beside(data, target=target, validation=validation, test=test, **settings)
        return run(data, **shown)
    if (
        isinstance(data, dict)
        and target is None
        and isinstance(data.get("target"), str)
    ):
        refuse_beside(data, validation=validation, test=test)
        return run(parse_config({**data, **settings}), **shown)
    named: dict[str, Any] = {"target": target} if target is not None else {}
    frames = {}
    given = {"data": data, "validation": validation, "test": test}
    for name, value in given.items():
        if is_address(value):
            named[name] = value if value is None else addresses(value)
        else:
            frames[name] = value
    config = parse_config({**named, **settings})
    return run(config, frames=frames, **shown)


def run(
    config: RunConfig,
    *,
    frames: dict[str, Any] | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[Any] = (),
) -> Run:
    """The flow. Each line is a stage; each stage is a file.

    Args:
        config: checked.
        frames: tables in memory that stand for `data`, `validation` and `test`.
        callbacks: Keras callbacks of the user's.
    """
    frames = frames or {}
    with _scene(config, frames, progress or Progress()) as scene, ExitStack() as stack:
        folder, stage = scene.claimed.folder, scene.stage
        budget = stack.enter_context(limited(_budget(config, folder)))
        gate = Gate(config, scene.recorder)
        with stage("profile"):
            sources = open_sources(config, frames)
            scene.claimed.check_data(fingerprints(sources))
            schema = _profile(sources.data, config)
            gate.check_table()
        store = _array_store(budget, schema, folder)
        stack.callback(_remove_arrays, store, config)
        with stage("ingest"):
            table = ingest(sources.all, schema, store)
        with stage("split"):
            config, fits = draw(table, schema, config, sources.own, store)
            save_parts(fits, folder.split)
            raw = _golden_rows(fits[0], table, schema)
        devices = stack.enter_context(runtime(config.runtime, seed=config.seed))
        scene.sampler.has_devices = True
        config = _resolved(config, schema, fits[0], devices)
        write_text(folder.config, config.dumps())
        write_text(folder.schema, schema.dumps())
        job = Job(
            table, schema, config, store, folder, devices, scene.progress, stage,
            sources.own, callbacks, scene.started_s, len(fits),
        )  # fmt: skip
        learner, metrics = _trained(job, fits, gate)
        config = job.config  # the first fit may have settled more of it
        write_text(folder.config, config.dumps())
        write_json(folder.metrics, metrics)  # a failed export leaves the scores
        with stage("export"):
            learner.save(folder.model)
            metrics["parity"] = _export(learner, schema, raw, config, folder)
            write_json(folder.metrics, metrics)
        _tell_time(config, scene.started_s)
        _report(scene, config, sources)
        scene.claimed.finish()
    return Run(folder, learner.model)


@dataclass(frozen=True)
class _Scene:
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
def _scene(
    config: RunConfig, frames: dict[str, Any], progress: Progress
) -> Iterator[_Scene]:
    """The folder of the run, claimed, with its events and resources being recorded."""
    started_s, stages = time.monotonic(), Stages()
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
        yield _Scene(claimed, recorder, progress, stages, stage, sampler, started_s)


def _trained(job: Job, fits: list[Parts], gate: Gate) -> tuple[Learner, dict[str, Any]]:
    """The learner that is kept, and its scores."""
    if len(fits) > 1:
        learner, metrics = cross_validate(job, fits, lambda d: gate.check_rows(d, job))
    else:
        learner, metrics = _single(job, fits[0], gate)
    metrics |= {"split": described(job.config, fits), **job.settled.metrics}
    return learner, metrics


def _single(job: Job, parts: Parts, gate: Gate) -> tuple[Learner, dict[str, Any]]:
    with job.stage("encode"):
        data = job.prepare(parts)
        job.table.release(job.store)  # it is encoded
        gate.check_rows(data, job)
    with job.stage("train"):
        learner = job.fit(data)
        learner.save(job.folder.model)
    with job.stage("evaluate"):
        return learner, assess(learner, data, job.target, seed=job.config.seed)


# --- the stages, in the order of the flow -----------------------------------------


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


def _profile(source: Source, config: RunConfig) -> Schema:
    return profile(
        source,
        target=config.target,
        task=config.task,
        positive_label=config.positive_label,
        weight=config.weight,
        columns=config.columns,
        ignore=config.ignore,
        keep=config.keep,
        keys=split_keys(config),
    )


def _budget(config: RunConfig, folder: RunFolder) -> Budget:
    """What the run may take; DataError when that is too little for any run."""
    base, total = environment.resident_bytes(), config.runtime.memory
    if total == "auto":
        total = base + environment.free_memory_bytes() // 2
    budget = Budget(total, base, folder.arrays)
    budget.check()
    return budget


def _array_store(budget: Budget, schema: Schema, folder: RunFolder) -> ArrayStore:
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


def _remove_arrays(store: ArrayStore, config: RunConfig) -> None:
    if not config.runtime.keep_arrays:
        store.remove_files()


def _resolved(
    config: RunConfig, schema: Schema, parts: Parts, devices: Devices
) -> RunConfig:
    """`config` with every `auto` as what it came to, so that it repeats this run."""
    fit = resolved_fit(config.fit, len(parts.train), devices.num_replicas)
    precision = resolved_precision(config.runtime.precision)
    types = {
        column.name: config.columns.get(column.name, ColumnConfig()).model_copy(
            update={"type": column.type}
        )
        for column in schema.features
    }
    update: dict[str, Any] = {
        "task": schema.target.task if schema.target else "auto",
        "fit": fit,
        "features": config.features.resolved(len(parts.train)),
        "runtime": config.runtime.model_copy(update={"precision": precision}),
        "columns": config.columns | types,
    }
    return config.model_copy(update=update)


def _golden_rows(parts: Parts, table: Table, schema: Schema) -> dict[str, np.ndarray]:
    """Raw rows to replay; test rows first, with values that the model never saw."""
    first = [rows[:256] for rows in (parts.test, parts.validation, parts.train)]
    return table.raw(schema, np.concatenate(first)[:256])


def _export(
    learner: Learner,
    schema: Schema,
    raw: dict[str, np.ndarray],
    config: RunConfig,
    folder: RunFolder,
) -> dict[str, Any]:
    """Every export, each replayed in a fresh process; ParityError when one differs."""
    golden = golden_cases(learner.model, schema, raw)
    write_json(folder.golden, golden)
    return {
        part.name: learner.export(part.name, folder.exports, golden, **part.options)
        for part in config.exports
    }


def _tell_time(config: RunConfig, started_s: float) -> None:
    """Where more than training took longer than the limit left."""
    limit, took_s = config.fit.time_limit, time.monotonic() - started_s
    if limit is not None and took_s > limit:
        warn(
            "time_limit_passed",
            f"The run took {took_s:.0f} s, and its limit was {limit:g} s: reading, "
            "compiling (for each fold), evaluation and export cannot be cut short. "
            "Fewer folds (--folds 1) take less.",
            seconds=took_s,
        )


def _report(scene: _Scene, config: RunConfig, sources: Sources) -> None:
    """The report shows the surroundings, so they stand there before it is made; the
    time that it took is added."""
    folder, stages = scene.claimed.folder, scene.stages
    surroundings = _environment(config, sources, stages)
    write_json(folder.environment, surroundings)
    with scene.stage("report"):
        write_report(folder)
    write_json(folder.environment, surroundings | {"stages": stages.records})


def _environment(config: RunConfig, sources: Sources, stages: Stages) -> dict[str, Any]:
    return environment.describe(
        config.seed, fingerprints(sources), sys.argv, stages=stages
    )


def fingerprints(sources: Sources) -> dict[str, Any]:
    return {name: one.fingerprint() for name, one in sources.by_name.items()}
