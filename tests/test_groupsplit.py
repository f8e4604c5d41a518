"""Whole groups come near the shares of parts and classes."""

import numpy as np
import pytest

from kerastrain.assign import mix64
from kerastrain.groupsplit import assign_groups
from kerastrain.parts import Keys
from kerastrain.splitrows import Splittable

SHARES = np.array([0.7, 0.15, 0.15])


def assigned(groups, strata, shares=SHARES):
    groups = np.asarray(groups, np.uint64)
    hashes = mix64(np.arange(len(groups), dtype=np.uint64), 3)
    present = np.ones(len(groups), bool)
    table = Splittable.of(
        np.asarray(strata, np.int32), present, hashes, Keys(group=groups)
    )
    return assign_groups(table, np.asarray(shares), 0)[0]


def off(found, strata, shares=SHARES):
    """How far the parts are from their shares: of all rows, and of each class."""
    got = np.bincount(found, minlength=len(shares)) / len(found)
    of_class = np.array(
        [np.bincount(strata[found == part], minlength=strata.max() + 1)
         for part in range(len(shares))]
    ) / np.bincount(strata)  # fmt: skip
    return np.abs(got - shares).max(), np.abs(of_class - shares[:, None]).max(0).mean()


@pytest.mark.parametrize("shares", [SHARES, np.full(5, 0.2)])
@pytest.mark.parametrize("max_greedy", [3_000, 10])
def test_parts_come_to_their_shares_where_classes_have_two_groups_each(
    shares, max_greedy, monkeypatch
):
    monkeypatch.setattr("kerastrain.groupsplit._MAX_GREEDY", max_greedy)
    groups = np.repeat(np.arange(1, 1_001), 5)
    strata = (groups - 1) // 2
    rows_off, _ = off(assigned(groups, strata, shares), strata, shares)
    assert rows_off < 0.03


@pytest.mark.parametrize(("max_greedy", "tolerance"), [(3_000, 0.01), (50, 0.05)])
def test_classes_are_even_where_groups_mix_them(max_greedy, tolerance, monkeypatch):
    monkeypatch.setattr("kerastrain.groupsplit._MAX_GREEDY", max_greedy)
    random = np.random.default_rng(0)
    sizes = random.lognormal(2, 1, 800).astype(int) + 1
    groups = np.repeat(np.arange(1, 801), sizes)
    rates = random.beta(1, 4, 801)
    strata = (random.random(len(groups)) < rates[groups]).astype(np.int32)
    rows_off, classes_off = off(assigned(groups, strata), strata)
    assert rows_off < tolerance
    assert classes_off < tolerance


def test_a_part_without_a_share_has_no_group():
    groups = np.repeat(np.arange(1, 41), 3)
    found = assigned(groups, groups % 3, [0.85, 0.15, 0.0])
    assert np.bincount(found, minlength=3)[2] == 0


def test_every_part_has_a_group_however_large_the_others_are():
    groups = np.repeat([1, 2, 3], [1_000, 1, 1])
    found = assigned(groups, np.zeros(1_002, int))
    assert sorted(found[[0, 1_000, 1_001]]) == [0, 1, 2]
    assert found[0] == 0


def test_a_thousand_classes_in_a_hundred_thousand_groups_need_no_table_of_both():
    groups = np.arange(1, 100_001)
    strata = (mix64(groups.astype(np.uint64), 1) % np.uint64(1_000)).astype(int)
    rows_off, classes_off = off(assigned(groups, strata), strata)
    assert rows_off < 0.002
    assert classes_off < 0.02
