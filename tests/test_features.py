"""Statistics of the train rows, and what the models get."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastrain import features
from kerastrain.config import FeaturesConfig
from kerastrain.encoded import TrainValues
from kerastrain.features import Features, Front, NumberStatistics
from kerastrain.schema import Column, ColumnStats, Schema

# Keras 3.15 with NumPy 2 says so whenever a variable is read.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)

NAN = np.nan
STATS = ColumnStats(storage="string", num_rows=0)
KINDS = {
    "size (m)": ("numeric", "float32", None),
    "city": ("categorical", "string", None),
    "price": ("numeric", "string", "formatted"),
    "day": ("datetime", "string", "ymd"),
    "colour": ("categorical", "string", None),
    "is_new": ("boolean", "string", None),
}
VALUES = {
    "city": TrainValues(["Rom", "Oslo"], np.array([5, 4])),
    "colour": TrainValues(["red", "blue", "lime"], np.array([5, 4, 1])),
}
RAW = {
    "size": [1.5, NAN, np.inf],
    "city": ["Oslo", "?", ""],
    "price": ["$1,000", "x", ""],
    "day": ["1970-01-02", "", "1970-01-02 12:00"],
    "colour": [" red", "lime", "new"],
    "is_new": ["Yes", "no", ""],
}


def front_of(*names):
    columns = [
        Column(
            name=name,
            type=KINDS[name][0],
            dtype=KINDS[name][1],
            format=KINDS[name][2],
            input=name.partition(" ")[0],
            stats=STATS,
        )
        for name in names
    ]
    ignored = Column(name="id", type="identifier", role="ignored", stats=STATS)
    schema = Schema(columns=[ignored, *columns], num_rows=0)
    return Front(schema, VALUES, FeaturesConfig())


def raw_of(front):
    return {name: tf.constant(RAW[name]) for name in front.inputs}


# --- statistics -------------------------------------------------------------------


def test_statistics_are_those_of_numpy_over_the_train_rows_alone():
    numbers = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
    numbers[::4, 1] = NAN
    rows = np.arange(0, 30)
    numbers[30:] = 1e30  # must not be looked at
    got = NumberStatistics.of(numbers, rows)
    train = numbers[rows].astype("float64")
    for name, share in (("low", 25), ("median", 50), ("high", 75)):
        expected = np.nanpercentile(train, share, axis=0)
        np.testing.assert_allclose(getattr(got, name), expected)
    np.testing.assert_array_equal(got.min, np.nanmin(train, axis=0))
    np.testing.assert_array_equal(got.max, np.nanmax(train, axis=0))
    np.testing.assert_allclose(got.missing, [0, 8 / 30, 0])


def test_quantiles_of_any_share_are_those_of_numpy():
    numbers = np.random.default_rng(0).normal(size=(501, 3)).astype("float32")
    numbers[::3, 1] = NAN
    numbers[:, 2] = NAN
    got = NumberStatistics.of(numbers, np.arange(401))
    assert got.quantiles.shape == (3, 1_001) and got.num_rows == 401
    shares = np.linspace(0, 1, 11)
    expected = np.nanquantile(numbers[:401, :2].astype("float64"), shares, axis=0).T
    np.testing.assert_allclose(got.quantiles_at(shares)[:2], expected, rtol=1e-5)
    assert (got.quantiles[2] == 0).all()
    assert (np.diff(got.quantiles) >= 0).all()


def test_at_most_the_stated_number_of_rows_is_looked_at(monkeypatch):
    seen = []
    monkeypatch.setattr(features, "_QUANTILE_ROWS", 100)
    monkeypatch.setattr(
        features, "_describe", lambda column: seen.append(len(column)) or [0.0] * 6
    )
    for num_rows in (1, 99, 100, 101, 199, 1000):
        NumberStatistics.of(np.zeros((1000, 1), "float32"), np.arange(num_rows))
    assert seen == [1, 99, 100, 51, 100, 100]


def test_a_column_without_values_counts_as_zeros():
    got = NumberStatistics.of(np.full((4, 1), NAN, "float32"), np.arange(4))
    assert (got.median, got.factor(), got.missing) == ([0], [0], [1])


def test_no_columns_have_no_statistics():
    got = NumberStatistics.of(np.zeros((4, 0), "float32"), np.arange(4))
    assert got.median.shape == got.factor().shape == (0,)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1, 2, 3, 4], 1 / 2),
        ([0, 0, 0, 0, 0, 0, 0, 4], 2 / 4),  # quartiles alike: by the range
        ([5, 5, 5], 0),
        ([7], 0),
        ([NAN, NAN], 0),
        ([0, 1e-45, 2e-45], 0),  # float32 has no number for the inverse
        ([-3e38, 0, 3e38], 1 / 3e38),
    ],
)
def test_numbers_are_scaled_by_the_middle_half_or_else_the_range(values, expected):
    column = np.array(values, "float32")[:, None]
    factor = NumberStatistics.of(column, np.arange(len(column))).factor()
    assert factor == pytest.approx([expected], rel=1e-6, abs=0)
    assert np.isfinite(factor.astype("float32")).all()


# --- the front --------------------------------------------------------------------


def test_the_front_gives_one_matrix_of_numbers_and_one_of_codes():
    front = front_of(*KINDS)
    assert [*front.inputs] == [*RAW]
    assert front.code_names == ("city", "colour")
    assert front.vocabulary_sizes == (4, 4)  # missing, rare and two known; lime is rare
    assert len(front.number_names) == 1 + 1 + 10 + 1
    assert front.number_names[:3] == ("size (m)", "price", "day.elapsed_days")
    outputs = front.model(raw_of(front))
    assert outputs["numbers"].dtype == "float32"
    assert outputs["codes"].dtype == "int32"
    assert outputs["codes"].numpy().tolist() == [[3, 2], [0, 1], [0, 0]]
    columns = [0, 1, 2, 12]
    np.testing.assert_array_equal(
        outputs["numbers"].numpy()[:, columns],
        [[1.5, 1000, 1, 1], [NAN, NAN, NAN, 0], [NAN, NAN, 1.5, NAN]],
    )


@pytest.mark.parametrize(
    ("names", "shapes"),
    [
        (["size (m)"], {"numbers": (None, 1)}),
        (["day"], {"numbers": (None, 10)}),
        (["colour"], {"codes": (None, 1)}),
        (["colour", "city"], {"codes": (None, 2)}),
        (["colour", "is_new"], {"numbers": (None, 1), "codes": (None, 1)}),
    ],
)
def test_a_matrix_without_columns_is_left_out(names, shapes):
    front = front_of(*names)
    got = {name: tuple(t.shape) for name, t in front.model.output.items()}
    assert got == shapes
    outputs = front.model(raw_of(front))
    assert {name: (None, *t.shape[1:]) for name, t in outputs.items()} == shapes


def test_a_column_of_texts_without_train_values_has_no_known_codes():
    front = Front(
        Schema(
            columns=[
                Column(
                    name="c", type="categorical", dtype="string", input="c", stats=STATS
                )
            ],
            num_rows=0,
        ),
        {},
        FeaturesConfig(),
    )
    codes = front.model({"c": tf.constant(["", "a"])})["codes"].numpy()
    assert codes.tolist() == [[0], [0]]
    assert front.vocabulary_sizes == (2,)


def test_mixed_precision_leaves_the_front_exact():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = front_of(*KINDS)
    finally:
        keras.config.set_dtype_policy(before)
    exact = front_of(*KINDS).model(raw_of(mixed))
    for name, tensor in mixed.model(raw_of(mixed)).items():
        assert tensor.dtype == exact[name].dtype
        np.testing.assert_array_equal(tensor, exact[name])


# --- what a model gets ------------------------------------------------------------

NUMBERS = np.array([[1, NAN, 5], [2, 7, 5], [3, 9, 5], [NAN, 8, 5]], "float32")


def features_of(*names):
    front = front_of(*names)
    statistics = NumberStatistics.of(
        NUMBERS[:, : len(front.number_names)], np.arange(4)
    )
    return Features.of(front, statistics, 1)


THREE = ("size (m)", "price", "is_new", "colour")
MATRICES = {"numbers": NUMBERS, "codes": np.array([[0], [1], [2], [0]], "int32")}


def value_of(given, tensor):
    return keras.Model(given.inputs, tensor)(MATRICES).numpy()


def test_scaled_numbers_are_centred_spread_and_drawn_in():
    given = features_of(*THREE)
    z = np.array([[-1, 0, 0], [0, -1, 0], [1, 1, 0], [0, 0, 0]])
    got = value_of(given, given.scaled_numbers(squash="clip"))
    np.testing.assert_allclose(got, z / np.sqrt(1 + z**2 / 9), rtol=1e-6)
    got = value_of(given, given.scaled_numbers())
    np.testing.assert_allclose(got, np.sign(z) * np.log1p(abs(z)), rtol=1e-6)


def test_only_columns_with_gaps_in_the_train_rows_have_an_indicator():
    given = features_of(*THREE)
    got = value_of(given, given.missing_indicators())
    assert got.tolist() == [[0, 1], [0, 0], [0, 0], [1, 0]]
    whole = Features.of(
        front_of(*THREE), NumberStatistics.of(NUMBERS, np.array([1])), 1
    )
    assert whole.missing_indicators() is None


def test_flat_holds_numbers_then_indicators_then_embeddings():
    given = features_of(*THREE)
    got = value_of(given, given.flat(embedding_dim=4))
    assert got.shape == (4, 3 + 2 + 4)
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got[:, :3], value_of(given, given.scaled_numbers()))
    assert got[:, 3:5].tolist() == [[0, 1], [0, 0], [0, 0], [1, 0]]
    assert not got[[0, 3], 5:].any()
    assert got[[1, 2], 5:].all()


@pytest.mark.parametrize(
    ("names", "width"), [(["is_new"], 2), (["colour"], 8), (["colour", "is_new"], 10)]
)
def test_flat_takes_any_mix_of_columns(names, width):
    given = features_of(*names)
    assert given.flat().shape == (None, width)
    assert (given.numbers is None) == (names == ["colour"])
    assert (given.codes is None) == (names == ["is_new"])
