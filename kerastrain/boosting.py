"""What all estimators of trees share: classes, when to stop, layers."""

import copy
import math
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from keras import ops

from kerastrain.encodings import CodeMeans, target_columns
from kerastrain.errors import ConfigError
from kerastrain.estimator import Estimator, Examples, Fitted, Setting, matrix_of
from kerastrain.events import note
from kerastrain.features import Features
from kerastrain.forest.join import mean_of, one_leaf
from kerastrain.forest.layer import Forest
from kerastrain.forest.trees import Trees
from kerastrain.kernels import LEAST_LOGIT

__all__ = ["Boosting", "Stop", "bagged", "given", "rounds_that_fit"]

# Numbers in the leaves of a forest, at 4 bytes. It binds from about 50 classes on.
_MOST_VALUES = 200_000_000
# A limit of time is first held against the pace after so many rounds, or this share of
# it. Rounds times rate of boosting that stopped by itself were 30 to 75.
_PACED_ROUNDS = 10
_PACED_SHARE = 0.1
_JOURNEY = 40.0
_MOST_RATE = 0.25


class Stop:
    """Tells a library after each round whether to stop; remembers the best one.

    Where the rounds that fit into the time would end far from the optimum, it asks for
    a higher learning rate, once.

    Args:
        rounds: at most.
        patience: rounds without a lower validation loss.
        seconds: from now on; a round that would go beyond is not begun.

    Attributes:
        num_rounds: that are kept: up to the lowest loss, or all where there is none.
        is_cut_short: the time ran out.
    """

    def __init__(self, rounds: int, patience: int, seconds: float | None):
        self.rounds, self.patience = rounds, patience
        self.num_rounds = 0
        self.is_cut_short = False
        self._start = self._first = time.monotonic()
        self._seconds = math.inf if seconds is None else seconds
        self._least = math.inf
        self._has_paced = False

    def after(self, done: int, loss: float | None) -> bool:
        """Whether to stop after `done` rounds; None is without a validation loss."""
        if loss is None or loss < self._least or done == 1:
            self.num_rounds = done
            self._least = math.inf if loss is None or math.isnan(loss) else loss
        if done >= self.rounds:
            return True
        now = time.monotonic()
        if done == 1:  # the first has the sorting of columns in it
            self._first = now
        self.is_cut_short = now + self._pace_s(done, now) - self._start > self._seconds
        return self.is_cut_short or done - self.num_rounds >= self.patience

    def _pace_s(self, done: int, now: float) -> float:
        """Seconds of a round; of the first alone all that there was."""
        spent_s = (now - self._first) / max(1, done - 1) or now - self._start
        return max(spent_s, 1e-9)  # a clock may stand still for 16 ms

    def paced(self, done: int, rate: float) -> float | None:
        """A learning rate for the rounds after `done`, the once that it has to change.

        Args:
            rate: that was asked for; above `_MOST_RATE` nothing is raised.
        """
        now = time.monotonic()
        spent_s = now - self._start
        is_known = done >= _PACED_ROUNDS or spent_s > _PACED_SHARE * self._seconds
        if done < 2 or not is_known or self._has_paced:
            return None
        self._has_paced = True
        left_s = self._seconds - spent_s
        fitting = done + max(1.0, left_s / self._pace_s(done, now))
        raised = min(_MOST_RATE, min(self.rounds * rate, _JOURNEY) / fitting)
        return raised if raised > rate else None


