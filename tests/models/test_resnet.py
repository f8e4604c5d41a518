"""ResNet: the computation of its paper, from columns to what the head sees."""

import keras
import numpy as np
import pytest

from kerastrain.config.training import FitConfig, OptimizerConfig
from kerastrain.errors import ConfigError
from kerastrain.models import MODELS
from kerastrain.models.resnet import recipe, resnet

# Keras 3.15 with NumPy 2 says so whenever a variable is read.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)


def normalized(x, weights):
    gamma, beta, mean, variance = weights.next("batch_normalization")
    return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta


def test_resnet_gives_the_numbers_of_its_paper(table, weights_of, scaled):
    model = table.build(resnet, blocks=2, width=6)
    w = weights_of(model)
    x = w.dense(w.columns(table.rows, scaled))
    for _ in range(2):
        y = np.maximum(w.dense(normalized(x, w)), 0)
        x = x + w.dense(y)
    expected = np.maximum(normalized(x, w), 0)
    np.testing.assert_allclose(model(table.rows), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scaling", ["normal", "log", "clip"])
@pytest.mark.parametrize("frequencies", [0, 4])
def test_resnet_takes_numbers_in_any_form(table, scaling, frequencies):
    model = table.build(resnet, blocks=1, scaling=scaling, frequencies=frequencies)
    assert model(table.rows).shape == (50, 192)
    embedded = [type(layer).__name__ == "PeriodicEmbedding" for layer in model.layers]
    assert any(embedded) == bool(frequencies)


def test_resnet_forgets_old_batches_as_fast_as_its_authors(table):
    model = table.build(resnet, blocks=1)
    kind = keras.layers.BatchNormalization
    assert {m.momentum for m in model.layers if isinstance(m, kind)} == {0.9}


def test_the_recipe_of_resnet_is_a_configuration():
    parts = recipe("binary", 1_000)
    assert OptimizerConfig(**parts["optimizer"]).learning_rate == 1e-3
    assert FitConfig(**parts["fit"]).patience is not None


@pytest.mark.parametrize("name", ["resnet", "ft_transformer", "dcn_v2"])
def test_an_unknown_scaling_is_refused_before_the_network_is_loaded(name):
    with pytest.raises(ConfigError, match=f"model.{name}.scaling: Input should be"):
        MODELS.check(name, {"scaling": "normals"}, path="model")
