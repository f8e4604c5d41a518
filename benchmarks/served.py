"""What it takes to serve an ensemble: ours as a SavedModel, AutoGluon's predictor.

    python benchmarks/served.py --folder FOLD --run RUN
    PYTHON benchmarks/served.py --folder FOLD --autogluon medium_quality --seconds 60

FOLD is a fold of `benchmarks/versus.py` (`train.parquet`, `test.parquet`, `about.json`)
and RUN a run of `kerastrain train` on its train rows; PYTHON is that of an environment
with AutoGluon, whose predictor is fitted once and kept in FOLD. Both read the same raw
columns. One JSON line: megabytes on disk, seconds to load (the import of the library
beside), milliseconds for one row (the median of 50) and for 10,000 rows (the best of
five). The SavedModel is called as a server does, with tensors; the predictor with a
frame, which is its interface.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def seconds_of(call: Callable[[], Any]) -> float:
    begun_s = time.perf_counter()
    call()
    return time.perf_counter() - begun_s


def megabytes(folder: Path) -> float:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6


def saved_model(run: Path, rows: pd.DataFrame) -> dict[str, float]:
    """Load and call the export of a run."""
    import_s = seconds_of(lambda: __import__("tensorflow"))
    import tensorflow as tf

    folder, loaded = run / "exports" / "saved_model", {}
    load_s = seconds_of(lambda: loaded.update(model=tf.saved_model.load(str(folder))))
    served = loaded["model"].signatures["serving_default"]
    wanted = served.structured_input_signature[1]

    schema = json.loads((run / "schema.json").read_text())
    column = {one["input"]: one["name"] for one in schema["columns"]}

    def tensors(frame: pd.DataFrame) -> dict[str, Any]:
        return {
            name: _tensor(frame[column[name]], spec) for name, spec in wanted.items()
        }

    def ask(given: dict[str, Any]) -> None:
        for output in served(**given).values():
            output.numpy()

    one, many = tensors(rows.head(1)), tensors(rows)
    found = {"size_mb": megabytes(folder), "import_s": import_s, "load_s": load_s}
    found["first_row_ms"] = seconds_of(lambda: ask(one)) * 1e3
    return found | timed(lambda: ask(one), lambda: ask(many))


def _tensor(column: pd.Series, spec: Any) -> Any:
    import tensorflow as tf

    if spec.dtype == tf.string:
        texts = column.astype(object).where(column.notna(), "")
        return tf.constant([str(text) for text in texts])
    numbers = pd.to_numeric(column, errors="coerce")
    kind = spec.dtype.as_numpy_dtype
    filled = numbers if spec.dtype.is_floating else numbers.fillna(0)
    return tf.constant(filled.to_numpy(kind))


def autogluon(folder: Path, about: dict[str, str], presets: str, seconds: float) -> Any:
    """Fit a predictor, unless it is there, and the function that measures it."""
    path = folder / f"served_{presets}"
    if not path.is_dir():
        from contenders import predictor

        train = pd.read_parquet(folder / "train.parquet")
        target, task = about["target"], about["task"]
        predictor(train, target, task, seconds, presets, str(path))

    def measure(rows: pd.DataFrame) -> dict[str, float]:
        import_s = seconds_of(lambda: __import__("autogluon.tabular"))
        from autogluon.tabular import TabularPredictor

        loaded: dict[str, Any] = {}
        load_s = seconds_of(
            lambda: loaded.update(model=TabularPredictor.load(str(path)))
        )
        predict, one = loaded["model"].predict, rows.head(1)
        found = {"size_mb": megabytes(path), "import_s": import_s, "load_s": load_s}
        found["first_row_ms"] = seconds_of(lambda: predict(one)) * 1e3
        return found | timed(lambda: predict(one), lambda: predict(rows))

    return measure


def timed(one: Callable[[], Any], many: Callable[[], Any]) -> dict[str, float]:
    many()
    row = np.median([seconds_of(one) for _ in range(50)])
    rows = min(seconds_of(many) for _ in range(5))
    return {"row_ms": float(row) * 1e3, "rows_10000_ms": rows * 1e3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True)
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--run", type=Path)
    asked.add_argument("--autogluon", metavar="PRESETS")
    parser.add_argument("--seconds", type=float, default=60.0)
    chosen = parser.parse_args()
    about = json.loads((chosen.folder / "about.json").read_text())
    test = pd.read_parquet(chosen.folder / "test.parquet").drop(columns=about["target"])
    rows = test.sample(10_000, replace=True, random_state=0, ignore_index=True)
    if chosen.run:
        found = saved_model(chosen.run, rows)
    else:
        found = autogluon(chosen.folder, about, chosen.autogluon, chosen.seconds)(rows)
    print(json.dumps({key: round(value, 2) for key, value in found.items()}))


if __name__ == "__main__":
    main()
