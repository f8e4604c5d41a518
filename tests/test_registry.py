"""Registry: names, imports on use, options read from source text."""

import sys

import pytest

from kerastrain.errors import ConfigError, MissingExtra, UnknownName
from kerastrain.registry import Registry

LEAF = '''
"""A leaf that must not be imported to be listed."""
import not_installed_anywhere
from typing import Literal

def net(features, depth: int = 3, *, width: int = 8, shape: Sequence[int] = (2, 1),
        kind: Literal["a", "b"] = "a", share: float | None = None):
    """One line about it.

    More about it.

    Args:
        width: how wide,
            in units.
        share: of what.

    Raises:
        width: not an argument.
    """

def bare(features):
    pass

def needy(x, *, uri: str):
    """Needs an option."""

class Thing:
    """A class."""

    def __init__(self, data, *, size: int = 1):
        self.size = size
'''


@pytest.fixture
def table(tmp_path, monkeypatch):
    (tmp_path / "leaf_of_test.py").write_text(LEAF)
    (tmp_path / "light_of_test.py").write_text(
        "import math\n\ndef net(x, *, scale: float = math.pi, other: 'math.nan' = 1):\n"
        "    'Text.'\n    return x * scale\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield Registry(
        "model",
        {
            "net": "leaf_of_test:net",
            "bare": "leaf_of_test:bare",
            "needy": "leaf_of_test:needy",
            "thing": "leaf_of_test:Thing [boosting]",
            "light": "light_of_test:net",
            "gone": "leaf_of_test:gone",
            "lost": "no_module_of_test:net",
        },
    )
    for name in ("leaf_of_test", "light_of_test"):
        sys.modules.pop(name, None)


def test_a_listing_imports_no_entry(table):
    assert table.describe("net") == "One line about it."
    assert table.describe("thing") == "A class."
    assert table.describe("bare") == ""
    assert "leaf_of_test" not in sys.modules


def test_options_are_the_keyword_only_arguments_with_their_docs(table):
    assert table.signature("net") == "width=8, shape=(2, 1), kind='a', share=None"
    assert table.signature("thing") == "size=1"
    assert table.signature("bare") == "none"
    assert table.signature("needy") == "uri"
    assert table.option_docs("net") == {
        "width": "how wide, in units.",
        "share": "of what.",
    }


def test_check_gives_all_options_as_plain_types_in_the_order_of_the_signature(table):
    checked = table.check("net", {"share": "0.5", "width": 4}, path="model")
    assert list(checked.items()) == [
        ("width", 4),
        ("shape", [2, 1]),
        ("kind", "a"),
        ("share", 0.5),
    ]
    assert table.check("net", checked, path="model") == checked


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "net",
            {"widht": 1},
            "model.net has no option 'widht'. Did you mean 'width'? Options: "
            "width=8, shape=(2, 1), kind='a', share=None.",
        ),
        ("bare", {"width": 1}, "model.bare has no option 'width'. Options: none."),
        (
            "net",
            {"width": "wide"},
            "model.net.width: Input should be a valid integer, unable to parse string "
            "as an integer, got 'wide'.",
        ),
        ("net", {"kind": "c"}, "model.net.kind: Input should be 'a' or 'b', got 'c'."),
        (
            "net",
            {"shape": 3},
            "model.net.shape: Input should be an instance of Sequence, got 3.",
        ),
        ("needy", {}, "model.needy needs the option 'uri'."),
        (
            "needy",
            {"uri": None},
            "model.needy.uri: Input should be a valid string, got None.",
        ),
    ],
)
def test_check_refuses_wrong_options(table, name, options, message):
    with pytest.raises(ConfigError) as caught:
        table.check(name, options, path="model")
    assert str(caught.value) == message


def test_option_schema_is_json_schema_with_defaults_and_docs(table):
    schema = table.option_schema("net")
    assert schema["required"] == []
    assert schema["properties"]["width"] == {
        "type": "integer",
        "default": 8,
        "description": "how wide, in units.",
    }
    assert schema["properties"]["shape"]["default"] == [2, 1]
    assert table.option_schema("needy")["required"] == ["uri"]


@pytest.mark.parametrize("method", ["describe", "options", "load", "__getitem__"])
def test_an_unknown_name_is_refused_with_the_nearest(table, method):
    with pytest.raises(UnknownName, match="Unknown model 'nett'. Did you mean 'net'?"):
        getattr(table, method)("nett")


def test_it_is_a_mapping(table):
    assert "net" in table
    assert "nett" not in table
    assert table.get("nett") is None
    assert table["net"] == "leaf_of_test:net"
    assert len(table) == len(list(table)) == 7


def test_load_imports_an_entry_or_a_module_of_the_user(table):
    assert table.load("light")(2, scale=3.0) == 6.0
    assert table.load("light_of_test:net") is table.load("light")


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("net", ConfigError, "No module named 'not_installed_anywhere'"),
        (
            "thing",
            MissingExtra,
            "The model 'thing' needs the package 'not_installed_anywhere': "
            "pip install 'kerastrain\\[boosting\\]'.",
        ),
        (
            "lost",
            ConfigError,
            "Cannot import model 'lost': No module named 'no_module_",
        ),
        ("light_of_test:nett", ConfigError, "module 'light_of_test' has no 'nett'"),
        ("no_module_of_test:net", ConfigError, "No module named 'no_module_of_test'"),
    ],
)
def test_what_cannot_be_imported_says_what_is_missing(table, name, kind, message):
    with pytest.raises(kind, match=message) as caught:
        table.load(name)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "name", [":net", "light_of_test:", "a b:c", ".light:net", "x:y:z"]
)
def test_a_place_of_the_user_that_is_none_is_refused(table, name):
    with pytest.raises(ConfigError, match="is not of the form 'module:object'"):
        table.load(name)


def test_a_name_from_a_saved_folder_is_never_imported(table):
    with pytest.raises(UnknownName, match="Unknown model 'light_of_test:net'"):
        table.load("light_of_test:net", trusted=False)
    assert "light_of_test" not in sys.modules
    assert table.load("light", trusted=False)(1, scale=1.0) == 1.0


def test_options_of_the_users_own_function_may_have_types_of_its_own(table):
    checked = table.check("light_of_test:net", {"other": 5}, path="model")
    assert checked["other"] == 5
    assert checked["scale"] == pytest.approx(3.14159, abs=1e-5)


def test_an_entry_that_its_module_does_not_define_is_named(table):
    with pytest.raises(ConfigError, match="Module 'leaf_of_test' defines no 'gone'"):
        table.describe("gone")


def test_a_class_with_fit_and_predict_has_all_that_its_constructor_names(
    table, tmp_path
):
    (tmp_path / "light_of_test.py").write_text(
        "class Mine:\n"
        "    def __init__(self, size, kind=float, *, depth: 'Nowhere' = 3, **others):\n"
        "        pass\n"
        "    def fit(self, x, y): pass\n"
        "    def predict(self, x): pass\n"
    )
    name = "light_of_test:Mine"
    assert list(table.options(name)) == ["size", "kind", "depth"]
    # Its defaults are its own affair: float is none that YAML has.
    given = {"size": (1, 2), "depth": 4, "other": "a"}
    expected = {"size": [1, 2], "depth": 4, "other": "a"}
    assert table.check(name, given, path="model") == expected
    message = rf"model\.{name}\.kind: .* cannot be written as YAML\."
    with pytest.raises(ConfigError, match=message):
        table.check(name, {"kind": int}, path="model")
