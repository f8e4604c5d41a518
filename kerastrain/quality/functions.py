"""Several columns that give a number away together, such as `cnt = casual + hired`."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from kerastrain.events import finding
from kerastrain.quality.sample import Sample
from kerastrain.schema import Target

__all__ = ["ignoring", "named", "warn_of_functions"]

_MAX_COLUMNS = 200  # those with the largest correlation
_MAX_ROWS = 10_000
_ROWS_PER_COLUMN = 10
_MAX_MISSING = 0.5
_EXACT = 0.9999
_NEARLY = 0.99  # taxis: total - tip - tolls leave 0.9 % of the fare's variance
# Honest numbers that many columns add up to are common; that three do is not.
_MAX_EXACT, _MAX_NEAR = 10, 3
# As large as the error of all columns may the error of the chosen ones be.
_SLACK, _ROUNDING = 1.5, 1e-6
# A leak's error is so many times smaller than that of all other columns.
_MIN_RATIO = 3.0
# Absolute errors beside absolute deviations: R2 alone may hang on a few huge rows.
_MAX_ERROR = 0.2


def warn_of_functions(sample: Sample, without: Collection[str]) -> set[str]:
    """Warn of a few columns of which the target is a weighted sum, or a product.

    Args:
        without: columns that are known to give the target away on their own.

    Returns:
        the columns that were warned of.
    """
    if sample.target.task == "multiclass":
        return set()
    for kind, fit in _fits(sample, without):
        chosen = fit.fewest(only_exact=kind == "product")
        if chosen:
            columns = [fit.names[i] for i in chosen]
            _warn(sample.target, columns, kind, fit.r2(chosen))
            return set(columns)
    return set()


def _warn(target: Target, columns: list[str], kind: str, r2: float) -> None:
    how = "exactly" if r2 >= _EXACT else "almost"
    finding(
        "function_of_columns",
        f"{named(columns)} give '{target.name}' away together: a weighted {kind} of "
        f"them is {how} '{target.name}' (R2 {r2:.4f}). If they are known only "
        f"afterwards, leave them out: {ignoring(columns)}",
        columns=columns,
        kind=kind,
        score=r2,
    )


def named(columns: Collection[str], *, limit: int = 10) -> str:
    """`"Columns 'a', 'b'"`; beyond `limit` only their number is told."""
    shown = ", ".join(f"'{name}'" for name in list(columns)[:limit])
    more = f" and {len(columns) - limit} more" if len(columns) > limit else ""
    return f"Column{'s' if len(columns) > 1 else ''} {shown}{more}"


def ignoring(columns: Collection[str]) -> str:
    """The options of the command line that leave columns out."""
    return " ".join(f"--ignore {name}" for name in columns)


# --- least squares ----------------------------------------------------------------


def _fits(sample: Sample, without: Collection[str]) -> Iterator[tuple[str, "_Fit"]]:
    """Least squares of the target, then of its logarithm on logarithms."""
    rows = slice(0, _MAX_ROWS)
    y = sample.y[rows]
    columns = {
        name: values[rows].astype("float64")
        for name, values in sample.inputs.items()
        if name not in without and isinstance(values, np.ndarray)
    }
    yield "sum", _Fit.of(columns, y)
    positive = {name: x for name, x in columns.items() if np.nanmin(x, initial=1) > 0}
    if len(positive) > 1 and y.min() > 0:
        logs = {name: np.log(x) for name, x in positive.items()}
        yield "product", _Fit.of(logs, np.log(y))


@dataclass(frozen=True)
class _Fit:
    """Least squares on centred, scaled columns, from their products alone.

    Args:
        x: `(rows, columns)`, mean 0, spread 1; missing values are at the mean.
        y: `(rows,)`, the same.
        products: `x.T @ x / rows`.
        with_y: `x.T @ y / rows`.
    """

    names: list[str]
    x: np.ndarray
    y: np.ndarray
    products: np.ndarray
    with_y: np.ndarray

    @classmethod
    def of(cls, columns: dict[str, np.ndarray], y: np.ndarray) -> "_Fit":
        y = _scaled(y)
        scaled = {}
        for name, x in columns.items():
            if np.isnan(x).mean() <= _MAX_MISSING:
                scaled[name] = _scaled(x)
        strength = {name: abs(float(x @ y)) for name, x in scaled.items() if x.any()}
        most = min(_MAX_COLUMNS, len(y) // _ROWS_PER_COLUMN)
        names = sorted(strength, key=lambda name: -strength[name])[:most]
        x = np.stack([scaled[n] for n in names], 1) if names else np.zeros((len(y), 0))
        return cls(names, x, y, x.T @ x / len(y), x.T @ y / len(y))

    def weights(self, chosen: list[int]) -> np.ndarray:
        # A touch of ridge: two equal columns have no inverse.
        ridge = 1e-10 * np.eye(len(chosen))
        products = self.products[np.ix_(chosen, chosen)]
        return np.linalg.solve(products + ridge, self.with_y[chosen])

    def r2(self, chosen: list[int]) -> float:
        if not chosen:
            return 0.0
        return min(1.0, float(self.weights(chosen) @ self.with_y[chosen]))

    def fewest(self, *, only_exact: bool) -> list[int]:
        """Columns that explain what all do, if those are few and others do not."""
        everything = list(range(len(self.names)))
        full = self.r2(everything)
        if full < (_EXACT if only_exact else _NEARLY):
            return []
        enough = 1 - max(_SLACK * (1 - full), _ROUNDING)
        limit = _MAX_EXACT if full >= _EXACT else _MAX_NEAR
        chosen = self._selected(enough, limit)
        others = [i for i in everything if i not in chosen]
        # One column alone was judged by its own score.
        is_known = len(chosen) < 2 or self._error(chosen) > _MAX_ERROR
        if is_known or 1 - self.r2(others) < _MIN_RATIO * (1 - full):
            return []
        return chosen

    def _selected(self, enough: float, limit: int) -> list[int]:
        """The best column next, until they are enough; then those are dropped that
        later ones made needless. Nothing where `limit` columns are not enough."""
        chosen: list[int] = []
        while self.r2(chosen) < enough:
            left = [i for i in range(len(self.names)) if i not in chosen]
            if len(chosen) == limit or not left:
                return []
            chosen.append(max(left, key=lambda i: self.r2([*chosen, i])))
        for i in list(chosen):
            rest = [j for j in chosen if j != i]
            if self.r2(rest) >= enough:
                chosen = rest
        return chosen

    def _error(self, chosen: list[int]) -> float:
        """Mean absolute error, in mean absolute deviations from the median."""
        error = self.y - self.x[:, chosen] @ self.weights(chosen)
        deviation = np.abs(self.y - np.median(self.y)).mean()
        return float(np.abs(error).mean() / deviation) if deviation else np.inf


def _scaled(values: np.ndarray) -> np.ndarray:
    """Mean 0, spread 1, the mean where a value is missing; all 0 for a constant."""
    present = ~np.isnan(values)
    if not present.any():
        return np.zeros(len(values))
    low, high = values[present].min(), values[present].max()
    # The spread of a constant is not 0 but its rounding error.
    if low == high:
        return np.zeros(len(values))
    centred = np.where(present, values - values[present].mean(), 0.0)
    return centred / centred.std()
