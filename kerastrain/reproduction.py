"""A run trained again from what it recorded, and which numbers come out otherwise."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kerastrain import environment
from kerastrain.config import RunConfig, parse_config
from kerastrain.config.file import load_config
from kerastrain.differences import (
    LOCATIONS,
    Difference,
    Values,
    differences,
    flat,
    values_of,
)
from kerastrain.errors import ConfigError, DataError
from kerastrain.events import note, recording
from kerastrain.files import is_files
from kerastrain.inputs import open_sources
from kerastrain.progress import Progress, make_progress
from kerastrain.run import run as train_again
from kerastrain.secrets import HIDDEN, hide_passwords
from kerastrain.serving import Run, load
from kerastrain.store import RunFolder, read_json

__all__ = ["Reproduction", "reproduce"]

# What of the surroundings may explain numbers that differ.
SURROUNDINGS = ("seed", "python", "platform", "packages", "cpu", "cores", "gpus")
_ADDRESSES = ("data", "validation", "test")
# Where `hide_password` puts its stars: behind a user name, or as a value in a query.
_HIDDEN = re.compile(rf"(?<=[:/=D]){re.escape(HIDDEN)}")


@dataclass(frozen=True)
class Reproduction:
    """What came of a run that was trained again.

    Attributes:
        run: the new one.
        num_values: how many values were compared.
        differences: of the data, the scores, the history, the weights, the split and
            the predictions on golden rows; none when the run repeats.
        environment: what changed around it, which may explain them.
    """

    run: Run
    num_values: int
    differences: list[Difference] = field(default_factory=list)
    environment: list[Difference] = field(default_factory=list)

    @property
    def is_same(self) -> bool:
        return not self.differences


def reproduce(
    run: Run | str | Path,
    *,
    data: Any = None,
    validation: Any = None,
    test: Any = None,
    out: str | Path | None = None,
    force: bool = False,
    progress: Progress | bool = True,
) -> Reproduction:
    """Train a run again from its folder and compare all numbers of the two.

    What a `config.yaml` names is imported and run, as for `train`: do this with runs
    of people that you trust.

    Args:
        run: a run, or its folder.
        data: the table of a run on a table in memory; or where the files lie now.
        validation: likewise, and so is `test`.
        out: folder of the new run; by default one under `runs/`.
        force: train although the data changed.
        progress: shown on stderr; False is silent.

    Raises:
        RunError: the folder is no finished run.
        DataError: the data are not those of the run.
        ConfigError: the data are not named, as those of a run on a table in memory.
    """
    folder = (run if isinstance(run, Run) else load(run)).folder
    recorded, surroundings = values_of(folder), read_json(folder.environment)
    before = surroundings.get("data") or {}  # fingerprints
    given = {"data": data, "validation": validation, "test": test}
    given = {name: value for name, value in given.items() if value is not None}
    config = _config(folder, given, out)
    frames = {name: value for name, value in given.items() if not is_files(value)}
    progress = make_progress(progress)
    with recording(listen=progress.on_event):
        _refuse_unnamed(config, frames, before, folder)
        changed = _changed_data(config, frames, before)
        if changed and not force:
            raise _data_changed(changed, folder)
        around = _changed_surroundings(config, surroundings)
        _tell(config, around)
        again = train_again(config, frames=frames, progress=progress)
    found, num_values = _compared(recorded, values_of(again.folder))
    return Reproduction(again, num_values, changed + found, around)


def _compared(
    recorded: dict[str, Values], now: dict[str, Values]
) -> tuple[list[Difference], int]:
    found = [
        d for file in recorded for d in differences(file, recorded[file], now[file])
    ]
    sizes = [np.size(v) for values in recorded.values() for v in values.values()]
    return found, sum(sizes)


def _config(
    folder: RunFolder, given: dict[str, Any], out: str | Path | None
) -> RunConfig:
    """The recorded configuration, for another folder."""
    mapping = load_config(folder.config)
    for name in _ADDRESSES:
        mapping[name] = _with_variables(mapping.get(name))
        if is_files(given.get(name)):
            mapping[name] = _addresses(given[name])
    mapping["out"] = None if out is None else str(out)
    return parse_config(mapping, where=str(folder.config))


def _addresses(value: Any) -> str | list[str]:
    return [str(v) for v in value] if isinstance(value, list | tuple) else str(value)


def _with_variables(address: Any) -> Any:
    """Variables for passwords that were not saved; what opens it says which to set.

    >>> _with_variables("postgresql://me:***@host/db?sslkey=***")
    'postgresql://me:${DB_PASSWORD}@host/db?sslkey=${DB_PASSWORD_2}'
    """
    if isinstance(address, list):
        return [_with_variables(one) for one in address]
    if not isinstance(address, str) or "://" not in address:
        return address
    first, *others = _HIDDEN.split(address)
    for count, text in enumerate(others, start=1):
        number = f"_{count}" if count > 1 else ""
        first += f"${{DB_PASSWORD{number}}}{text}"
    return first


def _refuse_unnamed(
    config: RunConfig, frames: dict[str, Any], recorded: Values, folder: RunFolder
) -> None:
    """ConfigError where the run read a table in memory that nobody gives now."""
    unnamed = [n for n in recorded if n not in frames and getattr(config, n) is None]
    if unnamed:
        given = ", ".join(f"{name}=frame" for name in unnamed)
        raise ConfigError(
            f"{folder.path} was trained on a table in memory, which a run does not "
            f"keep. In Python: kerastrain.reproduce({str(folder.path)!r}, {given})."
        )


def _changed_data(
    config: RunConfig, frames: dict[str, Any], recorded: Values
) -> list[Difference]:
    """What of the fingerprints is another; a file that only moved is the same."""
    sources = open_sources(config, frames).by_name
    now = hide_passwords({name: one.fingerprint() for name, one in sources.items()})
    paths = _paths(now) | _paths(recorded)
    found = differences(
        "data", flat(recorded, without=LOCATIONS), flat(now, without=LOCATIONS)
    )
    return [
        Difference("data", _named(d.name, paths), d.recorded, d.now, d.size)
        for d in found
    ]


def _paths(fingerprints: Values) -> dict[str, str]:
    """Paths of files by their place in the fingerprints."""
    return {
        f"{name}.files[{place}]": str(file["path"])
        for name, one in fingerprints.items()
        if one.get("kind") == "files"
        for place, file in enumerate(one["files"])
    }


def _named(place: str, paths: dict[str, str]) -> str:
    """`churn.csv: bytes` for `data.files[0].bytes`."""
    start, _, what = place.rpartition(".")
    return f"{paths[start]}: {what}" if start in paths else place


def _data_changed(changed: list[Difference], folder: RunFolder) -> DataError:
    told = "; ".join(
        f"{d.name} {_short(d.recorded)} then, {_short(d.now)} now" for d in changed[:6]
    )
    return DataError(
        f"The data are not those of {folder.path}: {told}. Put the old ones back, or "
        "train on these with --force (force=True) and see what differs."
    )


def _short(value: Any) -> str:
    text = f"{value:,.0f}" if isinstance(value, float) else str(value)
    return text if len(text) <= 20 else f"{text[:12]}..."


def _changed_surroundings(config: RunConfig, recorded: Values) -> list[Difference]:
    now = environment.describe(config.seed, {}, "")
    return differences("environment.json", _around(recorded), _around(now))


def _around(surroundings: Values) -> Values:
    found = flat({name: surroundings.get(name) for name in SURROUNDINGS})
    # Of the folder one works in, where layers and models of one's own may lie.
    return found | {"git commit": (surroundings.get("git") or {}).get("commit")}


def _tell(config: RunConfig, around: list[Difference]) -> None:
    """What may make numbers differ, before hours are spent on them."""
    if around:
        changes = "; ".join(f"{d.name} {d.recorded} then, {d.now} now" for d in around)
        note(
            "environment_changed",
            f"Since the run changed, and may explain numbers that differ: {changes}.",
            names=[d.name for d in around],
        )
    if not config.runtime.deterministic:
        note(
            "not_deterministic",
            "The run was not deterministic (runtime.deterministic: false), so some of "
            "its numbers may differ each time.",
        )
    if config.fit.time_limit is not None or config.model.name == "auto":
        note(
            "time_limit",
            "The run had a time limit (fit.time_limit, or that of model: auto) and may "
            "end after another number of steps, or of models, now.",
        )
