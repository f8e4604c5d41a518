"""`--model auto`: a portfolio of models in the time there is, and their ensemble."""

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from kerastrain.bagging import bags_of
from kerastrain.blending import dropped_until, select
from kerastrain.config import ModelConfig
from kerastrain.ensemble import EnsembleLearner, Member
from kerastrain.errors import (
    ConfigError,
    DataError,
    Interrupted,
    MissingExtra,
)
from kerastrain.estimator_learner import bagged_learners, is_unexportable
from kerastrain.evaluation import METRICS, most_rows, primary, score
from kerastrain.events import note, warn
from kerastrain.fitting import Job, Spot, without_validation
from kerastrain.leaderboard import Entry, Leaderboard
from kerastrain.learner import Learner
from kerastrain.pipeline import Rows
from kerastrain.portfolio import Candidate, Portfolio, auto
from kerastrain.prepare import Prepared
from kerastrain.store import read_json, write_json
from kerastrain.training.settling import Settled

__all__ = ["check_model", "learn", "leaderboard", "rank", "relearn"]

_TIMED_ROWS = 1_000
_MOST_FOLDS = 50
_SPOTS = 50 * _MOST_FOLDS  # numbers of fits inside one outer fold


def check_model(model: ModelConfig) -> None:
    """ConfigError for options that make no portfolio, before any data is read."""
    if model.name == "auto":
        auto(**model.options)


def learn(job: Job, data: Prepared, *, fold: int | None = None) -> Learner:
    """What the configuration asks for, fitted on the train rows."""
    if job.config.model.name != "auto":
        return job.fit(data, fold=fold)
    portfolio = auto(**job.config.model.options)
    return _Search(job, data, portfolio, fold).run()


def relearn(job: Job, data: Prepared, epochs: int) -> Learner:
    """As the folds were, on the train rows of all of them."""
    if job.config.model.name != "auto":
        return job.refit(data, epochs)
    return learn(job, without_validation(data), fold=0)


def rank(job: Job, learner: Learner, data: Prepared, fold: int | None = None) -> None:
    """Put the scores on the test rows into the leaderboard, when there is one."""
    board = job.boards.get(fold or 0)
    if board is None or not isinstance(learner, EnsembleLearner) or not len(data.test):
        return
    rows = data.test.at_most(most_rows(data.objective.num_outputs))
    task, weight = data.objective.task, data.weight_of(rows)
    predicted = {m.name: m.predict(rows) for m in learner.tried}
    total = [predicted[m.name] * np.float32(w) for m, w in learner.members]
    for name, values in [*predicted.items(), ("ensemble", np.sum(total, axis=0))]:
        scores = score(task, rows.targets, values, weight=weight)
        board.update(name, test=scores[board.metric])


def leaderboard(job: Job) -> Leaderboard | None:
    """Of the whole run: the mean over its folds."""
    if not job.boards:
        return None
    # That of a model trained again on all rows is no fold's.
    numbers = sorted(set(job.boards) - {0}) or [0]
    board = Leaderboard.mean([job.boards[number] for number in numbers])
    board.write(job.folder.leaderboard)
    return board