@dataclass(frozen=True)
class _Classes:
    """The classes that the library sees, and the way back to all outputs.

    Args:
        present: those that train rows have, in order; empty in a regression.
        spread: 0 and 1, `(outputs of the library, outputs)`.
        base: `LEAST_LOGIT` for absent classes, float32 `(outputs,)`.
        prior: raw scores without any column, `(outputs of the library,)`.
    """

    present: np.ndarray
    spread: np.ndarray
    base: np.ndarray
    prior: np.ndarray

    @classmethod
    def of(cls, train: Examples, setting: Setting) -> "_Classes":
        if setting.task == "regression":
            mean = np.average(train.targets, weights=train.weight)
            one = np.ones((1, 1), "float32")
            return cls(np.zeros(0, "int32"), one, np.zeros(1, "float32"), one[0] * mean)
        present, places = np.unique(train.targets, return_inverse=True)
        prior = np.log(np.bincount(places, train.weight) / _total(train))
        if len(present) <= 2:
            prior = prior[-1:] - prior[:1]
        spread = np.zeros((len(prior), max(2, setting.num_classes)), "float32")
        spread[np.arange(len(prior)), present[-len(prior) :]] = len(present) > 1
        base = np.full(spread.shape[1], LEAST_LOGIT, "float32")
        base[present] = 0
        if setting.num_outputs == 1:
            spread, base = spread[:, 1:], base[1:] - base[:1]
        return cls(present, spread, base, prior)

    def narrowed(self, examples: Examples) -> Examples:
        """Targets as the library counts them; rows of unknown classes are left out."""
        return examples.among(self.present) if len(self.present) else examples

    def setting(self, setting: Setting) -> Setting:
        """As the library is to see it."""
        if setting.task == "regression":
            return setting
        two = len(self.present) == 2
        return replace(
            setting,
            task="binary" if two else "multiclass",
            num_classes=len(self.present),
        )

    def scores(self, raw: np.ndarray) -> np.ndarray:
        """All outputs, float32 `(rows, outputs)`, from those of the library."""
        raw = raw.reshape(-1, len(self.spread)).astype("float32")
        return raw @ self.spread + self.base

    def trees(self, trees: Trees) -> Trees:
        base = (trees.base @ self.spread + self.base).astype("float32")
        return replace(trees, value=trees.value @ self.spread, base=base)


