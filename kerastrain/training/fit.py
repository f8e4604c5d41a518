"""One fit of a network, from its rows to the weights that are kept."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
from keras import ops

from kerastrain.arrays import ArrayStore
from kerastrain.blocks import Blocks
from kerastrain.config import RunConfig
from kerastrain.engine import Average, Clipping, Engine, RateFactors, make_optimizer
from kerastrain.engine.precision import Precision
from kerastrain.errors import ConfigError
from kerastrain.objective import Objective
from kerastrain.pipeline import Rows
from kerastrain.runtime import Devices
from kerastrain.schedules import SCHEDULES, Monitor, Steps
from kerastrain.schedules.rate import Rate
from kerastrain.training.averaged import averaged
from kerastrain.training.initial import follow_progress, initialise
from kerastrain.training.keeper import Diverged
from kerastrain.training.pace import is_surely_within
from kerastrain.training.precision_check import PrecisionCheck
from kerastrain.training.recovery import Recovery
from kerastrain.training.resume import CheckpointFiles
from kerastrain.training.settling import Settled
from kerastrain.training.spikes import Spikes
from kerastrain.training.stopping import BestWeights, TimeLimit
from kerastrain.training.validation import Validate

__all__ = ["FitRows", "TrainingPlan", "fit_core"]


@dataclass(frozen=True)
class FitRows:
    """What a network is fitted on.

    Args:
        train, validation: as the core takes them.
        targets: of the validation rows, as metrics take them.
        weight: of the validation rows in metrics; None where all count alike.
    """

    train: Rows
    validation: Rows
    targets: np.ndarray
    weight: np.ndarray | None


@dataclass(frozen=True)
class TrainingPlan:
    """How a network is trained.

    Args:
        config: resolved: no `auto` in how it is fitted.
        store: where arrays of rows lie.
        broken: where the batch at which training broke is written.
        callbacks: further Keras callbacks; they see validation metrics in the logs.
        weights: makes the callback that writes weights, given the best-weights one.
        trackers: makes those, given the steps of an epoch.
        watch: makes the callback that measures speed, given the steps of an epoch, its
            rows and the epochs.
        files: checkpoints to go on from; None writes none.
        seconds: for training; None is no limit.
        keeps_last: the weights of the last epoch, not of the best, are kept.
        settled: what was measured before, or is to be.
        least_epochs: that the time has to leave.
    """

    config: RunConfig
    devices: Devices
    store: ArrayStore
    broken: Path = Path("diverged_batch.parquet")
    callbacks: Sequence[keras.callbacks.Callback] = field(default_factory=list)
    weights: Callable[[BestWeights], keras.callbacks.Callback] | None = None
    trackers: Callable[[int], Sequence[keras.callbacks.Callback]] | None = None
    watch: Callable[[int, int, int], keras.callbacks.Callback] | None = None
    files: CheckpointFiles | None = None
    seconds: float | None = None
    keeps_last: bool = False
    settled: Settled = field(default_factory=Settled)
    least_epochs: int = 1


def fit_core(
    core: keras.Model,
    rows: FitRows,
    objective: Objective,
    monitor: Monitor,
    plan: TrainingPlan,
    *,
    explain: Callable[[Blocks], Callable[[Diverged], str]],
) -> tuple[Engine, int]:
    """The engine with the weights that are kept, and the epoch they are of, from 0.

    Args:
        explain: given the blocks, makes what tells the cause of a divergence.
    """
    engine = Engine(core.inputs, core.outputs[0], name="engine")
    initialise(engine, rows.train)
    plan, blocks = _measured(engine, rows, objective, plan)
    config = plan.config
    fit, epochs = config.fit, int(config.fit.epochs)
    function = SCHEDULES.load(config.schedule.name)
    steps = Steps(blocks.num_steps * epochs, blocks.num_steps)
    peak = config.optimizer.learning_rate
    schedule = function(peak, steps, monitor, **config.schedule.options)
    _prepare(engine, schedule.learning_rate, objective, rows, config, steps.total)
    follow_progress(engine, engine.optimizer, steps.total)
    if fit.find_rate:
        plan.settled.rate(engine, blocks, schedule.learning_rate)
    engine.keeps_norms = config.watch.norms
    best = BestWeights.of(monitor, fit, keeps_last=plan.keeps_last)
    recovery = Recovery(
        engine,
        blocks,
        _callbacks(engine, blocks, rows, objective, plan, best, schedule.callbacks),
        rate=schedule.learning_rate,
        fit=fit,
        files=plan.files,
        every=config.checkpoint.every,
        explain=explain(blocks),
        precision=plan.devices.precision,
    )
    recovery.run()
    return engine, best.best_epoch


def _measured(
    engine: Engine, rows: FitRows, objective: Objective, plan: TrainingPlan
) -> tuple[TrainingPlan, Blocks]:
    """With a batch size, and the epochs that the time leaves."""
    begun_s, config, settled = time.monotonic(), plan.config, plan.settled
    fit, epochs = config.fit, int(config.fit.epochs)

    def blocks_of(size: int) -> Blocks:
        replicas = plan.devices.num_replicas
        return Blocks(rows.train, size, fit.steps_per_call, config.seed, replicas)

    limit, num_rows = plan.seconds, len(rows.train)
    asks_pace = limit is not None and not plan.keeps_last
    if limit is not None and is_surely_within(engine, num_rows, epochs, limit):
        asks_pace = False
    if fit.batch_size == "auto" or asks_pace:
        # At no rate at all: how long a step takes does not go by it.
        _prepare(engine, Rate(0.0, ops.zeros_like), objective, rows, config)
    blocks = blocks_of(settled.batch_size(fit.batch_size, engine, blocks_of))
    if limit is None:
        return plan, blocks
    if asks_pace:
        num_validation, end_s = len(rows.validation), begun_s + limit
        least = plan.least_epochs
        epochs = settled.epochs(epochs, engine, blocks, num_validation, end_s, least)
    fit = fit.model_copy(update={"epochs": epochs})
    left_s = max(0.0, limit - (time.monotonic() - begun_s))
    config = config.model_copy(update={"fit": fit})
    return replace(plan, config=config, seconds=left_s), blocks


def _prepare(
    engine: Engine,
    rate: Rate,
    objective: Objective,
    rows: FitRows,
    config: RunConfig,
    num_steps: int = 0,
) -> None:
    """Make `engine` ready to be fitted as `config` says.

    Args:
        num_steps: of the whole training; 0 is not known yet.

    Raises:
        ConfigError: no weight learns.
    """
    fit, average, epochs = config.fit, config.average, int(config.fit.epochs)
    factors = RateFactors(config.optimizer, engine)
    if factors.freezes_all(epochs):
        raise ConfigError(
            "optimizer: no weight learns in any epoch. Look at optimizer.rates and "
            f"optimizer.unfreeze; there are {epochs} epochs."
        )
    most = fit.batch_size if isinstance(fit.batch_size, int) else len(rows.train)
    weights = engine.trainable_variables
    engine.prepare(
        make_optimizer(config.optimizer, rate, weights, num_steps),
        objective.row_loss(),
        clipping=Clipping.of(config.optimizer),
        accumulate=min(fit.accumulate, most),
        remat=fit.remat,
        factors=factors,
        average=None if average.name == "none" else Average(average, engine, epochs),
    )


def _callbacks(
    engine: Engine,
    blocks: Blocks,
    rows: FitRows,
    objective: Objective,
    plan: TrainingPlan,
    best: BestWeights,
    scheduled: Sequence[keras.callbacks.Callback],
) -> list[Any]:
    """In the order in which they see an epoch."""
    validate = Validate(
        engine,
        rows.validation,
        objective,
        rows.targets,
        weight=rows.weight,
        monitor=best.monitor,
    )
    spikes = Spikes(blocks)
    precision = cast("Precision", plan.devices.precision)
    check = PrecisionCheck(engine, rows.validation, precision)
    before, behind = averaged(engine, blocks, keeps_last=plan.keeps_last)
    watch = None
    if plan.watch:
        epochs = int(plan.config.fit.epochs)
        watch = plan.watch(blocks.num_steps, len(rows.train), epochs)
    weights = plan.weights(best) if plan.weights else None
    limit = TimeLimit(plan.seconds) if plan.seconds is not None else None
    inner = [validate, watch, best, weights]
    checks = [spikes, check] if precision != "float32" else [spikes]
    trackers = plan.trackers(blocks.num_steps) if plan.trackers else []
    outer = [limit, *scheduled, *plan.callbacks, *trackers]
    ordered = [*before, *inner, *behind, *checks, *outer]
    return [callback for callback in ordered if callback is not None]
