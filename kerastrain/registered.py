"""Layers that a saved model may hold: Keras finds only classes that were imported."""

import importlib
from pathlib import Path

__all__ = ["MODULES", "modules", "register_all"]

MODULES = (
    "encodings",
    "ensembles.blend",
    "forest.layer",
    "kernels",
    "layers",
    "layers_decision",
    "nets.*",
    "parsing",
    "sklearn_splines",
    "sklearn_trees",
    "textvectors",
)


def modules() -> list[str]:
    """Full names of all that `MODULES` stands for."""
    here = Path(__file__).parent
    paths = [
        path
        for name in MODULES
        for path in sorted(here.glob(f"{name.replace('.', '/')}.py"))
    ]
    names = [".".join(path.relative_to(here.parent).parts) for path in paths]
    return [name.removesuffix(".py").removesuffix(".__init__") for name in names]


def register_all() -> None:
    """Import every module of ours that registers layers."""
    for name in modules():
        importlib.import_module(name)
