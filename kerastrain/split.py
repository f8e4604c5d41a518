"""Which rows are trained on, validated on and tested on: one function for each kind.

The side of a row goes by its content (or its group, time or part) and the seed, never
by its place: the same rows in another order, or read in other chunks, land on the same
sides. Equal rows stay together, because a copy of a train row in the test rows is no
test.
"""

from dataclasses import replace

import numpy as np

from kerastrain.arrays import pieces
from kerastrain.assign import by_content, fold_by_content, mix64, whole_groups
from kerastrain.config import SplitConfig
from kerastrain.errors import ConfigError, DataError, listing
from kerastrain.events import note, warn
from kerastrain.parts import DROPPED, TEST, TRAIN, VALIDATION, Keys, Parts
from kerastrain.splitevents import (
    check_sizes,
    tell_fallback,
    tell_group_shares,
    tell_missing_part,
    tell_time,
    tell_untested,
)
from kerastrain.splitrows import Splittable
from kerastrain.timesplit import parse_gap, time_codes, time_folds

__all__ = ["Keys", "Parts", "mix64", "split", "split_folds"]

_WORDS = {
    "train": TRAIN, "training": TRAIN,
    "validation": VALIDATION, "valid": VALIDATION, "val": VALIDATION,
    "dev": VALIDATION, "eval": VALIDATION,
    "test": TEST, "testing": TEST, "holdout": TEST,
}  # fmt: skip

Own = frozenset[str]
Shares = dict[str, float]


def split(
    strata: np.ndarray | None,
    present: np.ndarray,
    row_hashes: np.ndarray,
    config: SplitConfig,
    *,
    seed: int,
    keys: Keys | None = None,
    own: Own = frozenset(),
) -> Parts:
    """Rows of train, validation and test, in the shares that `config` asks for.

    Args:
        strata: int32 class of each row, shares hold within each; None for a regression.
        present: bool, False where the target is missing: such rows go to no part.
        row_hashes: uint64 hash of the whole row; equal rows have equal hashes.
        seed: of the run; a seed in `config` goes first.
        keys: what rows are split by beside their content.
        own: parts that lie in files of their own: none of it is taken from here.

    Shapes: all `(rows,)`.

    Raises:
        DataError: so few rows that a part with a share would be empty, or none.
        ConfigError: names of parts, or a gap, that mean nothing.
    """
    seed = seed if config.seed is None else config.seed
    table = Splittable.of(strata, present, row_hashes, keys)
    shares = {
        "validation": 0.0 if "validation" in own else config.validation,
        "test": 0.0 if "test" in own else config.test,
    }
    codes = _codes(table, config, shares, seed)
    parts = Parts.of(codes, seed, shares)
    named = config.column is not None
    check_sizes(parts, {} if named else shares, table.num_present)
    tell_untested(table, codes, has_test=shares["test"] > 0 and not named)
    return parts


def split_folds(
    strata: np.ndarray | None,
    present: np.ndarray,
    row_hashes: np.ndarray,
    config: SplitConfig,
    *,
    seed: int,
    keys: Keys | None = None,
    own: Own = frozenset(),
) -> list[Parts]:
    """The parts of each fit of a cross-validation: folds x repeats.

    The rows of a fold test its model; validation rows, which choose its epoch, are
    drawn from the others in the same way. With test rows of one's own the rows of a
    fold choose the epoch instead. Every row is tested once in each repeat; the first
    block of a time split never.

    Args and errors are those of `split`; `config.folds` is a number of 2 or above.
    """
    seed = seed if config.seed is None else config.seed
    table = Splittable.of(strata, present, row_hashes, keys)
    if config.repeats > 1 and (config.time or config.column):
        raise ConfigError(
            "split.repeats: the folds of a time or of a column are the same each time. "
            "Leave repeats out."
        )
    found = []
    for repeat in range(config.repeats):
        drawn = seed + repeat * 1_000_003
        found += _fold_codes(table, config, drawn, has_own_test="test" in own)
    shares = {"validation": config.validation, "test": 1 / int(config.folds)}
    parts = [Parts.of(codes, seed, shares) for codes in found]
    for number, one in enumerate(parts, start=1):
        sides = ["train", "validation"] + ([] if "test" in own else ["test"])
        for side in sides:
            if not len(getattr(one, side)):
                raise DataError(
                    f"Too few rows for {config.folds} folds: none is left for "
                    f"{side} in fold {number}. Give more rows, or ask for fewer folds "
                    "(--folds 2; --folds 1 is a single split)."
                )
    return parts


