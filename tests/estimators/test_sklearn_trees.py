"""Tree estimators of scikit-learn: what they learn, and the same as Keras layers."""

import keras
import numpy as np
import pytest
from numeric_core import core_of, outputs_of
from sklearn.metrics import log_loss

from kerastrain.errors import ConfigError
from kerastrain.estimator import Examples, Setting
from kerastrain.estimators.extra_trees import ExtraTrees
from kerastrain.estimators.gradient_boosting import GradientBoosting
from kerastrain.estimators.hist_gradient_boosting import HistGradientBoosting
from kerastrain.estimators.random_forest import RandomForest
from kerastrain.events import recording
from kerastrain.features import NumberStatistics
from kerastrain.kernels import LEAST_LOGIT
from kerastrain.sklearn_trees import LogShares, grow, leaves_within

# Keras 3.15 with NumPy 2 says so whenever a variable is read.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)

NUM_ROWS, NUM_TRAIN = 500, 350
SIZES = (6, 400)
SMALL = {
    RandomForest: {"trees": 25},
    ExtraTrees: {"trees": 25},
    GradientBoosting: {"rounds": 15, "max_depth": 3, "learning_rate": 0.3},
    HistGradientBoosting: {"rounds": 15, "learning_rate": 0.3},
}
every_kind = pytest.mark.parametrize("kind", SMALL, ids=lambda kind: kind.__name__)
every_task = pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])


@pytest.fixture(scope="module")
def table():
    """Numbers with gaps and one column without any value, codes, and a hidden score."""
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(NUM_ROWS, 4)).astype("float32").round(1)
    codes = np.stack([rng.integers(0, size, NUM_ROWS) for size in SIZES], axis=1)
    score = numbers[:, 0] + (codes[:, 0] - 2.5) * numbers[:, 1] + codes[:, 1] / 200
    score += rng.normal(size=NUM_ROWS) / 3
    numbers[rng.random(numbers.shape) < 0.1] = np.nan
    numbers[:, 3] = np.nan
    return numbers, codes.astype("int32"), score


def examples(table, task, rows=slice(NUM_TRAIN), *, numbers=True, codes=True):
    """Of three classes; where there are five the first and the last have no row."""
    score = table[2]
    classes = np.searchsorted(np.quantile(score, [0.5, 0.8]), score)
    targets = {
        "binary": np.minimum(classes, 1),
        "multiclass": classes + 1,
        "regression": (score / score.std()).astype("float32"),
    }[task]
    return Examples(
        table[0][rows] if numbers else table[0][rows, :0],
        table[1][rows] if codes else table[1][rows, :0],
        targets[rows],
    )


def setting_of(train, task, **options):
    statistics = NumberStatistics.of(train.numbers, np.arange(len(train)))
    classes = {"binary": 2, "multiclass": 5, "regression": 0}[task]
    sizes = SIZES[: train.codes.shape[1]]
    return Setting(task, classes, sizes, statistics, **options)


def learnt(kind, table, task, **options):
    estimator = kind(**SMALL[kind])
    train = examples(table, task)
    validation = examples(table, task, slice(NUM_TRAIN, NUM_ROWS))
    setting = setting_of(train, task, **options)
    return estimator, estimator.learn(train, validation, setting)


def loss_of(estimator, given):
    """Mean loss over `given`, of any task."""
    outputs = estimator.scores(given.numbers, given.codes).astype("float64")
    if estimator.setting_.task == "regression":
        return ((outputs[:, 0] - given.targets) ** 2).mean()
    if outputs.shape[1] == 1:
        outputs = np.hstack([np.zeros_like(outputs), outputs])
    shares = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return log_loss(given.targets, shares, labels=np.arange(shares.shape[1]))


