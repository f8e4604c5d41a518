"""Runs that are killed with SIGKILL at random moments, and one that is not.

    python tests/kills.py FOLDER NUM_KILLS SETTINGS

Every attempt is a fork of this process, which has imported TensorFlow and not begun to
use it: that takes 6 s where a new process takes them each time. Prints JSON: how many
kills there were, in how many runs, and what differed from the run without.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from kerastrain.differences import differences, values_of
from kerastrain.run import train
from kerastrain.store import RunFolder, read_json


def table(path, num_rows=400):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num_rows, 3))
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    frame["kind"] = rng.choice(["red", "green", "blue"], num_rows)
    frame["y"] = np.where(x[:, 0] + (frame["kind"] == "red") > 0.3, "yes", "no")
    frame.to_csv(path, index=False)


def attempt(data, out, settings, kill_after_s=None):
    """Whether the run ended by itself; in a process of its own."""
    child = os.fork()
    if child == 0:
        log = os.open(f"{out}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        try:
            train(data, "y", out=out, **settings)
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            os._exit(1)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        request = RunFolder(out).request  # the kill may have come a moment too late
        return request.is_file() and read_json(request).get("is_finished", False)
    assert os.waitstatus_to_exitcode(status) == 0, Path(f"{out}.log").read_text()
    return True


def main(folder, num_kills, settings):
    data, moments = f"{folder}/data.csv", random.Random(1)
    table(data)
    start_s = time.monotonic()
    attempt(data, f"{folder}/whole", settings)
    whole_s = time.monotonic() - start_s
    whole = values_of(RunFolder(f"{folder}/whole"))
    found, kills, runs, resumed = [], 0, 0, 0
    while kills < num_kills:
        out, is_done, runs = f"{folder}/killed_{runs}", False, runs + 1
        while not is_done:
            is_last = kills >= num_kills
            after_s = None if is_last else moments.uniform(0.1, 1.1) * whole_s
            is_done = attempt(data, out, settings, after_s)
            kills += not is_done
        resumed += Path(f"{out}.log").read_text().count("Training goes on in epoch")
        killed = values_of(RunFolder(out))
        found += [
            str(difference)
            for file in whole
            for difference in differences(file, whole[file], killed[file])
        ]
    print(json.dumps([kills, runs, resumed, found]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]))
