"""Passwords in addresses: used, never shown and never saved."""

import os
import re
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from kerastrain.errors import ConfigError

__all__ = ["HIDDEN", "expand", "has_password", "hide_password", "hide_passwords"]

HIDDEN = "***"
Value = TypeVar("Value")

# A password goes on to the last @ before a "?". White space and quotes end an address
# in a sentence, but people put them into passwords too: rather too much is hidden.
_USER = re.compile(
    r"(?<=://)([^\s:/@'\"]*):("
    r"[^\s@'\"]*(?:@[^\s@?#'\"]*)*"
    r"|(?!\d+(?:\W|$))(?:(?!://)[^@\n])*(?:@(?:(?!://)[^@\n?#])*)*"
    r")@"
)
_WEB_TOKEN = re.compile(r"(?i)(https?://)([^\s:/@'\"]+)@")
_WORDS = (
    "password|passwd|pwd|token|secret|api_?key|access_?key(?:_?id)?|key|sig|signature|"
    "credential|sas|auth"
)
_QUERY = re.compile(
    rf"(?i)(?<=[?&;])([\w.-]*(?:{_WORDS}))=([^&;\s]*[^&;\s'\",.)])", re.I
)
_ODBC = re.compile(r"(?i)(?<=%3B|%7B)(pwd|password)%3D((?:(?!%3B)[^&\s'\"])+)")
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_PARTS = re.compile(r"(?s)([\w+.-]+://)?((?<=://)[^/?#@]*@)?(.*)")


def hide_password(text: str, *, of: str = "") -> str:
    """`text` with *** for passwords and tokens of the addresses in it.

    A variable such as `${DB_PASSWORD}` is no secret and stays.

    Args:
        of: an address whose passwords are hidden wherever they stand, since a driver
            may tell them without the address.

    >>> hide_password("postgresql://me:hunter2@host/db?sslkey=abc")
    'postgresql://me:***@host/db?sslkey=***'
    >>> hide_password("postgresql://me:${DB_PASSWORD}@host/db")
    'postgresql://me:${DB_PASSWORD}@host/db'
    >>> hide_password("no user 'me' with hunter2", of="postgresql://me:hunter2@host")
    "no user 'me' with ***"
    """
    for secret in _secrets(of):
        text = text.replace(secret, HIDDEN)
    if "://" not in text:
        return text
    text = _USER.sub(lambda m: f"{m[1]}:{_hidden(m[2])}@", text)
    text = _WEB_TOKEN.sub(lambda m: f"{m[1]}{_hidden(m[2])}@", text)
    text = _ODBC.sub(lambda m: f"{m[1]}%3D{_hidden(m[2])}", text)
    return _QUERY.sub(lambda m: f"{m[1]}={_hidden(m[2])}", text)


def has_password(text: str) -> bool:
    """Whether `hide_password` would change it."""
    return hide_password(text) != text


def hide_passwords(value: Value) -> Value:
    """`hide_password` of every text in lists and mappings."""
    hidden: Any = value
    if isinstance(value, str):
        hidden = hide_password(value)
    elif isinstance(value, dict):
        hidden = {key: hide_passwords(item) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        hidden = [hide_passwords(item) for item in value]
    return hidden


def expand(address: str) -> str:
    """The address with the environment's values for `${NAME}`.

    Before the @ a value may hold any characters: they are written as %40 and the like.

    Raises:
        ConfigError: a variable is not set, or a hidden password was not put back.
    """
    shown = hide_password(address)
    if re.search(r"[:/]\*{3}@|(=|%3D)\*{3}", address):
        raise ConfigError(
            f"{shown}: the password was not saved. Put it in the environment and write "
            "its name in its place, as ${DB_PASSWORD}."
        )

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            raise ConfigError(
                f"{shown}: the environment has no variable {match[1]}. Set it, or "
                "write its value in its place."
            )
        return found

    parts = _PARTS.fullmatch(address)
    assert parts is not None  # it fits any text
    scheme, user, rest = (part or "" for part in parts.groups())
    user = _VARIABLE.sub(lambda match: quote(value(match), safe=""), user)
    return scheme + user + _VARIABLE.sub(value, rest)


def _secrets(address: str) -> list[str]:
    """Passwords and tokens of an address, as they stand there and decoded."""
    found = [
        match[2]
        for p in (_USER, _WEB_TOKEN, _ODBC, _QUERY)
        for match in p.finditer(address)
    ]
    found = [text for text in found if text and _hidden(text) == HIDDEN]
    return sorted({*found, *map(unquote, found)}, key=len, reverse=True)


def _hidden(secret: str) -> str:
    return secret if _VARIABLE.fullmatch(secret) else HIDDEN
