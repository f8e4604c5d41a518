"""Time of an epoch: our loop beside Keras' own `fit`, with the same network.

    python benchmarks/training_loop.py
    python benchmarks/training_loop.py --rows 50000 --batch-size 256 --epochs 4

Each contender runs in a process of its own, in turn, `--rounds` times. The first epoch
of a process, which traces, is kept apart; compared are medians of the others. CPU
seconds are those of all threads: where other work shares the machine they say more.
All train the core behind the cut on the same rows, in a new order each epoch:

* ours: `KerasLearner.fit`, with its validation on 1,000 rows, checkpoints every second
  (by default it is 30), history, TensorBoard, speed and resources;
* bare: the same engine and validation, and nothing else;
* arrays: `keras.Model.fit(shuffle=True)` on the already encoded NumPy arrays;
* tf.data: `keras.Model.fit` over a data set from the columns of the table, as Keras'
  guides write it: shuffle, batch, preprocessing layers in `map`, prefetch;
* tf.data matrices: the same over two matrices, of numbers and of texts;
* tf.data cached: encoded once, with `cache()` behind `map`; only whole batches are
  shuffled.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
NAMES = ("ours", "bare", "arrays", "tf.data", "tf.data matrices", "tf.data cached")
SIZES = (2, 3, 5, 8, 12, 20, 50, 100, 500, 2000)
NUMBERS = [f"number_{i}" for i in range(20)]
CATEGORIES = [f"category_{i}" for i in range(len(SIZES))]
NUM_GAPPY = 5  # columns of numbers with 10 % missing
NUM_VALIDATION = 1_000


@dataclasses.dataclass
class Data:
    """`numbers` float32 `(rows, 20)`, `codes` int32 `(rows, 10)` from 0, `y` 0 or 1."""

    numbers: np.ndarray
    codes: np.ndarray
    y: np.ndarray

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Each number as float32 `(rows,)`, each category as texts `(rows,)`."""
        words = [np.array(vocabulary(size), dtype=object) for size in SIZES]
        texts = [w[codes] for w, codes in zip(words, self.codes.T, strict=True)]
        numbers = dict(zip(NUMBERS, self.numbers.T, strict=True))
        return numbers | dict(zip(CATEGORIES, texts, strict=True))


def make_data(num_rows: int) -> Data:
    random = np.random.default_rng(0)
    numbers = random.normal(size=(num_rows, len(NUMBERS))).astype("float32")
    codes = np.stack([random.integers(size, size=num_rows) for size in SIZES], axis=1)
    signal = numbers[:, :10].sum(axis=1) + (codes % 2).sum(axis=1) - 5
    y = (signal + random.normal(size=num_rows) > 0).astype("int32")
    gaps = random.random((num_rows, NUM_GAPPY)) < 0.1
    numbers[:, :NUM_GAPPY][gaps] = np.nan
    return Data(numbers, codes.astype("int32"), y)


def vocabulary(size: int) -> list[str]:
    return [f"value {i}" for i in range(size)]


# --- contenders: each fits and calls `watch` at the end of an epoch ----------------


def prepared(data: Data, options: argparse.Namespace, watch: Callable) -> tuple:
    """Our learner before `fit`, and its encoded rows."""
    from kerastrain.arrays import ArrayStore
    from kerastrain.config import RunConfig
    from kerastrain.ingest import ingest
    from kerastrain.learner import KerasLearner
    from kerastrain.prepare import prepare
    from kerastrain.profile import profile
    from kerastrain.runtime import runtime
    from kerastrain.source import open_source
    from kerastrain.split import Parts
    from kerastrain.training.fit import TrainingPlan

    wanted = {"batch_size": options.batch_size, "epochs": options.epochs}
    network = {"name": "mlp", "widths": options.widths}
    config = RunConfig(target="y", fit=wanted, model=network)
    source = open_source(pd.DataFrame(data.columns | {"y": data.y}))
    schema = profile(source, target="y")
    store = ArrayStore()
    table = ingest([source], schema, store)
    every = np.arange(len(data.y))
    parts = Parts(every, every[:NUM_VALIDATION], every[:0])
    with runtime(config.runtime, seed=0) as devices:
        rows = prepare(table, schema, parts, store, config)
        plan = TrainingPlan(config, devices, store, callbacks=[watch])
        if options.only == "ours":
            plan = watched(plan)
        return KerasLearner(rows, config.model, plan), rows


