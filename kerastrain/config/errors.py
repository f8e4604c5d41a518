"""What is wrong with a configuration, in one sentence instead of pydantic's page."""

from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from kerastrain.errors import ConfigError, listing, suggest

__all__ = ["first_problem"]


def first_problem(
    error: ValidationError, model: type[BaseModel], where: str
) -> ConfigError:
    """The first problem of `error`, with the path of the key inside `model`."""
    first, *others = error.errors()
    place = _place(model, first["loc"])
    if first["type"] == "extra_forbidden":
        known = _keys_at(model, place[:-1])
        near = suggest(place[-1], known)
        return ConfigError(
            f"{where}: no key '{'.'.join(place)}'. {near}Keys: {listing(known)}."
        )
    prefix = ": ".join([where, ".".join(place)]) if place else where
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        return type(cause)(f"{prefix}: {cause}")
    # A value of several allowed types has one error for each of them.
    same = [e for e in others if _place(model, e["loc"]) == place]
    texts = [_text(e["msg"], is_first=e is first) for e in [first, *same]]
    shown = "" if first["type"] == "missing" or cause else f", got {first['input']!r}"
    return ConfigError(f"{prefix}: {' or '.join(dict.fromkeys(texts))}{shown}.")


def _text(message: str, *, is_first: bool) -> str:
    message = message.removeprefix("Value error, ").partition(", unable to parse")[0]
    return message if is_first else message.removeprefix("Input should be ")


def _place(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys on the way to a value, without pydantic's names of union members."""
    place: list[str] = []
    annotation: Any = model
    for key in location:
        inside = _inside(annotation, key)
        if inside is None:
            # A key that the model lacks is told, a member of a union is not.
            return [*place, str(key)] if hasattr(annotation, "model_fields") else place
        place.append(str(key))
        annotation = inside
    return place


def _inside(annotation: Any, key: int | str) -> Any:
    """The annotation of what lies under `key`; None when nothing can."""
    fields = getattr(annotation, "model_fields", None)
    if fields is not None:
        return fields[key].annotation if key in fields else None
    if get_origin(annotation) in (dict, list):
        return get_args(annotation)[-1]
    return None


def _keys_at(model: type[BaseModel], place: list[str]) -> list[str]:
    annotation: Any = model
    for key in place:
        annotation = _inside(annotation, key)
    return list(getattr(annotation, "model_fields", {}))
