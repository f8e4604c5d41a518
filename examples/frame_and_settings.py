"""A regression on a table in memory, with settings of one's own.

python examples/frame_and_settings.py  about a minute on two cores
"""

from pathlib import Path

import pandas as pd

import kerastrain

DATA = Path(__file__).parent / "data" / "housing.csv"


def main() -> None:
    houses = pd.read_csv(DATA)
    houses["rooms_per_household"] = houses["total_rooms"] / houses["households"]

    # Every argument is a key of config.yaml; parts with options are mappings.
    run = kerastrain.train(
        houses,
        target="median_house_value",
        ignore=["population"],
        split={"validation": 0.1, "test": 0.2},
        model={"name": "mlp", "widths": [128, 128], "dropout": 0.05},
        optimizer={"name": "adamw", "learning_rate": 2e-3},
        fit={"epochs": 15, "patience": 5},
        seed=1,
    )
    print(run.metrics["verdict"]["sentence"])
    print("RMSE on test rows:", run.metrics["test"]["rmse"])
    print(run.predict(houses.sample(5, random_state=0)))


if __name__ == "__main__":
    main()