@every_task
@every_kind
def test_it_learns_and_its_layers_give_what_the_library_gives(kind, task, table, capfd):
    estimator, fitted = learnt(kind, table, task)
    held_out = examples(table, task, slice(NUM_TRAIN, NUM_ROWS))
    base = {"binary": np.log(2), "multiclass": 1.03, "regression": 1.0}[task]
    assert loss_of(estimator, held_out) < 0.85 * base
    assert not fitted.is_cut_short

    given = examples(table, task, slice(None))
    given.codes[::7] = [5, 399]
    outputs = estimator.scores(given.numbers, given.codes)
    assert outputs.dtype == "float32"
    assert outputs.shape == (NUM_ROWS, estimator.setting_.num_outputs)
    assert np.isfinite(outputs).all()
    assert np.allclose(outputs_of(core_of(estimator), given), outputs, atol=2e-4)
    assert capfd.readouterr().out == ""
    if task == "multiclass":
        assert (outputs[:, [0, 4]] <= LEAST_LOGIT).all()
        assert (outputs[:, 1:4].max(axis=1) > -3).all()


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("label", [1, 0])
@every_kind
def test_of_one_class_it_is_sure(kind, task, label, table):
    train = examples(table, task)
    train = Examples(train.numbers, train.codes, np.full(NUM_TRAIN, label))
    estimator = kind(**SMALL[kind])
    estimator.learn(train, examples(table, task), setting_of(train, task))
    outputs = estimator.scores(train.numbers[:3], train.codes[:3])
    expected = np.full((3, 5), LEAST_LOGIT)
    expected[:, label] = 0
    if task == "binary":
        expected = np.full((3, 1), LEAST_LOGIT * (1 - 2 * label))
    assert np.array_equal(outputs, expected)
    given = Examples(train.numbers[:3], train.codes[:3], train.targets[:3])
    assert np.array_equal(outputs_of(core_of(estimator), given), expected)


@pytest.mark.parametrize("with_validation", [True, False])
@every_task
@every_kind
def test_two_rows_are_enough(kind, task, with_validation, table):
    pair = np.argsort(table[2])[[0, -1]]
    train = examples(table, task, pair)
    validation = examples(table, task, pair if with_validation else pair[:0])
    estimator = kind(**SMALL[kind])
    estimator.learn(train, validation, setting_of(train, task))
    outputs = estimator.scores(train.numbers, train.codes)
    assert np.allclose(outputs_of(core_of(estimator), train), outputs, atol=2e-4)


@pytest.mark.parametrize("missing", ["numbers", "codes"])
@every_kind
def test_columns_of_one_kind_are_enough(kind, missing, table):
    rows = slice(NUM_TRAIN)
    train = examples(table, "multiclass", rows, **{missing: False})
    estimator = kind(**SMALL[kind])
    estimator.learn(train, train, setting_of(train, "multiclass"))
    outputs = estimator.scores(train.numbers, train.codes)
    assert np.allclose(outputs_of(core_of(estimator), train), outputs, atol=2e-4)


@every_kind
def test_two_classes_of_five_keep_their_places(kind, table):
    train = examples(table, "binary")
    train = Examples(train.numbers, train.codes, np.where(train.targets, 4, 1))
    validation = examples(table, "multiclass")  # with classes that are new to it
    estimator = kind(**SMALL[kind])
    estimator.learn(train, validation, setting_of(train, "multiclass"))
    outputs = estimator.scores(train.numbers, train.codes)
    assert np.array_equal(np.unique(outputs.argmax(axis=1)), [1, 4])
    assert (outputs.argmax(axis=1) == train.targets).mean() > 0.8
    assert np.allclose(outputs_of(core_of(estimator), train), outputs, atol=2e-4)


@every_kind
def test_a_row_of_weight_0_does_not_count(kind, table):
    train = examples(table, "multiclass")
    counts = train.targets != 3
    weight = (counts * (1 + np.arange(NUM_TRAIN) % 2)).astype("float32")
    first, second = kind(**SMALL[kind]), kind(**SMALL[kind])
    setting = setting_of(train, "multiclass")
    first.learn(
        Examples(train.numbers, train.codes, train.targets, weight), train, setting
    )
    second.learn(
        Examples(
            train.numbers[counts],
            train.codes[counts],
            train.targets[counts],
            weight[counts],
        ),
        train,
        setting,
    )
    outputs = first.scores(train.numbers, train.codes)
    assert np.array_equal(outputs, second.scores(train.numbers, train.codes))
    assert (outputs[:, 3] <= LEAST_LOGIT).all()


@every_kind
def test_a_heavier_class_is_likelier(kind, table):
    train = examples(table, "binary")
    means = []
    for factor in (1, 20):
        weight = np.where(train.targets == 1, factor, 1).astype("float32")
        weighted = Examples(train.numbers, train.codes, train.targets, weight)
        estimator = kind(**SMALL[kind])
        estimator.learn(weighted, weighted, setting_of(train, "binary"))
        means.append(estimator.scores(train.numbers, train.codes).mean())
    assert means[1] > means[0] + 0.3


@every_kind
def test_it_stops_when_the_time_is_over(kind, table):
    train = examples(table, "binary")
    none = examples(table, "binary", slice(0))
    num_trees = []
    for seconds in (1e-3, None):
        estimator = kind(**SMALL[kind])
        setting = setting_of(train, "binary", seconds=seconds)
        fitted = estimator.learn(train, none, setting)
        assert fitted.is_cut_short == (seconds is not None)
        num_trees.append(len(estimator.trees_.roots))
    assert 0 < num_trees[0] < num_trees[1] == [*SMALL[kind].values()][0]


