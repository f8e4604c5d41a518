"""Names of inputs keep clear of the names that layers get."""

import importlib
import inspect
import re

import keras
import pytest

from kerastrain.config import FeaturesConfig
from kerastrain.features import Front
from kerastrain.registered import modules
from kerastrain.reserved import is_reserved
from kerastrain.schema import Column, ColumnStats, Schema, input_names


def automatic_name(layer):
    """As Keras makes it of a class."""
    name = re.sub(r"\W+", "", layer)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


@pytest.mark.parametrize("module", ["keras.layers", *modules()])
def test_every_layer_is_known(module):
    names = [
        automatic_name(name)
        for name, value in vars(importlib.import_module(module)).items()
        if inspect.isclass(value) and issubclass(value, keras.layers.Layer)
        if not name.startswith("_")
    ]
    assert [name for name in names if not is_reserved(name)] == []


def test_a_column_called_like_a_layer_gets_another_name():
    names = ["numbers", "Dense 1", "dense_1_", "self", "class", "age"]
    assert list(input_names(names).values()) == [
        "numbers_", "Dense_1_", "dense_1__2", "self_", "class_", "age",
    ]  # fmt: skip


def test_a_front_takes_columns_called_like_its_own_parts():
    names = ["numbers", "codes", "finite_number", "concatenate", "expand_dims", "head"]
    stats = ColumnStats(storage="float", num_rows=9)
    columns = [
        Column(name=n, input=i, type="numeric", role="feature", stats=stats)
        for n, i in input_names(names).items()
    ]
    front = Front(Schema(columns=columns, num_rows=9), {}, FeaturesConfig())
    assert front.model.output["numbers"].shape == (None, len(names))
