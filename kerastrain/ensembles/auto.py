"""`--model auto`: a portfolio of models in the time there is, and their ensemble."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import tensorflow as tf

from kerastrain.config import ModelConfig
from kerastrain.ensembles.bagging import bags_of
from kerastrain.ensembles.blending import dropped_until
from kerastrain.ensembles.ensemble import EnsembleLearner, Member
from kerastrain.ensembles.judge import Judge
from kerastrain.ensembles.portfolio import Portfolio, auto, deals_folds
from kerastrain.ensembles.race import Contestant, Race
from kerastrain.errors import DataError
from kerastrain.estimator_learner import bagged_learners
from kerastrain.evaluation import most_rows, score
from kerastrain.events import note
from kerastrain.fitting import Job, without_validation
from kerastrain.leaderboard import Entry, Leaderboard
from kerastrain.learner import Learner
from kerastrain.pipeline import Rows
from kerastrain.prepare import Prepared

__all__ = ["check_model", "learn", "leaderboard", "rank", "relearn"]

_TIMED_ROWS = 1_000


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
    """As the folds were, on all rows but validation rows, which weigh the members."""
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
    for name, values in learner.foresee(rows).items():
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
    """The portfolio on one set of rows, and the ensemble of it.

    Args:
        fold: of the cross-validation; None without one.
    """

    job: Job
    data: Prepared
    portfolio: Portfolio
    fold: int | None

    def __post_init__(self) -> None:
        data, job = _calibrated_once(self.data), self.job
        self.data = data
        self.judge = Judge(data)
        self.board = Leaderboard(self.judge.name, self.judge.metric.greater_is_better)
        num_rows = len(data.train) + len(data.validation)
        # Folds of a cross-validation are averaged in the end, which bags them already.
        deals = deals_folds(job.config, job.own) and self.fold is None
        pool, bags = bags_of(
            data.train,
            data.validation,
            data.objective.labels,
            self.portfolio.folds(num_rows) if deals else 1,
            job.config.seed,
        )
        rest = partial(_rest_s, num_columns=len(data.front.columns))
        seconds = job.seconds(self.portfolio.time_limit, rest=rest)
        candidates = self.portfolio.suited(data.objective.task, num_rows)
        self.race = Race(job, data, pool, bags, candidates, seconds, self.fold)

    def run(self) -> EnsembleLearner:
        """Fit what there is time for, and weigh it.

        Raises:
            DataError: not one model could be fitted.
        """
        everyone, done = self.race.run()
        if not any(one.learners for one in everyone):
            reasons = "; ".join(f"{one.name}: {one.status}" for one in everyone)
            raise DataError(f"No model of the portfolio could be fitted: {reasons}.")
        self._tell_folds(done)
        for one in everyone:
            self.board.add(self._entry(one, min(done, len(one.learners))))
        rows = self.race.rows(done)
        members = [_member(c, done) for c in everyone if len(c.learners) >= done]
        if self.portfolio.is_limited:  # the cost of one forest is not that of several
            members = [_merged(member) for member in members]
        weights = self._weights(members, rows)
        members = [_merged(m) if m.name in weights else m for m in members]
        learner = self._ensemble(members, weights, rows)
        self._fill(learner, weights, rows)
        self.job.boards[self.fold or 0] = self.board
        return learner

    def _tell_folds(self, done: int) -> None:
        num_folds = len(self.race.bags)
        if done < num_folds:
            note(
                "folds_reduced",
                f"The time was enough for all on {done} of {num_folds} folds; weights "
                "are chosen on the rows held out of these. For all folds: a longer "
                "--time-limit.",
                folds=done,
            )

    def _entry(self, one: Contestant, num_folds: int) -> Entry:
        """In the leaderboard; the score is on the rows of the folds that it has."""
        if not one.learners:
            return Entry(one.name, one.status)
        return Entry(
            one.name,
            weight=0.0,
            validation=self.judge.score(
                one.judged(num_folds), self.race.rows(num_folds)
            ),
            fit_s=sum(one.seconds),
            folds=len(one.learners),
        )

    def _weights(self, members: Sequence[Member], rows: Rows) -> dict[str, float]:
        """Of the members, within the limits that the user set."""
        if not self.portfolio.is_limited:
            predicted = {member.name: member.held_out for member in members}
            sizes = {member.name: float(member.size) for member in members}
            return self.judge.weights(predicted, rows, sizes)
        chosen: dict[str, float] = {}
        limits: tuple[tuple[float | None, str, Callable[[Member], float]], ...] = (
            (self.portfolio.max_latency, "ms", lambda m: _predict_ms(m, rows, 1)),
            (self.portfolio.max_size, "MB", lambda m: m.size / 1e6),
        )
        kept = list(members)
        for limit, unit, cost in limits:
            if limit is None:
                continue
            chosen = dropped_until(
                {m.name: m.held_out for m in kept},
                rows.targets,
                self.judge.metric,
                costs={member.name: cost(member) for member in kept},
                limit=limit,
                unit=unit,
                weight=self.judge.weight(rows),
            )
            # What the next limit leaves keeps to this one too.
            kept = [member for member in kept if member.name in chosen]
        return chosen

    def _ensemble(
        self, members: Sequence[Member], weights: Mapping[str, float], rows: Rows
    ) -> EnsembleLearner:
        return EnsembleLearner(
            self.data.front,
            replace(self.data.objective, correction=None),
            [(m, weights.get(m.name, 0.0)) for m in members],
            rows.targets,
            self.judge.weight(rows),
            name=f"fold_{self.fold}" if self.fold else "kerastrain",
        )

    def _fill(
        self, learner: EnsembleLearner, weights: Mapping[str, float], rows: Rows
    ) -> None:
        """The leaderboard: weights, speed, and what the ensemble reaches."""
        for member in learner.tried:
            self.board.update(
                member.name,
                weight=weights.get(member.name, 0.0),
                predict_ms=_predict_ms(member, rows),
                size_mb=member.size / 1e6,
            )
        entries = {entry.model: entry for entry in self.board.entries}
        used = [entries[member.name] for member, _ in learner.members]
        self.board.add(
            Entry(
                "ensemble",
                validation=learner.validated(rows)[self.board.metric],
                weight=1.0,
                fit_s=sum(e.fit_s or 0.0 for e in entries.values()),
                predict_ms=sum(e.predict_ms or 0.0 for e in used),
                size_mb=sum(e.size_mb or 0.0 for e in used),
                folds=max(e.folds or 1 for e in used),
            )
        )


def _calibrated_once(data: Prepared) -> Prepared:
    """Without a correction of each member that only fits it to validation rows: the
    ensemble is calibrated, and members that are not become one forest over the folds.
    """
    correction = data.objective.correction
    if correction is None or not correction.does_nothing:
        return data
    return replace(data, objective=replace(data.objective, correction=None))


def _member(one: Contestant, done: int) -> Member:
    seconds, num_folds = sum(one.seconds), len(one.learners)
    return Member(one.name, one.learners, one.judged(done), seconds, num_folds)


def _merged(member: Member) -> Member:
    """With the trees of all folds as one forest, which took 17 s for ten members."""
    return replace(member, learners=bagged_learners(member.learners))


def _rest_s(limit: float, num_columns: int) -> float:
    """Of a time limit, what evaluation, explanation, export and report take.

    The export is replayed in a process that loads TensorFlow, which takes 10 s; of a
    limit of 60 s on one core all of it took 13 to 20 s, of 80 columns 40 s; forests of
    many folds made it 25 to 60 s of 300.
    """
    return min(0.5 * limit, 12 + 0.12 * limit + 0.25 * num_columns)


def _predict_ms(member: Member, rows: Rows, num_rows: int = _TIMED_ROWS) -> float:
    """Milliseconds for so many rows, the least of three calls as a graph.

    Learners of all folds are alike, so one is timed.
    """
    chunk = next(rows.at_most(num_rows).chunks())
    num_found = len(next(iter(chunk.values())))
    numeric = member.learners[0].numeric
    asked = tf.function(lambda inputs: numeric(inputs, training=False))
    tensors = {name: tf.constant(values) for name, values in chunk.items()}
    asked(tensors)  # traces it
    took = []
    for _ in range(3):
        begun_s = time.perf_counter()
        asked(tensors)
        took.append(time.perf_counter() - begun_s)
    return min(took) * len(member.learners) * 1e3 * num_rows / max(1, num_found)
