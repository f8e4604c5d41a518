"""Columns that know the answer: alone, together, or by where they have gaps."""

import math
from collections.abc import Collection, Mapping

import numpy as np

from kerastrain.events import finding
from kerastrain.quality.functions import ignoring, named, warn_of_functions
from kerastrain.quality.sample import Sample
from kerastrain.quality.scores import single_column_scores
from kerastrain.schema import Target

__all__ = ["find_leaks"]

_MIN_ROWS = 50
_MIN_SCORE = 0.99
# A leak's error is at least this many times smaller than that of the best honest
# column; where more than half of the columns (and more than two) are nearly perfect
# the task is easy, not leaking.
_MIN_RATIO = 3.0
_MAX_LEAKS = 2
# A column that stands out: `duration` of the bank calls has 1.7 times less error than
# the next; in the sets of classes without a leak the most is 1.35 (titanic). Numbers
# often have one honest main cause: the hour of bike hire explains half, the distance of
# a taxi ride 0.86 of the fare.
_OUTSTANDING_SCORE = {"binary": 0.75, "multiclass": 0.5, "regression": 0.9}
_OUTSTANDING_RATIO = 1.5
# Gaps that tell a class: on so many rows, and so improbable by chance.
_MIN_GAP_ROWS = 30
_MAX_CHANCE = 1e-9
_MEASURE = {"binary": "AUC", "multiclass": "accuracy above chance", "regression": "R2"}


def find_leaks(sample: Sample) -> None:
    """Warn of columns that give the target away; note one that stands out."""
    if len(sample.y) < _MIN_ROWS:
        return
    scores = single_column_scores(sample)
    known = _warn_of_single(scores, sample.target)
    known |= warn_of_functions(sample, known)
    known |= _warn_of_gaps(sample, known)
    others = {name: score for name, score in scores.items() if name not in known}
    _note_outstanding(others, sample.target)


def _warn_of_single(scores: Mapping[str, float], target: Target) -> set[str]:
    leaks = {name for name, score in scores.items() if score >= _MIN_SCORE}
    if len(leaks) > max(_MAX_LEAKS, len(scores) / 2):
        return set()
    others = [score for name, score in scores.items() if name not in leaks]
    best = max(others, default=0.0)
    found = {n for n in leaks if 1 - best >= _MIN_RATIO * (1 - scores[n])}
    for name in sorted(found):
        finding(
            "possible_leak",
            f"Column '{name}' alone predicts '{target.name}' almost perfectly "
            f"({_MEASURE[target.task]} {scores[name]:.4f}; the best of the others "
            f"{best:.2f}). If it is known only afterwards, leave it out: "
            f"--ignore {name}",
            columns=[name],
            score=scores[name],
        )
    return found


def _note_outstanding(scores: Mapping[str, float], target: Target) -> None:
    """No leak by its score, but worth the question when it is known."""
    if len(scores) < 3:
        return
    (second, next_best), (first, best) = sorted(
        scores.items(), key=lambda item: item[1]
    )[-2:]
    chance = 0.5 if target.task == "binary" else 0.0
    ratio = (1 - max(next_best, chance)) / max(1 - best, 1e-9)
    if best < _OUTSTANDING_SCORE[target.task] or ratio < _OUTSTANDING_RATIO:
        return
    finding(
        "dominant_column",
        f"Column '{first}' alone tells far more about '{target.name}' than any other "
        f"({_MEASURE[target.task]} {best:.2f}; the next, '{second}', {next_best:.2f}). "
        f"Make sure that it is known before '{target.name}' is; otherwise leave it "
        f"out: --ignore {first}",
        columns=[first],
        severity="info",
        score=best,
    )


def _warn_of_gaps(sample: Sample, without: Collection[str]) -> set[str]:
    """Columns filled, or empty, in rows of one class only."""
    if sample.target.task == "regression":
        return set()
    found: dict[tuple[str, str], list[str]] = {}
    for name in (name for name in sample.inputs if name not in without):
        missing = sample.missing(name)
        for how, rows in (("filled", ~missing), ("empty", missing)):
            position = _only_class(sample.y, rows)
            if position is not None:
                label = sample.target.labels[position]
                found.setdefault((how, label), []).append(name)
    for (how, label), columns in found.items():
        finding(
            "gaps_tell_class",
            f"{named(columns)}: {how} only where '{sample.target.name}' is {label!r}. "
            "What is filled in afterwards gives the answer away. Leave it out: "
            f"{ignoring(columns)}",
            columns=columns,
            label=label,
        )
    return {name for names in found.values() for name in names}


def _only_class(y: np.ndarray, rows: np.ndarray) -> int | None:
    """The class of all `rows`, where chance would hardly have it so; bool `(rows,)`."""
    num_rows = int(rows.sum())
    if num_rows < _MIN_GAP_ROWS or num_rows == len(y):
        return None
    first = y[rows][0]
    share = float((y == first).mean())
    if (y[rows] != first).any() or share == 1:
        return None
    return int(first) if num_rows * math.log(share) < math.log(_MAX_CHANCE) else None
