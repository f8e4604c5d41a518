"""An estimator of another library as a learner: one Keras model from raw columns."""

import contextlib
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastrain.arrays import ArrayStore
from kerastrain.boosting import Boosting, bagged
from kerastrain.chain import Outside, save_chain
from kerastrain.config import ModelConfig, RunConfig
from kerastrain.errors import ConfigError, KerastrainError, MissingExtra, ParityError
from kerastrain.estimator import Estimator, Examples, Fitted, Setting
from kerastrain.events import note, warn
from kerastrain.features import Features
from kerastrain.learner import Learner, forward_of, whole_model
from kerastrain.models import LEARNERS
from kerastrain.objective import Objective
from kerastrain.pipeline import Rows, outputs_of
from kerastrain.prepare import Prepared
from kerastrain.registry import fits_and_predicts

__all__ = [
    "BaggedTrees",
    "EstimatorLearner",
    "bagged_learners",
    "becomes_one",
    "estimator_of",
    "fit_for_own",
    "is_unexportable",
]

# Its own outputs and those of its layers may differ by so much of the largest: kernels
# and distances cancel in float32; the others were seen below 1e-6.
_TOLERANCE = 1e-4
_CHECKED_ROWS = 1_000


class EstimatorLearner(Learner):
    """Fits an estimator on the encoded columns, then takes its prediction as layers.

    Args:
        data: what the run prepared: front, statistics, objective.
        estimator: not fitted yet.
        store: whose budget limits the rows that are copied at once.
        seed: of all chance.
        num_threads: that the library may use.
        seconds: for fitting; None is no limit.
        name: of the model.

    Attributes:
        numeric: clean matrices to outputs, after `fit`.
        fitted: what the estimator told of its fit.
    """

    def __init__(
        self,
        data: Prepared,
        estimator: Estimator,
        store: ArrayStore,
        *,
        seed: int = 0,
        num_threads: int = 1,
        seconds: float | None = None,
        name: str = "kerastrain",
    ):
        self.front, self.objective = data.front, _without_focal(data.objective)
        self.weight, self.balance = data.weight, data.balance
        self.estimator, self.store, self.name = estimator, store, name
        # Of a class of the user's, the name of that class.
        self.title = getattr(estimator, "name", type(estimator).__name__)
        self.setting = Setting(
            data.objective.task,
            len(data.objective.labels),
            data.front.vocabulary_sizes,
            data.statistics,
            data.objective.loss,
            seed,
            num_threads,
            seconds,
            {c.name: e.names * (e.kind == "number") for c, e in data.front.columns},
        )
        self.fitted = Fitted()
        self.is_keras = estimator.is_exportable

    def fit(self, train: Rows, validation: Rows) -> None:
        train = self.balance.synthesised(train, self.store)
        train = self.balance.resampled(train)
        if not self.estimator.is_exportable:
            _tell_unexportable(self.title)
        examples = (
            self._examples(train, "train"),
            self._examples(validation, "validation"),
        )
        with self._told("fit"):
            self.fitted = self.estimator.learn(*examples, self.setting)
        self.best_epoch = self.fitted.rounds
        self.tell()
        if self.objective.correction is not None:
            weight = None if self.weight is None else self.weight[validation.index]
            self.objective = self.objective.calibrated(
                self._scores(validation), validation.targets, weight
            )
        self._build(validation if len(validation) else train)

    def undecided(self, rows: Rows) -> np.ndarray:
        return self.objective.outputs(self._scores(rows))

    def save(self, path: Path) -> None:
        """Write the model as a `.keras` file; its parts into a folder beside it where
        the estimator has no layers: `model/` for `model.keras`.

        Raises:
            ConfigError: the estimator has no layers, and cannot be saved either.
        """
        if self.estimator.is_exportable:
            super().save(path)
            return
        own: Any = self.estimator
        save_chain(path.with_suffix(""), self.front.model, own, self._decision_model())

    def _decision_model(self) -> keras.Model:
        """What stands behind the estimator, alone."""
        outputs = keras.Input((self.objective.num_outputs,), name="outputs")
        decided = self.objective.decide(outputs)
        return self.decision.behind(keras.Model(outputs, decided, name="decision"))

    def _scores(self, rows: Rows) -> np.ndarray:
        outputs = np.empty((len(rows), self.objective.num_outputs), "float32")
        with self._told("predict"):
            for piece, chunk in zip(rows.pieces(), rows.chunks(), strict=True):
                outputs[piece] = self.estimator.scores(
                    *_matrices(chunk, len(outputs[piece]))
                )
        return outputs

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """In one line what fails in a class of the user's; others are of ours.

        Raises:
            ConfigError: whatever it raised.
        """
        try:
            yield
        except KerastrainError:
            raise
        except Exception as error:
            if self.estimator.is_exportable:
                raise
            text = str(error).strip().partition("\n")[0]
            raise ConfigError(
                f"{self.title}: {what} failed with {type(error).__name__}: {text}"
            ) from error

    def _examples(self, rows: Rows, part: str) -> Examples:
        """Copied, because libraries want whole matrices; a part where all do not fit.

        A library holds the matrix and its own form of it, of a byte to four a cell.
        """
        limit = self.store.budget_bytes
        most = len(rows) if limit is None else limit // max(1, rows.row_bytes)
        kept = rows.at_most(max(most, 1_000))
        if len(kept) < len(rows):
            warn(
                "rows_sampled",
                f"{self.title} sees {len(kept):,} of {len(rows):,} "
                f"{part} rows, evenly spaced: it needs them in memory at once. To let "
                "it see more: --memory.",
                part=part,
                rows=len(kept),
            )
        numbers, codes = _matrices(
            {name: array[kept.index] for name, array in kept.inputs.items()}, len(kept)
        )
        weight = np.asarray(kept.weights, "float32")
        is_plain = bool((weight == 1).all())
        return Examples(
            numbers,
            codes,
            self.objective.encoded(kept.targets),
            None if is_plain else weight,
        )

    def _build(self, rows: Rows) -> None:
        """The Keras model, held against the library's own prediction.

        An estimator without layers is asked from inside of it, in this process.

        Raises:
            ParityError: they differ.
        """
        features = Features.of(
            self.front, self.setting.statistics, self.objective.num_outputs
        )
        if self.estimator.is_exportable:
            outputs = self.estimator.layers(features)
        else:
            own: Any = self.estimator
            outputs = Outside(own, self.objective.num_outputs)(features.inputs)
        self.numeric = keras.Model(features.inputs, outputs, name="numeric_core")
        self.model = whole_model(self.front, self.numeric, self.objective, self.name)
        if self.estimator.is_exportable:
            self._check(rows.at_most(_CHECKED_ROWS))

    def _check(self, some: Rows) -> None:
        own = self._scores(some)
        ours = np.concatenate(
            [keras.ops.convert_to_numpy(self.numeric(c)) for c in some.chunks()]
        )
        _check(own, ours, self.objective, self.title)

    def tell(self) -> None:
        """What a user must know of the fit."""
        if self.fitted.is_cut_short:
            rounds = self.fitted.rounds
            after = f" after {rounds:,} rounds" if rounds else ""
            text = f"{self.title} was stopped by the time limit{after}."
            note("fit_cut_short", text, rounds=rounds)


