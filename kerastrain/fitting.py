"""One fit: the rows of a split to a trained learner."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras

from kerastrain.arrays import ArrayStore
from kerastrain.config import RunConfig
from kerastrain.ingest import Table
from kerastrain.learner import KerasLearner, TrainingPlan
from kerastrain.prepare import Prepared, prepare
from kerastrain.progress import Progress
from kerastrain.runtime import Devices
from kerastrain.schema import Schema, Target
from kerastrain.secrets import hide_passwords
from kerastrain.split import Parts
from kerastrain.store import RunFolder
from kerastrain.trackers import TRACKERS
from kerastrain.training.history import HistoryFile
from kerastrain.training.stopping import BestWeights
from kerastrain.training.weights import Checkpoints

__all__ = ["Job"]

Stage = Callable[[str], Any]


@dataclass
class Job:
    """What all fits of a run have in common.

    Args:
        own: parts that lie in files of the user's.
        stage: times a stage and tells it to the progress.
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
    history: HistoryFile = field(init=False)

    def __post_init__(self) -> None:
        self.history = HistoryFile(self.folder.history)

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
        learner = KerasLearner(
            data, self.config.model, self.plan(data, fold=fold), name=name
        )
        learner.fit(data.train, data.validation)
        return learner

    def refit(self, data: Prepared, epochs: int) -> KerasLearner:
        """Train so many epochs and keep the last; validation rows only look on."""
        fit = self.config.fit.model_copy(update={"epochs": epochs, "patience": None})
        again = RunConfig.model_copy(self.config, update={"fit": fit})
        plan = self.plan(data, fold=0, config=again, keeps_last=True)
        learner = KerasLearner(data, self.config.model, plan)
        learner.fit(data.train, data.validation)
        learner.best_epoch = epochs
        return learner

    def plan(
        self,
        data: Prepared,
        *,
        fold: int | None = None,
        config: RunConfig | None = None,
        keeps_last: bool = False,
    ) -> TrainingPlan:
        config, folder = config or self.config, self.folder
        inside = "" if fold is None else f"fold_{fold}" if fold else "refit"

        def checkpoints(best: BestWeights, whole: keras.Model) -> Checkpoints:
            every, keep = (
                config.checkpoint.weights_every,
                config.checkpoint.keep_weights,
            )
            place = folder.checkpoints / inside
            return Checkpoints(place, best, whole, every=every, keep=keep)

        steps = -(-len(data.train) // int(config.fit.batch_size))
        resolved = hide_passwords(config.model_dump(mode="json"))
        trackers = [
            TRACKERS.load(part.name)(
                folder.tensorboard / inside, resolved, steps, **part.options
            )
            for part in config.trackers
        ]
        watch = _Watch(self.progress, int(config.fit.epochs), len(data.train))
        self.history.fold = fold
        return TrainingPlan(
            fit=config.fit,
            optimizer=config.optimizer,
            schedule=config.schedule,
            devices=self.devices,
            seed=config.seed,
            store=self.store,
            callbacks=[watch, self.history, *trackers],
            checkpoint=checkpoints,
            keeps_last=keeps_last,
        )


class _Watch(keras.callbacks.Callback):
    """Passes epochs and steps on to the progress display."""

    def __init__(self, progress: Progress, epochs: int, num_rows: int):
        super().__init__()
        self.progress = progress
        self.epochs = epochs
        self.num_rows = num_rows

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = dict(logs or {})
        epoch_s = logs.pop("epoch_s", 0.0)
        if epoch_s:
            logs["rows_per_s"] = self.num_rows / epoch_s
        self.progress.on_epoch(epoch + 1, self.epochs, logs, epoch_s)
