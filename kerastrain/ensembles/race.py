"""The race of a portfolio: who is fitted on which fold, in the time there is."""

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from kerastrain.config import ModelConfig
from kerastrain.ensembles.bagging import Bag
from kerastrain.ensembles.ensemble import weight_bytes
from kerastrain.ensembles.judge import Judge
from kerastrain.ensembles.portfolio import Candidate
from kerastrain.errors import (
    ConfigError,
    DataError,
    Interrupted,
    MissingExtra,
    OutOfTime,
)
from kerastrain.estimator_learner import becomes_one, is_unexportable
from kerastrain.events import note, warn
from kerastrain.fitting import Job, Spot
from kerastrain.learner import Learner
from kerastrain.pipeline import Rows
from kerastrain.prepare import Prepared
from kerastrain.training.settling import Settled

__all__ = ["Contestant", "Race"]

_MOST_FOLDS = 50
_SPOTS = 50 * _MOST_FOLDS  # numbers of fits inside one outer fold
# Of the time left, what trees may take whose own share is not enough: one model more is
# worth more than folds. LightGBM of large trees was left out of beijing_pm25 at 60 s
# with 8 s left, where it has RMSE 31.7 on validation rows, and the others 34.7. Not so
# networks: for 20 s of one adult lost six folds of all (ROC AUC 0.9230 to 0.9220).
_MOST_SHARE = 0.8
# A later fold may take so much longer than the first before it is cut short.
_LONGER = 1.5
# Of the seconds of a round, the share below which a candidate stays in it.
_CHEAP = 0.05
# A learner more in the ensemble is traced, explained, exported and loaded again, which
# took 1.0 to 1.4 s on one core (titanic, 8 folds: 15 s over a limit of 60). One of each
# candidate is in what the limit keeps back in any case.
_LEARNER_S = 1.0
# TabM on one core (validation): california with 3 of 200 epochs RMSE 56,873, where
# trees reach 44,280; telco_churn with 15 ROC AUC 0.8547, second of ten.
_LEAST_EPOCHS = 8


@dataclass
class Contestant:
    """A candidate and what was fitted of it, by the number of the fold.

    Args:
        place: in the portfolio, from 0; its seeds go by it.
        learners: fitted.
        held_out: their predictions for the rows held out of them.
        seconds: that each took.
        status: `fitted`, or why it is not.
    """

    candidate: Candidate
    place: int
    learners: list[Learner] = field(default_factory=list)
    held_out: list[np.ndarray] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    status: str = "fitted"

    @property
    def name(self) -> str:
        return self.candidate.label

    def judged(self, num_folds: int) -> np.ndarray:
        """Predictions for the rows of the first folds, one after the other."""
        return np.concatenate(self.held_out[:num_folds])


