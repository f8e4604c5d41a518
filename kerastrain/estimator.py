"""Estimators: learners of other libraries, whose prediction becomes Keras layers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kerastrain.features import Features, NumberStatistics
from kerastrain.schema import Task

__all__ = ["Estimator", "Examples", "Setting", "matrix_of"]


@dataclass(frozen=True)
class Examples:
    """Encoded rows as an estimator takes them.

    Args:
        numbers: float32 `(rows, n)`, finite or NaN for missing; n may be 0.
        codes: int32 `(rows, m)`, 0 for missing or unseen; m may be 0.
        targets: int32 classes `(rows,)`, or float32 standardised values `(rows,)`.
        weight: float32 `(rows,)`, what each row counts; None where all count alike.
    """

    numbers: np.ndarray
    codes: np.ndarray
    targets: np.ndarray
    weight: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def matrix(self) -> np.ndarray:
        """All columns side by side, float32 `(rows, n + m)`."""
        return matrix_of(self.numbers, self.codes)

    def take(self, rows: np.ndarray) -> "Examples":
        """Those at positions, or of a bool array."""
        weight = None if self.weight is None else self.weight[rows]
        return Examples(
            self.numbers[rows], self.codes[rows], self.targets[rows], weight
        )

    def counting(self) -> "Examples":
        """Without rows of weight 0, from which a library would learn classes and bins.

        Where all have weight 0, none counts more than another.
        """
        if self.weight is None or self.weight.all():
            return self
        if not self.weight.any():
            return replace(self, weight=None)
        return self.take(self.weight > 0)

    def among(self, classes: np.ndarray) -> "Examples":
        """Targets as places in `classes`, which rise; rows of others are left out."""
        is_known = np.isin(self.targets, classes)
        known = self if is_known.all() else self.take(is_known)
        return replace(known, targets=np.searchsorted(classes, known.targets))


def matrix_of(numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Numbers, then codes: float32 `(rows, n + m)`. Codes below 2**24 are exact."""
    return np.hstack([numbers, codes.astype("float32")])


@dataclass(frozen=True)
class Setting:
    """What an estimator is told beside its options.

    Args:
        task: binary, multiclass or regression.
        num_classes: labels, those without a train row too; 0 in a regression.
        vocabulary_sizes: codes of each code column, code 0 included.
        statistics: of the number matrix over the train rows.
        loss: name of the loss; see `ObjectiveConfig`.
        seed: of all chance.
        num_threads: that may be used.
        seconds: that fitting may take, about; None is no limit.
        columns: names of the numbers that each column of the table became, in the order
            of the number matrix; none for one of categories. Empty where not known.
    """

    task: Task
    num_classes: int
    vocabulary_sizes: tuple[int, ...]
    statistics: NumberStatistics
    loss: str = "mse"
    seed: int = 0
    num_threads: int = 1
    seconds: float | None = None
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def num_outputs(self) -> int:
        return self.num_classes if self.task == "multiclass" else 1

    @property
    def is_code(self) -> np.ndarray:
        """Which columns of `matrix_of` are codes, bool `(n + m,)`."""
        n, m = len(self.statistics.median), len(self.vocabulary_sizes)
        return np.arange(n + m) >= n


@dataclass
class Fitted:
    """What an estimator tells of its fit.

    Args:
        rounds: that are kept, of those that boost or iterate; 0 for the others.
        is_cut_short: the time ran out before it was done.
    """

    rounds: int = 0
    is_cut_short: bool = False
    notes: dict[str, Any] = field(default_factory=dict)


class Estimator(ABC):
    """One kind of model of another library.

    Its options are the keyword-only arguments of its constructor.

    `scores` and `layers` give the same numbers: the outputs that a network's head would
    give, so that loss, calibration and decision are the same for all learners. Of two
    classes that is the logit of the second, `(rows, 1)`; of more the logits (log
    probabilities will do) `(rows, classes)`, with `kernels.LEAST_LOGIT` for a class
    without a train row; in a regression the standardised value `(rows, 1)`.
    """

    #: Whether `layers` exists; a learner without it cannot be exported.
    is_exportable: bool = True

    @abstractmethod
    def learn(self, train: Examples, validation: Examples, setting: Setting) -> Fitted:
        """Fit on `train`; `validation` decides when to stop, where that is a question.

        Classes that no train row has must not break it.
        """

    @abstractmethod
    def scores(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """The library's own prediction as float32 outputs `(rows, num_outputs)`."""

    @abstractmethod
    def layers(self, features: Features) -> Any:
        """The same as Keras layers: `features` to a tensor `(batch, num_outputs)`."""
