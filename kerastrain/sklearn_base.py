"""What the estimators of scikit-learn other than trees share.

Columns become a matrix before them and decisions become logits behind them; the best
of several strengths is the one with the least loss on validation rows.
"""

import copy
import time
import warnings
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.optimize
import scipy.special
from keras import ops
from sklearn.exceptions import ConvergenceWarning

from kerastrain.arrays import pieces
from kerastrain.errors import ConfigError
from kerastrain.estimator import Estimator, Examples, Fitted, Setting
from kerastrain.events import note
from kerastrain.features import Features
from kerastrain.kernels import LEAST_LOGIT, PlaceClasses
from kerastrain.layers import Calibrate
from kerastrain.schema import Task
from kerastrain.sklearn_inputs import Inputs

__all__ = ["Judge", "SklearnEstimator", "decision_of", "each_first", "platt"]

_CHUNK_ROWS = 8_192
_JUDGE_ROWS = 20_000


@dataclass
class Judge:
    """Rows that choose between models, and the time that is left for it.

    Args:
        x: as the library takes it.
        y: places among the found classes, or standardised values.
        weight: of each row, or None.
        loss: name of the loss of a regression.
        num_found: classes; 0 in a regression.
        is_scaled: decisions are put on the scale of logits before they are judged.
        deadline: of `time.monotonic`; None is no limit.
    """

    x: Any
    y: np.ndarray
    weight: np.ndarray | None
    loss: str
    num_found: int
    is_scaled: bool
    deadline: float | None

    @property
    def seconds(self) -> float:
        """That are left."""
        return np.inf if self.deadline is None else self.deadline - time.monotonic()

    def error(self, decision: np.ndarray) -> float:
        """Mean loss of decisions `(rows, outputs)`."""
        if not self.num_found:
            error = np.abs(decision[:, 0] - self.y)
            error = error if self.loss in ("mae", "huber") else error**2
            return float(np.average(error, weights=self.weight))
        if self.is_scaled:
            scale, shift = self.platt(decision)
            decision = decision * scale + shift
        log_p = scipy.special.log_softmax(_two(decision), axis=1)
        true = np.take_along_axis(log_p, self.y[:, None].astype("int64"), axis=1)
        return float(-np.average(true[:, 0], weights=self.weight))

    def platt(self, decision: np.ndarray) -> tuple[float, np.ndarray]:
        return platt(decision, self.y, self.weight)

    def best(self, candidates: Iterable[Any], decide: Any) -> tuple[Any, bool]:
        """The fitted model of least error, and whether the time cut the row short.

        Args:
            candidates: fitted one after the other as they are asked for.
            decide: model and `x` to decisions.
        """
        best, least, start = None, np.inf, time.monotonic()
        for number, model in enumerate(candidates, 1):
            error = self.error(decide(model, self.x))
            if best is None or error < least:
                best, least = copy.deepcopy(model), error
            if self.seconds < (time.monotonic() - start) / number:
                return best, True
        return best, False


def _two(decision: np.ndarray) -> np.ndarray:
    """Logits of all classes: one output is the logit of the second of two."""
    decision = decision.astype("float64")
    if decision.shape[1] > 1:
        return decision
    return np.concatenate([np.zeros_like(decision), decision], axis=1)


def platt(
    decision: np.ndarray, classes: np.ndarray, weight: np.ndarray | None
) -> tuple[float, np.ndarray]:
    """Scale and shift by which decisions become logits: least log loss on these rows.

    Drawn to no shift as by one row. The scale stays positive, so that the order of rows
    is kept.

    Shapes: decisions `(rows, outputs)`; the shift `(outputs,)`.
    Reference: Platt 1999, "Probabilistic outputs for support vector machines"; several
    classes share one scale.
    """
    num_rows, num_outputs = decision.shape
    weight = np.ones(num_rows) if weight is None else weight / weight.mean()
    spread = max(float(np.std(decision)), 1e-6)
    unit = decision.astype("float64") / spread
    is_true = np.eye(max(2, num_outputs))[classes]

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        scale, shift = np.exp(theta[0]), theta[1:]
        log_p = scipy.special.log_softmax(_two(unit * scale + shift), axis=1)
        slope = ((np.exp(log_p) - is_true) * weight[:, None])[:, -num_outputs:]
        value = -(weight[:, None] * is_true * log_p).sum() + 0.5 * (theta**2).sum()
        gradient = np.append((slope * unit).sum() * scale, slope.sum(axis=0)) + theta
        return value / num_rows, gradient / num_rows

    bounds = [(-7, 7), *[(LEAST_LOGIT, -LEAST_LOGIT)] * num_outputs]
    start = np.zeros(1 + num_outputs)
    found = scipy.optimize.minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds
    )
    return float(np.exp(found.x[0]) / spread), found.x[1:].astype("float32")


def decision_of(model: Any, x: Any) -> np.ndarray:
    """Decisions of a classifier of the library, values of a regressor, `(rows, n)`."""
    decide = getattr(model, "decision_function", model.predict)
    return decide(x).reshape(x.shape[0], -1)


