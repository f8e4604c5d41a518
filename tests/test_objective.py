"""Losses, weights and decisions against scikit-learn and NumPy."""

import re

import keras
import numpy as np
import pytest
import sklearn.metrics
import sklearn.utils
import tensorflow as tf

from kerastrain.config import ObjectiveConfig
from kerastrain.errors import ConfigError, UnknownName
from kerastrain.objective import Objective
from kerastrain.schema import Target

LABELS = {"binary": ["no", "yes"], "multiclass": ["a", "b", "c", "d"], "regression": []}
RNG = np.random.default_rng(0)
LOGITS = {
    "binary": RNG.normal(0, 3, (40, 1)).astype("float32"),
    "multiclass": RNG.normal(0, 3, (40, 4)).astype("float32"),
    "regression": RNG.normal(0, 3, (40, 1)).astype("float32"),
}
TARGETS = {
    "binary": RNG.integers(0, 2, 40),
    "multiclass": RNG.integers(0, 4, 40),
    "regression": RNG.normal(100, 20, 40),
}


def objective(task, targets=None, **config):
    target = Target(name="y", task=task, labels=LABELS[task])
    targets = TARGETS[task] if targets is None else targets
    return Objective.of(target, ObjectiveConfig(**config), np.asarray(targets))


def row_loss(goal, targets, outputs):
    encoded = goal.encoded(np.asarray(targets))
    loss = goal.row_loss()(tf.constant(encoded), tf.constant(outputs))
    assert loss.dtype == "float32"
    return loss.numpy()


def losses_of(task, **config):
    return row_loss(objective(task, **config), TARGETS[task], LOGITS[task])


classes = pytest.mark.parametrize("task", ["binary", "multiclass"])
tasks = pytest.mark.parametrize("task", LABELS)


# --- losses -----------------------------------------------------------------------


@classes
@pytest.mark.parametrize("loss", ["auto", "cross_entropy"])
def test_cross_entropy_is_the_log_loss_of_scikit_learn(task, loss):
    goal = objective(task, loss=loss)
    probabilities = goal.outputs(LOGITS[task].astype("float64"))
    expected = sklearn.metrics.log_loss(TARGETS[task], probabilities)
    losses = losses_of(task, loss=loss)
    assert losses.shape == (40,)
    assert losses.mean() == pytest.approx(expected, rel=1e-5)


@classes
def test_focal_loss_without_focus_is_cross_entropy(task):
    focal = losses_of(task, loss="focal", focal_gamma=0)
    np.testing.assert_allclose(focal, losses_of(task), rtol=1e-4, atol=1e-6)


@classes
@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_focal_loss_weighs_a_row_by_how_wrong_it_is(task, gamma):
    p = objective(task).outputs(LOGITS[task].astype("float64"))
    p = p[np.arange(40), TARGETS[task]]
    expected = -((1 - p) ** gamma) * np.log(p)
    got = losses_of(task, loss="focal", focal_gamma=gamma)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)


@classes
@pytest.mark.parametrize("config", [{}, {"label_smoothing": 0.1}])
@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_rows_that_are_quite_sure_give_finite_losses_and_gradients(
    task, loss, gamma, config
):
    goal = objective(task, loss=loss, focal_gamma=gamma, **config)
    width = goal.num_outputs
    outputs = tf.Variable(np.array([[1e4], [-1e4], [0], [88]]) * np.eye(1, width))
    outputs = tf.Variable(tf.cast(outputs, "float32"))
    with tf.GradientTape() as tape:
        losses = goal.row_loss()(tf.constant([0, 0, 1, 1], tf.int32), outputs)
    gradient = tape.gradient(losses, outputs).numpy()
    assert np.isfinite(losses).all()
    assert np.isfinite(gradient).all()
    assert (losses.numpy() >= 0).all()


