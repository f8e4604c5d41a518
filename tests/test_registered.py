"""Loading a saved model finds every layer of ours."""

import ast
import fnmatch
import importlib
import inspect
from pathlib import Path

import keras
import pytest

import kerastrain
from kerastrain.registered import MODULES, modules

PACKAGE = Path(kerastrain.__file__).parent


def registers(path):
    """Whether a file holds a class under `@register`."""
    return any(
        isinstance(decorator, ast.Name) and decorator.id == "register"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        for decorator in node.decorator_list
    )


HOLDING = [
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
    if registers(path)
]


@pytest.mark.parametrize("module", HOLDING)
def test_every_module_with_layers_is_imported_before_a_model_is_loaded(module):
    assert f"kerastrain.{module}" in modules()


@pytest.mark.parametrize("pattern", MODULES)
def test_what_is_listed_holds_layers(pattern):
    assert fnmatch.filter(HOLDING, pattern)


@pytest.mark.parametrize("module", HOLDING)
def test_every_layer_is_registered_under_its_name(module):
    loaded = importlib.import_module(f"kerastrain.{module}")
    for name, layer in inspect.getmembers(loaded, inspect.isclass):
        is_own = layer.__module__ == loaded.__name__ and "call" in vars(layer)
        if is_own and issubclass(layer, keras.layers.Layer):
            assert keras.saving.get_registered_name(layer) == f"kerastrain>{name}"
