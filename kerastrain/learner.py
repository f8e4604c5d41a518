"""Learners: what is fitted, scored, asked, saved and exported."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastrain.arrays import pieces
from kerastrain.calibration import Correction
from kerastrain.config import FitConfig, ModelConfig
from kerastrain.decision import Decision
from kerastrain.engine import Engine
from kerastrain.errors import ConfigError
from kerastrain.evaluation import METRICS, most_rows, score
from kerastrain.events import note
from kerastrain.features import Features, Front
from kerastrain.models import LEARNERS
from kerastrain.nets.members import tell_apart
from kerastrain.objective import Objective
from kerastrain.parity import export_verified
from kerastrain.pipeline import Rows, cut, outputs_of, run_prefix
from kerastrain.prepare import Prepared
from kerastrain.schedules import Monitor
from kerastrain.store import atomic
from kerastrain.training.fit import FitRows, TrainingPlan, fit_core
from kerastrain.training.offender import Offender
from kerastrain.training.pruning import pruned

__all__ = [
    "KerasLearner",
    "Learner",
    "monitor_of",
    "resolved_fit",
    "whole_model",
    "forward_of",
]


class Learner(ABC):
    """The five verbs. Every learner ends as one Keras model from raw columns.

    Attributes:
        model: raw columns to the decision; see `Objective.decide`.
        numeric: clean matrices to the outputs that `objective` decides by.
        best_epoch: or round that is kept, counted from 1; 0 where there are none.
        is_keras: it has such models; an estimator of the user's has none.
    """

    model: keras.Model
    numeric: keras.Model
    objective: Objective
    best_epoch: int = 0
    is_keras: bool = True
    _decision: Decision | None = None

    @abstractmethod
    def fit(self, train: Rows, validation: Rows) -> None:
        """Learn from encoded rows; `validation` chooses when to stop."""

    @abstractmethod
    def undecided(self, rows: Rows) -> np.ndarray:
        """As `predict`, before the decision calibrates it."""

    def predict(self, rows: Rows) -> np.ndarray:
        """Probabilities `(rows, classes)` or values `(rows,)` of encoded rows."""
        return self.decision.probabilities(self.undecided(rows))

    @property
    def decision(self) -> Decision:
        """What stands behind it; at first the most probable class, or the value."""
        return self._decision or Decision.plain(self.objective.labels)

    def decide_by(self, decision: Decision) -> None:
        """Put a decision behind the model."""
        self._decision = decision
        self.model = decision.behind(self.model)

    def evaluate(
        self, rows: Rows, *, weight: np.ndarray | None = None
    ) -> dict[str, float | None]:
        """Every metric of the task on encoded rows.

        Args:
            weight: of each of these rows; see `Prepared.weight_of`. The weights in
                `rows` are those of training, where class weights count.
        """
        return self._score(rows.targets, self.predict(rows), weight)

    def _score(
        self, y: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None
    ) -> dict[str, float | None]:
        classes = self.decision.classes(predicted)
        task = self.objective.task
        return score(task, y, predicted, weight=weight, predicted=classes)

    def validated(
        self, rows: Rows, *, weight: np.ndarray | None = None
    ) -> dict[str, float | None]:
        """Every metric on rows that were held out of training, and so of `evaluate`."""
        return self.evaluate(rows, weight=weight)

    def save(self, path: Path) -> None:
        """Write the model as a `.keras` file: data and weights, nothing pickled."""
        with atomic(path) as temporary:
            self.model.save(temporary)

    def export(
        self, name: str, folder: Path, golden: dict[str, Any], **options: Any
    ) -> dict[str, Any]:
        """Write the model in a format of `EXPORTS`; what replaying `golden` found."""
        return export_verified(name, self.model, folder, golden, **options)[1]


def whole_model(
    front: Front, numeric: keras.Model, objective: Objective, name: str
) -> keras.Model:
    """Raw columns to the decision, through the front and a numeric core."""
    outputs = objective.decide(numeric(front.model(front.inputs)))
    return keras.Model(front.inputs, outputs, name=name)


def forward_of(numeric: keras.Model) -> Any:
    """A numeric core as one compiled function of matrices, for any number of rows."""
    spec = {t.name: tf.TensorSpec(t.shape, t.dtype) for t in numeric.inputs}
    return tf.function(lambda x: numeric(x, training=False), input_signature=[spec])


class KerasLearner(Learner):
    """A neural network from `MODELS`, or a function of the user's.

    Args:
        data: what the run prepared: front, statistics, objective.
        config: which network; a name with a colon is imported.
        plan: how it is trained.
        name: of the model.

    Attributes:
        numeric: clean matrices to logits: the numeric core behind the string front.
        model: the whole; shares all layers with `numeric`.
        best_epoch: counted from 1; 0 before `fit`.
    """

    def __init__(
        self,
        data: Prepared,
        config: ModelConfig,
        plan: TrainingPlan,
        *,
        name: str = "kerastrain",
    ):
        front, objective = data.front, data.objective
        self.front = front
        self.objective = objective
        self.weight = data.weight  # not `data`: its arrays go when a fold ends
        self.balance = data.balance
        self.plan = plan
        self.best_epoch = 0
        features = Features.of(front, data.statistics, objective.num_outputs)
        network = LEARNERS.load(config.name)
        try:
            tensor = network(features, **config.options)
        except (TypeError, ValueError) as error:
            text = str(error).partition("\n")[0]
            raise ConfigError(f"model {config.name}: {text}") from error
        logits = objective.head(tensor)
        self._take(keras.Model(features.inputs, logits, name="numeric_core"), name)

    def _take(self, numeric: keras.Model, name: str) -> None:
        self.numeric = numeric
        self.model = whole_model(self.front, numeric, self.objective, name)
        self._forward = forward_of(numeric)

    def fit(self, train: Rows, validation: Rows) -> None:
        validation = validation.at_most(most_rows(self.objective.num_outputs))
        targets = validation.targets
        weight = None if self.weight is None else self.weight[validation.index]
        prefix, core = cut(self.numeric)
        tell_apart(core)
        # New rows lie between clean columns; rows are repeated behind the prefix, which
        # would compute each of them again.
        clean = self.balance.synthesised(train, self.plan.store)
        train, validation = self._through(prefix, clean, validation)
        rows = FitRows(self.balance.resampled(train), validation, targets, weight)
        engine, best_epoch = fit_core(
            core,
            rows,
            self.objective,
            self._monitor(targets, weight),
            self.plan,
            explain=lambda blocks: Offender(
                clean, blocks, self.front, self.plan.broken
            ),
        )
        self.best_epoch = best_epoch + 1
        smaller = pruned(self.numeric, core, validation, self.objective)
        if smaller is not self.numeric:
            self._take(smaller, self.model.name)
            core = cut(smaller)[1]
            engine = Engine(core.inputs, core.outputs[0])
        self._calibrate(engine, validation, targets, weight)

    def _monitor(self, targets: np.ndarray, weight: np.ndarray | None) -> Monitor:
        is_rare = self.balance.watches_precision and _has_both(targets, weight)
        return monitor_of(self.plan.config.fit, self.objective, is_rare=is_rare)

    def _calibrate(
        self,
        engine: Engine,
        rows: Rows,
        targets: np.ndarray,
        weight: np.ndarray | None,
    ) -> None:
        """Fit the correction, if any, on validation rows; also that of the model.

        Not when the last epoch is kept: those rows may then have been trained on.
        """
        if self.objective.correction is not None and not self.plan.keeps_last:
            logits = engine.outputs_of(rows)
            self.objective = self.objective.calibrated(logits, targets, weight)
            self.objective.calibrate(self.model)

    def correct_like(self, others: Sequence["KerasLearner"]) -> None:
        """Take the mean correction of learners of other rows, trained the same way."""
        found = [
            other.objective.correction
            for other in others
            if other.objective.correction is not None
            and other.balance.config == self.balance.config
        ]
        if found and self.objective.correction is not None:
            correction = Correction.mean(found)
            self.objective = replace(self.objective, correction=correction)
            self.objective.calibrate(self.model)

    def _through(self, prefix: keras.Model, *parts: Rows) -> list[Rows]:
        """Rows with the prefix's outputs as inputs; parts share the arrays."""
        old, store = parts[0].target, self.plan.store
        # New rows have arrays of their own.
        if any(rows.target is not old for rows in parts):
            return [self._through(prefix, rows)[0] for rows in parts]
        target = store.empty(old.shape, self.objective.target_dtype)
        for piece in pieces(len(target), 1 << 20):
            target[piece] = self.objective.encoded(old[piece])
        both = [replace(rows, target=target) for rows in parts]
        return run_prefix(prefix, both, store)

    def undecided(self, rows: Rows) -> np.ndarray:
        logits = outputs_of(self._forward, rows, self.objective.num_outputs)
        return self.objective.outputs(logits)


