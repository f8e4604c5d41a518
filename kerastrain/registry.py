"""Open sets: a table of names, each imported when it is first used.

An entry is written like an entry point, `"module:object"` or
`"module:object [extra]"`. Options of an entry are the keyword-only arguments of
its signature; they are read from the source text, so that a listing or a refused
configuration imports neither TensorFlow nor the entry.
"""

import __future__

import ast
import collections.abc
import importlib
import importlib.util
import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kerastrain.errors import ConfigError, MissingExtra, suggest, unknown

__all__ = ["Registry", "argument_docs", "fits_and_predicts"]

# What annotations of options may be made of.
_WORDS = {name: getattr(typing, name) for name in ("Any", "Literal", "Optional")}
_WORDS |= {name: getattr(collections.abc, name) for name in ("Mapping", "Sequence")}


class Registry(Mapping[str, str]):
    """A named open set of functions or classes, imported on use.

    Args:
        kind: what an entry is, in the singular, as error messages say it.
        entries: name to `"module:object"`; a trailing `[extra]` names the extra of
            kerastrain that brings the packages the entry imports.
    """

    def __init__(self, kind: str, entries: Mapping[str, str]):
        self.kind = kind
        self._entries = dict(entries)
        self._lent: dict[str, Any] = {}

    def lend(self, value: Any) -> str:
        """A name for an object of the user's, which `load` gives back in this process;
        another one imports it, if it can."""
        name = f"{value.__module__}:{value.__qualname__.rpartition('.')[2]}"
        if not name.rpartition(":")[2].isidentifier():
            raise ConfigError(
                f"The {self.kind} has to be a function with a name, as one made by "
                f"def; got {value.__qualname__}."
            )
        self._lent[name] = value
        return name

    def __getitem__(self, name: str) -> str:
        try:
            return self._entries[name]
        except KeyError:
            raise unknown(self.kind, name, self._entries) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def load(self, name: str, *, trusted: bool = True) -> Any:
        """The object behind `name`.

        A name with a colon is the user's own `"module:object"` and is imported; with
        `trusted=False` (a name read from a saved folder) it is refused.
        """
        if trusted and name in self._lent:
            return self._lent[name]
        module, attribute, extra = _parts(self._target(name, trusted))
        try:
            loaded = importlib.import_module(module)
        except ModuleNotFoundError as error:
            package = (error.name or module).partition(".")[0]
            if extra is None or package == "kerastrain":
                raise ConfigError(
                    f"Cannot import {self.kind} '{name}': {error}."
                ) from error
            raise MissingExtra(
                f"The {self.kind} '{name}' needs the package '{package}': "
                f"pip install 'kerastrain[{extra}]'."
            ) from error
        if not hasattr(loaded, attribute):
            raise ConfigError(
                f"Cannot import {self.kind} '{name}': module '{module}' "
                f"has no '{attribute}'."
            )
        return getattr(loaded, attribute)

    def _target(self, name: str, trusted: bool) -> str:
        if ":" not in name or not trusted:
            return self[name]
        module, _, attribute = name.partition(":")
        if not all(part.isidentifier() for part in [*module.split("."), attribute]):
            raise ConfigError(
                f"The {self.kind} '{name}' is not of the form 'module:object'."
            )
        return name

    def describe(self, name: str) -> str:
        """First line of the docstring of an entry; nothing of it is imported."""
        doc = ast.get_docstring(_definition(self[name])) or ""
        return doc.partition("\n")[0]

    def options(self, name: str) -> dict[str, inspect.Parameter]:
        """Keyword-only arguments of an entry: default and evaluated annotation.

        Of a class of the user's with `fit` and `predict` all that its constructor names
        and that may be given by name, as scikit-learn has them.
        """
        if ":" in name:
            loaded = self.load(name)
            return (
                _named(loaded) if fits_and_predicts(loaded) else _keyword_only(loaded)
            )
        return _keyword_only(_stub(_definition(self[name])))

    def option_docs(self, name: str) -> dict[str, str]:
        """What the docstring of an entry says about each option."""
        node = _definition(self[name])
        docs = argument_docs(ast.get_docstring(node) or "")
        return {option: docs[option] for option in self.options(name) if option in docs}

    def signature(self, name: str) -> str:
        """Options as a person writes them: `"widths=(256, 128), dropout=0.1"`."""
        return _signature_text(self.options(name))

    def check(
        self, name: str, options: Mapping[str, Any], *, path: str
    ) -> dict[str, Any]:
        """All options of an entry in the order of its signature, as plain JSON types.

        Those that are not among `options` have their default; of a class of the user's
        with `fit` and `predict` they are left to its constructor.

        Raises:
            UnknownName: no such entry.
            ConfigError: an option that it does not have, or of the wrong type, or one
                without a default that is not given.
        """
        if ":" in name and fits_and_predicts(self.load(name)):
            return self._given(name, options, path)
        known = self.options(name)
        for option in options:
            if option not in known:
                raise ConfigError(
                    f"{path}.{name} has no option '{option}'. {suggest(option, known)}"
                    f"Options: {_signature_text(known)}."
                )
        checked = {}
        for option, parameter in known.items():
            value = options.get(option, parameter.default)
            if value is parameter.empty:
                raise ConfigError(f"{path}.{name} needs the option '{option}'.")
            checked[option] = _plain(parameter, value, f"{path}.{name}.{option}")
        return checked

    def _given(
        self, name: str, options: Mapping[str, Any], path: str
    ) -> dict[str, Any]:
        """Options as they are given, in plain types; its constructor checks the rest.

        A default of it need not be one that YAML has.
        """
        known = self.options(name)
        anything = inspect.Parameter("anything", inspect.Parameter.KEYWORD_ONLY)
        return {
            option: _plain(
                known.get(option, anything), value, f"{path}.{name}.{option}"
            )
            for option, value in options.items()
        }

    def option_schema(self, name: str) -> dict[str, Any]:
        """JSON Schema of the options of an entry, without its name."""
        properties: dict[str, Any] = {}
        required = []
        texts = self.option_docs(name)
        for option, parameter in self.options(name).items():
            properties[option] = _adapter(parameter).json_schema()
            if option in texts:
                properties[option]["description"] = texts[option]
            if parameter.default is parameter.empty:
                required.append(option)
            else:
                default = _plain(parameter, parameter.default, option)
                properties[option]["default"] = default
        return {"properties": properties, "required": required}


