"""More rows of rare classes or fewer of common ones: train rows only, by position."""

from dataclasses import replace
from typing import Any

import numpy as np

from kerastrain.arrays import ArrayStore, Chosen
from kerastrain.errors import DataError, MissingExtra
from kerastrain.features import NumberStatistics
from kerastrain.pipeline import Rows

__all__ = ["MAX_SYNTHESIS_ROWS", "counts_of", "resampled", "synthesised", "wanted"]

# imbalanced-learn holds its rows as float64 beside ours, and one-hot codes of them.
MAX_SYNTHESIS_ROWS = 2_000_000


def counts_of(rows: Rows, num_classes: int) -> np.ndarray:
    """Rows of each class, int64 `(num_classes,)`; rows of weight 0 are none."""
    counts = np.zeros(num_classes, "int64")
    parts = (Chosen(rows.target, rows.index), Chosen(rows.weight, rows.index))
    for classes, weight in zip(*parts, strict=True):
        counts += np.bincount(classes[weight > 0], minlength=num_classes)
    return counts


def wanted(counts: np.ndarray, method: str, ratio: float) -> np.ndarray:
    """Rows of each class after resampling, for at least `ratio` rows per row.

    >>> wanted(np.array([1000, 10, 400]), "oversample", 0.5)
    array([1000,  500,  500])
    >>> wanted(np.array([1000, 10, 400]), "undersample", 0.5)
    array([20, 10, 20])
    >>> wanted(np.array([1000, 10, 400]), "none", 0.5)
    array([1000,   10,  400])
    """
    if method in ("oversample", "smote"):
        least = round(ratio * counts.max())
        return np.where(counts > 0, np.maximum(counts, least), 0)
    if method == "undersample" and counts.any():
        return np.minimum(counts, round(counts[counts > 0].min() / ratio))
    return counts


def resampled(rows: Rows, counts: np.ndarray, seed: int) -> Rows:
    """Rows with `counts` of each class: some left out, or some repeated.

    Nothing is copied but positions. Those of all classes stay in one order, so that
    reads from disk stay local and a run of rows holds every class.
    """
    random = np.random.default_rng([seed, 1])
    places = _places(rows, len(counts))
    chosen = [_draw(p, int(n), random) for p, n in zip(places, counts, strict=True)]
    return replace(rows, index=np.sort(np.concatenate(chosen)))


def _places(rows: Rows, num_classes: int) -> list[np.ndarray]:
    """Positions in the arrays of the rows of each class that count."""
    found: list[list[np.ndarray]] = [[] for _ in range(num_classes)]
    for piece in rows.pieces():
        index = rows.index[piece]
        classes = rows.target[index]
        index, classes = (a[rows.weight[index] > 0] for a in (index, classes))
        for number in np.unique(classes):
            found[number].append(index[classes == number])
    return [np.concatenate([*parts, np.zeros(0, "int64")]) for parts in found]


def _draw(places: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """`count` of them: all equally often, but for a last part drawn at random."""
    if not len(places):
        return places
    times, rest = divmod(count, len(places))
    some = random.choice(places, rest, replace=False)
    return np.concatenate([np.repeat(places, times), some])


# --- new rows ---------------------------------------------------------------------


def synthesised(
    rows: Rows,
    counts: np.ndarray,
    statistics: NumberStatistics,
    store: ArrayStore,
    seed: int,
) -> Rows:
    """Rows with as many new ones as make `counts` of each class, by SMOTE.

    A new row lies between a row and one of its five nearest of the same class: its
    numbers in between, its codes those of most of them. Distances are of numbers
    imputed by the median and scaled like a network's. The rows that were there are
    copied, with their gaps.

    Raises:
        DataError: too many rows, or a class with a single one.
        MissingExtra: imbalanced-learn is not installed.

    Reference: Chawla et al. 2002, "SMOTE: synthetic minority over-sampling technique".
    """
    have = counts_of(rows, len(counts))
    grown = {int(k): int(counts[k]) for k in np.flatnonzero(counts > have)}
    _check_synthesis(have, counts)
    places = np.concatenate(_places(rows, len(counts)))
    old, classes, weight = replace(rows, index=places).take(np.arange(len(places)))
    if not grown:
        return rows
    scale = np.where(statistics.factor() > 0, statistics.factor(), 1.0)
    x = _scaled(old.get("numbers"), old.get("codes"), statistics.median, scale)
    sampler = _sampler(grown, x.shape[1], len(scale), int(min(have[[*grown]])), seed)
    new, new_classes = (array[len(x) :] for array in sampler.fit_resample(x, classes))
    added = {}
    if "numbers" in old:
        numbers = new[:, : len(scale)] / scale + statistics.median
        added["numbers"] = numbers.astype("float32")
    if "codes" in old:
        added["codes"] = np.rint(new[:, len(scale) :]).astype("int32")
    share = np.bincount(classes, weight, len(counts)) / np.maximum(have, 1)
    return Rows(
        {name: _joined(old[name], added[name], store) for name in old},
        _joined(classes, new_classes, store),
        _joined(weight, share[new_classes].astype("float32"), store),
        np.arange(len(x) + len(new)),
    )


def _check_synthesis(have: np.ndarray, counts: np.ndarray) -> None:
    """DataError when there are too many rows or too few of a class that is to grow."""
    if counts.sum() > MAX_SYNTHESIS_ROWS:
        raise DataError(
            f"imbalance: smote would hold {counts.sum():,} rows in memory, over its "
            f"limit of {MAX_SYNTHESIS_ROWS:,}. Take oversample, which copies nothing, "
            "or a lower imbalance.ratio."
        )
    if ((have == 1) & (counts > have)).any():
        raise DataError(
            "imbalance: smote makes rows between two of one class, and a class has a "
            "single train row. Take oversample or class_weights."
        )


def _scaled(
    numbers: np.ndarray | None,
    codes: np.ndarray | None,
    median: np.ndarray,
    scale: np.ndarray,
) -> np.ndarray:
    """Numbers without gaps, then codes: `(rows, columns)` float64."""
    parts = []
    if numbers is not None:
        filled = np.where(np.isfinite(numbers), numbers, median)
        parts.append((filled - median) * scale)
    if codes is not None:
        parts.append(codes.astype("float64"))
    return np.concatenate(parts, axis=1)


def _sampler(
    grown: dict[int, int], width: int, num_numbers: int, smallest: int, seed: int
) -> Any:
    try:
        from imblearn.over_sampling import SMOTE, SMOTEN, SMOTENC
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "The imbalance method 'smote' needs the package 'imbalanced-learn': "
            "pip install 'kerastrain[imbalance]'."
        ) from error
    options = {
        "sampling_strategy": grown,
        "k_neighbors": min(5, smallest - 1),
        "random_state": seed,
    }
    if num_numbers == width:
        return SMOTE(**options)
    if not num_numbers:
        return SMOTEN(**options)
    return SMOTENC(list(range(num_numbers, width)), **options)


def _joined(old: np.ndarray, new: np.ndarray, store: ArrayStore) -> np.ndarray:
    array = store.empty((len(old) + len(new), *old.shape[1:]), old.dtype.str)
    array[: len(old)], array[len(old) :] = old, new
    return array
