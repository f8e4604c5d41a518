"""Batches: the order of rows, the steps of an epoch, the shards of several devices."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from kerastrain.blocks import Blocks
from kerastrain.pipeline import Rows

# Rows, batch size, steps per call: even, odd last batch, one row left over, fewer rows
# than a batch, one row in all, fewer rows in a step than devices.
SIZES = [
    (24, 6, 2),
    (25, 6, 2),
    (23, 6, 3),
    (5, 6, 2),
    (1, 6, 1),
    (3, 1, 2),
    (100, 7, 32),
]
every_size = pytest.mark.parametrize(("num_rows", "batch_size", "steps"), SIZES)


def blocks_of(num_rows, batch_size, steps, num_replicas=1, seed=3, **options):
    # rows of a larger table, so that positions and rows cannot be mistaken
    index = np.arange(num_rows) * 2 + 1
    target = np.arange(2 * num_rows + 1, dtype="float32")
    inputs = {"x": (target[:, None] * [1, 10]).astype("float32")}
    rows = Rows(inputs, target, np.ones_like(target), index)
    return Blocks(rows, batch_size, steps, seed, num_replicas, **options)


def steps_of(elements):
    """The rows of each step, by their target, without those that count as none."""
    steps = []
    for inputs, target, weight, bounds in elements:
        np.testing.assert_array_equal(inputs["x"], target[:, None] * [1, 10])
        assert (bounds[0], bounds[-1]) == (0, len(target))
        for first, end in itertools.pairwise(bounds):
            assert end > first  # a device without a row would stop the others
            assert weight[first:end].tolist() in ([1.0] * (end - first), [0.0])
            steps.append([int(t) for t in target[first:end][weight[first:end] > 0]])
    return steps


@every_size
def test_each_row_comes_exactly_once_in_an_epoch(num_rows, batch_size, steps):
    blocks = blocks_of(num_rows, batch_size, steps)
    got = steps_of(blocks)
    assert sorted(itertools.chain(*got)) == blocks.rows.index.tolist()
    assert len(got) == blocks.num_steps == -(-num_rows // batch_size)
    assert len([*blocks]) == blocks.num_blocks == -(-len(got) // steps)
    sizes = [*map(len, got)]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("num_rows", [5_000, 4_096, 1_025])
def test_rows_beyond_the_window_are_shuffled_in_two_levels(num_rows, monkeypatch):
    monkeypatch.setattr("kerastrain.blocks.WINDOW_BYTES", 2_048 * 8)
    monkeypatch.setattr("kerastrain.blocks.RUN_ROWS", 16)
    blocks = blocks_of(num_rows, 100, 4)
    assert blocks.window == 2_048
    epochs = [np.concatenate([*blocks.steps(epoch)]) for epoch in (0, 0, 1)]
    for order in epochs:
        assert sorted(order) == [*range(num_rows)]
    assert epochs[0].tolist() == epochs[1].tolist() != epochs[2].tolist()
    got = steps_of(blocks)
    assert {len(step) for step in got} <= {
        num_rows // len(got),
        num_rows // len(got) + 1,
    }
    # Neighbours are torn apart, and each step draws from all over the table.
    assert np.mean(np.abs(np.diff(epochs[0])) <= 1) < 0.01
    assert np.std([np.mean(step) for step in got]) < 0.12 * 2 * num_rows


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(steps=2, **options):
        return [*itertools.chain(*steps_of(blocks_of(40, 8, steps, **options)))]

    orders = [order(seed=s, epoch=e) for s, e in itertools.product((3, 4), (0, 1))]
    assert len({*map(tuple, orders)}) == 4
    blocks = blocks_of(40, 8, 2)
    assert steps_of(blocks) == steps_of(blocks)  # reading has no memory
    blocks.epoch = 1
    assert [*itertools.chain(*steps_of(blocks))] == orders[1]
    assert order(steps=5, epoch=1) == orders[1]
    assert orders[0] != sorted(orders[0])
    np.random.seed(1)
    assert order() == orders[0]


@every_size
@pytest.mark.parametrize("num_replicas", [2, 3])
def test_shards_together_are_the_batches_of_one_device(
    num_rows, batch_size, steps, num_replicas
):
    alone = steps_of(blocks_of(num_rows, batch_size, steps))
    elements = [*blocks_of(num_rows, batch_size, steps, num_replicas)]
    together = []
    for start in range(0, len(elements), num_replicas):
        shards = [steps_of([e]) for e in elements[start : start + num_replicas]]
        assert len({*map(len, shards)}) == 1
        together += [[*itertools.chain(*step)] for step in zip(*shards, strict=True)]
    assert together == alone
    largest = -(-batch_size // num_replicas)
    assert all(np.diff(bounds).max() <= largest for *_, bounds in elements)


@pytest.mark.parametrize("num_replicas", [1, 3])
@every_size
def test_the_data_set_gives_the_same_elements(
    num_rows, batch_size, steps, num_replicas
):
    blocks = blocks_of(num_rows, batch_size, steps, num_replicas)
    data = blocks.dataset()
    # The end of a process would wait for the thread that tunes.
    assert data.options().autotune.enabled is False
    for epoch in (0, 5):  # the epoch counts when the iteration begins
        blocks.epoch = epoch
        elements = [*data.as_numpy_iterator()]
        assert len(elements) == len([*blocks])
        for got, expected in zip(elements, blocks, strict=True):
            tf.nest.map_structure(np.testing.assert_array_equal, got, expected)


def test_weights_of_rows_go_with_them_and_are_never_changed_in_place():
    weight = np.arange(1, 5, dtype="float32")
    rows = Rows({"x": np.zeros((4, 1))}, np.arange(4), weight, np.array([3, 1, 0]))
    shards = [*Blocks(rows, 2, 4, seed=0, num_replicas=2)]
    pairs = {
        (int(t), float(w))
        for _, target, weights, _ in shards
        for t, w in zip(target, weights, strict=True)
        if w
    }
    assert pairs == {(3, 4.0), (1, 2.0), (0, 1.0)}
    assert weight.tolist() == [1, 2, 3, 4]