def watched(plan: Any) -> Any:
    """With all that a run has around its training."""
    from kerastrain.progress import Progress
    from kerastrain.trackers.tensorboard import TensorBoard
    from kerastrain.training.history import HistoryFile
    from kerastrain.training.resume import CheckpointFiles
    from kerastrain.training.watch import Watch

    folder = Path(tempfile.mkdtemp())
    epochs = int(plan.config.fit.epochs)
    checkpoint = plan.config.checkpoint.model_copy(update={"every": "1s"})
    return dataclasses.replace(
        plan,
        config=plan.config.model_copy(update={"checkpoint": checkpoint}),
        callbacks=[HistoryFile(folder / "history.csv"), *plan.callbacks],
        trackers=lambda steps: [TensorBoard(folder, {}, steps)],
        watch=lambda steps, rows: Watch(Progress(), epochs, rows, steps),
        files=CheckpointFiles(folder),
    )


def compiled(learner: Any, data: Data, options: argparse.Namespace) -> tuple:
    """Prefix and core of the same network, the core compiled as any Keras model."""
    import keras

    from kerastrain.pipeline import cut

    prefix, core = cut(learner.numeric)
    steps = -(-len(data.y) // options.batch_size) * options.epochs
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    core.compile(
        keras.optimizers.AdamW(rate, weight_decay=1e-2, global_clipnorm=1.0),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return prefix, core


def fit_bare(data: Data, options: argparse.Namespace, watch: Callable) -> None:
    """The engine with nothing around it but its validation."""
    import keras

    from kerastrain.blocks import Blocks
    from kerastrain.config import OptimizerConfig, RuntimeConfig
    from kerastrain.engine import Clipping, Engine, make_optimizer
    from kerastrain.pipeline import cut
    from kerastrain.runtime import runtime
    from kerastrain.training.validation import Validate

    learner, rows = prepared(data, options, watch)
    with runtime(RuntimeConfig(), seed=0):
        prefix, core = cut(learner.numeric)
        train, validation = learner._through(prefix, rows.train, rows.validation)
        engine = Engine(core.inputs, core.outputs[0])
        optimizer = make_optimizer(OptimizerConfig(), 1e-3, engine.trainable_variables)
        loss = learner.objective.row_loss()
        engine.prepare(optimizer, loss, clipping=Clipping(norm=1.0))
        blocks = Blocks(train, options.batch_size, 32, 0)

        def begin(epoch: int, _: object) -> None:
            blocks.epoch = epoch
            engine.begin_epoch(epoch, blocks.num_blocks)

        targets = rows.validation.targets
        validate = Validate(engine, validation, learner.objective, targets)
        order = keras.callbacks.LambdaCallback(on_epoch_begin=begin)
        engine.fit(
            blocks.dataset(),
            epochs=options.epochs,
            callbacks=[order, validate, watch],
            verbose=0,
            shuffle=False,
        )


def fit_ours(data: Data, options: argparse.Namespace, watch: Callable) -> None:
    from kerastrain.config import RuntimeConfig
    from kerastrain.resources import ResourceSampler
    from kerastrain.runtime import runtime

    learner, rows = prepared(data, options, watch)
    with (
        runtime(RuntimeConfig(), seed=0),
        tempfile.TemporaryDirectory() as folder,
        ResourceSampler(Path(folder) / "resources.csv"),
    ):
        learner.fit(rows.train, rows.validation)
    learner.plan.files.close()


def fit_arrays(data: Data, options: argparse.Namespace, watch: Callable) -> None:
    learner, rows = prepared(data, options, watch)
    prefix, core = compiled(learner, data, options)
    encoded = prefix.predict(dict(rows.train.inputs), batch_size=65_536, verbose=0)
    core.fit(
        list(encoded.values()),
        data.y[:, None],
        batch_size=options.batch_size,
        epochs=options.epochs,
        shuffle=True,
        callbacks=[watch],
        verbose=0,
    )


def fit_tf_data(
    data: Data, options: argparse.Namespace, watch: Callable, *, kind: str = "columns"
) -> None:
    import keras
    import tensorflow as tf

    prefix, core = compiled(prepared(data, options, watch)[0], data, options)
    lookups = [keras.layers.StringLookup(vocabulary=vocabulary(n)) for n in SIZES]

    def encode(row: dict, y: tf.Tensor) -> tuple:
        if kind == "matrices":
            numbers, texts = row["numbers"], tf.unstack(row["texts"], axis=1)
        else:
            numbers = tf.stack([row[name] for name in NUMBERS], axis=1)
            texts = [row[name] for name in CATEGORIES]
        codes = [look(text) for look, text in zip(lookups, texts, strict=True)]
        raw = {"numbers": numbers, "codes": tf.cast(tf.stack(codes, axis=1), "int32")}
        return tuple(prefix(raw).values()), y

    columns = data.columns
    if kind == "matrices":
        texts = np.stack([columns[name] for name in CATEGORIES], axis=1)
        columns = {"numbers": data.numbers, "texts": texts}
    rows = tf.data.Dataset.from_tensor_slices((columns, data.y[:, None]))
    if kind != "cached":
        rows = rows.shuffle(len(data.y))
    batches = rows.batch(options.batch_size)
    batches = batches.map(encode, num_parallel_calls=tf.data.AUTOTUNE)
    if kind == "cached":
        batches = batches.cache().shuffle(batches.cardinality())
    batches = batches.prefetch(tf.data.AUTOTUNE)
    core.fit(
        batches, epochs=options.epochs, callbacks=[watch], verbose=0, shuffle=False
    )


# --- measuring ---------------------------------------------------------------------


def run_one(options: argparse.Namespace) -> list[list[float]]:
    """Seconds and CPU seconds of each epoch of `options.only`."""
    import keras

    keras.utils.set_random_seed(0)
    ends: list[tuple[float, float]] = []

    def end(*_: object) -> None:
        ends.append((time.perf_counter(), time.process_time()))

    watch = keras.callbacks.LambdaCallback(on_train_begin=end, on_epoch_end=end)
    data = make_data(options.rows)
    if options.only == "ours":
        fit_ours(data, options, watch)
    elif options.only == "bare":
        fit_bare(data, options, watch)
    elif options.only == "arrays":
        fit_arrays(data, options, watch)
    else:
        kind = options.only.removeprefix("tf.data").strip()
        fit_tf_data(data, options, watch, kind=kind or "columns")
    return np.diff(ends, axis=0).tolist()


def measure(name: str, arguments: list[str]) -> list[list[float]]:
    command = [sys.executable, __file__, *arguments, "--only", name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def show(runs: dict[str, list[list[list[float]]]], num_rows: int) -> None:
    """A table of medians over all epochs but the first of each process."""
    print(
        "| contender | first epoch s | epoch s | CPU s | rows/s | s/ours | CPU/ours |"
    )
    print("|---|---|---|---|---|---|---|")
    base = None
    for name, found in runs.items():
        first = statistics.median(epochs[0][0] for epochs in found)
        later = [epoch for epochs in found for epoch in epochs[1:]]
        wall, cpu = np.median(later, axis=0)
        base = base or (wall, cpu)
        print(
            f"| {name} | {first:.2f} | {wall:.2f} | {cpu:.2f} | {num_rows / wall:,.0f} "
            f"| {wall / base[0]:.2f} | {cpu / base[1]:.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--epochs", type=int, default=3, help="at least 2")
    parser.add_argument("--batch-size", type=int, default=1_024)
    parser.add_argument("--widths", type=int, nargs="*", default=(256, 256))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--contenders", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--only", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(run_one(options)))
        return
    runs: dict[str, list[list[list[float]]]] = {name: [] for name in options.contenders}
    for _ in range(options.rounds):
        for name, found in runs.items():
            found.append(measure(name, sys.argv[1:]))
            print(f"{name}: {' '.join(f'{s:.2f}' for s, _ in found[-1])} s", flush=True)
    print(
        f"\n{options.rows:,} rows, batches of {options.batch_size}, hidden layers of "
        f"{list(options.widths)}\n"
    )
    show(runs, options.rows)


if __name__ == "__main__":
    main()
