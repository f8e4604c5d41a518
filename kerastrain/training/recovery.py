"""A fit that goes on: from a checkpoint, after a divergence, with too little memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import tensorflow as tf

from kerastrain.config import FitConfig
from kerastrain.engine import Engine, Guest
from kerastrain.engine.precision import set_precision
from kerastrain.errors import ConfigError, DataError, DivergenceError
from kerastrain.events import note, warn
from kerastrain.training.interrupts import noticing
from kerastrain.training.keeper import Diverged, Keeper
from kerastrain.training.resume import CheckpointFiles
from kerastrain.training.state import Position, Snapshot

__all__ = ["Recovery"]

# The rate after a divergence, and the clipping where there was none.
RATE_FACTOR = 0.3
FIRST_CLIP_NORM = 1.0
# Epochs without a divergence after which it is another one.
CALM_EPOCHS = 5
MAX_PARTS = 1_024  # of a step; by then a part is a row or two


@dataclass
class Recovery:
    """Drives `engine.fit` until it is through, or cannot be helped.

    Args:
        engine: prepared.
        blocks: rows to train on: `Blocks`, or the `Batches` of a guest.
        callbacks: in their order.
        rate: has `scale`, a variable that is part of the state.
        fit: epochs, retries.
        files: checkpoints of the fit; None writes none.
        every: see `Keeper`.
        explain: called with a divergence that persists; writes the batch, and tells
            the likely cause in a sentence.
        precision: dtype policy in force; what is mixed can be switched off.
        confirm: called with the checkpoint to go on from; gives that, or an earlier one
            where the data are not what they were.
        advice: what else helps against a divergence.
    """

    engine: Engine | Guest
    blocks: Any
    callbacks: Sequence[keras.callbacks.Callback]
    rate: Any
    fit: FitConfig
    files: CheckpointFiles | None = None
    every: int | str = 0
    explain: Callable[[Diverged], str] = lambda _: ""
    precision: str = "float32"
    confirm: Callable[[Snapshot], Snapshot] = lambda snapshot: snapshot
    advice: str = (
        "Try a lower rate (--set optimizer.learning_rate=1e-4) or stronger clipping "
        "(--set optimizer.clip_norm=0.1)."
    )

    def run(self) -> None:
        """Fit to the end.

        Raises:
            DivergenceError: it is not finite, whatever was tried.
            DataError: a single row does not fit into memory.
            Interrupted: a signal came.
        """
        _settle(self.callbacks, self.engine.model)
        with noticing() as interrupts:
            self.keeper = Keeper(
                self.engine,
                self.blocks,
                self.callbacks,
                others=[self.rate.scale],
                files=self.files,
                every=self.every,
                interrupts=interrupts,
            )
            self.keeper.start = self._resumed()
            while True:
                try:
                    self._fit()
                except Diverged as found:
                    self._go_back(found)
                except tf.errors.ResourceExhaustedError:
                    self._divide()
                else:
                    break
        if self.files is not None:
            end = Position(self.keeper.position.epoch, is_finished=True)
            self.files.write(self.keeper.take(end))
            self.files.wait()

    def _resumed(self) -> Any:
        snapshot = self.files.latest() if self.files is not None else None
        if snapshot is None:
            return None
        snapshot = self.confirm(snapshot)
        self._mend(snapshot.about["callbacks"][-1]["state"]["mended"])
        if not snapshot.position.is_finished:
            at = snapshot.position
            step = at.block * self.blocks.steps_per_call
            note(
                "resumed",
                f"Training goes on in epoch {at.epoch + 1}"
                + (f", after step {step}." if step else "."),
                epoch=at.epoch + 1,
                step=step,
            )
        return snapshot

    def _fit(self) -> None:
        start, epochs = self.keeper.start, int(self.fit.epochs)
        first = start.position.epoch if start is not None else 0
        if start is not None and start.position.is_finished:
            # `on_train_end` of the callbacks has done its work already.
            for callback in self.keeper.watched:
                callback.set_model(self.engine.model)
            self.keeper.put_back(start)
            self.keeper.position = start.position
            return
        if start is not None:
            # Here for those that look at the model in `on_train_begin`, and there for
            # the callbacks that begin anew in it.
            self.keeper.put_back(start)
            for callback in self.callbacks:
                if isinstance(callback, keras.callbacks.CSVLogger):
                    callback.append = True  # else it begins its file anew
            if start.about["stop_training"] and not start.position.block:
                epochs = first
        self.engine.fit(
            self.engine.distributed(self.blocks),
            initial_epoch=first,
            epochs=epochs,
            callbacks=self.keeper.watched,
            verbose=0,
            shuffle=False,
        )

    # --- after a divergence -----------------------------------------------------------

    def _go_back(self, found: Diverged) -> None:
        """To the start of the epoch, with a lower rate and closer clipping."""
        self._refuse_odd_rows()
        mended = dict(self.keeper.mended)
        if found.position.epoch >= mended.get("epoch", 0) + CALM_EPOCHS:
            mended["tries"] = 0
        mended["epoch"] = found.position.epoch
        tries = mended.get("tries", 0) + 1
        is_mixed = self.precision != "float32" and not mended.get("is_float32")
        if tries > self.fit.retries and not is_mixed:
            raise self._given_up(found, tries - 1)
        if tries > self.fit.retries:
            mended |= {"is_float32": True, "tries": 0}
            factor, done = 1.0, f"{self.precision} is switched off"
        else:
            factor = RATE_FACTOR
            norm = self.engine.clipping.norm
            norm = FIRST_CLIP_NORM if norm is None else norm * RATE_FACTOR
            mended |= {"tries": tries, "clip_norm": norm}
            done = (
                f"the learning rate is multiplied by {RATE_FACTOR}, the gradient held "
                f"to a norm of {norm:.3g}"
            )
        epoch = self._again(mended, factor) + 1
        warn(
            "diverged",
            f"{_what(found)} was not finite: training goes back to the "
            f"start of epoch {epoch}; {done}.",
            epoch=found.position.epoch + 1,
            step=found.step,
            tries=tries,
        )

    def _refuse_odd_rows(self) -> None:
        """No rate helps where the targets of validation rows cannot be scored."""
        for callback in self.callbacks:
            rows: Any = getattr(callback, "odd_rows", ())
            if len(rows):
                raise DivergenceError(
                    f"The loss of {len(rows)} validation rows is not finite, first of "
                    f"row {rows[0] + 1} of the data: look at their target."
                )

    def _again(self, mended: dict[str, Any], factor: float = 1.0) -> int:
        """Set what the next fit begins from: the base, mended. Gives its epoch."""
        base = self.keeper.base
        assert base is not None, "it is taken when a fit begins"
        self._mend(mended)
        self.keeper.put_back(base)
        self.keeper.mended = mended
        self.rate.scale.assign(float(self.rate.scale.numpy()) * factor)
        # Taken once more, since the rate and what was mended are part of the state.
        again = self.keeper.take(base.position)
        about = {**again.about, "stop_training": base.about["stop_training"]}
        self.keeper.start = replace(again, about=about)
        return base.position.epoch

    def _mend(self, mended: dict[str, Any]) -> None:
        """Change the step as it was changed before."""
        engine = self.engine
        if not mended:
            return
        if "clip_norm" in mended:
            engine.clipping = replace(engine.clipping, norm=mended["clip_norm"])
        if "accumulate" in mended:
            engine.accumulate = mended["accumulate"]
        engine.remat = engine.remat or mended.get("remat", False)
        if mended.get("is_float32"):
            set_precision(engine.model, "float32")
        engine.retrace()

    def _given_up(self, found: Diverged, tries: int) -> DivergenceError:
        tried = f" after {tries} tries with lower rates" if tries else ""
        cause = self.explain(found)
        return DivergenceError(
            f"{_what(found)} was not finite{tried}. "
            f"{cause or 'The cause is not known.'} {self.advice}"
        )

    # --- with too little memory -------------------------------------------------------

    def _divide(self) -> None:
        """Halve what is in memory at once; then offer what else would help."""
        engine, mended = self.engine, dict(self.keeper.mended)
        if not engine.is_in_step:
            raise DataError(
                "There was too little memory beside the steps of training, as in "
                "validation. Allow more, or give fewer validation rows."
            )
        parts = engine.accumulate * 2
        if parts <= min(MAX_PARTS, self.blocks.batch_size):
            self._again(mended | {"accumulate": parts})
            rows = -(-self.blocks.batch_size // parts)
            warn(
                "memory_short",
                f"A step of {self.blocks.batch_size} rows did not fit into memory: it "
                f"is divided into {parts} parts of at most {rows} rows, whose "
                "gradients are summed. The step stays the same, but for batch "
                "normalisation, whose statistics are those of the parts.",
                accumulate=parts,
            )
        elif not engine.remat:
            self._again(mended | {"remat": True})
            warn(
                "memory_short",
                "Not even a row fitted into memory: activations are computed again in "
                "the backward pass (--remat).",
                remat=True,
            )
        else:
            raise DataError(
                "A step does not fit into memory, row by row and with --remat. Choose "
                "a smaller model, or --precision mixed_bfloat16."
            )


def _what(found: Diverged) -> str:
    epoch = found.position.epoch + 1
    if found.step is None:
        return f"{found.what} of epoch {epoch}"
    return f"The loss or the gradient in step {found.step + 1} of epoch {epoch}"


def _settle(callbacks: Sequence[keras.callbacks.Callback], model: keras.Model) -> None:
    """Let Keras' callbacks that watch a metric settle its direction now.

    They do it late, and turn the sign of `min_delta` by it: done after a state was put
    back it would be turned twice.
    """
    for callback in callbacks:
        if getattr(callback, "monitor_op", True) is not None:
            continue
        callback.set_model(model)
        try:
            callback._set_monitor_op()
        except ValueError as error:  # it cannot tell by the name
            raise ConfigError(f"{type(callback).__name__}: {error}") from None
