"""The whole flow in one function: a table in, a run folder out."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastrain import environment
from kerastrain.arrays import ArrayStore
from kerastrain.assessment import assess
from kerastrain.callbacks import BestWeights, Checkpoints, HistoryFile
from kerastrain.config import ColumnConfig, RunConfig, parse_config
from kerastrain.errors import ConfigError, DataError
from kerastrain.events import note, recording
from kerastrain.ingest import Table, ingest
from kerastrain.learner import KerasLearner, Learner, TrainingPlan, resolved_fit
from kerastrain.memory import Budget, limited
from kerastrain.parity import golden_cases
from kerastrain.prepare import Prepared, prepare
from kerastrain.profile import profile
from kerastrain.progress import Progress, make_progress
from kerastrain.report import write_report
from kerastrain.runtime import Devices, resolved_precision, runtime
from kerastrain.schema import Schema, Target
from kerastrain.serving import Run
from kerastrain.source import Source, open_source
from kerastrain.split import Parts, split
from kerastrain.store import RunFolder, write_json, write_text
from kerastrain.trackers import TRACKERS

__all__ = ["run", "train"]

Stages = environment.Stages


def train(
    data: Any,
    target: str | None = None,
    *,
    test: Any = None,
    progress: Progress | bool = True,
    **settings: Any,
) -> Run:
    """Train, evaluate, export and report; everything but the target is inferred.

    Args:
        data: a path, a glob or a list of them; a pandas, polars or pyarrow table; or
            a configuration (`RunConfig`, or its mapping).
        target: the column to predict.
        test: test rows of one's own, in any form that `data` may have.
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
        _refuse_beside(data, target=target, test=test, **settings)
        return run(data, progress=make_progress(progress))
    if (
        isinstance(data, dict)
        and target is None
        and isinstance(data.get("target"), str)
    ):
        _refuse_beside(data, test=test)
        return run(parse_config({**data, **settings}), progress=make_progress(progress))
    named: dict[str, Any] = {"target": target} if target is not None else {}
    frames = {}
    for name, value in (("data", data), ("test", test)):
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
        frames: tables in memory that stand for `data` and `test`.
    """
    folder = RunFolder.create(config.out, name=_run_name(config))
    stages, progress = Stages(), progress or Progress()
    with ExitStack() as stack:
        stack.enter_context(progress)
        stack.enter_context(recording(folder.events, progress.on_event))
        stage = _announced(stages, progress)
        budget = stack.enter_context(limited(_budget(config, folder)))
        with stage("profile"):
            sources = _sources(config, frames or {})
            schema = _profile(sources[0], config)
        store = ArrayStore(folder.arrays, budget.arrays)
        stack.callback(store.remove_files)
        with stage("ingest"):
            table = ingest(sources, schema, store)
        with stage("split"):
            parts = _split(table, schema, config, store)
            parts.save(folder.split)
        devices = stack.enter_context(runtime(config.runtime, seed=config.seed))
        config = _resolved(config, schema, parts, devices)
        write_text(folder.config, config.dumps())
        write_text(folder.schema, schema.dumps())
        with stage("encode"):
            data = prepare(table, schema, parts, store, config)
            raw = _golden_rows(data, table, schema)
            table.release(store)  # it is encoded
        with stage("train"):
            plan = _plan(data, config, devices, store, folder, progress)
            learner = KerasLearner(data, config.model, plan)
            learner.fit(data.train, data.validation)
            learner.save(folder.model)
        with stage("evaluate"):
            metrics = assess(learner, data, _target(schema), seed=config.seed)
            write_json(folder.metrics, metrics)  # a failed export leaves the scores
        with stage("export"):
            metrics["parity"] = _export(learner, schema, raw, config, folder)
            write_json(folder.metrics, metrics)
        surroundings = _environment(config, sources, stages)
        write_json(folder.environment, surroundings)
        with stage("report"):
            write_report(folder)
        _add_time_of_report(folder, surroundings, stages)
    return Run(folder, learner.model)


# --- the stages, in the order of the flow -----------------------------------------


def _run_name(config: RunConfig) -> str:
    data = config.data[0] if isinstance(config.data, list) else config.data
    stem = Path(data).name.partition(".")[0] if data else "frame"
    return f"{stem}-{config.target}"


def _announced(stages: Stages, progress: Progress) -> Callable[[str], Any]:
    @contextmanager
    def stage(name: str) -> Iterator[None]:
        progress.on_stage(name)
        with stages(name):
            yield

    return stage


def _sources(config: RunConfig, frames: dict[str, Any]) -> list[Source]:
    """The data, and after it the test rows of one's own if there are any."""
    data = frames.get("data", config.data)
    if data is None:
        raise ConfigError(
            "No data: name a file (train DATA, or `data:` in the configuration). A run "
            "on a table in memory is repeated by passing that table again."
        )
    test = frames.get("test", config.test)
    return [
        open_source(one, config.source, max_bad_rows=config.max_bad_rows)
        for one in (data, test)
        if one is not None
    ]


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
    )


