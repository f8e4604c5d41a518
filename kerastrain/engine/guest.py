"""A user's own compiled Keras model, driven as `Engine` drives those of ours.

Private methods of Keras' trainer and optimisers (3.15) are touched here too: the model
itself is what `fit` is called on, so that callbacks see the model that the user made.
"""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from kerastrain.engine.averages import Average, batch_norms
from kerastrain.engine.batches import Batches
from kerastrain.engine.gradients import Clipping
from kerastrain.engine.update import sums, update
from kerastrain.errors import ConfigError
from kerastrain.tensors import untuned

__all__ = ["Guest"]

# What an optimiser clips by itself: before the sum over devices, so not as on one.
_OWN_CLIPPING = {
    "clipvalue": "value",
    "clipnorm": "each_norm",
    "global_clipnorm": "norm",
}
_MEANS = ("sum_over_batch_size", "mean")


class Guest:
    """A compiled model with its own losses, metrics and optimiser.

    The gradient of a step is that of the loss as Keras means it, of the whole batch:
    a part of it, on one device or of several, counts by its share of the rows. So it is
    the same on one device and on many, odd last batches included.

    Args:
        model: compiled; its optimiser, losses and metrics are built here.
        batches: what it is fitted on.
        clipping: of the gradient; what the optimiser clips holds where this has none.
        accumulate: parts of a step whose gradients are summed.
        validation: what `model.fit` takes as `validation_data`.
        validation_batch_size: of arrays.

    Attributes:
        scale: what the learning rate is multiplied by, whatever it is; the rate that
            the optimiser shows stays as it is.
        average: of the weights, kept up to date.

    Raises:
        ConfigError: it is not compiled, has nothing to train, or trains by itself.
    """

    # Keras' models know no way to it: lack of memory ends with a step in single rows.
    remat = True
    is_in_step = True  # it is not told apart from validation
    average: Average | None = None

    def __init__(
        self,
        model: keras.Model,
        batches: Batches,
        *,
        clipping: Clipping,
        accumulate: int = 1,
        validation: Any = None,
        validation_batch_size: int = 32,
    ):
        self.model = model
        self.batches = batches
        self.accumulate = accumulate
        self.validation = validation
        self._validated = {"validation_data": validation}
        if isinstance(validation, tuple):
            self._validated["validation_batch_size"] = validation_batch_size
        self._build()
        self._inner = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        own = {ours: getattr(self._inner, k) for k, ours in _OWN_CLIPPING.items()}
        given = {k: v for k, v in vars(clipping).items() if v is not None}
        self.clipping = Clipping(**(own | given))
        self.scale = keras.Variable(
            1.0, trainable=False, dtype="float32", autocast=False, name="rate_scale"
        )
        self.first_bad, self.num_bad = -1, 0
        self._iterator: Any = None
        self.retrace()

    def _build(self) -> None:
        model = self.model
        if not model.compiled or model.optimizer is None:
            raise ConfigError(
                "The model is not compiled: model.compile(optimizer=..., loss=...)."
            )
        if type(model).train_step is not keras.Model.train_step:
            raise ConfigError(
                f"{type(model).__name__} has a train_step of its own, of which the "
                "gradient can be neither summed, clipped nor checked. Override "
                "compute_loss instead, or add losses with add_loss."
            )
        first = self.batches.epochs(0, 0)
        model._symbolic_build(data_batch=first.element_spec)
        if not model.trainable_variables:
            raise ConfigError("The model has no weights to train.")
        if self.strategy.num_replicas_in_sync > 1:
            for layer in batch_norms(model):  # else the statistics of devices drift
                layer.synchronized = True
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)

    # --- what the training around it asks for -----------------------------------------

    @property
    def strategy(self) -> tf.distribute.Strategy:
        return self.model.distribute_strategy

    @property
    def optimizer(self) -> Any:
        return self.model.optimizer

    @property
    def variables(self) -> list[Any]:
        return self.model.variables

    @property
    def metrics(self) -> list[Any]:
        return self.model.metrics

    @property
    def stop_training(self) -> bool:
        return getattr(self.model, "stop_training", False)

    @stop_training.setter
    def stop_training(self, value: bool) -> None:
        self.model.stop_training = value

    @property
    def stop_reason(self) -> str:
        return getattr(self.model, "stop_reason", "")

    @stop_reason.setter
    def stop_reason(self, value: str) -> None:
        self.model.stop_reason = value

    @property
    def is_loss_scaled(self) -> bool:
        return isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)

    def retrace(self) -> None:
        """Compile again, after a change of what a step is."""
        self._compiled: dict[int, Any] = {}
        self._spec: Any = None

    def _step_of(self, parts: int) -> Any:
        """The step in so many parts, compiled by the shapes of the data set: by those
        of its batches a shorter last one would be traced anew, and weighed otherwise
        in what Keras tells of single losses."""
        if self._spec != self.batches.element_spec:
            self.retrace()
            self._spec = self.batches.element_spec
        if parts not in self._compiled:
            step = partial(self._step, parts=parts)
            if not self.model.run_eagerly:
                step = tf.function(step, input_signature=[self._spec])
            self._compiled[parts] = step
        return self._compiled[parts]

    def begin_epoch(self, epoch: int, num_calls: int) -> None:
        """Open the data of the epoch that `batches` is set to."""
        self.batches.begin()
        if self._iterator is not None:
            left = self.batches.num_blocks - self.batches.first_block
            self._iterator._num_batches = left

    def inputs_of(self, batches: Batches, num_batches: int) -> Iterator[Any]:
        return batches.inputs(num_batches)

    def distributed(self, batches: Batches) -> tf.data.Dataset:
        """What Keras counts steps by; the batches themselves are read in `_train`."""
        nothing = tf.zeros(self.strategy.num_replicas_in_sync)
        known = int(batches.epochs(0, 0).cardinality())
        # Further than an epoch that begins in the middle: `begin_epoch` sets the end.
        data = tf.data.Dataset.from_tensors(nothing)
        return untuned(data.repeat(known if known > 0 else -1))

    def fit(self, data: tf.data.Dataset, **options: Any) -> Any:
        """`model.fit` with the step of this class; then the model is as it was."""
        model, before = self.model, self.model.steps_per_execution
        self._iterator = None
        model.__dict__["_maybe_symbolic_build"] = self._keep_iterator
        model.train_function, model.steps_per_execution = self._train, 1
        try:
            return model.fit(data, **self._validated, **options)
        finally:
            del model.__dict__["_maybe_symbolic_build"]
            model.train_function, model.steps_per_execution = None, before

    def _keep_iterator(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Nothing is left to build. The first iterator is that of the training."""
        if self._iterator is None:
            self._iterator = iterator

    # --- one step ---------------------------------------------------------------------

    def _train(self, _: Any) -> dict[str, Any]:
        data = self.batches.next()
        if not self.batches.has_next:
            self._iterator._num_batches = self._iterator._steps_seen
        parts = min(self.accumulate, max(1, self.batches.least_rows))
        is_finite, logs = self._step_of(parts)(data)
        self.num_bad = int(not is_finite)
        self.first_bad = self.num_bad - 1
        return logs

    @tf.autograph.experimental.do_not_convert
    def _step(self, data: Any, parts: int) -> tuple[tf.Tensor, dict[str, Any]]:
        strategy = self.strategy
        with self._held():
            is_finite, logs = strategy.run(
                partial(self._on_device, parts=parts), args=(data,)
            )
        if self.average is not None:
            self.average.step(strategy, self.optimizer.iterations)
        if strategy.num_replicas_in_sync > 1:
            is_finite = strategy.experimental_local_results(is_finite)[0]
            logs = {k: strategy.reduce("MEAN", v, axis=None) for k, v in logs.items()}
        return is_finite, logs

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """While a step is traced the rate is scaled, and clipping is ours."""
        optimizer = self._inner
        before = {name: getattr(optimizer, name) for name in _OWN_CLIPPING}
        rate = optimizer._get_current_learning_rate
        vars(optimizer)["_get_current_learning_rate"] = lambda: rate() * self.scale
        for name in before:
            setattr(optimizer, name, None)
        try:
            yield
        finally:
            del vars(optimizer)["_get_current_learning_rate"]
            for name, value in before.items():
                setattr(optimizer, name, value)

    def _on_device(self, data: Any, *, parts: int) -> tuple[tf.Tensor, dict[str, Any]]:
        """The step on one device, divided into parts."""
        context = tf.distribute.get_replica_context()
        if parts * context.num_replicas_in_sync > 1:
            self._check_is_divisible()
        num_rows = _num_rows(data)
        num_all = tf.cast(num_rows, tf.float32)
        if context.num_replicas_in_sync > 1:
            num_all = context.all_reduce("SUM", num_all)
        loss = tf.constant(0.0)
        total: list | None = None
        logs: dict[str, Any] = {}
        for part in range(parts):
            # One after the other, or all parts would be in memory at once.
            before = [g for g in total or [] if g is not None]
            with tf.control_dependencies(before):
                taken = _part(data, num_rows, part, parts)
            share, gradients, logs = self._gradients(taken, num_all)
            loss += share
            total = sums(total, gradients) if parts > 1 else gradients
        is_finite, *_ = update(
            self.optimizer,
            self.model.trainable_weights,
            total or [],
            loss,
            self.clipping,
        )
        return is_finite, logs

    def _gradients(
        self, data: Any, num_all: tf.Tensor
    ) -> tuple[tf.Tensor, list, dict[str, Any]]:
        """Share of these rows in the loss of the batch, and in its gradient."""
        model, replicas = self.model, self.strategy.num_replicas_in_sync
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        num_rows = tf.cast(_num_rows(data), tf.float32)
        options = {"training": True} if model._call_has_training_arg else {}
        with tf.GradientTape() as tape:
            outputs = model(x, **options)
            loss = model._compute_loss(
                x=x, y=y, y_pred=outputs, sample_weight=weight, training=True
            )
            mean = tf.cast(loss, tf.float32) * replicas  # Keras has divided it by them
            share = mean * (num_rows / num_all)
            scaled = self.optimizer.scale_loss(share)
        model._loss_tracker.update_state(mean, sample_weight=num_rows)
        logs = model.compute_metrics(x, y, outputs, sample_weight=weight)
        return share, tape.gradient(scaled, model.trainable_weights), logs

    def _check_is_divisible(self) -> None:
        """ConfigError where the loss of a batch is no mean over its rows."""
        losses = getattr(self.model._compile_loss, "_flat_losses", None) or []
        kinds = [getattr(one.loss, "reduction", _MEANS[0]) for one in losses]
        other = [kind for kind in kinds if kind not in _MEANS]
        if other:
            raise ConfigError(
                f"A loss has reduction='{other[0]}': a batch can only be divided into "
                "parts, or over devices, where it is a mean over the rows. Leave "
                "reduction= out, or train on one device with accumulate=1."
            )


def _num_rows(data: Any) -> tf.Tensor:
    x = keras.utils.unpack_x_y_sample_weight(data)[0]
    return tf.shape(keras.tree.flatten(x)[0])[0]


def _part(data: Any, num_rows: tf.Tensor, part: int, parts: int) -> Any:
    """Rows of part number `part`."""
    if parts == 1:
        return data
    first, end = num_rows * part // parts, num_rows * (part + 1) // parts
    return tf.nest.map_structure(lambda tensor: tensor[first:end], data)
