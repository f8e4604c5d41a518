"""Layers: the same numbers everywhere, and the numbers of NumPy and pandas."""

import datetime as dt
import itertools

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.special
import tensorflow as tf

from kerastrain import formats, layers, parsing

# Keras 3.15 with NumPy 2 says so whenever a variable is read.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)

NAN, INF = np.nan, np.inf
WORDS = tuple(zip(*formats.BOOLEAN_WORDS.items(), strict=True))
NUMBERS = np.array([[1.5, NAN], [-2, 3e38], [0, -1e30], [7, 5]], "float32")


def parse_number():
    return parsing.ParseNumber(formats.FORMATTED_NUMBER, formats.FORMATTED_NUMBER_JUNK)


def parse_date(order="ymd", origin_days=0):
    return parsing.ParseDate(formats.DATES[order], order, origin_days)


def smooth(x, limit):
    x = np.asarray(x, "float64")
    return x / np.sqrt(1 + (x / limit) ** 2)


def texts(*values):
    return np.array(values, dtype=object)


# Odds of a class of which the least focal loss (gamma 2) says 3/4.
SHARE = (0.75 / (0.25**2 - 2 * 0.75 * 0.25 * np.log(0.75))) / (
    0.25 / (0.75**2 - 2 * 0.25 * 0.75 * np.log(0.25))
)

# Name: how it is made, what it gets, and what NumPy or common sense gives.
CASES = {
    "CleanText": (
        lambda: parsing.CleanText(["n/a", "-"]),
        texts("a", "  b c ", "", " n/a ", "\t\xa0é\u2003\r\n", "日本 ", "-", "--"),
        texts("a", "b c", "", "", "é", "日本", "", "--"),
    ),
    "SignedLog": (
        layers.SignedLog,
        np.array([0, 1, -1, np.e - 1, 1e30, -INF, NAN], "float32"),
        [0, np.log(2), -np.log(2), 1, np.log(1e30), -np.log(1e38), NAN],
    ),
    "ParseNumber": (
        parse_number,
        texts("1,234.5", "(12%)", " $5 ", "-€3", "1e3", "1,5", "", "nan", "x"),
        [1234.5, -0.12, 5, -3, 1000, NAN, NAN, NAN, NAN],
    ),
    "ParseBoolean": (
        lambda: parsing.ParseBoolean(*WORDS),
        texts("yes", " NO ", "True", "fAlSe", "t", "F", "on", "off", "", "maybe", "ja"),
        [1, 0, 1, 0, 1, 0, 1, 0, NAN, NAN, NAN],
    ),
    "ParseDate": (
        lambda: parse_date(origin_days=10),
        texts("1970-01-12 06:00", "no date", "1970-01-01"),
        [
            [1.25, 1970, 1, 12, 0, 6]
            + [f(11 * 2 * np.pi / 365.25) for f in (np.sin, np.cos)]
            + [1, 0],
            [NAN] * 10,
            [-10, 1970, 1, 1, 3, 0, 0, 1, 0, 1],
        ],
    ),
    "RareCode": (
        lambda: layers.RareCode(2),
        np.array([0, 1, 2, 3, 4, 99], "int64"),
        [0, 2, 3, 1, 1, 1],
    ),
    "FiniteNumber": (
        parsing.FiniteNumber,
        np.array([1, -0.0, NAN, INF, -INF, 3.4e38, 1e-45], "float32"),
        [1, 0, NAN, NAN, NAN, 3.4e38, 1e-45],
    ),
    "FiniteNumber with a sentinel": (
        lambda: parsing.FiniteNumber([-999, 0.1]),
        np.array([1, -999, NAN, INF, 0.1, -998.9], "float32"),
        [1, NAN, NAN, NAN, NAN, -998.9],
    ),
    "Impute": (
        lambda: layers.Impute([9, -4]),
        NUMBERS,
        [[1.5, -4], [-2, 3e38], [0, -1e30], [7, 5]],
    ),
    "MissingIndicator": (
        lambda: layers.MissingIndicator([1, 0, 1]),
        np.array([[1, NAN], [NAN, 2], [3, 4]], "float32"),
        [[1, 0, 1], [0, 1, 0], [0, 0, 0]],
    ),
    "RobustScale": (
        lambda: layers.RobustScale([1, 2], [2, 0]),
        np.array([[1, 7], [3, -1e30], [NAN, 2], [-1, NAN]], "float32"),
        [[0, 0], [4, 0], [NAN, 0], [-4, NAN]],
    ),
    "SmoothClip": (
        lambda: layers.SmoothClip(3),
        np.array([0, 0.1, -3, 50, 1e30, -1e30, 3.4e38, INF, -INF, NAN], "float32"),
        [*smooth([0, 0.1, -3, 50], 3), 3, -3, 3, 3, -3, NAN],
    ),
    "CategoryEmbedding": (
        lambda: layers.CategoryEmbedding([3, 2], dim=4),
        np.array([[0, 0], [2, 1], [1, 0], [2, 1]], "int32"),
        None,
    ),
    "Calibrate": (
        lambda: layers.Calibrate(2, [1, 0, -1]),
        np.array([[1, 2, -3], [100, -100, 0]], "float32"),
        [[3, 4, -7], [201, -200, -1]],
    ),
    "Calibrate after a focal loss": (
        lambda: layers.Calibrate(1, [0], gamma=2),
        np.array([[0], [np.log(3)], [-np.log(3)]], "float32"),
        np.log([[1], [SHARE], [1 / SHARE]]),
    ),
    "Probabilities": (
        layers.Probabilities,
        np.array([[1, 2, -3], [100, -100, 0], [1e4, 0, 0]], "float32"),
        scipy.special.softmax([[1, 2, -3], [100, -100, 0], [1e4, 0, 0]], axis=1),
    ),
    "Probabilities of two": (
        layers.Probabilities,
        np.array([[0], [3], [-200], [1e5]], "float32"),
        [[1 - p, p] for p in scipy.special.expit([0, 3, -200, 1e5])],
    ),
    "DecideLabel": (
        lambda: layers.DecideLabel(["nö", "yes", ""]),
        np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4], [0, 0, 1]], "float32"),
        texts("yes", "nö", ""),
    ),
    "Unstandardize": (
        lambda: layers.Unstandardize(100, 20),
        np.array([[0], [1.5], [-1]], "float32"),
        [100, 130, 80],
    ),
}


