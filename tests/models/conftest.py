"""A small table, encoded, for networks that are built without a run around them."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from kerastrain.features import Features, NumberStatistics


def make_features(numbers, vocabulary_sizes, num_outputs=1):
    """Features of float32 `(rows, n)`, or None, and of codes of these sizes."""
    matrix = np.zeros((2, 0), "float32") if numbers is None else numbers
    inputs = {}
    if numbers is not None:
        inputs["numbers"] = keras.Input(matrix.shape[1:], name="numbers")
    if vocabulary_sizes:
        shape = (len(vocabulary_sizes),)
        inputs["codes"] = keras.Input(shape, name="codes", dtype="int32")
    clean = {
        name: keras.layers.Identity(dtype=t.dtype)(t) for name, t in inputs.items()
    }
    return Features(
        inputs=inputs,
        numbers=clean.get("numbers"),
        codes=clean.get("codes"),
        number_names=tuple(f"x{i}" for i in range(matrix.shape[1])),
        code_names=tuple(f"c{i}" for i in range(len(vocabulary_sizes))),
        vocabulary_sizes=tuple(vocabulary_sizes),
        statistics=NumberStatistics.of(matrix, np.arange(len(matrix))),
        num_outputs=num_outputs,
    )


@pytest.fixture(scope="session")
def table():
    """`rows`, arrays by the names of the inputs, and `build(network, **options)`, which
    makes a model of them whose weights are not their first ones."""
    random = np.random.default_rng(0)
    numbers = random.normal(size=(50, 3)).astype("float32")
    numbers[::5, 1] = np.nan
    rows = {"numbers": numbers, "codes": random.integers(0, 4, (50, 2), "int32")}

    def build(network, **options):
        features = make_features(numbers, (4, 5))
        model = keras.Model(features.inputs, network(features, **options))
        for index, variable in enumerate(model.weights):
            draw = np.random.default_rng(index)
            if "moving_variance" in variable.path:
                variable.assign(draw.uniform(0.5, 2, variable.shape))
            elif "quantile_normal" not in variable.path and variable.dtype == "float32":
                variable.assign(draw.normal(0, 0.4, variable.shape))
        return model

    return SimpleNamespace(rows=rows, build=build)


class Weights:
    """Weights of a model by the name of the layer, in the order it was made in."""

    def __init__(self, model):
        self._left = {}
        for layer in sorted(model.layers, key=_number):
            name = layer.name.removesuffix(f"_{_number(layer)}")
            values = [np.asarray(v.value, "float64") for v in layer.weights]
            self._left.setdefault(name, []).append(values)

    def next(self, name):
        return self._left[name].pop(0)

    def dense(self, x):
        kernel, bias = self.next("dense")
        return x @ kernel + bias

    def columns(self, rows, scaled):
        """Scaled numbers, the indicator of the gaps, and vectors of the categories."""
        table = self.next("category_embedding")[0]
        vectors = table[rows["codes"] + np.array([0, 4])].reshape(len(scaled), -1)
        gaps = np.isnan(rows["numbers"][:, 1:2]).astype(float)
        return np.hstack([scaled, gaps, vectors])


def _number(layer):
    """At the end of a name that Keras gave, which counts up."""
    last = layer.name.rpartition("_")[2]
    return int(last) if last.isdigit() else 0


@pytest.fixture
def weights_of():
    return Weights


@pytest.fixture
def scaled(table):
    """Numbers as the networks see them, by their rank, from the model's own layer,
    which has tests of its own."""
    from kerastrain.nets.inputs import normal_numbers

    features = make_features(table.rows["numbers"], (4, 5))
    model = keras.Model(features.inputs["numbers"], normal_numbers(features))
    return np.asarray(model(table.rows["numbers"]), "float64")