def _has_both(classes: np.ndarray, weight: np.ndarray | None) -> bool:
    """Whether rows that count are of both classes, so that precision is defined."""
    counted = classes if weight is None else classes[weight > 0]
    return len(np.unique(counted)) > 1


def monitor_of(
    fit: FitConfig, objective: Objective, *, is_rare: bool = False
) -> Monitor:
    """The validation metric that decides, and whether less of it is better.

    Args:
        is_rare: of the positive class; `auto` is then average precision.
    """
    if is_rare and fit.monitor == "auto":
        note(
            "monitor_chosen",
            "The positive class is rare: the best epoch is the one of the highest "
            "average precision on validation rows (fit.monitor: pr_auc).",
            monitor="pr_auc",
        )
        return Monitor("val_pr_auc", "max")
    if fit.monitor in ("auto", "loss", "val_loss"):
        return Monitor("val_loss", "min")
    name = fit.monitor.removeprefix("val_")
    if name not in METRICS[objective.task]:
        raise ConfigError(
            f"fit.monitor: no metric '{fit.monitor}' for {objective.task} targets. "
            f"Available: loss, {', '.join(METRICS[objective.task])}."
        )
    mode = "max" if METRICS[objective.task][name].greater_is_better else "min"
    return Monitor(f"val_{name}", mode)


# Rows up to which a batch size holds. From the TabArena defaults of RealMLP.
_BATCH_SIZES = ((1_024, 32), (8_192, 128), (30_000, 256), (100_000, 512))


def resolved_fit(fit: FitConfig, num_rows: int, num_replicas: int) -> FitConfig:
    """`auto` as numbers, for `num_rows` train rows."""
    batch_size, epochs = fit.batch_size, fit.epochs
    if batch_size == "by_rows":
        fitting = [size for rows, size in _BATCH_SIZES if num_rows <= rows]
        batch_size = fitting[0] if fitting else 1_024
    if batch_size != "auto":  # which is measured
        batch_size = max(batch_size, num_replicas)
    if epochs == "auto":
        # 3 million rows seen, but 20 epochs at least and 100 at most
        epochs = int(np.clip(3_000_000 // max(1, num_rows), 20, 100))
    return fit.model_copy(update={"batch_size": batch_size, "epochs": epochs})