# --- one split --------------------------------------------------------------------


def _codes(
    table: Splittable, config: SplitConfig, shares: Shares, seed: int
) -> np.ndarray:
    """int8 part of each row, by the kind that `config` names."""
    if config.column is not None:
        return _column(table, config, shares, seed)
    if config.time is not None:
        return _time(table, config, shares)
    if config.group is not None:
        return _group(table, shares, seed)
    return _content(table, shares, seed)


def _content(table: Splittable, shares: Shares, seed: int) -> np.ndarray:
    """By the content of the rows, in each class."""
    codes, together = table.empty_codes(), []
    for rows in table.buckets(table.hashes):
        keys = mix64(table.hashes[rows], seed)
        codes[rows], num_distinct = by_content(keys, table.classes(rows), shares)
        together.append((num_distinct, len(rows)))
    tell_fallback(together)
    return codes


def _group(table: Splittable, shares: Shares, seed: int) -> np.ndarray:
    """Whole groups, with classes as even as they allow."""
    wanted = np.array(
        [
            1 - shares["validation"] - shares["test"],
            shares["validation"],
            shares["test"],
        ]
    )
    codes = _by_groups(table, wanted, seed, "parts")
    tell_group_shares(codes, wanted)
    return codes


def _by_groups(
    table: Splittable, shares: np.ndarray, seed: int, what: str
) -> np.ndarray:
    """int8 place in `shares` of each row; no group has two."""
    groups = _group_keys(table)
    codes, num_groups = table.empty_codes(), 0
    for rows in replace(table, strata=None).buckets(groups):
        names, place = np.unique(groups[rows], return_inverse=True)
        classes = table.classes(rows)
        cells = place * (int(classes.max()) + 1) + classes
        size = len(names) * (int(classes.max()) + 1)
        counts = np.bincount(cells, minlength=size).reshape(len(names), -1)
        codes[rows] = whole_groups(counts, mix64(names, seed), shares)[place]
        num_groups += len(names)
    if num_groups < np.count_nonzero(shares):
        raise DataError(
            f"There are {num_groups} groups, too few for {np.count_nonzero(shares)} "
            f"{what}. Give more groups, or split without --group."
        )
    return codes


def _group_keys(table: Splittable) -> np.ndarray:
    """uint64 of each row; a row without a group is a group of its own."""
    groups = table.keys.group
    assert groups is not None, "the ingest reads the column of the groups"
    keys, num_missing = np.empty(len(groups), np.uint64), 0
    for piece in pieces(len(groups), 1 << 20):
        part = np.asarray(groups[piece])
        keys[piece] = np.where(part == 0, table.hashes[piece], part)
        num_missing += int(((part == 0) & table.present[piece]).sum())
    if num_missing:
        warn(
            "missing_groups",
            f"{num_missing:,} rows have no group; each of them counts as a group of "
            "its own. Fill the group in if they belong together.",
            rows=num_missing,
        )
    return keys


def _time(table: Splittable, config: SplitConfig, shares: Shares) -> np.ndarray:
    """Train before validation before test."""
    times = _times(table)
    known = table.present & ~np.isnan(times)
    gap = parse_gap(config.gap)
    codes = table.empty_codes()
    codes[known] = time_codes(times[known], shares, gap)
    tell_time(table, known, codes, gap)
    return codes


def _times(table: Splittable) -> np.ndarray:
    assert table.keys.time is not None, "the ingest reads the time"
    return np.asarray(table.keys.time[:])


