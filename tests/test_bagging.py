"""Folds inside the rows to learn from."""

from dataclasses import replace

import numpy as np
import pytest

from kerastrain.ensembles.bagging import bags_of
from kerastrain.pipeline import Rows

NUM_ROWS = 120


LABELS = ["no", "yes"]


@pytest.fixture
def parts():
    random = np.random.default_rng(0)
    numbers = random.normal(size=(NUM_ROWS, 3)).astype("float32")
    numbers[10:20] = numbers[50:60] = numbers[90:100]  # equal rows, thrice
    numbers[5, 0] = numbers[95, 0] = np.nan
    target, weight = np.arange(NUM_ROWS) % 10 // 9, np.ones(NUM_ROWS, "float32")
    train, validation, _ = np.split(np.arange(NUM_ROWS), [70, 100])
    whole = Rows({"numbers": numbers}, target, weight, train)
    return whole, replace(whole, index=validation)


def test_one_fold_holds_out_the_validation_part(parts):
    held_out, (bag,) = bags_of(*parts, LABELS, 1, seed=0)
    assert held_out is parts[1]
    assert (bag.train, bag.validation) == parts
    assert (bag.places == np.arange(30)).all()


def test_every_row_is_held_out_once_and_no_test_row_is_seen(parts):
    held_out, bags = bags_of(*parts, LABELS, 5, seed=0)
    assert sorted(held_out.index) == list(range(100))
    places = np.concatenate([bag.places for bag in bags])
    assert sorted(places) == list(range(100))
    for bag in bags:
        kept, held = set(bag.train.index), set(bag.validation.index)
        assert kept | held == set(range(100))
        assert not kept & held
        assert (held_out.index[bag.places] == bag.validation.index).all()


def test_each_class_is_dealt_out_evenly(parts):
    _, bags = bags_of(*parts, LABELS, 5, seed=0)
    counts = [bag.validation.targets.sum() for bag in bags]
    assert max(counts) - min(counts) <= 3  # three equal rows stay together


def test_equal_rows_stay_together(parts):
    _, bags = bags_of(*parts, LABELS, 5, seed=0)
    for bag in bags:
        held = set(bag.validation.index)
        for row in range(10, 20):
            assert (row in held) == (row + 40 in held)


def test_another_seed_deals_otherwise_and_the_same_alike(parts):
    def first(seed):
        return bags_of(*parts, LABELS, 3, seed=seed)[1][0].places.tolist()

    assert first(0) == first(0) != first(1)
