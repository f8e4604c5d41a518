"""Extremely randomised trees of scikit-learn."""

from typing import Any, Literal

from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

from kerastrain.estimator import Setting
from kerastrain.sklearn_trees import AveragedTrees

__all__ = ["ExtraTrees"]


class ExtraTrees(AveragedTrees):
    """Mean over deep trees whose thresholds are drawn by chance.

    Codes are taken as numbers, missing values natively. Of classes the outputs are
    logarithms of their shares in the leaves. The trees of a regression split by the
    squared error, with the loss `mae` by the absolute one.

    Args:
        trees: number of them.
        max_features: share of the columns that are looked at for a split; None is
            half of them, in a regression three quarters.
        min_samples_leaf: rows in a leaf at least; None is 5 for two classes, whose
            shares get better by it, 2 in a regression, 1 for many classes.
        max_depth: of a tree; None is no limit.
        max_mb: megabytes that the exported forest may have: what a tree may have of
            them limits its leaves.
        least_share: share that a class is given at least.
    """

    def __init__(
        self,
        *,
        trees: int = 300,
        max_features: float | Literal["sqrt", "log2"] | None = None,
        min_samples_leaf: int | None = None,
        max_depth: int | None = None,
        max_mb: float = 50.0,
        least_share: float = 3e-4,
    ):
        self.trees = trees
        self.max_features = max_features
        self.min_samples_leaf = min_samples_leaf
        self.max_depth = max_depth
        self.max_mb = max_mb
        self.least_share = least_share

    def made(self, setting: Setting) -> Any:
        is_value = setting.task == "regression"
        return ExtraTreesRegressor() if is_value else ExtraTreesClassifier()
