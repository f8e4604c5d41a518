"""Rows of train, validation and test: shares, strata, duplicates, order, files."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kerastrain.config import SplitConfig
from kerastrain.errors import DataError, RunError
from kerastrain.events import recording
from kerastrain.split import Parts, mix64, split

SIDES = ("train", "validation", "test")


def made(hashes, strata=None, *, present=None, config=None, seed=0, own=()):
    """A split and the codes of the events that came with it."""
    hashes = np.asarray(hashes, np.uint64)
    present = np.ones(len(hashes), bool) if present is None else present
    config = config or SplitConfig()
    with recording(listen=lambda event: None) as recorder:
        parts = split(strata, present, hashes, config, seed=seed, own=frozenset(own))
    return parts, [event.code for event in recorder.events]


def sides(parts):
    return [getattr(parts, name) for name in SIDES]


@st.composite
def tables(draw):
    """Rows with copies: a hash decides the class, as the target is part of the row."""
    num_distinct = draw(st.integers(4, 60))
    num_rows = draw(st.integers(num_distinct, 200))
    num_classes = draw(st.integers(1, 4))
    chance = np.random.default_rng(draw(st.integers(0, 2**32)))
    hashes = chance.integers(0, 2**63, num_distinct)[
        chance.integers(0, num_distinct, num_rows)
    ]
    return hashes.astype(np.uint64), (hashes % num_classes).astype(np.int32)


shares = st.tuples(st.floats(0.05, 0.3), st.floats(0.05, 0.3))


@given(tables(), shares, st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_parts_are_disjoint_and_cover_the_rows_with_a_target(table, share, seed):
    hashes, strata = table
    present = hashes % 7 != 0
    config = SplitConfig(validation=share[0], test=share[1])
    try:
        parts, _ = made(hashes, strata, present=present, config=config, seed=seed)
    except DataError:
        assume(False)
    together = np.concatenate(sides(parts))
    assert sorted(together) == np.flatnonzero(present).tolist()
    assert parts.num_dropped == (~present).sum()
    assert all((np.diff(rows) > 0).all() for rows in sides(parts))


@given(tables(), shares, st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_equal_rows_stay_together_unless_it_is_announced(table, share, seed):
    hashes, strata = table
    config = SplitConfig(validation=share[0], test=share[1])
    try:
        parts, codes = made(hashes, strata, config=config, seed=seed)
    except DataError:
        assume(False)
    contents = [set(hashes[rows]) for rows in sides(parts)]
    are_apart = sum(map(len, contents)) == len(set.union(*contents))
    assert are_apart or "duplicates_split" in codes


@given(tables(), st.randoms(use_true_random=False), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_rows_in_another_order_land_on_the_same_sides(table, chance, seed):
    hashes, strata = table
    order = list(range(len(hashes)))
    chance.shuffle(order)
    try:
        first, _ = made(hashes, strata, seed=seed)
    except DataError:
        assume(False)
    second, _ = made(hashes[order], strata[order], seed=seed)
    for one, other in zip(sides(first), sides(second), strict=True):
        np.testing.assert_array_equal(
            np.sort(hashes[one]), np.sort(hashes[order][other])
        )


@given(st.lists(st.integers(3, 90), min_size=1, max_size=6), shares)
@settings(deadline=None)
def test_shares_hold_within_one_row_of_each_class(class_rows, share):
    strata = np.repeat(np.arange(len(class_rows)), class_rows).astype(np.int32)
    config = SplitConfig(validation=share[0], test=share[1])
    parts, _ = made(np.arange(len(strata)), strata, config=config)
    for rows, wanted in ((parts.validation, share[0]), (parts.test, share[1])):
        got = np.bincount(strata[rows], minlength=len(class_rows))
        assert (got >= 1).all()
        assert (np.abs(got - wanted * np.array(class_rows)) <= 1).all()


def test_shares_hold_in_total_when_there_are_many_small_classes():
    strata = np.repeat(np.arange(1000), 9).astype(np.int32)
    parts, _ = made(np.arange(9000), strata)
    assert [len(rows) for rows in sides(parts)] == [6300, 1350, 1350]


def test_another_seed_gives_another_split_and_the_same_seed_the_same():
    hashes = np.arange(1000)
    one, again, other = (made(hashes, seed=seed)[0] for seed in (0, 0, 1))
    assert one.hash == again.hash != other.hash


def test_a_seed_in_the_configuration_goes_before_that_of_the_run():
    hashes = np.arange(1000)
    named, _ = made(hashes, config=SplitConfig(seed=7), seed=1)
    assert named.hash == made(hashes, seed=7)[0].hash
    assert named.seed == 7


@pytest.mark.parametrize(
    ("num_rows", "expected"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1))]
)
def test_a_rare_class_fills_train_then_test_then_validation(num_rows, expected):
    strata = np.array([0] * 100 + [1] * num_rows, np.int32)
    parts, codes = made(np.arange(len(strata)), strata)
    assert tuple((strata[rows] == 1).sum() for rows in sides(parts)) == expected
    assert ("classes_untested" in codes) == (num_rows == 1)


def test_without_a_test_share_a_class_of_two_rows_is_validated_on():
    strata = np.array([0] * 100 + [1] * 2, np.int32)
    config = SplitConfig(test=0)
    parts, codes = made(np.arange(102), strata, config=config)
    assert (strata[parts.validation] == 1).sum() == 1
    assert codes == []


def test_a_row_with_many_copies_is_trained_on():
    hashes = np.concatenate([np.zeros(200), np.arange(1, 801)])
    parts, codes = made(hashes)
    assert set(range(200)) <= set(parts.train.tolist())
    assert codes == []
    assert len(parts.test) == pytest.approx(150, abs=1)


def test_large_groups_do_not_leave_train_without_the_small_ones():
    hashes = np.concatenate([np.repeat([0, 1], 5000), np.arange(2, 4002)])
    parts, codes = made(hashes)
    num_small = [(hashes[rows] > 1).sum() for rows in sides(parts)]
    assert min(num_small) > 1300
    assert codes == []


def test_few_distinct_rows_are_split_row_by_row_and_that_is_said():
    hashes = np.repeat(np.arange(2), 500)
    with recording(listen=lambda event: None) as recorder:
        parts = split(None, hashes < 2, hashes.astype(np.uint64), SplitConfig(), seed=0)
    assert [len(rows) for rows in sides(parts)] == [700, 150, 150]
    (event,) = recorder.events
    assert (event.code, event.severity) == ("duplicates_split", "warning")
    assert event.message == (
        "Only 2 of 1000 rows are distinct: too few to keep equal rows on one side, so "
        "the split is row by row. Copies of train rows are in validation and test, and "
        "the scores will flatter the model. Remove the duplicates, or give test rows "
        "of your own with --test."
    )


def test_no_rows_go_to_test_when_there_is_a_test_file():
    parts, codes = made(np.arange(1000), own={"test"})
    assert [len(rows) for rows in sides(parts)] == [850, 150, 0]
    assert parts.shares == {"validation": 0.15, "test": 0.0}
    assert codes == []


def test_test_rows_of_another_file_are_counted_on_and_saved(tmp_path):
    present = np.arange(10) > 1
    parts, _ = made(np.arange(10), present=present, own={"test"})
    parts = parts.with_own("test", np.array([10, 12]), 13)
    parts.save(tmp_path / "split.parquet")
    loaded = Parts.load(tmp_path / "split.parquet")
    assert loaded.test.tolist() == [10, 12]
    assert (loaded.num_dropped, loaded.hash) == (3, parts.hash)


def test_a_share_of_zero_gives_no_test_rows():
    parts, _ = made(np.arange(100), config=SplitConfig(test=0))
    assert len(parts.test) == 0
    assert len(parts.train) == 85


@pytest.mark.parametrize(
    ("num_rows", "strata", "empty"),
    [(1, None, "validation"), (2, None, "validation"), (3, [0, 1, 2], "validation")],
)
def test_too_few_rows_are_refused(num_rows, strata, empty):
    strata = None if strata is None else np.array(strata, np.int32)
    with pytest.raises(DataError) as caught:
        made(np.arange(num_rows), strata)
    assert str(caught.value) == (
        f"Too few rows to split: of {num_rows} rows with a target none is left for "
        f"{empty}. Give more rows, at least 3 of a class."
    )


def test_three_rows_are_enough():
    parts, _ = made(np.arange(3))
    assert [len(rows) for rows in sides(parts)] == [1, 1, 1]


def test_a_target_that_is_always_missing_is_refused():
    with pytest.raises(DataError, match="No row has a target: all 5 are missing"):
        made(np.arange(5), present=np.zeros(5, bool))


def test_keys_are_those_of_splitmix64():
    assert mix64(np.array([0], np.uint64), 0)[0] == 0xE220A8397B1DCDAF


@pytest.fixture
def saved(tmp_path):
    present = np.arange(1000) % 10 > 0
    parts, _ = made(np.arange(1000), present=present, seed=3)
    parts.save(tmp_path / "split.parquet")
    return parts, tmp_path / "split.parquet"


def test_a_saved_split_is_loaded_as_it_was(saved):
    parts, path = saved
    loaded = Parts.load(path)
    for one, other in zip(sides(parts), sides(loaded), strict=True):
        np.testing.assert_array_equal(one, other)
        assert other.dtype == np.int64
    assert (loaded.hash, loaded.seed, loaded.shares, loaded.num_dropped) == (
        parts.hash, 3, {"validation": 0.15, "test": 0.15}, 100,
    )  # fmt: skip


def test_the_file_of_a_split_says_the_part_of_each_row(saved):
    parts, path = saved
    table = pq.read_table(path)
    part = np.array(table["part"].to_pylist())
    assert str(table.schema.field("row").type) == "int64"
    assert table["row"].to_pylist() == list(range(1000))
    for name, rows in zip(SIDES, sides(parts), strict=True):
        np.testing.assert_array_equal(np.flatnonzero(part == name), rows)
    assert (part == "dropped").sum() == 100


def test_an_altered_split_is_refused(saved):
    _, path = saved
    table = pq.read_table(path)
    other = table["part"].combine_chunks().cast("string").take(list(range(999, -1, -1)))
    pq.write_table(table.set_column(1, "part", other), path)
    with pytest.raises(RunError, match=r"split\.parquet was altered: its hash differs"):
        Parts.load(path)


@pytest.mark.parametrize("content", [None, b"no parquet"])
def test_a_missing_or_damaged_split_is_refused(tmp_path, content):
    path = tmp_path / "split.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match="Cannot read the split"):
        Parts.load(path)


def test_a_part_of_a_few_combinations_is_split_row_by_row():
    """Six combinations, two labels each: whole groups would test the opposite of
    what was trained on."""
    rng = np.random.default_rng(0)
    combination, label = rng.integers(0, 6, 240), rng.integers(0, 2, 240)
    hashes = mix64((combination * 2 + label).astype(np.uint64), 7)
    present = np.ones(240, bool)
    with recording() as recorder:
        parts = split(label.astype("int32"), present, hashes, SplitConfig(), seed=0)
    assert [event.severity for event in recorder.events] == ["warning"]
    for rows in (parts.train, parts.validation, parts.test):
        assert len(np.unique(hashes[rows])) == 12