def _without_focal(objective: Objective) -> Objective:
    """Estimators take cross-entropy in place of the focal loss, which then is not to be
    undone."""
    if objective.correction is None or not objective.correction.gamma:
        return objective
    return replace(objective, correction=replace(objective.correction, gamma=0.0))


class BaggedTrees(Learner):
    """Learners of the folds of one kind of trees, as one forest.

    A forest of five times the trees takes less time than five forests, above all for
    few rows, and is written and read sooner. Where boosting has the mean of
    probabilities over folds otherwise, it has that of their logits here.

    Args:
        learners: fitted, behind the same front.
        whole: what their estimators are together; see `boosting.bagged`.
    """

    def __init__(self, learners: Sequence[EstimatorLearner], whole: Estimator):
        first = learners[0]
        self.front, self.objective = first.front, first.objective
        self.best_epoch = max(one.best_epoch for one in learners)
        features = Features.of(
            self.front, first.setting.statistics, self.objective.num_outputs
        )
        outputs = whole.layers(features)
        self.numeric = keras.Model(features.inputs, outputs, name="numeric_core")
        self.model = whole_model(self.front, self.numeric, self.objective, first.name)
        self._forward = forward_of(self.numeric)

    def fit(self, train: Rows, validation: Rows) -> None:
        """Its trees were fitted, fold by fold."""
        raise NotImplementedError("fit the learners")

    def undecided(self, rows: Rows) -> np.ndarray:
        logits = outputs_of(self._forward, rows, self.objective.num_outputs)
        return self.objective.outputs(logits)


