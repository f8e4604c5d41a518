"""Options of the command line to the mapping that a configuration is made of."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kerastrain.config.file import load_config, with_overrides, with_values
from kerastrain.errors import ConfigError, listing

__all__ = ["of_new_data", "settings", "with_target"]


def settings(
    file: Path | None,
    named: Mapping[str, Any],
    columns: Iterable[str] = (),
    overrides: Iterable[str] = (),
) -> dict[str, Any]:
    """A configuration file, over it named options, over them `--set`.

    Args:
        file: YAML, or the folder of a run.
        named: path in the configuration to value; None is "not given", and a list is
            added to what the file has.
        columns: texts `name=type`.
        overrides: texts `path=value`.
    """
    data = load_config(file / "config.yaml" if file.is_dir() else file) if file else {}
    given = {path: value for path, value in named.items() if value not in (None, [])}
    for path in ("ignore", "keep"):
        if path in given and isinstance(data.get(path), list):
            given[path] = [*data[path], *given[path]]
    data = with_values(data, given.items())
    types = dict(_column_type(text) for text in columns)
    if types:
        data["columns"] = (data.get("columns") or {}) | types
    return with_overrides(data, overrides)


def of_new_data(
    where: str | None,
    query: str | None,
    part: str | None,
    overrides: Iterable[str] = (),
) -> dict[str, Any]:
    """Which new data a run reads, and how: what is given of `where` and `source`.

    Args:
        where: a condition in SQL.
        query: what to read from a data base.
        part: the part of a published data set.
        overrides: texts `source.option=value`.
    """
    data = with_overrides({}, overrides)
    others = [key for key in data if key != "source"]
    if others:
        raise ConfigError(
            f"--set {others[0]}: the run is trained. Only how the new data are read "
            "can be set, as source.sheet=May."
        )
    named = {"source.query": query, "source.split": part}
    given = [(path, value) for path, value in named.items() if value is not None]
    source = with_values(data, given).get("source")
    source = {"name": source} if isinstance(source, str) else source
    return {k: v for k, v in {"where": where, "source": source}.items() if v}


def _column_type(text: str) -> tuple[str, str]:
    name, equals, kind = text.rpartition("=")  # the name may hold "=" itself
    if not (name and equals and kind):
        raise ConfigError(
            f"--column {text}: expected NAME=TYPE, as --column zip=categorical."
        )
    return name, kind


def with_target(data: dict[str, Any]) -> dict[str, Any]:
    """`data` as it is; ConfigError when it names no data, or no target in them."""
    if not data.get("data"):
        raise ConfigError(
            "No data are named. Name a file: kerastrain train mydata.csv --target NAME."
        )
    if data.get("target") is None:
        from kerastrain.config import SourceConfig
        from kerastrain.source import open_source

        source = SourceConfig.model_validate(data.get("source") or {})
        names = open_source(data["data"], source).schema.names
        raise ConfigError(
            f"Which column is to be predicted? Name it with --target. "
            f"Columns: {listing(names, limit=50)}."
        )
    return data
