"""What `--model auto` tries, in which order, and with how many folds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from kerastrain.config import RunConfig
from kerastrain.config.parts import as_bytes
from kerastrain.errors import ConfigError, unknown

__all__ = ["Candidate", "Portfolio", "auto", "deals_folds"]


@dataclass(frozen=True)
class Candidate:
    """A model to try.

    Args:
        label: its name in the leaderboard.
        model: name in `LEARNERS`.
        options: of that model.
        share: of the time that is left, at most, which it may take.
        least_s: seconds for one fold below which it is not worth beginning.
        pace: likewise, as a multiple of what the first of the portfolio took.
        tasks: in which it is tried; none is all.
        least_rows: to learn from, below which it is not tried.
    """

    label: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    share: float = 0.5
    least_s: float = 1.0
    pace: float = 0.0
    tasks: Sequence[str] = ()
    least_rows: int = 0


@dataclass(frozen=True)
class Portfolio:
    """What is tried and what the ensemble of it has to keep to.

    Args:
        candidates: in the order in which they are fitted.
        num_folds: of the bagging; 1 fits each candidate once. None goes by the rows and
            the time.
        time_limit: seconds for the whole run where the user names none.
        max_latency: milliseconds for one row.
        max_size: megabytes of all weights.
    """

    candidates: Sequence[Candidate]
    num_folds: int | None
    time_limit: float
    max_latency: float | None = None
    max_size: float | None = None

    @property
    def is_limited(self) -> bool:
        """Whether the user says what the ensemble may cost."""
        return self.max_latency is not None or self.max_size is not None

    def suited(self, task: str, num_rows: int) -> list[Candidate]:
        """Candidates for a task with so many rows to learn from."""
        return [
            candidate
            for candidate in self.candidates
            if (not candidate.tasks or task in candidate.tasks)
            and num_rows >= candidate.least_rows
        ]

    def folds(self, num_rows: int) -> int:
        """Of the bagging, for so many rows to learn from, with all the time needed.

        Each fold is one more fit of everything; a single part held out of 60,000 rows
        ranks models as well as folds do.
        """
        if self.num_folds is not None:
            return self.num_folds
        return _NUM_FOLDS if num_rows <= _MOST_FOR_FOLDS else 1


_MOST_FOR_FOLDS = 60_000
# A short time ends after the first fold, which has 7/8 of the rows to learn from.
_NUM_FOLDS = 8
_TIME_LIMITS = {"fast": 180.0, "good": 600.0, "best": 3_600.0}
_FAST = ("lightgbm", "xgboost", "logistic_regression", "ridge", "catboost_small")
# Short times end before a network begins. In long ones the first network comes before
# further trees, which are alike: as the last but one it had 7 % of 300 s on letter.
_GOOD = (
    "lightgbm",
    "xgboost",
    "logistic_regression",
    "ridge",
    "catboost_small",
    "realmlp",
    "lightgbm_large",
    "lightgbm_small",
    "catboost",
    "extra_trees",
    "tabm",
)
_BEST = (*_GOOD, "hist_gradient_boosting", "random_forest", "mlp")
_MEMBERS = {"fast": _FAST, "good": _GOOD, "best": _BEST}
_FOLDS = {"fast": 1, "good": None, "best": 8}
# 300 rounds without a better loss, as in the recipes, are for one who has the time.
_PATIENT = {"patience": 100, "rounds": 3_000}
_COLUMNS = {"feature_fraction": 0.7}
# Extra trees, validation scores with 300 / 100: california RMSE 53,992 / 54,264, adult
# ROC AUC 0.9168 / 0.9170, bike_hourly RMSE 39.7 / 39.9, beijing_pm25 37.5 / 37.4, in a
# third of the time. A single tree may have three times the leaves in the same file.
_FEW_TREES = {"trees": 100}
# Other options than those of the recipes, measured on validation rows of the
# development sets (`lightgbm` with the recipe / as here): california RMSE 45,766 /
# 44,915 in 0.37 of the time, adult ROC AUC 0.9263 / 0.9288, telco_churn 0.8333 /
# 0.8357. A tree that sees 0.7 of the columns is both better and faster. The small ones
# are for few rows and noisy targets (telco_churn 0.8369), the large one for many
# (california 44,617).
# A network compiles for 5 s and more before its first step, twice where epochs are
# fitted to the time.
_KNOWN: Mapping[str, Mapping[str, Any]] = {
    "lightgbm": {
        "options": {
            **_PATIENT,
            "max_leaves": 31,
            "learning_rate": 0.05,
            "min_samples_leaf": 20,
            "subsample": 1.0,
            "parameters": _COLUMNS,
        },
        "share": 0.35,
    },
    "lightgbm_small": {
        "model": "lightgbm",
        "options": {
            **_PATIENT,
            "max_leaves": 15,
            "learning_rate": 0.05,
            "min_samples_leaf": 20,
            "subsample": 1.0,
            "parameters": _COLUMNS,
        },
        "pace": 0.6,
    },
    "lightgbm_large": {
        "model": "lightgbm",
        "options": {
            **_PATIENT,
            "max_leaves": 128,
            "learning_rate": 0.03,
            "min_samples_leaf": 3,
            "subsample": 1.0,
            "parameters": _COLUMNS,
        },
        "pace": 0.7,
        # Below it was the worst of all (telco_churn 0.825 of 0.852, abalone19), and of
        # ames, with 2,300 rows, 7 folds had 177 MB.
        "least_rows": 10_000,
    },
    "xgboost": {
        "options": {
            **_PATIENT,
            "learning_rate": 0.05,
            "max_depth": 6,
            "subsample": 1.0,
            "column_share": 1.0,
            "parameters": {
                "colsample_bynode": 0.7,
                "reg_lambda": 1.0,
                "min_child_weight": 1.0,
            },
        },
        "share": 0.35,
        "pace": 0.4,
    },
    "catboost": {
        "options": {"patience": 100},
        "share": 0.4,
        "pace": 3.0,
    },
    "catboost_small": {
        "model": "catboost",
        "options": {
            **_PATIENT,
            "depth": 6,
            "learning_rate": 0.06,
            "parameters": {"l2_leaf_reg": 3.0, "random_strength": 1.0},
        },
        "share": 0.4,
        "pace": 0.4,
    },
    "logistic_regression": {
        "tasks": ("binary", "multiclass"),
        "share": 0.2,
        "least_s": 0.2,
    },
    "ridge": {"tasks": ("regression",), "share": 0.2, "least_s": 0.2},
    "hist_gradient_boosting": {"share": 0.3, "pace": 0.6},
    "extra_trees": {"options": _FEW_TREES, "share": 0.2, "pace": 0.3},
    "random_forest": {"options": _FEW_TREES, "share": 0.2, "pace": 0.3},
    "realmlp": {"share": 0.4, "least_s": 20.0},
    "tabm": {"share": 0.5, "least_s": 30.0},
    "mlp": {"share": 0.3, "least_s": 12.0},
    "linear": {"share": 0.3, "least_s": 8.0},
}


def auto(
    *,
    quality: Literal["fast", "good", "best"] = "good",
    members: Sequence[str] = (),
    folds: int | None = None,
    max_latency: float | None = None,
    max_size: float | str | None = None,
) -> Portfolio:
    """The best of many models together: boosted trees, networks, their ensemble.

    Args:
        quality: fast fits each model once, in minutes; good bags strong models over
            folds; best tries more of them.
        members: names of the models to try, in this order, in place of those; beside
            those of `--model` there are lightgbm_small, lightgbm_large, catboost_small.
        folds: of the bagging; 1 holds out the validation rows alone.
        max_latency: milliseconds that a prediction of one row may take.
        max_size: that the weights may take, as "20MB"; a number is megabytes.
    """
    from kerastrain.models import LEARNERS

    known = {*LEARNERS, *_KNOWN} - {"auto"}
    names = list(members) or _MEMBERS[quality]
    for name in names:
        if name not in known and ":" not in name:
            raise unknown("model in model.members", name, known)
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise ConfigError(f"model.members: '{repeated[0]}' is named twice.")
    if folds is not None and not 1 <= folds <= 50:
        raise ConfigError(f"model.folds: expected 1 to 50, got {folds}.")
    candidates = [_candidate(name, is_asked=bool(members)) for name in names]
    return Portfolio(
        candidates,
        folds or _FOLDS[quality],
        _TIME_LIMITS[quality],
        max_latency,
        _megabytes(max_size),
    )


def deals_folds(config: RunConfig, own: frozenset[str]) -> bool:
    """Whether it is a portfolio that holds out rows by folds of its own.

    Rows of a group, of a time, or of the user's choice stay where they are.

    Args:
        own: parts that lie in files of the user's.
    """
    split = config.split
    is_chosen = split.group or split.time or split.column or "validation" in own
    return (
        config.model.name == "auto"
        and not is_chosen
        and auto(**config.model.options).num_folds != 1
    )


def _candidate(label: str, *, is_asked: bool) -> Candidate:
    candidate = Candidate(label, **{"model": label, **_KNOWN.get(label, {})})
    return replace(candidate, tasks=(), least_rows=0) if is_asked else candidate


def _megabytes(size: float | str | None) -> float | None:
    if not isinstance(size, str):
        return size
    try:
        is_plain = size.replace(".", "", 1).isdecimal()
        return float(size) if is_plain else as_bytes(size) / 1e6
    except ValueError as error:
        raise ConfigError(f"model.max_size: {error}, got {size!r}.") from None
