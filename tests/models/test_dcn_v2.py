"""DCN-V2: the computation of its paper, from columns to what the head sees."""

import numpy as np
import pytest

from kerastrain.config.training import FitConfig, OptimizerConfig
from kerastrain.models.dcn_v2 import dcn_v2, recipe

# Keras 3.15 with NumPy 2 says so whenever a variable is read.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)


@pytest.mark.parametrize("structure", ["stacked", "parallel"])
def test_dcn_v2_gives_the_numbers_of_its_paper(table, weights_of, scaled, structure):
    model = table.build(dcn_v2, structure=structure, cross_layers=2, widths=(7, 5))
    w = weights_of(model)
    columns = crossed = w.columns(table.rows, scaled)
    for _ in range(2):
        kernel, bias = w.next("cross")
        crossed = columns * (crossed @ kernel + bias) + crossed
    x = crossed if structure == "stacked" else columns
    for _ in range(2):
        x = np.maximum(w.dense(x), 0)
    expected = x if structure == "stacked" else np.hstack([crossed, x])
    np.testing.assert_allclose(model(table.rows), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("experts", [1, 3])
def test_dcn_v2_with_a_rank_has_fewer_weights(table, experts):
    options = {"structure": "stacked", "cross_layers": 1, "widths": ()}
    full = table.build(dcn_v2, **options)
    low = table.build(dcn_v2, **options, rank=2, experts=experts)
    assert low(table.rows).shape == full(table.rows).shape == (50, 20)
    assert low.count_params() < full.count_params()


def test_dcn_v2_refuses_experts_without_a_rank(table):
    with pytest.raises(ValueError, match="4 experts of a cross layer need a rank"):
        table.build(dcn_v2, experts=4)


def test_the_recipe_of_dcn_v2_is_a_configuration():
    parts = recipe("binary", 1_000)
    assert OptimizerConfig(**parts["optimizer"]).clip_norm == 10
    assert FitConfig(**parts["fit"]).patience is not None
