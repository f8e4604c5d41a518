"""Free text as numbers: words, TF-IDF, and the directions in which texts differ most.

The layer cuts texts into words by TensorFlow's string ops, and what is learnt from the
train rows is learnt through the same ops: a word in training is that word in a served
model.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import scipy.sparse
import tensorflow as tf
from sklearn.utils.extmath import randomized_svd

from kerastrain.arrays import chunk_rows, pieces
from kerastrain.layers import Exact, register

__all__ = ["SAMPLE_TEXTS", "TextVectors", "fit_text_vectors", "text_rows"]

# The share of texts with a word is known to 0.3 points from so many, whatever their
# number; more letters than that take over 1 GB while words are counted.
SAMPLE_TEXTS = 100_000
_SAMPLE_LETTERS = 20_000_000
_MOST_COUNTED = 2_000_000
_MAX_WORD_LETTERS = 60  # Keras takes as much memory for each word as for the longest
_ROWS_PER_NUMBER = 10
# What the layer needs for a letter: two terms for about six of them, with their ids.
_BYTES_PER_LETTER = 40
# Keras refuses an empty vocabulary; no word holds a control character.
_NOTHING = "\x00nothing"
_UNSEEN = "\x00unseen"

_SPACES = r"[\pZ\pC\s]+"
_DIGIT = r"\pN"
# Signs are words of their own, and so are letters of scripts that put no spaces.
_SIGN = (
    r"[^\pL\pM\pN ]|\p{Han}|\p{Hiragana}|\p{Katakana}|\p{Thai}|\p{Lao}|\p{Khmer}"
    r"|\p{Myanmar}"
)


def _words(text: tf.Tensor) -> tf.RaggedTensor:
    """Words and signs in lower case, each digit as 0. `(batch,)` -> `(batch, None)`.

    On 4,459 text messages (which are spam; average precision over three folds, 32
    numbers, LightGBM) words alone gave 0.966, with signs 0.975, with 0 for each digit
    0.978, with the two lengths 0.982.
    """
    # Before the lower case, which ends a text at a NUL.
    text = tf.strings.regex_replace(text, _SPACES, " ")
    text = tf.strings.lower(text, encoding="utf-8")
    text = tf.strings.regex_replace(text, _DIGIT, "0")
    return tf.strings.split(tf.strings.regex_replace(text, _SIGN, r" \0 "))


def _terms(words: tf.RaggedTensor) -> tf.RaggedTensor:
    """Words, then pairs of neighbours with a space between. Both `(batch, None)`."""
    return tf.strings.ngrams(words, (1, 2), separator=" ")


@register
class TextVectors(Exact):
    """Text to its lengths and its place among the train texts.

    The first two numbers are log(1 + letters) and log(1 + words). The others are the
    TF-IDF weights of the known words and pairs, of length 1, projected on `size`
    directions; all 0 for a text without a known word.

    Args:
        vocabulary: known words and pairs of words.
        size: number of directions.

    Shapes: strings `(batch,)` -> `(batch, 2 + size)`.
    """

    LENGTHS = ("letters", "words")

    def __init__(self, vocabulary: Sequence[str], size: int, **kwargs: Any):
        super().__init__(**kwargs | {"trainable": False})
        self.vocabulary = list(vocabulary)
        self.size = int(size)
        self._lookup = keras.layers.StringLookup(
            vocabulary=self.vocabulary, num_oov_indices=1, oov_token=_UNSEEN
        )

    def build(self, input_shape):
        def add(name: str, *shape: int) -> Any:
            return self.add_weight(
                shape=shape, initializer="zeros", trainable=False, name=name
            )

        self.idf = add("idf", len(self.vocabulary))
        self.directions = add("directions", len(self.vocabulary), self.size)

    def call(self, text):
        words = _words(text)
        letters = tf.strings.length(text, unit="UTF8_CHAR")
        lengths = tf.stack([letters, tf.cast(words.row_lengths(), tf.int32)], axis=1)
        found = tf.sparse.sparse_dense_matmul(
            self.weights_of(words), tf.convert_to_tensor(self.directions)
        )
        return tf.concat([tf.math.log1p(tf.cast(lengths, tf.float32)), found], axis=1)

    def weights_of(self, words: tf.RaggedTensor) -> tf.SparseTensor:
        """`(1 + log(count)) * idf` of each known term, of length 1 for each text."""
        terms, num_known = _terms(words), len(self.vocabulary)
        ids = tf.cast(self._lookup(terms.flat_values), tf.int64) - 1
        # `value_rowids` takes memory for rows times the terms of the longest text:
        # 1.3 GB for 256 texts of which one has 1.8 MB.
        places, ends = tf.range(tf.size(ids, tf.int64)), terms.row_splits[1:]
        rows = tf.searchsorted(tf.cast(ends, tf.int64), places, "right", tf.int64)
        cells = rows * num_known + ids
        cells, _, counts = tf.unique_with_counts(tf.boolean_mask(cells, ids >= 0))
        rows, ids = cells // num_known, cells % num_known
        weights = 1 + tf.math.log(tf.cast(counts, tf.float32))
        weights *= tf.gather(tf.convert_to_tensor(self.idf), ids)
        num_rows = terms.nrows(tf.int64)
        squares = tf.math.unsorted_segment_sum(weights**2, rows, num_rows)
        weights *= tf.math.rsqrt(tf.gather(squares, rows))
        return tf.SparseTensor(
            tf.stack([rows, ids], 1), weights, tf.stack([num_rows, num_known])
        )

    def compute_output_spec(self, text):
        width = len(self.LENGTHS) + self.size
        return keras.KerasTensor((*text.shape, width), "float32")

    def get_config(self):
        # It never learns; Keras gives the argument twice when a file names it.
        config = {k: v for k, v in super().get_config().items() if k != "trainable"}
        return config | {"vocabulary": self.vocabulary, "size": self.size}


def text_rows(mean_letters: float) -> int:
    """Texts that are worked on at once."""
    return chunk_rows(int(_BYTES_PER_LETTER * mean_letters))


def fit_text_vectors(
    texts: Sequence[str], *, size: int = 64, max_terms: int = 20_000
) -> TextVectors:
    """Learn words, their weights and directions from texts.

    Args:
        texts: each of the train rows once; at most 100,000 are looked at, or 20
            million letters, evenly spaced.
        size: directions at most; one for ten texts. On questions of six classes 32, 64
            and 128 gave LightGBM an accuracy of 0.71, 0.75 and 0.77, on text messages
            all the same.
        max_terms: words and pairs that are known at most, the most frequent ones.
    """
    texts = _sample(texts)
    counts = _text_counts(texts)
    known = sorted((n for n in counts if counts[n] > 1), key=lambda n: (-counts[n], n))
    known = [term for term in known if len(term) <= _MAX_WORD_LETTERS][:max_terms]
    size = max(1, min(size, len(texts) // _ROWS_PER_NUMBER, len(known)))
    layer = TextVectors(known or [_NOTHING], size)
    layer.build(None)
    layer.built = True
    if known:
        frequency = np.array([counts[term] for term in known])
        layer.idf.assign(np.log((1 + len(texts)) / (1 + frequency)) + 1)
        # Seeded: the same rows give the same numbers, in a run that goes on too.
        weights = _matrix(layer, texts)
        _, _, directions = randomized_svd(weights, size, n_iter=5, random_state=0)
        layer.directions.assign(directions.T)
    return layer


def _sample(texts: Sequence[str]) -> list[str]:
    step = max(1, -(-len(texts) // SAMPLE_TEXTS))
    texts = texts[::step]
    letters = sum(len(text) for text in texts)
    return list(texts[:: max(1, -(-letters // _SAMPLE_LETTERS))])


def _chunks(texts: list[str]) -> Iterator[tf.RaggedTensor]:
    """Words of some texts at a time."""
    letters = sum(len(text) for text in texts) / max(1, len(texts))
    for piece in pieces(len(texts), text_rows(letters)):
        yield _words(tf.constant(texts[piece]))


def _text_counts(texts: list[str]) -> Counter[str]:
    """Number of texts that hold each word or pair."""
    counts: Counter[bytes] = Counter()
    for words in _chunks(texts):
        terms = _terms(words)
        flat = terms.flat_values.numpy().tolist()
        for start, stop in pairwise(terms.row_splits.numpy().tolist()):
            counts.update(set(flat[start:stop]))
        if len(counts) > _MOST_COUNTED:  # most pairs are seen once and never again
            counts = Counter({term: n for term, n in counts.items() if n > 1})
    return Counter({term.decode("utf-8"): n for term, n in counts.items()})


def _matrix(layer: TextVectors, texts: list[str]) -> scipy.sparse.csr_matrix:
    """TF-IDF weights of all texts, `(texts, vocabulary)` float32."""
    blocks = []
    for words in _chunks(texts):
        weights = layer.weights_of(words)
        rows, columns = weights.indices.numpy().T
        cells = (weights.values.numpy(), (rows, columns))
        shape = (words.shape[0], len(layer.vocabulary))
        blocks.append(scipy.sparse.csr_matrix(cells, shape=shape))
    return scipy.sparse.vstack(blocks, format="csr")
