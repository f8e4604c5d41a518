"""Slices of the data on which the model is clearly worse than on the rest.

Many slices are looked at, so some look bad by chance: the share of those among all that
are reported is held at 5 % (Benjamini and Hochberg 1995).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats

from kerastrain.explaining.cells import Cells
from kerastrain.explaining.sample import HeldOut
from kerastrain.schema import Schema

__all__ = ["slices"]

LEAST_ROWS = 30
LEAST_SHARE = 0.01
LEAST_RATIO = 1.2  # of the mean losses: what is less nobody mends
FALSE_SHARE = 0.05
NUM_BINS, NUM_PAIR_BINS = 8, 4
MAX_CATEGORIES = 50
MAX_SHOWN = 10
Array = np.ndarray


@dataclass(frozen=True)
class _Slice:
    """Rows that fulfil conditions.

    Args:
        conditions: column name and what it has to be, as `("age", "25 to 30")`.
    """

    conditions: tuple[tuple[str, str], ...]
    rows: Array


def slices(
    rows: HeldOut,
    schema: Schema,
    loss: Array,
    *,
    expected: Array | None = None,
    wrong: Array | None = None,
    top: list[str] | None = None,
) -> dict[str, Any]:
    """Values and ranges of single columns, and of a pair, with a clearly larger loss.

    Args:
        loss: of each row, `(rows,)`.
        expected: loss of each row, `(rows,)`, that the model's own probabilities make
            likely: where it is as large, a slice is hard and the model knows it.
        wrong: whether the label is wrong, `(rows,)`, told beside.
        top: names of the two columns of which pairs are looked at.

    Returns:
        `num_tested`, `mean` loss of all rows, `found`: `conditions`, `num_rows`, the
        mean `loss` inside and in the `rest`, the 95 % interval of their difference
        (`low`, `high`), `p` as corrected, and of classes `expected`, `wrong` and
        `wrong_rest`; the largest difference first.
    """
    weight = np.ones(len(rows)) if rows.weight is None else rows.weight
    least = max(LEAST_ROWS, LEAST_SHARE * len(rows))
    tested, results = [], []
    for one in _candidates(rows, schema, top or []):
        count = int(one.rows.sum())
        if least <= count <= len(rows) - least:
            tested.append(one)
            results.append(_compared(loss, one.rows, weight))
    found = _clear(tested, results)
    kept = _without_parts_of(found)[:MAX_SHOWN]
    for one, item in kept:
        for name, values in (("expected", expected), ("wrong", wrong)):
            if values is not None:
                item[name] = _mean(values[one.rows], weight[one.rows])[0]
        if wrong is not None:
            item["wrong_rest"] = _mean(wrong[~one.rows], weight[~one.rows])[0]
    return {
        "num_tested": len(tested),
        "num_rows": len(rows),
        "mean": float(np.average(loss, weights=weight)) if len(rows) else None,
        "found": [item for _, item in kept],
    }


def _candidates(rows: HeldOut, schema: Schema, top: list[str]) -> Iterator[_Slice]:
    cells = {c.name: Cells(c, rows.raw[c.input]) for c in schema.features}
    for one_column in cells.values():
        yield from _bins(one_column, NUM_BINS)
    if len(top) >= 2:
        for one in _bins(cells[top[0]], NUM_PAIR_BINS):
            for other in _bins(cells[top[1]], NUM_PAIR_BINS):
                conditions = one.conditions + other.conditions
                yield _Slice(conditions, one.rows & other.rows)


def _bins(cells: Cells, num_bins: int) -> Iterator[_Slice]:
    name = cells.column.name
    if cells.is_missing.any():
        yield _Slice(((name, "missing"),), cells.is_missing)
    made = _ranges(cells, num_bins) if cells.is_ordered else _values(cells)
    for text, rows in made:
        yield _Slice(((name, text),), rows)


def _values(cells: Cells) -> Iterator[tuple[str, Array]]:
    counts = Counter(text for text in cells.texts if text != "")
    for text, _ in counts.most_common(MAX_CATEGORIES):
        yield text, cells.texts == text


def _ranges(cells: Cells, num_bins: int) -> Iterator[tuple[str, Array]]:
    numbers = cells.numbers
    known = numbers[~np.isnan(numbers)]
    distinct = np.unique(known)
    if len(distinct) <= num_bins:
        for number in distinct:
            yield cells.number_text(number), numbers == number
        return
    # Lower edges, each a value of a row: equal values never fall into two ranges.
    shares = np.linspace(0, 1, num_bins + 1)[:-1]
    edges = np.unique(np.quantile(known, shares, method="higher"))
    texts = [cells.number_text(edge) for edge in edges]
    with np.errstate(invalid="ignore"):
        for i, low in enumerate(edges):
            if i + 1 == len(edges):
                yield f"{texts[i]} and above", numbers >= low
            else:
                rows = (numbers >= low) & (numbers < edges[i + 1])
                lead = "" if i == 0 else f"{texts[i]} to "
                yield f"{lead}below {texts[i + 1]}", rows


def _compared(loss: Array, inside: Array, weight: Array) -> dict[str, float]:
    """Welch's comparison of the means inside and outside, one-sided."""
    mean, error, count = _mean(loss[inside], weight[inside])
    rest, rest_error, rest_count = _mean(loss[~inside], weight[~inside])
    error = float(np.hypot(error, rest_error))
    difference = mean - rest
    if error == 0:
        p = 0.0 if difference > 0 else 1.0
    else:
        freedom = max(min(count, rest_count) - 1, 1)  # the smaller: never too sure
        p = float(scipy.stats.t.sf(difference / error, freedom))
    return {
        "loss": mean,
        "rest": rest,
        "low": difference - 1.96 * error,
        "high": difference + 1.96 * error,
        "p": p,
    }


def _mean(values: Array, weight: Array) -> tuple[float, float, float]:
    """Mean, its standard error, and of how many equal rows that is."""
    mean = float(np.average(values, weights=weight))
    count = float(weight.sum() ** 2 / (weight**2).sum())
    variance = float(np.average((values - mean) ** 2, weights=weight))
    return mean, (variance / max(count - 1, 1)) ** 0.5, count


def _clear(
    tested: list[_Slice], results: list[dict[str, float]]
) -> list[tuple[_Slice, dict[str, Any]]]:
    if not tested:
        return []
    corrected = scipy.stats.false_discovery_control([result["p"] for result in results])
    found = []
    for one, result, p in zip(tested, results, corrected, strict=True):
        if p < FALSE_SHARE and result["loss"] >= LEAST_RATIO * result["rest"]:
            head = {"conditions": one.conditions, "num_rows": int(one.rows.sum())}
            found.append((one, head | result | {"p": float(p)}))
    return sorted(found, key=lambda pair: pair[1]["rest"] - pair[1]["loss"])


def _without_parts_of(
    found: list[tuple[_Slice, dict[str, Any]]],
) -> list[tuple[_Slice, dict[str, Any]]]:
    """Without pairs that are hardly worse than one of their two conditions alone."""
    alone = {s.conditions[0]: i["loss"] for s, i in found if len(s.conditions) == 1}
    kept = []
    for one, item in found:
        larger = [alone[c] for c in one.conditions if c in alone]
        is_pair = len(one.conditions) > 1
        if not (is_pair and larger and item["loss"] < LEAST_RATIO * max(larger)):
            kept.append((one, item))
    return kept
