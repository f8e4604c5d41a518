"""The commands `config show` and `config schema`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

__all__ = ["register"]

PLACEHOLDER = "TARGET"


def register(app: typer.Typer) -> None:
    config = typer.Typer(help="Show the configuration of a run, or its JSON Schema.")
    config.command(epilog="Example: kerastrain config show > run.yaml")(show)
    config.command(epilog="Example: kerastrain config schema > run.schema.json")(schema)
    app.add_typer(
        config, name="config", epilog="Example: kerastrain config show runs/churn"
    )


def show(
    file: Annotated[
        Path | None, Argument(help="A YAML file, or the folder of a run.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        Option("--set", metavar="PATH=VALUE", help="A setting of it (repeat)."),
    ] = None,
) -> None:
    """Print a configuration in full, as YAML that `train --config` takes.

    Without a file it is the default one.
    """
    from kerastrain.cli.settings import settings
    from kerastrain.config import parse_config

    data = settings(file, {}, overrides=overrides or ())
    if data.get("target") is None:
        print(f"# {PLACEHOLDER} stands for the column to predict.")
        data["target"] = PLACEHOLDER
    where = str(file) if file else "configuration"
    print(parse_config(data, where=where).dumps(), end="")


def schema() -> None:
    """Print the JSON Schema of a configuration, for editors and programs.

    The first line `# yaml-language-server: $schema=run.schema.json` of a YAML file
    makes an editor complete it.
    """
    from kerastrain.config.schema import config_schema

    print(json.dumps(config_schema(), indent=1))
