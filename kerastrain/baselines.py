"""What a model has to beat: the most frequent class or the mean, and a linear model."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from kerastrain.arrays import chunk_rows, pieces
from kerastrain.evaluation import METRICS
from kerastrain.events import warn

__all__ = ["Baselines", "EncodedTable", "fit_baselines"]

MAX_ROWS = 100_000
# Time of the logistic regression grows with rows x classes.
MAX_CELLS = 2_200_000
MAX_CONSTANT_ROWS = 5_000_000  # the share of a class is then known to 0.0002
MAX_STEPS = 300
STRENGTHS = (0.01, 0.1, 1.0, 10.0)  # C of the logistic regression, most penalised first
PENALTIES = (1_000.0, 100.0, 10.0, 1.0)  # alpha of the ridge regression


@dataclass(frozen=True)
class EncodedTable:
    """Every row of the data as arrays.

    Args:
        numbers: `(rows, numeric columns)`, float32, NaN where missing.
        codes: `(rows, categorical columns)`, int32, 0 where missing or unseen.
        y: `(rows,)`, class numbers (int) or values (float).
        weight: `(rows,)` or None.
    """

    numbers: np.ndarray
    codes: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None = None

    def features(self, rows: np.ndarray) -> np.ndarray:
        """`(rows, columns)` float32; a code below 2**24 is exact in it."""
        numbers = self.numbers[rows].astype(np.float32)
        numbers[~np.isfinite(numbers)] = np.nan
        return np.hstack([numbers, self.codes[rows].astype(np.float32)])

    def weight_of(self, rows: np.ndarray) -> np.ndarray | None:
        return None if self.weight is None else self.weight[rows]


@dataclass(frozen=True)
class Baselines:
    """Predictions on the test rows, by name, and how the linear model came about."""

    predictions: Mapping[str, np.ndarray]
    description: str
    num_fitted_rows: int


def fit_baselines(
    task: str,
    table: EncodedTable,
    *,
    train_rows: np.ndarray,
    validation_rows: np.ndarray,
    test_rows: np.ndarray,
    num_classes: int = 0,
    seed: int = 0,
) -> Baselines:
    """Predict the test rows with the simplest models there are.

    `majority` gives the shares of the classes, `mean` the mean; `linear` is a logistic
    or ridge regression on imputed and standardised numbers and one-hot codes. Its
    strength is the one of four that does best on the validation rows. It is fitted
    on a sample when there are many rows, which `description` tells.

    Args:
        train_rows, validation_rows, test_rows: row numbers in `table`.
        num_classes: labels of the task, those without a train row too.

    Shapes: predictions are `(test rows, classes)` or, in a regression, `(test rows,)`.
    """
    limit = MAX_ROWS
    if task != "regression":
        limit = min(limit, MAX_CELLS // max(num_classes - 1, 1))
    rows = {
        "train": _sample(train_rows, limit, seed),
        "validation": _sample(validation_rows, limit, seed),
        "test": test_rows,
    }
    name = "mean" if task == "regression" else "majority"
    simple = _predict_constant(task, table, train_rows, len(test_rows), num_classes)
    num_fitted = len(rows["train"])
    if not len(test_rows) or _has_nothing_to_learn(table, rows["train"]):
        text = "No linear model: no test row, no column, or a target of one value."
        return Baselines({name: simple, "linear": simple}, text, num_fitted)
    try:
        with np.errstate(all="ignore"):
            linear, text = _fit_linear(task, table, rows, num_classes)
    except ValueError as error:  # numbers beyond what a solver can take
        text = f"No linear model: {str(error).partition(chr(10))[0]}"
        warn("baseline_failed", f"{text} The verdict compares with the {name}.")
        return Baselines({name: simple, "linear": simple}, text, num_fitted)
    text += f" on {num_fitted:,} train rows"
    if num_fitted < len(train_rows):
        text += f", drawn at random from {len(train_rows):,}"
    return Baselines({name: simple, "linear": linear}, f"{text}.", num_fitted)


def _sample(rows: np.ndarray, limit: int, seed: int) -> np.ndarray:
    if len(rows) <= limit:
        return rows
    chosen = np.random.default_rng(seed).choice(len(rows), limit, replace=False)
    return rows[np.sort(chosen)]


def _has_nothing_to_learn(table: EncodedTable, rows: np.ndarray) -> bool:
    num_columns = table.numbers.shape[1] + table.codes.shape[1]
    return num_columns == 0 or len(np.unique(table.y[rows])) < 2


def _predict_constant(
    task: str, table: EncodedTable, rows: np.ndarray, num_test: int, num_classes: int
) -> np.ndarray:
    """Shares of the classes among `rows` (or the mean), the same for every test row."""
    if num_test == 0:
        return np.zeros((0, num_classes) if task != "regression" else 0)
    rows = _sample(rows, MAX_CONSTANT_ROWS, 0)
    nothing, empty = np.zeros((len(rows), 1)), np.zeros((num_test, 1))
    y, weight = table.y[rows], table.weight_of(rows)
    if task == "regression":
        return DummyRegressor().fit(nothing, y, weight).predict(empty)
    model = DummyClassifier(strategy="prior").fit(nothing, y, weight)
    return _for_every_class(model, model.predict_proba(empty), num_classes)


def _for_every_class(
    model: Any, probabilities: np.ndarray, num_classes: int
) -> np.ndarray:
    """Columns for the classes that had no row to be fitted on: probability 0."""
    full = np.zeros((len(probabilities), num_classes), probabilities.dtype)
    full[:, model.classes_] = probabilities
    return full


def _fit_linear(
    task: str,
    table: EncodedTable,
    rows: Mapping[str, np.ndarray],
    num_classes: int,
) -> tuple[np.ndarray, str]:
    """Prediction on the test rows by the strength that validates best."""
    encoder = _encoder(table.numbers.shape[1], table.codes.shape[1])
    x = encoder.fit_transform(table.features(rows["train"]))
    y, weight = table.y[rows["train"]], table.weight_of(rows["train"])
    judges = rows["validation"] if len(rows["validation"]) else rows["train"]
    least_error, best = np.inf, (np.zeros(0), "")
    for model, text in _fitted(task, x, y, weight):
        judged = _predict(model, encoder, table, judges, num_classes)
        error = _error(task, table, judges, judged)
        if error < least_error:
            tested = _predict(model, encoder, table, rows["test"], num_classes)
            least_error, best = error, (tested, text)
    return best


def _encoder(num_numbers: int, num_codes: int) -> ColumnTransformer:
    numbers = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        StandardScaler(),
        # One value of 1e9 among thousands near 0 keeps the solver from converging.
        FunctionTransformer(np.clip, kw_args={"a_min": -10.0, "a_max": 10.0}),
    )
    codes = OneHotEncoder(handle_unknown="ignore", dtype=np.float32)
    parts = [
        ("numbers", numbers, list(range(num_numbers))),
        ("codes", codes, list(range(num_numbers, num_numbers + num_codes))),
    ]
    return ColumnTransformer([part for part in parts if part[2]], sparse_threshold=1.0)


def _fitted(
    task: str, x: Any, y: np.ndarray, weight: np.ndarray | None
) -> Iterator[tuple[Any, str]]:
    """Models of rising freedom with their names; one object, fitted anew each time."""
    if task == "regression":
        for alpha in PENALTIES:
            yield Ridge(alpha).fit(x, y, weight), f"Ridge regression (alpha {alpha:g})"
        return
    model = LogisticRegression(max_iter=MAX_STEPS, tol=1e-4, warm_start=True)
    for strength in STRENGTHS:
        model.C = strength  # a warm start: from where the stronger penalty ended
        with warnings.catch_warnings():
            # The description tells it; the steps after these gain next to nothing.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, y, weight)
        text = f"Logistic regression (C {strength:g})"
        if model.n_iter_.max() >= MAX_STEPS:
            text += f", stopped after {MAX_STEPS} steps,"
        yield model, text


def _predict(
    model: Any, encoder: Any, table: EncodedTable, rows: np.ndarray, num_classes: int
) -> np.ndarray:
    """In chunks: one-hot codes of a million rows take 0.4 GB."""
    if not len(rows):
        return np.zeros((0, num_classes) if num_classes else 0)
    width = table.numbers.shape[1] + table.codes.shape[1]
    return np.concatenate(
        [
            _predict_chunk(
                model, encoder.transform(table.features(rows[p])), num_classes
            )
            for p in pieces(len(rows), chunk_rows(16 * width))
        ]
    )


def _predict_chunk(model: Any, x: Any, num_classes: int) -> np.ndarray:
    if isinstance(model, Ridge):
        return model.predict(x)
    return _for_every_class(model, model.predict_proba(x), num_classes)


def _error(
    task: str, table: EncodedTable, rows: np.ndarray, predicted: np.ndarray
) -> float:
    name = "rmse" if task == "regression" else "log_loss"
    return METRICS[task][name].function(table.y[rows], predicted, table.weight_of(rows))
