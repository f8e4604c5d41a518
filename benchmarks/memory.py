"""Peak memory and rows per second of `train` against the number of rows.

    python benchmarks/memory.py --rows 1000000 3000000 --memory 1500MB

Each run is a process of its own (two epochs of a network on a generated CSV
of 20 numbers, 6 categories and a date); its peak is that of the process itself
(ru_maxrss), so pages of mapped files count while they are mapped. Beside it: reading
the same file with pandas, and with `tf.data.experimental.make_csv_dataset` as Keras
users do, in a process each.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHUNK_ROWS = 500_000


def write_csv(path: Path, num_rows: int) -> None:
    """The same first rows for every size; about 170 bytes a row."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv

    names = [f"x{i}" for i in range(20)]
    writer = None
    for chunk, start in enumerate(range(0, num_rows, CHUNK_ROWS)):
        random = np.random.default_rng(chunk)
        size = min(CHUNK_ROWS, num_rows - start)
        numbers = random.normal(size=(size, 20)).round(4)
        columns = {name: numbers[:, i] for i, name in enumerate(names)}
        codes = [random.zipf(1.5, size).clip(1, 10 ** (1 + i % 4)) for i in range(6)]
        columns |= {f"c{i}": [f"v{c}" for c in code] for i, code in enumerate(codes)}
        days = random.integers(0, 3650, size)
        dates = np.datetime64("2015-01-01") + days.astype("timedelta64[D]")
        columns["day"] = dates.astype(str)
        score = numbers[:, :5].sum(axis=1) + (codes[0] > 2) + np.sin(days / 58)
        noisy = score + random.normal(size=size)
        columns["y"] = np.where(noisy > 0.5, "yes", "no")
        table = pa.table(columns)
        writer = writer or pyarrow.csv.CSVWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


TRAIN = """
import sys
import kerastrain
kerastrain.train(sys.argv[1], target="y", out=sys.argv[2], progress=False,
                 model=sys.argv[4], runtime={"memory": sys.argv[3]}, fit={"epochs": 2})
"""
PANDAS = """
import sys
import pandas
print(len(pandas.read_csv(sys.argv[1])))
"""
TF_DATA = """
import sys
import tensorflow as tf
data = tf.data.experimental.make_csv_dataset(
    sys.argv[1], 1024, label_name="y", num_epochs=1, shuffle=False)
print(sum(1 for _ in data))
"""


def measured(code: str, *arguments: str) -> dict[str, float]:
    """Seconds and peak bytes of a process; its children count for themselves."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}: {code}")
    return {"s": time.perf_counter() - start, "peak": usage.ru_maxrss * 1024}


def row(path: Path, num_rows: int, memory: str, model: str, *, beside: bool) -> dict:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        out = Path(folder) / "run"
        train = measured(TRAIN, str(path), str(out), memory, model)
        stages = json.loads((out / "environment.json").read_text())["stages"]
    found = {
        "rows": num_rows,
        "csv_gb": path.stat().st_size / 1e9,
        "peak_mb": train["peak"] / 1e6,
        "rows_per_s": num_rows / train["s"],
        "stages": {s["name"]: (s["seconds"], s["peak_memory_bytes"]) for s in stages},
    }
    if beside:
        for name, code in (("pandas", PANDAS), ("make_csv_dataset", TF_DATA)):
            other = measured(code, str(path))
            found[f"{name}_mb"] = other["peak"] / 1e6
            found[f"{name}_rows_per_s"] = num_rows / other["s"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 3_000_000])
    parser.add_argument("--memory", default="1500MB")
    parser.add_argument("--model", default="mlp")
    parser.add_argument("--folder", type=Path, help="where the CSV files are written")
    parser.add_argument("--beside", action="store_true", help="pandas and tf.data too")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        for num_rows in chosen.rows:
            path = Path(folder) / f"{num_rows}.csv"
            write_csv(path, num_rows)
            found = row(
                path, num_rows, chosen.memory, chosen.model, beside=chosen.beside
            )
            print(json.dumps(found), flush=True)
            path.unlink()


if __name__ == "__main__":
    main()
