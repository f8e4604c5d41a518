"""One fit: the rows of a split to a trained learner."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import keras

from kerastrain.arrays import ArrayStore
from kerastrain.config import RunConfig
from kerastrain.ingest import Table
from kerastrain.learner import KerasLearner
from kerastrain.prepare import Prepared, prepare
from kerastrain.progress import Progress
from kerastrain.runtime import Devices
from kerastrain.schema import Schema, Target
from kerastrain.secrets import hide_passwords
from kerastrain.split import Parts
from kerastrain.store import RunFolder
from kerastrain.trackers import TRACKERS
from kerastrain.training.fit import TrainingPlan
from kerastrain.training.history import HistoryFile
from kerastrain.training.profiling import Profile
from kerastrain.training.resume import CheckpointFiles
from kerastrain.training.settling import Settled
from kerastrain.training.stopping import BestWeights
from kerastrain.training.watch import Watch
from kerastrain.training.weights import Checkpoints

__all__ = ["Job"]

Stage = Callable[[str], Any]
# Of a time limit, what is left for evaluation, export and report.
_REST_SHARE, _REST_S = 0.25, 20.0
_SEED_STEP = 1_000_003  # between the seeds of folds


@dataclass
class Job:
    """What all fits of a run have in common.

    Args:
        own: parts that lie in files of the user's.
        stage: times a stage and tells it to the progress.
        callbacks: the user's own.
        started_s: by `time.monotonic`, when the run began.
    """

    table: Table
    schema: Schema
    config: RunConfig
    store: ArrayStore
    folder: RunFolder
    devices: Devices
    progress: Progress
    stage: Stage
    own: frozenset[str] = frozenset()
    callbacks: Sequence[keras.callbacks.Callback] = ()
    started_s: float = field(default_factory=time.monotonic)
    num_fits: int = 1
    history: HistoryFile = field(init=False)
    settled: Settled = field(init=False)

    def __post_init__(self) -> None:
        self.history = HistoryFile(self.folder.history)
        self.settled = Settled(self.folder.settled)

    @property
    def target(self) -> Target:
        assert self.schema.target is not None, "profile sets it when it is asked for"
        return self.schema.target

    def prepare(self, parts: Parts) -> Prepared:
        """Rows of these parts, encoded by what their train rows hold.

        What the first of them settle (`--imbalance auto`) holds for the fits after it.
        """
        data = prepare(self.table, self.schema, parts, self.store, self.config)
        settled = {"imbalance": data.balance.config}
        self.config = self.config.model_copy(update=settled)
        return data

    def fit(self, data: Prepared, *, fold: int | None = None) -> KerasLearner:
        """Train on the train rows; validation rows choose the epoch."""
        name = "kerastrain" if fold is None else f"fold_{fold}"
        learner = self._fitted(data, self.config, name=name, fold=fold)
        self.config = self.settled.config(self.config)
        return learner

    def refit(self, data: Prepared, epochs: int) -> KerasLearner:
        """Train so many epochs and keep the last; validation rows only look on."""
        fit = self.config.fit.model_copy(update={"epochs": epochs, "patience": None})
        again = RunConfig.model_copy(self.config, update={"fit": fit})
        learner = self._fitted(data, again, name="kerastrain", fold=0, keeps_last=True)
        learner.best_epoch = epochs
        return learner

    def _fitted(
        self,
        data: Prepared,
        config: RunConfig,
        *,
        name: str,
        fold: int | None,
        keeps_last: bool = False,
    ) -> KerasLearner:
        # Of its own, so that a resumed run need not train the folds before it again.
        keras.utils.set_random_seed((config.seed + _SEED_STEP * (fold or 0)) % 2**32)
        inside = "" if fold is None else f"fold_{fold}" if fold else "refit"
        folder, checkpoint = self.folder.checkpoints / inside, config.checkpoint
        files = CheckpointFiles.of(folder / "state", checkpoint.every, checkpoint.keep)
        with files or nullcontext():
            plan = self._plan(config, inside, fold, files, keeps_last=keeps_last)
            learner = KerasLearner(data, config.model, plan, name=name)
            learner.plan = plan = self._with_weights(plan, learner, inside)
            learner.fit(data.train, data.validation)
        return learner

    def _plan(
        self,
        config: RunConfig,
        inside: str,
        fold: int | None,
        files: CheckpointFiles | None,
        *,
        keeps_last: bool,
    ) -> TrainingPlan:
        self.history.fold = fold
        tensorboard = self.folder.tensorboard / inside
        resolved = hide_passwords(config.model_dump(mode="json"))

        def trackers(steps: int) -> list[keras.callbacks.Callback]:
            return [
                TRACKERS.load(part.name)(tensorboard, resolved, steps, **part.options)
                for part in config.trackers
            ]

        profiled = config.watch.profile_steps
        profile = (
            [Profile(tensorboard, profiled, config.fit.steps_per_call)]
            if profiled
            else []
        )
        return TrainingPlan(
            config=config,
            devices=self.devices,
            store=self.store,
            broken=self.folder.broken_batch,
            callbacks=[self.history, *profile, *self.callbacks],
            trackers=trackers,
            watch=lambda steps, rows: Watch(
                self.progress, int(config.fit.epochs), rows, steps
            ),
            files=files,
            seconds=self._seconds(config),
            keeps_last=keeps_last,
            settled=self.settled,
        )

    def _seconds(self, config: RunConfig) -> float | None:
        """For this fit, of what a time limit leaves."""
        limit = config.fit.time_limit
        if limit is None:
            return None
        rest_s = min(limit * _REST_SHARE, _REST_S)
        left_s = limit - rest_s - (time.monotonic() - self.started_s)
        seconds = max(0.0, left_s) / max(1, self.num_fits)
        self.num_fits -= 1
        return seconds

    def _with_weights(
        self, plan: TrainingPlan, learner: KerasLearner, inside: str
    ) -> TrainingPlan:
        """With weights of the whole model written while it is trained."""
        checkpoint, folder = plan.config.checkpoint, self.folder.checkpoints / inside

        def weights(best: BestWeights) -> Checkpoints:
            return Checkpoints(
                folder,
                best,
                learner.model,
                every=checkpoint.weights_every,
                keep=checkpoint.keep_weights,
            )

        return replace(plan, weights=weights)
