"""The compiled Keras model that `fit` drives: its own training step, many per call.

This is the only file that touches private methods of Keras (3.15). Why not Keras' own
step: it clips before the reduction over devices and per device, weighs uneven shards
alike, consumes a batch to build itself, hands repeated embedding rows to Adam unsummed,
and runs several steps per call only over whole batches.
"""

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastrain.blocks import Blocks
from kerastrain.config import OptimizerConfig
from kerastrain.errors import ConfigError
from kerastrain.pipeline import Rows, outputs_of

__all__ = ["Engine", "make_optimizer"]


class Engine(keras.Model):
    """What is trained: the core after the cut.

    `Engine(inputs, outputs)` is a functional model. After `prepare` it is fitted on a
    data set of blocks (see `pipeline.Blocks`): `engine.fit(blocks.dataset(), ...)`.

    The loss of a step is `sum(weight * loss of a row) / number of rows with weight`
    over the rows of all devices, plus the layers' own losses; the gradient is that of
    this number, summed over devices, then clipped. It is the same on one device and
    on many, odd last batches included.
    """

    def prepare(
        self,
        optimizer: keras.optimizers.Optimizer,
        row_loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
        *,
        clip_norm: float | None = None,
    ) -> "Engine":
        """Set what `fit` uses.

        Args:
            row_loss: `(targets, outputs)` to the losses of the rows, float32 `(rows,)`.
            clip_norm: largest global norm of the gradient; None for no clipping.
        """
        self.row_loss = row_loss
        self.clip_norm = clip_norm
        self.compile(optimizer=optimizer, loss=None, jit_compile=False)
        self.mean_loss = keras.metrics.Mean(name="loss")
        self.optimizer.build(self.trainable_variables)
        return self

    # --- one step -----------------------------------------------------------------

    def _step(self, data: Any, step: tf.Tensor) -> None:
        """Step number `step` of a block, on one device."""
        *arrays, bounds = data
        first, end = bounds[step], bounds[step + 1]
        x, y, weight = tf.nest.map_structure(lambda array: array[first:end], arrays)
        context = tf.distribute.get_replica_context()
        num_rows = tf.cast(tf.math.count_nonzero(weight), tf.float32)
        num_all = num_rows
        if context.num_replicas_in_sync > 1:
            num_all = context.all_reduce("SUM", num_rows)
        with tf.GradientTape() as tape:
            outputs = self(self._packed(x), training=True)
            loss_sum = tf.reduce_sum(weight * self.row_loss(y, outputs))
            loss = loss_sum / tf.maximum(num_all, 1)
            loss += sum(self.losses) / context.num_replicas_in_sync
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, self.trainable_weights)
        self._apply(gradients, context)
        self.mean_loss.update_state(
            loss_sum / tf.maximum(num_rows, 1), sample_weight=num_rows
        )

    def _apply(self, gradients: list, context: Any) -> None:
        """Sum over devices, clip, update.

        Gradients are made dense first: Adam squares each slice of an embedding's
        gradient by itself, so a code that occurs twice in a batch would count as
        g1^2 + g2^2 where (g1 + g2)^2 is right.
        """
        pairs = [
            (tf.convert_to_tensor(gradient), weight)
            for gradient, weight in zip(gradients, self.trainable_weights, strict=True)
            if gradient is not None
        ]
        dense = [gradient for gradient, _ in pairs]
        num_replicas = context.num_replicas_in_sync
        if num_replicas > 1:
            dense = context.all_reduce("SUM", dense)
        if self.clip_norm is not None:
            limit = self.optimizer.scale_loss(tf.constant(self.clip_norm))
            dense = tf.clip_by_global_norm(dense, limit)[0]
        if num_replicas > 1:  # the optimizer sums over devices once more
            dense = [gradient / num_replicas for gradient in dense]
        weights = [weight for _, weight in pairs]
        self.optimizer.apply_gradients(zip(dense, weights, strict=True))

    # --- what Keras' fit calls ----------------------------------------------------

    @property
    def metrics(self) -> list:
        return [self.mean_loss] if hasattr(self, "mean_loss") else []

    def _maybe_symbolic_build(
        self, iterator: Any = None, data_batch: Any = None
    ) -> None:
        """Nothing is left to build. Keras would consume a batch, and fail under a
        strategy where shards differ in size."""

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            # Keras counts the shards of a block as a step each, and so expects more.
            warnings.filterwarnings("ignore", "Your input ran out of data", UserWarning)
            return super().fit(*args, **kwargs)

    train_function: Any

    def make_train_function(self, force: bool = False) -> Any:
        if self.train_function is not None and not force:
            return self.train_function
        strategy = self.distribute_strategy

        @tf.autograph.experimental.do_not_convert
        def steps(data: Any) -> dict[str, tf.Tensor]:
            shard = tf.nest.map_structure(
                lambda value: strategy.experimental_local_results(value)[0], data
            )
            num_steps = tf.shape(shard[-1])[0] - 1

            def body(step: tf.Tensor) -> tuple[tf.Tensor]:
                strategy.run(self._step, args=(data, step))
                return (step + 1,)

            tf.while_loop(
                lambda step: step < num_steps,
                body,
                [tf.constant(0)],
                parallel_iterations=1,
            )
            return {"loss": self.mean_loss.result()}

        compiled = steps if self.run_eagerly else None

        def train(iterator: Any) -> dict[str, tf.Tensor]:
            nonlocal compiled
            if compiled is None:
                # By the shapes of the data set. By those of its blocks it is traced for
                # the first, for others, and for a shorter last one, 0.5 s each.
                signature = [iterator.element_spec]
                compiled = tf.function(steps, input_signature=signature)
            return compiled(next(iterator))

        self.train_function = train
        return self.train_function

    # --- forward --------------------------------------------------------------------

    def outputs_of(self, rows: Rows) -> np.ndarray:
        """Outputs for `rows`, float32 `(rows, units)`; nothing is random."""
        if not hasattr(self, "_forward"):
            self._forward = tf.function(
                lambda x: tf.cast(self(self._packed(x), training=False), tf.float32),
                reduce_retracing=True,
            )
        return outputs_of(self._forward, rows, self.output_shape[-1])

    def _packed(self, x: dict[str, tf.Tensor]) -> Any:
        """The inputs in the structure that this model was built with."""
        return keras.tree.pack_sequence_as(self._inputs_struct, list(x.values()))

    def distributed(self, blocks: Blocks) -> Any:
        """The data set of `blocks` as this engine's strategy takes it."""
        data = blocks.dataset()
        if blocks.num_replicas == 1:
            return data
        strategy = self.distribute_strategy
        return strategy.distribute_datasets_from_function(lambda _context: data)


def make_optimizer(
    config: OptimizerConfig, learning_rate: Any, variables: list
) -> keras.optimizers.Optimizer:
    """The optimiser of a run; biases, norms and scales are exempt from weight decay."""
    names = {name.lower(): name for name in dir(keras.optimizers)}
    kind = getattr(keras.optimizers, names[config.name.lower()])
    options = {"weight_decay": config.weight_decay or None} | (config.model_extra or {})
    try:
        optimizer = kind(learning_rate=learning_rate, **options)
    except (TypeError, ValueError) as error:
        text = str(error).partition("\n")[0]
        raise ConfigError(f"optimizer {config.name}: {text}") from None
    exempt = [v for v in variables if len(v.shape) < 2]
    if config.weight_decay and exempt:
        optimizer.exclude_from_weight_decay(var_list=exempt)
    return optimizer