@classes
def test_label_smoothing_mixes_in_an_even_share_of_all_classes(task):
    p = objective(task).outputs(LOGITS[task].astype("float64"))
    wanted = 0.8 * np.eye(p.shape[1])[TARGETS[task]] + 0.2 / p.shape[1]
    expected = -(wanted * np.log(p)).sum(axis=1)
    got = losses_of(task, label_smoothing=0.2)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("loss", "by_numpy"),
    [
        ("auto", np.square),
        ("mse", np.square),
        ("mae", np.abs),
        ("huber", lambda e: np.where(abs(e) <= 1.5, e**2 / 2, 1.5 * (abs(e) - 0.75))),
    ],
)
def test_number_losses_count_in_standard_deviations_of_the_target(loss, by_numpy):
    standard = (TARGETS["regression"] - TARGETS["regression"].mean()) / np.std(
        TARGETS["regression"]
    )
    expected = by_numpy(LOGITS["regression"][:, 0] - standard)
    got = losses_of("regression", loss=loss, huber_delta=1.5)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_huber_loss_has_no_step_where_it_turns_linear():
    goal = objective("regression", [-1.0, 1.0], loss="huber", huber_delta=2.0)
    errors = np.array([[1.999], [2.0], [2.001], [-2.001]], "float32")
    got = row_loss(goal, np.zeros(4), errors)
    np.testing.assert_allclose(got, [1.998, 2, 2.002, 2.002], atol=1e-5)


@pytest.mark.parametrize(
    ("task", "loss", "message"),
    [
        ("binary", "mse", "binary targets. Available: cross_entropy, focal."),
        ("multiclass", "huber", "multiclass targets. Available: cross_entropy, focal."),
        ("regression", "focal", "regression targets. Available: mse, mae, huber."),
    ],
)
def test_a_loss_that_does_not_fit_the_task_is_refused(task, loss, message):
    message = f"objective.loss: '{loss}' is not for {message}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        objective(task, loss=loss)


# --- targets ----------------------------------------------------------------------


def test_numbers_are_standardised_by_the_train_rows_alone():
    goal = objective("regression", [10.0, 20.0, 30.0])
    encoded = goal.encoded(np.array([20.0, 30.0, np.nan, 1e6]))
    assert encoded.dtype == "float32"
    assert np.isnan(encoded[2])
    assert encoded[:2] == pytest.approx([0, 1.2247449])


def test_a_constant_target_is_told_without_dividing_by_zero():
    goal = objective("regression", [7.0, 7.0])
    assert goal.encoded(np.array([7.0, 8.0])).tolist() == [0, 1]
    assert goal.outputs(np.zeros((2, 1), "float32")).tolist() == [7, 7]


def test_equal_targets_have_no_spread_though_their_mean_is_rounded():
    targets = np.full(7, 0.1)
    assert targets.std() > 0, "rounding alone"
    goal = objective("regression", targets)
    assert goal.encoded(np.array([1.1])).tolist() == pytest.approx([1])


@classes
def test_classes_are_encoded_as_they_are(task):
    encoded = objective(task).encoded(np.array([1, 0, -1]))
    assert (encoded.dtype, encoded.tolist()) == ("int32", [1, 0, -1])


# --- class weights ----------------------------------------------------------------


@pytest.mark.parametrize("targets", [[0, 0, 0, 1, 2, 3], [0] * 50 + [3] * 2 + [1, 2]])
def test_balanced_weights_are_those_of_scikit_learn(targets):
    weights = objective("multiclass", class_weights="balanced").class_weights(
        np.array(targets)
    )
    expected = sklearn.utils.compute_class_weight(
        "balanced", classes=np.arange(4), y=targets
    )
    np.testing.assert_allclose(weights, expected)


@pytest.mark.parametrize(
    "class_weights", ["none", "balanced", {"b": 10}, {"a": 2, "b": 1, "c": 5, "d": 1}]
)
@pytest.mark.parametrize("targets", [[0, 0, 0, 1, 2, 3], [1, 1, 0, 1]])
def test_weights_are_1_on_average_over_the_train_rows(class_weights, targets):
    goal = objective("multiclass", class_weights=class_weights)
    weights = goal.class_weights(np.array(targets))
    assert weights.shape == (4,)
    assert np.isfinite(weights).all()
    assert weights[targets].mean() == pytest.approx(1)


def test_named_weights_keep_their_ratio_and_others_count_as_1():
    goal = objective("multiclass", class_weights={"b": 4.0})
    weights = goal.class_weights(np.array([0, 1, 2, 3]))
    np.testing.assert_allclose(weights / weights[0], [1, 4, 1, 1])


