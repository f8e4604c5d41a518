"""Passwords in addresses: used, never shown and never saved."""

import os
import re
from typing import Any

from kerastrain.errors import ConfigError

__all__ = ["HIDDEN", "expand", "has_password", "hide_password", "hide_passwords"]

HIDDEN = "***"
# To the last "@" of what is no white space: a password may hold one, and a quote too.
_USER = re.compile(r"(?<=://)([^\s:/@]*):(\S+)@")
_ADDRESS = re.compile(r"[\w+.-]+://[^\s/@]*:[^/]*@[^\s@]*\Z")
_WHOLE = re.compile(r"(?<=://)([^\s:/@]*):(.+)@")
_WORDS = (
    "password|passwd|pwd|token|secret|api_?key|access_?key(?:_?id)?|key|sig|signature|"
    "credential|sas|auth"
)
_QUERY = re.compile(rf"(?i)(?<=[?&;])([\w.-]*(?:{_WORDS}))=([^&;\s'\"]+)")
_VARIABLE = re.compile(r"\$\{(\w+)\}")


def hide_password(text: str) -> str:
    """`text` with *** for passwords and tokens of the addresses in it.

    A variable such as `${DB_PASSWORD}` is no secret and stays.

    >>> hide_password("postgresql://me:hunter2@host/db?sslkey=abc")
    'postgresql://me:***@host/db?sslkey=***'
    >>> hide_password("postgresql://me:${DB_PASSWORD}@host/db")
    'postgresql://me:${DB_PASSWORD}@host/db'
    """
    if "://" not in text:
        return text
    if _ADDRESS.match(text):  # all of it is one address, and may hold spaces
        text = _WHOLE.sub(lambda m: f"{m[1]}:{_hidden(m[2])}@", text, count=1)
    text = _USER.sub(lambda m: f"{m[1]}:{_hidden(m[2])}@", text)
    return _QUERY.sub(lambda m: f"{m[1]}={_hidden(m[2])}", text)


def hide_passwords(value: Any) -> Any:
    """The same of every text in nested lists and mappings."""
    if isinstance(value, str):
        return hide_password(value)
    if isinstance(value, dict):
        return {key: hide_passwords(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [hide_passwords(item) for item in value]
    return value


def has_password(text: str) -> bool:
    """Whether `hide_password` would change it."""
    return hide_password(text) != text


def expand(address: str) -> str:
    """The address with the environment's values for `${NAME}`.

    Raises:
        ConfigError: a variable is not set, or a hidden password was not put back.
    """
    shown = hide_password(address)
    if f":{HIDDEN}@" in address or f"={HIDDEN}" in address:
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

    return _VARIABLE.sub(value, address)


def _hidden(secret: str) -> str:
    return secret if _VARIABLE.fullmatch(secret) else HIDDEN
