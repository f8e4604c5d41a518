"""The whole flow in one function: a table in, a run folder out."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from kerastrain import environment
from kerastrain.assessment import assess
from kerastrain.config import ColumnConfig, RunConfig, parse_config
from kerastrain.deciding import decide
from kerastrain.decision import check as check_decision
from kerastrain.ensembles.auto import check_model, leaderboard, learn, rank
from kerastrain.estimator_learner import fit_for_own
from kerastrain.events import warn
from kerastrain.explaining import HeldOut, explain_run, write_background
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
from kerastrain.inputs import Sources, described, draw, open_sources, profiled
from kerastrain.learner import Learner, resolved_fit
from kerastrain.memory import limited
from kerastrain.parity import golden_cases
from kerastrain.parts import Parts, save_parts
from kerastrain.progress import Progress, make_progress
from kerastrain.recipes import with_recipe
from kerastrain.report import write_report
from kerastrain.resumption import request_of
from kerastrain.runtime import Devices, resolved_precision, runtime
from kerastrain.scene import Scene, array_store, budget, remove_arrays, scene
from kerastrain.schema import Schema
from kerastrain.serving import Run
from kerastrain.store import RunFolder, write_json, write_text

__all__ = ["run", "train"]

_EXPLAIN_SHARE = 0.05  # of a time limit


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
    frames, config = frames or {}, _checked(config)
    around = scene(config, frames, progress or Progress())
    with around as here, ExitStack() as stack:
        folder, stage = here.claimed.folder, here.stage
        limit = stack.enter_context(limited(budget(config, folder)))
        gate = Gate(config, here.recorder)
        with stage("profile"):
            sources = open_sources(config, frames)
            here.claimed.check_data(fingerprints(sources))
            schema = profiled(sources.data, config)
            gate.check_table()
        store = array_store(limit, schema, folder)
        stack.callback(remove_arrays, store, config)
        with stage("ingest"):
            table = ingest(sources.all, schema, store)
        with stage("split"):
            config, fits = draw(table, schema, config, sources.own, store)
            save_parts(fits, folder.split)
            raw = _golden_rows(fits[0], table, schema)
            held_out = HeldOut.of(table, schema, fits, seed=config.seed)
        devices = stack.enter_context(runtime(config.runtime, seed=config.seed))
        here.sampler.has_devices = True
        asked, config = config, _resolved(config, schema, fits[0], devices)
        write_text(folder.config, config.dumps())
        write_text(folder.schema, schema.dumps())
        job = Job(
            table, schema, config, store, folder, devices, here.progress, stage,
            sources.own, callbacks, here.started_s, len(fits), asked,
        )  # fmt: skip
        learner, metrics = _trained(job, fits, gate)
        config = job.config  # the first fit may have settled more of it
        write_text(folder.config, config.dumps())
        write_json(folder.metrics, metrics)  # a failed export leaves the scores
        _explain(learner, held_out, job)
        with stage("export"):
            learner.save(folder.model)
            metrics["parity"] = _export(learner, schema, raw, config, folder)
            write_json(folder.metrics, metrics)
        _tell_time(config, here.started_s)
        _report(here, config, sources)
        here.claimed.finish()
    return Run(folder, learner.model)


def _trained(job: Job, fits: list[Parts], gate: Gate) -> tuple[Learner, dict[str, Any]]:
    """The learner that is kept, and its scores."""
    if len(fits) > 1:
        learner, metrics = cross_validate(job, fits, lambda d: gate.check_rows(d, job))
    else:
        learner, metrics = _single(job, fits[0], gate)
    metrics |= {"split": described(job.config, fits), **job.settled.metrics}
    board = leaderboard(job)
    if board is not None:
        metrics["leaderboard"] = board.as_dict()
    return learner, metrics


def _single(job: Job, parts: Parts, gate: Gate) -> tuple[Learner, dict[str, Any]]:
    with job.stage("encode"):
        data = job.prepare(parts)
        job.table.release(job.store)  # it is encoded
        gate.check_rows(data, job)
    with job.stage("train"):
        learner = learn(job, data)
        decide(learner, data, job.config.decision)
        learner.save(job.folder.model)
    with job.stage("evaluate"):
        rank(job, learner, data)
        seed, keep = job.config.seed, job.folder.test_predictions
        return learner, assess(learner, data, job.target, seed=seed, keep=keep)


# --- the stages, in the order of the flow -----------------------------------------


def _checked(config: RunConfig) -> RunConfig:
    """ConfigError for a model that cannot be, before any data is read."""
    check_model(config.model)
    return fit_for_own(config)


def _resolved(
    config: RunConfig, schema: Schema, parts: Parts, devices: Devices
) -> RunConfig:
    """`config` with every `auto` as what it came to, so that it repeats this run."""
    assert schema.target is not None, "profile sets it when it is asked for"
    task = schema.target.task
    check_decision(task, schema.target.labels, config.decision)
    config = with_recipe(config, task, len(parts.train))
    fit = resolved_fit(config.fit, len(parts.train), devices.num_replicas)
    precision = resolved_precision(config.runtime.precision)
    types = {
        column.name: config.columns.get(column.name, ColumnConfig()).model_copy(
            update={"type": column.type}
        )
        for column in schema.features
    }
    update: dict[str, Any] = {
        "task": task,
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


def _explain(learner: Learner, held_out: HeldOut, job: Job) -> None:
    """What the model goes by and where it is weak, for the report."""
    config, folder, schema = job.config, job.folder, job.schema
    if not (config.explain and learner.is_keras):
        return
    limit, seconds = config.fit.time_limit, config.explain
    if limit is not None:
        seconds = min(seconds, _EXPLAIN_SHARE * limit)
    with job.stage("explain"):
        found = explain_run(
            learner.model, held_out, schema, seed=config.seed, seconds=seconds
        )
        write_json(folder.explanation, found)
        if len(held_out):
            write_background(folder.background, held_out, schema)


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


def _report(here: Scene, config: RunConfig, sources: Sources) -> None:
    """The report shows the surroundings, so they stand there before it is made; the
    time that it took is added."""
    folder, stages = here.claimed.folder, here.stages
    surroundings = _environment(config, sources, stages)
    write_json(folder.environment, surroundings)
    with here.stage("report"):
        write_report(folder)
    write_json(folder.environment, surroundings | {"stages": stages.records})


def _environment(
    config: RunConfig, sources: Sources, stages: environment.Stages
) -> dict[str, Any]:
    return environment.describe(
        config.seed, fingerprints(sources), sys.argv, stages=stages
    )


def fingerprints(sources: Sources) -> dict[str, Any]:
    return {name: one.fingerprint() for name, one in sources.by_name.items()}
