"""What differs between two runs, number by number."""

import csv
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kerastrain.config.file import load_config
from kerastrain.errors import RunError
from kerastrain.estimators import ESTIMATORS
from kerastrain.store import RunFolder, json_text, read_json

__all__ = ["LOCATIONS", "Difference", "Values", "differences", "flat", "values_of"]

# All that is not compared stands here; whatever else a run writes into these files is.
MEASURED = ("_s", "_ms", "_mb", "_wait")  # endings of columns of history.csv
LOCATIONS = frozenset({"path", "folder", "address"})  # in fingerprints of the data
MISSING = "missing"

Values = dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """A value that is another one now; of an array, where it differs most.

    Args:
        file: of the run folder.
        name: as `test.accuracy.value`, or `layers/dense/vars/0[3, 1]`.
        recorded: in the first run; "missing" where it has none.
        now: in the second.
        size: how far numbers are apart; None for what are no numbers.
    """

    file: str
    name: str
    recorded: Any
    now: Any
    size: float | None = None


_TIMES = ("fit_s", "predict_ms")  # of a leaderboard; no clock repeats


def values_of(folder: RunFolder) -> dict[str, Values]:
    """All that a run has to repeat, by file and name: scalars, lists and arrays.

    Raises:
        RunError: a file of the run is missing or damaged.
    """
    # An estimator has no epochs, and one of the user's no Keras model.
    is_own = folder.model_parts.is_dir()
    lacks = {"model.keras"} if is_own else set()
    if is_own or _model_of(folder) in ("auto", *ESTIMATORS):
        lacks |= {"history.csv"}
    readers = {file: read for file, read in _READERS.items() if file not in lacks}
    return {file: _read(folder, file, read) for file, read in readers.items()}


def _model_of(folder: RunFolder) -> str:
    """Its name; empty where the configuration is gone, which is told elsewhere."""
    if not folder.config.is_file():
        return ""
    model = load_config(folder.config).get("model") or {}
    return model if isinstance(model, str) else str(model.get("name", ""))


def _read(folder: RunFolder, file: str, read: Callable[[RunFolder], Values]) -> Values:
    path = folder.path / file
    if not path.is_file():
        raise RunError(
            f"{path} is missing: the run was stopped before it was written, so there "
            "is nothing to compare with. Train again."
        )
    try:
        return read(folder)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        if isinstance(error, RunError):
            raise
        text = " ".join(str(error).split()).rstrip(".")
        raise RunError(f"{path} is damaged: {text}.") from error


def _metrics(folder: RunFolder) -> Values:
    values = flat(read_json(folder.metrics))
    return {k: v for k, v in values.items() if not k.endswith(_TIMES)}


def _golden(folder: RunFolder) -> Values:
    return flat(read_json(folder.golden))


def _history(folder: RunFolder) -> Values:
    with folder.history.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    columns = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else {}
    return {
        name: _numbers(column)
        for name, column in columns.items()
        if not name.endswith(MEASURED)
    }


def _numbers(texts: tuple[str, ...]) -> np.ndarray:
    """Cells as numbers, NaN where nothing stands; as texts where one is no number."""
    try:
        return np.array([float(text or "nan") for text in texts])
    except ValueError:
        return np.array(texts, object)


def _split(folder: RunFolder) -> Values:
    table = pq.read_table(folder.split)
    return {name: _cells(table.column(name)) for name in table.column_names}


def _cells(column: pa.ChunkedArray) -> np.ndarray:
    """Values of a column; rows of one part share its text, whatever their number."""
    array = column.combine_chunks()
    if not pa.types.is_dictionary(array.type):
        return np.asarray(array.to_numpy(zero_copy_only=False))
    names = np.array([*array.dictionary.to_pylist(), None], object)
    codes = array.indices.fill_null(len(names) - 1)
    return names[codes.to_numpy(zero_copy_only=False)]


