"""Whether test rows are like train rows: a model that tries to tell them apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from kerastrain.events import finding
from kerastrain.pipeline import Rows
from kerastrain.prepare import Prepared
from kerastrain.quality.scores import column_auc
from kerastrain.schema import Schema

__all__ = ["Shift", "check_split", "measure_shift"]

_MAX_ROWS = 10_000  # of each side
_MAX_CELLS = 20_000_000
_MIN_ROWS = 30
# Of more columns those are used that tell most on half of the rows; the model is then
# judged on the other half, or chance would have chosen.
_MAX_COLUMNS = 50
# Code 1 is for what train rows hold seldom, code 0 for what they never do: these tell
# the sides apart by their making. 681 tickets of the Titanic gave a random split 0.9.
_RARE = 1
_MIN_CODE_ROWS = 20
_NUM_FOLDS = 3
_NOTABLE, _STRONG = 0.6, 0.9
_MIN_COLUMN_AUC = 0.55
_MAX_NAMED = 5


@dataclass(frozen=True)
class Shift:
    """How well train and test rows can be told apart.

    Args:
        auc: 0.5 is not at all, 1 is fully; the mean over the folds.
        spread: standard deviation over the folds.
        columns: AUC of each column alone.
    """

    auc: float
    spread: float
    columns: dict[str, float]

    @property
    def is_notable(self) -> bool:
        return self.auc > _NOTABLE and self.auc - 2 * self.spread > 0.5

    def telling(self) -> dict[str, float]:
        """The columns that tell most, five at most."""
        told = [n for n, auc in self.columns.items() if auc >= _MIN_COLUMN_AUC]
        told.sort(key=lambda name: -self.columns[name])
        return {name: self.columns[name] for name in told[:_MAX_NAMED]}


def check_split(data: Prepared, schema: Schema, *, has_test: bool = False) -> None:
    """Tell where a model can tell the test rows from the train rows.

    A random split has no such difference by its making, and is not looked at. What is
    made of the column that the split goes by is left out.

    Args:
        has_test: the test rows come from a file of their own.
    """
    is_random = not schema.keys and not has_test
    if is_random or min(len(data.train), len(data.test)) < _MIN_ROWS:
        return
    keys = {column.name for column in schema.keys.values()}
    owners = [
        (kind, column.name)
        for kind in ("number", "code")
        for column, encoded in data.front.of_kind(kind)
        for _ in encoded.names
    ]
    used = [i for i, (_, name) in enumerate(owners) if name not in keys]
    if used:
        x, is_test = _sides(data.train, data.test, len(owners))
        names = [owners[i][1] for i in used]
        found = measure_shift(x[:, used], is_test, names)
        if found.is_notable:
            _tell(found, has_test=has_test)


def _sides(train: Rows, test: Rows, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Encoded rows of both sides as float32, and which of them are test rows."""
    most = min(_MAX_ROWS, max(_MIN_ROWS, _MAX_CELLS // width))
    random = np.random.default_rng(0)
    drawn = [np.sort(random.permutation(len(rows))[:most]) for rows in (train, test)]
    taken = [
        rows.take(some)[0] for rows, some in zip((train, test), drawn, strict=True)
    ]
    blocks = [
        np.concatenate([inputs[kind] for inputs in taken])
        for kind in ("numbers", "codes")
        if kind in taken[0]
    ]
    if "codes" in taken[0]:
        blocks[-1] = np.stack([_without_rare(codes) for codes in blocks[-1].T], axis=1)
    x = np.concatenate([block.astype("float32") for block in blocks], axis=1)
    return x, np.repeat([False, True], [len(some) for some in drawn])


def _without_rare(codes: np.ndarray) -> np.ndarray:
    """Codes with 0, which stands for unseen, for those of few rows. `(rows,)`."""
    is_rare = (np.bincount(codes)[codes] < _MIN_CODE_ROWS) | (codes == _RARE)
    return np.where(is_rare, 0, codes)


def measure_shift(x: np.ndarray, is_test: np.ndarray, names: Sequence[str]) -> Shift:
    """Cross-validated AUC of boosted trees that tell test rows from train rows.

    Args:
        names: of the columns of `x`; a name may stand for several of them.

    Shapes: `x` `(rows, columns)` float32 with NaN; `is_test` bool `(rows,)`.
    """
    rows = np.random.default_rng(0).permutation(len(x))
    choosing, judged = rows, rows
    if x.shape[1] > _MAX_COLUMNS:
        choosing, judged = rows[::2], rows[1::2]
    alone = [column_auc(x[choosing, i], is_test[choosing]) for i in range(x.shape[1])]
    used = np.argsort(alone)[::-1][:_MAX_COLUMNS]
    aucs = _fold_aucs(x[np.ix_(judged, used)], is_test[judged])
    columns: dict[str, float] = {}
    for name, auc in zip(names, alone, strict=True):
        columns[name] = max(auc, columns.get(name, 0.0))
    return Shift(float(np.mean(aucs)), float(np.std(aucs)), columns)


def _fold_aucs(x: np.ndarray, is_test: np.ndarray) -> list[float]:
    folds = StratifiedKFold(_NUM_FOLDS, shuffle=True, random_state=0)
    aucs = []
    for train, test in folds.split(x, is_test):
        model = HistGradientBoostingClassifier(
            max_iter=40, max_leaf_nodes=15, early_stopping=False, random_state=0
        )
        # Its threads wait for each other: 50 times slower where the cores are busy.
        with threadpool_limits(1):
            model.fit(x[train], is_test[train])
            predicted = model.predict_proba(x[test])[:, 1]
        aucs.append(float(roc_auc_score(is_test[test], predicted)))
    return aucs


def _tell(found: Shift, *, has_test: bool) -> None:
    told = found.telling()
    by = ", ".join(f"'{name}' ({auc:.2f})" for name, auc in told.items())
    how = f"Most of it by {by}" if by else "By several columns together"
    strength = "are of another kind than" if found.auc > _STRONG else "differ from"
    finding(
        "train_test_shift",
        f"Test rows {strength} train rows: a model tells them apart with an AUC of "
        f"{found.auc:.2f} (0.5 is not at all). {how}. Scores on the test rows hold for "
        "rows like these: leave out columns that only tell when or where a row was "
        "recorded, and check that both sides are written in the same units.",
        columns=list(told),
        # Who splits by time or group has asked for a difference.
        severity="warning" if has_test else "info",
        auc=found.auc,
        spread=found.spread,
    )
