"""Parts that say what the data are: source, columns, split, features, imbalance."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kerastrain.config.parts import Auto, Named, Part, named

__all__ = [
    "ColumnConfig",
    "FeaturesConfig",
    "ImbalanceConfig",
    "SourceConfig",
    "SplitConfig",
]


class SourceConfig(Named):
    """How `data` is read; `auto` goes by what it is and by its ending."""

    table: ClassVar[str] = "kerastrain.sources:SOURCES"
    path: ClassVar[str] = "source"
    name: str = "auto"

    def checked(self) -> Self:
        return self if self.name == "auto" else super().checked()


class ColumnConfig(Part):
    """What the user knows better about a column than the profile does."""

    type: str | None = None
    format: str | None = None
    missing_values: list[str] = []

    @model_validator(mode="before")
    @classmethod
    def _from_plain(cls, value: Any) -> Any:
        return named(value, "type")


class SplitConfig(Part):
    """Which rows are trained on, which choose the best epoch and which test it.

    Args:
        validation: share of rows that choose the best epoch.
        test: share of rows that test the model. With folds each row is tested once,
            and this share is not used.
        seed: of the split; by default the seed of the run.
        group: a column whose equal values stay on one side, such as a patient.
        time: a column in whose order train comes before validation before test.
        gap: what is left out between the parts of a time split, as `7d`, `12h`,
            `30min`, or a number in the units of a time column of numbers.
        column: a column that names the part of each row (train, validation, test) or,
            with folds, its fold.
        folds: number of folds of a cross-validation; 1 is a single split. `auto` is 5
            below 1,000 rows, else 1.
        repeats: how often the folds are drawn anew.
        refit: after the folds train one model on all rows, for the median of their
            best epochs; otherwise the model is the average of the folds' models.
            `auto` is true for a time split, whose first folds know the past alone.
    """

    # The best epoch is chosen on them, so there are always some.
    validation: float = Field(0.15, gt=0, lt=1)
    test: float = Field(0.15, ge=0, lt=1)
    seed: int | None = None
    group: str | None = None
    time: str | None = None
    gap: str | float | None = None
    column: str | None = None
    folds: Annotated[int, Field(ge=1)] | Auto = "auto"
    repeats: int = Field(1, ge=1)
    refit: bool | Auto = "auto"

    @model_validator(mode="after")
    def _leaves_rows_to_train_on(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation + test must be below 1")
        return self

    @model_validator(mode="after")
    def _goes_by_one_column(self) -> Self:
        given = [name for name in ("group", "time", "column") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} cannot be combined: name one")
        if self.gap is not None and self.time is None:
            raise ValueError("gap is for a time split: name its column, split.time")
        return self


class ImbalanceConfig(Part):
    """What is done about classes of very different size.

    Args:
        method: `auto` measures on validation rows which of the others is best when the
            largest class has over 100 times the rows of the smallest, and does
            nothing below that.
        ratio: rows of the smaller class per row of the larger after resampling.
    """

    method: Literal[
        "auto", "none", "class_weights", "focal", "oversample", "undersample", "smote"
    ] = "auto"
    ratio: float = Field(1.0, gt=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _from_plain(cls, value: Any) -> Any:
        return named(value, "method")


class FeaturesConfig(Part):
    """How columns are encoded.

    Args:
        max_vocabulary: most values of a categorical column that get a code of their
            own; the rest share one.
        min_count: a value seen in fewer train rows is rare; rare values share a code.
            `auto` is one in a hundred train rows, but from 2 to 5.
        text_numbers: most numbers that a column of free text becomes, beside its
            lengths; fewer where there are few texts.
        max_terms: most words, and pairs of them, that are known of free text.
    """

    max_vocabulary: int = Field(10_000, ge=1)
    min_count: Annotated[int, Field(ge=1)] | Auto = "auto"
    text_numbers: int = Field(64, ge=1)
    max_terms: int = Field(20_000, ge=1)

    def resolved(self, num_rows: int) -> Self:
        """With `auto` as a number, for `num_rows` train rows."""
        if self.min_count != "auto":
            return self
        return self.model_copy(update={"min_count": min(max(num_rows // 100, 2), 5)})
