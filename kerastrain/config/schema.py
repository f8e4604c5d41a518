"""JSON Schema of a configuration, so that editors complete and check it."""

import inspect
from typing import Any

from pydantic import BaseModel

from kerastrain import config
from kerastrain.columns import COLUMNS
from kerastrain.optimizers import OPTIMIZER_OPTIONS, OPTIMIZERS
from kerastrain.registry import argument_docs

__all__ = ["config_schema"]

# Parts that may be a plain text, and the key it then stands for.
_PLAIN = {
    "AverageConfig": "name",
    "CheckpointConfig": "every",
    "ColumnConfig": "type",
    "ImbalanceConfig": "method",
    "OptimizerConfig": "name",
}


def config_schema() -> dict[str, Any]:
    """JSON Schema of RunConfig, with the options of each name of each table."""
    schema = config.RunConfig.model_json_schema()
    schema["title"] = "kerastrain run"
    _tidy(schema, config.RunConfig)
    for name, part in schema["$defs"].items():
        kind = getattr(config, name)
        if issubclass(kind, config.Named):
            schema["$defs"][name] = _named_part(kind)
        else:
            _tidy(part, kind)
            if name in _PLAIN:
                plain = part["properties"][_PLAIN[name]]
                schema["$defs"][name] = {"anyOf": [plain, part]}
    _complete_optimizer(schema["$defs"]["OptimizerConfig"])
    _complete_column(schema["$defs"]["ColumnConfig"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _tidy(schema: dict[str, Any], kind: type[BaseModel]) -> None:
    """Descriptions from the docstring, without pydantic's titles."""
    doc = inspect.getdoc(kind) or ""
    schema["description"] = doc.partition("\n\n")[0].replace("\n", " ")
    texts = argument_docs(doc)
    for name, field in schema["properties"].items():
        field.pop("title", None)
        if name in texts:
            field["description"] = texts[name]


def _named_part(kind: type[config.Named]) -> dict[str, Any]:
    """A name of the table, or an object with the options of that name."""
    table = kind.registry()
    default = kind.model_fields["name"].default
    names = [default] if default not in table else []
    names += list(table)
    own = {"type": "string", "pattern": ":", "description": "module:object of yours"}
    choices: list[dict[str, Any]] = [{"enum": names}, own]
    for name in table:
        options = table.option_schema(name)
        required = options["required"] + (["name"] if name != default else [])
        choices.append(
            {
                "type": "object",
                "description": table.describe(name),
                "properties": {"name": {"const": name}, **options["properties"]},
                "required": required,
                "additionalProperties": False,
            }
        )
    for name in {default} - set(table):  # "auto": the options of what it finds
        choices.append({"type": "object", "properties": {"name": {"const": name}}})
    choices.append(
        {"type": "object", "properties": {"name": own}, "required": ["name"]}
    )
    return {
        "description": (kind.__doc__ or "").partition("\n")[0],
        "anyOf": choices,
    }


def _complete_optimizer(schema: dict[str, Any]) -> None:
    name, part = schema["anyOf"]
    name["enum"] = list(OPTIMIZERS)
    known = {key for keys in OPTIMIZER_OPTIONS.values() for key in keys}
    part["properties"] |= {key: {} for key in sorted(known)}
    part["additionalProperties"] = False


def _complete_column(schema: dict[str, Any]) -> None:
    types = {"enum": [*COLUMNS, None]}
    schema["anyOf"][0] = types
    schema["anyOf"][1]["properties"]["type"] |= types
