"""Which row is in which part: the record of a split, used by every model of a run."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kerastrain.arrays import ArrayStore, pieces
from kerastrain.errors import RunError
from kerastrain.store import atomic

__all__ = [
    "DROPPED",
    "NAMES",
    "TEST",
    "TRAIN",
    "VALIDATION",
    "Keys",
    "Parts",
    "load_parts",
    "save_parts",
]

NAMES = ("train", "validation", "test", "dropped")
TRAIN, VALIDATION, TEST, DROPPED = range(4)
_CHUNK_ROWS = 1 << 20


@dataclass(frozen=True, eq=False)
class Keys:
    """What rows are split by besides their content, `(rows,)` each.

    Args:
        group: uint64 hash of the group's name; 0 for missing.
        time: float64 seconds since 1970, or a number; NaN for missing.
        part: int32 position in `part_names`.
        part_names: texts of the split column; "" for missing.
    """

    group: np.ndarray | None = None
    time: np.ndarray | None = None
    part: np.ndarray | None = None
    part_names: tuple[str, ...] = ()

    def first(self, num_rows: int) -> "Keys":
        """Of the first rows."""
        arrays = [
            None if array is None else first_rows(array, num_rows)
            for array in (self.group, self.time, self.part)
        ]
        group, time, part = arrays
        return Keys(group, time, part, self.part_names)


def first_rows(array: np.ndarray, num_rows: int) -> np.ndarray:
    """The first rows; all of an array are no copy, also where it lies on disk."""
    return array if len(array) == num_rows else array[:num_rows]


@dataclass(frozen=True, eq=False)
class Parts:
    """Row numbers of each part, sorted, int64; counted from 0 in the source.

    Args:
        num_dropped: rows in no part: without a target, a time or a part, or in a gap.
        seed: what the split was made with.
        shares: of `validation` and `test`, as they were asked for.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    num_dropped: int = 0
    seed: int = 0
    shares: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, codes: np.ndarray, seed: int, shares: dict[str, float]) -> "Parts":
        """From the part of each row, int8."""
        return cls(
            train=np.flatnonzero(codes == TRAIN),
            validation=np.flatnonzero(codes == VALIDATION),
            test=np.flatnonzero(codes == TEST),
            num_dropped=int((codes == DROPPED).sum()),
            seed=seed,
            shares=dict(shares),
        )

    @property
    def num_rows(self) -> int:
        """Rows of the source, those in no part as well."""
        kept = len(self.train) + len(self.validation) + len(self.test)
        return kept + self.num_dropped

    def codes(self, piece: slice) -> np.ndarray:
        """The part of each row of a piece, int8."""
        codes = np.full(piece.stop - piece.start, DROPPED, np.int8)
        for code, rows in enumerate((self.train, self.validation, self.test)):
            first, last = np.searchsorted(rows, (piece.start, piece.stop))
            codes[rows[first:last] - piece.start] = code
        return codes

    @property
    def hash(self) -> str:
        """SHA-256 over the row numbers of the parts, as hex digits."""
        digest = hashlib.sha256()
        for rows in (self.train, self.validation, self.test):
            digest.update(len(rows).to_bytes(8, "little"))
            for piece in pieces(len(rows), _CHUNK_ROWS):
                digest.update(rows[piece].astype("<i8", copy=False).data)
        return digest.hexdigest()

    def with_own(self, part: str, rows: np.ndarray, num_rows: int) -> "Parts":
        """With rows of one's own as a part, which lie behind the rows that were split.

        Args:
            part: `validation` or `test`.
            num_rows: of all tables together; rows in no part count as dropped.
        """
        changed: Parts = replace(self, **{part: rows})  # type: ignore[arg-type]
        kept = len(changed.train) + len(changed.validation) + len(changed.test)
        return replace(changed, num_dropped=num_rows - kept)

    def stored(self, store: ArrayStore) -> "Parts":
        """The same with its row numbers in `store`: 30 million take 240 MB."""
        names = ("train", "validation", "test")
        moved = {name: store.stored(getattr(self, name)) for name in names}
        return replace(self, **moved)  # type: ignore[arg-type]

    def save(self, path: Path) -> None:
        """Write one line per row of the source: its number and its part."""
        save_parts([self], path)

    @classmethod
    def load(cls, path: Path) -> "Parts":
        """Read what `save` wrote; RunError when it is missing, damaged or altered."""
        return load_parts(path)[0]


def save_parts(parts: Sequence[Parts], path: Path) -> None:
    """Write the part of each row in every fit: `part`, or `fold_1`, `fold_2` ..."""
    names = _columns(len(parts))
    known = {"seed": str(parts[0].seed), "folds": str(len(parts))}
    known |= {name: repr(share) for name, share in parts[0].shares.items()}
    for name, one in zip(names, parts, strict=True):
        known[_hash_key(name)] = one.hash
    kind = pa.dictionary(pa.int8(), pa.string())
    schema = pa.schema([("row", pa.int64()), *((name, kind) for name in names)])
    schema = schema.with_metadata(known)
    with atomic(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for piece in pieces(parts[0].num_rows, _CHUNK_ROWS):
            rows = np.arange(piece.start, piece.stop)
            columns = [
                pa.DictionaryArray.from_arrays(pa.array(one.codes(piece)), list(NAMES))
                for one in parts
            ]
            writer.write_table(pa.table([rows, *columns], schema=schema))


def load_parts(path: Path) -> list[Parts]:
    """Read what `save_parts` wrote; RunError when it is missing, damaged or altered."""
    try:
        with pq.ParquetFile(path) as file:
            metadata = file.schema_arrow.metadata
            known = {k.decode(): v.decode() for k, v in metadata.items()}
            shares = {k: float(known[k]) for k in NAMES if k in known}
            names = _columns(int(known.get("folds", "1")))
            found = [
                Parts.of(_codes(file, name), int(known["seed"]), shares)
                for name in names
            ]
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise RunError(f"Cannot read the split {path}: {error}") from error
    for name, parts in zip(names, found, strict=True):
        if parts.hash != known.get(_hash_key(name)):
            raise RunError(f"The split {path} was altered: its hash differs.")
    return found


def _columns(num_fits: int) -> list[str]:
    return ["part"] if num_fits == 1 else [f"fold_{i + 1}" for i in range(num_fits)]


def _hash_key(column: str) -> str:
    return "hash" if column == "part" else f"hash_{column}"


def _codes(file: pq.ParquetFile, column: str) -> np.ndarray:
    """The part of each row, int8, read piece by piece: texts of 30 million are 2 GB."""
    codes, start = np.empty(file.metadata.num_rows, np.int8), 0
    for batch in file.iter_batches(_CHUNK_ROWS, columns=[column]):
        texts = batch.column(0).cast(pa.string())
        places = pc.index_in(texts, value_set=pa.array(NAMES))
        if places.null_count:
            raise ValueError(f"a part other than {', '.join(NAMES)}")
        codes[start : start + len(places)] = places.to_numpy()
        start += len(places)
    return codes
