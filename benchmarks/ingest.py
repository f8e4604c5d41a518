"""File to encoded arrays: our flow beside pandas and scikit-learn.

    python benchmarks/ingest.py
    python benchmarks/ingest.py --rows 100000 --rounds 1

A CSV of 20 numbers with gaps, 10 categories and a target is written once. Each
contender runs in a process of its own, in turn, `--rounds` times:

* ours: open, profile (types, statistics, warnings), ingest, encode;
* ours without profile: open, ingest, encode by a schema that was saved before;
* pandas + scikit-learn: `read_csv`, then a `ColumnTransformer` with median, indicator
  and scaling for numbers and an `OrdinalEncoder` that knows "unknown".

Imports are not counted in the time. Peak memory is that of the process, and the last
column what it was after the imports, of which TensorFlow takes the most.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
NAMES = ("ours", "ours without profile", "pandas + scikit-learn")
SIZES = (2, 3, 5, 8, 12, 20, 50, 100, 500, 2000)
NUMBERS = [f"number_{i}" for i in range(20)]
CATEGORIES = [f"category_{i}" for i in range(len(SIZES))]
NUM_GAPPY = 5  # columns of numbers with 10 % missing


class Cost(NamedTuple):
    """Seconds, CPU seconds, peak and imported megabytes of one process."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    imports_mb: float


def write_csv(path: Path, num_rows: int) -> None:
    random = np.random.default_rng(0)
    numbers = random.normal(size=(num_rows, len(NUMBERS))).round(4)
    gaps = random.random((num_rows, NUM_GAPPY)) < 0.1
    numbers[:, :NUM_GAPPY][gaps] = np.nan
    frame = pd.DataFrame(numbers, columns=NUMBERS)
    for name, size in zip(CATEGORIES, SIZES, strict=True):
        words = np.array([f"value {i}" for i in range(size)])
        frame[name] = words[random.integers(size, size=num_rows)]
    frame["y"] = random.integers(2, size=num_rows)
    frame.to_csv(path, index=False)


# --- contenders: imports first, then a function of no arguments --------------------


def ours(path: Path, *, with_profile: bool = True) -> Callable[[], int]:
    from kerastrain.arrays import ArrayStore
    from kerastrain.config import FeaturesConfig
    from kerastrain.features import Front
    from kerastrain.ingest import ingest
    from kerastrain.pipeline import encode
    from kerastrain.profile import profile
    from kerastrain.schema import Schema
    from kerastrain.source import open_source

    saved = path.with_suffix(".json")

    def run() -> int:
        source = open_source(str(path))
        if with_profile:
            schema = profile(source, target="y")
        else:
            schema = Schema.model_validate_json(saved.read_text())
        store = ArrayStore()
        table = ingest([source], schema, store)
        rows = np.arange(table.num_rows)
        values = {name: texts.train_values(rows) for name, texts in table.texts.items()}
        arrays = encode(Front(schema, values, FeaturesConfig()), table, store)
        saved.write_text(schema.model_dump_json())
        return len(arrays["numbers"])

    return run


def pandas_sklearn(path: Path) -> Callable[[], int]:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder, StandardScaler

    numbers = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True), StandardScaler()
    )
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    encoder = ColumnTransformer(
        [("numbers", numbers, NUMBERS), ("categories", codes, CATEGORIES)]
    )

    def run() -> int:
        frame = pd.read_csv(path)
        return len(encoder.fit_transform(frame.drop(columns="y")).astype("float32"))

    return run


# --- measuring ---------------------------------------------------------------------


def run_one(name: str, path: Path) -> Cost:
    if name == "pandas + scikit-learn":
        run = pandas_sklearn(path)
    else:
        run = ours(path, with_profile=name == "ours")
    imports_mb = peak_mb()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    run()
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    return Cost(wall_s, cpu_s, peak_mb(), imports_mb)


def peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def measure(name: str, path: Path) -> Cost:
    command = [sys.executable, __file__, "--only", name, "--file", str(path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Cost(*json.loads(done.stdout.splitlines()[-1]))


def show(costs: dict[str, list[Cost]], num_rows: int) -> None:
    median = {
        name: Cost(*map(statistics.median, zip(*found, strict=True)))
        for name, found in costs.items()
    }
    first = median[next(iter(median))]
    print(
        "| contender | s | CPU s | rows/s | s/ours | CPU/ours | peak MB | imports MB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, cost in median.items():
        print(
            f"| {name} | {cost.wall_s:.1f} | {cost.cpu_s:.1f} "
            f"| {num_rows / cost.wall_s:,.0f} | {cost.wall_s / first.wall_s:.2f} "
            f"| {cost.cpu_s / first.cpu_s:.2f} "
            f"| {cost.peak_mb:,.0f} | {cost.imports_mb:,.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(run_one(options.only, options.file)))
        return
    costs: dict[str, list[Cost]] = {name: [] for name in NAMES}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        # Elsewhere: on Linux a process inherits the peak of the one that started it.
        with ProcessPoolExecutor(1, get_context("spawn")) as writer:
            writer.submit(write_csv, path, options.rows).result()
        print(f"{options.rows:,} rows, {path.stat().st_size / 1e6:,.0f} MB\n")
        for _ in range(options.rounds):
            for name, found in costs.items():
                found.append(measure(name, path))
                print(f"{name}: {found[-1].wall_s:.1f} s", flush=True)
    print()
    show(costs, options.rows)


if __name__ == "__main__":
    main()
