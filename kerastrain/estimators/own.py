"""A scikit-learn compatible class of the user's own."""

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.validation import has_fit_parameter

from kerastrain.errors import ConfigError, MissingExtra, RunError, suggest
from kerastrain.estimator import Fitted, Setting
from kerastrain.events import warn
from kerastrain.features import Features, NumberStatistics
from kerastrain.sklearn_base import Judge, SklearnEstimator
from kerastrain.sklearn_inputs import Inputs

__all__ = ["OwnEstimator", "is_own", "load", "wrap"]

# Of a class to which the user's estimator gives no probability at all.
_LEAST_SHARE = 1e-9


def is_own(loaded: Any) -> bool:
    """Whether it is a class with `fit` and `predict`, as scikit-learn has them."""
    return inspect.isclass(loaded) and all(
        callable(getattr(loaded, name, None)) for name in ("fit", "predict")
    )


def wrap(loaded: Callable[..., Any], options: Mapping[str, Any]) -> "OwnEstimator":
    """The user's class as an estimator, not fitted yet.

    Args:
        options: for its constructor.

    Raises:
        ConfigError: its constructor does not take one of them, or refuses a value.
    """
    known = inspect.signature(loaded).parameters
    takes_any = any(one.kind is one.VAR_KEYWORD for one in known.values())
    for option in options:
        if option not in known and not takes_any:
            raise ConfigError(
                f"{loaded.__name__} has no option '{option}'. {suggest(option, known)}"
                f"Options: {', '.join(known) or 'none'}."
            )
    try:
        loaded(**options)
    except (TypeError, ValueError) as error:
        text = str(error).partition("\n")[0]
        raise ConfigError(f"{loaded.__name__} cannot be made: {text}") from error
    return OwnEstimator(loaded, options)


class OwnEstimator(SklearnEstimator):
    """A scikit-learn compatible class: `fit`, `predict`, maybe `predict_proba`.

    It is given a float32 matrix without gaps: scaled numbers, indicators of missing
    ones, and zeros and ones for the most frequent categories. Without `predict_proba`
    probabilities come of what it decides, scaled on validation rows.

    It is no Keras model, so it cannot be exported; `save` writes it with skops.
    """

    is_exportable = False
    max_categories = 30

    def __init__(self, cls: Callable[..., Any], options: Mapping[str, Any]):
        self.cls = cls
        self.options = dict(options)
        # Read while it is judged, before which the object exists.
        self.is_scaled = not hasattr(cls, "predict_proba")

    @property
    def name(self) -> str:
        return self.cls.__name__

    def ready(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        return self.inputs_.dense(numbers, codes)

    def fit(
        self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None, judge: Judge
    ) -> Fitted:
        self.model_ = self.cls(**self._settings())
        if weight is None:
            self.model_.fit(x, y)
        elif has_fit_parameter(self.model_, "sample_weight"):
            self.model_.fit(x, y, sample_weight=weight)
        else:
            warn(
                "weights_ignored",
                f"fit of {self.name} takes no sample_weight, so row and class weights "
                "do not count; give it that argument, or balance.method: oversample.",
                model=self.name,
            )
            self.model_.fit(x, y)
        self.has_shares_ = hasattr(self.model_, "predict_proba")
        self.is_scaled = not self.has_shares_
        return Fitted()

    def _settings(self) -> dict[str, Any]:
        """Options, and the run's seed and threads where there are such arguments."""
        known = inspect.signature(self.cls).parameters
        setting = self.setting_
        given = {"random_state": setting.seed, "n_jobs": setting.num_threads}
        return {k: v for k, v in given.items() if k in known} | self.options

    def decide(self, x: np.ndarray) -> np.ndarray:
        if not len(self.found_):
            return np.asarray(self.model_.predict(x)).reshape(len(x), -1)
        if self.has_shares_:
            shares = np.asarray(self.model_.predict_proba(x), "float64")
            return _binary(np.log(np.maximum(shares, _LEAST_SHARE)))
        if hasattr(self.model_, "decision_function"):
            return np.asarray(self.model_.decision_function(x)).reshape(len(x), -1)
        hot = np.asarray(self.model_.predict(x))[:, None] == np.arange(len(self.found_))
        return _binary(hot.astype("float64"))

    def decision_layers(self, features: Features) -> Any:
        raise self._refused()

    def layers(self, features: Features) -> Any:
        raise self._refused()

    def _refused(self) -> ConfigError:
        return ConfigError(
            f"{self.name} is a class of your own, which kerastrain cannot write as a "
            "Keras model: it can be saved and used here, but not exported. To export, "
            "take a model of the list (kerastrain models), or write a subclass of "
            "kerastrain.estimator.Estimator with layers()."
        )

    def save(self, path: Path) -> None:
        """Write what was learnt with skops; nothing is pickled.

        Raises:
            ConfigError: skops cannot write an attribute of the user's object.
        """
        skops = _skops()
        try:
            skops.dump(self._state(), path)
        except Exception as error:  # skops has no error of its own
            text = str(error).partition("\n")[0]
            raise ConfigError(
                f"{self.name} cannot be saved by skops: {text} Keep only numbers, "
                "texts, arrays and scikit-learn objects in its attributes."
            ) from error

    def _state(self) -> dict[str, Any]:
        setting = self.setting_
        return {
            "model": getattr(self, "model_", None),
            "name": self.name,
            "task": setting.task,
            "num_classes": setting.num_classes,
            "vocabulary_sizes": list(setting.vocabulary_sizes),
            "statistics": vars(setting.statistics),
            "found": self.found_,
            "platt": None if self.platt_ is None else list(self.platt_),
        }


def _binary(logits: np.ndarray) -> np.ndarray:
    """Of two classes the logit of the second, `(rows, 1)`."""
    return logits[:, 1:] - logits[:, :1] if logits.shape[1] == 2 else logits


def _skops() -> Any:
    """Only what is saved or loaded needs it."""
    try:
        return importlib.import_module("skops.io")
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "An estimator of your own is saved and loaded with the package 'skops': "
            "pip install 'kerastrain[own]'."
        ) from error


def load(path: Path, *, trusted: Sequence[str] = ()) -> OwnEstimator:
    """What `OwnEstimator.save` wrote, to predict with.

    Args:
        trusted: types that may be loaded beside those of scikit-learn and NumPy, as
            `"module.Class"`; loading a type runs its module's code.

    Raises:
        RunError: the file is missing or damaged, or holds a type that is not trusted.
    """
    skops = _skops()
    try:
        missing = sorted({*skops.get_untrusted_types(file=path)} - {*trusted})
    except Exception as error:
        text = str(error).partition("\n")[0]
        raise RunError(f"{path} cannot be read as a file of skops: {text}") from error
    if missing:
        raise RunError(
            f"{path} holds types that are not trusted: {', '.join(missing)}. If you "
            f"know them and where the file is from: trusted={missing!r}."
        )
    state = skops.load(path, trusted=list(trusted))
    return _restored(state)


def _restored(state: dict[str, Any]) -> OwnEstimator:
    model = state["model"]
    estimator = OwnEstimator(type(model), {})
    statistics = NumberStatistics(**state["statistics"])
    sizes = tuple(state["vocabulary_sizes"])
    estimator.setting_ = Setting(state["task"], state["num_classes"], sizes, statistics)
    estimator.inputs_ = Inputs(
        statistics, sizes, estimator.squash, estimator.max_categories
    )
    estimator.model_, estimator.found_ = model, state["found"]
    estimator.has_shares_ = hasattr(model, "predict_proba")
    estimator.platt_ = None if state["platt"] is None else tuple(state["platt"])
    return estimator