def test_a_weight_for_an_unknown_label_is_refused():
    goal = objective("binary", class_weights={"Yes": 2.0})
    message = (
        "Unknown label in objective.class_weights 'Yes'. Did you mean 'yes'? "
        "Available: no, yes."
    )
    with pytest.raises(UnknownName, match=f"^{re.escape(message)}$"):
        goal.class_weights(np.array([0, 1]))


# --- the decision -----------------------------------------------------------------


@tasks
def test_outputs_in_numpy_equal_the_decision_in_keras(task):
    goal = objective(task)
    logits = np.concatenate([LOGITS[task], LOGITS[task] * 1e3, LOGITS[task] * 0])
    tensor = keras.Input((goal.num_outputs,))
    decide = keras.Model(tensor, goal.decide(tensor))
    decision = decide(logits)
    outputs = goal.outputs(logits)
    if task == "regression":
        np.testing.assert_allclose(decision["prediction"], outputs, rtol=1e-6)
        assert [*decision] == ["prediction"]
        return
    np.testing.assert_allclose(decision["probabilities"], outputs, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-6)
    labels = [label.decode() for label in decision["prediction"].numpy()]
    assert labels == [goal.labels[i] for i in outputs.argmax(axis=1)]


@tasks
def test_the_head_has_one_float32_output_for_each_number_wanted(task):
    goal = objective(task)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        tensor = keras.Input((3,))
        logits = goal.head(keras.layers.Dense(5)(tensor))
    finally:
        keras.config.set_dtype_policy(before)
    assert logits.shape == (None, {"multiclass": 4}.get(task, 1))
    assert logits.dtype == "float32"


# --- honest probabilities ---------------------------------------------------------


def true_shares(task, rows=30):
    return np.random.default_rng(3).dirichlet(np.ones(len(LABELS[task])), rows)


def logits_of(shares):
    """Logits whose softmax is `shares`: one for two classes."""
    logs = np.log(shares)
    return (logs[:, 1:] - logs[:, :1] if shares.shape[1] == 2 else logs).astype("f4")


@classes
def test_a_class_that_counts_more_in_training_is_not_more_probable(task):
    shares = true_shares(task)
    factors = np.array([0.2, 5, 1, 40])[: shares.shape[1]]
    learnt = shares * factors / (shares * factors).sum(axis=1, keepdims=True)
    goal = objective(task).corrected(factors)
    np.testing.assert_allclose(goal.outputs(logits_of(learnt)), shares, rtol=1e-4)


@classes
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_what_the_focal_loss_asks_for_comes_back_as_the_true_shares(task, gamma):
    shares = true_shares(task)
    goal = objective(task, loss="focal", focal_gamma=gamma)
    logits = tf.Variable(logits_of(shares))
    loss = goal.row_loss()
    optimizer = keras.optimizers.Adam(0.05)
    every = [np.full(len(shares), k) for k in range(shares.shape[1])]

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            parts = [shares[:, k] * loss(y, logits) for k, y in enumerate(every)]
            total = tf.add_n([tf.cast(part, "float32") for part in parts])
        optimizer.apply([tape.gradient(total, logits)], [logits])

    for rate in (0.05, 0.005, 0.0005):
        optimizer.learning_rate.assign(rate)
        for _ in range(200):
            step()
    bent = goal.outputs(logits.numpy())
    assert abs(bent - shares).max() > 0.02
    goal = goal.corrected(np.ones(shares.shape[1]))
    np.testing.assert_allclose(goal.outputs(logits.numpy()), shares, atol=5e-3)


@classes
@pytest.mark.parametrize("config", [{}, {"loss": "focal"}])
def test_a_correction_is_the_same_in_numpy_and_in_keras_also_when_set_later(
    task, config
):
    goal = objective(task, **config).corrected(
        np.array([1, 9, 2, 3])[: LOGITS[task].shape[1] + (task == "binary")]
    )
    logits = np.concatenate([LOGITS[task], LOGITS[task] * 1e3, LOGITS[task] * 0])
    tensor = keras.Input((goal.num_outputs,))
    model = keras.Model(tensor, goal.decide(tensor))
    for later in (goal, goal.calibrated(LOGITS[task], TARGETS[task], None)):
        later.calibrate(model)
        got, expected = model(logits)["probabilities"], later.outputs(logits)
        assert np.isfinite(expected).all()
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
    assert later.correction != goal.correction


