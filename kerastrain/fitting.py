"""One fit: the rows of a split to a trained learner."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from kerastrain.arrays import ArrayStore
from kerastrain.config import ModelConfig, RunConfig
from kerastrain.environment import num_threads
from kerastrain.estimator_learner import EstimatorLearner, estimator_of
from kerastrain.ingest import Table
from kerastrain.leaderboard import Leaderboard
from kerastrain.learner import KerasLearner, Learner, resolved_fit
from kerastrain.models import LEARNERS
from kerastrain.prepare import Prepared, prepare
from kerastrain.progress import LiveOnly, Progress
from kerastrain.recipes import with_recipe
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

__all__ = ["Job", "Spot", "is_network", "without_validation"]

Stage = Callable[[str], Any]
_SEED_STEP = 1_000_003  # between the seeds of folds


def _rest_s(limit: float) -> float:
    """Of a time limit, what evaluation, export and report take."""
    return min(0.25 * limit, 20.0)


@dataclass(frozen=True)
class Spot:
    """Which of the fits of a run it is.

    Args:
        name: of the Keras model.
        inside: folder under that of checkpoints and TensorBoard.
        number: that makes its seed its own.
        fold: in the history; None without folds.
        keeps_last: the last epoch is kept, not the best.
        is_member: of an ensemble; its history stands beside its checkpoints.
        settled: what is measured for all folds of a member.
        least_epochs: OutOfTime where a time limit leaves fewer.
    """

    name: str
    inside: str
    number: int = 0
    fold: int | None = None
    keeps_last: bool = False
    is_member: bool = False
    settled: Settled | None = None
    least_epochs: int = 1


def is_network(model: ModelConfig) -> bool:
    """A function of features, not a class that fits."""
    return not isinstance(LEARNERS.load(model.name), type)


def without_validation(data: Prepared) -> Prepared:
    """With train rows that are no validation rows."""
    index = np.setdiff1d(data.train.index, data.validation.index)
    return replace(data, train=replace(data.train, index=index))


@dataclass
class Job:
    """What all fits of a run have in common.

    Args:
        own: parts that lie in files of the user's.
        stage: times a stage and tells it to the progress.
        callbacks: the user's own.
        started_s: by `time.monotonic`, when the run began.
        asked: the configuration as the user gave it, before it was resolved.
        boards: of the portfolios that were fitted, by the number of the fold.
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
    asked: RunConfig | None = None
    boards: dict[int, Leaderboard] = field(default_factory=dict)
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

    def fit(self, data: Prepared, *, fold: int | None = None) -> Learner:
        """Train on the train rows; validation rows decide when to stop."""
        name = "kerastrain" if fold is None else f"fold_{fold}"
        spot = Spot(name, "" if fold is None else name, fold or 0, fold)
        learner = self.fit_one(data, self.config, spot, seconds=self.seconds())
        self.config = self.settled.config(self.config)
        return learner

    def refit(self, data: Prepared, epochs: int) -> Learner:
        """Train so many epochs and keep the last; validation rows only look on.

        An estimator, which stops by them, is trained without them.
        """
        spot = Spot("kerastrain", "refit", 0, 0, keeps_last=True)
        if not is_network(self.config.model):
            return self.fit_one(without_validation(data), self.config, spot)
        fit = self.config.fit.model_copy(update={"epochs": epochs, "patience": None})
        again = RunConfig.model_copy(self.config, update={"fit": fit})
        learner = self.fit_one(data, again, spot, seconds=self.seconds())
        learner.best_epoch = epochs
        return learner

    def member_config(self, model: ModelConfig, num_rows: int) -> RunConfig:
        """For a member of an ensemble: what the user asked for, then its own recipe.

        Args:
            num_rows: of its train rows.
        """
        asked = (self.asked or self.config).model_copy(update={"model": model})
        config = with_recipe(asked, self.target.task, num_rows)
        fit = resolved_fit(config.fit, num_rows, self.devices.num_replicas)
        settled = {"fit": fit, "runtime": self.config.runtime}
        return config.model_copy(update=settled)

    def fit_one(
        self,
        data: Prepared,
        config: RunConfig,
        spot: "Spot",
        *,
        seconds: float | None = None,
    ) -> Learner:
        """One network or estimator, as `config` says.

        Args:
            seconds: that it may take; None is no limit.
        """
        # Of its own, so that a resumed run need not train the folds before it again.
        seed = (config.seed + _SEED_STEP * spot.number) % 2**32
        keras.utils.set_random_seed(seed)
        made = LEARNERS.load(config.model.name)
        if is_network(config.model):
            return self._network(data, config, spot, seconds)
        learner = EstimatorLearner(
            data,
            estimator_of(made, config.model.options),
            self.store,
            seed=seed,
            num_threads=num_threads(),
            seconds=seconds,
            name=spot.name,
        )
        learner.fit(data.train, data.validation)
        return learner

    def _network(
        self, data: Prepared, config: RunConfig, spot: "Spot", seconds: float | None
    ) -> KerasLearner:
        folder, checkpoint = self.folder.checkpoints / spot.inside, config.checkpoint
        files = CheckpointFiles.of(folder / "state", checkpoint.every, checkpoint.keep)
        with files or nullcontext():
            plan = self._plan(config, spot, files, seconds)
            learner = KerasLearner(data, config.model, plan, name=spot.name)
            if not spot.is_member:
                learner.plan = plan = self._with_weights(plan, learner, spot.inside)
            learner.fit(data.train, data.validation)
        return learner

    def _plan(
        self,
        config: RunConfig,
        spot: "Spot",
        files: CheckpointFiles | None,
        seconds: float | None,
    ) -> TrainingPlan:
        history, progress = self.history, self.progress
        if spot.is_member:
            progress = LiveOnly(progress)
            history = HistoryFile(self.folder.checkpoints / spot.inside / "history.csv")
        history.fold = spot.fold
        tensorboard = self.folder.tensorboard / spot.inside
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
            callbacks=[history, *profile, *self.callbacks],
            trackers=trackers,
            watch=lambda steps, rows, epochs: Watch(progress, epochs, rows, steps),
            files=files,
            seconds=seconds,
            keeps_last=spot.keeps_last,
            settled=spot.settled or self.settled,
            least_epochs=spot.least_epochs,
        )

    def seconds(
        self,
        default: float | None = None,
        rest: Callable[[float], float] = _rest_s,
    ) -> float | None:
        """For the next fit, of what a time limit leaves.

        Args:
            default: limit of the whole run where the user names none; None is none.
            rest: seconds that a limit keeps back for what comes after training.
        """
        limit = self.config.fit.time_limit or default
        if limit is None:
            return None
        left_s = limit - rest(limit) - (time.monotonic() - self.started_s)
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
