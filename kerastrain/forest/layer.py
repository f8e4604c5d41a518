"""`Forest`: trees as a Keras layer."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kerastrain.forest.block import PlainTrees, TreeBlock, tensor_keys
from kerastrain.forest.plan import LAYOUTS, Plan, plan
from kerastrain.forest.trees import Trees
from kerastrain.layers import Exact, register

__all__ = ["Forest"]

Arrays = dict[str, dict[str, np.ndarray]]
Shapes = dict[str, tuple[str, list[int]]]


@register
class Forest(Exact):
    """The sum over the trees of a forest, the same leaf of each tree as `Trees.leaves`.

    The first up to 64 leaves of all trees are found by bit sets (see
    `kerastrain.forest.bits`), block by block (`kerastrain.forest.plan`), what lies
    deeper by a walk over packed nodes (`kerastrain.forest.walk`); the layout "plain"
    walks over `Trees` as they are, in `keras.ops` alone, for backends and formats that
    have no operations on bits.

    Args:
        trees: the forest; None where a saved one is loaded.
        layout: "bits64", "bits32", "walk", "plain", or "auto", the one that should be
            fastest. One that does not fit becomes "plain".
        chunk_size: rows times trees of a block that are computed at once.
        saved: what `get_config` gives beside: numbers and shapes.

    Shapes: float32 `(batch, columns)` -> float32 `(batch, outputs)`.
    Reference: Lucchese et al. 2015, "QuickScorer", sections 3 and 4.
    DIFFERS: "plain" takes denormal numbers for zero, as all arithmetic of TensorFlow.
    """

    def __init__(
        self,
        trees: Trees | None = None,
        *,
        layout: str = "auto",
        chunk_size: int = 2**17,
        saved: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs | {"trainable": False})
        self.chunk_size = chunk_size
        if layout not in ("auto", *LAYOUTS):
            raise ValueError(f"Forest has no layout {layout!r}: {', '.join(LAYOUTS)}.")
        arrays: Arrays = {}
        if trees is not None:
            planned = plan(trees, layout)
            layout, arrays = planned.layout, _arrays(trees, planned)
            saved = {
                "numbers": [block.numbers for block in planned.blocks],
                "shapes": {name: _shapes(group) for name, group in arrays.items()},
            }
        elif saved is None:
            raise ValueError("Forest needs trees, as `kerastrain.forest.trees.Trees`.")
        self.layout = layout
        self.numbers: list[dict[str, int]] = [dict(one) for one in saved["numbers"]]
        self.shapes: dict[str, Shapes] = dict(saved["shapes"])
        if arrays:
            self.build(None)
            self._assign(arrays)

    def build(self, input_shape: Any) -> None:
        if hasattr(self, "_parts"):
            return
        self._parts = {
            group: {
                name: self.add_weight(
                    name=f"{group}_{name}",
                    shape=shape,
                    dtype=dtype,
                    initializer="zeros",
                    trainable=False,
                )
                for name, (dtype, shape) in shapes.items()
            }
            for group, shapes in self.shapes.items()
        }
        self.built = True

    def _assign(self, arrays: Arrays) -> None:
        for group, parts in arrays.items():
            for name, array in parts.items():
                self._parts[group][name].assign(array)

    @property
    def trees(self) -> Trees:
        """The forest as flat arrays."""
        parts = self._parts["trees"]
        return Trees(**{name: ops.convert_to_numpy(v) for name, v in parts.items()})

    def plain(self) -> "Forest":
        """The same forest in `keras.ops` alone, for an export to another runtime."""
        return Forest(self.trees, layout="plain", name=self.name)

    # What is planned follows from the trees, so a file holds the trees alone.
    def save_own_variables(self, store: Any) -> None:
        for name, array in self.trees.arrays().items():
            store[name] = array

    def load_own_variables(self, store: Any) -> None:
        trees = Trees(
            **{name: np.asarray(store[name]) for name in self.shapes["trees"]}
        )
        self._assign(_arrays(trees, plan(trees, self.layout, len(self.numbers))))

    # --- computation ------------------------------------------------------------

    def call(self, x: Any) -> Any:
        if self.layout == "plain":
            total = self._plain().sums(x)
        else:
            total = self._in_chunks(x, self._sums, self.shapes["trees"]["base"][1])
        return total + self._parts["trees"]["base"]

    def leaves(self, x: Any) -> Any:
        """Node of `Trees` that each row ends in, int32 `(batch, trees)`."""
        if self.layout == "plain":
            return ops.take(self._plain().nodes(x), self._places, axis=1)
        return self._in_chunks(x, self._nodes, self.shapes["order"]["places"][1])

    def _in_chunks(self, x: Any, function: Any, shape: list[int]) -> Any:
        """Apply to equal pieces of rows; the last may begin in the one before."""
        most_trees = max(1, *(block["trees"] for block in self.numbers))
        at_once = max(16, self.chunk_size // most_trees)
        if x.shape[0] is not None and x.shape[0] <= at_once:
            return function(x)
        rows = tf.shape(x)[0]
        num_pieces = tf.maximum(1, -(-rows // at_once))
        size = -(-rows // num_pieces)
        starts = tf.minimum(tf.range(num_pieces) * size, rows - size)
        dtype = "float32" if function == self._sums else "int32"
        pieces = tf.map_fn(
            lambda start: function(x[start : start + size]),
            starts,
            fn_output_signature=tf.TensorSpec((None, *shape), dtype),
        )
        whole = tf.reshape(pieces[:-1], (-1, *shape))
        last = pieces[-1, size * num_pieces - rows :]
        return tf.concat([whole, last], axis=0)

    def _sums(self, x: Any) -> Any:
        keys = tensor_keys(x)
        sums = [block.sums(keys) for block in self._blocks()]
        return sums[0] if len(sums) == 1 else tf.add_n(sums)

    def _nodes(self, x: Any) -> Any:
        keys = tensor_keys(x)
        nodes = tf.concat([block.nodes(keys) for block in self._blocks()], axis=1)
        return tf.gather(nodes, self._places, axis=1)

    def _blocks(self) -> list[TreeBlock]:
        return [
            TreeBlock(self.layout, numbers, self._parts[f"block_{i}"])
            for i, numbers in enumerate(self.numbers)
        ]

    def _plain(self) -> PlainTrees:
        return PlainTrees(self.numbers[0], self._parts["block_0"])

    @property
    def _places(self) -> Any:
        return ops.convert_to_tensor(self._parts["order"]["places"])

    def compute_output_spec(self, x: Any) -> Any:
        shape = (x.shape[0], *self.shapes["trees"]["base"][1])
        return keras.KerasTensor(shape, "float32")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "layout": self.layout,
            "chunk_size": self.chunk_size,
            "saved": {"numbers": self.numbers, "shapes": self.shapes},
        }


def _arrays(trees: Trees, planned: Plan) -> Arrays:
    blocks = {f"block_{i}": block.arrays for i, block in enumerate(planned.blocks)}
    return {"trees": trees.arrays(), "order": {"places": planned.places}, **blocks}


def _shapes(arrays: dict[str, np.ndarray]) -> Shapes:
    return {n: (str(a.dtype), list(a.shape)) for n, a in arrays.items()}
