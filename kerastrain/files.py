"""What lies at an address: which files, and which kind of source reads them."""

import glob
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from kerastrain.errors import SourceError, listing, suggest
from kerastrain.events import note
from kerastrain.remote import address_of, is_remote, local_copies
from kerastrain.secrets import hide_password

__all__ = ["files_fingerprint", "files_name", "find_files", "kind_of"]

ENDINGS = {
    ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".txt": "csv", ".data": "csv",
    ".parquet": "parquet", ".pq": "parquet",
    ".json": "json", ".jsonl": "json", ".ndjson": "json",
    ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow",
    ".xlsx": "excel", ".xlsm": "excel", ".xls": "excel", ".xlsb": "excel",
    ".ods": "excel",
    ".npz": "npz",
    ".tfrecord": "tfrecord", ".tfrecords": "tfrecord",
    ".duckdb": "sql", ".db": "sql", ".sqlite": "sql", ".sqlite3": "sql",
}  # fmt: skip
COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
IMAGES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
PREFIXES = {"tfds:": "tfds", "hf:": "huggingface"}
DATABASES = frozenset(
    ("sqlite", "postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle")
    + ("duckdb", "snowflake", "bigquery", "redshift", "trino", "presto", "databricks")
    + ("clickhouse", "cockroachdb", "db2", "hive", "teradatasql", "vertica")
)
# Files that tell what a folder holds.
MARKS = {
    "state.json": "huggingface",
    "dataset_dict.json": "huggingface",
    "features.json": "tfds",
}
_MOST_LOOKED_AT = 100_000


def kind_of(data: Any) -> str:
    """Name in `SOURCES` of what reads `data`."""
    if not is_files(data):
        return _kind_in_memory(data)
    entries = [data] if isinstance(data, str | os.PathLike) else list(data)
    kinds = {_kind_of_entry(os.fspath(entry)): os.fspath(entry) for entry in entries}
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
    paths = _named_files(data)
    empty = [path for path in paths if not path.stat().st_size]
    if len(empty) == len(paths):
        raise SourceError(f"{files_name(paths)} is empty.")
    if empty:
        shown = listing((path.name for path in empty), limit=10)
        note("empty_files", f"Files without rows are passed over: {shown}.")
    return [path for path in paths if path not in empty]


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


def _kind_in_memory(data: Any) -> str:
    """By the names of the classes: nothing is imported for it."""
    classes = [f"{c.__module__}.{c.__qualname__}" for c in type(data).__mro__]
    if any(name.startswith("datasets.") for name in classes):
        return "huggingface"  # before mappings: a DatasetDict is one
    is_tensor_set = any(
        name.startswith("tensorflow.") and name.endswith("DatasetV2")
        for name in classes
    )
    return "tf_dataset" if is_tensor_set else "frame"


def _kind_of_entry(text: str) -> str:
    for prefix, kind in PREFIXES.items():
        if text.startswith(prefix):
            return kind
    scheme = text.partition("://")[0].partition("+")[0].lower()
    if "://" in text and (scheme in DATABASES or not is_remote(text)):
        return "sql"
    if "://" in text:
        return kind_by_ending(Path(text.partition("?")[0]), shown=hide_password(text))
    path = Path(text).expanduser()
    if path.is_dir() and not glob.has_magic(text):
        return _kind_of_folder(path)
    kinds = {kind_by_ending(one) for one in _expand(text)}
    return next(iter(kinds)) if len(kinds) == 1 else kind_by_ending(path)


def kind_by_ending(path: Path, *, shown: str = "") -> str:
    """By the ending of the name, before that of a compression."""
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    kind = ENDINGS.get(plain.suffix.lower())
    if kind is None:
        raise SourceError(
            f"Cannot tell by its ending what kind of file {shown or path} is. Known "
            f"endings: {', '.join(ENDINGS)}. Or name the source: "
            "--set source.name=csv."
        )
    return kind


def _kind_of_folder(folder: Path) -> str:
    for mark, kind in MARKS.items():
        if any((place / mark).is_file() for place in (folder, *_folders(folder))):
            return kind
    found: dict[str, int] = {}
    for path in _inside(folder):
        held = _kind_in_folder(path, folder)
        if held is not None:
            found[held] = found.get(held, 0) + 1
    if not found:
        raise SourceError(
            f"The folder {folder} holds no data that is known. Name its files: "
            f"'{folder / '*.csv'}'."
        )
    if len(found) > 1 and "parquet" not in found:
        shown = ", ".join(f"{count} of {kind}" for kind, count in found.items())
        raise SourceError(
            f"The folder {folder} holds files of several kinds ({shown}). Name those "
            f"of one: '{folder / '*.csv'}'."
        )
    return "parquet" if "parquet" in found else next(iter(found))


def _kind_in_folder(path: Path, folder: Path) -> str | None:
    is_in_class = path.parent != folder
    suffix = path.suffix.lower()
    if suffix in IMAGES:
        return "image_folder" if is_in_class else None
    if suffix == ".txt" and is_in_class:
        return "text_folder"
    try:
        return kind_by_ending(path)
    except SourceError:
        return None


def _folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir()]


def _inside(folder: Path, *, limit: int = _MOST_LOOKED_AT) -> Iterable[Path]:
    """Files of a folder, sorted; names that begin with _ or . are not data."""
    count = 0
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if _is_data(name))
        for name in sorted(filter(_is_data, names)):
            yield Path(place) / name
            count += 1
            if count == limit:
                return


def _is_data(name: str) -> bool:
    return not name.startswith(("_", "."))


def _named_files(data: Any) -> list[Path]:
    if not is_files(data):
        raise SourceError(f"Expected a path or paths, got {type(data).__name__}.")
    entries = [data] if isinstance(data, str | os.PathLike) else list(data)
    paths = [path for entry in entries for path in _expand(os.fspath(entry))]
    if not paths:
        raise SourceError("No data file is named.")
    return list(dict.fromkeys(paths))


def _expand(text: str) -> list[Path]:
    if is_remote(text):
        return local_copies(text)
    path = Path(text).expanduser()
    if glob.has_magic(text) and not path.exists():
        found = sorted(glob.glob(str(path), recursive=True))
        paths = [Path(n) for n in found if Path(n).is_file() and _is_data(Path(n).name)]
        if not paths:
            raise SourceError(f"No file matches '{text}'.")
    elif path.is_dir():
        paths = _of_one_kind(path)
    else:
        paths = [path]
    for path in paths:
        _check_file(path)
    return paths


def _of_one_kind(folder: Path) -> list[Path]:
    """The files of a folder that the source reads which suits it."""
    kind = _kind_of_folder(folder)

    def suits(path: Path) -> bool:
        return _kind_in_folder(path, folder) == kind

    inside: Callable[[], Iterable[Path]] = lambda: _inside(folder, limit=10**7)  # noqa: E731
    return [path for path in inside() if suits(path)]


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
