"""What is trained: the one Keras model that `fit` drives, and its training step."""

from kerastrain.engine.averages import Average
from kerastrain.engine.batches import Batches
from kerastrain.engine.gradients import Clipping
from kerastrain.engine.guest import Guest
from kerastrain.engine.model import Engine
from kerastrain.engine.optimizer import RateFactors, make_optimizer

__all__ = [
    "Average",
    "Batches",
    "Clipping",
    "Engine",
    "Guest",
    "RateFactors",
    "make_optimizer",
]
