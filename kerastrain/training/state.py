"""All that training depends on at one moment, taken out and put back.

Weights, random generators, optimiser, running means, averages, schedule, position and
callbacks: what Keras' own `BackupAndRestore` (3.15) leaves out of these makes a resumed
run another run.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastrain.engine import Engine, Guest
from kerastrain.errors import RunError

__all__ = ["Position", "Snapshot", "capture", "restore", "unchanged"]


@dataclass(frozen=True)
class Position:
    """Where training stands: `epoch` from 0, `block` calls of it are done."""

    epoch: int = 0
    block: int = 0
    is_finished: bool = False


@dataclass(frozen=True)
class Snapshot:
    """A state of training.

    Args:
        arrays: variables, and arrays that callbacks hold, by name.
        about: JSON types: names of the variables, plain attributes of callbacks.
        base: the state that a divergence goes back to, when it is another one.
    """

    position: Position
    arrays: Mapping[str, np.ndarray]
    about: Mapping[str, Any] = field(default_factory=dict)
    base: "Snapshot | None" = None

    @property
    def is_finite(self) -> bool:
        """Whether all its numbers are: such a state may be gone back to."""
        return all(
            np.isfinite(array).all()
            for name, array in self.arrays.items()
            if name.startswith("variable/") and array.dtype.kind == "f"
        )


def capture(
    engine: Engine | Guest,
    callbacks: Sequence[keras.callbacks.Callback],
    position: Position,
    *,
    others: Sequence[Any] = (),
) -> Snapshot:
    """The state of `engine` and `callbacks`.

    Args:
        others: variables beside those of model, optimiser and metrics.
    """
    variables = _variables(engine, others)
    arrays = {f"variable/{i}": _value(variable) for i, variable in variables}
    states = []
    for place, callback in enumerate(callbacks):
        plain, found = _parted(_state_of(callback), f"callback/{place}")
        arrays |= found
        states.append({"kind": type(callback).__name__, "state": plain})
    about = {
        "variables": [_name(variable) for _, variable in variables],
        "callbacks": states,
        "stop_training": bool(engine.stop_training),
    }
    return Snapshot(position, arrays, about)


def restore(
    snapshot: Snapshot,
    engine: Engine | Guest,
    callbacks: Sequence[keras.callbacks.Callback],
    *,
    others: Sequence[Any] = (),
) -> None:
    """Make `engine` and `callbacks` what they were.

    Raises:
        RunError: the snapshot is of another model or of other callbacks.
    """
    variables = _variables(engine, others)
    names = [_name(variable) for _, variable in variables]
    kinds = [type(callback).__name__ for callback in callbacks]
    states = snapshot.about["callbacks"]
    if names != snapshot.about["variables"] or kinds != [s["kind"] for s in states]:
        raise RunError(
            "The checkpoint is of another model, optimizer or list of callbacks than "
            "this one. Train with what the run was begun with, or name a new folder "
            "(--out)."
        )
    for i, variable in variables:
        variable.assign(snapshot.arrays[f"variable/{i}"])
    for place, (callback, kept) in enumerate(zip(callbacks, states, strict=True)):
        state = _joined(kept["state"], f"callback/{place}", snapshot.arrays)
        for name, value in state.items():
            setattr(callback, name, value)


@contextlib.contextmanager
def unchanged(engine: Engine) -> Iterator[None]:
    """Whatever is trained inside the block, the engine is afterwards what it was."""
    before, waited_s = capture(engine, [], Position()), engine.waited_s
    try:
        yield
    finally:
        restore(before, engine, [])
        engine.waited_s = waited_s


def _variables(engine: Engine | Guest, others: Sequence[Any]) -> list[tuple[int, Any]]:
    """All variables once, numbered."""
    found = [*engine.variables, *engine.optimizer.variables]
    found += [v for metric in engine.metrics for v in metric.variables]
    average = engine.average
    found += [] if average is None else average.variables
    unique = {id(variable): variable for variable in [*found, *others]}
    parts = [part for v in unique.values() for part in _components(v)]
    return list(enumerate(parts))


def _components(variable: Any) -> list[Any]:
    """The variable, or its part on each device where these differ, as sums do: what is
    read is their sum, and half of it for each would round otherwise."""
    value = variable.value if isinstance(variable, keras.Variable) else variable
    if getattr(value, "synchronization", None) is tf.VariableSynchronization.ON_READ:
        return list(tf.distribute.get_strategy().experimental_local_results(value))
    return [variable]


def _value(variable: Any) -> np.ndarray:
    array = np.array(variable.numpy())
    # bfloat16 is no type of NumPy's files; float32 holds it exactly.
    return array.astype("float32") if array.dtype.kind == "V" else array


def _name(variable: Any) -> str:
    """Last name and shape, without the numbers that Keras counts up in a process."""
    path = getattr(variable, "path", variable.name)
    last = re.sub(r"[_:]\d+", "", path.rpartition("/")[2])
    return f"{last} {tuple(variable.shape)}"


# --- callbacks --------------------------------------------------------------------


def _state_of(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """What changes of a callback: plain numbers and arrays among its attributes.

    A callback may name them in `remembered`. Others, as those of Keras and of users,
    are taken at their attributes that are numbers, arrays or lists and dicts of them:
    `best`, `wait`, `best_weights` of EarlyStopping.
    """
    names = getattr(callback, "remembered", None)
    if names is not None:
        return {name: getattr(callback, name) for name in names}
    hidden = {"params", "_model", "model", "validation_data"}
    return {
        name: value
        for name, value in vars(callback).items()
        if name not in hidden and _is_plain(value)
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    return value is None or isinstance(
        value, bool | int | float | str | np.generic | np.ndarray
    )


def _parted(value: Any, path: str) -> tuple[Any, dict[str, np.ndarray]]:
    """`value` as JSON, with arrays taken out of it under their paths."""
    arrays: dict[str, np.ndarray] = {}

    def part(value: Any, path: str) -> Any:
        if isinstance(value, np.ndarray | np.generic):
            arrays[path] = np.array(value)
            return {"__array__": path, "is_scalar": isinstance(value, np.generic)}
        if isinstance(value, dict):
            return {key: part(item, f"{path}/{key}") for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [part(item, f"{path}/{i}") for i, item in enumerate(value)]
        return value

    plain = part(value, path)
    return json.loads(json.dumps(plain)), arrays


def _joined(value: Any, path: str, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if "__array__" in value:
            array = arrays[value["__array__"]]
            return array[()] if value["is_scalar"] else array
        return {
            key: _joined(item, f"{path}/{key}", arrays) for key, item in value.items()
        }
    if isinstance(value, list):
        return [_joined(item, f"{path}/{i}", arrays) for i, item in enumerate(value)]
    return value