def plain(tensor):
    """NumPy, with texts as `str`."""
    values = keras.ops.convert_to_numpy(tensor)
    if values.dtype == object:
        return np.array([text.decode() for text in values.ravel()], object)
    return values


def same(got, expected, **tolerance):
    got, expected = plain(got), np.asarray(expected)
    assert got.shape == expected.shape
    if expected.dtype == object:
        assert got.tolist() == expected.tolist()
    else:
        np.testing.assert_allclose(got, expected, **tolerance)


def functional(layer, x):
    dtype = "string" if x.dtype == object else x.dtype.name
    tensor = keras.Input(x.shape[1:], name="x", dtype=dtype)
    return keras.Model(tensor, layer(tensor))


def test_every_layer_has_a_case():
    known = {*layers.__all__, *parsing.__all__} - {"Exact", "register"}
    assert {name.split()[0] for name in CASES} == known


@pytest.mark.parametrize("name", CASES)
def test_layer_gives_the_expected_values(name):
    make, x, expected = CASES[name]
    if expected is not None:
        same(make()(tf.constant(x)), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_layer_comes_back_from_its_config(name):
    layer = CASES[name][0]()
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config, safe_mode=True)
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize("name", CASES)
def test_layer_gives_the_same_eagerly_in_a_data_set_and_in_a_model(name):
    make, x, _ = CASES[name]
    layer = make()
    eager = layer(tf.constant(x))
    batches = tf.data.Dataset.from_tensor_slices(x).batch(2).map(layer)
    same(tf.concat(list(batches), 0), plain(eager), rtol=1e-6, atol=1e-7)
    same(functional(layer, x)(tf.constant(x)), plain(eager), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_layer_tells_the_shape_and_dtype_that_it_gives(name):
    make, x, _ = CASES[name]
    model = functional(make(), x)
    real = model(tf.constant(x))
    assert tuple(model.output.shape) == (None, *real.shape[1:])
    assert model.output.dtype == real.dtype.name
    assert tuple(model.compute_output_shape(x.shape)) == tuple(real.shape)


@pytest.mark.parametrize("name", CASES)
def test_layer_survives_a_keras_file(name, tmp_path):
    make, x, _ = CASES[name]
    model = functional(make(), x)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    same(again(tf.constant(x)), plain(model(tf.constant(x))), rtol=0)


@pytest.fixture
def mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("name", sorted({*CASES} - {"CategoryEmbedding"}))
def test_mixed_precision_does_not_round_raw_values(name, mixed_precision):
    make, x, expected = CASES[name]
    model = functional(make(), x)
    real = model(tf.constant(x))
    assert model.output.dtype == real.dtype.name != "bfloat16"
    same(real, expected, rtol=1e-6, atol=1e-6)


def test_embedding_computes_in_16_bits_and_learns_in_32(mixed_precision):
    make, codes, _ = CASES["CategoryEmbedding"]
    layer = make()
    model = functional(layer, codes)
    assert layer.table.dtype == "float32"
    assert model.output.dtype == model(codes).dtype.name == "bfloat16"


# --- numbers as text --------------------------------------------------------------

BODIES = ("0", "7", "12", "1,234", "1,234,567.89", "1234.5", ".5", "5.", "2e3", "3E-2")
BODIES += ("1,23", "12,3456", "1.2.3", "1e", "", "e5", "1_0", "0x1", "9" * 60, "1e-60")
MARKS = ("", "-", "+", "$", "-$", "$-", "€ ", "- £", "¥ +", "(", "($", "--", "$$")
ENDS = ("", "%", " %", "€", ")", "%)", " €)", "%%", " % ")


def test_numbers_in_all_spellings_read_as_the_profile_reads_them():
    spellings = map("".join, itertools.product(MARKS, BODIES, ENDS))
    spellings = [*spellings, "inf", "-Infinity", "NaN", "١٢", "１２", "1 234", "½", "%"]
    read = parsing.FiniteNumber()(parse_number()(tf.constant(spellings))).numpy()
    trimmed = formats.as_text(pa.array(spellings))
    accepted = formats.matches(trimmed, formats.FORMATTED_NUMBER)
    accepted = accepted.fill_null(False).to_numpy(zero_copy_only=False)
    expected = np.full(len(spellings), NAN, "float32")
    expected[accepted] = formats.formatted_numbers(trimmed.filter(pa.array(accepted)))
    assert 400 < accepted.sum() < len(spellings) - 400  # both sides are looked at
    np.testing.assert_allclose(read, expected, rtol=3e-7)


def test_text_that_is_no_unicode_reads_as_no_number_and_no_date():
    broken = tf.constant([b"\xff5", b"2020-01-01\xc3", b"\x00"])
    assert np.isnan(parse_number()(broken)).all()
    assert np.isnan(parse_date()(broken)).all()
    assert np.isnan(parsing.ParseBoolean(*WORDS)(broken)).all()


# --- dates ------------------------------------------------------------------------

SPELLINGS = {
    "ymd": ("%Y-%m-%d %H:%M:%S", "%Y/%m/%dT%H:%M:%SZ", "%Y.%m.%d  %H:%M:%S.123456"),
    "dmy": ("%d/%m/%Y %H:%M:%S", "%d.%m.%YT%H:%M:%S+02:00", " %d-%m-%Y %H:%M:%S,5 "),
    "mdy": ("%m/%d/%Y %H:%M:%S", "%m-%d-%Y %H:%M:%S UTC", "%m.%d.%YT%H:%M:%S-0330"),
}


def parts_by_pandas(times, origin_days):
    midnight = times.normalize()
    days = (midnight - pd.Timestamp(0)).days.to_numpy()
    seconds = ((times - midnight) // pd.Timedelta("1s")).to_numpy()
    year_angle = (times.day_of_year - 1).to_numpy() * 2 * np.pi / 365.25
    day_angle = seconds * 2 * np.pi / 86_400
    columns = [
        days - origin_days + seconds / 86_400,
        times.year,
        times.month,
        times.day,
    ]
    columns += [times.day_of_week, times.hour, np.sin(year_angle), np.cos(year_angle)]
    return np.stack([*columns, np.sin(day_angle), np.cos(day_angle)], axis=1)


@pytest.mark.parametrize("order", SPELLINGS)
@pytest.mark.parametrize("origin_days", [0, 20_000, -25_567])
def test_dates_have_the_parts_that_pandas_gives(order, origin_days):
    times = pd.date_range("1899-12-28", "2101-03-03", freq="37D5h13min7s")
    expected = parts_by_pandas(times, origin_days)
    layer = parse_date(order, origin_days)
    for spelling in SPELLINGS[order]:
        got = layer(tf.constant(times.strftime(spelling).tolist())).numpy()
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("order", SPELLINGS)
def test_exactly_the_days_of_the_calendar_are_dates(order):
    days = [*itertools.product((1900, 1996, 2000, 2023, 2100), range(14), range(33))]
    spelled = [
        "-".join({"y": f"{y:04d}", "m": str(m), "d": str(d)}[part] for part in order)
        for y, m, d in days
    ]
    elapsed = parse_date(order)(tf.constant(spelled)).numpy()[:, 0]

    def by_datetime(day):
        try:
            return dt.date(*day).toordinal() - 719_163
        except ValueError:
            return NAN

    np.testing.assert_array_equal(elapsed, [by_datetime(day) for day in days])


def test_years_from_1_to_9999_count_right():
    days = [dt.date.fromordinal(i) for i in range(1, dt.date.max.toordinal(), 997)]
    spelled = [f"{d.year:04d}-{d.month}-{d.day}" for d in days]
    parts = parse_date()(tf.constant(spelled)).numpy()
    assert parts[:, 0].tolist() == [d.toordinal() - 719_163 for d in days]
    assert parts[:, 4].tolist() == [d.weekday() for d in days]


@pytest.mark.parametrize(
    "text",
    ["2023-02-29", "2023-01-01 24:00", "2023-01-01 23:60", "2023-01-01 23:59:60"]
    + ["20230101", "2023-1", "23-01-01", "2023-01-01x", "x2023-01-01", "2023--01-01"]
    + ["01-02-2023", "2023-01-01 +02:00", "2023-01-01 10", "", "today", "\n", "١-١-١"],
)
def test_what_is_no_date_is_missing_in_all_parts(text):
    assert np.isnan(parse_date()(tf.constant([text, "2023-01-01"]))[0]).all()


def test_the_clock_time_counts_as_written_whatever_its_zone():
    zones = ["", "Z", " UTC", "+05:30", "-0800", " +14"]
    spelled = [f"2020-02-29 23:59:58{zone}" for zone in zones]
    parts = parse_date()(tf.constant(spelled)).numpy()
    assert (parts == parts[0]).all()
    assert parts[0, 1:6].tolist() == [2020, 2, 29, 5, 23]


def test_time_since_a_near_origin_is_good_to_ten_seconds():
    spelled = ["2024-06-01 00:00:00", "2024-06-01 00:00:20"]
    origin = dt.date(2024, 1, 1).toordinal() - 719_163
    first, second = parse_date("ymd", origin)(tf.constant(spelled)).numpy()[:, 0]
    assert (second - first) * 86_400 == pytest.approx(20, abs=10)


# --- numbers ----------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1e-6, 0.01, 3, 1e6])
def test_smooth_clip_never_goes_beyond_its_limit_nor_back_to_zero(limit):
    x = np.geomspace(1e-20, 3e38, 200).astype("float32")
    y = layers.SmoothClip(limit)(x).numpy()
    assert (np.diff(y) >= 0).all()
    assert y[-1] == pytest.approx(limit)
    assert y[0] == pytest.approx(1e-20)
    np.testing.assert_array_equal(layers.SmoothClip(limit)(-x).numpy(), -y)


@pytest.mark.parametrize("limit", [0, -1.0])
def test_smooth_clip_refuses_a_limit_that_is_not_above_0(limit):
    with pytest.raises(ValueError, match=f"must be above 0, got {limit}"):
        layers.SmoothClip(limit)


def test_extreme_numbers_reach_the_network_as_finite_numbers():
    x = np.array([[3.4e38], [-3.4e38], [1e-45], [0.0], [NAN]], "float32")
    scaled = layers.RobustScale([0.0], [1e30])(layers.Impute([0.0])(x))
    y = layers.SmoothClip()(scaled).numpy()[:, 0]
    np.testing.assert_allclose(y, [3, -3, 0, 0, 0], atol=1e-6)


# --- categories -------------------------------------------------------------------


def test_code_0_of_every_column_starts_as_the_zero_vector_and_learns():
    sizes, dim = [3, 5, 2], 4
    layer = layers.CategoryEmbedding(sizes, dim, scale=0.1)
    zeros = layer(np.zeros((1, 3), "int32")).numpy()
    assert not zeros.any()
    table = layer.table.numpy()
    assert (np.abs(table).sum(axis=1) == 0).sum() == len(sizes)
    assert 0.03 < table[table != 0].std() < 0.3
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(np.zeros((2, 3), "int32")))
    gradient = tf.convert_to_tensor(tape.gradient(loss, layer.table.value)).numpy()
    assert gradient[[0, 3, 8]].tolist() == [[2.0] * dim] * 3


def test_embedding_takes_each_column_from_its_own_rows_of_the_table():
    sizes, dim = [3, 5, 2], 4
    layer = layers.CategoryEmbedding(sizes, dim)
    layer.build((None, 3))
    layer.table.assign(np.arange(40, dtype="float32").reshape(10, 4))
    codes = np.array([[2, 0, 1], [0, 4, 0], [1, 3, 1]], "int32")
    rows = codes + np.array([0, 3, 8])
    expected = np.arange(40).reshape(10, 4)[rows].reshape(3, 12)
    np.testing.assert_array_equal(layer(codes).numpy(), expected)


@pytest.mark.parametrize(
    ("logits", "label"), [([[0.0]], "no"), ([[1e-3]], "yes"), ([[-9.0]], "no")]
)
def test_the_positive_class_wins_above_one_half_only(logits, label):
    probabilities = layers.Probabilities()(np.array(logits, "float32"))
    same(layers.DecideLabel(["no", "yes"])(probabilities), texts(label))
