"""Parts in the order of time: cuts between different times, and gaps."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from kerastrain.arrays import pieces
from kerastrain.errors import ConfigError, DataError
from kerastrain.parts import DROPPED, NAMES, TEST, TRAIN, VALIDATION

__all__ = ["Span", "Timeline", "parse_gap", "time_folds", "time_spans"]

_UNITS_S = {"": 1, "s": 1, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_CHUNK_ROWS = 1 << 20


class Span(NamedTuple):
    """From `start` to before `end` rows are in `part`."""

    part: int
    start: float
    end: float


class Around(NamedTuple):
    """What lies beside a time: rows before it and up to it, and the next times."""

    num_before: int
    num_upto: int
    last_before: float
    first_after: float


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


@dataclass(frozen=True, eq=False)
class Timeline:
    """Times of rows, asked piece by piece: a sorted copy of 30 million is 240 MB.

    Args:
        times: float64; rows of which it is not finite are in no part.
        present: bool, False for rows in no part.

    Shapes: `(rows,)` each.
    """

    times: np.ndarray
    present: np.ndarray

    def _known(self) -> Iterator[np.ndarray]:
        for piece in pieces(len(self.present), _CHUNK_ROWS):
            times = np.asarray(self.times[piece], "float64")
            yield times[self.present[piece] & np.isfinite(times)]

    @cached_property
    def num_rows(self) -> int:
        """Rows that have a time."""
        return sum(len(times) for times in self._known())

    def at(self, rank: int) -> float:
        """The time of a rank, from 0: its bits from the highest, 16 in a pass."""
        found = 0
        for shift in (48, 32, 16, 0):
            counts = np.zeros(1 << 16, np.int64)
            for times in self._known():
                bits = _sortable(times)
                if shift < 48:
                    bits = bits[bits >> np.uint64(shift + 16) == np.uint64(found)]
                digits = (bits >> np.uint64(shift)) & np.uint64(0xFFFF)
                counts += np.bincount(digits.astype(np.int64), minlength=1 << 16)
            ends = np.cumsum(counts)
            digit = int(np.searchsorted(ends, rank, side="right"))
            rank -= int(ends[digit] - counts[digit])
            found = found << 16 | digit
        return _time_of(found)

    def around(self, value: float) -> Around:
        num_before, num_upto, last, first = 0, 0, -np.inf, np.inf
        for times in self._known():
            before, after = times < value, times > value
            num_before += int(before.sum())
            num_upto += len(times) - int(after.sum())
            last = max(last, float(times.max(where=before, initial=-np.inf)))
            first = min(first, float(times.min(where=after, initial=np.inf)))
        return Around(num_before, num_upto, last, first)

    def codes(self, spans: list[Span]) -> np.ndarray:
        """int8 part of each row.

        Raises:
            DataError: a span holds no row.
        """
        codes = np.full(len(self.present), DROPPED, np.int8)
        for piece in pieces(len(codes), _CHUNK_ROWS):
            times, part = np.asarray(self.times[piece], "float64"), codes[piece]
            is_known = self.present[piece] & np.isfinite(times)
            for code, start, end in spans:
                part[is_known & (times >= start) & (times < end)] = code
        for code, *_ in spans:
            if not (codes == code).any():
                raise self.no_row(code)
        return codes

    def no_row(self, part: int) -> DataError:
        """The error for a part that would be empty."""
        is_one_time = self.at(0) == self.at(self.num_rows - 1)
        why = (
            f"all {self.num_rows:,} rows have the same time. Name another column for "
            "--time-column, or split without it."
            if is_one_time
            else "too many rows have the same time, or lie in the gap. Ask for another "
            "share or a smaller gap, or split without --time-column."
        )
        return DataError(f"A split by time leaves no row for {NAMES[part]}: {why}")


def time_spans(line: Timeline, shares: dict[str, float], gap: float) -> list[Span]:
    """Train before validation before test, equal times together.

    What lies less than `gap` after the last row of an earlier part is in no part.

    Raises:
        DataError: times to cut between are too few.
    """
    validation, test = shares["validation"], shares["test"]
    cuts = [(VALIDATION, 1 - validation - test), (TEST, 1 - test)]
    cuts = [(part, place) for part, place in cuts if shares[NAMES[part]]]
    return _spans(line, cuts, gap, np.inf, line.num_rows)


def time_folds(
    line: Timeline, num_folds: int, validation: float, gap: float
) -> Iterator[list[Span]]:
    """The spans of each fold: a later block tests what came before it.

    Time is cut into `num_folds + 1` blocks of about equal size; fold i tests block
    i + 1 and trains on all blocks before it, the latest share of which validates.
    """
    cuts = [-np.inf]
    for number in range(1, num_folds + 1):
        place = number / (num_folds + 1)
        cuts.append(_cut(line, place, line.num_rows, cuts[-1], np.inf))
    if np.isnan(cuts).any():
        raise DataError(
            f"The different times are too few for {num_folds} folds. Ask for fewer "
            "(--folds 2; --folds 1 is a single split)."
        )
    inner = [(VALIDATION, 1 - validation)] if validation else []
    for start, end in pairwise([*cuts[1:], np.inf]):
        beside = line.around(start)
        first = max(start, beside.last_before + gap)
        earlier = _spans(line, inner, gap, start, beside.num_before)
        yield [*earlier, Span(TEST, first, end)]


def _spans(
    line: Timeline, cuts: list[tuple[int, float]], gap: float, end: float, num_rows: int
) -> list[Span]:
    """Train and the parts after it, among the `num_rows` rows before `end`.

    Args:
        cuts: each later part, and the share of the rows that lies before it.
    """
    found, part, start, last_cut = [], TRAIN, -np.inf, -np.inf
    for later, place in cuts:
        cut = _cut(line, place, num_rows, last_cut, end)
        if np.isnan(cut):
            raise line.no_row(later)
        found.append(Span(part, start, cut))
        part, last_cut = later, cut
        start = max(cut, line.around(cut).last_before + gap)
    return [*found, Span(part, start, end)]


def _cut(
    line: Timeline, place: float, num_rows: int, least: float, end: float
) -> float:
    """The time nearest to `place` where a new time begins, above `least`; else NaN."""
    rank = min(round(place * num_rows), num_rows - 1)
    value = line.at(rank)
    beside = line.around(value)
    near = [value if beside.num_before else -np.inf, beside.first_after]
    if rank - beside.num_before > beside.num_upto - rank:
        near.reverse()
    if least > -np.inf:
        near.append(line.around(least).first_after)
    return next((time for time in near if least < time < end), float("nan"))


def _sortable(times: np.ndarray) -> np.ndarray:
    """uint64 in the order of the times; 0.0 makes one of -0.0 and 0.0."""
    bits = (times + 0.0).view(np.uint64)
    is_negative = (bits >> np.uint64(63)).astype(bool)
    return np.where(is_negative, ~bits, bits | np.uint64(1 << 63))


def _time_of(sortable: int) -> float:
    bits = sortable ^ (1 << 63) if sortable >> 63 else sortable ^ (2**64 - 1)
    return float(np.array([bits], np.uint64).view("float64")[0])
