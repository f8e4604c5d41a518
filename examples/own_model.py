"""A model of one's own: a function of features, named as "module:function".

python examples/own_model.py           about a minute on two cores
"""

from pathlib import Path

import keras

import kerastrain

DATA = Path(__file__).parent / "data" / "penguins.csv"


def my_net(features, *, width: int = 64, dropout: float = 0.1):
    """Two layers and a skip. The keyword-only arguments are the model's options."""
    x = keras.layers.Dense(width, activation="relu")(features.flat())
    y = keras.layers.Dropout(dropout)(x)
    y = keras.layers.Dense(width, activation="relu")(y)
    return keras.layers.Add()([x, y])


def main() -> None:
    model = {"name": "own_model:my_net", "width": 32}
    run = kerastrain.train(DATA, target="species", model=model)
    print(run.metrics["verdict"]["sentence"])
    run.model.summary()  # an ordinary keras.Model, from raw columns to the decision


if __name__ == "__main__":  # kerastrain imports this file once more, to find my_net
    main()
