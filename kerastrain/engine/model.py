"""The compiled Keras model that `fit` drives: its own training step, many per call.

This is the only file that touches private methods of Keras' trainer (3.15). Why not
Keras' own step: it clips before the reduction over devices and per device, weighs
uneven shards alike, consumes a batch to build itself, hands repeated embedding rows to
Adam unsummed, and runs several steps per call only over whole batches.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastrain.blocks import Blocks
from kerastrain.engine.averages import Average, batch_norms
from kerastrain.engine.gradients import Clipping
from kerastrain.engine.optimizer import RateFactors
from kerastrain.engine.remat import recomputed
from kerastrain.engine.update import summed, update
from kerastrain.pipeline import Rows, outputs_of

__all__ = ["Engine"]

NO_CLIPPING = Clipping()


@dataclass
class _Call:
    """What the last call of the compiled function told, and the calls to come. An
    object of its own, because Keras tracks a dict that is an attribute."""

    told: dict[str, tf.Tensor] = field(default_factory=dict)
    iterator: Any = None
    num_left: int = 0
    is_in_step: bool = False


class Engine(keras.Model):
    """What is trained: the core after the cut.

    `Engine(inputs, outputs)` is a functional model. After `prepare` it is fitted on a
    data set of blocks (see `blocks.Blocks`): `engine.fit(blocks.dataset(), ...)`.

    The loss of a step is `sum(weight * loss of a row) / number of rows with weight`
    over the rows of all devices, plus the layers' own losses; the gradient is that of
    this number, summed over devices and parts of the step, then clipped. It is the same
    on one device and on many, odd last batches included. A step whose loss or gradient
    is not finite ends the call; see `first_bad`.

    Attributes:
        waited_s: seconds that the loop has waited for input.
        first_bad: number of the step in the last call that was not finite; -1 if all
            were. With a loss scale such steps are skipped, and the call goes on.
        num_bad: how many were not, in the last call.
        keeps_norms: set it before `fit` for `gradient_norms`.
        stop_reason: why training stopped before its last epoch, where that is known.
    """

    waited_s: float = 0.0
    keeps_norms: bool = False
    stop_reason: str = ""
    average: Average | None = None
    factors: RateFactors | None = None

    def prepare(
        self,
        optimizer: keras.optimizers.Optimizer,
        row_loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
        *,
        clipping: Clipping = NO_CLIPPING,
        accumulate: int = 1,
        remat: bool = False,
        factors: RateFactors | None = None,
        average: Average | None = None,
    ) -> "Engine":
        """Set what `fit` uses.

        Args:
            row_loss: `(targets, outputs)` to the losses of the rows, float32 `(rows,)`.
            clipping: of the gradient.
            accumulate: parts of a step whose gradients are summed.
            remat: compute activations again in the backward pass.
            factors: of the learning rate of each weight.
            average: of the weights, kept up to date.
        """
        self.row_loss = row_loss
        self.clipping = clipping
        self.accumulate = accumulate
        self.remat = remat
        self.average = average
        self.factors = None if factors is None or factors.is_plain else factors
        self.compile(optimizer=optimizer, loss=None, jit_compile=False)
        self.mean_loss = keras.metrics.Mean(name="loss")
        self.optimizer.build(self.trainable_variables)
        count = len(self.trainable_variables)
        self._rate_factors = tf.Variable(tf.ones(count), trainable=False)
        self._last = _Call()
        if self.distribute_strategy.num_replicas_in_sync > 1:
            for layer in batch_norms(self):  # else the statistics of devices drift
                layer.synchronized = True
        return self

    def retrace(self) -> None:
        """Compile again, after a change of what a step is."""
        self.train_function = None
        self.__dict__.pop("_forward", None)

    def begin_epoch(self, epoch: int, num_calls: int) -> None:
        """Set what goes by the epoch, from 0; one begun in the middle has fewer calls
        than others, and Keras would keep to the first."""
        if self._last.iterator is not None:
            self._last.iterator._num_batches = self._last.num_left = num_calls
        if self.factors is not None:
            self._rate_factors.assign(self.factors.at(epoch))

    @property
    def is_loss_scaled(self) -> bool:
        is_scaled = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        # Its optimiser stays when float16 is switched off, and skips steps as before.
        return is_scaled and self.dtype_policy.name == "mixed_float16"

    # --- one step -----------------------------------------------------------------

    def _step(self, data: Any, step: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Step number `step` of a block, on one device: whether it was finite, the
        norm of the gradient, and that of each weight if asked for."""
        *arrays, bounds = data
        first, end = bounds[step], bounds[step + 1]
        rows = tf.nest.map_structure(lambda array: array[first:end], arrays)
        context = tf.distribute.get_replica_context()
        num_rows = tf.cast(tf.math.count_nonzero(rows[-1]), tf.float32)
        num_all = num_rows
        if context.num_replicas_in_sync > 1:
            num_all = context.all_reduce("SUM", num_rows)
        loss_sum, gradients = self._gradients(rows, tf.maximum(num_all, 1), context)
        self._count(loss_sum, num_rows)
        return self._apply(loss_sum, gradients)

    def _count(self, loss_sum: tf.Tensor, num_rows: tf.Tensor) -> None:
        """Into the mean loss of the epoch, but for steps that a loss scale skips."""
        if self.is_loss_scaled:
            is_finite = tf.math.is_finite(loss_sum)
            loss_sum = tf.where(is_finite, loss_sum, 0.0)
            num_rows = tf.where(is_finite, num_rows, 0.0)
        self.mean_loss.update_state(
            loss_sum / tf.maximum(num_rows, 1), sample_weight=num_rows
        )

    def _gradients(
        self, rows: Any, num_all: tf.Tensor, context: Any
    ) -> tuple[tf.Tensor, list]:
        """Sum of the losses of these rows, and their part of the (scaled) gradient."""

        def part_of(part: Any) -> tuple[tf.Tensor, list]:
            x, y, weight = self._part(rows, part)
            with tf.GradientTape() as tape:
                outputs, losses = self._run_layers(self.packed(x))
                loss = tf.reduce_sum(weight * self.row_loss(y, outputs))
                shares = context.num_replicas_in_sync * self.accumulate
                whole = loss / num_all + sum(losses) / shares
                scaled = self.optimizer.scale_loss(whole)
            return loss, tape.gradient(scaled, self.trainable_weights)

        if self.accumulate == 1:
            return part_of(0)
        # Statistics over devices are summed in the replicas, which a loop there cannot.
        is_summed = context.num_replicas_in_sync > 1 and bool(batch_norms(self))
        return summed(part_of, self.accumulate, unrolled=is_summed)

    def _part(self, rows: Any, part: Any) -> Any:
        """Part number `part` of the rows of a step; a row without weight where there
        are fewer rows than parts."""
        if self.accumulate == 1:
            return rows
        num_rows = tf.shape(rows[-1])[0]
        first = num_rows * part // self.accumulate
        end = num_rows * (part + 1) // self.accumulate
        is_real = tf.cast(end > first, tf.float32)
        first = tf.minimum(first, num_rows - 1)
        end = tf.maximum(end, first + 1)
        taken = tf.nest.map_structure(lambda a: a[first:end], rows)
        return [*taken[:-1], taken[-1] * is_real]

    def _run_layers(self, x: Any) -> tuple[tf.Tensor, list]:
        if self.remat:
            return recomputed(self)(x, training=True)
        outputs = self(x, training=True)
        # Those of a layer in 16 bits are of 16 bits, and do not add up with others.
        return outputs, [tf.cast(loss, tf.float32) for loss in self.losses]

    def _apply(self, loss_sum: tf.Tensor, gradients: list) -> tuple[tf.Tensor, ...]:
        """Sum over devices, clip, update."""
        is_moved = self.factors is not None
        return update(
            self.optimizer,
            self.trainable_weights,
            gradients,
            loss_sum,
            self.clipping,
            moves=tf.cast(self._rate_factors > 0, tf.float32) if is_moved else None,
            keeps_norms=self.keeps_norms,
        )

    def _after_step(self, before: list[tf.Tensor]) -> None:
        """What follows a step outside of the replicas: rates by weight, the average."""
        strategy = self.distribute_strategy
        if self.factors is not None:
            for place, old in zip(self.factors.changing, before, strict=True):
                factor = self._rate_factors[place]
                strategy.extended.update(
                    self.trainable_variables[place].value,
                    lambda weight, old, factor: weight.assign(
                        old + factor * (weight - old)
                    ),
                    args=(old, factor),
                )
        if self.average is not None:
            self.average.step(strategy, self.optimizer.iterations)

    # --- what Keras' fit calls ----------------------------------------------------

    @property
    def metrics(self) -> list:
        return [self.mean_loss] if hasattr(self, "mean_loss") else []

    def _maybe_symbolic_build(
        self, iterator: Any = None, data_batch: Any = None
    ) -> None:
        """Nothing is left to build. Keras would consume a batch, and fail under a
        strategy where shards differ in size."""
        self._last.iterator = iterator

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            # It counts the shards of a block as a step each, and so expects more.
            warnings.filterwarnings("ignore", "Your input ran out of data", UserWarning)
            return super().fit(*args, **kwargs)

    train_function: Any

    def make_train_function(self, force: bool = False) -> Any:
        if self.train_function is not None and not force:
            return self.train_function
        compiled = self._steps if self.run_eagerly else None

        def train(iterator: Any) -> dict[str, tf.Tensor]:
            nonlocal compiled
            if compiled is None:
                # By the shapes of the data set. By those of its blocks it is traced for
                # the first, for others, and for a shorter last one, 0.5 s each.
                signature = [iterator.element_spec]
                compiled = tf.function(self._steps, input_signature=signature)
            self._last.num_left -= 1
            if not self._last.num_left and self._last.iterator is not None:
                # Else Keras makes another iterator, which begins to read, for nothing.
                self._last.iterator._num_batches = None
            start_s = time.perf_counter()
            data = next(iterator)
            self.waited_s += time.perf_counter() - start_s
            self._last.is_in_step = True
            self._last.told = compiled(data)
            self._last.is_in_step = False
            return {name: self._last.told[name] for name in ("loss", "gradient_norm")}

        self.train_function = train
        return self.train_function

    @tf.autograph.experimental.do_not_convert
    def _steps(self, data: Any) -> dict[str, tf.Tensor]:
        """All steps of a block, or up to the first that is not finite."""
        strategy = self.distribute_strategy
        local = strategy.experimental_local_results
        shard = tf.nest.map_structure(lambda value: local(value)[0], data)
        num_steps = tf.shape(shard[-1])[0] - 1
        is_scaled = self.is_loss_scaled
        changing = self.factors.changing if self.factors is not None else []

        def body(step: Any, first_bad: Any, num_bad: Any, *_: Any) -> tuple:
            before = [tf.identity(self.trainable_variables[i].value) for i in changing]
            with tf.control_dependencies(before):
                results = strategy.run(self._step, args=(data, step))
            is_finite, norm, norms = (local(value)[0] for value in results)
            self._after_step(before)
            first_bad = tf.where(is_finite | (first_bad >= 0), first_bad, step)
            return (
                step + 1,
                first_bad,
                num_bad + tf.cast(~is_finite, "int32"),
                norm,
                (norms if self.keeps_norms else tf.zeros(0)),
            )

        count = len(self.trainable_variables) if self.keeps_norms else 0
        _, first_bad, num_bad, norm, norms = tf.while_loop(
            lambda step, first_bad, *_: (
                (step < num_steps) & ((first_bad < 0) | is_scaled)
            ),
            body,
            [tf.constant(0), tf.constant(-1), tf.constant(0), 0.0, tf.zeros(count)],
            parallel_iterations=1,
        )
        return {
            "loss": self.mean_loss.result(),
            "gradient_norm": norm,
            "first_bad": first_bad,
            "num_bad": num_bad,
            "norms": norms,
        }

    @property
    def is_in_step(self) -> bool:
        """Whether an error came out of the compiled steps."""
        return self._last.is_in_step

    @property
    def first_bad(self) -> int:
        return int(self._last.told.get("first_bad", -1))

    @property
    def num_bad(self) -> int:
        return int(self._last.told.get("num_bad", 0))

    def gradient_norms(self) -> dict[str, float]:
        """Norm of the gradient of each weight in the last step, by its path."""
        if not self.keeps_norms or not self._last.told:
            return {}
        paths = [variable.path for variable in self.trainable_variables]
        return dict(zip(paths, self._last.told["norms"].numpy().tolist(), strict=True))

    # --- forward --------------------------------------------------------------------

    def outputs_of(self, rows: Rows) -> np.ndarray:
        """Outputs for `rows`, float32 `(rows, units)`; nothing is random."""
        if "_forward" not in self.__dict__:
            self.__dict__["_forward"] = tf.function(
                lambda x: tf.cast(self(self.packed(x), training=False), tf.float32),
                reduce_retracing=True,
            )
        return outputs_of(self.__dict__["_forward"], rows, self.output_shape[-1])

    @property
    def model(self) -> keras.Model:
        """Itself: what callbacks see as their model."""
        return self

    def inputs_of(self, blocks: Blocks, num_batches: int) -> Iterator[Any]:
        """Inputs of the first batches of an epoch, at most so many."""
        plain = replace(blocks, steps_per_call=1, num_replicas=1, first_block=0)
        for inputs, *_ in islice(plain, num_batches):
            yield self.packed(inputs)

    def packed(self, x: Mapping[str, Any]) -> Any:
        """The inputs in the structure that this model was built with."""
        return keras.tree.pack_sequence_as(self._inputs_struct, list(x.values()))

    def distributed(self, blocks: Blocks) -> Any:
        """The data set of `blocks` as this engine's strategy takes it."""
        data = blocks.dataset()
        if blocks.num_replicas == 1:
            return data
        strategy = self.distribute_strategy
        return strategy.distribute_datasets_from_function(lambda _context: data)
