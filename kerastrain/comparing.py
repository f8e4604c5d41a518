"""Which of two runs is better: their predictions of the same rows, compared in pairs.

Two models that see the same rows err in similar places, so the difference of their
scores is far surer than each score: `evaluation.compare` draws the rows of both
together.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kerastrain import evaluation
from kerastrain.errors import DataError
from kerastrain.paired import Pair, Side, common_target, kept_rows, predicted_rows

__all__ = ["LEAST_ROWS", "Compared", "compare"]

LEAST_ROWS = 30  # below them nearly no difference is beyond chance


@dataclass(frozen=True)
class Compared:
    """How two runs do on the same rows, and whether the difference is real.

    Args:
        run_a, run_b: their folders.
        rows: which rows, in words.
        num_rows: how many.
        metric: by which they are compared, the primary one of the task.
        a, b: its values; None where it is not defined.
        difference: by how much B is better, below 0 by how much it is worse, whatever
            the direction of the metric.
        low, high: 95 % interval of that.
        probability: share of bootstrap draws in which B is better.
        scores: every metric of both, `{metric: {"a": ..., "b": ...}}`.
        sentence: all this for a person.
    """

    run_a: str
    run_b: str
    rows: str
    num_rows: int
    metric: str
    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None
    probability: float | None
    scores: dict[str, dict[str, float | None]]
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return self.sentence


def compare(
    run_a: Any,
    run_b: Any,
    data: Any = None,
    *,
    max_bad_rows: float = 0.001,
    where: str | None = None,
    source: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Compared:
    """Whether one run is better than another, by a paired bootstrap on the same rows.

    Args:
        run_a, run_b: runs, or their folders.
        data: labelled rows that both predict, as `Run.evaluate` takes them. None takes
            the test rows that both have kept; where the splits differ, those that were
            test rows of both.
        max_bad_rows: of `data`, share of malformed lines to pass over.
        where: a condition in SQL for the rows of `data`.
        source: options of the source of `data`, such as `{"sheet": "May"}`.
        seed: of the bootstrap; the same gives the same digits.

    Raises:
        RunError: the runs predict different things, or share no rows.
        DataError: the rows are too few.

    >>> import kerastrain
    >>> kerastrain.compare("runs/first", "runs/second").sentence  # doctest: +SKIP
    'B is better: ROC AUC 0.848 against 0.841, +0.007 (95 % interval 0.002 to 0.012).'
    """
    sides = (Side.of(run_a), Side.of(run_b))
    target = common_target(*sides)
    if data is None:
        words, pair = "test rows of both", kept_rows(*sides, target)
    else:
        options: dict[str, Any] = {"max_bad_rows": max_bad_rows, "where": where}
        words = "rows that are given"
        pair = predicted_rows(*sides, data, options | {"source": source})
    if len(pair.y) < LEAST_ROWS:
        raise DataError(
            f"{len(pair.y)} {words} are too few to compare {sides[0]} with {sides[1]}: "
            f"at least {LEAST_ROWS} are needed. Name more labelled rows as data."
        )
    return _compared(sides, target.task, words, pair, seed)


def _compared(
    sides: tuple[Side, Side], task: str, words: str, pair: Pair, seed: int
) -> Compared:
    found = evaluation.compare(
        task, pair.y, pair.b, pair.a, weight=pair.weight, seed=seed
    )
    of_a, of_b = (
        evaluation.score(task, pair.y, p, weight=pair.weight, predicted=predicted)
        for p, predicted in zip(
            (pair.a, pair.b), pair.predicted or (None, None), strict=True
        )
    )
    return Compared(
        run_a=str(sides[0]),
        run_b=str(sides[1]),
        rows=words,
        num_rows=len(pair.y),
        metric=found["metric"],
        a=found["theirs"],
        b=found["ours"],
        difference=found["difference"],
        low=found["low"],
        high=found["high"],
        probability=found["probability_better"],
        scores={name: {"a": of_a[name], "b": of_b[name]} for name in of_a},
        sentence=_sentence(task, found),
    )


def _sentence(task: str, found: Mapping[str, Any]) -> str:
    """Of what `evaluation.compare` gave, B being ours."""
    metric = evaluation.METRICS[task][found["metric"]]
    gain, low, high = (found[key] for key in ("difference", "low", "high"))
    if gain is None or low is None:
        return f"No verdict: {metric.title} is not defined on these rows."
    values = {"B": found["ours"], "A": found["theirs"]}
    first, second = values if gain >= 0 else reversed(values)
    if gain < 0:  # told from the side of the one that is ahead
        gain, low, high = -gain, -high, -low
    digits = evaluation.num_decimals(values[first], low, high)
    one, other, size, start, end = (
        f"{value:,.{digits}f}"
        for value in (values[first], values[second], gain, low, high)
    )
    change = f"+{size}" if metric.greater_is_better else f"{size} lower"
    interval = f"95 % interval {start} to {end}"
    if low > 0:
        return (
            f"{first} is better: {metric.title} {one} against {other}, {change} "
            f"({interval})."
        )
    return (
        f"No clear difference: {metric.title} {one} ({first}) against {other} "
        f"({second}), {change} ({interval}, which includes 0)."
    )
