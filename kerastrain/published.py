"""Published data sets: their addresses, their splits, and the words of a library."""

import contextlib
import logging
import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

from kerastrain.errors import SourceError, listing
from kerastrain.events import note

__all__ = ["chosen_split", "one_line", "parse_address", "quiet_logs"]


def parse_address(text: str, prefix: str) -> tuple[str, str | None]:
    """`"tfds:mnist?split=test"` -> `("mnist", "test")`.

    Raises:
        SourceError: anything but a split after the question mark.
    """
    name, _, query = text.removeprefix(prefix).partition("?")
    key, _, split = query.partition("=")
    if query and not (key == "split" and split):
        raise SourceError(
            f"'{text}': after the question mark only a split is known, as in "
            f"'{prefix}{name}?split=test'."
        )
    if not name:
        raise SourceError(f"'{text}' names no data set. Expected '{prefix}NAME'.")
    return name, unquote(split) or None


def chosen_split(wanted: str | None, splits: Iterable[str], where: str) -> str:
    """The split to read: the wanted one, the only one, or `train` with a note.

    Raises:
        SourceError: several splits, and none of them is called train.
    """
    names = list(splits)
    if wanted is not None:
        return "+".join(names) if wanted == "all" else wanted
    if len(names) == 1:
        return names[0]
    if "train" not in names:
        raise SourceError(
            f"{where} has the splits {listing(names)}. Choose one: --set "
            f"source.split={names[0] if names else 'NAME'}, or all of them with 'all'."
        )
    others = [name for name in names if name != "train"]
    note(
        "split_chosen",
        f"The split 'train' of {where} is read. It also has {listing(others)}: "
        "--set source.split=..., where 'all' is all of them.",
        splits=names,
    )
    return "train"


def one_line(error: BaseException, *, limit: int = 300) -> str:
    """What a library said, without its line breaks and its closing full stop."""
    text = str(error.args[0]) if isinstance(error, KeyError) else str(error)
    text = re.sub(r"\{\{.*?\}\}|\[\[.*?\]\]|\[Op:.*", "", text)  # TensorFlow's places
    text = " ".join(text.split()) or type(error).__name__
    text = text if len(text) <= limit else text[: limit - 3] + "..."
    return text.rstrip(".")


@contextlib.contextmanager
def quiet_logs(*names: str) -> Iterator[None]:
    """Of the named loggers only errors are heard: retries are told by the error."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
