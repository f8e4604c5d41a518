"""Free text becomes the numbers that scikit-learn gives, in every form of the model."""

import re
import resource

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

import kerastrain
from kerastrain import textvectors
from kerastrain.columns import COLUMNS
from kerastrain.config import FeaturesConfig
from kerastrain.encoded import TrainValues
from kerastrain.events import recording
from kerastrain.schema import Column, ColumnStats
from kerastrain.textvectors import TextVectors, fit_text_vectors, text_rows

# Keras 3.15 with NumPy 2 says so whenever a variable is read.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)

WORDS = ["call", "me", "FREE", "prize", "now!", "please", "win", "£500", "on", "08/12"]
WORDS += ["the", "dog's", "Straße", "café"]
RNG = np.random.default_rng(0)
TEXTS = [" ".join(RNG.choice(WORDS, RNG.integers(3, 12))) for _ in range(120)]
COLUMN = Column(
    name="c",
    type="text",
    dtype="string",
    input="c",
    missing_values=["n/a"],
    stats=ColumnStats(storage="string", num_rows=120),
)
ODD = ["", "xyzzy", "call call FREE prize!!", "  ", "a\0b", b"\xff\xfe", "prize " * 500]


def tokens(text):
    """Written independently of the layer, for texts of Western scripts."""
    return re.findall(r"[^\W_]+|[^\w\s]", re.sub(r"\d", "0", text.lower()))


@pytest.fixture(scope="module")
def layer():
    return fit_text_vectors(TEXTS, size=5)


def of(model, texts):
    return np.asarray(model(tf.constant(texts)))


def test_the_numbers_are_those_of_scikit_learn(layer):
    tfidf = TfidfVectorizer(
        tokenizer=tokens,
        token_pattern=None,
        lowercase=False,
        ngram_range=(1, 2),
        sublinear_tf=True,
        min_df=2,
    )
    weights = tfidf.fit_transform(TEXTS)
    assert {*layer.vocabulary} == {*tfidf.get_feature_names_out()}
    svd = TruncatedSVD(5, algorithm="arpack").fit(weights)
    got = of(layer, TEXTS)
    # A randomized decomposition finds the same plane up to its tolerance.
    ours, theirs = got[:, 2:], svd.transform(weights)
    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=2e-2)
    places = [tfidf.vocabulary_[term] for term in layer.vocabulary]
    exact = weights[:, places] @ layer.directions.numpy()
    np.testing.assert_allclose(ours, exact, atol=1e-6)
    counts = [[len(text), len(tokens(text))] for text in TEXTS]
    np.testing.assert_allclose(got[:, :2], np.log1p(counts), rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Don't  pay 1,234 EUR!",
            ["don", "'", "t", "pay", "0", ",", "000", "eur", "!"],
        ),
        ("ÉCOLE\tСЛОВО\u00a0x_y\r\n", ["école", "слово", "x", "_", "y"]),
        ("日本語 ok", ["日", "本", "語", "ok"]),
        ("a\0b\u200bc", ["a", "b", "c"]),
        ("", []),
        (b"\xff ok", ["\ufffd", "ok"]),
    ],
)
def test_texts_are_cut_into_words_and_signs(text, expected):
    words = textvectors._words(tf.constant([text])).to_list()[0]
    assert [word.decode() for word in words] == expected


def test_missing_empty_and_unseen_texts_are_zeros(layer):
    got = of(layer, ODD)
    assert got.shape == (len(ODD), 7)
    assert np.isfinite(got).all()
    assert not got[[0, 3], 1:].any()  # "  " has two letters; columns are trimmed before
    assert not got[1, 2:].any()
    assert got[2, 2:].any()
    assert of(layer, tf.constant([], tf.string)).shape == (0, 7)


def test_a_row_does_not_depend_on_the_others(layer):
    one_by_one = np.concatenate([of(layer, [text]) for text in TEXTS[:20]])
    np.testing.assert_allclose(one_by_one, of(layer, TEXTS)[:20], atol=1e-6)


def test_one_long_text_takes_no_memory_for_the_others(layer):
    """Rows times the terms of the longest would be 10 GB here, of places alone."""
    texts = tf.constant(["free call"] * 4_000 + ["free call now " * 100_000])
    with tf.device("cpu"):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        whole = layer(texts)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    np.testing.assert_array_equal(whole[0], layer(texts[:1])[0])
    assert grown < 1_500_000  # kilobytes


