"""The whole flow in one function: a table in, a run folder out."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastrain import environment, evaluation
from kerastrain.baselines import Baselines, EncodedTable, fit_baselines
from kerastrain.callbacks import BestWeights, Checkpoints, HistoryFile
from kerastrain.config import ColumnConfig, RunConfig, parse_config
from kerastrain.curves import curves
from kerastrain.errors import ConfigError
from kerastrain.events import note, recording
from kerastrain.exports import EXPORTS
from kerastrain.features import Front, NumberStatistics
from kerastrain.ingest import ArrayStore, Table, ingest
from kerastrain.learner import KerasLearner, Learner, TrainingPlan, resolved_fit
from kerastrain.objective import Objective
from kerastrain.parity import golden_cases, verify
from kerastrain.pipeline import Rows, encode
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
        return run(data, progress=make_progress(progress))
    if isinstance(data, dict) and target is None and isinstance(data.get("target"), str):
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
        with stage("profile"):
            sources = _sources(config, frames or {})
            schema = _profile(sources[0], config)
            target = _target(schema)
        store = _array_store(config, folder)
        stack.callback(store.remove_files)
        with stage("ingest"):
            table = ingest(sources, schema, store)
        with stage("split"):
            parts = _split(table, sources, target, config)
            parts.save(folder.split)
        devices = stack.enter_context(runtime(config.runtime, seed=config.seed))
        config = _resolved(config, schema, parts, devices)
        write_text(folder.config, config.dumps())
        write_text(folder.schema, schema.dumps())
        with stage("encode"):
            front = _front(table, schema, parts, config)
            data = _encoded(front, table, target, parts, config, store)
        with stage("train"):
            learner = _learner(front, data, target, config, devices, store, folder, progress)
            learner.fit(data.train, data.validation)
            learner.save(folder.model)
        with stage("evaluate"):
            metrics = _evaluate(learner, data, target, config)
        with stage("export"):
            golden = golden_cases(learner.model, schema, table.raw(schema, _golden_rows(data)))
            write_json(folder.golden, golden)
            metrics["parity"] = _export(learner, config, folder, golden)
        metrics["num_rows"]["dropped"] = parts.num_dropped
        write_json(folder.metrics, metrics)
        write_json(folder.environment, _environment(config, sources, stages))
        with stage("report"):
            write_report(folder)
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


def _array_store(config: RunConfig, folder: RunFolder) -> ArrayStore:
    budget = config.runtime.memory
    if budget == "auto":
        budget = environment.free_memory_bytes() // 2
    return ArrayStore(folder.arrays, budget)


def _split(table: Table, sources: list[Source], target: Target, config: RunConfig) -> Parts:
    """Parts of the rows of all sources; test rows of one's own are the last ones."""
    num_rows = table.num_rows_of[0]
    present, hashes = table.has_target, table.row_hashes()
    strata = None if target.task == "regression" else table.target
    parts = split(
        None if strata is None else strata[:num_rows],
        present[:num_rows],
        hashes[:num_rows],
        config.split,
        seed=config.seed,
        has_test=len(sources) > 1,
    )
    if len(sources) > 1:
        parts = parts.with_test(num_rows + np.flatnonzero(present[num_rows:]), table.num_rows)
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
        "runtime": config.runtime.model_copy(update={"precision": precision}),
        "columns": config.columns | types,
    }
    return config.model_copy(update=update)


def _front(table: Table, schema: Schema, parts: Parts, config: RunConfig) -> Front:
    values = {name: texts.train_values(parts.train) for name, texts in table.texts.items()}
    return Front(schema, values, config.features)


@dataclass(frozen=True)
class _Data:
    """Encoded rows of each part, and the statistics and objective of the train rows."""

    train: Rows
    validation: Rows
    test: Rows
    statistics: NumberStatistics
    objective: Objective
    user_weight: np.ndarray | None


def _encoded(
    front: Front,
    table: Table,
    target: Target,
    parts: Parts,
    config: RunConfig,
    store: ArrayStore,
) -> _Data:
    arrays = encode(front, table, store)
    assert table.target is not None
    targets = table.target
    numbers = arrays.get("numbers", np.zeros((table.num_rows, 0), "float32"))
    objective = Objective.of(target, config.objective, targets[parts.train])
    weight = np.ones(table.num_rows, "float32")
    if table.weight is not None:
        weight = table.weight / table.weight[parts.train].mean(dtype="float64")
    if objective.labels:
        by_class = objective.class_weights(targets[parts.train])
        weight = weight * by_class.astype("float32")[targets]
    weight = weight.astype("float32")
    train, validation, test = (
        Rows(arrays, targets, weight, index)
        for index in (parts.train, parts.validation, parts.test)
    )
    statistics = NumberStatistics.of(numbers, parts.train)
    return _Data(train, validation, test, statistics, objective, table.weight)