def becomes_one(learner: Learner) -> bool:
    """Whether learners of further folds become one forest with this one."""
    if not isinstance(learner, EstimatorLearner) or learner.objective.correction:
        return False
    trees = learner.estimator
    return isinstance(trees, Boosting) and trees.means_ is None


def bagged_learners(learners: Sequence[Learner]) -> Sequence[Learner]:
    """The same learners, or one in their place where their trees make one forest."""
    trees = [one for one in learners if isinstance(one, EstimatorLearner)]
    estimators = [o.estimator for o in trees if isinstance(o.estimator, Boosting)]
    if len(learners) < 2 or not all(becomes_one(one) for one in learners):
        return learners
    whole = bagged(estimators)
    if whole is None:
        return learners
    return [BaggedTrees(trees, whole)]


def estimator_of(made: type, options: dict[str, Any]) -> Estimator:
    """An estimator of ours, or a class of the user's as one.

    Raises:
        ConfigError: the options are not those of the class, or it cannot be fitted.
    """
    if issubclass(made, Estimator):
        if not made.is_exportable:
            raise ConfigError(
                f"{made.__name__} has no layers (is_exportable is False), so its run "
                "would have no model. Give it layers(), or name the class of the "
                "library itself, with fit and predict."
            )
        return made(**options)
    if issubclass(made, keras.Model) or not fits_and_predicts(made):
        raise ConfigError(
            f"model: {made.__name__} is not a class with fit and predict as "
            "scikit-learn has them. A network is given as a function: features to a "
            "Keras tensor."
        )
    from kerastrain.estimators.own import wrap

    return wrap(made, options)


# --- classes of the user's own ------------------------------------------------------


def is_unexportable(model: ModelConfig) -> bool:
    """Whether it names a class of the user's, which is no Keras model.

    Raises:
        ConfigError: it is a class that cannot be fitted, or that cannot be made.
    """
    if ":" not in model.name:
        return False
    made = LEARNERS.load(model.name)
    return isinstance(made, type) and not (
        estimator_of(made, model.options).is_exportable
    )


def fit_for_own(config: RunConfig) -> RunConfig:
    """`config` with what a class of the user's allows; as it is for other models.

    A single split and no exports. It costs nothing: call it before data are read.

    Raises:
        ConfigError: the class cannot be fitted or made, or folds are asked for.
        MissingExtra: skops is not installed.
    """
    if not is_unexportable(config.model):
        return config
    name = config.model.name.rpartition(":")[2]
    if config.split.folds not in ("auto", 1):
        raise ConfigError(
            f"split.folds: {name} is no Keras model, and the models of folds are kept "
            "as one Keras model. Take a single split: --folds 1."
        )
    if importlib.util.find_spec("skops") is None:
        raise MissingExtra(
            f"{name}, a class of your own, is saved with the package 'skops': "
            "pip install 'kerastrain[own]'."
        )
    split = config.split.model_copy(update={"folds": 1})
    return config.model_copy(update={"split": split, "exports": []})


def _tell_unexportable(name: str) -> None:
    warn(
        "not_exportable",
        f"{name} is no Keras model, so the run has no model.keras and cannot be "
        "exported: it predicts here, in Python, with its own library. For a file that "
        "leaves choose a model of `kerastrain models` or `kerastrain estimators`.",
        model=name,
    )


def _check(own: np.ndarray, ours: np.ndarray, objective: Objective, name: str) -> None:
    # Of probabilities: a logit of -50 and one of -60 are the same decision.
    first, second = objective.outputs(own), objective.outputs(ours)
    scale = 1.0 if objective.labels else max(1.0, float(np.abs(first).max(initial=0)))
    gap = float(np.abs(first - second).max(initial=0)) / scale
    if not gap <= _TOLERANCE:
        raise ParityError(
            f"{name} as Keras layers differs from its own prediction by {gap:.2g} of "
            f"the largest (allowed {_TOLERANCE:g}). Choose another model "
            "(--model) and report this."
        )


def _matrices(chunk: Any, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and codes; one that the table lacks has no columns."""
    none = np.zeros((num_rows, 0))
    numbers = chunk.get("numbers", none.astype("float32"))
    return numbers, chunk.get("codes", none.astype("int32"))
