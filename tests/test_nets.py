"""Layers of the networks: the numbers of NumPy and scikit-learn, saved and exported."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
from sklearn.preprocessing import QuantileTransformer

from kerastrain.nets.cross import Cross
from kerastrain.nets.periodic import PeriodicEmbedding
from kerastrain.nets.quantile import QuantileNormal, normal_quantile
from kerastrain.nets.tokens import ColumnTokens, NumberTokens, SelfAttention

# Keras 3.15 with NumPy 2 says so whenever a variable is read.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)

NAN = np.nan
RANDOM = np.random.default_rng(0)
NUMBERS = RANDOM.normal(size=(5, 3)).astype("float32")
TOKENS = RANDOM.normal(size=(5, 3, 8)).astype("float32")
PAIR = [NUMBERS, RANDOM.normal(size=(5, 3)).astype("float32")]
# Continuous, with a long tail, of few values with ties inside, and far from 0
TABLE = np.stack(
    [
        RANDOM.normal(size=600),
        RANDOM.lognormal(0, 2, 600),
        np.round(RANDOM.normal(size=600), 1),
        1e3 + RANDOM.random(600),
    ],
    axis=1,
).astype("float32")


def weights(layer):
    """By name, with values that are not their first ones, as float64."""
    found = {}
    for index, variable in enumerate(layer.trainable_variables):
        draw = np.random.default_rng(index).normal(size=variable.shape)
        variable.assign(draw)
        found[variable.path.split("/", 1)[-1]] = draw.astype("float32").astype(float)
    return found


def periodic(x, w):
    phases = 2 * np.pi * w["frequencies"] * x[..., None]
    waves = np.concatenate([np.cos(phases), np.sin(phases)], -1)
    kernel = np.broadcast_to(w["kernel"], (3, *w["kernel"].shape[-2:]))
    return np.einsum("bnw,nwd->bnd", waves, kernel) + w["bias"]


def attention(x, w, heads=2):
    def linear(name, x):
        return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]

    rows = []
    for row in x:
        q, k, v = (linear(name, row) for name in ("query", "key", "value"))
        mixed = []
        for part in np.split(np.arange(8), heads):
            scores = q[:, part] @ k[:, part].T / np.sqrt(len(part))
            mixed.append(scipy.special.softmax(scores, axis=1) @ v[:, part])
        rows.append(linear("mix", np.concatenate(mixed, axis=1)))
    return np.stack(rows)


def mixture(x0, x, w):
    total = np.zeros_like(x0)
    shares = scipy.special.softmax(x @ w["gate"], axis=1)
    for i in range(4):
        part = slice(2 * i, 2 * i + 2)
        thought = np.tanh(np.tanh(x @ w["down"][:, part]) @ w["inner"][i])
        total += shares[:, i : i + 1] * (thought @ w["up"][part] + w["bias"])
    return x0 * total + x


# Name: how it is made, what it gets, and NumPy's numbers for it and its weights.
CASES = {
    "PLR": (
        lambda: PeriodicEmbedding(4, num_frequencies=6, scale=0.5),
        NUMBERS,
        lambda x, w: np.maximum(periodic(x, w), 0),
    ),
    "PL lite": (
        lambda: PeriodicEmbedding(4, num_frequencies=6, activation="linear", lite=True),
        NUMBERS,
        periodic,
    ),
    "NumberTokens": (
        lambda: NumberTokens(8),
        NUMBERS,
        lambda x, w: np.einsum("bn,nd->bnd", x, w["vectors"]),
    ),
    "ColumnTokens": (
        ColumnTokens,
        TOKENS,
        lambda x, w: np.stack([np.vstack([0 * r[:1], r]) + w["bias"] for r in x]),
    ),
    "SelfAttention": (lambda: SelfAttention(2, dropout=0.5), TOKENS, attention),
    "SelfAttention of the first": (
        lambda: SelfAttention(2, first_only=True),
        TOKENS,
        lambda x, w: attention(x, w)[:, :1],
    ),
    "Cross": (
        Cross,
        PAIR,
        lambda x, w: x[0] * (x[1] @ w["kernel"] + w["bias"]) + x[1],
    ),
    "Cross of low rank": (
        lambda: Cross(2),
        PAIR,
        lambda x, w: x[0] * (x[1] @ w["down"] @ w["up"] + w["bias"]) + x[1],
    ),
    "Cross of experts": (
        lambda: Cross(2, num_experts=4),
        PAIR,
        lambda x, w: mixture(*x, w),
    ),
    "QuantileNormal": (
        lambda: QuantileNormal.of(np.array([[0, 1, 3], [5, 5, 5], [-1, 0, 0.0]])),
        np.array([[0.5, 5, -9], [1, 4, -0.5], [2, 6, 0], [NAN, NAN, 7]], "float32"),
        lambda x, w: scipy.stats.norm.ppf(
            [[0.25, 0.5, 1e-7], [0.5, 0.5, 0.25], [0.75, 0.5, 0.75], [NAN, NAN, 0.75]]
        ),
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    """A functional model of one layer, its inputs, and what NumPy makes of them."""
    make, x, expected = CASES[request.param]
    layer = make()
    inputs = keras.tree.map_structure(lambda part: keras.Input(part.shape[1:]), x)
    model = keras.Model(inputs, layer(inputs))
    wide = keras.tree.map_structure(lambda part: part.astype(float), x)
    return model, x, expected(wide, weights(layer))


def test_layer_gives_the_numbers_of_numpy_in_the_shape_it_says(case):
    model, x, expected = case
    got = model(x)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)
    assert (None, *got.shape[1:]) == tuple(model.output.shape)
    assert got.dtype == model.output.dtype


def test_layer_comes_back_from_its_file(case, tmp_path):
    model, x, _ = case
    model.save(tmp_path / "layer.keras")
    again = keras.saving.load_model(tmp_path / "layer.keras", safe_mode=True)
    np.testing.assert_array_equal(again(x), model(x))


# --- quantiles --------------------------------------------------------------------


@pytest.mark.parametrize("num_knots", [2, 10, 37, 500])
def test_quantiles_give_the_numbers_of_scikit_learn_ties_and_all(num_knots):
    other = QuantileTransformer(n_quantiles=num_knots, output_distribution="normal")
    other.fit(TABLE.astype("float64"))
    layer = QuantileNormal.of(other.quantiles_.T)
    unseen = np.concatenate([TABLE, TABLE * 1.01, TABLE - 0.3])
    expected = other.transform(unseen.astype("float64"))
    # Numbers near 1,000 are 6e-5 apart in float32, and the last knots 2e-3.
    np.testing.assert_allclose(layer(unseen)[:, :3], expected[:, :3], atol=1e-3)
    np.testing.assert_allclose(layer(unseen)[:, 3], expected[:, 3], atol=0.1)


def test_values_shared_by_many_rows_count_as_if_noise_had_parted_them():
    column = np.repeat([0, 1, 2, 5], [500, 200, 200, 100]).astype("float32")[:, None]
    noisy = column + np.random.default_rng(0).normal(0, 1e-5, column.shape)
    other = QuantileTransformer(n_quantiles=1000, output_distribution="normal")
    expected = [
        np.median(other.fit(noisy).transform(noisy)[column == value])
        for value in (0, 1, 2, 5)
    ]
    layer = QuantileNormal.of(np.quantile(column, np.linspace(0, 1, 1000), axis=0).T)
    got = layer(np.array([[0], [1], [2], [5]], "float32"))
    np.testing.assert_allclose(got[:, 0], expected, atol=0.01)


def test_the_normal_quantile_keeps_its_digits_in_both_tails():
    share = np.concatenate([np.logspace(-7, -0.31, 500), np.linspace(0.01, 0.5, 99)])
    expected = scipy.stats.norm.ppf(share)
    low, high = share.astype("float32"), (1 - share).astype("float32")
    np.testing.assert_allclose(normal_quantile(low, high), expected, atol=2e-6)
    np.testing.assert_allclose(normal_quantile(high, low), -expected, atol=2e-6)


# --- refusals ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QuantileNormal(3, 1), "needs 2 knots at least, got 1"),
        (lambda: Cross(num_experts=2), "2 experts of a cross layer need a rank"),
        (lambda: SelfAttention(3)(TOKENS), "3 heads cannot share tokens of length 8"),
    ],
)
def test_layer_refuses_sizes_that_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_attention_drops_only_in_training():
    layer = SelfAttention(2, dropout=0.5)
    calm, again = layer(TOKENS), layer(TOKENS)
    np.testing.assert_array_equal(calm, again)
    assert np.abs(layer(TOKENS, training=True) - calm).max() > 1e-3


def test_tokens_and_frequencies_do_not_decay():
    layers = [NumberTokens(4), PeriodicEmbedding(4), ColumnTokens()]
    for layer, x in zip(layers, [NUMBERS, NUMBERS, TOKENS], strict=True):
        layer(x)
        names = {v.name for v in layer.weights if getattr(v, "decay_factor", 1) == 0}
        assert names == {v.name for v in layer.weights} - {"kernel"}
