"""The engine alone, for people who bring a compiled Keras model and their own data."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from pydantic import Field, ValidationError

from kerastrain.config import AverageConfig, CheckpointConfig, FitConfig
from kerastrain.config.errors import first_problem
from kerastrain.config.parts import Part, Seconds, Span
from kerastrain.engine import Average, Batches, Clipping, Guest
from kerastrain.engine.batches import epochs_of
from kerastrain.errors import ConfigError, Interrupted, unknown
from kerastrain.events import note, recording, warn
from kerastrain.progress import Progress, make_progress
from kerastrain.resumption import locked
from kerastrain.store import RunFolder, atomic
from kerastrain.training.averaged import averaged
from kerastrain.training.history import HistoryFile
from kerastrain.training.keeper import Diverged
from kerastrain.training.profiling import Profile
from kerastrain.training.recovery import Recovery
from kerastrain.training.resume import CheckpointFiles
from kerastrain.training.state import Snapshot
from kerastrain.training.stopping import BestWeights, TimeLimit
from kerastrain.training.watch import Watch
from kerastrain.training.weights import Checkpoints

__all__ = ["FitOptions", "fit"]

ADVICE = "Try a lower learning rate in compile, or stronger clipping (clip_norm=0.1)."


class FitOptions(Part):
    """Options of `kerastrain.fit`.

    Args:
        batch_size: rows of a batch, of arrays; a data set has its own.
        seed: of the order of arrays.
        checkpoint: steps (500) or a time ("30s") between checkpoints; 0 writes none.
        keep: how many checkpoints are kept.
        retries: how often training goes back and on more carefully after a NaN.
        clip_norm: largest norm of the whole gradient.
        clip_value: largest size of an entry of the gradient.
        clip_each_norm: largest norm of the gradient of each weight.
        accumulate: parts into which a batch is divided, whose gradients are summed.
        average: of the weights: none, ema or swa, or `{"name": "ema", ...}` with the
            options of `average` in a configuration. It is what is validated, and what
            training ends on.
        patience: epochs (10) or steps ("500 steps") without a better `monitor` before
            training stops, and the weights of the best epoch are kept. None: training
            ends on the last weights, as in Keras.
        min_delta: what counts as better for patience, at least.
        monitor: a name in the logs; None is `val_loss`, or `loss` without validation.
        mode: whether less of it is better, or more; auto asks the metric.
        target: value of `monitor` at which training has done enough.
        time_limit: as 10m; then training ends in good order.
        profile_steps: steps to profile for TensorBoard, as "100:120".
    """

    batch_size: int = Field(32, ge=1)
    seed: int = Field(0, ge=0)
    checkpoint: CheckpointConfig = CheckpointConfig()
    keep: int = Field(2, ge=1)
    retries: int = Field(3, ge=0)
    clip_norm: float | None = Field(None, gt=0)
    clip_value: float | None = Field(None, gt=0)
    clip_each_norm: float | None = Field(None, gt=0)
    accumulate: int = Field(1, ge=1)
    average: AverageConfig = AverageConfig()
    patience: Span | None = None
    min_delta: float = Field(0.0, ge=0)
    monitor: str | None = None
    mode: Literal["auto", "min", "max"] = "auto"
    target: float | None = None
    time_limit: Seconds | None = None
    profile_steps: str | None = Field(None, pattern=r"^\d+:\d+$")


def fit(
    model: keras.Model,
    data: Any,
    *,
    epochs: int,
    validation_data: Any = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    folder: str | Path | None = None,
    progress: Progress | bool = True,
    **options: Any,
) -> keras.callbacks.History:
    """Train a compiled Keras model of one's own so that it can be relied on.

    As `model.fit`, and besides: after a crash the same call with the same `folder` goes
    on where it was and ends with the same bits; a NaN goes back to good weights and on
    more carefully; a batch that does not fit into memory is divided; a gradient is
    clipped as a whole, on several devices too.

    Args:
        model: its losses, metrics, optimizer and precision are its own. It has no
            `train_step` of its own.
        data: a `tf.data.Dataset` of batches `(inputs, targets)` or `(inputs, targets,
            weights)`; a function of the epoch, from 0, that gives one, so that a resume
            reads nothing twice; or a tuple of arrays, which are shuffled.
        epochs: at most.
        validation_data: a data set of batches, or a tuple of arrays; evaluated by the
            model after each epoch.
        callbacks: Keras callbacks; their attributes that are numbers or arrays outlive
            a crash.
        folder: of checkpoints, `history.csv`, `events.jsonl`, the weights of the best
            epoch and, after a divergence, its batch. None: nothing is written.
        progress: shown on stderr; False is silent.
        options: see `kerastrain.guests.FitOptions`, as `accumulate=4`,
            `clip_norm=1.0`, `average="ema"`, `patience=5`, `checkpoint="30s"`.

    Returns:
        The history of all epochs, those before a crash included.

    Raises:
        ConfigError: the model or an option cannot be used.
        DivergenceError: the loss is not finite, whatever was tried.
        Interrupted: a signal came; the state is written.
    """
    chosen = _checked(options)
    place = None if folder is None else RunFolder(_made(folder))
    strategy = model.distribute_strategy
    scope = (
        strategy.scope()
        if strategy.num_replicas_in_sync > 1
        else contextlib.nullcontext()
    )
    shown = make_progress(progress)
    events = place.events if place is not None else None
    goes_on = events is not None and events.exists()
    with shown, recording(events, shown.on_event, goes_on=goes_on), scope:
        made, is_drawn = epochs_of(data, chosen.batch_size, chosen.seed)
        batches = Batches(made, strategy, is_drawn=is_drawn)
        guest = Guest(
            model,
            batches,
            clipping=Clipping(
                chosen.clip_value, chosen.clip_each_norm, chosen.clip_norm
            ),
            accumulate=chosen.accumulate,
            validation=validation_data,
            validation_batch_size=chosen.batch_size,
        )
        return _Fit(guest, epochs, chosen, place, shown).run(callbacks)


def _made(folder: str | Path) -> Path:
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"Cannot make the folder {path}: {error.strerror}.") from None
    return path


def _checked(options: dict[str, Any]) -> FitOptions:
    try:
        return FitOptions.model_validate(options)
    except ValidationError as error:
        raise first_problem(error, FitOptions, "fit") from None


class _Reading(keras.callbacks.Callback):
    """What was read of the data, as part of the state of training."""

    remembered = ("read",)

    def __init__(self, batches: Batches):
        super().__init__()
        self.batches = batches

    @property
    def read(self) -> dict[str, Any]:
        return self.batches.read

    @read.setter
    def read(self, value: dict[str, Any]) -> None:
        """Nothing: what was read is a fact of this process."""


class _Watch(Watch):
    """Counts the rows of an epoch by those of its first batch."""

    def __init__(
        self, batches: Batches, progress: Progress, epochs: int, num_steps: int
    ):
        super().__init__(progress, epochs, 0, num_steps)
        self.batches = batches

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.num_rows = self.num_rows or self.batches.batch_size * self.steps_per_epoch
        super().on_train_batch_end(batch, logs)


class _Fit:
    """One fit of a guest and what goes on around it."""

    def __init__(
        self,
        guest: Guest,
        epochs: int,
        options: FitOptions,
        folder: RunFolder | None,
        progress: Progress,
    ):
        self.guest = guest
        self.batches = guest.batches
        self.epochs = epochs
        self.options = options
        self.folder = folder
        self.progress = progress
        self.history = keras.callbacks.History()
        if options.average.name != "none":
            guest.average = Average(options.average, guest.model, epochs)

    def run(
        self, callbacks: Sequence[keras.callbacks.Callback]
    ) -> keras.callbacks.History:
        """Train to the end; the history of all epochs."""
        with self._files() as files:
            recovery = Recovery(
                self.guest,
                self.batches,
                self._callbacks(callbacks),
                rate=self.guest,
                fit=FitConfig(epochs=self.epochs, retries=self.options.retries),
                files=files,
                every=self.options.checkpoint.every,
                explain=self._explain,
                confirm=self._confirm,
                advice=ADVICE,
            )
            self.progress.on_stage("train")
            try:
                recovery.run()
            except Interrupted as stop:
                if files is None:
                    raise
                text = f"{stop} The same call with the same folder goes on."
                raise Interrupted(text, stop.signal_number) from None
        self.guest.model.history = self.history
        return self.history

    @contextlib.contextmanager
    def _files(self) -> Iterator[CheckpointFiles | None]:
        every, keep, files = self.options.checkpoint.every, self.options.keep, None
        if self.folder is not None:
            state = self.folder.checkpoints / "state"
            files = CheckpointFiles.of(state, every, keep)
        if self.folder is None or files is None:
            yield None
            return
        with locked(self.folder), files:
            yield files

    def _callbacks(
        self, own: Sequence[keras.callbacks.Callback]
    ) -> list[keras.callbacks.Callback]:
        """In the order in which they see an epoch."""
        options, folder = self.options, self.folder
        keeps_last = options.patience is None and options.target is None
        before, behind = averaged(self.guest, self.batches, keeps_last=keeps_last)
        # As in Keras the history has what the user's own callbacks add to the logs.
        found = [_Reading(self.batches), *before, *own, self.history]
        if folder is not None:
            found.append(HistoryFile(folder.history))
        if folder is not None or not keeps_last:
            best = self._best(keeps_last=keeps_last)
            found.append(best)
            if folder is not None:
                place = folder.checkpoints
                found.append(
                    Checkpoints(place, best, self.guest.model, every=0, keep=1)
                )
        if options.time_limit is not None:
            found.append(TimeLimit(options.time_limit))
        if options.profile_steps is not None:
            found.append(self._profile(options.profile_steps))
        # Times come behind the history, which is the same in every process.
        return [*found, *behind, self._watch()]

    def _best(self, *, keeps_last: bool) -> BestWeights:
        options, model = self.options, self.guest.model
        prefix = "val_" if self.guest.validation is not None else ""
        monitor = options.monitor or f"{prefix}loss"
        names = [*model.get_metrics_result()]
        known = [*names, *(f"val_{name}" for name in names if prefix)]
        if monitor not in known:
            raise unknown("monitor", monitor, known)
        asked = options.mode
        name = monitor.removeprefix("val_")
        mode = _direction(model, name) if asked == "auto" else asked
        return BestWeights(
            monitor,
            mode,
            options.patience,
            min_delta=options.min_delta,
            target=options.target,
            keeps_last=keeps_last,
        )

    def _profile(self, steps: str) -> Profile:
        if self.folder is None:
            raise ConfigError("fit: profile_steps needs a folder: folder='runs/mine'.")
        return Profile(self.folder.tensorboard, steps, 1)

    def _watch(self) -> Watch:
        """Where steps cannot be counted, the time that is left is not told."""
        known = int(self.batches.epochs(0, 0).cardinality())
        return _Watch(self.batches, self.progress, self.epochs, max(known, 1))

    # --- what goes wrong ----------------------------------------------------------

    def _confirm(self, snapshot: Snapshot) -> Snapshot:
        """The checkpoint to go on from, and the data where it was."""
        at = snapshot.position
        if at.is_finished:
            if at.epoch < self.epochs and not snapshot.about["stop_training"]:
                raise ConfigError(
                    f"Training in {self.folder} is finished after {at.epoch} epochs, "
                    f"and {self.epochs} are asked for. Name another folder."
                )
            note(
                "already_trained",
                "Training in this folder is finished: its last state is taken. Name "
                "another folder to train again.",
            )
            return snapshot
        kept = {state["kind"]: state["state"] for state in snapshot.about["callbacks"]}
        if _Reading.__name__ not in kept:  # of something else: it cannot be put back
            return snapshot
        read = kept[_Reading.__name__]["read"]
        if self.batches.comes_back(read, at.epoch, at.block):
            return snapshot
        warn(
            "data_differ",
            "The data do not come back in the order of the process that was stopped, "
            f"so training goes on from the start of epoch {at.epoch + 1}, and ends "
            "with other numbers than without the stop. Shuffle with a seed, or pass a "
            "function of the epoch that gives the data set.",
            epoch=at.epoch + 1,
        )
        return snapshot.base or snapshot

    def _explain(self, found: Diverged) -> str:
        if found.step is None:
            return ""
        arrays = self.batches.arrays()
        odd = [
            name
            for name, array in arrays.items()
            if array.dtype.kind == "f" and not np.isfinite(array).all()
        ]
        cause = (
            f"Not finite in its batch: {', '.join(odd[:5])}."
            if odd
            else "Its batch is finite: the weights grew too fast (exploding gradient)."
        )
        if self.folder is None:
            return cause
        path = self.folder.path / "diverged_batch.npz"
        with atomic(path) as temporary:
            np.savez(temporary, allow_pickle=False, **arrays)
        return f"{cause} The batch is in {path}."


def _direction(model: keras.Model, name: str) -> str:
    """`"min"` or `"max"`, as the metric of that name says."""
    metrics = [m for each in model.metrics for m in getattr(each, "metrics", [each])]
    losses = [metric.name for metric in model.metrics if metric.name.endswith("loss")]
    for metric in metrics:
        direction = getattr(metric, "_direction", None)
        if metric.name == name and direction is not None:
            return "max" if direction == "up" else "min"
    if name in losses:
        return "min"
    raise ConfigError(
        f"fit: whether less or more of the metric '{name}' is better is not known. "
        "Pass mode='min' or mode='max'."
    )
