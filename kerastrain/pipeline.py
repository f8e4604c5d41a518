"""The cut, and rows as encoded arrays before and behind it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastrain.arrays import MAX_CHUNK_ROWS, ArrayStore, chunk_rows, pieces
from kerastrain.encoded import Encoded
from kerastrain.features import Front
from kerastrain.ingest import Table
from kerastrain.schema import Column
from kerastrain.texts import Texts
from kerastrain.textvectors import text_rows

__all__ = ["Rows", "cut", "encode", "outputs_of", "run_prefix"]

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Rows:
    """Some rows of encoded arrays, taken by position and copied only when read.

    Args:
        inputs: arrays `(all rows, columns)` by name.
        target: `(all rows,)`.
        weight: float32 `(all rows,)`; 1 where no row is worth more than another.
        index: int64 `(rows,)`, positions of these rows.
    """

    inputs: Arrays
    target: np.ndarray
    weight: np.ndarray
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def take(self, positions: np.ndarray) -> tuple[Arrays, np.ndarray, np.ndarray]:
        """Inputs, targets and weights at `positions` of these rows."""
        rows = self.index[positions]
        inputs = {name: array[rows] for name, array in self.inputs.items()}
        return inputs, self.target[rows], self.weight[rows]

    def at_most(self, num_rows: int) -> "Rows":
        """These rows, or so many of them at most, evenly spaced."""
        return replace(self, index=self.index[:: -(-len(self) // num_rows) or 1])

    def are(self, others: "Rows") -> bool:
        """Whether these are the same rows of the same arrays, in the same order."""
        return self.inputs is others.inputs and np.array_equal(self.index, others.index)

    @property
    def row_bytes(self) -> int:
        """Of the inputs of one row."""
        arrays = self.inputs.values()
        return sum(a.dtype.itemsize * int(np.prod(a.shape[1:])) for a in arrays)

    def pieces(self, max_rows: int = MAX_CHUNK_ROWS) -> Iterator[slice]:
        """Slices of these rows that are small enough to be worked on at once."""
        return pieces(len(self), min(max_rows, chunk_rows(self.row_bytes)))

    def chunks(self, max_rows: int = MAX_CHUNK_ROWS) -> Iterator[Arrays]:
        """Inputs in the order of these rows."""
        for piece in self.pieces(max_rows):
            rows = self.index[piece]
            yield {name: array[rows] for name, array in self.inputs.items()}

    @property
    def targets(self) -> np.ndarray:
        return self.target[self.index]

    @property
    def weights(self) -> np.ndarray:
        return self.weight[self.index]


# --- the front, run once per distinct text ---------------------------------------


def encode(front: Front, table: Table, store: ArrayStore) -> dict[str, np.ndarray]:
    """What `front.model` gives for the rows of `table`, as arrays.

    Each column passes through its own part of the front. A column of texts does so
    once per distinct text, and its rows take the results by position: 20 to 100 times
    less string work on a table of categories, and the very same layers.
    """
    arrays = {}
    for name, kind, dtype in (
        ("numbers", "number", "float32"),
        ("codes", "code", "int32"),
    ):
        columns = front.of_kind(kind)
        width = sum(encoded.width for _, encoded in columns)
        if not width:
            continue
        matrix = store.empty((table.num_rows, width), dtype)
        parts = [_Part(front, *column, table) for column in columns]
        # Rows outside, columns inside: a matrix on disk is written once, in order.
        for piece in pieces(table.num_rows, chunk_rows(width * matrix.itemsize)):
            block = [part(piece) for part in parts]
            matrix[piece] = np.concatenate(block, axis=1)
        arrays[name] = matrix
    return arrays


class _Part:
    """One column of the front, as a function of a slice of the rows."""

    def __init__(self, front: Front, column: Column, encoded: Encoded, table: Table):
        self._model = keras.Model(front.inputs[column.input], encoded.tensor)
        self._numbers = table.numbers.get(column.name)
        self._texts = table.texts.get(column.name)
        if isinstance(self._texts, Texts):
            values, size = self._texts.values, MAX_CHUNK_ROWS
            if column.type == "text":
                size = text_rows(column.stats.mean_chars)
            chunks = [self._of(values[piece]) for piece in pieces(len(values), size)]
            self._distinct = np.concatenate(chunks or [np.zeros((0, encoded.width))])

    def __call__(self, rows: slice) -> np.ndarray:
        if self._numbers is not None:
            return self._of(self._numbers[rows])
        assert self._texts is not None, "a column holds numbers or texts"
        if isinstance(self._texts, Texts):
            return self._distinct[self._texts.array[rows]]
        distinct, places = np.unique(self._texts.array[rows], return_inverse=True)
        return self._of(distinct.tolist())[places]

    def _of(self, values: np.ndarray | list[str] | list[bytes]) -> np.ndarray:
        result = self._model(tf.constant(values), training=False)
        return keras.ops.convert_to_numpy(result).reshape(len(values), -1)


def outputs_of(
    forward: Callable[[Arrays], tf.Tensor], rows: Rows, num_outputs: int
) -> np.ndarray:
    """What a compiled function of inputs gives for `rows`: `(rows, num_outputs)`."""
    outputs = np.zeros((len(rows), num_outputs), "float32")
    size = MAX_CHUNK_ROWS // 4
    for piece, chunk in zip(rows.pieces(size), rows.chunks(size), strict=True):
        outputs[piece] = forward(chunk).numpy()
    return outputs


# --- the cut ----------------------------------------------------------------------


def cut(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Part `model` before the first layers that learn or are random.

    Args:
        model: a functional model. It stays whole; both parts share its layers. A layer
            that learns may not stand right behind an input (see `Features.of`).

    Returns:
        prefix: the inputs to a dict of frozen, deterministic tensors.
        core: those tensors, by the same names, to the outputs. Training it trains
            `model`.
    """
    frozen = _frozen_tensors(model)
    frontier: dict[int, Any] = {}
    for node in _calls(model):
        if all(id(tensor) in frozen for tensor in node.output_tensors):
            continue
        for tensor in node.input_tensors:
            if id(tensor) in frozen:
                frontier[id(tensor)] = tensor
    for tensor in _flat(model.outputs):
        if id(tensor) in frozen:
            frontier[id(tensor)] = tensor
    named = {f"prefix_{i}": tensor for i, tensor in enumerate(frontier.values())}
    prefix = keras.Model(model.inputs, named, name="prefix")
    # Every name is a fresh input: Keras wants the keys of a dict to be tensor names.
    core = keras.Model(list(named.values()), model.output, name="core")
    return prefix, core


