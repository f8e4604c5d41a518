"""The scores of a cross-validation: means over folds, with intervals.

Not the scores of all rows together: models of different folds put their numbers on
different scales, and an AUC over all would count that as errors. Folds of a repeat
share no test row, so the interval of their mean follows from the intervals of each. It
is at least as wide as the folds differ: a fold with one positive row, drawn again and
again, gives an AUC with an interval of no width.
"""

import math
import statistics
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

from kerastrain import evaluation
from kerastrain.assessment import mean_and_spread
from kerastrain.evaluation import METRICS, Metric

__all__ = ["combined"]

# 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom; the last is used for
# more of them too, where it is at most a sixth too high.
_STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)


def combined(
    task: str, judged: Sequence[dict[str, Any]], num_once: int, *, has_keys: bool
) -> dict[str, Any]:
    """`test`, `verdict` and `baselines`, from the same of each fold.

    Args:
        judged: as `Tested.judged` gives them, one repeat after the other.
        num_once: folds of a repeat.
        has_keys: whether rows are split by group, time or part, so that rows of a fold
            are alike.
    """
    known, test = METRICS[task], mean_and_spread([_values(one) for one in judged])
    once = judged[:num_once]
    for name, cell in list(test.items()):
        half = _half_width([one["test"][name] for one in once], are_alike=has_keys)
        test[name] = cell | _interval(cell["value"], half, known[name])
    names = judged[0]["baselines"]
    baselines = {
        name: {
            metric: _mean([one["baselines"][name][metric] for one in judged])
            for metric in known
        }
        for name in names
    }
    verdicts = [one["verdict"] for one in judged]
    verdict = _verdict(task, verdicts, num_once, has_keys=has_keys)
    return {"test": test, "verdict": verdict, "baselines": baselines}


def _verdict(
    task: str, verdicts: Sequence[dict[str, Any]], num_once: int, *, has_keys: bool
) -> dict[str, Any]:
    """The mean difference from the linear baseline, which each fold has its own of."""
    once = verdicts[:num_once]
    half = _half_width(once, of="difference", are_alike=has_keys)
    numbers: dict[str, Any] = {
        key: _mean([one[key] for one in verdicts])
        for key in ("ours", "theirs", "difference")
    }
    gain = numbers["difference"]
    numbers |= {"low": None, "high": None, "probability_better": None}
    if gain is not None and half is not None:
        share = NormalDist(gain, max(half / 1.96, 1e-12)).cdf(0)
        numbers |= {"low": gain - half, "high": gain + half}
        numbers["probability_better"] = 1 - share
    verdict = verdicts[0] | numbers
    sentence = evaluation.verdict(task, verdict, baseline="linear")
    return verdict | {"sentence": sentence}


def _values(judged: dict[str, Any]) -> dict[str, float | None]:
    return {name: cell["value"] for name, cell in judged["test"].items()}


def _mean(values: Sequence[float | None]) -> float | None:
    """Of the folds for which there is a value."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _half_width(
    cells: Sequence[dict[str, Any]], *, of: str = "value", are_alike: bool
) -> float | None:
    """Half of the 95 % interval of a mean over folds, from the intervals of the folds.

    Args:
        are_alike: rows of a fold are, so what the folds tell as single numbers counts
            in full, by Student's t.
    """
    known = [cell for cell in cells if cell[of] is not None]
    if not known or any(cell["low"] is None for cell in known):
        return None
    num = len(known)
    half = math.hypot(*((cell["high"] - cell["low"]) / 2 for cell in known)) / num
    if num == 1:
        return half
    quantile = _STUDENT[min(num - 1, len(_STUDENT)) - 1] if are_alike else 1.96
    spread = statistics.stdev(cell[of] for cell in known)
    return max(half, quantile * spread / math.sqrt(num))


def _interval(
    value: float | None, half: float | None, metric: Metric
) -> dict[str, float | None]:
    if value is None or half is None:
        return {"low": None, "high": None}
    low, high = value - half, value + half
    if metric.greater_is_better:
        return {"low": low, "high": min(high, metric.best)}
    return {"low": max(low, metric.best), "high": high}
