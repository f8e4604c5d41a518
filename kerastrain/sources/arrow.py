"""Arrow files and streams, and Feather."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather

from kerastrain.errors import SourceError
from kerastrain.files import files_fingerprint, files_name, find_files, with_rows
from kerastrain.flat import plain, plain_type
from kerastrain.remote import address_of
from kerastrain.source import Source, check_names
from kerastrain.unify import check_same_columns

__all__ = ["ArrowSource"]


class ArrowSource(Source):
    """Arrow IPC files and streams, and Feather files, read batch by batch.

    Files have the same columns, in any order. Types are those of tables in memory:
    dictionaries are read as texts, decimals as float64.
    """

    def __init__(self, data: Any, max_bad_rows: float = 0.0):
        found = find_files(data)
        self.paths = with_rows(found, [_has_rows(path) for path in found])
        self.name = files_name(self.paths)
        self._fingerprint: dict[str, Any] = {}
        schemas = [_schema(path) for path in self.paths]
        check_names(schemas[0].names, self.paths[0].name)
        check_same_columns(self.paths, schemas)
        kinds = pa.unify_schemas(
            [_plain_schema(schema) for schema in schemas], promote_options="permissive"
        )
        self.schema = pa.schema([kinds.field(name) for name in schemas[0].names])

    def scan(
        self, columns: Sequence[str] | None = None, *, batch_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        return self._batches(self.checked_columns(columns), batch_rows)

    def fingerprint(self) -> dict[str, Any]:
        self._fingerprint = self._fingerprint or files_fingerprint(self.paths)
        return self._fingerprint

    def _batches(
        self, names: Sequence[str], batch_rows: int
    ) -> Iterator[pa.RecordBatch]:
        schema = pa.schema([self.schema.field(name) for name in names])
        for path in self.paths:
            with _reading(path):
                for batch in _pieces(path):
                    for start in range(0, batch.num_rows, batch_rows):
                        part = batch.slice(start, batch_rows)
                        arrays = [
                            plain(part.column(f.name)).cast(f.type) for f in schema
                        ]
                        yield pa.record_batch(arrays, schema=schema)


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([(field.name, plain_type(field.type)) for field in schema])


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, EOFError) as error:
        text = str(error).partition("\n")[0].rstrip(".")
        raise SourceError(
            f"{address_of(path)} is not an Arrow or Feather file, or it is damaged: "
            f"{text}."
        ) from error


def _schema(path: Path) -> pa.Schema:
    with _reading(path):
        if _is_feather_1(path):
            return pyarrow.feather.read_table(path).schema
        with pa.memory_map(str(path)) as file, _opened(file) as reader:
            return reader.schema


def _has_rows(path: Path) -> bool:
    with _reading(path):
        return any(batch.num_rows for batch in _pieces(path))


def _pieces(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches of a file as they were written, mapped rather than read."""
    if _is_feather_1(path):  # the format of 2016 knows no batches
        yield from pyarrow.feather.read_table(path).to_batches()
        return
    with pa.memory_map(str(path)) as file, _opened(file) as reader:
        if isinstance(reader, pa.RecordBatchFileReader):
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)
        else:
            yield from reader


def _is_feather_1(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"FEA1"


def _opened(file: Any) -> Any:
    """A reader of a file, or of a stream where it is none."""
    try:
        return pa.ipc.open_file(file)
    except pa.ArrowInvalid:
        file.seek(0)
        return pa.ipc.open_stream(file)
