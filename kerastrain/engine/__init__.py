"""What is trained: the one Keras model that `fit` drives, and its training step."""

from kerastrain.engine.model import Engine, make_optimizer

__all__ = ["Engine", "make_optimizer"]
