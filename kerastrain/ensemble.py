"""Several learners as one Keras model."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kerastrain.layers import DecideLabel
from kerastrain.learner import Learner
from kerastrain.pipeline import Rows

__all__ = ["AverageLearner"]


class AverageLearner(Learner):
    """The mean of the probabilities, or values, of learners of the same task.

    Its members share the raw inputs; each keeps its own encoding, which was learnt
    from its own train rows. So encoded rows mean nothing to it: it is asked through
    its model, or its members are asked one by one.

    Args:
        members: at least one, fitted.
    """

    def __init__(self, members: Sequence[Learner]):
        self.members = list(members)
        self.objective = members[0].objective
        inputs = {
            tensor.name: keras.Input((), name=tensor.name, dtype=tensor.dtype)
            for tensor in members[0].model.inputs
        }
        outputs = [member.model(inputs) for member in members]
        self.model = keras.Model(inputs, self._decide(outputs), name="kerastrain")

    def _decide(self, outputs: Sequence[dict[str, Any]]) -> dict[str, Any]:
        if self.objective.task == "regression":
            return {"prediction": _mean([one["prediction"] for one in outputs])}
        probabilities = _mean([one["probabilities"] for one in outputs])
        prediction = DecideLabel(self.objective.labels)(probabilities)
        return {"prediction": prediction, "probabilities": probabilities}

    def fit(self, train: Rows, validation: Rows) -> None:
        """Its members are fitted, each on rows of its own."""
        raise NotImplementedError("fit the members")

    def predict(self, rows: Rows) -> np.ndarray:
        """Each member encodes rows in its own way: ask `model` with raw columns."""
        raise NotImplementedError("ask `model` with raw columns")


def _mean(tensors: Sequence[Any]) -> Any:
    if len(tensors) == 1:
        return keras.layers.Identity(dtype="float32")(tensors[0])
    return keras.layers.Average(dtype="float32")(tensors)
