"""FT-Transformer: the computation of its paper, from columns to what the head sees."""

import numpy as np
import pytest
from scipy.special import softmax

from kerastrain.config.training import FitConfig, OptimizerConfig, ScheduleConfig
from kerastrain.models.ft_transformer import ft_transformer, recipe

# Keras 3.15 with NumPy 2 says so whenever a variable is read.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)

SMALL = {"blocks": 2, "dim": 6, "heads": 2}


def normalized(x, weights):
    gamma, beta = weights.next("layer_normalization")
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * gamma + beta


def attended(x, weights):
    """Attention of two heads, of every token."""
    q, wq, k, wk, v, wv, mix, bias = weights.next("self_attention")
    parts = []
    for head in (slice(0, 3), slice(3, 6)):
        query, key, value = x @ q + wq, x @ k + wk, x @ v + wv
        scores = query[..., head] @ key[..., head].transpose(0, 2, 1) / np.sqrt(3)
        parts.append(softmax(scores, axis=-1) @ value[..., head])
    return np.concatenate(parts, axis=-1) @ mix + bias


def tokens_of(rows, scaled, weights):
    numbers = scaled[..., None] * weights.next("number_tokens")[0]
    numbers += np.isnan(rows["numbers"])[..., None] * weights.next("gap_tokens")[0]
    table = weights.next("category_embedding")[0]
    categories = table[rows["codes"] + np.array([0, 4])]
    bias = weights.next("column_tokens")[0]
    first = np.zeros((len(numbers), 1, 6))
    return np.concatenate([first, numbers, categories], axis=1) + bias


def feed_forward(x, weights):
    gate = np.maximum(weights.dense(x), 0)
    return weights.dense(weights.dense(x) * gate)


def test_ft_transformer_gives_the_numbers_of_its_paper(table, weights_of, scaled):
    model = table.build(ft_transformer, **SMALL)
    w = weights_of(model)
    x = tokens_of(table.rows, scaled, w)
    for block in range(2):
        x = x + attended(normalized(x, w) if block else x, w)
        x = x + feed_forward(normalized(x, w), w)
    expected = np.maximum(normalized(x[:, 0], w), 0)
    np.testing.assert_allclose(model(table.rows), expected, rtol=1e-3, atol=1e-3)


def test_the_default_has_the_sizes_of_its_authors(table):
    model = table.build(ft_transformer)
    dim, hidden = 192, 256
    attention, norms = 4 * (dim * dim + dim), 2 * dim
    feed = 2 * (dim * hidden + hidden) + hidden * dim + dim
    tokens = (3 + 3 + 9 + 6) * dim  # numbers, gaps, categories, biases
    # Six norms: none before the first attention, one before the head.
    blocks = 3 * (attention + feed) + 6 * norms
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert trainable == tokens + blocks


def test_a_gap_that_training_never_saw_counts_as_the_median(table):
    model = table.build(ft_transformer, **SMALL)
    layer = model.get_layer("gap_tokens")
    seen = np.array([[0], [1], [0]])  # of the three columns the second has gaps
    layer.vectors.assign(layer.vectors * seen)
    median = np.nanmedian(table.rows["numbers"][:, 0])
    with_gap, filled = table.rows["numbers"].copy(), table.rows["numbers"].copy()
    with_gap[:, 0], filled[:, 0] = np.nan, median
    got = [model(table.rows | {"numbers": n}) for n in (with_gap, filled)]
    np.testing.assert_allclose(got[0], got[1], atol=1e-5)


def test_ft_transformer_refuses_heads_that_cannot_share_a_token(table):
    with pytest.raises(ValueError, match="5 heads cannot share tokens of length 192"):
        table.build(ft_transformer, heads=5)


def test_the_recipe_of_ft_transformer_is_a_configuration():
    parts = recipe("binary", 1_000)
    assert OptimizerConfig(**parts["optimizer"]).learning_rate == 1e-4
    assert ScheduleConfig(**parts["schedule"]).name == "constant"
    assert FitConfig(**parts["fit"]).patience is not None
