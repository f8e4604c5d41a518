"""The model of a run, from its folder."""

from collections.abc import Sequence
from pathlib import Path

import keras

from kerastrain.chain import Savable, chained
from kerastrain.columns import COLUMNS
from kerastrain.errors import ConfigError, KerastrainError, RunError
from kerastrain.registered import register_all
from kerastrain.store import ModelParts, RunFolder

__all__ = ["check_exportable", "has_model", "load_model"]


def has_model(folder: RunFolder) -> bool:
    """Whether the run came to have one."""
    return folder.model.is_file() or folder.model_parts.is_dir()


def check_exportable(folder: RunFolder) -> None:
    """ConfigError for a run whose model is no Keras model."""
    if folder.model_parts.is_dir():
        raise ConfigError(
            f"The run in {folder.path} cannot be exported: its estimator, a class of "
            "your own, is no Keras model. For a file that leaves train a model of "
            "`kerastrain models` or `kerastrain estimators`."
        )


def load_model(folder: RunFolder, trusted: Sequence[str] = ()) -> keras.Model:
    """Raw columns to the decision.

    Args:
        trusted: types of an estimator of the user's own that may be imported and made.

    Raises:
        RunError: a file is missing or damaged, or holds a type that is not trusted.
    """
    # Keras looks classes up by registered name; importing registers ours.
    for name in COLUMNS:
        COLUMNS.load(name, trusted=False)
    register_all()
    if not folder.model_parts.is_dir():
        return _keras_model(folder.model)
    parts = ModelParts(folder.model_parts)
    estimator = _own(parts.estimator, trusted)
    return chained(_keras_model(parts.front), estimator, _keras_model(parts.decision))


def _keras_model(path: Path) -> keras.Model:
    try:
        return keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        text = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")
        raise RunError(
            f"Cannot load {path}: {text}. If the run used a network or layers of your "
            "own, import their module first."
        ) from error


def _own(path: Path, trusted: Sequence[str]) -> Savable:
    from kerastrain.estimators import own

    try:
        return own.load(path, trusted=trusted)
    except RunError as error:
        if error.__cause__ is not None:  # the file is damaged
            raise
        raise RunError(
            f"{error} That is an argument of kerastrain.load; on the command line: "
            "--trust TYPE, for each of them."
        ) from None
    except KerastrainError:
        raise
    except Exception as error:  # of the user's module
        text = str(error).partition("\n")[0].rstrip(".")
        raise RunError(
            f"Cannot load {path}: {text}. Its class has to be importable, as it was "
            "for training: go to that folder, or name it in PYTHONPATH."
        ) from error
