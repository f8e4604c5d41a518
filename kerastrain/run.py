"""The whole flow in one function: a table in, a run folder out."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kerastrain import environment
from kerastrain.arrays import ArrayStore
from kerastrain.assessment import assess
from kerastrain.config import ColumnConfig, RunConfig, parse_config
from kerastrain.errors import ConfigError
from kerastrain.events import recording
from kerastrain.fitting import Job
from kerastrain.folds import cross_validate
from kerastrain.gate import Gate
from kerastrain.ingest import Table, ingest
from kerastrain.inputs import Sources, described, draw, open_sources, split_keys
from kerastrain.learner import Learner, resolved_fit
from kerastrain.memory import Budget, give_back, limited, size_text
from kerastrain.parity import golden_cases
from kerastrain.parts import Parts, save_parts
from kerastrain.profile import profile
from kerastrain.progress import Progress, make_progress
from kerastrain.report import write_report
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
    data: Any,
    target: str | None = None,
    *,
    validation: Any = None,
    test: Any = None,
    progress: Progress | bool = True,
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
        settings: any key of the configuration, such as `model="linear"`,
            `model={"name": "mlp", "dropout": 0.2}`, `seed=1`, `out="runs/first"`.

    Returns:
        The run: `.metrics`, `.history`, `.predict(frame)`, `.model`, `.folder`.

    Raises:
        KerastrainError: see `kerastrain.errors`; each tells what to do.

    >>> import kerastrain
    >>> run = kerastrain.train("mydata.csv", target="churn")  # doctest: +SKIP
    """
    if isinstance(data, RunConfig):
        _refuse_beside(
            data, target=target, validation=validation, test=test, **settings
        )
        return run(data, progress=make_progress(progress))
    if (
        isinstance(data, dict)
        and target is None
        and isinstance(data.get("target"), str)
    ):
        _refuse_beside(data, validation=validation, test=test)
        return run(parse_config({**data, **settings}), progress=make_progress(progress))
    named: dict[str, Any] = {"target": target} if target is not None else {}
    frames = {}
    given = {"data": data, "validation": validation, "test": test}
    for name, value in given.items():
        if _is_address(value):
            named[name] = value if value is None else _addresses(value)
        else:
            frames[name] = value
    config = parse_config({**named, **settings})
    return run(config, frames=frames, progress=make_progress(progress))


def _refuse_beside(data: Any, **arguments: Any) -> None:
    """ConfigError for arguments that would have no effect."""
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise ConfigError(
            f"Beside a configuration ({type(data).__name__}), {', '.join(given)} would "
            "have no effect: set them in it."
        )


def _is_address(value: Any) -> bool:
    is_list = isinstance(value, list | tuple)
    parts = value if is_list else [value]
    return value is None or all(isinstance(part, str | Path) for part in parts)


def _addresses(value: Any) -> str | list[str]:
    return str(value) if isinstance(value, str | Path) else [str(v) for v in value]


def run(
    config: RunConfig,
    *,
    frames: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Run:
    """The flow. Each line is a stage; each stage is a file.

    Args:
        config: checked.
        frames: tables in memory that stand for `data`, `validation` and `test`.
    """
    folder = RunFolder.create(config.out, name=_run_name(config))
    stages, progress = Stages(), progress or Progress()
    with ExitStack() as stack:
        stack.enter_context(progress)
        recorder = stack.enter_context(recording(folder.events, progress.on_event))
        stage = _announced(stages, progress)
        budget = stack.enter_context(limited(_budget(config, folder)))
        gate = Gate(config, recorder)
        with stage("profile"):
            sources = open_sources(config, frames or {})
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
        config = _resolved(config, schema, fits[0], devices)
        write_text(folder.config, config.dumps())
        write_text(folder.schema, schema.dumps())
        job = Job(
            table, schema, config, store, folder, devices, progress, stage, sources.own
        )
        learner, metrics = _trained(job, fits, gate)
        config = job.config  # the first fit may have settled more of it
        write_text(folder.config, config.dumps())
        write_json(folder.metrics, metrics)  # a failed export leaves the scores
        with stage("export"):
            learner.save(folder.model)
            metrics["parity"] = _export(learner, schema, raw, config, folder)
            write_json(folder.metrics, metrics)
        surroundings = _environment(config, sources, stages)
        write_json(folder.environment, surroundings)
        with stage("report"):
            write_report(folder)
        _add_time_of_report(folder, surroundings, stages)
    return Run(folder, learner.model)


def _trained(job: Job, fits: list[Parts], gate: Gate) -> tuple[Learner, dict[str, Any]]:
    """The learner that is kept, and its scores."""
    if len(fits) > 1:
        learner, metrics = cross_validate(job, fits, lambda d: gate.check_rows(d, job))
    else:
        learner, metrics = _single(job, fits[0], gate)
    return learner, metrics | {"split": described(job.config, fits)}


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


def _announced(stages: Stages, progress: Progress) -> Callable[[str], Any]:
    @contextmanager
    def stage(name: str) -> Iterator[None]:
        progress.on_stage(name)
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


def _add_time_of_report(
    folder: RunFolder, surroundings: dict[str, Any], stages: Stages
) -> None:
    """The report shows the surroundings, so they stood there before it was made."""
    write_json(folder.environment, surroundings | {"stages": stages.records})


def _environment(config: RunConfig, sources: Sources, stages: Stages) -> dict[str, Any]:
    fingerprint = {name: one.fingerprint() for name, one in sources.by_name.items()}
    return environment.describe(config.seed, fingerprint, sys.argv, stages=stages)
