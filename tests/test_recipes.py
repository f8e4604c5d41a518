"""What a network's authors recommend fills the configuration, under the user."""

import json

import pytest

from kerastrain.config import parse_config
from kerastrain.errors import ConfigError
from kerastrain.models.realmlp import recipe
from kerastrain.recipes import recipe_of, with_recipe


def config_of(**settings):
    return parse_config({"target": "y", "model": "realmlp", **settings})


@pytest.mark.parametrize(
    ("task", "rate", "is_regression"),
    [("binary", 0.04, False), ("multiclass", 0.04, False), ("regression", 0.2, True)],
)
def test_a_recipe_fills_what_the_user_did_not_set(task, rate, is_regression):
    config = with_recipe(config_of(), task, 10_000)
    assert config.optimizer.name == "adam"
    assert config.optimizer.learning_rate == rate
    assert config.optimizer.model_extra["beta_2"] == 0.95
    assert config.optimizer.clip_norm is None
    assert config.schedule.name == "coslog4"
    assert (config.fit.epochs, config.fit.batch_size) == (256, 256)
    assert config.model.options["is_regression"] == is_regression
    assert config.model.options["dropout"] == 0.15
    assert parse_config(json.loads(json.dumps(config.model_dump()))) == config


def test_what_the_user_set_stands_even_where_it_is_the_default():
    config = config_of(
        model={"name": "realmlp", "dropout": 0.15, "is_regression": False},
        optimizer={"learning_rate": 1e-3},
        schedule="cosine",
        fit={"patience": 10},
    )
    mixed = with_recipe(config, "regression", 10_000)
    assert mixed.schedule == config.schedule
    assert mixed.model == config.model
    assert mixed.optimizer.learning_rate == 1e-3
    assert mixed.optimizer.name == "adam"
    assert (mixed.fit.patience, mixed.fit.epochs) == (10, 256)


def test_another_optimizer_than_the_recipes_keeps_its_own_defaults():
    config = config_of(optimizer="sgd")
    assert with_recipe(config, "binary", 100).optimizer == config.optimizer


@pytest.mark.parametrize("model", ["linear", "mlp"])
def test_a_network_without_a_recipe_is_trained_as_before(model):
    config = config_of(model=model)
    assert recipe_of(model) is None
    assert with_recipe(config, "binary", 100) is config


@pytest.mark.parametrize(
    ("rows", "size"), [(30_000, 256), (30_001, 512), (10**6, 1024)]
)
def test_batches_grow_with_the_rows(rows, size):
    assert recipe("binary", rows)["fit"]["batch_size"] == size


def test_a_weight_decay_that_fades_has_a_name():
    with pytest.raises(ConfigError, match="decay_schedule"):
        parse_config({"target": "y", "optimizer": {"decay_schedule": "cosine"}})
