"""What `train` reaches with no option but the target, beside a linear baseline.

    python benchmarks/quality.py --data DIR
    python benchmarks/quality.py --data DIR --sets penguins titanic
    python benchmarks/quality.py --data DIR --write

DIR holds a folder for each set in `SETS`. Every set is one `kerastrain train` in a
process of its own; seconds are those of the whole command: imports, profile, training,
baselines, export, verification and report. `--write` puts the table into README.md
beside this file. Further settings for all sets: `--set fit.epochs=5`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerastrain.evaluation import METRICS, num_decimals

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- quality: begin -->", "<!-- quality: end -->"
COLUMNS = (
    "set",
    "task",
    "rows",
    "metric",
    "ours (95 % interval)",
    "linear",
    "verdict",
    "s",
)


@dataclass(frozen=True)
class Set:
    """A table to learn.

    Args:
        file: within the folder of the set.
        ignore: columns that are known only with the target, as the set's README says.
        test: a test file of the set's own.
    """

    file: str
    target: str
    ignore: tuple[str, ...] = ()
    test: str | None = None


SETS = {
    "abalone19": Set("abalone19.csv", "Class"),
    "adult": Set("train.csv", "income", test="test.csv"),
    "ames": Set("ames.csv", "Sale_Price"),
    "bank": Set("bank.csv", "deposit", ("duration",)),
    "beijing_pm25": Set("pollution.csv", "pm2.5"),
    "bike_hourly": Set("hour.csv", "cnt", ("casual", "registered")),
    "california": Set("housing.csv", "median_house_value"),
    "car_claims": Set("car_claims.parquet", "clm", ("numclaims", "claimcst0")),
    "diamonds": Set("diamonds.csv", "price"),
    "inst_eval": Set("inst_eval.parquet", "y"),
    "kddcup99_10pct": Set("kddcup.parquet", "label"),
    "letter": Set("letter.csv", "lettr"),
    "nyc_taxis": Set("taxis.csv", "fare", ("total", "tip", "tolls")),
    "penguins": Set("penguins.csv", "species"),
    "telco_churn": Set("telco_churn.csv", "Churn"),
    "titanic": Set("titanic.csv", "Survived"),
}


def command(name: str, folder: Path, out: Path, settings: list[str]) -> list[str]:
    wanted = SETS[name]
    words = [sys.executable, "-m", "kerastrain", "train", str(folder / wanted.file)]
    words += ["--target", wanted.target, "--out", str(out), "--quiet"]
    words += [word for column in wanted.ignore for word in ("--ignore", column)]
    words += ["--test", str(folder / wanted.test)] if wanted.test else []
    return words + [word for setting in settings for word in ("--set", setting)]


def row_of(name: str, data: Path, settings: list[str]) -> list[str]:
    """Cells of the table for a set; the error in one line where training failed."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        start_s = time.perf_counter()
        words = command(name, data / name, out, settings)
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start_s
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            said = " ".join(lines[-1:])[:200].replace("|", "\\|")
            failed = f"failed ({done.returncode}): {said}"
            return [name, "", "", "", "", "", failed, f"{seconds:.0f}"]
        metrics = json.loads((out / "metrics.json").read_text())
    return [name, *cells(metrics), f"{seconds:.0f}"]


def cells(metrics: dict[str, Any]) -> list[str]:
    """Task, rows, metric, ours, baseline and verdict."""
    task, primary, verdict = metrics["task"], metrics["primary"], metrics["verdict"]
    ours = metrics["test"][primary]
    value, low, high = ours["value"], ours["low"], ours["high"]
    digits = num_decimals(value, low, high)
    title = METRICS[task][primary].title
    sign = "↑" if METRICS[task][primary].greater_is_better else "↓"
    interval = "" if low is None else f" ({low:,.{digits}f} to {high:,.{digits}f})"
    rows = sum(metrics["num_rows"].values())
    return [
        task,
        f"{rows:,}",
        f"{title} {sign}",
        f"{value:,.{digits}f}{interval}",
        f"{verdict['theirs']:,.{digits}f}",
        judged(verdict),
    ]


def judged(verdict: dict[str, Any]) -> str:
    if verdict["low"] is not None and verdict["low"] > 0:
        return "better"
    is_worse = verdict["high"] is not None and verdict["high"] < 0
    return "worse" if is_worse else "not clearly better"


def line(words: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(words)} |"


def write(table: list[str]) -> None:
    """Replace what stands between BEGIN and END in README.md."""
    text = README.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"{README} lacks the lines {BEGIN} and {END}.")
    body = "\n".join(table)
    README.write_text(f"{before}{begin}\n{body}\n{end}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE")
    parser.add_argument("--write", action="store_true", help="into README.md")
    options = parser.parse_args()
    table = [line(COLUMNS), line(["---"] * len(COLUMNS))]
    print("\n".join(table), flush=True)
    for name in options.sets:
        table.append(line(row_of(name, options.data, options.set)))
        print(table[-1], flush=True)
    if options.write:
        write(table)


if __name__ == "__main__":
    main()
