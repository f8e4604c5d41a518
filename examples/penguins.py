"""A CSV in, a trained and checked model out; then the same model in another process.

python examples/penguins.py            about a minute on two cores
"""

from pathlib import Path

import pandas as pd

import kerastrain

DATA = Path(__file__).parent / "data" / "penguins.csv"


def main() -> None:
    run = kerastrain.train(DATA, target="species")

    print(run.metrics["verdict"]["sentence"])
    print("accuracy on test rows:", run.metrics["test"]["accuracy"])
    print(run.history.tail(3))  # a row per epoch
    print("open", run.folder.report)

    # Any table with the same columns; the target is not needed, gaps are allowed.
    frame = pd.read_csv(DATA).drop(columns="species").head()
    print(run.predict(frame))

    loaded = kerastrain.load(run.folder.path)
    pd.testing.assert_frame_equal(loaded.predict(frame), run.predict(frame))


if __name__ == "__main__":
    main()