def fits_and_predicts(loaded: Any) -> bool:
    """Whether it is a class with `fit` and `predict`, as scikit-learn has them."""
    return inspect.isclass(loaded) and all(
        callable(getattr(loaded, name, None)) for name in ("fit", "predict")
    )


def argument_docs(doc: str) -> dict[str, str]:
    """Name to text of what stands under `Args:` in a docstring.

    >>> argument_docs("One.\\n\\nArgs:\\n    a: first,\\n        more.\\n    b: 2.")
    {'a': 'first, more.', 'b': '2.'}
    """
    _, _, section = doc.partition("\nArgs:\n")
    section = re.split(r"\n(?=\S)", section, maxsplit=1)[0]
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.M)
    return {name: " ".join(text.split()) for name, text in found}


def _parts(target: str) -> tuple[str, str, str | None]:
    """`"module:object [extra]"` taken apart."""
    place, _, extra = target.partition(" [")
    module, _, attribute = place.partition(":")
    return module, attribute, extra.rstrip("]") or None


def _definition(target: str) -> ast.FunctionDef | ast.ClassDef:
    module, attribute, _ = _parts(target)
    spec = importlib.util.find_spec(module)  # imports the parent package only
    if spec is None or spec.origin is None:
        raise ConfigError(f"Cannot find module '{module}'.")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == attribute:
            return node
    raise ConfigError(f"Module '{module}' defines no '{attribute}'.")


def _stub(node: ast.FunctionDef | ast.ClassDef) -> Callable[..., None]:
    """A function of the same signature with an empty body."""
    if isinstance(node, ast.ClassDef):
        found = [
            item
            for item in node.body
            if isinstance(item, ast.FunctionDef) and item.name == "__init__"
        ]
        if not found:
            return lambda: None
        node = found[0]
    stub = ast.FunctionDef("stub", node.args, [ast.Pass()], [], None)
    tree = ast.fix_missing_locations(ast.Module([stub], []))
    scope: dict[str, Any] = {}
    lazy = __future__.annotations.compiler_flag
    exec(compile(tree, "<signature>", "exec", flags=lazy), scope)  # our own source
    return scope["stub"]


def _keyword_only(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}


def _named(cls: type) -> dict[str, inspect.Parameter]:
    """What a constructor takes by name; a value of any type, if it is plain."""
    parameters = inspect.signature(cls).parameters.values()
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        p.name: p.replace(annotation=p.empty) for p in parameters if p.kind in by_name
    }


def _plain(parameter: inspect.Parameter, value: Any, place: str) -> Any:
    """`value` as the annotation asks for it, in types that YAML and JSON have."""
    from pydantic import ValidationError
    from pydantic_core import PydanticSerializationError

    adapter = _adapter(parameter)
    try:
        return adapter.dump_python(adapter.validate_python(value), mode="json")
    except ValidationError as error:
        problems = " or ".join(dict.fromkeys(e["msg"] for e in error.errors()))
        raise ConfigError(f"{place}: {problems}, got {value!r}.") from None
    except PydanticSerializationError:
        raise ConfigError(f"{place}: {value!r} cannot be written as YAML.") from None


def _adapter(parameter: inspect.Parameter) -> Any:
    from pydantic import PydanticSchemaGenerationError, TypeAdapter

    try:
        return TypeAdapter(_annotation(parameter))
    except (PydanticSchemaGenerationError, NameError):  # a type of the user's own code
        return TypeAdapter(Any)


def _annotation(parameter: inspect.Parameter) -> Any:
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return Any
    if isinstance(annotation, str):
        return eval(annotation, dict(_WORDS))  # source text of a table or of the user
    return annotation


def _signature_text(options: Mapping[str, inspect.Parameter]) -> str:
    texts = []
    for name, parameter in options.items():
        has_default = parameter.default is not parameter.empty
        texts.append(f"{name}={parameter.default!r}" if has_default else name)
    return ", ".join(texts) or "none"
