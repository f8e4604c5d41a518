"""Which rows are trained on, validated on and tested on: one function for each kind.

The side of a row goes by its content (or its group, time or part) and the seed, never
by its place: the same rows in another order, or read in other chunks, land on the same
sides. Equal rows stay together, because a copy of a train row in the test rows is no
test.
"""

from collections.abc import Iterator

import numpy as np

from kerastrain.assign import by_content, fold_by_content, mix64
from kerastrain.config import SplitConfig
from kerastrain.errors import ConfigError, DataError, listing
from kerastrain.groupsplit import assign_groups
from kerastrain.parts import DROPPED, NAMES, TEST, TRAIN, VALIDATION, Keys, Parts
from kerastrain.splitevents import (
    check_sizes,
    tell_fallback,
    tell_gap,
    tell_group_shares,
    tell_missing_groups,
    tell_missing_parts,
    tell_missing_times,
    tell_own_part,
    tell_untested,
    tell_validation_drawn,
)
from kerastrain.splitrows import Splittable
from kerastrain.timesplit import Timeline, parse_gap, time_folds, time_spans

__all__ = ["Keys", "Parts", "mix64", "split", "split_folds"]

_WORDS = {
    "train": TRAIN, "training": TRAIN,
    "validation": VALIDATION, "valid": VALIDATION, "val": VALIDATION,
    "dev": VALIDATION, "eval": VALIDATION,
    "test": TEST, "testing": TEST, "holdout": TEST,
}  # fmt: skip
_MAX_COLUMN_FOLDS = 100

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
    if config.column is not None:
        codes = _column(table, config, shares, seed, own)
    elif config.time is not None:
        codes = _time(table, config, shares)
    elif config.group is not None:
        codes = _group(table, shares, seed)
    else:
        codes = _content(table, shares, seed)
    parts = Parts.of(codes, seed, shares)
    # A column may name no test rows; the best epoch is chosen on validation rows.
    needed = shares | ({"test": 0.0} if config.column is not None else {})
    check_sizes(parts, needed, table.num_present)
    is_by_content = not (config.column or config.time or config.group)
    tell_untested(table, codes, by_content=is_by_content)
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
    is_drawn = not own & {"validation", "test"}
    inner = {"validation": config.validation if is_drawn else 0.0, "test": 0.0}
    shares = {"validation": config.validation, "test": 1 / int(config.folds)}
    found = []
    for repeat in range(config.repeats):
        drawn = seed + repeat * 1_000_003
        for codes in _fold_codes(table, config, inner, drawn):
            if "test" in own:
                codes[codes == TEST] = VALIDATION
            found.append(Parts.of(codes, seed, shares))
    sides = {"train", "validation", "test"} - own
    _check_folds(found, len(found) // config.repeats, sides)
    return found


def _check_folds(found: list[Parts], num_folds: int, sides: set[str]) -> None:
    for number, parts in enumerate(found):
        for side in (name for name in NAMES if name in sides):
            if not len(getattr(parts, side)):
                raise DataError(
                    f"Too few rows for {num_folds} folds: none is left for {side} in "
                    f"fold {number % num_folds + 1}. Give more rows, or ask for fewer "
                    "folds (--folds 2; --folds 1 is a single split)."
                )


# --- one split --------------------------------------------------------------------


def _content(table: Splittable, shares: Shares, seed: int) -> np.ndarray:
    """By the content of the rows, in each class."""
    codes, together = table.empty_codes(), []
    for rows in table.buckets(table.content_keys):
        keys = mix64(table.content_keys(rows), seed)
        codes[rows], num_distinct = by_content(keys, table.classes(rows), shares)
        together.append((num_distinct, len(rows)))
    tell_fallback(table, together)
    return codes


def _group(table: Splittable, shares: Shares, seed: int) -> np.ndarray:
    """Whole groups, with classes as even as they allow."""
    tell_missing_groups(table)
    validation, test = shares["validation"], shares["test"]
    wanted = np.array([1 - validation - test, validation, test])
    parts = _by_groups(table, wanted, seed, "parts")
    tell_group_shares(table, parts, wanted)
    return np.where(parts < 0, DROPPED, parts).astype(np.int8)


def _by_groups(
    table: Splittable, shares: np.ndarray, seed: int, what: str
) -> np.ndarray:
    found, num_groups = assign_groups(table, shares, seed)
    num_parts = np.count_nonzero(shares)
    if num_groups < num_parts:
        raise DataError(
            f"There are {num_groups} groups, too few for {num_parts} {what}. Give more "
            "groups, or split without --group."
        )
    return found


def _time(table: Splittable, config: SplitConfig, shares: Shares) -> np.ndarray:
    """Train before validation before test."""
    line, gap = _timeline(table, config), parse_gap(config.gap)
    codes = line.codes(time_spans(line, shares, gap))
    num_between = line.num_rows - int(np.count_nonzero(codes != DROPPED))
    tell_gap(table, num_between, gap, in_folds=False)
    return codes


def _timeline(table: Splittable, config: SplitConfig) -> Timeline:
    times = table.keys.time
    assert times is not None, "the ingest reads the time"
    line = Timeline(times, table.present)
    if not line.num_rows:
        raise DataError(
            f"No row with a target has a time in '{config.time}'. Name another column "
            "for --time-column, or say how its dates are written: "
            f"--set columns.{config.time}.format=dmy"
        )
    tell_missing_times(table, line.num_rows)
    return line


def _column(
    table: Splittable, config: SplitConfig, shares: Shares, seed: int, own: Own
) -> np.ndarray:
    """As a column says; validation rows are drawn from train where it names none."""
    codes = _named_parts(table, config)
    for code in (VALIDATION, TEST):
        if NAMES[code] in own:
            tell_own_part(config.column, NAMES[code], int((codes == code).sum()))
            codes[codes == code] = DROPPED
    if not (codes == TRAIN).any():
        raise DataError(
            f"Column '{config.column}' names no row with a target 'train': there is "
            "nothing to learn from."
        )
    if shares["validation"] and not (codes == VALIDATION).any():
        tell_validation_drawn(config.column)
        inner = {"validation": shares["validation"], "test": 0.0}
        chosen = codes == TRAIN
        drawn = _content(table.within(chosen), inner, seed)
        np.copyto(codes, drawn, where=chosen)
    return codes


def _named_parts(table: Splittable, config: SplitConfig) -> np.ndarray:
    names = [name.strip() for name in table.keys.part_names]
    known = [_WORDS.get(name.lower(), DROPPED) for name in names]
    unknown = [n for n, code in zip(names, known, strict=True) if n and code == DROPPED]
    if unknown:
        shown = listing((repr(name) for name in unknown), limit=5)
        raise DataError(
            f"Column '{config.column}' names parts that mean nothing: {shown}. "
            "Expected train, validation and test; or ask for folds (--folds 5), and "
            "each value is a fold."
        )
    codes = table.by_part([*known, DROPPED])
    tell_missing_parts(table, config.column, codes)
    codes[~table.present] = DROPPED
    return codes


# --- folds ------------------------------------------------------------------------


def _fold_codes(
    table: Splittable, config: SplitConfig, inner: Shares, seed: int
) -> Iterator[np.ndarray]:
    """int8 part of each row in each fold, whose own rows are test."""
    if config.time is not None:
        yield from _time_folds(table, config, inner)
        return
    folds = _folds(table, config, seed)
    for fold in range(int(folds.max()) + 1):
        held_out = folds == fold
        others = table.within((folds >= 0) & ~held_out)
        if not inner["validation"]:
            codes = np.where(others.present, TRAIN, DROPPED).astype(np.int8)
        elif config.group is not None:
            codes = _group(others, inner, seed)
        else:
            codes = _content(others, inner, seed)
        codes[held_out] = TEST
        yield codes


def _time_folds(
    table: Splittable, config: SplitConfig, inner: Shares
) -> Iterator[np.ndarray]:
    line, gap, num_between = _timeline(table, config), parse_gap(config.gap), 0
    for spans in time_folds(line, int(config.folds), inner["validation"], gap):
        codes = line.codes(spans)
        if gap:
            num_earlier = line.around(spans[-1].end).num_before
            num_between += num_earlier - int(np.count_nonzero(codes != DROPPED))
        yield codes
    tell_gap(table, num_between, gap, in_folds=True)


def _folds(table: Splittable, config: SplitConfig, seed: int) -> np.ndarray:
    """Fold of each row, -1 for none."""
    if config.column is not None:
        return _folds_of_column(table, config)
    num_folds = int(config.folds)
    if config.group is not None:
        tell_missing_groups(table)
        shares = np.full(num_folds, 1 / num_folds)
        folds = _by_groups(table, shares, seed, "folds")
        tell_group_shares(table, folds, shares, in_folds=True)
        return folds
    folds = np.full(len(table.present), -1, np.min_scalar_type(-num_folds))
    together = []
    for rows in table.buckets(table.content_keys):
        keys, classes = mix64(table.content_keys(rows), seed), table.classes(rows)
        folds[rows], num_distinct = fold_by_content(keys, classes, num_folds)
        together.append((num_distinct, len(rows)))
    tell_fallback(table, together)
    return folds


def _folds_of_column(table: Splittable, config: SplitConfig) -> np.ndarray:
    names = [name.strip() for name in table.keys.part_names]
    places = table.by_part([*range(len(names)), -1])
    counts = np.bincount(places[table.present & (places >= 0)], minlength=len(names))
    values = sorted({n for n, num in zip(names, counts, strict=True) if n and num})
    if not 2 <= len(values) <= _MAX_COLUMN_FOLDS:
        raise DataError(
            f"Column '{config.column}' has {len(values)} values in rows with a target; "
            f"2 to {_MAX_COLUMN_FOLDS} can be folds."
        )
    fold_of = {name: i for i, name in enumerate(values)}
    folds = table.by_part([*(fold_of.get(name, -1) for name in names), -1])
    tell_missing_parts(table, config.column, np.where(folds < 0, DROPPED, TRAIN))
    folds[~table.present] = -1
    return folds