class SklearnEstimator(Estimator):
    """An estimator of scikit-learn between columns and logits.

    The library knows only classes that it has seen, numbered without gaps; here they
    are put at their places.
    """

    #: What it can learn.
    tasks: tuple[Task, ...] = ("binary", "multiclass", "regression")
    #: How tails of numbers are drawn in; see `Inputs`.
    squash: Literal["log", "clip"] = "clip"
    #: Whether decisions are no logits yet; `platt` on validation rows makes them so.
    is_scaled: bool = False
    #: Codes of a column that have a place of their own; 0 is all.
    max_categories: int = 0
    #: Train rows that are used, drawn at random from more; 0 is all.
    max_rows: int = 0

    @abstractmethod
    def fit(
        self, x: Any, y: np.ndarray, weight: np.ndarray | None, judge: Judge
    ) -> Fitted:
        """Fit the library; classes are numbered from 0, two at least."""

    @abstractmethod
    def decide(self, x: Any) -> np.ndarray:
        """Logits or decisions, or values: `(rows, outputs)`."""

    @abstractmethod
    def decision_layers(self, features: Features) -> Any:
        """`decide` of `ready` as Keras layers."""

    def shape(self, train: Examples) -> None:
        """Add to `inputs_` what is learnt from the rows; there is nothing of the kind
        for most."""

    def ready(self, numbers: np.ndarray, codes: np.ndarray) -> Any:
        """The columns as the library takes them."""
        return self.inputs_.sparse(numbers, codes)

    def learn(self, train: Examples, validation: Examples, setting: Setting) -> Fitted:
        name = type(self).__name__
        if setting.task not in self.tasks:
            raise ConfigError(
                f"{name} cannot learn a {setting.task} target, only "
                f"{' and '.join(self.tasks)}. Take another model."
            )
        deadline = None
        if setting.seconds is not None:
            deadline = time.monotonic() + setting.seconds
        self.setting_ = setting
        self.inputs_ = Inputs(
            setting.statistics,
            setting.vocabulary_sizes,
            self.squash,
            self.max_categories,
        )
        self.platt_: tuple[float, np.ndarray] | None = None
        self.found_ = np.zeros(0, "int64")
        train, validation = train.counting(), validation.counting()
        if setting.task != "regression":
            self.found_ = np.unique(train.targets)
            if self._is_constant:
                return Fitted()
            train = train.among(self.found_)
            validation = validation.among(self.found_)
        train = self._drawn(train)
        self.shape(train)
        judge = self._judge(validation if len(validation) else train, deadline)
        x = self.ready(train.numbers, train.codes)
        with warnings.catch_warnings():
            # More steps gain next to nothing; early stopping and strengths see to it.
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = self.fit(x, train.targets, train.weight, judge)
        if self.is_scaled and judge.num_found:
            self.platt_ = judge.platt(self.decide(judge.x))
        return fitted

    def scores(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        if self._is_constant:
            return np.tile(self._constant(), (len(numbers), 1))
        parts = [np.zeros((0, self.setting_.num_outputs), "float32")]
        for piece in pieces(len(numbers), _CHUNK_ROWS):
            decision = self.decide(self.ready(numbers[piece], codes[piece]))
            logits = self._behind(decision.astype("float32"))
            parts.append(ops.convert_to_numpy(logits))
        return np.concatenate(parts)

    def layers(self, features: Features) -> Any:
        if self._is_constant:
            return self._constant_layers(features)
        return self._behind(self.decision_layers(features))

    def linear_layers(self, features: Features, model: Any) -> Any:
        """`decision_of` a linear model of the library over `ready` as Keras layers."""
        kernel, bias = np.atleast_2d(model.coef_).T, np.atleast_1d(model.intercept_)
        return self.inputs_.linear_layers(features, kernel, bias)

    def _judge(self, rows: Examples, deadline: float | None) -> Judge:
        rows = _some(rows, _JUDGE_ROWS, self.setting_)
        return Judge(
            self.ready(rows.numbers, rows.codes),
            rows.targets,
            rows.weight,
            self.setting_.loss,
            len(self.found_),
            self.is_scaled,
            deadline,
        )

    def _drawn(self, train: Examples) -> Examples:
        if not self.max_rows or len(train) <= self.max_rows:
            return train
        name = type(self).__name__
        note(
            "rows_sampled",
            f"{name} learns from {self.max_rows:,} of {len(train):,} train rows, drawn "
            "at random, because its time or size grows with them; set its option "
            "max_rows to change that.",
            model=name,
            num_rows=self.max_rows,
        )
        return _some(train, self.max_rows, self.setting_)

    # --- decisions to logits ------------------------------------------------------

    def _behind(self, decision: Any) -> Any:
        """Decisions to outputs, of an array or a Keras tensor."""
        num_outputs = self.setting_.num_outputs
        if self.platt_ is not None:
            scale, shift = self.platt_
            decision = Calibrate(scale, shift.tolist(), name="platt")(decision)
        if len(self.found_) and decision.shape[-1] != num_outputs:
            decision = PlaceClasses(self.found_.tolist(), num_outputs)(decision)
        return decision

    @property
    def _is_constant(self) -> bool:
        return self.setting_.task != "regression" and len(self.found_) < 2

    def _constant(self) -> np.ndarray:
        """Where the train rows have one class: it is certain, `(num_outputs,)`."""
        logits = np.full(max(2, self.setting_.num_classes), LEAST_LOGIT, "float32")
        logits[self.found_] = 0
        return logits if self.setting_.num_outputs > 1 else logits[1:] - logits[:1]

    def _constant_layers(self, features: Features) -> Any:
        bias = self._constant()
        width = self.inputs_.num_numbers + sum(self.inputs_.vocabulary_sizes)
        kernel = np.zeros((width, len(bias)), "float32")
        return self.inputs_.linear_layers(features, kernel, bias)


def _some(examples: Examples, num_rows: int, setting: Setting) -> Examples:
    """So many rows at most, drawn at random; some of every class."""
    if len(examples) <= num_rows:
        return examples
    order = np.random.default_rng(setting.seed).permutation(len(examples))
    if setting.task != "regression":
        order = each_first(order, examples.targets)
    return examples.take(np.sort(order[:num_rows]))


def each_first(order: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Rows in this order, but before all others one of each class."""
    _, first = np.unique(targets[order], return_index=True)
    return np.append(order[first], np.delete(order, first))