@dataclass
class _Search:
    """The portfolio on one set of rows.

    Args:
        fold: of the cross-validation; None without one.
    """

    job: Job
    data: Prepared
    portfolio: Portfolio
    fold: int | None
    members: list[Member] = field(default_factory=list)

    def __post_init__(self) -> None:
        data = self.data
        self.started_s = time.monotonic()
        self.seconds = self.job.seconds(self.portfolio.time_limit, rest=_rest_s)
        num_rows = len(data.train) + len(data.validation)
        # Folds of a cross-validation are averaged in the end, which bags them already.
        deals = self._may_deal() and self.fold is None
        self._deal(self.portfolio.folds(num_rows) if deals else 1)
        name = primary(data.objective.task)
        self.metric = METRICS[data.objective.task][name]
        self.board = Leaderboard(name, self.metric.greater_is_better)

    def _deal(self, num_folds: int) -> None:
        """Rows to so many folds."""
        data, seed = self.data, self.job.config.seed
        self.held_out, self.bags = bags_of(
            data.train, data.validation, data.objective.labels, num_folds, seed
        )
        self.first: Learner | None = None  # the first candidate on the first fold

    def _settle_folds(self) -> None:
        """Fewer folds where the time is short, by what the first fit takes."""
        num_folds, path = len(self.bags), self._folder / "folds.json"
        if num_folds == 1 or self.seconds is None:
            return
        if path.is_file():  # of a run that goes on
            self._deal(read_json(path)["folds"])
            return
        candidate, begun_s = self.portfolio.candidates[0], time.monotonic()
        try:
            left_s = self.left_s * candidate.share / num_folds
            self.first = self._fitted(0, candidate, 0, left_s)
        except Interrupted:
            raise
        except Exception:  # of any library; it is told when its turn comes
            self.first = None
        fit_s = time.monotonic() - begun_s
        within = self.portfolio.folds_within(num_folds, fit_s, self.seconds)
        write_json(path, {"folds": within, "first_fit_s": fit_s})
        if within < num_folds:
            self._deal(within)
            note(
                "folds_reduced",
                f"Each model is fitted {_times(within)} in place of {num_folds} times: "
                f"one fit of {candidate.label} took {fit_s:.1f} s. For more: a longer "
                "--time-limit, or --set model.folds=5.",
                folds=within,
            )

    @property
    def _folder(self) -> Path:
        outer = "" if self.fold is None else f"fold_{self.fold}"
        return self.job.folder.checkpoints / outer

    def _may_deal(self) -> bool:
        """Rows of a group, of a time, or of the user's choice stay where they are."""
        split = self.job.config.split
        is_chosen = split.group or split.time or split.column
        return not (is_chosen or "validation" in self.job.own)

    @property
    def left_s(self) -> float:
        if self.seconds is None:
            return math.inf
        return self.seconds - (time.monotonic() - self.started_s)

    def run(self) -> EnsembleLearner:
        """Fit what there is time for, and weigh it.

        Raises:
            DataError: not one model could be fitted.
        """
        self._settle_folds()
        for place, candidate in enumerate(self.portfolio.candidates):
            self._try(place, candidate)
        if not self.members:
            reasons = "; ".join(f"{e.model}: {e.status}" for e in self.board.entries)
            raise DataError(f"No model of the portfolio could be fitted: {reasons}.")
        weights = self._weights()
        learner = self._ensemble(weights)
        self._fill(learner, weights)
        self.job.boards[self.fold or 0] = self.board
        return learner

    def _weights(self) -> dict[str, float]:
        """Of the members, within the limits that the user set."""
        chosen = select(
            {m.name: m.held_out for m in self.members},
            self.held_out.targets,
            self.metric,
            weight=self._weight,
        )
        limits: tuple[tuple[float | None, Callable[[Member], float]], ...] = (
            (self.portfolio.max_latency, self._row_ms),
            (self.portfolio.max_size, lambda member: member.size / 1e6),
        )
        kept = self.members
        for limit, cost in limits:
            if limit is None:
                continue
            chosen = dropped_until(
                {m.name: m.held_out for m in kept},
                self.held_out.targets,
                self.metric,
                costs={member.name: cost(member) for member in kept},
                limit=limit,
                weight=self._weight,
            )
            # What the next limit leaves keeps to this one too.
            kept = [member for member in kept if member.name in chosen]
        return chosen

    def _row_ms(self, member: Member) -> float:
        return _predict_ms(member.learners, self.held_out, 1)

    @property
    def _weight(self) -> np.ndarray | None:
        return self.data.weight_of(self.held_out)

    def _ensemble(self, weights: dict[str, float]) -> EnsembleLearner:
        chosen = [(m, weights.get(m.name, 0.0)) for m in self.members]
        objective = replace(self.data.objective, correction=None)
        return EnsembleLearner(
            self.data.front,
            objective,
            chosen,
            self.held_out.targets,
            self._weight,
            name=f"fold_{self.fold}" if self.fold else "kerastrain",
        )

    def _fill(self, learner: EnsembleLearner, weights: Mapping[str, float]) -> None:
        """The leaderboard: weights, speed, and what the ensemble reaches."""
        task = self.data.objective.task
        for member in self.members:
            self.board.update(
                member.name,
                weight=weights.get(member.name, 0.0),
                predict_ms=_predict_ms(member.learners, self.held_out),
            )
        scores = learner.validated(self.held_out)
        rows = {entry.model: entry for entry in self.board.entries}
        used = [rows[member.name] for member, _ in learner.members]
        self.board.add(
            Entry(
                "ensemble",
                validation=scores[primary(task)],
                weight=1.0,
                fit_s=sum(e.fit_s or 0.0 for e in rows.values()),
                predict_ms=sum(e.predict_ms or 0.0 for e in used),
                size_mb=sum(e.size_mb or 0.0 for e in used),
                folds=len(self.bags),
            )
        )

    def _try(self, place: int, candidate: Candidate) -> None:
        """Fit a candidate on every fold; one that fails is told of, not hidden."""
        each_s = self.left_s * candidate.share / len(self.bags)
        # Whatever the time, there has to be a model: the first that can be fitted.
        if self.members and each_s < candidate.least_s:
            self.board.add(
                Entry(
                    candidate.label,
                    f"skipped: {max(0.0, each_s):.1f} s a fit were left, and "
                    f"{candidate.least_s:g} are the least for it",
                )
            )
            return
        begun_s = time.monotonic()
        try:
            member = self._member(place, candidate)
        except Interrupted:
            raise
        except MissingExtra as error:
            self._tell(candidate, "skipped", error)
        except Exception as error:  # any library may fail in its own way
            self._tell(candidate, "failed", error)
        else:
            seconds = time.monotonic() - begun_s
            member = replace(member, seconds=seconds)
            self.members.append(member)
            self._score(member)

    def _tell(self, candidate: Candidate, what: str, error: Exception) -> None:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        self.board.add(Entry(candidate.label, f"{what}: {reason}"))
        warn(
            f"member_{what}",
            f"{candidate.label} is left out of the ensemble: {reason}",
            member=candidate.label,
        )

    def _score(self, member: Member) -> None:
        task, truth = self.data.objective.task, self.held_out.targets
        scores = score(task, truth, member.held_out, weight=self._weight)
        value = scores[primary(task)]
        self.board.add(
            Entry(
                member.name,
                "fitted",
                validation=value,
                fit_s=member.seconds,
                size_mb=member.size / 1e6,
                folds=member.num_folds,
            )
        )
        shown = "undefined" if value is None else f"{value:.4g}"
        self.job.progress.on_line(
            f"  {member.name}: {self.metric.title} {shown}, {member.seconds:.0f} s"
        )

    def _member(self, place: int, candidate: Candidate) -> Member:
        learners: list[Learner] = []
        held_out = self._nothing()
        # What all folds of it may take; each gets its part of what is left.
        end_s = time.monotonic() + self.left_s * candidate.share
        for number, bag in enumerate(self.bags):
            seconds = max(0.0, end_s - time.monotonic()) / (len(self.bags) - number)
            learner = self.first if place == number == 0 else None
            learner = learner or self._fitted(place, candidate, number, seconds)
            held_out[bag.places] = learner.predict(bag.validation)
            learners.append(learner)
        if not np.isfinite(held_out).all():
            raise DataError("some of its predictions are not finite")
        kept = bagged_learners(learners)
        return Member(candidate.label, kept, held_out, 0.0, len(learners))

    def _fitted(
        self, place: int, candidate: Candidate, number: int, seconds: float
    ) -> Learner:
        """A candidate on one fold, from 0."""
        bag = self.bags[number]
        model = ModelConfig(name=candidate.model, **candidate.options).checked()
        if is_unexportable(model):
            raise ConfigError(f"{model.name} is no Keras model and cannot be exported.")
        config = self.job.member_config(model, len(bag.train))
        inside = self.job.folder.checkpoints / self._inside(candidate.label)
        spot = self._spot(
            place, candidate.label, number, Settled(inside / "settled.json")
        )
        data = replace(self.data, train=bag.train, validation=bag.validation)
        limit = seconds if math.isfinite(seconds) else None
        return self.job.fit_one(data, config, spot, seconds=limit)

    def _nothing(self) -> np.ndarray:
        num_rows, labels = len(self.held_out), self.data.objective.labels
        return np.zeros((num_rows, len(labels)) if labels else num_rows, "float32")

    def _spot(self, place: int, label: str, number: int, settled: Settled) -> Spot:
        """Of one fold, from 0, of a candidate."""
        plain = re.sub(r"\W", "_", label)
        return Spot(
            f"{plain}_{number + 1}",
            f"{self._inside(label)}/{number + 1}",
            (self.fold or 0) * _SPOTS + place * _MOST_FOLDS + number + 1,
            number + 1,
            is_member=True,
            settled=settled,
        )

    def _inside(self, label: str) -> str:
        """Folder of a candidate under those of checkpoints and TensorBoard."""
        outer = "" if self.fold is None else f"fold_{self.fold}/"
        plain = re.sub(r"\W", "_", label)
        # Rows of another number of folds are other rows: a fit goes on with its own.
        return f"{outer}{plain}/of_{len(self.bags)}"


def _rest_s(limit: float) -> float:
    """Of a time limit, what evaluation, explanation, export and report take.

    The export is replayed in a process that loads TensorFlow, which takes 10 s.
    """
    return min(0.4 * limit, 15 + 0.1 * limit)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _predict_ms(
    learners: Sequence[Learner], rows: Rows, num_rows: int = _TIMED_ROWS
) -> float:
    """Milliseconds for so many rows, the least of three calls."""
    chunk = next(rows.at_most(num_rows).chunks())
    num_found = len(next(iter(chunk.values())))
    total = 0.0
    for learner in learners:
        took = []
        for _ in range(3):
            begun_s = time.perf_counter()
            learner.numeric(chunk, training=False)
            took.append(time.perf_counter() - begun_s)
        total += min(took)
    return total * 1e3 * num_rows / max(1, num_found)
