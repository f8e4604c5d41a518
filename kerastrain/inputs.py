"""What a run reads: its data, rows of one's own, and the split of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerastrain.arrays import ArrayStore
from kerastrain.config import RunConfig, SplitConfig
from kerastrain.ensembles.portfolio import deals_folds
from kerastrain.errors import ConfigError, DataError
from kerastrain.events import note
from kerastrain.ingest import Table
from kerastrain.parts import first_rows
from kerastrain.profile import profile
from kerastrain.schema import Schema
from kerastrain.secrets import has_password
from kerastrain.source import Source, open_source
from kerastrain.split import Parts, split, split_folds

__all__ = ["Sources", "described", "draw", "open_sources", "profiled", "split_keys"]

# Below it one test part of 15 % has at most 150 rows: an accuracy of 0.8 measured on
# them has a 95 % interval of 13 points, and says little about the next model.
FEW_ROWS = 1_000
_LEAST_FOR_FOLDS = 50
_NUM_FOLDS = (5, 3)  # 3 where groups, times or classes are too few for 5
_OWN = ("validation", "test")


@dataclass(frozen=True)
class Sources:
    """The data, and rows of one's own, by name in the order in which they are read."""

    by_name: dict[str, Source]

    @property
    def data(self) -> Source:
        return self.by_name["data"]

    @property
    def all(self) -> list[Source]:
        return list(self.by_name.values())

    @property
    def own(self) -> frozenset[str]:
        """Parts that lie in files of their own."""
        return frozenset(self.by_name) - {"data"}


def open_sources(config: RunConfig, frames: dict[str, Any]) -> Sources:
    """Open what the configuration names; tables in memory stand for it."""
    data = frames.get("data", config.data)
    if data is None:
        raise ConfigError(
            "No data: name a file (train DATA, or `data:` in the configuration). A run "
            "on a table in memory is repeated by passing that table again."
        )
    _tell_password(config)
    named = {"data": data}
    named |= {name: frames.get(name, getattr(config, name)) for name in _OWN}
    return Sources(
        {
            name: open_source(
                one,
                config.source,
                max_bad_rows=config.max_bad_rows,
                **(_selection(config) if name == "data" else {}),
            )
            for name, one in named.items()
            if one is not None
        }
    )


def _tell_password(config: RunConfig) -> None:
    addresses = [config.data, config.validation, config.test]
    if any(has_password(str(address)) for address in addresses):
        note(
            "password_hidden",
            "A password in an address is used and not saved. To run again from "
            "config.yaml, put it in the environment and write its name in its place, "
            "as ${DB_PASSWORD}.",
        )


def split_keys(config: RunConfig) -> dict[str, str]:
    """Columns that the split goes by: `group`, `time` or `part` to its name."""
    split = config.split
    named = {"group": split.group, "time": split.time, "part": split.column}
    return {kind: name for kind, name in named.items() if name is not None}


def profiled(source: Source, config: RunConfig) -> Schema:
    """What the columns are, with all that the configuration says of them."""
    return profile(
        source,
        target=config.target,
        task=config.task,
        positive_label=config.positive_label,
        weight=config.weight,
        columns=config.columns,
        ignore=config.ignore,
        keep=config.keep,
        keys=split_keys(config),
    )


def _selection(config: RunConfig) -> dict[str, Any]:
    """Rows and columns that are read; what the run needs is read in any case."""
    chosen: dict[str, Any] = {}
    if config.where:
        chosen["where"] = config.where
    if config.select:
        needed = [config.target, config.weight, *split_keys(config).values()]
        names = [*config.select, *(name for name in needed if name)]
        chosen["select"] = list(dict.fromkeys(names))
    return chosen


def draw(
    table: Table,
    schema: Schema,
    config: RunConfig,
    own: frozenset[str],
    store: ArrayStore,
) -> tuple[RunConfig, list[Parts]]:
    """The parts of each fit, one or one a fold, and the configuration that says so.

    Rows of one's own lie behind the rows of the data, validation before test.
    """
    present, num_rows = table.has_target, table.num_rows_of[0]
    has_classes = schema.target is not None and schema.target.task != "regression"
    hashes = table.row_hashes(store)
    strata = table.target if has_classes else None
    classes = None if strata is None else first_rows(strata, num_rows)
    keys, seed = table.keys.first(num_rows), config.seed

    def drawn(chosen: SplitConfig) -> list[Parts]:
        rows = (classes, present[:num_rows], first_rows(hashes, num_rows))
        if chosen.folds == 1:
            return [split(*rows, chosen, seed=seed, keys=keys, own=own)]
        return split_folds(*rows, chosen, seed=seed, keys=keys, own=own)

    num_known = int(present[:num_rows].sum())
    # A portfolio deals folds of its own; rows of one's own test it without more.
    is_dealt = "test" in own and deals_folds(config, own)
    chosen, fits = _chosen(
        config.split, num_known, own, drawn, has_classes=has_classes, is_dealt=is_dealt
    )
    store.take_back(hashes)
    fits = [_with_own(parts, table, present, own, schema) for parts in fits]
    _tell_dropped(table, schema, present)
    config = config.model_copy(update={"split": chosen})
    return config, [parts.stored(store) for parts in fits]


