"""YAML as people write it: `yes` is a word, `1e-3` is a number, a key stands once."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from kerastrain.errors import ConfigError

__all__ = ["load_config", "with_overrides", "with_values", "yaml_text"]


class _Loader(yaml.SafeLoader):
    """YAML 1.2's idea of plain words.

    PyYAML follows version 1.1, where `Yes` and `no`, common labels, are booleans,
    `2024-01-31` is a date, `1:30` is 90, `010` is 8 and `1e-3` is a text.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ConfigError(f"the key '{key}' stands there twice")
        return super().construct_mapping(node, deep=deep)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf)",
        list("-+0123456789."),
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first
    )


def load_config(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, not yet checked; ConfigError when it is none."""
    try:
        data = _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError, ConfigError) as error:
        text = " ".join(str(error).split())
        raise ConfigError(f"{path} is not a valid configuration: {text}.") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected keys such as 'data' and 'target'.")
    return data


def yaml_text(data: dict[str, Any]) -> str:
    """YAML that `load_config` reads back as equal data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Quotes what any reader, of YAML 1.1 or 1.2, could take for another type."""

    yaml_implicit_resolvers = {
        first: yaml.SafeDumper.yaml_implicit_resolvers.get(first, [])
        + _Loader.yaml_implicit_resolvers.get(first, [])
        for first in (
            yaml.SafeDumper.yaml_implicit_resolvers.keys()
            | _Loader.yaml_implicit_resolvers.keys()
        )
    }


def with_overrides(data: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """`data` with each `"path.to.key=value"` set; values are read as YAML.

    >>> with_overrides({"model": "mlp"}, ["model.dropout=0.2"])
    {'model': {'name': 'mlp', 'dropout': 0.2}}
    """
    pairs = []
    for text in overrides:
        path, equals, value = text.partition("=")
        if not equals or not all(key.strip() for key in path.split(".")):
            raise ConfigError(
                f"--set {text}: expected path=value, as model.dropout=0.2."
            )
        pairs.append((path, _value(text, value)))
    return with_values(data, pairs)


def with_values(
    data: dict[str, Any], values: Iterable[tuple[str, Any]]
) -> dict[str, Any]:
    """`data` with the value of each path set.

    A new name takes the options of the old one away.

    >>> data = {"model": {"name": "mlp", "dropout": 0.2}}
    >>> with_values(data, [("model.name", "linear")])
    {'model': {'name': 'linear'}}
    """
    result = _copy(data)
    for path, value in values:
        *parents, last = (key.strip() for key in path.split("."))
        node = _node(result, parents)
        if last == "name" and node.get("name") != value:
            node.clear()
        node[last] = value
    return result


def _node(data: dict[str, Any], parents: list[str]) -> dict[str, Any]:
    """The mapping at a path; what is missing on the way is made."""
    for depth, key in enumerate(parents, start=1):
        child = data.get(key)
        if isinstance(child, str):
            child = {"name": child}
        elif child is None:
            child = {}
        elif not isinstance(child, dict):
            place = ".".join(parents[:depth])
            raise ConfigError(f"{place} is {child!r} and has no keys: set it whole.")
        data[key] = child
        data = child
    return data


def _value(text: str, value: str) -> Any:
    if value in ("|", ">"):  # to YAML the begin of a text of several lines
        return value
    try:
        return _parse(value)
    except (yaml.YAMLError, ConfigError) as error:
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise ConfigError(f"--set {text}: {problem}.") from None


def _parse(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # derives from SafeLoader


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value
