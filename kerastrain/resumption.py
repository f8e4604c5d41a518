"""Whose a run folder is: a new run's, one's that goes on, or another process's."""

import contextlib
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerastrain import __version__
from kerastrain.config import RunConfig, parse_config
from kerastrain.config.parts import given
from kerastrain.errors import ConfigError, Interrupted, RunError
from kerastrain.secrets import HIDDEN, hide_passwords
from kerastrain.store import RunFolder, read_json, write_json

__all__ = ["Claim", "claim", "going_on", "locked", "request_of"]


@dataclass(frozen=True)
class Claim:
    """A run folder for this process alone.

    Args:
        is_resumed: it holds a run that was begun with the same request.
    """

    folder: RunFolder
    is_resumed: bool

    def check_data(self, fingerprints: Mapping[str, Any]) -> None:
        """RunError when the data are not those that the run was begun with."""
        request = read_json(self.folder.request)
        found = hide_passwords(dict(fingerprints))
        before = request.get("data")
        if self.is_resumed and before is not None and _plain(before) != _plain(found):
            changed = [n for n in found if _plain(found[n]) != _plain(before.get(n))]
            raise RunError(
                f"The {' and '.join(changed) or 'data'} changed since the run in "
                f"{self.folder.path} was begun, so it cannot go on. Train again with "
                "another --out."
            )
        write_json(self.folder.request, request | {"data": found})

    def finish(self) -> None:
        """Mark the run as done, and remove what it would go on from."""
        request = read_json(self.folder.request)
        write_json(self.folder.request, request | {"is_finished": True})
        for state in self.folder.checkpoints.rglob("state"):
            shutil.rmtree(state, ignore_errors=True)


@contextlib.contextmanager
def claim(config: RunConfig, name: str, in_memory: list[str]) -> Iterator[Claim]:
    """The folder of a run, new or to go on in, locked until the block ends.

    A folder named by `config.out` goes on where it holds an unfinished run of the same
    request.

    Args:
        name: of the folder under `runs/` where `out` is not set.
        in_memory: parts of the data that are tables in memory.

    Raises:
        ConfigError: the folder holds a finished run, another one, or other files.
        RunError: another process works in it.
    """
    request = {
        "kerastrain": __version__,
        "config": hide_passwords(_asked(config)),
        # A recipe goes by what was set, so a run that goes on has to know that.
        "given": hide_passwords(given(config)),
        "in_memory": in_memory,
    }
    old = RunFolder(Path(config.out).expanduser()) if config.out else None
    if old is not None and old.request.is_file():
        with locked(old):
            if _is_same(old, request):
                shutil.rmtree(old.arrays, ignore_errors=True)
                old.remove_left_over()
                yield Claim(old, is_resumed=True)
                return
    folder = RunFolder.create(config.out, name=name)
    with locked(folder):
        write_json(folder.request, request)
        yield Claim(folder, is_resumed=False)


def _asked(config: RunConfig) -> dict[str, Any]:
    return config.model_dump(mode="json") | {"out": None}


def _plain(value: Any) -> Any:
    """As it reads back from a file; times of modification do not count."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if k != "modified"}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return (
        value
        if isinstance(value, bool | int | float | str) or value is None
        else (str(value))
    )


def _is_same(folder: RunFolder, request: Mapping[str, Any]) -> bool:
    """Whether an unfinished run there is of this request.

    One that has written nothing yet is not: it begins anew.
    """
    old = read_json(folder.request)
    if old.get("is_finished"):
        raise ConfigError(
            f"The run in {folder.path} is finished. Name another folder with --out, or "
            "delete it."
        )
    different = _differences(old["config"], _plain(request["config"]))
    if not different:
        return True
    if not folder.has_work:
        return False
    raise ConfigError(
        f"{folder.path} holds an unfinished run with other settings "
        f"({', '.join(different[:5])}). To go on with it: kerastrain train --resume "
        f"{folder.path}; else name another folder with --out."
    )


def _differences(a: Any, b: Any, path: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        names = dict.fromkeys([*a, *b])
        return [
            found
            for name in names
            for found in _differences(a.get(name), b.get(name), f"{path}.{name}")
        ]
    return [] if a == b else [path.lstrip(".")]


@contextlib.contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """RunError while another process holds it. The lock goes with the process, however
    that ends."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with folder.lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"Another process is training in {folder.path}. Wait for it, or name "
                "another folder with --out."
            ) from None
        try:
            yield
        finally:
            folder.lock.unlink(missing_ok=True)


def request_of(path: str, given: Collection[str] = ()) -> RunConfig:
    """The settings that the unfinished run in `path` was begun with.

    Args:
        given: parts of the data that are tables in memory, given once more.

    Raises:
        RunError: there is no such run, or not all of its settings are kept.
    """
    folder = RunFolder(path)
    if not folder.path.is_dir():
        raise RunError(f"There is no run folder {path}.")
    if not folder.request.is_file():
        raise RunError(
            f"{path} holds no run to go on with: it has no {folder.request.name}."
        )
    request = read_json(folder.request)
    if request.get("is_finished"):
        raise RunError(f"The run in {path} is finished: {folder.report}.")
    lacks = [name for name in request["in_memory"] if name not in given]
    if lacks:
        raise RunError(
            f"The run in {path} was begun with a table in memory ({', '.join(lacks)}). "
            f"Call kerastrain.train(table, resume={path!r})."
        )
    if HIDDEN in str(request["config"]):
        raise RunError(
            f"The password of the data is not kept in {path}. Give the command that it "
            "was begun with once more, or a password from the environment (${NAME})."
        )
    asked = request.get("given", request["config"])
    return parse_config({**asked, "out": str(path)}, where=path)


@contextlib.contextmanager
def going_on(folder: RunFolder) -> Iterator[None]:
    """Tells how to go on where the block is interrupted."""
    try:
        yield
    except Interrupted as stopped:
        in_memory = read_json(folder.request).get("in_memory")
        how = (
            f"call kerastrain.train(..., out={str(folder.path)!r}) again"
            if in_memory
            else f"kerastrain train --resume {folder.path}"
        )
        raise Interrupted(f"{stopped} To go on: {how}", stopped.signal_number) from None
