"""Trees as a Keras layer beside the predict of the library that grew them.

    python benchmarks/forest.py
    python benchmarks/forest.py --trees 100 --depths 6 --rows 1 100 --only xgboost

Each forest is fitted on 4,000 rows of 20 numbers, one in twenty missing. Then the same
rows go through the library's own predict and through `Forest` as a traced function, the
way a SavedModel runs it. Milliseconds are of the CPU, over all threads, and the best of
several rounds: on a machine that others use too they move less than the wall clock's.
"layer/library" below 1 means that the layer is faster.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # --threads is told to each library

import numpy as np

NUM_COLUMNS, FIT_ROWS = 20, 4_000
Predict = Callable[[np.ndarray], Any]


def make_data(num_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_rows, NUM_COLUMNS)).astype("float32")
    noise = rng.normal(size=num_rows)  # so that trees keep growing to their limit
    y = x[:, 0] + x[:, 1] * x[:, 2] + np.sin(3 * x[:, 3]) + noise
    x[rng.random(x.shape) < 0.05] = np.nan
    return x, y.astype("float32")


def xgboost(num_trees: int, depth: int, threads: int) -> tuple[Any, Predict]:
    import xgboost as library

    from kerastrain.forest.read_xgboost import read_xgboost

    x, y = make_data(FIT_ROWS, seed=0)
    options = {"max_depth": depth, "eta": 0.05, "nthread": threads, "verbosity": 0}
    booster = library.train(options, library.DMatrix(x, y), num_trees)
    return read_xgboost(booster), booster.inplace_predict


def lightgbm(num_trees: int, depth: int, threads: int) -> tuple[Any, Predict]:
    import lightgbm as library

    from kerastrain.forest.read_lightgbm import read_lightgbm

    x, y = make_data(FIT_ROWS, seed=0)
    options = {"max_depth": depth, "num_leaves": 2**depth, "learning_rate": 0.05}
    options |= {"num_threads": threads, "verbosity": -1, "min_data_in_leaf": 1}
    booster = library.train(options, library.Dataset(x, y), num_trees)
    return read_lightgbm(booster), lambda x: booster.predict(x, num_threads=threads)


LIBRARIES = {"xgboost": xgboost, "lightgbm": lightgbm}


def layer(trees: Any, layout: str) -> tuple[str, Predict]:
    import tensorflow as tf

    from kerastrain.forest.layer import Forest

    forest = Forest(trees, layout=layout)
    signature = [tf.TensorSpec((None, NUM_COLUMNS), "float32")]
    run = tf.function(forest.call, input_signature=signature, autograph=False)
    return forest.layout, lambda x: run(tf.constant(x)).numpy()


def best_ms(predict: Predict, x: np.ndarray, seconds: float) -> float:
    """CPU time of the fastest call in about `seconds`, three calls at least."""
    predict(x)
    times, until_s = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until_s:
        start_s = time.process_time()
        predict(x)
        times.append(time.process_time() - start_s)
    return min(times) * 1e3


def measure(name: str, num_trees: int, depth: int, options: argparse.Namespace) -> None:
    trees, predict = LIBRARIES[name](num_trees, depth, options.threads)
    layout, run = layer(trees, options.layout)
    x, _ = make_data(max(options.rows), seed=1)
    few = x[:1000]
    np.testing.assert_allclose(run(few)[:, 0], predict(few), rtol=1e-4, atol=1e-4)
    leaves = trees.is_leaf.sum() / num_trees
    line = f"| {name} | {num_trees} | {depth} | {leaves:.0f} | {layout} |"
    for num_rows in options.rows:
        theirs = best_ms(predict, x[:num_rows], options.seconds)
        ours = best_ms(run, x[:num_rows], options.seconds)
        line += f" {theirs:.2f} / {ours:.2f} = {ours / theirs:.1f} |"
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trees", type=int, nargs="*", default=(100, 500, 2000))
    parser.add_argument("--depths", type=int, nargs="*", default=(6, 8, 10))
    parser.add_argument("--rows", type=int, nargs="*", default=(1, 100, 10_000))
    parser.add_argument("--only", choices=LIBRARIES, nargs="*", default=list(LIBRARIES))
    parser.add_argument("--layout", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.5)
    options = parser.parse_args()

    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    print("ms of the library / of the layer = layer/library, by rows at once:\n")
    columns = [f"{rows:,} rows" for rows in options.rows]
    head = ["library", "trees", "depth", "leaves", "layout", *columns]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for name in options.only:
        for num_trees in options.trees:
            for depth in options.depths:
                measure(name, num_trees, depth, options)


if __name__ == "__main__":
    main()
