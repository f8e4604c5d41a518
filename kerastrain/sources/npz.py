"""NumPy archives."""

import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kerastrain.errors import SourceError
from kerastrain.files import files_fingerprint, files_name, find_files
from kerastrain.remote import address_of
from kerastrain.source import Source, check_names
from kerastrain.sources import SOURCES

__all__ = ["NpzSource"]


class NpzSource(Source):
    """NumPy `.npz` archives: arrays of one length, each a column or several.

    An array `(rows,)` is a column of its name, `X` of `(rows, n)` gives `X_0` to
    `X_<n-1>`. Arrays of Python objects are refused: they would have to be unpickled.
    """

    def __init__(self, data: Any, max_bad_rows: float = 0.0):
        self.paths = find_files(data)
        if len(self.paths) > 1:
            raise SourceError(
                f"{files_name(self.paths)}: a table is read from one .npz file."
            )
        self.name = self.paths[0].name
        self._fingerprint: dict[str, Any] = {}
        self._frame: Source = SOURCES.load("frame")(self._columns(), max_bad_rows)
        self.schema, self.num_rows = self._frame.schema, self._frame.num_rows

    def scan(
        self, columns: Sequence[str] | None = None, *, batch_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        return self._frame.scan(self.checked_columns(columns), batch_rows=batch_rows)

    def fingerprint(self) -> dict[str, Any]:
        self._fingerprint = self._fingerprint or files_fingerprint(self.paths)
        return self._fingerprint

    def _columns(self) -> dict[str, np.ndarray]:
        arrays = self._arrays().items()
        parts = [_as_columns(name, array, self.name) for name, array in arrays]
        check_names([name for part in parts for name in part], self.name)
        found = {name: array for part in parts for name, array in part.items()}
        lengths = {len(array) for array in found.values()}
        if len(lengths) > 1:
            shown = ", ".join(f"{name}: {len(array)}" for name, array in found.items())
            raise SourceError(f"Arrays of {self.name} differ in length: {shown}.")
        return found

    def _arrays(self) -> dict[str, np.ndarray]:
        path = self.paths[0]
        try:
            with path.open("rb") as file, zipfile.ZipFile(file) as archive:
                is_whole = archive.testzip() is None
            if is_whole:
                with np.load(path, allow_pickle=False) as arrays:
                    return {name: arrays[name] for name in arrays.files}
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            if "Object arrays" in str(error):
                raise SourceError(
                    f"{path.name} holds arrays of Python objects, which are not "
                    "unpickled. Save texts as an array of strings."
                ) from None
        raise SourceError(
            f"{address_of(path)} is not an .npz archive, or it is damaged."
        )


def _as_columns(name: str, array: np.ndarray, where: str) -> dict[str, np.ndarray]:
    if array.ndim == 1:
        return {name: array}
    if array.ndim == 2:
        return {f"{name}_{i}": array[:, i] for i in range(array.shape[1])}
    raise SourceError(
        f"Array '{name}' of {where} has {array.ndim} dimensions; 1 or 2 make columns."
    )
