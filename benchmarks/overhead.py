"""What stands around the training steps costs: the share of each callback.

    python benchmarks/overhead.py --rows 200000 --batch-size 256

One training with all that a run has (see `training_loop.watched`: checkpoints every
second, where 30 is the default). The time inside each callback is taken within the same
process, so that what else the machine does falls on both sides; validation is not
counted, since any training has it. Threads (checkpoints on disk, resources) are not in
it: beside it stand the CPU seconds of `ours` and `bare` in `training_loop.py`.
"""

import argparse
import time
from collections import defaultdict
from typing import Any

import keras
import training_loop
from training_loop import make_data, prepared

METHODS = [f"on_{what}_{when}" for what in ("epoch", "train_batch") for when in (
    "begin", "end")]  # fmt: skip


def timed(callback: keras.callbacks.Callback, spent: dict[str, float]) -> None:
    name = type(callback).__name__
    for method in METHODS:
        inner = getattr(callback, method)

        def run(*given: Any, inner: Any = inner, **named: Any) -> None:
            start_s = time.perf_counter()
            inner(*given, **named)
            spent[name] += time.perf_counter() - start_s

        setattr(callback, method, run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--widths", type=int, nargs="*", default=(256, 256))
    options = parser.parse_args()
    options.only = "ours"

    from kerastrain.config import RuntimeConfig
    from kerastrain.runtime import runtime
    from kerastrain.training.recovery import Recovery

    spent: dict[str, float] = defaultdict(float)
    fit = Recovery._fit

    def fit_timed(self: Recovery) -> None:
        for callback in self.keeper.watched:
            timed(callback, spent)
        start_s = time.perf_counter()
        fit(self)
        spent["all"] = time.perf_counter() - start_s

    Recovery._fit = fit_timed
    watch = keras.callbacks.Callback()
    learner, rows = prepared(make_data(options.rows), options, watch)
    with runtime(RuntimeConfig(), seed=0):
        learner.fit(rows.train, rows.validation)
    learner.plan.files.close()
    total = spent.pop("all") - spent.pop("Validate")
    print(f"{total:.1f} s in {options.epochs} epochs without validation")
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"{name:<16} {seconds:6.3f} s  {seconds / total:7.2%}")
    print(f"{'together':<16} {sum(spent.values()):6.3f} s  "
          f"{sum(spent.values()) / total:7.2%}")  # fmt: skip


if __name__ == "__main__":
    assert training_loop.NAMES
    main()
