"""Cross-validation: a model for each fold, and from all of them the one that is kept.

Each row is tested once (in each repeat) by a model that saw it neither in training nor
when its epoch was chosen. What is reported is the mean over folds with its spread; the
model that is kept was trained on more rows and is, if anything, a little better.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kerastrain.assessment import Tested, about, mean_and_spread, validated
from kerastrain.curves import curves
from kerastrain.deciding import HeldOut, decide
from kerastrain.decision import Decision
from kerastrain.ensembles.auto import learn, rank, relearn
from kerastrain.ensembles.ensemble import AverageLearner
from kerastrain.events import note, warn
from kerastrain.fitting import Job
from kerastrain.foldscores import combined
from kerastrain.learner import KerasLearner, Learner
from kerastrain.prepare import Prepared
from kerastrain.split import Parts

__all__ = ["cross_validate"]


@dataclass(frozen=True)
class _Fold:
    """What is kept of a fold when its encoded rows are gone."""

    learner: Learner
    about: dict[str, Any]
    validation: dict[str, float | None]
    tested: Tested | None
    raw: HeldOut
    calibrated: HeldOut

    def record(self, number: int, job: Job) -> dict[str, Any]:
        known = {
            "fold": number,
            "best_epoch": self.learner.best_epoch,
            "num_rows": self.about["num_rows"],
            "validation": self.validation,
        }
        if self.tested is not None and "test" not in job.own:
            known["test"] = self.tested.scores(job.target)
        return known


def cross_validate(
    job: Job, fits: Sequence[Parts], on_first: Callable[[Prepared], None]
) -> tuple[Learner, dict[str, Any]]:
    """Fit and test every fold; the learner that is kept, and `metrics.json`.

    Args:
        fits: parts of each fit, as `split_folds` gives them.
        on_first: called with the prepared rows of the first fold, before it is fitted.
    """
    folds, refits = [], _is_refit(job)
    job.num_fits += int(refits)
    for number, parts in enumerate(fits, start=1):
        with job.stage(f"fold {number} of {len(fits)}"), job.store.section():
            told = on_first if number == 1 else None
            folds.append(_fit(job, parts, number, told))
    decision = _decision(job, folds, calibrated=not refits)
    metrics = _metrics(job, folds, decision) | decision.described()
    if not refits:
        metrics["refit"] = None
        average = AverageLearner([fold.learner for fold in folds])
        average.decide_by(decision)
        return average, metrics
    epochs = round(statistics.median(fold.learner.best_epoch for fold in folds))
    with job.stage("refit"), job.store.section():
        data = job.prepare(_all_rows(fits))
        learner = relearn(job, data, max(1, epochs))
        # Its validation rows were trained on: the folds know what to correct.
        if isinstance(learner, KerasLearner):
            others = [f.learner for f in folds if isinstance(f.learner, KerasLearner)]
            learner.correct_like(others)
        learner.decide_by(decision)
        if "test" in job.own and len(data.test):
            last = Tested.of(learner, data, job.target, job.config.seed)
            last.save(job.folder.test_predictions, job.target)
            metrics |= last.judged(job.target, job.config.seed)
    metrics["refit"] = {"epochs": epochs}
    return learner, metrics


def _fit(
    job: Job, parts: Parts, number: int, told: Callable[[Prepared], None] | None
) -> _Fold:
    data = job.prepare(parts)  # held here alone, so that it goes before the next
    if told is not None:
        told(data)
    learner = learn(job, data, fold=number)
    raw = decide(learner, data, job.config.decision)
    calibrated = replace(raw, raw=learner.decision.probabilities(raw.raw))
    rank(job, learner, data, number)
    seed = job.config.seed
    tested = Tested.of(learner, data, job.target, seed) if len(data.test) else None
    scores = validated(learner, data, job.target)
    return _Fold(learner, about(data, job.target), scores, tested, raw, calibrated)


def _decision(job: Job, folds: Sequence[_Fold], *, calibrated: bool) -> Decision:
    """Of the model that is kept, from the rows held out of each fold.

    Args:
        calibrated: what is averaged is calibrated already, fold by fold.
    """
    config, objective = job.config.decision, folds[0].learner.objective
    if calibrated:
        config = config.model_copy(update={"calibrate": "none"})
        held_out = HeldOut.pooled([fold.calibrated for fold in folds])
    else:
        held_out = HeldOut.pooled([fold.raw for fold in folds])
    return held_out.decision(objective, config)


def _metrics(job: Job, folds: Sequence[_Fold], decision: Decision) -> dict[str, Any]:
    split, target, seed = job.config.split, job.target, job.config.seed
    records = [fold.record(i, job) for i, fold in enumerate(folds, start=1)]
    metrics = folds[0].about | {
        "best_epoch": round(statistics.median(f.learner.best_epoch for f in folds)),
        "num_folds": len(folds) // split.repeats,
        "repeats": split.repeats,
        "folds": records,
        "validation": {
            name: cell["value"]
            for name, cell in mean_and_spread([f.validation for f in folds]).items()
        },
    }
    tested = [fold.tested for fold in folds if fold.tested is not None]
    if not tested:
        return metrics
    if "test" in job.own:
        metrics["cross_validation"] = mean_and_spread([f.validation for f in folds])
        averaged = Tested.averaged(tested, decision)
        averaged.save(job.folder.test_predictions, target)
        return metrics | averaged.judged(target, seed)
    judged = [one.judged(target, seed) for one in tested]
    num_once = len(folds) // split.repeats  # folds that share no test row
    _tell_undefined(metrics["primary"], judged, num_once)
    once = Tested.pooled(tested[:num_once])
    once.save(job.folder.test_predictions, target)
    metrics["num_rows"] = metrics["num_rows"] | {"test": len(once.y)}
    metrics["curves"] = curves(
        target.task,
        once.y,
        once.ours,
        target.labels,
        seed=seed,
        predicted=once.predicted,
    )
    # Rows of a group or of a time are alike: folds differ by more than rows tell.
    has_keys = bool(job.schema.keys)
    scores = combined(target.task, judged, num_once, has_keys=has_keys)
    scores["verdict"]["about"] = once.description
    return metrics | once.measured | scores


def _tell_undefined(
    metric: str, judged: Sequence[dict[str, Any]], num_folds: int
) -> None:
    """Folds that do not count in the mean of the metric that counts most."""
    undefined = [
        str(place % num_folds + 1)
        for place, one in enumerate(judged)
        if one["test"][metric]["value"] is None
    ]
    if undefined:
        warn(
            "folds_undefined",
            f"{metric} is not defined on the test rows of fold {', '.join(undefined)}, "
            "which lack a class, and is the mean of the others. Ask for fewer folds "
            "(--folds 3), or give more rows of the rare classes.",
            folds=undefined,
        )


def _is_refit(job: Job) -> bool:
    split = job.config.split
    if split.refit != "auto":
        return split.refit
    if split.time is None:
        return False
    note(
        "refit_chosen",
        "The folds follow time, and the first of them know the past alone: in place of "
        "their average one model is trained on all rows. To change it: --no-refit.",
    )
    return True


def _all_rows(fits: Sequence[Parts]) -> Parts:
    """All rows of the folds to train on; the validation rows of the last look on."""
    used = [rows for one in fits for rows in (one.train, one.validation, one.test)]
    own_test = fits[0].test if _is_same(fits) else np.zeros(0, "int64")
    train = np.setdiff1d(np.unique(np.concatenate(used)), own_test)
    total = sum(len(rows) for rows in used[:3]) + fits[0].num_dropped
    return replace(
        fits[0],
        train=train,
        validation=fits[-1].validation,
        test=own_test,
        num_dropped=total - len(train) - len(own_test),
    )


def _is_same(fits: Sequence[Parts]) -> bool:
    """Whether all fits are tested on the same rows, those of the user's."""
    return all(np.array_equal(one.test, fits[0].test) for one in fits)
