"""Peak memory and step time of a network with and without `fit.remat`.

    python benchmarks/remat.py --batch 16384 --width 512

Each run is a process of its own: a few steps of 12 wide layers (batch normalisation
and dropout between them) on random rows. Its peak is that of the process (ru_maxrss);
`base` is a process that does the same with 32 rows, so what lies above it is what a big
batch costs.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def one(batch: int, width: int, remat: bool) -> dict[str, float]:
    """Steps in this process."""
    import keras
    import numpy as np

    from kerastrain.blocks import Blocks
    from kerastrain.engine import Engine
    from kerastrain.pipeline import Rows

    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((32,))
    for _ in range(12):
        x = keras.layers.Dense(width, use_bias=False)(x)
        x = keras.layers.Activation("relu")(keras.layers.BatchNormalization()(x))
        x = keras.layers.Dropout(0.2)(x)
    engine = Engine(inputs, keras.layers.Dense(1)(x))
    engine.prepare(
        keras.optimizers.SGD(0.01),
        lambda y, outputs: keras.ops.square(outputs[:, 0] - y),
        remat=remat,
    )
    numbers = np.random.default_rng(0).normal(size=(batch, 32)).astype("float32")
    ones = np.ones(batch, "float32")
    rows = Rows({"x": numbers}, numbers[:, 0], ones, np.arange(batch))
    blocks = Blocks(rows, batch, 1, seed=0)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        logs = engine.fit(blocks.dataset(), verbose=0, shuffle=False).history
        times.append(time.perf_counter() - start)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"peak_mb": peak_mb, "step_s": min(times[1:]), "loss": logs["loss"][-1]}


def apart(batch: int, width: int, remat: bool) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--one", "--batch", str(batch)]
    command += ["--width", str(width), *(["--remat"] if remat else [])]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=16_384)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--one", action="store_true", help="one run, in this process")
    parser.add_argument("--remat", action="store_true", help="for --one")
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(one(chosen.batch, chosen.width, chosen.remat)))
        return
    for name, batch, remat in (
        ("base", 32, False),
        ("kept", chosen.batch, False),
        ("remat", chosen.batch, True),
    ):
        print(json.dumps({"run": name, **apart(batch, chosen.width, remat)}))


if __name__ == "__main__":
    main()