@pytest.mark.parametrize("kind", [RandomForest, ExtraTrees, HistGradientBoosting])
def test_growing_in_pieces_gives_the_same_forest(kind, table):
    whole, _ = learnt(kind, table, "multiclass")
    pieces, fitted = learnt(kind, table, "multiclass", seconds=1e9)
    assert not fitted.is_cut_short
    given = examples(table, "multiclass")
    expected = whole.scores(given.numbers, given.codes)
    assert np.allclose(pieces.scores(given.numbers, given.codes), expected)


@every_kind
def test_the_seed_decides(kind, table):
    given = examples(table, "binary")
    found = []
    for seed in (1, 1, 2):
        estimator, _ = learnt(kind, table, "binary", seed=seed)
        found.append(estimator.scores(given.numbers, given.codes))
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


@pytest.mark.parametrize("kind", [GradientBoosting, HistGradientBoosting])
@every_task
def test_the_best_round_of_the_validation_rows_is_kept(kind, task, table):
    train = examples(table, task, slice(60))
    validation = examples(table, task, slice(NUM_TRAIN, NUM_ROWS))
    setting = setting_of(train, task)
    losses = []
    for rounds in range(1, 13):
        options = {"rounds": rounds, "learning_rate": 0.9, "max_features": 1.0}
        estimator = kind(patience=4, **options)
        fitted = estimator.learn(train, validation, setting)
        losses.append(loss_of(estimator, validation))
    best = np.argmin(losses)
    assert fitted.rounds == best + 1 < 12
    assert losses[-1] == losses[best]
    assert len(estimator.trees_.roots) == fitted.rounds * max(
        1, setting.num_outputs - 2
    )


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
@every_kind
def test_losses_that_the_library_has_are_taken(kind, loss, table):
    with recording() as told:
        estimator, _ = learnt(kind, table, "regression", loss=loss)
    given = examples(table, "regression", slice(NUM_TRAIN, NUM_ROWS))
    outputs = estimator.scores(given.numbers, given.codes)
    assert np.abs(outputs[:, 0] - given.targets).mean() < 0.7
    name = getattr(estimator.model_, "loss", None) or estimator.model_.criterion
    assert (name == "absolute_error") == (loss == "mae")
    is_replaced = loss == "huber" and kind is not GradientBoosting
    assert [event.code for event in told.events] == ["loss_replaced"] * is_replaced


@every_kind
def test_an_option_that_the_library_refuses_is_told_in_one_line(kind, table):
    train = examples(table, "binary")
    expected = f"{kind.__name__} cannot fit: The '.*' parameter of .* must be"
    with pytest.raises(ConfigError, match=expected):
        kind(max_features=-1.0).learn(train, train, setting_of(train, "binary"))


@pytest.mark.parametrize("kind", [RandomForest, HistGradientBoosting])
def test_its_layers_are_the_same_after_saving(kind, table, tmp_path):
    estimator, _ = learnt(kind, table, "multiclass")
    given = examples(table, "multiclass")
    core = core_of(estimator)
    core.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert np.array_equal(outputs_of(loaded, given), outputs_of(core, given))


@pytest.mark.parametrize("kind", [RandomForest, ExtraTrees])
def test_the_exported_forest_is_within_its_limit(kind, table):
    train = examples(table, "multiclass")
    estimator = kind(trees=10, max_mb=0.02)
    estimator.learn(train, train, setting_of(train, "multiclass"))
    arrays = estimator.trees_.arrays().values()
    assert 0.01e6 < sum(array.nbytes for array in arrays) < 0.021e6
    assert leaves_within(50, 300, 1) == 2873


@pytest.mark.parametrize("shares", [[[0.25], [0.0], [1.0]], [[0.2, 0.8], [0.0, 1.0]]])
def test_shares_become_logits_and_none_is_infinite(shares):
    shares = np.array(shares)
    layer = LogShares.from_config(LogShares(0.001).get_config())
    clipped = np.clip(shares, 0.001, 0.999 if shares.shape[1] == 1 else 1)
    expected = np.log(clipped)
    if shares.shape[1] == 1:
        expected -= np.log(1 - clipped)
    assert np.allclose(layer(shares.astype("float32")), expected, atol=1e-4)


def test_pieces_grow_until_the_time_is_over(monkeypatch):
    asked, clock = [], iter(np.cumsum([0.0, 2, 2, 3, 3]))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))

    def fit(count):
        asked.append(count)
        return count

    assert grow(fit, 100, first=4, seconds=10)
    assert asked == [4, 8, 16, 22]
