"""Calibration of probabilities: the right method, the same in NumPy and as a layer."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastrain.calibration import Calibration
from kerastrain.events import recording
from kerastrain.piecewise import STEEPEST, Piecewise

HOW = {
    "honest": lambda p: p,
    "too sure": lambda p: p**2.5 / (p**2.5 + (1 - p) ** 2.5),
    "odd": lambda p: p**3,
}


def world(num_rows, how, num_classes=2, seed=0):
    """Probabilities as a model gives them, `(rows, classes)`, and true classes."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(num_rows, num_classes)) * 1.5
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    classes = (random.random((num_rows, 1)) > p.cumsum(axis=1)).sum(axis=1)
    if num_classes == 2:
        positive = HOW[how](p[:, 1])
        return np.stack([1 - positive, positive], 1).astype("float32"), classes
    shares = HOW[how](p)
    return (shares / shares.sum(axis=1, keepdims=True)).astype("float32"), classes


def log_loss(p, classes):
    return -np.log(np.clip(p[np.arange(len(p)), classes], 1e-15, 1)).mean()


@pytest.mark.parametrize(
    ("how", "num_classes", "num_rows", "method"),
    [
        ("honest", 2, 2_000, "none"),
        ("honest", 4, 2_000, "none"),
        ("too sure", 2, 2_000, "temperature"),
        ("too sure", 2, 60, "temperature"),
        ("odd", 2, 2_000, "isotonic"),
        ("odd", 4, 4_000, "temperature"),  # which is exact: p^3, summed to 1
        ("odd", 12, 2_000, "temperature"),
        ("odd", 2, 8, "succession"),  # too few rows
    ],
)
def test_the_method_that_fits_is_chosen_and_helps_on_new_rows(
    how, num_classes, num_rows, method
):
    found = Calibration.chosen(*world(num_rows, how, num_classes))
    assert found.method == method
    p, classes = world(20_000, how, num_classes, seed=1)
    gain = log_loss(p, classes) - log_loss(found(p), classes)
    if method == "none":
        assert gain == 0
        assert found.log_loss_after == found.log_loss_before
    elif method != "succession":
        assert gain > 0.01
        assert found.log_loss_after < found.log_loss_before


@pytest.mark.parametrize("num_classes", [2, 3])
def test_rows_that_are_all_right_do_not_make_it_surer(num_classes):
    classes = np.arange(98) % num_classes
    p = np.where(np.eye(num_classes)[classes] > 0, 1 - 1e-9, 1e-9).astype("float32")
    with recording() as recorder:
        found = Calibration.chosen(p, classes)
    np.testing.assert_allclose(found(p).min(), 0.01 / num_classes, rtol=1e-3)
    assert (found(p).argmax(axis=1) == classes).all()
    assert "fewer than 5 of the rows" in recorder.events[0].message
    # What is asked for by name is done.
    assert Calibration.chosen(p, classes, methods=("temperature",)).scale > 1
    np.testing.assert_allclose(found.layer()(p), found(p), atol=1e-7)


def test_the_choice_is_told():
    with recording() as recorder:
        found = Calibration.chosen(*world(500, "too sure"))
    (event,) = recorder.events
    assert event.message == (
        "Probabilities are calibrated by temperature: the log loss on rows not trained "
        f"on is {found.log_loss_after:.4f}, and {found.log_loss_before:.4f} as they "
        "were."
    )
    assert event.details == found.described()
    assert set(found.described()) == {"method", "log_loss_before", "log_loss_after"}


def test_a_shift_is_fitted_where_it_is_asked_for():
    p, classes = world(2_000, "honest")
    odds = p[:, 1] / p[:, 0] * 4
    shifted = np.stack([1 / (1 + odds), odds / (1 + odds)], axis=1)
    methods = ("temperature",)
    found = Calibration.chosen(shifted, classes, methods=methods, has_shift=True)
    np.testing.assert_allclose(found(shifted), p, atol=0.03)
    assert found.shift[1] == pytest.approx(-np.log(4), abs=0.2)


def test_rows_count_by_their_weight():
    p, classes = world(2_000, "too sure")
    others, wrong = world(2_000, "honest", seed=1)
    weight = np.repeat([1.0, 0.0], 2_000)
    both, targets = np.concatenate([p, others]), np.concatenate([classes, wrong])
    found = Calibration.chosen(both, targets, weight, methods=("temperature",))
    alone = Calibration.chosen(p, classes, methods=("temperature",))
    assert found == alone


FITTED = [
    Calibration.chosen(*world(1_000, "odd", k), methods=(method,))
    for k in (2, 4)
    for method in ("none", "temperature", "isotonic")
] + [Calibration("succession", share=0.02)]


@pytest.mark.parametrize("found", FITTED, ids=lambda one: one.method)
def test_layer_and_numpy_agree_and_rows_sum_to_one(found, tmp_path):
    num_classes = len(found.shift) or (4 if len(found.curves) > 1 else 2)
    p, _ = world(500, "odd", num_classes, seed=2)
    p[:num_classes] = np.eye(num_classes)
    np.testing.assert_allclose(found(p).sum(axis=1), 1, atol=1e-5)
    layer = found.layer()
    if layer is None:
        assert (found.method, found(p) is p) == ("none", True)
        return
    tensor = keras.Input((num_classes,))
    model = keras.Model(tensor, layer(tensor))
    assert model.output.shape == (None, num_classes)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    for one in (model, again):
        np.testing.assert_allclose(one(p), found(p), atol=2e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(5, 400), st.floats(0.02, 0.98), st.integers(0, 99))
def test_a_curve_rises_is_never_too_steep_and_keeps_within_0_and_1(size, share, seed):
    random = np.random.default_rng(seed)
    scores = random.choice([0.0, 0.2, 0.2000001, 0.9, 1.0, *random.random(20)], size)
    outcomes = random.random(size) < share
    curve = Piecewise.rising(scores, outcomes, random.uniform(0.1, 2, size))
    assert (np.diff(curve.x) > 0).all()
    assert (np.diff(curve.y) > 0).all()
    assert 0 < min(curve.y) <= max(curve.y) < 1
    assert curve.steepness <= STEEPEST * 1.001
