"""The part that says what becomes of probabilities and predicted values."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kerastrain.config.parts import Part

__all__ = ["DecisionConfig"]


class DecisionConfig(Part):
    """What becomes of probabilities and predicted values.

    Of `metric`, `threshold` and `costs` at most one is given; without any, the most
    probable class is the label.

    Args:
        calibrate: of probabilities; `auto` measures on rows not trained on whether
            temperature scaling or isotonic regression lowers the log loss; where fewer
            than five of these rows are wrong, all classes get an equal part of one row.
        metric: of two classes; the label goes by the threshold that is best for it on
            rows not trained on.
        at: recall or precision that `precision_at_recall` or `recall_at_precision`
            has to reach.
        threshold: probability of the positive class from which on it is the label.
        costs: `{true: {predicted: cost}}`, the label is that of the least expected
            cost. What is not named costs 1, and 0 where the label is right.
        coverage: share of the true values that the intervals of a regression are to
            hold; null leaves intervals out.
    """

    calibrate: Literal["auto", "none", "temperature", "isotonic"] = "auto"
    metric: (
        Literal[
            "f1",
            "mcc",
            "accuracy",
            "balanced_accuracy",
            "precision_at_recall",
            "recall_at_precision",
        ]
        | None
    ) = None
    at: float = Field(0.8, gt=0, le=1)
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    costs: dict[str, dict[str, float]] | None = None
    coverage: Annotated[float, Field(gt=0, lt=1)] | None = 0.9

    @model_validator(mode="after")
    def _decides_one_way(self) -> Self:
        names = ("metric", "threshold", "costs")
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} cannot be combined: name one")
        return self