class Boosting(Estimator):
    """Boosted trees of a library over numbers and codes.

    The library knows only classes that it has seen; here they are put at their places.

    Attributes:
        rounds: at most.
        patience: rounds without a better validation loss before it stops.
        library_error: what the library raises where it refuses a parameter.
        means_replace: means of the target stand for the codes of their columns, not
            beside them.
        model_: of the library; None where there is nothing to learn.
        means_: of columns of many codes; None where there are none.
    """

    means_replace: bool = False
    rounds: int
    patience: int
    library_error: type[Exception]
    model_: Any = None
    means_: CodeMeans | None = None

    @abstractmethod
    def boost(
        self, train: Examples, validation: Examples, setting: Setting, stop: Stop
    ) -> Any:
        """The library's model of the best round; None where nothing can be split.

        Classes are numbered from 0 without gaps, and each has a train row.
        """

    @abstractmethod
    def raw(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """What `model_` gives: logits, or values."""

    @abstractmethod
    def read(self) -> Trees:
        """`model_` as trees over the columns of `columns`."""

    def columns(self, features: Features) -> list[Any]:
        """Matrices that the trees split on, side by side."""
        codes = features.codes
        whole = [
            features.numbers,
            None if codes is None else ops.cast(codes, "float32"),
            None if self.means_ is None else self.means_.layers(codes),
        ]
        return [matrix for matrix in whole if matrix is not None]

    def encode(
        self, train: Examples, setting: Setting, above: int | None
    ) -> np.ndarray | None:
        """Learn `means_` of columns of more codes than `above`; None is of no column.

        Returns: those that the train rows are to see, which are out of fold.
        """
        if above is None:
            return None
        found = CodeMeans.fit(
            train.codes,
            target_columns(train.targets, setting.num_classes),
            train.weight,
            setting.vocabulary_sizes,
            above=above,
            seed=setting.seed,
        )
        self.means_, encoded = found or (None, None)
        return encoded

    def matrix(
        self, numbers: np.ndarray, codes: np.ndarray, encoded: np.ndarray | None = None
    ) -> np.ndarray:
        """What `columns` gives, float32: numbers, codes, then means.

        Args:
            encoded: of `encode`; looked up where it is None, as for all new rows.
        """
        if self.means_ is None:
            return matrix_of(numbers, codes)
        if encoded is None:
            encoded = self.means_.numbers(codes)
        if self.means_replace:  # nothing can be split there
            codes = codes.copy()
            codes[:, self.means_.columns] = 0
        return np.hstack([matrix_of(numbers, codes), encoded])

    @property
    def num_means(self) -> int:
        """Columns of `matrix` that follow the codes."""
        return 0 if self.means_ is None else self.means_.width

    def learn(self, train: Examples, validation: Examples, setting: Setting) -> Fitted:
        stop = Stop(self.rounds, self.patience, setting.seconds)
        if setting.loss == "focal":
            note(
                "loss_replaced",
                f"{type(self).__name__} has no focal loss; cross-entropy replaces it.",
                loss="cross_entropy",
            )
        train, validation = train.counting(), validation.counting()
        self.setting_, self.model_, self.means_ = setting, None, None
        self.classes_ = _Classes.of(train, setting)
        if len(self.classes_.present) != 1:
            narrowed = self.classes_.narrowed
            inner = self.classes_.setting(setting)
            try:
                self.model_ = self.boost(
                    narrowed(train), narrowed(validation), inner, stop
                )
            except self.library_error as error:
                text = str(error).strip().partition("\n")[0]
                raise ConfigError(
                    f"{type(self).__name__} cannot fit: {text}"
                ) from error
        if self.model_ is None:
            self.trees_ = one_leaf(self.classes_.scores(self.classes_.prior)[0])
            return Fitted()
        self.trees_ = self.classes_.trees(self.read())
        return Fitted(stop.num_rounds, stop.is_cut_short)

    def scores(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        if self.model_ is None:
            return np.tile(self.trees_.base, (len(numbers), 1))
        return self.classes_.scores(self.raw(numbers, codes))

    def layers(self, features: Features) -> Any:
        return self.forest(features)

    def splits_like(self, other: "Boosting") -> bool:
        """Whether the trees of both are over the same columns, for the same classes."""
        return (
            type(self) is type(other)
            and self.model_ is not None
            and other.model_ is not None
            # Means of a target are those of the rows that were fitted on.
            and self.means_ is other.means_ is None
            and np.array_equal(self.classes_.present, other.classes_.present)
        )

    def forest(self, features: Features) -> Any:
        """What `trees_` give, as a layer."""
        whole = self.columns(features)
        matrix = whole[0] if len(whole) == 1 else ops.concatenate(whole, axis=-1)
        return Forest(self.trees_)(matrix)


def bagged(several: Sequence[Boosting]) -> Boosting | None:
    """An estimator whose layers give the mean over several, from one forest.

    Of boosting that is the mean of the scores, of averaged trees that of the shares.
    None where their trees are not over the same columns and classes. It has no model of
    the library.
    """
    first = several[0]
    if not all(one.splits_like(first) for one in several):
        return None
    whole = copy.copy(first)
    whole.trees_ = mean_of([one.trees_ for one in several])
    return whole


def given(value: Any, setting: Setting, classes: Any, regression: Any) -> Any:
    """An option, or where it is None the tuned default of the task."""
    if value is not None:
        return value
    return regression if setting.task == "regression" else classes


def rounds_that_fit(rounds: int, nodes: int, setting: Setting) -> int:
    """Fewer rounds where trees of each of very many classes would not fit in memory.

    Args:
        nodes: of a tree, at most.
    """
    outputs = setting.num_outputs
    most = max(1, _MOST_VALUES // (nodes * outputs * outputs))
    if most < rounds:
        note(
            "rounds_limited",
            f"{outputs} classes have a tree each in every round, so there are at most "
            f"{most} rounds instead of {rounds}; smaller trees allow more.",
            rounds=most,
        )
    return min(rounds, most)


def _total(examples: Examples) -> float:
    return float(len(examples) if examples.weight is None else examples.weight.sum())