def test_a_saved_model_gives_the_same_numbers(layer, tmp_path):
    raw = keras.Input((), dtype="string")
    model = keras.Model(raw, layer(raw))
    assert model.output.shape == (None, 7)
    assert not model.trainable_variables
    model.save(tmp_path / "m.keras")
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    expected = of(model, [*TEXTS[:9], *ODD])
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(of(loaded, [*TEXTS[:9], *ODD]), expected)
    np.testing.assert_array_equal(of(exported.serve, [*TEXTS[:9], *ODD]), expected)


def test_the_same_texts_teach_the_same(layer):
    again = fit_text_vectors(TEXTS, size=5)
    np.testing.assert_array_equal(again.directions, layer.directions)


def test_what_is_learnt_is_bounded(monkeypatch, layer):
    assert (
        fit_text_vectors(TEXTS, size=5, max_terms=7).vocabulary
        == (layer.vocabulary[:7])
    )
    assert fit_text_vectors(TEXTS[:30], size=5).size == 3  # one for ten texts
    monkeypatch.setattr(textvectors, "SAMPLE_TEXTS", 50)
    assert textvectors._sample(TEXTS) == TEXTS[::3]
    monkeypatch.setattr(textvectors, "_SAMPLE_LETTERS", 100)
    assert sum(map(len, textvectors._sample(TEXTS))) <= 200
    monkeypatch.setattr(textvectors, "_MOST_COUNTED", 10)
    assert min(textvectors._text_counts(TEXTS).values()) > 1
    assert text_rows(100_000) < text_rows(1_000) < text_rows(10)


def test_chunks_change_nothing(monkeypatch, layer):
    monkeypatch.setattr(textvectors, "text_rows", lambda letters: 7)
    again = fit_text_vectors(TEXTS, size=5)
    assert again.vocabulary == layer.vocabulary
    np.testing.assert_allclose(again.directions, layer.directions, atol=1e-5)


def encoded(texts):
    values = TrainValues(texts, np.ones(len(texts), "int64"))
    raw = keras.Input((), dtype="string")
    with recording() as recorder:
        found = COLUMNS.load("text").encode(COLUMN, raw, values, FeaturesConfig())
    return keras.Model(raw, found.tensor), found, recorder.events


def test_a_column_is_trimmed_and_its_missing_texts_are_zeros():
    model, found, events = encoded(TEXTS)
    assert found.names[:3] == ("c.letters", "c.words", "c.1")
    assert found.width == 2 + 12
    got = of(model, ["", "n/a", " n/a\n", TEXTS[0], f"\t{TEXTS[0]} "])
    assert not got[:3].any()
    np.testing.assert_allclose(got[3], got[4], atol=1e-6)
    assert events == []


@pytest.mark.parametrize("texts", [[], ["one two", "three four"]])
def test_texts_without_a_common_word_have_their_lengths_alone(texts):
    model, found, events = encoded(texts)
    assert [e.code for e in events] == (["no_words"] if texts else [])
    np.testing.assert_allclose(of(model, ["two words"]), [[np.log(10), np.log(3), 0]])


def test_a_sample_of_many_texts_is_told(monkeypatch):
    monkeypatch.setattr(textvectors, "SAMPLE_TEXTS", 60)
    _, _, (event,) = encoded(TEXTS)
    assert event.message == (
        "Column 'c' has 120 different texts in the train rows; its words are learnt "
        "from 60 at most."
    )


def test_the_layer_gives_its_arguments_back(layer):
    again = TextVectors.from_config(layer.get_config())
    assert (again.vocabulary, again.size) == (layer.vocabulary, layer.size)


@pytest.mark.slow
def test_a_table_with_text_trains_exports_and_predicts(tmp_path):
    frame = pd.DataFrame({"review": TEXTS * 3, "age": RNG.normal(size=360)})
    frame["y"] = ["spam" if "FREE" in text else "ham" for text in frame["review"]]
    frame.loc[[3, 4], "review"] = [None, ""]
    run = kerastrain.train(
        frame,
        "y",
        model="lightgbm",
        out=str(tmp_path / "run"),
        columns={"review": "text"},
        split={"folds": 1},
        progress=False,
    )  # the export is replayed in a fresh process
    assert run.metrics["test"]["roc_auc"]["value"] > 0.95
    new = pd.DataFrame({"review": ["xyzzy", None, "FREE prize"], "age": [0.0, 1, 2]})
    assert len(run.predict(new)) == 3
