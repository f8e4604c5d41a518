"""Arrow files and streams, and Feather."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather

from kerastrain.errors import SourceError, listing
from kerastrain.files import files_fingerprint, files_name, find_files
from kerastrain.flat import plain, plain_type
from kerastrain.source import Source, check_names

__all__ = ["ArrowSource"]


class ArrowSource(Source):
    """Arrow IPC files and streams, and Feather files, read batch by batch.

    Files have the same columns, in any order. Types are those of tables in memory:
    dictionaries are read as texts, decimals as float64.
    """

    def __init__(self, data: Any, max_bad_rows: float = 0.0):
        self.paths = find_files(data)
        self.name = files_name(self.paths)
        self._fingerprint: dict[str, Any] = {}
        schemas = [_schema(path) for path in self.paths]
        for path, schema in zip(self.paths, schemas, strict=True):
            check_names(schema.names, path.name)
            different = sorted(set(schema.names) ^ set(schemas[0].names))
            if different:
                raise SourceError(
                    f"{path.name} and {self.paths[0].name} have different columns: "
                    f"{listing(different)} are in one of them only."
                )
        self.schema = pa.schema([(f.name, plain_type(f.type)) for f in schemas[0]])

    def scan(
        self, columns: Sequence[str] | None = None, *, batch_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        names = self.checked_columns(columns)
        schema = pa.schema([self.schema.field(name) for name in names])
        for path in self.paths:
            for batch in _batches(path):
                for start in range(0, batch.num_rows, batch_rows):
                    part = batch.slice(start, batch_rows)
                    arrays = [self._array(part.column(n), schema, n) for n in names]
                    yield pa.record_batch(arrays, schema=schema)

    @staticmethod
    def _array(column: pa.Array, schema: pa.Schema, name: str) -> pa.Array:
        array = plain(column)
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        kind = schema.field(name).type
        return array if array.type == kind else array.cast(kind)

    def fingerprint(self) -> dict[str, Any]:
        self._fingerprint = self._fingerprint or files_fingerprint(self.paths)
        return self._fingerprint


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        text = str(error).partition("\n")[0].rstrip(".")
        raise SourceError(
            f"{path} is not an Arrow or Feather file, or it is damaged: {text}."
        ) from error


def _is_feather_1(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"FEA1"


def _schema(path: Path) -> pa.Schema:
    with _reading(path):
        if _is_feather_1(path):
            return pyarrow.feather.read_table(path).schema
        with pa.memory_map(str(path)) as file, _opened(file) as reader:
            return reader.schema


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    with _reading(path):
        if _is_feather_1(path):  # the format of 2016 knows no batches
            yield from pyarrow.feather.read_table(path).to_batches()
            return
        with pa.memory_map(str(path)) as file, _opened(file) as reader:
            if isinstance(reader, pa.RecordBatchFileReader):
                for number in range(reader.num_record_batches):
                    yield reader.get_batch(number)
            else:
                yield from reader


def _opened(file: Any) -> Any:
    """A reader of a file, or of a stream where it is none."""
    try:
        return pa.ipc.open_file(file)
    except pa.ArrowInvalid:
        file.seek(0)
        return pa.ipc.open_stream(file)