@tasks
def test_where_nothing_is_to_be_corrected_the_graph_has_no_further_layer(task):
    goal = objective(task)
    if task != "regression":
        goal = goal.corrected(np.ones(len(LABELS[task])))
    assert goal.correction is None
    tensor = keras.Input((goal.num_outputs,))
    names = [layer.name for layer in keras.Model(tensor, goal.decide(tensor)).layers]
    assert "calibrate" not in names


@classes
def test_the_loss_that_epochs_are_chosen_by_is_the_log_loss_of_honest_ones(task):
    logits = LOGITS[task] / 3
    goal = objective(task, loss="focal", label_smoothing=0.1)
    before = goal.row_loss()(TARGETS[task], logits)
    assert (goal.honest_loss()(TARGETS[task], logits) == before).numpy().all()
    goal = goal.corrected(np.array([1, 9, 2, 3])[: len(LABELS[task])])
    got = goal.honest_loss()(TARGETS[task], logits).numpy().mean()
    expected = sklearn.metrics.log_loss(TARGETS[task], goal.outputs(logits))
    assert got == pytest.approx(expected, rel=1e-4)


def overconfident(num_rows, shift=-2.0, seed=0):
    """Logits twice as far from 0 as the truth, and too low by `shift`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-2, 1.5, num_rows)
    y = rng.random(num_rows) < 1 / (1 + np.exp(-logits))
    return (2 * logits + shift).astype("float32")[:, None], y.astype("int32")


def test_scale_and_shift_are_fitted_on_rows_not_trained_on():
    logits, y = overconfident(20_000)
    goal = objective("binary").corrected(np.ones(2), always=True)
    fitted = goal.calibrated(logits, y, None)
    assert fitted.correction.scale == pytest.approx(0.5, rel=0.05)
    assert fitted.correction.shift[0] == pytest.approx(1, abs=0.1)
    assert fitted.outputs(logits)[:, 1].mean() == pytest.approx(y.mean(), rel=0.01)


def test_rows_of_weight_0_are_no_rows_for_the_fit():
    logits, y = overconfident(2_000)
    goal = objective("binary").corrected(np.ones(2), always=True)
    weight = np.repeat([1.0, 0.0], 2_000)
    wrong = np.concatenate([y, 1 - y])
    got = goal.calibrated(np.tile(logits, (2, 1)), wrong, weight)
    assert got.correction == goal.calibrated(logits, y, None).correction


def test_a_temperature_is_fitted_for_many_classes():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (5_000, 4))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = (rng.random(5_000)[:, None] > shares.cumsum(axis=1)).sum(axis=1)
    goal = objective("multiclass").corrected(np.ones(4), always=True)
    fitted = goal.calibrated((3 * logits).astype("float32"), y, None).correction
    assert fitted.scale == pytest.approx(1 / 3, rel=0.1)
    assert fitted.shift == (0, 0, 0, 0)


@pytest.mark.parametrize("num_positive", [0, 1, 4])
def test_a_few_positives_do_not_move_the_probabilities(num_positive):
    logits, y = overconfident(500)
    y[:] = 0
    y[:num_positive] = 1
    goal = objective("binary").corrected(np.ones(2), always=True)
    assert goal.calibrated(logits, y, None) == goal


def test_rows_that_are_told_apart_wholly_leave_finite_probabilities():
    y = np.repeat([0, 1], 50)
    goal = objective("binary").corrected(np.ones(2), always=True)
    fitted = goal.calibrated((20.0 * y - 10).astype("float32")[:, None], y, None)
    assert 0.05 <= fitted.correction.scale < 3
    assert abs(fitted.correction.shift[0]) < 3


@pytest.mark.parametrize("seed", range(5))
def test_honest_probabilities_are_left_as_they_are_or_nearly_so(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(-2, 1, 3_000).astype("float32")[:, None]
    y = (rng.random(3_000) < 1 / (1 + np.exp(-logits[:, 0]))).astype("int32")
    goal = objective("binary").corrected(np.ones(2), always=True)
    fitted = goal.calibrated(logits, y, None)
    change = fitted.outputs(logits) - goal.outputs(logits)
    assert abs(change).mean() < 0.02  # 0.007 is the chance of the rows themselves
