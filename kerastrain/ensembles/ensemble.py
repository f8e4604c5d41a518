"""Several learners as one Keras model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kerastrain.ensembles.blend import WeightedMean
from kerastrain.features import Front
from kerastrain.layers import DecideLabel
from kerastrain.learner import Learner
from kerastrain.objective import Objective
from kerastrain.pipeline import Rows

__all__ = ["AverageLearner", "EnsembleLearner", "Member", "weight_bytes"]


@dataclass(frozen=True)
class Member:
    """One kind of model, fitted once for each fold of the rows to learn from.

    Args:
        name: in the leaderboard.
        learners: of the folds, behind the same front.
        held_out: what the learner that did not see a row predicts for it, as
            `Learner.predict` gives it, for all rows that were held out of one.
        seconds: that fitting took.
        num_folds: fits; trees of all of them may be one learner.
    """

    name: str
    learners: Sequence[Learner]
    held_out: np.ndarray
    seconds: float
    num_folds: int

    def predict(self, rows: Rows) -> np.ndarray:
        """The mean over folds."""
        total = self.learners[0].predict(rows)
        for learner in self.learners[1:]:
            total = total + learner.predict(rows)
        return total / np.float32(len(self.learners))

    @property
    def size(self) -> int:
        """Bytes of all weights, those that do not learn too."""
        return sum(map(weight_bytes, self.learners))


def weight_bytes(learner: Learner) -> int:
    """Of all weights behind the front, those that do not learn too."""
    return sum(
        int(np.prod(variable.shape)) * np.dtype(_plain(variable.dtype)).itemsize
        for variable in learner.numeric.variables
    )


def _plain(dtype: str) -> str:
    return "float16" if dtype == "bfloat16" else dtype


class EnsembleLearner(Learner):
    """A weighted mean of the probabilities, or values, of learners behind one front.

    Args:
        front: that all members share.
        objective: the task. It has no correction: each learner brings its own.
        members: with their weights, which sum to 1; one of weight 0 is no part of it.
        held_out: targets of the rows that were held out of each learner in turn; the
            members' predictions for them judge the ensemble, which has seen them.
        held_out_weight: of each of those rows in scores; None where all count alike.
        name: of the model.
    """

    def __init__(
        self,
        front: Front,
        objective: Objective,
        members: Sequence[tuple[Member, float]],
        held_out: np.ndarray,
        held_out_weight: np.ndarray | None = None,
        name: str = "kerastrain",
    ):
        self.front, self.objective = front, objective
        self.members = [pair for pair in members if pair[1] > 0]
        self.tried = [member for member, _ in members]
        self.held_out, self.held_out_weight = held_out, held_out_weight
        self._foreseen: tuple[Rows, np.ndarray] | None = None
        matrices = front.model(front.inputs)
        outputs: list[Any] = []
        weights: list[float] = []
        for member, weight in self.members:
            for learner in member.learners:
                judge = _judging(learner, f"numeric_core_{len(outputs) + 1}")
                outputs.append(judge(matrices))
                weights.append(weight / len(member.learners))
        decided = _decided(objective, outputs, weights)
        self.model = keras.Model(front.inputs, decided, name=name)

    def fit(self, train: Rows, validation: Rows) -> None:
        """Its members are fitted, each on rows of its own."""
        raise NotImplementedError("fit the members")

    def foresee(self, rows: Rows) -> dict[str, np.ndarray]:
        """What each member predicts, by name, of weight 0 too, and the ensemble.

        That of the ensemble is kept for the one `undecided` of these rows that follows:
        the leaderboard and the scores are of the same rows.
        """
        said = {member.name: member.predict(rows) for member in self.tried}
        total = _total([(said[m.name], weight) for m, weight in self.members])
        self._foreseen = rows, total
        return said | {"ensemble": total}

    def undecided(self, rows: Rows) -> np.ndarray:
        foreseen, self._foreseen = self._foreseen, None
        if foreseen is not None and foreseen[0].are(rows):
            return foreseen[1]
        return _total([(m.predict(rows), weight) for m, weight in self.members])

    def validated(
        self, rows: Rows, *, weight: np.ndarray | None = None
    ) -> dict[str, float | None]:
        """On all rows that were held out of a learner, by those that did not see them.

        `rows` are of the part that other learners keep for it.
        """
        predicted = self.decision.probabilities(self.held_out_prediction)
        return self._score(self.held_out, predicted, self.held_out_weight)

    @property
    def held_out_prediction(self) -> np.ndarray:
        """Of the rows `held_out`, by learners that did not see them, undecided."""
        return _total([(m.held_out, weight) for m, weight in self.members])


def _judging(learner: Learner, name: str) -> keras.Model:
    """Clean matrices to the learner's probabilities, or its value, as a model of its
    own: layers of several learners have the same names."""
    inner = learner.numeric
    inputs = {
        tensor.name: keras.Input(tensor.shape[1:], name=tensor.name, dtype=tensor.dtype)
        for tensor in inner.inputs
    }
    decided = learner.objective.decide(inner(inputs))
    return keras.Model(inputs, _judgement(decided), name=name)


def _judgement(decided: dict[str, Any]) -> Any:
    """Of what a model gives: its probabilities, or the value of a regression."""
    return decided.get("probabilities", decided["prediction"])


def _total(parts: Sequence[tuple[np.ndarray, float]]) -> np.ndarray:
    return np.sum([part * np.float32(weight) for part, weight in parts], axis=0)


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
        outputs = [_judgement(member.model(inputs)) for member in members]
        decided = _decided(self.objective, outputs, [1 / len(outputs)] * len(outputs))
        self.model = keras.Model(inputs, decided, name="kerastrain")

    def fit(self, train: Rows, validation: Rows) -> None:
        """Its members are fitted, each on rows of its own."""
        raise NotImplementedError("fit the members")

    def undecided(self, rows: Rows) -> np.ndarray:
        """Each member encodes rows in its own way: ask `model` with raw columns."""
        raise NotImplementedError("ask `model` with raw columns")


def _decided(
    objective: Objective, tensors: Sequence[Any], weights: Sequence[float]
) -> dict[str, Any]:
    """What a model gives, from the weighted mean of what its members say."""
    mean = _mean(tensors, weights)
    if objective.task == "regression":
        return {"prediction": mean}
    prediction = DecideLabel(objective.labels)(mean)
    return {"prediction": prediction, "probabilities": mean}


def _mean(tensors: Sequence[Any], weights: Sequence[float]) -> Any:
    if len(tensors) == 1:
        return keras.layers.Identity(dtype="float32")(tensors[0])
    return WeightedMean(weights)(tensors)
