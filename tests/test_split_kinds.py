"""Groups, times, columns and folds: nothing leaks, over random tables."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastrain.config import SplitConfig
from kerastrain.errors import ConfigError, DataError, RunError
from kerastrain.events import recording
from kerastrain.parts import Keys, load_parts, save_parts
from kerastrain.split import mix64, split, split_folds
from kerastrain.timesplit import parse_gap

PARTS = ("train", "validation", "test")
quick = settings(max_examples=100, deadline=None)


def hashes_of(num_rows, seed=0):
    return mix64(np.arange(num_rows, dtype=np.uint64), seed)


def made(keys, *, strata=None, hashes=None, folds=None, own=(), seed=0, **config):
    """Parts of each fit, and the events on the way."""
    num_rows = len(next(k for k in (keys.group, keys.time, keys.part) if k is not None))
    hashes = hashes_of(num_rows) if hashes is None else hashes
    present = np.ones(num_rows, bool) if strata is None else strata >= 0
    config = SplitConfig(folds=folds or 1, **config)
    run = split_folds if folds else split
    with recording(listen=lambda _: None) as recorder:
        found = run(
            strata, present, hashes, config, seed=seed, keys=keys, own=frozenset(own)
        )
    return (found if folds else [found]), {e.code: e for e in recorder.events}


def names_in(groups, parts):
    return [set(groups[getattr(parts, part)].tolist()) for part in PARTS]


def assert_complete(parts, num_rows):
    rows = np.concatenate([parts.train, parts.validation, parts.test])
    assert len(rows) == len(np.unique(rows)) == num_rows - parts.num_dropped


# --- groups -----------------------------------------------------------------------

tables = st.tuples(
    st.lists(st.integers(1, 40), min_size=60, max_size=300), st.integers(0, 2**32 - 1)
)


@quick
@given(tables, st.sampled_from([None, 3, 5]), st.integers(1, 2))
def test_no_group_stands_on_two_sides(table, folds, repeats):
    groups, seed = np.array(table[0], np.uint64), table[1]
    strata = (hashes_of(len(groups), 5) % np.uint64(3)).astype(np.int32)
    repeats = repeats if folds else 1
    try:
        fits, _ = made(
            Keys(group=groups), strata=strata, folds=folds, seed=seed, group="g",
            repeats=repeats,
        )  # fmt: skip
    except DataError as error:
        assert re.search("too few for|Too few rows", str(error))
        return
    assert len(fits) == (folds or 1) * repeats
    for parts in fits:
        train, validation, test = names_in(groups, parts)
        assert not (train & validation or train & test or validation & test)
        assert_complete(parts, len(groups))
    if folds:
        for first in range(0, len(fits), folds):
            tested = [row for p in fits[first : first + folds] for row in p.test]
            assert sorted(tested) == [*range(len(groups))]


def test_groups_hold_shares_and_classes_as_far_as_they_can():
    random = np.random.default_rng(0)
    groups = random.integers(1, 400, 8_000).astype(np.uint64)
    classes = (random.random(400) < 0.2).astype(np.int32)[groups.astype(int)]
    [parts], events = made(Keys(group=groups), strata=classes, group="g")
    assert not events
    for name, share in (("train", 0.7), ("validation", 0.15), ("test", 0.15)):
        rows = getattr(parts, name)
        assert len(rows) / 8_000 == pytest.approx(share, abs=0.01)
        assert classes[rows].mean() == pytest.approx(classes.mean(), abs=0.01)


@pytest.mark.parametrize("folds", [None, 4])
def test_the_order_of_the_rows_does_not_matter_to_groups(folds):
    groups = np.random.default_rng(1).integers(1, 60, 500).astype(np.uint64)
    mixed = np.random.default_rng(2).permutation(500)
    one, _ = made(Keys(group=groups), folds=folds, group="g")
    other, _ = made(
        Keys(group=groups[mixed]), hashes=hashes_of(500)[mixed], folds=folds, group="g"
    )
    for a, b in zip(one, other, strict=True):
        assert sorted(mixed[b.test]) == a.test.tolist()
        assert sorted(mixed[b.validation]) == a.validation.tolist()


def test_ten_thousand_small_groups_are_swept_up_to_the_shares():
    groups = np.repeat(np.arange(1, 10_001), 3).astype(np.uint64)
    classes = (np.arange(30_000) // 3 % 4 == 0).astype(np.int32)
    [parts], _ = made(Keys(group=groups), strata=classes, group="g")
    assert len(parts.test) == pytest.approx(4_500, abs=30)
    assert classes[parts.test].mean() == pytest.approx(0.25, abs=0.01)
    train, validation, test = names_in(groups, parts)
    assert not (train & validation or train & test or validation & test)


def test_rows_without_a_group_are_groups_of_their_own_and_told():
    groups = np.array([0] * 50 + [7] * 10 + [8] * 10 + [9] * 10, np.uint64)
    [parts], events = made(Keys(group=groups), group="g")
    assert events["missing_groups"].details == {"rows": 50}
    assert len(set(groups[parts.test]) | {0}) >= 1
    assert 0 < (groups[parts.train] == 0).sum() < 50


def test_one_group_that_cannot_be_split_is_told():
    groups = np.array([1] * 90 + [2] * 5 + [3] * 5, np.uint64)
    _, events = made(Keys(group=groups), group="g")
    assert "train 90% (70% asked for)" in events["group_shares"].message


@pytest.mark.parametrize("seed", range(5))
def test_the_largest_group_is_trained_on_in_the_folds_that_do_not_test_it(seed):
    groups = np.repeat([7, 8, 9, 10, 11], [200, 10, 10, 10, 9]).astype(np.uint64)
    fits, events = made(Keys(group=groups), folds=4, seed=seed, group="g")
    tested = [len(p.test) == 200 for p in fits]
    assert sum(tested) == 1
    assert [len(p.train) >= 200 for p in fits] == [not is_it for is_it in tested]
    assert "fold 1 84% (25% asked for)" in events["group_shares"].message


@quick
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(1, 4))
def test_small_groups_hold_the_shares_of_each_class(seed, num_classes, copies):
    groups = np.repeat(np.arange(1, 401), copies).astype(np.uint64)
    strata = (hashes_of(401, seed)[groups.astype(int)] % np.uint64(num_classes)).astype(
        np.int32
    )
    [parts], events = made(Keys(group=groups), strata=strata, seed=seed, group="g")
    assert not events
    in_class = np.bincount(strata)
    for part, share in zip(PARTS, (0.7, 0.15, 0.15), strict=True):
        got = np.bincount(strata[getattr(parts, part)], minlength=num_classes)
        assert (np.abs(got - share * in_class) <= 2 * copies).all()


def test_two_groups_are_too_few_for_three_parts():
    groups = np.array([1, 2] * 20, np.uint64)
    with pytest.raises(DataError, match="^There are 2 groups, too few for 3 parts"):
        made(Keys(group=groups), group="g")


# --- time -------------------------------------------------------------------------

times_and_gap = st.tuples(
    st.lists(st.integers(0, 60), min_size=40, max_size=300), st.integers(0, 4)
)


@quick
@given(times_and_gap, st.sampled_from([None, 2, 4]))
def test_no_later_row_stands_in_an_earlier_part(table, folds):
    times, gap = np.array(table[0], "float64"), table[1]
    try:
        fits, _ = made(Keys(time=times), folds=folds, time="t", gap=gap)
    except DataError as error:
        assert re.search("leaves no row for|too few for|Too few rows", str(error))
        return
    for parts in fits:
        train, validation, test = (times[getattr(parts, part)] for part in PARTS)
        assert train.max() < validation.min()
        assert train.max() + gap <= validation.min()
        assert validation.max() < test.min()
        assert validation.max() + gap <= test.min()
        assert_complete(parts, len(times))
        # What is left out lies in a gap, or (in a fold) after the tested block.
        used = np.concatenate([parts.train, parts.validation, parts.test])
        left = np.delete(times, used)
        near = [(v <= left) & (left < v + gap) for v in (train.max(), validation.max())]
        late = left > test.max() if folds else np.zeros(len(left), bool)
        early = (left >= times[parts.validation].max()) & (left < test.min())
        assert (near[0] | near[1] | late | early).all()
    if folds:
        tested = [row for parts in fits for row in parts.test]
        assert len(tested) == len(set(tested))


def test_a_split_by_time_holds_its_shares():
    times = np.random.default_rng(0).permutation(10_000).astype("float64")
    [parts], events = made(Keys(time=times), time="t")
    assert [len(getattr(parts, part)) for part in PARTS] == [7_000, 1_500, 1_500]
    assert not events
    fits, _ = made(Keys(time=times), folds=4, time="t")
    assert [len(parts.test) for parts in fits] == [2_000] * 4
    assert [len(p.train) + len(p.validation) for p in fits] == [2000, 4000, 6000, 8000]


def test_rows_without_a_time_and_in_the_gap_are_counted():
    times = np.append(np.arange(100.0), [np.nan] * 3)
    [parts], events = made(Keys(time=times), time="t", gap=3)
    assert events["missing_times"].details == {"rows": 3}
    assert events["rows_in_gap"].details == {"rows": 4, "gap": 3.0}
    assert parts.num_dropped == 7


def test_a_single_time_cannot_be_split():
    with pytest.raises(DataError, match="for validation: all 50 rows have the same"):
        made(Keys(time=np.ones(50)), time="t")


@pytest.mark.parametrize("folds", [None, 3])
def test_a_time_that_no_row_has_is_refused(folds):
    with pytest.raises(DataError, match="^No row with a target has a time in 't'"):
        made(Keys(time=np.full(50, np.nan)), folds=folds, time="t")


def test_what_time_folds_leave_out_is_told():
    times = np.append(np.arange(100.0), [np.nan, np.inf])
    fits, events = made(Keys(time=times), folds=3, time="t", gap=2)
    assert events["missing_times"].details == {"rows": 2}
    assert events["rows_in_gap"].details == {"rows": 6, "gap": 2.0}
    assert all({100, 101}.isdisjoint(p.train) for p in fits)


def test_with_test_rows_of_ones_own_time_folds_choose_the_epoch():
    own = {"test"}
    fits, _ = made(Keys(time=np.arange(100.0)), folds=3, own=own, time="t", gap=3)
    assert [len(p.train) for p in fits] == [25, 50, 75]
    assert [len(p.validation) for p in fits] == [23, 23, 23]  # the gap of 3 first
    assert [len(p.test) for p in fits] == [0, 0, 0]


def test_a_gap_that_swallows_the_validation_rows_is_told_as_such():
    shares = {"validation": 0.1, "test": 0.6}
    with pytest.raises(DataError, match="no row for validation: too many rows have"):
        made(Keys(time=np.arange(100.0)), time="t", gap=15, **shares)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7d", 604_800), ("12h", 43_200), ("30min", 1_800), ("2w", 1_209_600), (2.5, 2.5)],
)
def test_a_gap_is_a_time_with_a_unit(text, seconds):
    assert parse_gap(text) == seconds


def test_a_gap_that_means_nothing_is_refused():
    with pytest.raises(ConfigError, match="^split.gap: expected .*, got '1 month'"):
        parse_gap("1 month")


# --- a column ---------------------------------------------------------------------


def test_a_column_names_the_parts():
    names = ("train", "Valid", "TEST", "")
    part = np.array([0, 1, 2, 3] * 20, np.int32)
    [parts], events = made(Keys(part=part, part_names=names), column="c")
    for code, side in enumerate(PARTS):
        assert (part[getattr(parts, side)] == code).all()
    assert parts.num_dropped == events["missing_parts"].details["rows"] == 20


def test_validation_rows_are_drawn_from_train_where_the_column_names_none():
    part = np.array([0] * 80 + [1] * 20, np.int32)
    keys = Keys(part=part, part_names=("train", "test"))
    [parts], events = made(keys, column="c")
    assert len(parts.validation) == 12
    assert parts.test.tolist() == [*range(80, 100)]
    assert "validation_drawn" in events


def test_names_that_mean_nothing_are_listed():
    keys = Keys(part=np.array([0, 1] * 9, np.int32), part_names=("train", "Fold 1"))
    with pytest.raises(DataError, match="names parts that mean nothing: 'Fold 1'"):
        made(keys, column="c")


def test_blanks_name_no_part():
    part = np.array([0] * 80 + [1] * 20, np.int32)
    [parts], events = made(Keys(part=part, part_names=("train ", "  ")), column="c")
    assert parts.num_dropped == events["missing_parts"].details["rows"] == 20


@pytest.mark.parametrize(("name", "side"), [("dev", "validation"), ("Test", "test")])
def test_rows_of_a_part_that_is_a_file_are_left_out_and_told(name, side):
    part = np.array([0] * 80 + [1] * 20, np.int32)
    keys = Keys(part=part, part_names=("train", name))
    [parts], events = made(keys, own={side}, column="c")
    assert events["own_part"].details == {"part": side, "rows": 20}
    assert len(getattr(parts, side)) == 0
    assert parts.num_dropped == 20


def test_a_single_train_row_leaves_none_to_choose_the_epoch():
    part = np.array([0] + [1] * 20, np.int32)
    with pytest.raises(DataError, match="^Too few rows to split: .* for validation"):
        made(Keys(part=part, part_names=("train", "test")), column="c")


def test_folds_of_a_column_are_the_values_of_rows_with_a_target():
    part = np.arange(120, dtype=np.int32) % 6
    strata = np.where(part == 2, -1, 0).astype(np.int32)
    keys = Keys(part=part, part_names=("a", "b", "gone", "d", "e", "f", "unseen"))
    fits, events = made(keys, strata=strata, folds=5, column="c")
    assert [{*part[p.test]} for p in fits] == [{0}, {1}, {3}, {4}, {5}]
    assert "missing_parts" not in events


def test_each_value_of_a_column_is_a_fold():
    part = np.array([0, 1, 2, 3] * 30, np.int32)
    keys = Keys(part=part, part_names=("b", "a", "c", ""))
    fits, _ = made(keys, folds=5, column="c")
    assert [{*part[parts.test]} for parts in fits] == [{1}, {0}, {2}]
    for parts in fits:
        assert parts.num_dropped == 30


# --- folds by content ---------------------------------------------------------------


@quick
@given(st.integers(40, 300), st.sampled_from([2, 3, 5]), st.integers(1, 3))
def test_each_row_is_tested_once_and_never_trained_on_in_that_fold(rows, folds, copies):
    hashes = np.repeat(hashes_of(rows), copies)
    strata = (hashes % np.uint64(2)).astype(np.int32)
    present = np.ones(len(hashes), bool)
    with recording(listen=lambda _: None) as recorder:
        fits = split_folds(strata, present, hashes, SplitConfig(folds=folds), seed=3)
    is_apart = "duplicates_split" in {event.code for event in recorder.events}
    assert not (is_apart and copies == 1)
    assert sorted(row for p in fits for row in p.test) == [*range(len(hashes))]
    for parts in fits:
        assert_complete(parts, len(hashes))
        assert is_apart or not set(hashes[parts.test]) & set(hashes[parts.train])
        assert is_apart or not set(hashes[parts.validation]) & set(hashes[parts.train])
        assert len({*strata[parts.train]}) == 2


def test_folds_hold_the_shares_of_the_classes():
    strata = (np.arange(1_000) % 10 == 0).astype(np.int32)
    config = SplitConfig(folds=5, repeats=2)
    fits = split_folds(strata, strata >= 0, hashes_of(1_000), config, seed=0)
    assert [strata[p.test].sum() for p in fits] == [20] * 10
    assert fits[0].test.tolist() != fits[5].test.tolist()
    again = split_folds(strata, strata >= 0, hashes_of(1_000), config, seed=0)
    assert [p.hash for p in again] == [p.hash for p in fits]


@pytest.mark.parametrize("group", [None, "g"])
def test_there_may_be_more_folds_than_a_byte_counts(group):
    keys = Keys(group=np.arange(1, 601).astype(np.uint64))
    fits, _ = made(keys, folds=200, group=group)
    assert [len(p.test) for p in fits] == [3] * 200
    assert sorted(row for p in fits for row in p.test) == [*range(600)]


@pytest.mark.parametrize("kind", ["content", "group"])
def test_what_folds_have_to_tell_is_told_once(kind):
    copies = np.repeat(hashes_of(3), 40)
    groups = np.array([0] * 60 + [7, 8, 9] * 20, np.uint64)
    present, chosen = np.ones(120, bool), {"group": "g"} if kind == "group" else {}
    config = SplitConfig(folds=4, repeats=2, **chosen)
    hashes = hashes_of(120) if kind == "group" else copies
    with recording(listen=lambda _: None) as recorder:
        split_folds(None, present, hashes, config, seed=0, keys=Keys(group=groups))
    codes = [event.code for event in recorder.events]
    assert codes == ["missing_groups" if kind == "group" else "duplicates_split"]


rare_classes = st.lists(
    st.lists(st.integers(1, 30), min_size=2), min_size=1, max_size=9
)


@quick
@given(rare_classes, st.sampled_from([2, 3, 5]), st.integers(0, 2**32 - 1))
def test_a_class_of_enough_rows_is_trained_on_in_every_fold(sizes, folds, seed):
    sizes = [[1] * 200, *sizes]  # so many that each fold has rows
    copies = np.concatenate(sizes)
    strata = np.repeat(np.arange(len(sizes)), [len(s) for s in sizes])
    strata = np.repeat(strata, copies).astype(np.int32)
    hashes = np.repeat(hashes_of(len(copies), 1), copies)
    config = SplitConfig(folds=folds)
    with recording(listen=lambda _: None):
        fits = split_folds(strata, strata >= 0, hashes, config, seed=seed)
    for number, of_class in enumerate(sizes):
        if len(of_class) >= folds:
            assert all((strata[p.train] == number).any() for p in fits)


kinds = st.sampled_from(["content", "group", "time", "column"])


@quick
@given(kinds, st.sampled_from([None, 3]), st.integers(0, 2**32 - 1), st.randoms())
def test_sides_go_by_content_and_seed_and_never_by_place(kind, folds, seed, chance):
    group = (hashes_of(200, 8) % np.uint64(40)).astype(np.uint64)
    names = ("train", "val", "test")
    order = np.array(chance.sample(range(200), 200))
    option = {"content": {}}.get(kind, {kind: "k"})
    found = []
    for rows in (np.arange(200), np.arange(200), order):
        keys = Keys(
            group=group[rows],
            time=(group[rows] // np.uint64(2)).astype("float64"),
            part=(rows % 3).astype(np.int32),
            part_names=names,
        )
        hashes, strata = hashes_of(200)[rows], (group[rows] % 2).astype(np.int32)
        fits, _ = made(
            keys, hashes=hashes, strata=strata, folds=folds, seed=seed, **option
        )
        sides = [[sorted(rows[getattr(p, s)].tolist()) for s in PARTS] for p in fits]
        found.append(sides)
    assert found[0] == found[1] == found[2]


def test_with_test_rows_of_ones_own_the_fold_chooses_the_epoch():
    config, hashes = SplitConfig(folds=4), hashes_of(200)
    fits = split_folds(
        None, np.ones(200, bool), hashes, config, seed=0, own=frozenset({"test"})
    )
    assert sorted(row for p in fits for row in p.validation) == [*range(200)]
    assert all(len(p.test) == 0 and len(p.train) == 150 for p in fits)


def test_repeats_of_folds_that_are_the_same_each_time_are_refused():
    with pytest.raises(ConfigError, match="^split.repeats: the folds of a time"):
        made(Keys(time=np.arange(50.0)), folds=3, repeats=2, time="t")


def test_the_parts_of_all_folds_are_saved_and_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr("kerastrain.parts._CHUNK_ROWS", 7)
    fits = split_folds(
        None, np.ones(60, bool), hashes_of(60), SplitConfig(folds=3), seed=0
    )
    save_parts(fits, tmp_path / "split.parquet")
    again = load_parts(tmp_path / "split.parquet")
    assert [p.hash for p in again] == [p.hash for p in fits]


def test_a_saved_part_of_another_name_is_refused(tmp_path):
    path = tmp_path / "split.parquet"
    split(None, np.ones(9, bool), hashes_of(9), SplitConfig(), seed=0).save(path)
    table = pq.read_table(path)
    pq.write_table(table.set_column(1, "part", pa.array(["trial"] * 9)), path)
    with pytest.raises(RunError, match="Cannot read the split .*: a part other than"):
        load_parts(path)


# --- many rows ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["content", "group"])
def test_rows_in_buckets_hold_shares_and_leak_nothing(kind, monkeypatch):
    monkeypatch.setattr("kerastrain.splitrows._MAX_AT_ONCE", 4_000)
    random = np.random.default_rng(0)
    names = random.integers(1, 6_000, 20_000).astype(np.uint64)
    hashes = mix64(names, 9)
    strata = (names % np.uint64(10) == 0).astype(np.int32)
    strata[np.isin(names, [11, 12, 13])] = 2  # a rare class of three names
    keys = Keys(group=names) if kind == "group" else Keys()
    config = SplitConfig(group="g") if kind == "group" else SplitConfig()
    parts = split(strata, strata >= 0, hashes, config, seed=0, keys=keys)
    train, validation, test = names_in(names, parts)
    assert not (train & validation or train & test or validation & test)
    assert len(parts.test) == pytest.approx(3_000, abs=100)
    assert (strata[parts.test] == 1).mean() == pytest.approx(0.1, abs=0.01)
    if kind == "content":
        for rows in (parts.train, parts.validation, parts.test):
            assert (strata[rows] == 2).any()


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_a_group_heavier_than_a_bucket_leaves_the_others_their_shares(
    share, monkeypatch
):
    monkeypatch.setattr("kerastrain.splitrows._MAX_AT_ONCE", 4_000)
    monkeypatch.setattr("kerastrain.groupsplit._CHUNK_ROWS", 700)
    random = np.random.default_rng(0)
    groups = random.integers(2, 6_000, 20_000).astype(np.uint64)
    groups[random.random(20_000) < share] = 1
    strata = (groups % np.uint64(4) == 0).astype(np.int32)
    [parts], events = made(Keys(group=groups), strata=strata, group="g")
    train, validation, test = names_in(groups, parts)
    assert not (train & validation or train & test or validation & test)
    assert not events
    assert len(parts.train) == pytest.approx(14_000, abs=60)
    assert len(parts.test) == pytest.approx(3_000, abs=60)
    of_class = (strata[parts.test] == 1).sum() / (strata == 1).sum()
    assert of_class == pytest.approx(0.15, abs=0.02)
