"""Models of ours and of others on the same fold of each public set.

    python benchmarks/versus.py --data DIR --out FOLDER --ours auto:60 lightgbm
        --theirs lightgbm catboost autogluon_medium:60 --python autogluon_medium=PYTHON

The rows of each set are drawn once (seed 0): a fifth is the test part, which is read
only to score. `auto:60` is ours with `--time-limit 60`, the whole command included;
`autogluon_best:300` is theirs with a limit of 300 s on `fit` alone. What was measured
stays in `FOLDER/results.jsonl`, and a run that is done is not repeated; `--table` only
prints: the score, the rank and the normalised score, which is 1 for the best and 0 for
the median contender of a set or worse.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from quality import SETS, Set

from kerastrain.evaluation import primary, score
from kerastrain.metrics import METRICS

HERE = Path(__file__).parent
TEST_SHARE = 0.2


def fold_of(name: str, data: Path, out: Path) -> dict[str, Any]:
    """`train.parquet` and `test.parquet` of a set, and what is known of it."""
    folder, wanted = out / name, SETS[name]
    about = folder / "about.json"
    if not about.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        frame = _rows(data / name, wanted)
        test = np.random.default_rng(0).random(len(frame)) < TEST_SHARE
        frame[~test].to_parquet(folder / "train.parquet", index=False)
        frame[test].to_parquet(folder / "test.parquet", index=False)
        task = _task(frame[wanted.target])
        about.write_text(json.dumps({"target": wanted.target, "task": task}))
    return {"folder": folder, **json.loads(about.read_text())}


def _rows(folder: Path, wanted: Set) -> pd.DataFrame:
    path = folder / wanted.file
    read = pd.read_parquet if path.suffix == ".parquet" else pd.read_csv
    frame = read(path).drop(columns=list(wanted.ignore))
    frame = frame[frame[wanted.target].notna()]
    is_huge = len(frame) > 100_000
    return frame.sample(100_000, random_state=0) if is_huge else frame


def _task(y: pd.Series) -> str:
    classes = y.nunique()
    if classes == 2:
        return "binary"
    is_number = pd.api.types.is_numeric_dtype(y)
    return "regression" if is_number and classes > 30 else "multiclass"


def ours(label: str, fold: Mapping[str, Any]) -> dict[str, Any]:
    """Train, read the scores on the test part, and the seconds of the command."""
    model, _, seconds = label.partition(":")
    folder = fold["folder"]
    out = folder / f"ours_{label.replace(':', '_')}"
    words = [sys.executable, "-m", "kerastrain", "train", str(folder / "train.parquet")]
    words += ["--target", fold["target"], "--test", str(folder / "test.parquet")]
    words += ["--model", model, "--out", str(out), "--quiet", "--task", fold["task"]]
    words += ["--time-limit", f"{seconds}s"] if seconds else []
    begun_s = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    took_s = time.perf_counter() - begun_s
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["?"])[-1], "s": took_s}
    metrics = json.loads((out / "metrics.json").read_text())
    name = primary(fold["task"])
    return {"score": metrics["test"][name]["value"], "s": took_s}


def theirs(label: str, fold: Mapping[str, Any], python: str) -> dict[str, Any]:
    name, _, seconds = label.partition(":")
    folder = fold["folder"]
    words = [python, str(HERE / "contenders.py"), name, str(folder)]
    words += ["--target", fold["target"], "--task", fold["task"]]
    words += ["--seconds", seconds] if seconds else []
    begun_s = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    took_s = time.perf_counter() - begun_s
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["?"])[-1], "s": took_s}
    found = np.load(folder / f"{name}.npz")
    y = pd.read_parquet(folder / "test.parquet")[fold["target"]]
    if fold["task"] != "regression":
        train = pd.read_parquet(folder / "train.parquet")[fold["target"]]
        labels = sorted(train.astype(str).unique())
        y = y.astype(str).map({label: i for i, label in enumerate(labels)})
    known = y.notna().to_numpy()
    scores = score(fold["task"], y[known].to_numpy(), found["prediction"][known])
    extra = {key: float(found[key]) for key in ("fit_s", "predict_s", "row_s")}
    return {"score": scores[primary(fold["task"])], "s": took_s, **extra}


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a column a contender, a row a set; below it ranks and normalised."""
    frame = pd.DataFrame(results)
    tasks = frame.groupby("set")["task"].first()
    scores = frame.pivot_table(index="set", columns="contender", values="score")
    for name, task in tasks.items():
        if METRICS[task][primary(task)].greater_is_better and name in scores.index:
            scores.loc[name] *= -1  # so that less is better everywhere
    ranks = scores.rank(axis=1, na_option="bottom")
    best, median = scores.min(axis=1), scores.median(axis=1)
    spread = (median - best).where(median > best, 1.0)
    normal = (median.to_numpy()[:, None] - scores).div(spread, axis=0).clip(0, 1)
    order = ranks.mean().sort_values().index
    lines = [f"| set | {' | '.join(order)} |", f"| --- |{' ---: |' * len(order)}"]
    for name, row in scores[order].iterrows():
        cells = ["" if np.isnan(v) else f"{abs(v):.5g}" for v in row]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for title, values in (("mean rank", ranks), ("mean normalised", normal.fillna(0))):
        cells = [f"{v:.2f}" for v in values[order].mean()]
        lines.append(f"| **{title}** | {' | '.join(cells)} |")
    seconds = frame.groupby("contender")["s"].mean()[order]
    lines.append(f"| mean s | {' | '.join(f'{s:.0f}' for s in seconds)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--ours", nargs="*", default=[])
    parser.add_argument("--theirs", nargs="*", default=[])
    parser.add_argument("--python", nargs="*", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--table", action="store_true", help="print it and do nothing")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = chosen.out / "results.jsonl"
    known = [json.loads(line) for line in path.open()] if path.is_file() else []
    pythons = dict(pair.split("=", 1) for pair in chosen.python)
    done = {(one["set"], one["contender"]) for one in known}
    for name in chosen.sets if not chosen.table else []:
        fold = fold_of(name, chosen.data, chosen.out)
        jobs = [(f"ours {label}", label, "") for label in chosen.ours]
        jobs += [
            (label, label, pythons.get(label.partition(":")[0], sys.executable))
            for label in chosen.theirs
        ]
        for contender, label, python in jobs:
            if (name, contender) in done:
                continue
            found = theirs(label, fold, python) if python else ours(label, fold)
            record = {
                "set": name,
                "task": fold["task"],
                "contender": contender,
                **found,
            }
            known.append(record)
            with path.open("a") as file:
                file.write(json.dumps(record) + "\n")
            print(record, flush=True)
    print(table(known))


if __name__ == "__main__":
    main()