def _column(
    table: Splittable, config: SplitConfig, shares: Shares, seed: int
) -> np.ndarray:
    """As a column says; validation rows are drawn from train where it names none."""
    part, names = table.keys.part, table.keys.part_names
    assert part is not None, "the ingest reads the column of the parts"
    known = [_WORDS.get(name.strip().lower(), DROPPED) for name in names]
    unknown = [n for n, code in zip(names, known, strict=True) if n and code == DROPPED]
    if unknown:
        shown = listing((repr(name) for name in unknown), limit=5)
        raise DataError(
            f"Column '{config.column}' names parts that mean nothing: {shown}. "
            "Expected train, validation and test; or ask for folds (--folds 5), and "
            "each value is a fold."
        )
    codes = np.asarray(known + [DROPPED], np.int8)[np.asarray(part[:])]
    tell_missing_part(table, config, codes)
    codes[~table.present] = DROPPED
    if not (codes == TRAIN).any():
        raise DataError(
            f"Column '{config.column}' names no row with a target 'train': there is "
            "nothing to learn from."
        )
    if shares["validation"] and not (codes == VALIDATION).any():
        note(
            "validation_drawn",
            f"Column '{config.column}' names no validation rows; they are drawn from "
            "the train rows.",
        )
        inner = {"validation": shares["validation"], "test": 0.0}
        chosen = codes == TRAIN
        codes[chosen] = _content(table.within(chosen), inner, seed)[chosen]
    return codes


# --- folds ------------------------------------------------------------------------


def _fold_codes(
    table: Splittable, config: SplitConfig, seed: int, *, has_own_test: bool
) -> list[np.ndarray]:
    num_folds, inner = int(config.folds), {"validation": config.validation, "test": 0.0}
    if config.time is not None:
        times = _times(table)
        known = table.present & ~np.isnan(times)
        gap, found = parse_gap(config.gap), []
        for part in time_folds(times[known], num_folds, config.validation, gap):
            codes = table.empty_codes()
            codes[known] = _swapped(part) if has_own_test else part
            found.append(codes)
        return found
    folds = _folds(table, config, seed)
    found = []
    for fold in range(int(folds.max()) + 1):
        held_out = folds == fold
        others = table.within((folds >= 0) & ~held_out)
        if has_own_test:
            codes = np.where(others.present, TRAIN, DROPPED).astype(np.int8)
            codes[held_out] = VALIDATION
        else:
            codes = (
                _group(others, inner, seed)
                if config.group is not None
                else _content(others, inner, seed)
            )
            codes[held_out] = TEST
        found.append(codes)
    return found


def _swapped(codes: np.ndarray) -> np.ndarray:
    """The rows of the fold choose the epoch; those that would have are trained on."""
    order = {TRAIN: TRAIN, VALIDATION: TRAIN, TEST: VALIDATION, DROPPED: DROPPED}
    return np.array([order[code] for code in range(4)], np.int8)[codes]


def _folds(table: Splittable, config: SplitConfig, seed: int) -> np.ndarray:
    """int8 fold of each row, -1 for none."""
    num_folds = int(config.folds)
    if config.column is not None:
        return _folds_of_column(table, config)
    if config.group is not None:
        shares = np.full(num_folds, 1 / num_folds)
        folds = _by_groups(table, shares, seed, "folds")
        return np.where(table.present, folds, -1).astype(np.int8)
    folds, together = np.full(len(table.present), -1, np.int8), []
    for rows in table.buckets(table.hashes):
        keys = mix64(table.hashes[rows], seed)
        folds[rows], num_distinct = fold_by_content(
            keys, table.classes(rows), num_folds
        )
        together.append((num_distinct, len(rows)))
    tell_fallback(together)
    return folds


def _folds_of_column(table: Splittable, config: SplitConfig) -> np.ndarray:
    part, names = table.keys.part, table.keys.part_names
    assert part is not None, "the ingest reads the column of the parts"
    values = sorted(name for name in names if name)
    if not 2 <= len(values) <= 100:
        raise DataError(
            f"Column '{config.column}' has {len(values)} values; 2 to 100 can be folds."
        )
    places = {name: i for i, name in enumerate(values)}
    by_name = np.array([*(places.get(n, -1) for n in names), -1], np.int8)
    folds = by_name[np.asarray(part[:])]
    tell_missing_part(table, config, np.where(folds < 0, DROPPED, folds))
    return np.where(table.present, folds, -1).astype(np.int8)