def _learner(
    front: Front,
    data: _Data,
    target: Target,
    config: RunConfig,
    devices: Devices,
    store: ArrayStore,
    folder: RunFolder,
    progress: Progress,
) -> Learner:
    def checkpoints(best: BestWeights) -> Checkpoints:
        every, keep = config.fit.checkpoint_every, config.fit.keep_checkpoints
        return Checkpoints(folder.checkpoints, best, every=every, keep=keep)

    assert isinstance(config.fit.batch_size, int) and isinstance(config.fit.epochs, int)
    steps = -(-len(data.train) // config.fit.batch_size)
    resolved = config.model_dump(mode="json")
    trackers = [
        TRACKERS.load(part.name)(folder.tensorboard, resolved, steps, **part.options)
        for part in config.trackers
    ]
    watch = _Watch(progress, config.fit.epochs, len(data.train))
    plan = TrainingPlan(
        fit=config.fit,
        optimizer=config.optimizer,
        schedule=config.schedule,
        devices=devices,
        seed=config.seed,
        store=store,
        callbacks=[watch, HistoryFile(folder.history), *trackers],
        checkpoint=checkpoints,
    )
    return KerasLearner(front, data.statistics, data.objective, config.model, plan)


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


def _evaluate(
    learner: Learner, data: _Data, target: Target, config: RunConfig
) -> dict[str, Any]:
    """What `metrics.json` holds. The only place that looks at the test rows."""
    task = target.task
    result: dict[str, Any] = {
        "task": task,
        "target": target.name,
        "labels": target.labels,
        "positive_label": target.labels[-1] if task == "binary" else None,
        "primary": evaluation.primary(task),
        "best_epoch": getattr(learner, "best_epoch", None),
        "num_rows": {
            "train": len(data.train),
            "validation": len(data.validation),
            "test": len(data.test),
        },
    }
    judged = learner.predict(data.validation)
    weight = _weight(data, data.validation)
    result["validation"] = evaluation.score(
        task, data.validation.targets, judged, weight=weight
    )
    if not len(data.test):
        return result
    ours, y, weight = learner.predict(data.test), data.test.targets, _weight(data, data.test)
    baselines = _baselines(data, target, config)
    result["test"] = evaluation.evaluate(task, y, ours, weight=weight, seed=config.seed)
    result["baselines"] = {
        name: evaluation.score(task, y, theirs, weight=weight)
        for name, theirs in baselines.predictions.items()
    }
    comparison = evaluation.compare(
        task, y, ours, baselines.predictions["linear"], weight=weight, seed=config.seed
    )
    result["verdict"] = comparison | {
        "sentence": evaluation.verdict(task, comparison, baseline="linear"),
        "baseline": "linear",
        "about": baselines.description,
    }
    result["curves"] = curves(task, y, ours, target.labels, seed=config.seed)
    return result


def _weight(data: _Data, rows: Rows) -> np.ndarray | None:
    """The user's row weights; class weights change training, not the scores."""
    return None if data.user_weight is None else data.user_weight[rows.index]


def _baselines(data: _Data, target: Target, config: RunConfig) -> Baselines:
    arrays, num_rows = data.train.inputs, len(data.train.target)
    table = EncodedTable(
        arrays.get("numbers", np.zeros((num_rows, 0), "float32")),
        arrays.get("codes", np.zeros((num_rows, 0), "int32")),
        data.train.target,
        data.user_weight,
    )
    return fit_baselines(
        target.task,
        table,
        train_rows=data.train.index,
        validation_rows=data.validation.index,
        test_rows=data.test.index,
        num_classes=len(target.labels),
        seed=config.seed,
    )


def _golden_rows(data: _Data) -> np.ndarray:
    """Rows to replay: test rows first, since they hold values the model never saw."""
    index = np.concatenate([data.test.index, data.validation.index, data.train.index])
    return index[:256]


def _export(
    learner: Learner, config: RunConfig, folder: RunFolder, golden: dict[str, Any]
) -> dict[str, Any]:
    """Every export, each replayed in a fresh process; ParityError when one differs."""
    parity = {}
    for part in config.exports:
        options = EXPORTS.check(part.name, part.options, path="exports")
        path = learner.export(part.name, folder.exports, **options)
        parity[part.name] = verify(part.name, path, golden)
    return parity


def _environment(
    config: RunConfig, sources: list[Source], stages: Stages
) -> dict[str, Any]:
    names = ("data", "test")
    fingerprint = {
        name: source.fingerprint() for name, source in zip(names, sources, strict=False)
    }
    return environment.describe(config.seed, fingerprint, sys.argv, stages=stages)