def _weights(folder: RunFolder) -> Values:
    """Read without Keras, which names layers by what the process made before."""
    found: Values = {}

    def add(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            found[name] = np.asarray(node[()])

    with zipfile.ZipFile(folder.model) as archive:
        content = archive.read("model.weights.h5")
    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(add)
    return found


_READERS: dict[str, Callable[[RunFolder], Values]] = {
    "metrics.json": _metrics,
    "history.csv": _history,
    "model.keras": _weights,
    "split.parquet": _split,
    "golden.json": _golden,
}


def flat(
    value: Any, path: str = "", *, without: frozenset[str] = frozenset()
) -> Values:
    """The leaves of JSON types by their paths; a list of plain values is one leaf.

    Args:
        path: of `value` itself.
        without: keys that are left out.

    >>> flat({"test": {"auc": 0.5}, "folds": [{"n": 1}], "x": [1, 2]})
    {'test.auc': 0.5, 'folds[0].n': 1, 'x': [1, 2]}
    """
    inner: Values
    if isinstance(value, dict):
        dot = "." if path else ""
        inner = {
            f"{path}{dot}{k}": item for k, item in value.items() if k not in without
        }
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        inner = {f"{path}[{place}]": item for place, item in enumerate(value)}
    else:
        return {path: value}
    leaves = [flat(item, place, without=without) for place, item in inner.items()]
    return {name: leaf for found in leaves for name, leaf in found.items()}


def differences(file: str, recorded: Values, now: Values) -> list[Difference]:
    """Values that are not the same, floats bit for bit, in the order of the first."""
    names = dict.fromkeys([*recorded, *now])
    found = [
        _difference(file, name, recorded.get(name, MISSING), now.get(name, MISSING))
        for name in names
    ]
    return [one for one in found if one is not None]


def _difference(file: str, name: str, recorded: Any, now: Any) -> Difference | None:
    a, b = _array(recorded), _array(now)
    if a.shape != b.shape:
        return Difference(file, name, _shown(a), _shown(b))
    if _is_same(a, b):
        return None
    gap = _gap(a, b)
    place = np.unravel_index(int(np.argmax(gap)), gap.shape)
    where = f"[{', '.join(str(i) for i in place)}]" if place else ""
    are_numbers = _is_number(a) and _is_number(b)
    size = float(gap[place]) if are_numbers and np.isfinite(gap[place]) else None
    before, after = _item(recorded, a, place), _item(now, b, place)
    return Difference(file, name + where, before, after, size)


def _array(value: Any) -> np.ndarray:
    """Numbers, with NaN for null, or objects."""
    if isinstance(value, np.ndarray):
        return value
    try:
        array = np.asarray(value, object)
        leaves = array.ravel().tolist()
    except ValueError:  # lists of unequal length
        return np.asarray(json_text(value), object)
    if all(leaf is None or isinstance(leaf, bool | int | float) for leaf in leaves):
        return array.astype("float64")
    return array


def _is_number(array: np.ndarray) -> bool:
    return array.dtype.kind in "biuf"


def _is_same(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype == b.dtype and a.dtype != object:
        return a.tobytes() == b.tobytes()
    return a.dtype == b.dtype and bool(np.all(a == b))


def _gap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How far apart the entries are; infinite where one is no number, or a text."""
    if not (_is_number(a) and _is_number(b)):
        return np.asarray(np.where(a == b, 0.0, np.inf))
    with np.errstate(invalid="ignore"):
        gap = np.abs(a.astype("float64") - b.astype("float64"))
    are_same = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.asarray(np.where(are_same, 0.0, np.nan_to_num(gap, nan=np.inf)))


def _item(value: Any, array: np.ndarray, place: tuple) -> Any:
    """What stands there, as people read it."""
    if value is None or isinstance(value, str | int | float):
        return value
    item = array[place]
    if array.dtype.kind == "f":
        return float(str(item))  # the few digits that a float32 has
    return item.item() if isinstance(item, np.generic) else item


def _shown(array: np.ndarray) -> Any:
    if not array.shape:
        return array.item()
    return f"{' x '.join(str(size) for size in array.shape)} values"