def _chosen(
    config: SplitConfig,
    num_rows: int,
    own: frozenset[str],
    drawn: Callable[[SplitConfig], list[Parts]],
    *,
    has_classes: bool,
    is_dealt: bool,
) -> tuple[SplitConfig, list[Parts]]:
    """The split with its number of folds; ConfigError for folds beside validation."""
    if config.folds != "auto":
        if "validation" in own and config.folds > 1:
            raise ConfigError(
                "split.folds: each fold draws validation rows of its own. Leave "
                "--validation or --folds out."
            )
        return config, drawn(config)
    is_few = _LEAST_FOR_FOLDS <= num_rows < FEW_ROWS
    has_parts = "validation" in own or config.column or is_dealt
    for folds in _NUM_FOLDS if is_few and not has_parts else ():
        several = config.model_copy(update={"folds": folds})
        try:
            fits = drawn(several)
        except DataError:  # too few of something; whoever asks for folds is told
            continue
        _tell_folds(several, num_rows, own, has_classes=has_classes)
        return several, fits
    single = config.model_copy(update={"folds": 1})
    return single, drawn(single)


def _tell_folds(
    config: SplitConfig, num_rows: int, own: frozenset[str], *, has_classes: bool
) -> None:
    """Why a small table has folds, with what a single split would be worth."""
    num_tested = round(num_rows * (config.test or 0.15))
    if has_classes:  # 95 % of a normal distribution
        known = f"an accuracy of 80 % to ± {78.4 / math.sqrt(num_tested):.0f} points"
    else:  # of errors that are normal
        known = f"an RMSE to ± {138.6 / math.sqrt(num_tested):.0f} %"
    why = f"a single test part of {num_tested} would tell {known}"
    how = "and every row is tested once by one that never saw it"
    if config.time is not None:
        how = "each tested on the rows after those that it saw"
    if "test" in own:
        num_choosing = round(num_rows * config.validation)
        why = f"in a single split {num_choosing} of them would choose the epoch"
        how = "each with other rows that choose its epoch"
    note(
        "folds_chosen",
        f"{num_rows} rows with a target are few: {why}. So {config.folds} models are "
        f"trained, {how}. For a single split: --folds 1",
        folds=config.folds,
        rows=num_rows,
    )


def _with_own(
    parts: Parts,
    table: Table,
    present: np.ndarray,
    own: frozenset[str],
    schema: Schema,
) -> Parts:
    """With the rows of one's own that have a target."""
    first, others = table.num_rows_of[0], table.num_rows_of[1:]
    names = [name for name in _OWN if name in own]
    for name, num_rows in zip(names, others, strict=True):
        rows = first + np.flatnonzero(present[first : first + num_rows])
        if not len(rows):
            target = schema.target.name if schema.target else ""
            raise DataError(
                f"No {name} row has a known value in '{target}', so nothing can be "
                f"scored. Check that column of the {name} file, or leave --{name} out."
            )
        parts = parts.with_own(name, rows, table.num_rows)
        first += num_rows
    return parts


def _tell_dropped(table: Table, schema: Schema, present: np.ndarray) -> None:
    num_missing = table.num_rows - int(present.sum())
    if num_missing and schema.target is not None:
        note(
            "rows_without_target",
            f"{num_missing:,} of {table.num_rows:,} rows have no value in "
            f"'{schema.target.name}' and are left out.",
            rows=num_missing,
        )


def described(config: RunConfig, fits: list[Parts]) -> dict[str, Any]:
    """What kind of split it is, for `metrics.json`."""
    keys = split_keys(config)
    kind, column = next(iter(keys.items()), ("content", None))
    return {
        "kind": {"part": "column"}.get(kind, kind),
        "column": column,
        "gap": config.split.gap,
        "dropped": fits[-1].num_dropped,
        "hash": fits[0].hash,
    }
