"""Which kind of source reads something, told by names alone."""

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from kerastrain.errors import SourceError, listing
from kerastrain.events import note

__all__ = ["choose", "is_data", "kind_by_ending", "kind_in_memory"]

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
_COMPRESSIBLE = ("csv", "json", "tfrecord")  # the others are packed inside
IMAGES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
PREFIXES = {"tfds:": "tfds", "hf:": "huggingface"}
DATABASES = frozenset(
    ("sqlite", "postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle")
    + ("duckdb", "snowflake", "bigquery", "redshift", "trino", "presto", "databricks")
    + ("clickhouse", "cockroachdb", "db2", "hive", "teradatasql", "vertica")
)
_SHARD = re.compile(r"-\d+-of-\d+$")


def kind_in_memory(data: Any) -> str:
    """By the names of the classes: nothing is imported for it."""
    classes = [f"{c.__module__}.{c.__qualname__}" for c in type(data).__mro__]
    if any(name.startswith("datasets.") for name in classes):
        return "huggingface"  # before mappings: a DatasetDict is one
    is_tensors = any(
        name.startswith("tensorflow.") and name.endswith(".DatasetV2")
        for name in classes
    )
    return "tf_dataset" if is_tensors else "frame"


def kind_by_ending(path: PurePath, *, shown: str = "") -> str:
    """By the ending of the name, before that of a compression and of a shard."""
    name = _SHARD.sub("", path.name.lower())
    plain, dot, packing = name.rpartition(".")
    is_packed = f"{dot}{packing}" in COMPRESSIONS
    kind = ENDINGS.get(PurePath(plain if is_packed else name).suffix)
    if kind is None or (is_packed and kind not in _COMPRESSIBLE):
        hint = (
            f"A compressed {kind} file is unpacked first"
            if kind
            else f"Known endings: {', '.join(ENDINGS)}. Or name the source: "
            "--set source.name=csv"
        )
        raise SourceError(
            f"Cannot tell by its ending what kind of file {shown or path} is. {hint}."
        )
    return kind


def choose(names: Sequence[PurePath], folder: str) -> tuple[str, list[PurePath]]:
    """Kind, and the files of it, among the names of the files below a folder."""
    marked = _marked(names)
    if marked is not None:
        return marked, []
    found: dict[str, list[PurePath]] = {}
    for name in names:
        kind = _kind_in_folder(name)
        if kind is not None:
            found.setdefault(kind, []).append(name)
    if not found:
        endings = sorted({name.suffix or "no ending" for name in names})
        held = f"only files of {listing(endings, limit=8)}" if names else "no files"
        raise SourceError(
            f"The folder {folder} holds no data that is known: {held}. Name its "
            f"files: '{folder}/*.csv'."
        )
    kind = "parquet" if "parquet" in found else next(iter(found))
    others = [name for other, files in found.items() if other != kind for name in files]
    if others and kind != "parquet":
        shown = ", ".join(f"{len(files)} of {kind}" for kind, files in found.items())
        raise SourceError(
            f"The folder {folder} holds files of several kinds ({shown}). Name those "
            f"of one: '{folder}/*{found[kind][0].suffix}'."
        )
    if others:
        shown = listing(map(str, others), limit=5)
        note(
            "files_left_out",
            f"Of {folder} the Parquet files are read. Left out: {shown}.",
        )
    return kind, found[kind]


def _marked(names: Sequence[PurePath]) -> str | None:
    """The library whose files tell that it wrote the folder."""
    places: dict[str, set[PurePath]] = {}
    for name in names:
        places.setdefault(name.name, set()).add(name.parent)
    infos, top = places.get("dataset_info.json", set()), PurePath(".")
    states = infos & places.get("state.json", set())
    if top in states or top in places.get("dataset_dict.json", set()):
        return "huggingface"
    return "tfds" if infos & places.get("features.json", set()) else None


def _kind_in_folder(name: PurePath) -> str | None:
    is_in_class = len(name.parts) > 1
    suffix = name.suffix.lower()
    if suffix in IMAGES:
        return "image_folder" if is_in_class else None
    if suffix == ".txt" and is_in_class:
        return "text_folder"
    try:
        kind = kind_by_ending(name)
    except SourceError:
        return None
    return None if kind == "sql" else kind


def is_data(name: str) -> bool:
    """`_SUCCESS` and `.part-0.crc` are not; `_key=1` is a partition."""
    return not name.startswith(("_", ".")) or "=" in name
