"""The optimiser of a run, and how fast each weight learns.

A layer may say of a weight of its own how fast it learns against others, as an
attribute of the variable, `rate_factor`, which `optimizer.rates` overrules; and how
fast it decays, `decay_factor`, which `optimizer.no_decay` overrules. Weight decay goes
by both.
"""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import keras
import tensorflow as tf

from kerastrain.config import OptimizerConfig
from kerastrain.errors import ConfigError, listing
from kerastrain.nets.fading import flat_cos

__all__ = ["RateFactors", "make_optimizer"]


def make_optimizer(
    config: OptimizerConfig, learning_rate: Any, variables: list, num_steps: int = 0
) -> keras.optimizers.Optimizer:
    """The optimiser of a run; biases, norms and scales are exempt from weight decay.

    Args:
        num_steps: of the whole training, for a weight decay that goes by them; 0 is
            not known, and the decay is then constant.
    """
    names = {name.lower(): name for name in dir(keras.optimizers)}
    kind = getattr(keras.optimizers, names[config.name.lower()])
    options = {"weight_decay": config.weight_decay or None} | (config.model_extra or {})
    if hasattr(learning_rate, "scale"):
        kind = _settable(kind)
    named = {id(v) for p in config.no_decay for v in _fitting("no_decay", p, variables)}
    decays = [0.0 if id(v) in named else _decay_factor(v) for v in variables]
    fades = config.decay_schedule == "flat_cos" and num_steps > 0
    if config.weight_decay and (fades or set(decays) - {0.0, 1.0}):
        kind = _decaying(kind, variables, decays, num_steps if fades else 0)
    try:
        optimizer = kind(learning_rate=learning_rate, **options)
    except (TypeError, ValueError) as error:
        text = str(error).partition("\n")[0]
        raise ConfigError(f"optimizer {config.name}: {text}") from None
    exempt = [v for v, decay in zip(variables, decays, strict=True) if not decay]
    if config.weight_decay and exempt:
        optimizer.exclude_from_weight_decay(var_list=exempt)
    return optimizer


def _decay_factor(variable: Any) -> float:
    return getattr(variable, "decay_factor", 1.0 if len(variable.shape) > 1 else 0.0)


def _decaying(
    kind: Any, variables: Sequence[Any], factors: Sequence[float], num_steps: int
) -> Any:
    """That optimiser, whose weight decay has a factor for each weight and fades over
    `num_steps`, if there are any."""
    groups: dict[float, set[int]] = {}
    for variable, factor in zip(variables, factors, strict=True):
        groups.setdefault(factor, set()).add(id(variable))

    class Decaying(kind):
        _factor = 1.0
        _whole = 0.0

        @property
        def weight_decay(self) -> Any:
            """At this step, for the weights that are at it."""
            now = self._whole * self._factor
            if num_steps:
                done = tf.cast(self.iterations.value, tf.float32) / num_steps
                now = now * flat_cos(done)
            return now

        @weight_decay.setter
        def weight_decay(self, value: float) -> None:
            self._whole = value

        def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
            for factor, members in groups.items():
                self._factor = factor
                super()._apply_weight_decay([v for v in variables if id(v) in members])
            self._factor = 1.0

    Decaying.__name__ = kind.__name__
    return Decaying


def _settable(kind: type) -> Any:
    """That optimiser, whose rate can be set although a schedule moves it, as by
    ReduceLROnPlateau and LearningRateScheduler: all rates from then on are scaled."""

    def get(self: Any) -> Any:
        return self._get_current_learning_rate()

    def set_rate(self: Any, value: Any) -> None:
        if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
            self._learning_rate = value
            return
        now = float(keras.ops.convert_to_numpy(get(self)))
        if now > 0:
            scale = self._learning_rate.scale
            scale.assign(scale * (float(value) / now))

    return type(kind.__name__, (kind,), {"learning_rate": property(get, set_rate)})


class RateFactors:
    """What the learning rate of each weight is multiplied by; 0 freezes it.

    The change of a weight is multiplied, not its gradient, to which Adam and its kin
    are indifferent; weight decay shrinks with it.

    Args:
        config: `rates`, `layer_decay` and `unfreeze` of it.
        model: whose trainable variables are meant, in their order.

    Raises:
        ConfigError: a pattern fits no weight.
    """

    def __init__(self, config: OptimizerConfig, model: keras.Model):
        variables = model.trainable_variables
        self._factors = [getattr(v, "rate_factor", 1.0) for v in variables]
        self._begins = [0] * len(variables)  # epoch, from 0, in which it learns
        places = {id(variable): i for i, variable in enumerate(variables)}
        if config.layer_decay is not None:
            for variable, depth in _depths(model):
                self._factors[places[id(variable)]] *= config.layer_decay**depth
        for pattern, factor in reversed(config.rates.items()):
            for variable in _fitting("rates", pattern, variables):
                self._factors[places[id(variable)]] = factor
        for pattern, epoch in reversed(config.unfreeze.items()):
            for variable in _fitting("unfreeze", pattern, variables):
                self._begins[places[id(variable)]] = epoch - 1

    def at(self, epoch: int) -> list[float]:
        """Of each variable in an epoch, from 0."""
        return [
            factor if epoch >= begin else 0.0
            for factor, begin in zip(self._factors, self._begins, strict=True)
        ]

    @property
    def is_plain(self) -> bool:
        """All weights learn alike, always."""
        return set(self._factors) <= {1.0} and not any(self._begins)

    def freezes_all(self, epochs: int) -> bool:
        """No weight learns in any of these epochs."""
        return not any(factor for factor in self.at(epochs - 1))

    @property
    def changing(self) -> list[int]:
        """Places of the variables that are not always at the full rate."""
        pairs = enumerate(zip(self._factors, self._begins, strict=True))
        return [place for place, (f, b) in pairs if f != 1.0 or b]


def _fitting(option: str, pattern: str, variables: Sequence[Any]) -> list[Any]:
    """Variables whose path, or the name of a layer in it, fits."""
    found = [
        v
        for v in variables
        if fnmatchcase(v.path, pattern)
        or any(fnmatchcase(part, pattern) for part in v.path.split("/"))
    ]
    if not found:
        layers = dict.fromkeys(re.sub("/[^/]*$", "", v.path) for v in variables)
        raise ConfigError(
            f"optimizer.{option}: no weight fits '{pattern}'. Weights belong to: "
            f"{listing(layers)}."
        )
    return found


def _depths(model: keras.Model) -> list[tuple[Any, int]]:
    """Each trainable variable, and how many layers that learn stand above its own."""
    layers = [
        layer
        for layer in model._flatten_layers(include_self=False, recursive=False)
        if layer.trainable_variables
    ]
    last = len(layers) - 1
    return [
        (variable, last - place)
        for place, layer in enumerate(layers)
        for variable in layer.trainable_variables
    ]