@dataclass
class Race:
    """Fold by fold: all candidates on the first, on later ones those that are of use.

    So a short time gives many models, each fitted once, and a long one gives each of
    the good models on every fold; weights are chosen on the rows of the folds that all
    of the last round have.

    Args:
        data: what is shared by all fits.
        pool: all rows that are held out in turn.
        bags: the folds.
        candidates: in the order in which they are tried.
        seconds: for all fits; None is no limit.
        outer: number of the fold of a cross-validation around it; None without one.

    Attributes:
        judge: of all that was held out.
    """

    job: Job
    data: Prepared
    pool: Rows
    bags: Sequence[Bag]
    candidates: Sequence[Candidate]
    seconds: float | None
    outer: int | None

    def __post_init__(self) -> None:
        self.judge = Judge(self.data)
        self._first_s: float | None = None
        self._kept_s = 0.0  # for what comes after, by the learners that there are
        self._end_s = math.inf
        if self.seconds is not None:
            self._end_s = time.monotonic() + self.seconds

    @property
    def left_s(self) -> float:
        return self._end_s - self._kept_s - time.monotonic()

    def rows(self, num_folds: int) -> Rows:
        """Held out of the first folds, one fold after the other."""
        places = np.concatenate([bag.places for bag in self.bags[:num_folds]])
        return replace(self.pool, index=self.pool.index[places])

    def run(self) -> tuple[list[Contestant], int]:
        """All contestants, and how many folds those of the last round all have."""
        everyone = [self._enter(p, c) for p, c in enumerate(self.candidates)]
        running = [one for one in everyone if one.learners]
        done = 1
        while running and done < len(self.bags):
            racing = self._round(self._affordable(running, done), done)
            if not racing:
                break
            running, done = racing, done + 1
        self._fill(running, done)
        return everyone, done

    def _round(self, racing: Sequence[Contestant], number: int) -> list[Contestant]:
        """Those that were fitted on a fold; none where the time ran out between."""
        fitted = []
        for one in racing:
            if self.left_s < one.seconds[0]:
                return []
            if self._fit(one, number):
                fitted.append(one)
        return fitted

    def _affordable(self, running: list[Contestant], done: int) -> list[Contestant]:
        """Who runs the next round: all, if time is plenty for all rounds.

        Else the dearest of those that are of no use go, until it is; few rows make the
        choice unsure, so what costs little stays. None where a round has no time.
        """
        rounds = len(self.bags) - done
        if _round_s(running) * rounds <= self.left_s:
            return running
        useful = self._useful(running, done)
        racing, cheap_s = list(running), _CHEAP * _round_s(running)
        for one in sorted(running, key=lambda one: -one.seconds[0]):
            is_cheap = one.seconds[0] < cheap_s
            if _round_s(racing) * rounds <= self.left_s or is_cheap:
                break
            if one not in useful:
                racing.remove(one)
        return racing if _round_s(racing) <= self.left_s else []

    def _useful(self, running: Sequence[Contestant], done: int) -> list[Contestant]:
        held_out = {one.name: one.judged(done) for one in running}
        sizes = {one.name: float(weight_bytes(one.learners[0])) for one in running}
        kept = self.judge.useful(held_out, self.rows(done), sizes)
        return [one for one in running if one.name in kept]

    def _fill(self, running: list[Contestant], done: int) -> None:
        """The time that is left makes more of the cheap members of the ensemble."""
        if not 0 < done < len(self.bags) or not running:
            return
        useful = sorted(self._useful(running, done), key=lambda one: one.seconds[0])
        for number in range(done, len(self.bags)):
            for one in useful:
                if len(one.learners) == number and one.seconds[0] <= self.left_s:
                    self._fit(one, number)

    def _enter(self, place: int, candidate: Candidate) -> Contestant:
        """Fit a candidate on the first fold, if there is time for it."""
        one = Contestant(candidate, place)
        pace_s, left_s = candidate.pace * (self._first_s or 0.0), self.left_s
        least_s = max(candidate.least_s, pace_s)
        seconds = max(left_s * candidate.share, min(pace_s, left_s * _MOST_SHARE))
        # Whatever the time, there has to be a model: the first that can be fitted.
        if self._first_s is not None and seconds < least_s:
            one.status = (
                f"skipped: {max(0.0, seconds):.1f} s were left for a fit, and "
                f"{least_s:.1f} are the least for it"
            )
        elif self._fit(one, 0, seconds):
            self._first_s = self._first_s or one.seconds[0]
            self._show(one)
        return one

    def _show(self, one: Contestant) -> None:
        value = self.judge.score(one.judged(1), self.rows(1))
        shown = "undefined" if value is None else f"{value:.4g}"
        title, seconds = self.judge.metric.title, one.seconds[0]
        line = f"  {one.name}: {title} {shown}, {seconds:.0f} s"
        self.job.progress.on_line(line)

    def _fit(self, one: Contestant, number: int, seconds: float | None = None) -> bool:
        """Fit on a fold, from 0; one that fails is told of, not hidden."""
        if seconds is None:
            seconds = min(max(self.left_s, one.seconds[0]), _LONGER * one.seconds[0])
        begun_s = time.monotonic()
        try:
            learner = self._fitted(one, number, max(0.0, seconds))
            held_out = learner.predict(self.bags[number].validation)
            if not np.isfinite(held_out).all():
                raise DataError("some of its predictions are not finite")
        except Interrupted:
            raise
        except OutOfTime as error:  # as those that are not begun: no event
            one.status = one.status if one.learners else f"skipped: {error}"
            return False
        except MissingExtra as error:
            return _tell(one, "skipped", error)
        except Exception as error:  # any library may fail in its own way
            return _tell(one, "failed", error)
        if one.learners and not becomes_one(learner):
            self._kept_s += _LEARNER_S
        one.learners.append(learner)
        one.held_out.append(held_out)
        one.seconds.append(time.monotonic() - begun_s)
        return True

    def _fitted(self, one: Contestant, number: int, seconds: float) -> Learner:
        bag, candidate = self.bags[number], one.candidate
        model = ModelConfig(name=candidate.model, **candidate.options).checked()
        if is_unexportable(model):
            raise ConfigError(f"{model.name} is no Keras model and cannot be exported.")
        config = self.job.member_config(model, len(bag.train))
        data = replace(self.data, train=bag.train, validation=bag.validation)
        limit = seconds if math.isfinite(seconds) else None
        return self.job.fit_one(data, config, self._spot(one, number), seconds=limit)

    def _spot(self, one: Contestant, number: int) -> Spot:
        """Of one fold, from 0, of a candidate."""
        plain = re.sub(r"\W", "_", one.name)
        outer = "" if self.outer is None else f"fold_{self.outer}/"
        # Rows of another number of folds are other rows: a fit goes on with its own.
        inside = f"{outer}{plain}/of_{len(self.bags)}"
        seed = (self.outer or 0) * _SPOTS + one.place * _MOST_FOLDS + number + 1
        return Spot(
            f"{plain}_{number + 1}",
            f"{inside}/{number + 1}",
            seed,
            number + 1,
            is_member=True,
            settled=Settled(self.job.folder.checkpoints / inside / "settled.json"),
            # Without any model so far even a poor one is wanted, and a later fold is to
            # be as the first, of which all was known.
            least_epochs=1 if number or self._first_s is None else _LEAST_EPOCHS,
        )


def _round_s(several: Sequence[Contestant]) -> float:
    """Seconds for one more fold of each, as long as the first took."""
    return sum(one.seconds[0] for one in several)


def _tell(one: Contestant, what: str, error: Exception) -> bool:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    if one.learners:  # it stays with the folds it has
        note(
            "member_fold_failed",
            f"{one.name} failed on fold {len(one.learners) + 1}: {reason}",
            member=one.name,
        )
        return False
    one.status = f"{what}: {reason}"
    warn(
        f"member_{what}",
        f"{one.name} is left out of the ensemble: {reason}",
        member=one.name,
    )
    return False
