"""What lies at an address: which files, and which kind of source reads them."""

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

from kerastrain.errors import SourceError, listing, suggest
from kerastrain.events import note
from kerastrain.kinds import (
    DATABASES,
    ENDINGS,
    PREFIXES,
    choose,
    is_data,
    kind_by_ending,
    kind_in_memory,
)
from kerastrain.remote import Found, address_of, copies, find_remote, is_remote
from kerastrain.secrets import hide_password

__all__ = ["files_fingerprint", "files_name", "find_files", "kind_of", "with_rows"]


def kind_of(data: Any) -> str:
    """Name in `SOURCES` of what reads `data`."""
    if not is_files(data):
        return kind_in_memory(data)
    kinds: dict[str, str] = {}
    for entry in _entries(data):
        kinds = _kinds(entry) | kinds
    if not kinds:
        raise SourceError("No data file is named.")
    if len(kinds) > 1:
        shown = ", ".join(f"{name} ({kind})" for kind, name in kinds.items())
        raise SourceError(f"Files of one table must be of one kind, got {shown}.")
    return next(iter(kinds))


def find_files(data: Any) -> list[Path]:
    """Paths for a path, a list of paths, a glob or a folder; remote ones are copied.

    Empty files among others are passed over with a note.

    Raises:
        SourceError: nothing there, or only what is empty.
    """
    if not is_files(data):
        raise SourceError(f"Expected a path or paths, got {type(data).__name__}.")
    found = [path for entry in _entries(data) for path in _expand(entry)]
    paths = list(dict.fromkeys(found))
    if not paths:
        raise SourceError("No data file is named.")
    sizes = [path.stat().st_size for path in paths]
    if not any(sizes):
        raise SourceError(f"{files_name(paths)} is empty.")
    return with_rows(paths, sizes)


def with_rows(paths: Sequence[Path], num_rows: Sequence[int]) -> list[Path]:
    """The files that have any; the others are told. Of none with rows, the first."""
    kept = [path for path, count in zip(paths, num_rows, strict=True) if count]
    kept = kept or [*paths[:1]]
    if len(kept) < len(paths):
        with_some = set(kept)
        empty = [path.name for path in paths if path not in with_some]
        shown = listing(empty, limit=10)
        note("empty_files", f"Files without rows are passed over: {shown}.")
    return kept


def files_name(paths: Sequence[Path]) -> str:
    """`"a.csv"`, or `"a.csv and 3 more"`."""
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return paths[0].name + more


def files_fingerprint(paths: Iterable[Path]) -> dict[str, Any]:
    """Path or remote address, size in bytes and SHA-256 of each file."""
    files = []
    for path in paths:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        files.append({"path": address_of(path), "bytes": size, "sha256": digest})
    return {"kind": "files", "files": files}


def is_files(data: Any) -> bool:
    """Whether `data` is an address, or a list of them."""
    if isinstance(data, str | os.PathLike):
        return True
    is_list = isinstance(data, list | tuple)
    return is_list and all(isinstance(item, str | os.PathLike) for item in data)


def _entries(data: Any) -> list[str]:
    entries = [data] if isinstance(data, str | os.PathLike) else list(data)
    return [os.fspath(entry).removeprefix("file://") for entry in entries]


def _kinds(text: str) -> dict[str, str]:
    """Kinds of the files that one entry names, each with a file of it."""
    scheme, mark, _ = text.partition("://")
    for prefix, kind in PREFIXES.items():
        if text.startswith(prefix) and not mark:
            return {kind: text}
    if mark:
        is_database = scheme.partition("+")[0].lower() in DATABASES
        if is_database or not is_remote(text):
            return {"sql": hide_password(text)}
        return _remote_kinds(text)
    before_options = PurePath(text.partition("?")[0])
    if "?" in text and ENDINGS.get(before_options.suffix.lower()) == "sql":
        return {"sql": text}  # shop.db?table=orders
    path = Path(text).expanduser()
    if path.is_dir():
        return {_of_folder(path)[0]: text}
    return {kind_by_ending(one): one.name for one in _expand(text)}


# --- folders ----------------------------------------------------------------------


def _of_folder(folder: Path) -> tuple[str, list[Path]]:
    """Kind and files of what a folder holds."""
    names = [Path(name) for name in _inside(folder)]
    kind, chosen = choose(names, str(folder))
    return kind, [folder / name for name in chosen]


def _inside(folder: Path) -> Iterator[str]:
    """Relative names of the files below a folder, sorted, without those of tools."""
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if is_data(name))
        for name in sorted(filter(is_data, names)):
            yield os.path.relpath(os.path.join(place, name), folder)


# --- one entry --------------------------------------------------------------------


def _expand(text: str) -> list[Path]:
    """The files that a path, a glob, a folder or a remote address names."""
    if is_remote(text):
        return _remote_files(text)
    path = Path(text).expanduser()
    if path.is_dir():
        return _of_folder(path)[1]
    if glob.has_magic(text) and not path.exists():
        return _matching(text, path)
    _check_file(path)
    return [path]


def _matching(text: str, pattern: Path) -> list[Path]:
    found = [Path(name) for name in sorted(glob.glob(str(pattern), recursive=True))]
    is_wanted = not is_data(pattern.name)  # they were asked for
    paths = [p for p in found if p.is_file() and (is_wanted or is_data(p.name))]
    if not paths and found:  # folders of partitions, as in data/year=20*
        paths = [path for one in found for path in _expand(str(one))]
    if not paths:
        raise SourceError(f"No file matches '{text}'.")
    for path in paths:
        _check_file(path)
    return paths


def _check_file(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise SourceError(
            f"{path} is a pipe or a device. Rows are read more than once: write them "
            "to a file first."
        )
    if not path.is_file():
        near = path.parent.iterdir() if path.parent.is_dir() else ()
        hint = suggest(path.name, [item.name for item in near])
        raise SourceError(f"There is no file {path}. {hint}".rstrip())
    try:
        path.open("rb").close()
    except OSError as error:
        raise SourceError(f"Cannot read {path}: {error.strerror}.") from None


def _remote_kinds(address: str) -> dict[str, str]:
    shown = hide_password(address)
    path = PurePath(address.partition("?")[0].partition("::")[0])
    if "*" not in address:
        try:
            return {kind_by_ending(path, shown=shown): shown}
        except SourceError:
            found = find_remote(address)
            if not found.root:
                raise
            return {_in_remote_folder(found)[0]: shown}
    names = _remote_names(find_remote(address))
    return {kind_by_ending(PurePath(name)): name for name in names}


def _remote_files(address: str) -> list[Path]:
    found = find_remote(address)
    names = _in_remote_folder(found)[1] if found.root else _remote_names(found)
    return copies(found, names)


def _remote_names(found: Found) -> list[str]:
    """What a remote address names, without the files of tools."""
    if len(found.sizes) == 1 and "*" not in found.shown:
        return list(found.sizes)
    names = [name for name in found.sizes if is_data(PurePath(name).name)]
    if not names:
        raise SourceError(f"No file matches '{found.shown}'.")
    return names


def _in_remote_folder(found: Found) -> tuple[str, list[str]]:
    names = [PurePath(os.path.relpath(name, found.root)) for name in found.sizes]
    data = [name for name in names if all(map(is_data, name.parts))]
    kind, chosen = choose(data, found.shown.rstrip("/"))
    return kind, [f"{found.root}/{name.as_posix()}" for name in chosen]
