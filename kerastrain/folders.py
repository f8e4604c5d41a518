"""Folders of files by class: `folder/cat/1.jpg` is a row of the class `cat`."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from kerastrain.errors import SourceError, listing, suggest
from kerastrain.events import note, warn
from kerastrain.source import Source

__all__ = ["ClassFile", "ClassFolder", "find_class_files", "leave_out_bad", "table"]

SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test", "testing")
BATCH_BYTES = 32 << 20
SHOWN = 10


@dataclass(frozen=True)
class ClassFile:
    """A file, its path inside the folder, and its class; None where it has none."""

    path: Path
    relative: str
    label: str | None


class ClassFolder(Source):
    """Files by class, of which a leaf says what they hold.

    Args:
        content: name and type of the column of their content.
        read: the content of a file.
    """

    def __init__(
        self,
        name: str,
        files: Sequence["ClassFile"],
        content: pa.Field,
        read: Callable[[Path], Any],
    ):
        self.name = name
        self._files = files
        self._read = read
        texts = [pa.field("path", pa.string()), pa.field("label", pa.string())]
        self.schema = pa.schema([content, *texts])
        self.num_rows = len(files)
        self._fingerprint: dict[str, Any] = {}

    def scan(
        self, columns: Sequence[str] | None = None, *, batch_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        names = self.checked_columns(columns)
        schema = pa.schema([self.schema.field(name) for name in names])
        return table(self._files, schema, self._read, batch_rows)

    def fingerprint(self) -> dict[str, Any]:
        self._fingerprint = self._fingerprint or _fingerprint(self.name, self._files)
        return self._fingerprint


def find_class_files(
    data: Any, endings: Sequence[str], split: str | None
) -> tuple[str, list[ClassFile]]:
    """What messages call the folder, and its files sorted by path.

    The class is the first folder on the way to a file. Where no folder holds files,
    those that lie directly in `data` have no class: there is something to predict on.

    Args:
        endings: of the files, in lower case; others are left out with a note.
        split: of folders train/, test/ and so on above the classes: the one to read.

    Raises:
        SourceError: no such folder, no files, or a split to choose.
    """
    folder = _folder(data)
    name = folder.resolve().name or str(folder)
    folders = _folders(folder)
    if split is not None:
        if split not in folders:
            raise SourceError(
                f"{folder} has no folder '{split}'. {suggest(split, folders)}"
                f"It has: {listing(folders) or 'no folders'}."
            )
        folder, name = folder / split, f"{name}/{split}"
        folders = _folders(folder)
    elif _are_splits(folder, folders):
        raise SourceError(
            f"{folder} holds the splits {listing(folders)}, not classes. Read one: "
            f"--set source.split={folders[0]}, or name its folder, "
            f"'{folder / folders[0]}', and another with --test."
        )
    files = _files(folder, folders, endings, name)
    if not files:
        raise SourceError(
            f"{folder} holds no files that end in {', '.join(endings)}. Expected one "
            f"folder for each class, such as '{folder / ('CLASS/FILE' + endings[0])}'."
        )
    return name, files


def _folder(data: Any) -> Path:
    if not isinstance(data, str | os.PathLike):
        raise SourceError(f"Expected a folder, got {type(data).__name__}.")
    folder = Path(data).expanduser()
    if not folder.is_dir():
        raise SourceError(f"There is no folder {folder}.")
    return folder


def _folders(folder: Path) -> list[str]:
    return sorted(e.name for e in folder.iterdir() if e.is_dir() and e.name[0] != ".")


def _are_splits(folder: Path, folders: list[str]) -> bool:
    """Nothing but train/, test/ and so on, each with folders of its own."""
    has_names = bool(folders) and all(name.lower() in SPLITS for name in folders)
    return has_names and all(_folders(folder / name) for name in folders)


def _files(
    folder: Path, folders: list[str], endings: Sequence[str], name: str
) -> list[ClassFile]:
    by_class = {label: _below(folder / label, endings) for label in folders}
    found = [
        ClassFile(path, path.relative_to(folder).as_posix(), label)
        for label, (paths, _) in by_class.items()
        for path in paths
    ]
    empty = [label for label, (paths, _) in by_class.items() if not paths]
    if empty and found:
        warn(
            "empty_classes",
            f"Classes of {name} without files: {listing(empty)}.",
            classes=empty,
        )
    direct = sorted(path for path in folder.iterdir() if _is_wanted(path, endings))
    others = [path for _, more in by_class.values() for path in more]
    if found:
        others += direct
    else:
        found = [ClassFile(path, path.name, None) for path in direct]
        if found:
            note("no_classes", f"{name} has no folders for classes: no label is known.")
    if others and found:
        _note_others(others, name)
    return found


def _below(folder: Path, endings: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """Files of the right endings below `folder`, and the others; no hidden ones."""
    found: list[Path] = []
    others: list[Path] = []
    for path in sorted(folder.rglob("*")):
        is_hidden = any(part[0] == "." for part in path.relative_to(folder).parts)
        if not is_hidden and path.is_file():
            (found if _is_wanted(path, endings) else others).append(path)
    return found, others


def _is_wanted(path: Path, endings: Sequence[str]) -> bool:
    is_hidden = path.name[0] == "."
    return path.suffix.lower() in endings and not is_hidden and path.is_file()


def _note_others(others: list[Path], name: str) -> None:
    shown = listing((path.name for path in others), limit=3)
    note(
        "files_left_out",
        f"{len(others):,} files of {name} are left out, for their ending or because "
        f"they lie in no folder of a class: {shown}.",
        count=len(others),
        first=[str(path) for path in others[:SHOWN]],
    )


def leave_out_bad(
    files: Sequence[ClassFile],
    problem: Callable[[Path], str | None],
    max_bad_rows: float,
    where: str,
) -> list[ClassFile]:
    """The files that have no problem; the others are named in a warning.

    Raises:
        SourceError: their share is above `max_bad_rows`.
    """
    good, bad = [], []
    for file in files:
        reason = _problem_of(file.path, problem)
        if reason is None:
            good.append(file)
        else:
            bad.append(f"{file.relative}: {reason}")
    if not bad:
        return good
    shown = "\n".join(f"  {line}" for line in bad[:SHOWN])
    share = f"{len(bad)} of {len(files)} files of {where} cannot be read"
    if len(bad) > max_bad_rows * len(files):
        raise SourceError(
            f"{share}, more than the {max_bad_rows:.2%} that may be. Mend them or "
            f"raise --max-bad-rows.\n{shown}"
        )
    warn(
        "bad_rows",
        f"{share} and left out:\n{shown}",
        count=len(bad),
        first=bad[:SHOWN],
    )
    return good


def _problem_of(path: Path, problem: Callable[[Path], str | None]) -> str | None:
    try:
        return problem(path)
    except OSError as error:
        return error.strerror or str(error)


def table(
    files: Iterable[ClassFile],
    schema: pa.Schema,
    read: Callable[[Path], Any],
    batch_rows: int,
) -> Iterator[pa.RecordBatch]:
    """Batches of the columns of `schema`, of 32 MB of content or one file.

    Args:
        read: content of a file, for the column that is neither `path` nor `label`.
    """
    rows: list[ClassFile] = []
    contents: list[Any] = []
    has_content = bool({*schema.names} - {"path", "label"})
    size = 0
    for file in files:
        rows.append(file)
        if has_content:
            contents.append(_content(file, read))
            size += len(contents[-1])
        if len(rows) >= batch_rows or size >= BATCH_BYTES:
            yield _batch(rows, contents, schema)
            rows, contents, size = [], [], 0
    if rows:
        yield _batch(rows, contents, schema)


def _content(file: ClassFile, read: Callable[[Path], Any]) -> Any:
    try:
        return read(file.path)
    except (OSError, UnicodeError) as error:
        raise SourceError(
            f"Cannot read {file.path}, which could be read before: {error}."
        ) from error


def _batch(
    rows: list[ClassFile], contents: list[Any], schema: pa.Schema
) -> pa.RecordBatch:
    columns = {
        "path": [file.relative for file in rows],
        "label": [file.label for file in rows],
    }
    arrays = [pa.array(columns.get(f.name, contents), f.type) for f in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _fingerprint(folder: str, files: Sequence[ClassFile]) -> dict[str, Any]:
    """Number and size of the files, and one hash over their paths and contents."""
    whole, size = hashlib.sha256(), 0
    for file in files:
        with file.path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
            size += opened.tell()
        whole.update(f"{file.relative}\0{digest}\n".encode())
    return {
        "kind": "folder",
        "folder": folder,
        "files": len(files),
        "bytes": size,
        "sha256": whole.hexdigest(),
    }
