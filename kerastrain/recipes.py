"""Recipes: how a network's authors train it, as defaults of the configuration.

The module of a network may hold a function `recipe(task, num_rows)`, which gives a
mapping shaped like the configuration: `{"optimizer": {"learning_rate": 0.04}}`. What
the user has set stands.
"""

import sys
from collections.abc import Mapping
from typing import Any, Protocol

from kerastrain.config import RunConfig
from kerastrain.config.parts import Named, Part
from kerastrain.models import LEARNERS, MODELS
from kerastrain.schema import Task

__all__ = ["recipe_of", "with_recipe"]


class Recipe(Protocol):
    def __call__(self, task: Task, num_rows: int) -> Mapping[str, Any]: ...


def with_recipe(config: RunConfig, task: Task, num_rows: int) -> RunConfig:
    """`config` with what its network's recipe says of all that the user did not set.

    A part whose `name` the user set to another one than the recipe's (an optimiser, a
    schedule) is left as it is.

    Args:
        num_rows: to train on.
    """
    recipe = recipe_of(config.model.name)
    if recipe is None:
        return config
    parts = {
        name: _mixed(getattr(config, name), values, name in config.model_fields_set)
        for name, values in recipe(task, num_rows).items()
    }
    return config.model_copy(update=parts)


def recipe_of(model: str) -> Recipe | None:
    """The recipe of a network, or of a function of the user's; None where it has none.

    It loads the network.
    """
    if model not in MODELS and ":" not in model:
        return None
    function = LEARNERS.load(model)
    module = sys.modules.get(getattr(function, "__module__", ""))
    return getattr(module, "recipe", None)


def _mixed(part: Part, recipe: Mapping[str, Any], is_set: bool) -> Part:
    is_given = part.model_fields_set if is_set else set()
    given = {k: v for k, v in part.model_dump().items() if k in is_given}
    if given.get("name", recipe.get("name")) != recipe.get("name", given.get("name")):
        return part
    mixed = type(part).model_validate({**recipe, **given})
    return mixed.checked() if isinstance(mixed, Named) else mixed