def _target(schema: Schema) -> Target:
    assert schema.target is not None, "profile sets it when it is asked for"
    return schema.target


def _budget(config: RunConfig, folder: RunFolder) -> Budget:
    """What the run may take; DataError when that is too little for any run."""
    base, total = environment.resident_bytes(), config.runtime.memory
    if total == "auto":
        total = base + environment.free_memory_bytes() // 2
    budget = Budget(total, base, folder.arrays)
    budget.check()
    return budget


def _split(table: Table, schema: Schema, config: RunConfig, store: ArrayStore) -> Parts:
    """Parts of the rows of all sources; test rows of one's own are the last ones."""
    target = _target(schema)
    num_rows, has_test = table.num_rows_of[0], len(table.num_rows_of) > 1
    present, hashes = table.has_target, table.row_hashes(store)
    strata = None if target.task == "regression" else table.target
    parts = split(
        None if strata is None else strata[:num_rows],
        present[:num_rows],
        hashes[:num_rows],
        config.split,
        seed=config.seed,
        has_test=has_test,
    )
    if has_test:
        if not present[num_rows:].any():
            raise DataError(
                f"No test row has a known value in '{target.name}', so nothing can be "
                "tested. Check that column of the test file, or leave --test out."
            )
        parts = parts.with_test(
            num_rows + np.flatnonzero(present[num_rows:]), table.num_rows
        )
    if parts.num_dropped:
        note(
            "rows_without_target",
            f"{parts.num_dropped:,} of {table.num_rows:,} rows have no value in "
            f"'{target.name}' and are left out.",
            rows=parts.num_dropped,
        )
    return parts


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
        "task": _target(schema).task,
        "fit": fit,
        "features": config.features.resolved(len(parts.train)),
        "runtime": config.runtime.model_copy(update={"precision": precision}),
        "columns": config.columns | types,
    }
    return config.model_copy(update=update)


def _plan(
    data: Prepared,
    config: RunConfig,
    devices: Devices,
    store: ArrayStore,
    folder: RunFolder,
    progress: Progress,
) -> TrainingPlan:
    def checkpoints(best: BestWeights, whole: keras.Model) -> Checkpoints:
        every, keep = config.fit.checkpoint_every, config.fit.keep_checkpoints
        return Checkpoints(folder.checkpoints, best, whole, every=every, keep=keep)

    steps = -(-len(data.train) // int(config.fit.batch_size))
    resolved = config.model_dump(mode="json")
    trackers = [
        TRACKERS.load(part.name)(folder.tensorboard, resolved, steps, **part.options)
        for part in config.trackers
    ]
    watch = _Watch(progress, int(config.fit.epochs), len(data.train))
    return TrainingPlan(
        fit=config.fit,
        optimizer=config.optimizer,
        schedule=config.schedule,
        devices=devices,
        seed=config.seed,
        store=store,
        callbacks=[watch, HistoryFile(folder.history), *trackers],
        checkpoint=checkpoints,
    )


class _Watch(keras.callbacks.Callback):
    """Passes epochs and steps on to the progress display."""

    def __init__(self, progress: Progress, epochs: int, num_rows: int):
        super().__init__()
        self.progress = progress
        self.epochs = epochs
        self.num_rows = num_rows

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = dict(logs or {})
        epoch_s = logs.pop("epoch_s", 0.0)
        if epoch_s:
            logs["rows_per_s"] = self.num_rows / epoch_s
        self.progress.on_epoch(epoch + 1, self.epochs, logs, epoch_s)


def _golden_rows(data: Prepared, table: Table, schema: Schema) -> dict[str, np.ndarray]:
    """Raw rows to replay; test rows first, with values that the model never saw."""
    parts = (data.test, data.validation, data.train)
    index = np.concatenate([rows.index[:256] for rows in parts])
    return table.raw(schema, index[:256])


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


def _environment(
    config: RunConfig, sources: list[Source], stages: Stages
) -> dict[str, Any]:
    names = ("data", "test")
    fingerprint = {
        name: source.fingerprint() for name, source in zip(names, sources, strict=False)
    }
    return environment.describe(config.seed, fingerprint, sys.argv, stages=stages)
