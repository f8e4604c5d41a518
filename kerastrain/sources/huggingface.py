"""Data sets of Hugging Face, from the Hub, its cache, a folder or memory."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from kerastrain.errors import SourceError
from kerastrain.flat import Flat, Special, digest, labels
from kerastrain.published import chosen_split, one_line, parse_address, quiet_logs
from kerastrain.source import Source

__all__ = ["HuggingFaceSource"]

PREFIX = "hf:"
HASHED_ROWS = 1024


class HuggingFaceSource(Source):
    """A Hugging Face data set: `hf:name`, a folder of `save_to_disk`, or an object.

    Rows are read from its memory-mapped Arrow files, in the order of the data set.
    Structs become columns `a.b`, images and recordings the bytes of their files.

    Args:
        data: `"hf:name"`, `"hf:name/config"`, either with `?split=test`; a folder; or
            a `Dataset` or `DatasetDict`.
        split: such as `train`, `train[:80%]`, `train+test` or `all`. By default the
            only one, or else `train`.
        revision: a branch, tag or commit of the data set on the Hub.
        label_names: read a class label as its name rather than its number.
        skip_nested: leave out columns that hold lists.
    """

    def __init__(
        self,
        data: Any,
        max_bad_rows: float = 0.0,
        *,
        split: str | None = None,
        revision: str | None = None,
        label_names: bool = True,
        skip_nested: bool = False,
    ):
        if isinstance(data, str) and not Path(data).is_dir():
            self.name, in_address = parse_address(data, PREFIX)
            split, loaded = in_address or split, _from_hub(self.name, revision)
        else:
            self.name, loaded = _from_here(data)
        self._data, self._split = _rows_of(loaded, split, self.name)
        self._revision = revision
        self._fingerprint: dict[str, Any] = {}
        self._flat = Flat(
            self._data.features.arrow_schema,
            self.name,
            skip_nested=skip_nested,
            special=dict(_specials(self._data.features, "", label_names)),
        )
        self.schema = self._flat.schema
        self.num_rows = self._data.num_rows

    def scan(
        self, columns: Sequence[str] | None = None, *, batch_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        names = self.checked_columns(columns)
        rows = self._data.select_columns(self._flat.sources(names))
        size = self._flat.rows_at_once(names, batch_rows)
        for table in rows.with_format("arrow").iter(batch_size=size):
            for batch in table.combine_chunks().to_batches():
                yield self._flat.batch(batch, names)

    def fingerprint(self) -> dict[str, Any]:
        if not self._fingerprint:
            info = self._data.info
            self._fingerprint = {
                "kind": "huggingface",
                "name": self.name,
                "config": info.config_name,
                "version": None if info.version is None else str(info.version),
                "revision": self._revision,
                "split": self._split,
                "rows": self.num_rows,
                "sha256": digest(self.schema, self.scan(batch_rows=HASHED_ROWS)),
            }
        return self._fingerprint


def _from_here(data: Any) -> tuple[str, Any]:
    """What messages call it, and the data set in memory or in a folder."""
    if isinstance(data, datasets.Dataset | datasets.DatasetDict):
        return "the data set", data
    if isinstance(data, datasets.IterableDataset | datasets.IterableDatasetDict):
        raise SourceError(
            "A streamed Hugging Face data set cannot be read again and again. Load it "
            "without streaming=True."
        )
    if not isinstance(data, str | Path):
        kind = type(data).__name__
        raise SourceError(f"Expected 'hf:NAME', a folder or a Dataset, got {kind}.")
    try:
        return Path(data).name, datasets.load_from_disk(str(data))
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise SourceError(
            f"{data} is not a whole data set of save_to_disk: {one_line(error)}."
        ) from error


def _from_hub(name: str, revision: str | None) -> Any:
    """From the Hub or, without a network, from the local cache.

    `a/b` may be the data set b of the user a or the configuration b of a.
    """
    user, _, rest = name.partition("/")
    dataset, _, config = rest.partition("/")
    ways = [(f"{user}/{dataset}" if dataset else user, config or None)]
    ways += [(user, dataset)] if dataset and not config else []
    ways.sort(key=lambda way: not _is_cached(way[0]))
    problem: Exception | None = None
    for path, chosen in ways:
        if isinstance(problem, ConnectionError) and not _is_cached(path):
            break  # each try takes 20 s without a network
        try:
            with _quiet():
                return datasets.load_dataset(path, chosen, revision=revision)
        except Exception as error:  # the loader raises errors of many libraries
            problem = problem or error
    assert problem is not None
    raise SourceError(
        f"Cannot load the Hugging Face data set '{name}': {one_line(problem)}. "
        "Check the name. Without a network, load it once where there is one and copy "
        "the cache (HF_HOME), or name a folder made by save_to_disk."
    ) from problem


def _is_cached(path: str) -> bool:
    folder = Path(datasets.config.HF_DATASETS_CACHE).expanduser()
    return (folder / path.replace("/", "___")).is_dir()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars and log lines."""
    had_bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with quiet_logs("datasets", "huggingface_hub"):
            yield
    finally:
        if had_bars:
            datasets.enable_progress_bars()


def _rows_of(loaded: Any, split: str | None, where: str) -> tuple[Any, str | None]:
    """The rows of the split, and what it is called."""
    if isinstance(loaded, datasets.Dataset):
        if split is None:
            return loaded, None if loaded.split is None else str(loaded.split)
        loaded = datasets.DatasetDict({str(loaded.split or "train"): loaded})
    chosen = chosen_split(split, loaded, where)
    sizes = {name: part.num_rows for name, part in loaded.items()}
    try:
        wanted = datasets.ReadInstruction.from_spec(chosen).to_absolute(sizes)
    except (ValueError, KeyError, AssertionError) as error:
        raise SourceError(
            f"Cannot read split '{chosen}' of {where}: {one_line(error)}."
        ) from error
    parts = []
    for one in wanted:
        start, stop = one.from_ or 0, one.to
        part = loaded[one.splitname]
        parts.append(part.select(range(start, part.num_rows if stop is None else stop)))
    return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts), chosen


def _specials(
    features: Mapping[str, Any], prefix: str, label_names: bool
) -> Iterator[tuple[str, Special]]:
    """Class labels and files, by the name of their flat column."""
    for name, feature in features.items():
        if isinstance(feature, dict):
            yield from _specials(feature, f"{prefix}{name}.", label_names)
        elif isinstance(feature, datasets.ClassLabel):
            if label_names and feature.names:
                yield prefix + name, labels(feature.names)
        elif hasattr(feature, "embed_storage"):
            yield prefix + name, Special(pa.binary(), _Embedded(feature))


class _Embedded:
    """Bytes of images and recordings, also of those that lie in files of their own."""

    def __init__(self, feature: Any):
        self._feature = feature

    def __call__(self, array: pa.Array) -> pa.Array:
        return pc.struct_field(self._feature.embed_storage(array), "bytes")
