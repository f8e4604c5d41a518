"""What the tree estimators of scikit-learn share: time, threads, shares of classes."""

import contextlib
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import threadpoolctl
from keras import ops

from kerastrain.boosting import Boosting, Stop
from kerastrain.estimator import Examples, Fitted, Setting, matrix_of
from kerastrain.events import note
from kerastrain.features import Features
from kerastrain.forest.read_sklearn import read_forest
from kerastrain.forest.trees import Trees
from kerastrain.kernels import frozen_dense
from kerastrain.layers import Exact, register

__all__ = ["AveragedTrees", "LogShares", "grow", "note_loss", "openmp_threads"]


class AveragedTrees(Boosting):
    """Mean over trees that are grown apart: random forest, extra trees.

    What boosts and what is averaged differ in the outputs: the leaves of these hold
    shares of classes, whose logarithm is taken behind the mean.
    """

    rounds = patience = 0  # none depends on those before it
    library_error = ValueError
    trees: int
    max_depth: int | None
    max_features: Any
    min_samples_leaf: int | None
    max_mb: float
    least_share: float

    @abstractmethod
    def made(self, setting: Setting) -> Any:
        """The library's model with its own defaults."""

    def learn(self, train: Examples, validation: Examples, setting: Setting) -> Fitted:
        fitted = super().learn(train, validation, setting)
        if self.model_ is not None:
            self.trees_ = self.read()
        return fitted

    def boost(
        self, train: Examples, validation: Examples, setting: Setting, stop: Stop
    ) -> Any:
        note_loss(self, setting, "mse", "mae")
        model, matrix = self.made(setting), train.matrix
        model.set_params(**self._options(len(train), setting))

        def fit(count: int) -> int:
            model.set_params(n_estimators=count)
            model.fit(matrix, train.targets, train.weight)
            return count

        first, limit = setting.num_threads, setting.seconds
        stop.is_cut_short = grow(fit, self.trees, first=first, seconds=limit)
        stop.num_rounds = len(model.estimators_)
        return model

    def _options(self, num_rows: int, setting: Setting) -> dict[str, Any]:
        """Defaults: best on average over telco_churn, adult, letter, ames, california
        and diamonds, 8,000 rows each."""
        least = {"binary": 5, "multiclass": 1, "regression": 2}[setting.task]
        least = self.min_samples_leaf or least
        features = 0.75 if setting.task == "regression" else 0.5
        limit = leaves_within(self.max_mb, self.trees, setting.num_outputs)
        options = {
            "max_depth": self.max_depth,
            "max_features": self.max_features or features,
            "min_samples_leaf": least,
            # Trees that grow best leaf first take longer: only where the limit counts.
            "max_leaf_nodes": limit if num_rows // least > limit else None,
            "random_state": setting.seed,
            "n_jobs": setting.num_threads,
            "warm_start": True,
        }
        is_absolute = setting.loss == "mae"
        return options | ({"criterion": "absolute_error"} if is_absolute else {})

    def raw(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        matrix = matrix_of(numbers, codes)
        if self.setting_.task == "regression":
            return self.model_.predict(matrix)
        return log_shares(_shares(self.model_.predict_proba(matrix)), self.least_share)

    def read(self) -> Trees:
        """The mean over the trees: values, or shares of the classes with train rows."""
        trees = read_forest(self.model_)
        return Trees(
            **trees.arrays()
            | {"value": _shares(trees.value), "base": _shares(trees.base[None])[0]}
        )

    def layers(self, features: Features) -> Any:
        if self.setting_.task == "regression" or self.model_ is None:
            return self.forest(features)
        logits = LogShares(self.least_share)(self.forest(features))
        return frozen_dense(logits, self.classes_.spread, self.classes_.base)


def _shares(columns: np.ndarray) -> np.ndarray:
    """Of two classes the second column alone, which tells both."""
    return columns[:, 1:] if columns.shape[1] == 2 else columns


def leaves_within(megabytes: float, num_trees: int, num_outputs: int) -> int:
    """Leaves a tree may have so that the arrays of `Trees` stay below a size."""
    node_bytes = 25 + 4 * num_outputs
    return max(2, int(megabytes * 1e6 / (num_trees * 2 * node_bytes)))


def note_loss(estimator: Any, setting: Setting, *known: str) -> None:
    """Tell of a loss of a regression that the library does not have."""
    if setting.task == "regression" and setting.loss not in known:
        name = type(estimator).__name__
        note(
            "loss_replaced",
            f"{name} has no {setting.loss} loss; the squared error replaces it.",
            loss="mse",
        )


@contextlib.contextmanager
def openmp_threads(num_threads: int) -> Iterator[None]:
    """Histogram boosting works by OpenMP and has no setting of its own for it."""
    with threadpoolctl.threadpool_limits(num_threads, user_api="openmp"):
        yield


def grow(
    fit: Callable[[int], int], total: int, *, first: int, seconds: float | None
) -> bool:
    """Call `fit` until `total` is reached, in pieces that end in time.

    Args:
        fit: takes the number to have from now on and gives the number there is; if
            that is less, it found its own end.
        first: size of the first piece, which is fitted at any cost.
        seconds: None is no limit, then there is one piece.

    Returns: whether the time ran out before.
    """
    start, done = time.monotonic(), 0
    piece = total if seconds is None else first
    while done < total:
        asked = min(total, done + piece)
        done = fit(asked)
        if done < asked or seconds is None:
            return False
        spent = max(1e-9, time.monotonic() - start)
        # Never more than there are: what is asked once more costs little beside.
        piece = min(done, int((seconds - spent) * done / spent))
        if piece < 1:
            return done < total
    return False


def log_shares(shares: Any, least: float, xp: Any = np) -> Any:
    """Class shares to logits; one output is the share of the second of two classes."""
    if shares.shape[-1] == 1:
        shares = xp.clip(shares, least, 1 - least)
        return xp.log(shares) - xp.log1p(-shares)
    return xp.log(xp.maximum(shares, least))


@register
class LogShares(Exact):
    """Class shares of a forest to logits. `(batch, n)` -> `(batch, n)`.

    One column is the share of the second of two classes.

    Args:
        least: share that a class is given at least: trees without a row of a class do
            not know that it cannot be.
    """

    def __init__(self, least: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.least = float(least)

    def call(self, shares: Any) -> Any:
        return log_shares(shares, self.least, ops)

    def compute_output_spec(self, shares: Any) -> Any:
        return keras.KerasTensor(shares.shape, "float32")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"least": self.least}
