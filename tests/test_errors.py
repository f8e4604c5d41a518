"""The tree of errors and their helpers."""

import inspect

import pytest

from kerastrain import errors
from kerastrain.errors import KerastrainError, UnknownName, listing, suggest, unknown

ALL = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, KerastrainError) and kind is not KerastrainError
]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_also_an_error_that_python_knows(kind):
    named = (ValueError, KeyError, ImportError, RuntimeError)
    assert issubclass(kind, named)
    assert not issubclass(kind, OSError)


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_in_the_drawing_with_what_it_derives_from(kind):
    (line,) = [
        row for row in errors.__doc__.splitlines() if f" {kind.__name__} " in row
    ]
    (python_name,) = [word for word in line.split() if word.endswith("Error")][-1:]
    assert python_name in [base.__name__ for base in kind.__mro__]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_shows_its_message_as_it_was_written(kind):
    assert str(kind("no 'quotes' added")) == "no 'quotes' added"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mpl", "Did you mean 'mlp'? "),
        ("MLP", "Did you mean 'mlp'? "),
        ("zzz", ""),
    ],
)
def test_suggest_names_the_nearest_choice_or_none(name, expected):
    assert suggest(name, ["linear", "mlp"]) == expected


def test_listing_tells_only_the_number_of_what_is_beyond_the_limit():
    assert listing("abc") == "a, b, c"
    assert listing("abc", limit=2) == "a, b (and 1 more)"


def test_an_unknown_name_is_told_with_the_nearest_and_all_there_are():
    error = unknown("model", "mpl", ["linear", "mlp"])
    assert isinstance(error, UnknownName)
    assert str(error) == (
        "Unknown model 'mpl'. Did you mean 'mlp'? Available: linear, mlp."
    )
