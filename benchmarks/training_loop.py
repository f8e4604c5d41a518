"""Time of an epoch: our loop beside Keras' own `fit`, with the same network.

    python benchmarks/training_loop.py
    python benchmarks/training_loop.py --rows 50000 --batch-size 256 --epochs 4

Each contender runs in a process of its own, in turn, `--rounds` times. The first epoch
of a process, which traces, is kept apart; compared are medians of the others. All
train the core behind the cut on the same rows, in a new order each epoch:

* ours: `KerasLearner.fit`, with its validation on 1,000 rows;
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
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
NAMES = ("ours", "arrays", "tf.data", "tf.data matrices", "tf.data cached")
SIZES = (2, 3, 5, 8, 12, 20, 50, 100, 500, 2000)
NUMBERS = [f"number_{i}" for i in range(20)]
CATEGORIES = [f"category_{i}" for i in range(len(SIZES))]
NUM_GAPPY = 5  # columns of numbers with 10 % missing
SHUFFLE_ROWS = 10_000
NUM_VALIDATION = 1_000


@dataclasses.dataclass
class Data:
    """`numbers` float32 `(rows, 20)`, `codes` int32 `(rows, 10)` from 0, `y` 0 or 1."""

    numbers: np.ndarray
    codes: np.ndarray
    y: np.ndarray

    @property
    def texts(self) -> list[np.ndarray]:
        """Each category as texts, objects `(rows,)`."""
        words = [np.array(vocabulary(size), dtype=object) for size in SIZES]
        return [w[codes] for w, codes in zip(words, self.codes.T, strict=True)]


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


def fit_ours(data: Data, options: argparse.Namespace, watch: Callable) -> None:
    from kerastrain.config import FeaturesConfig, ObjectiveConfig, RunConfig
    from kerastrain.ingest import ArrayStore, ingest
    from kerastrain.learner import KerasLearner, TrainingPlan
    from kerastrain.prepare import prepare
    from kerastrain.profile import profile
    from kerastrain.runtime import runtime
    from kerastrain.source import open_source
    from kerastrain.split import Parts

    config = RunConfig(target="y")
    fit = config.fit.model_copy(
        update={
            "batch_size": options.batch_size,
            "epochs": options.epochs,
            "patience": None,
            "steps_per_call": options.steps_per_call,
        }
    )
    columns = dict(zip(NUMBERS, data.numbers.T, strict=True))
    columns |= dict(zip(CATEGORIES, data.texts, strict=True))
    source = open_source(pd.DataFrame(columns | {"y": data.y}))
    schema = profile(source, target="y")
    store = ArrayStore()
    table = ingest([source], schema, store)
    rows = np.arange(len(data.y))
    parts = Parts(rows, rows[:NUM_VALIDATION], rows[:0], 0)
    with runtime(config.runtime, seed=0) as devices:
        prepared = prepare(
            table, schema, schema.target, parts, store,
            features=FeaturesConfig(), objective=ObjectiveConfig(),
        )  # fmt: skip
        plan = TrainingPlan(
            fit, config.optimizer, config.schedule, devices, 0, store, [watch]
        )
        learner = KerasLearner(prepared, config.model, plan)
        learner.fit(prepared.train, prepared.validation)


def keras_model(data: Data, options: argparse.Namespace) -> tuple:
    """Prefix and compiled core of our default network, in plain Keras."""
    import keras

    from kerastrain.features import Features, NumberStatistics
    from kerastrain.models.mlp import mlp
    from kerastrain.pipeline import cut

    inputs = {
        "numbers": keras.Input((len(NUMBERS),), name="numbers"),
        "codes": keras.Input((len(SIZES),), name="codes", dtype="int32"),
    }
    clean = [keras.layers.Identity(dtype=x.dtype)(x) for x in inputs.values()]
    sizes = tuple(size + 2 for size in SIZES)
    described = NumberStatistics.of(data.numbers, np.arange(len(data.y)))
    features = Features(
        inputs, *clean, tuple(NUMBERS), tuple(CATEGORIES), sizes, described, 1
    )
    logits = keras.layers.Dense(1)(mlp(features))
    prefix, core = cut(keras.Model(inputs, logits))
    steps = -(-len(data.y) // options.batch_size) * options.epochs
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    core.compile(
        keras.optimizers.AdamW(rate, weight_decay=1e-2, global_clipnorm=1.0),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return prefix, core


def fit_arrays(data: Data, options: argparse.Namespace, watch: Callable) -> None:
    prefix, core = keras_model(data, options)
    raw = {"numbers": data.numbers, "codes": data.codes + 1}
    encoded = prefix.predict(raw, batch_size=65_536, verbose=0)
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

    prefix, core = keras_model(data, options)
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

    columns = dict(zip(NUMBERS, data.numbers.T, strict=True))
    columns |= dict(zip(CATEGORIES, data.texts, strict=True))
    if kind == "matrices":
        columns = {"numbers": data.numbers, "texts": np.stack(data.texts, axis=1)}
    rows = tf.data.Dataset.from_tensor_slices((columns, data.y[:, None]))
    if kind != "cached":
        rows = rows.shuffle(SHUFFLE_ROWS)
    batches = rows.batch(options.batch_size)
    batches = batches.map(encode, num_parallel_calls=tf.data.AUTOTUNE)
    if kind == "cached":
        batches = batches.cache().shuffle(batches.cardinality())
    batches = batches.prefetch(tf.data.AUTOTUNE)
    core.fit(batches, epochs=options.epochs, callbacks=[watch], verbose=0)


# --- measuring ---------------------------------------------------------------------


def run_one(options: argparse.Namespace) -> list[float]:
    """Seconds of each epoch of `options.only`."""
    import keras

    keras.utils.set_random_seed(0)
    ends: list[float] = []

    def end(*_: object) -> None:
        ends.append(time.perf_counter())

    watch = keras.callbacks.LambdaCallback(on_train_begin=end, on_epoch_end=end)
    data = make_data(options.rows)
    kind = options.only.removeprefix("tf.data").strip()
    if options.only == "ours":
        fit_ours(data, options, watch)
    elif options.only == "arrays":
        fit_arrays(data, options, watch)
    else:
        fit_tf_data(data, options, watch, kind=kind or "columns")
    return np.diff(ends).tolist()


def measure(name: str, arguments: list[str]) -> list[float]:
    command = [sys.executable, __file__, *arguments, "--only", name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=1_024)
    parser.add_argument("--steps-per-call", type=int, default=32, help="ours only")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--contenders", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--only", choices=NAMES, help=argparse.SUPPRESS)
    return parser


def main() -> None:
    options = parser().parse_args()
    if options.only:
        print(json.dumps(run_one(options)))
        return
    epochs: dict[str, list[list[float]]] = {name: [] for name in options.contenders}
    for _ in range(options.rounds):
        for name, found in epochs.items():
            found.append(measure(name, sys.argv[1:]))
            print(f"{name}: {' '.join(f'{s:.2f}' for s in found[-1])}", flush=True)
    print(f"\n{options.rows:,} rows, batch size {options.batch_size}\n")
    print("| contender | first epoch s | epoch s | rows/s | times ours |")
    print("|---|---|---|---|---|")
    later = {
        n: statistics.median(sum((e[1:] for e in f), [])) for n, f in epochs.items()
    }
    for name, found in epochs.items():
        first = statistics.median(e[0] for e in found)
        ratio = later[name] / later[options.contenders[0]]
        rows_per_s = options.rows / later[name]
        print(
            f"| {name} | {first:.2f} | {later[name]:.2f} | {rows_per_s:,.0f} | {ratio:.2f} |"
        )


if __name__ == "__main__":
    main()
