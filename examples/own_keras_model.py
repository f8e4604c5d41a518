"""A compiled Keras model and a tf.data data set of one's own, trained by the engine.

python examples/own_keras_model.py     ten seconds on two cores; stop it and start again
"""

import keras
import numpy as np
import tensorflow as tf

import kerastrain


def batches(epoch: int) -> tf.data.Dataset:
    """Of an epoch: by its number, so that a resume reads no batch twice."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2_000, 8)).astype("float32")
    y = (np.sin(x[:, 0]) * x[:, 1] > 0).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, y))
    return data.shuffle(2_000, seed=epoch).batch(64)


def main() -> None:
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(64, "relu"), keras.layers.Dropout(0.1)]
    model = keras.Sequential([*layers, keras.layers.Dense(1, "sigmoid")])
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])

    history = kerastrain.fit(
        model, batches, epochs=10, folder="runs/own", clip_norm=1.0, average="ema"
    )
    print("accuracy of the last epoch:", history.history["accuracy"][-1])
    print(model.predict(np.zeros((1, 8)), verbose=0))  # an ordinary Keras model


if __name__ == "__main__":
    main()
