"""Parts in the order of time: cuts between different times, and gaps."""

import re
from itertools import pairwise

import numpy as np

from kerastrain.errors import ConfigError, DataError
from kerastrain.parts import DROPPED, TEST, TRAIN, VALIDATION

__all__ = ["parse_gap", "time_codes", "time_folds"]

_UNITS_S = {"": 1, "s": 1, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
# Cuts are placed by so many of the times; a share is then off by 0.001 at most.
_MAX_TIMES = 4_000_000


def parse_gap(gap: str | float | None) -> float:
    """Seconds, or the number itself for a time that is a number.

    >>> parse_gap("2h"), parse_gap(3), parse_gap(None)
    (7200.0, 3.0, 0.0)
    """
    if gap is None:
        return 0.0
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h|d|w)?\s*", str(gap))
    if match is None:
        raise ConfigError(
            "split.gap: expected a time such as 7d, 12h or 30min, or a number, got "
            f"{gap!r}."
        )
    return float(match[1]) * _UNITS_S[match[2] or ""]


def time_codes(times: np.ndarray, shares: dict[str, float], gap: float) -> np.ndarray:
    """Part of each row: train before validation before test, equal times together.

    What lies less than `gap` after the last row of an earlier part is in no part.

    Shapes: `(rows,)` float64 without NaN -> int8 `(rows,)`.

    Raises:
        DataError: a part with a share would be empty.
    """
    ordered = np.sort(times[:: -(-len(times) // _MAX_TIMES) or 1])
    validation, test = shares["validation"], shares["test"]
    sides = [(VALIDATION, 1 - validation - test, validation), (TEST, 1 - test, test)]
    codes = np.full(len(times), TRAIN, np.int8)
    least = -np.inf
    for part, place, share in sides:
        if not share:
            continue
        cut = _cut(ordered, place, least)
        before = times[times < cut]
        if np.isnan(cut) or not len(before):
            raise _too_few(part, ordered)
        last = before.max()
        codes[times >= cut] = part
        codes[(times >= cut) & (times < last + gap)] = DROPPED
        if not (codes == part).any():
            raise _too_few(part, ordered)
        least = cut
    return codes


def time_folds(
    times: np.ndarray, num_folds: int, validation: float, gap: float
) -> list[np.ndarray]:
    """Part of each row in each fold: a later block tests what came before it.

    Time is cut into `num_folds + 1` blocks of about equal size; fold i tests block
    i + 1 and trains on all blocks before it, the latest share of which validates.
    """
    ordered, cuts = np.sort(times[:: -(-len(times) // _MAX_TIMES) or 1]), [-np.inf]
    for number in range(1, num_folds + 1):
        cuts.append(_cut(ordered, number / (num_folds + 1), cuts[-1]))
    if np.isnan(cuts[1:]).any():
        raise DataError(
            f"The time has {len(np.unique(ordered)):,} different values, too few for "
            f"{num_folds} folds. Ask for fewer (--folds 2)."
        )
    found = []
    for start, end in pairwise([*cuts[1:], np.inf]):
        codes = np.full(len(times), DROPPED, np.int8)
        earlier = times < start
        last = times[earlier].max()
        shares = {"validation": validation, "test": 0.0}
        codes[earlier] = time_codes(times[earlier], shares, gap)
        codes[(times >= start) & (times < end) & (times >= last + gap)] = TEST
        found.append(codes)
    return found


def _cut(ordered: np.ndarray, place: float, least: float) -> float:
    """The time above `least` nearest to `place` where a new time begins; else NaN."""
    index = min(round(place * len(ordered)), len(ordered) - 1)
    value = ordered[index]
    left = np.searchsorted(ordered, value, side="left")
    right = np.searchsorted(ordered, value, side="right")
    near = [left, right] if index - left <= right - index else [right, left]
    near.append(np.searchsorted(ordered, least, side="right"))
    for start in near:
        if 0 < start < len(ordered) and ordered[start] > least:
            return float(ordered[start])
    return float("nan")


def _too_few(part: int, ordered: np.ndarray) -> DataError:
    name = {VALIDATION: "validation", TEST: "test"}[part]
    return DataError(
        f"A split by time leaves no row for {name}: there are "
        f"{len(np.unique(ordered)):,} different times from {ordered[0]:g} to "
        f"{ordered[-1]:g}. Ask for another share or a smaller gap, or split without "
        "--time-column."
    )