def _frozen_tensors(model: keras.Model) -> set[int]:
    """Ids of the tensors that depend on no weight that learns and on no chance."""
    calls = [node for node in _calls(model) if not node.is_input]
    learning = {id(node.operation) for node in calls if _learns(node.operation)}
    while True:
        frozen = {id(tensor) for tensor in model.inputs}
        for node in calls:
            is_fixed = id(node.operation) not in learning
            if is_fixed and all(id(tensor) in frozen for tensor in node.input_tensors):
                frozen.update(id(tensor) for tensor in node.output_tensors)
        # Keras 3.15 cannot part the calls of one layer, so all must be frozen.
        late = {
            id(node.operation)
            for node in calls
            if not all(id(tensor) in frozen for tensor in node.output_tensors)
        }
        if late <= learning:
            return frozen
        learning |= late


def _calls(model: keras.Model) -> list[Any]:
    """Every call of a layer in the graph, inputs first.

    A private attribute of Keras 3.15: `layer.input` and `layer.output`, which are
    public, know only the first call of a layer that is called twice.
    """
    depths = sorted(model._nodes_by_depth.items(), reverse=True)
    return [node for _, nodes in depths for node in nodes]


def _learns(operation: Any) -> bool:
    """Whether training changes what it computes, or chance does.

    Keras layers that behave otherwise in training hold weights or a seed generator;
    both count wherever they sit inside the layer.
    """
    if not isinstance(operation, keras.layers.Layer):
        return False
    is_random = any("seed" in v.path.rsplit("/", 1)[-1] for v in operation.variables)
    if is_random or hasattr(operation, "initialise"):  # see training.initial
        return True
    # What a layer makes much wider, as one-hot codes, is cheaper made than kept.
    if getattr(operation, "widens", False):
        return True
    return bool(operation.trainable_variables) or _changes(operation)


def _changes(layer: keras.layers.Layer) -> bool:
    """Layers without trainable weights that still update themselves in training."""
    return any(
        isinstance(part, keras.layers.BatchNormalization) and part.trainable
        for part in layer._flatten_layers()
    )


def _flat(tensors: Any) -> list[Any]:
    return keras.tree.flatten(tensors)


def run_prefix(
    prefix: keras.Model, parts: Sequence[Rows], store: ArrayStore
) -> list[Rows]:
    """Rows with what the prefix makes of them as inputs, computed once.

    Args:
        parts: rows of the same arrays; only rows in one of them are computed. A tensor
            that passes through the prefix unchanged is not copied.
    """
    first = parts[0]
    passed = _passed_through(prefix)
    names = [name for name in prefix.output if name not in passed]
    inputs = {name: first.inputs[source] for name, source in passed.items()}
    for name in names:
        tensor = prefix.output[name]
        shape = (len(first.target), *tensor.shape[1:])
        inputs[name] = store.empty(shape, tensor.dtype)
    if names:
        outputs = {name: prefix.output[name] for name in names}
        model = tf.function(keras.Model(prefix.inputs, outputs), reduce_retracing=True)
        for rows in parts:
            _run_over(model, [t.name for t in prefix.inputs], rows, inputs)
    ordered = {name: inputs[name] for name in prefix.output}
    return [replace(rows, inputs=ordered) for rows in parts]


def _run_over(
    model: Callable[..., Any], names: list[str], rows: Rows, outputs: Arrays
) -> None:
    """Fill `outputs` at the places of `rows`."""
    for piece, chunk in zip(rows.pieces(), rows.chunks(), strict=True):
        computed = model([chunk[name] for name in names])
        places = rows.index[piece]
        for name, tensor in computed.items():
            outputs[name][places] = tensor.numpy()


def _passed_through(prefix: keras.Model) -> dict[str, str]:
    """Outputs that are an input unchanged, and the name of that input."""
    by_id = {id(tensor): tensor.name for tensor in prefix.inputs}
    for node in _calls(prefix):
        if isinstance(node.operation, keras.layers.Identity):
            (before,), (after,) = node.input_tensors, node.output_tensors
            if id(before) in by_id and before.dtype == after.dtype:
                by_id[id(after)] = by_id[id(before)]
    return {
        name: by_id[id(tensor)]
        for name, tensor in prefix.output.items()
        if id(tensor) in by_id
    }
