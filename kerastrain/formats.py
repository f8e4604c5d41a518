"""How texts and Arrow values are read: numbers, "$1,234", dates, yes and no.

Every pattern is in the syntax of RE2, the engine of DuckDB, Arrow and TensorFlow,
so that the profile, the ingest and the saved model agree on each text. Patterns are
matched against the whole text, after SPACES at both ends are taken off.
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kerastrain.errors import SchemaError
from kerastrain.schema import Column

__all__ = [
    "BOOLEAN_WORDS",
    "DATES",
    "FORMATTED_NUMBER",
    "FORMATTED_NUMBER_JUNK",
    "MISSING_WORDS",
    "NUMBER",
    "SPACES",
    "as_text",
    "formatted_numbers",
    "matches",
    "numbers",
    "plain",
    "refuse_first",
    "seconds",
]

# Taken off both ends of every text: white space of ASCII and of Unicode (class Zs).
SPACES = (
    " \t\n\v\f\r\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007"
    "\u2008\u2009\u200a\u202f\u205f\u3000"
)

NUMBER = (
    r"[-+]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
    r"|[iI][nN][fF](?:[iI][nN][iI][tT][yY])?|[nN][aA][nN])"
)

# "1,234.5", "$ 5", "-€3", "(5)" is -5, "12%" is 0.12; every finite NUMBER is one too.
# Commas stand before groups of three only: "1,5" is no number, so that a European
# decimal comma is never read as something else. Its value, in this order:
# take off all of FORMATTED_NUMBER_JUNK, read the number, times -1 if the text starts
# with "(", divided by 100 if it holds "%".
_BODY = (
    r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)"
    r"(?:[eE][-+]?[0-9]+)? ?[%$€£¥]?"
)
FORMATTED_NUMBER = (
    rf"(?:(?:[-+] ?[$€£¥]?|[$€£¥] ?[-+]?)? ?{_BODY}|\( ?[$€£¥]? ?{_BODY} ?\))"
)
FORMATTED_NUMBER_JUNK = r"[^-+.0-9eE]"

_DAY = r"(0?[1-9]|[12][0-9]|3[01])"
_MONTH = r"(0?[1-9]|1[0-2])"
_YEAR = r"([0-9]{4})"
_TIME = (
    r"(?:[T ]+([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9])(?:[.,][0-9]{1,9})?)?"
    r"(?: ?(?:Z|UTC|[-+][0-9]{2}(?::?[0-9]{2})?))?)?"
)
# Groups: the three parts in the order of the name, then hour, minute, second. The
# clock time counts as written; a zone after it is allowed and not applied.
DATES: Mapping[str, str] = MappingProxyType(
    {
        "ymd": f"{_YEAR}[-/.]{_MONTH}[-/.]{_DAY}{_TIME}",
        "mdy": f"{_MONTH}[-/.]{_DAY}[-/.]{_YEAR}{_TIME}",
        "dmy": f"{_DAY}[-/.]{_MONTH}[-/.]{_YEAR}{_TIME}",
    }
)
_STRFTIME = {"ymd": "%Y-%m-%d %H:%M:%S", "mdy": "%m/%d/%Y %H:%M:%S"}
_STRFTIME["dmy"] = "%d/%m/%Y %H:%M:%S"

# Pairs in lower case: what is true, and what is false beside it.
BOOLEAN_WORDS: Mapping[str, str] = MappingProxyType(
    {"true": "false", "yes": "no", "t": "f", "y": "n", "on": "off"}
)

# In a column that is otherwise numbers, dates or yes/no these stand for "missing";
# among other texts they may be a value like any other. Lower case.
MISSING_WORDS = frozenset(
    ("na", "n/a", "#n/a", "<na>", "nan", "nat", "null", "nil", "none", "missing")
    + ("?", "-", "--", ".", "\\n")
)


def plain(array: pa.Array) -> pa.Array:
    """Without dictionaries and without the many widths of strings and decimals."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return array.cast(pa.string())
    if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        return array.cast(pa.float64())
    return array.cast(pa.string()) if pa.types.is_null(kind) else array


def as_text(
    array: pa.Array, missing_values: Sequence[str] = (), *, dates: str = "ymd"
) -> pa.StringArray:
    """Any values as trimmed text with null for missing; 3.0 becomes "3"."""
    array = plain(array)
    kind = array.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        array = _date_text(array, _STRFTIME[dates])
    elif pa.types.is_floating(kind):
        array = pc.if_else(pc.is_nan(array), None, array)
        array = pc.if_else(pc.equal(array, 0), pa.scalar(0, kind), array)  # no "-0"
    text = pc.utf8_trim(array.cast(pa.string()), SPACES)
    return _without(text, ["", *missing_values])


def _without(text: pa.StringArray, unwanted: Sequence[str]) -> pa.StringArray:
    found = pc.is_in(text, pa.array(unwanted, pa.string()))
    return pc.if_else(found, pa.scalar(None, pa.string()), text)


def _date_text(array: pa.Array, pattern: str) -> pa.StringArray:
    if pa.types.is_timestamp(array.type) and array.type.tz:
        array = pc.local_timestamp(array)
    try:
        array = array.cast(pa.timestamp("s"))
    except pa.ArrowInvalid:  # has fractions of a second, which %S then writes
        array = array.cast(pa.timestamp("us"), safe=False)
    return pc.strftime(array, pattern)


def matches(text: pa.StringArray, pattern: str) -> pa.BooleanArray:
    """Which texts match as a whole; null where the text is missing."""
    return pc.match_substring_regex(text, f"^(?:{pattern})$")


def seconds(
    array: pa.Array, order: str, missing_values: Sequence[str] = ()
) -> np.ndarray:
    """Points in time as seconds since 1970, float64; NaN for what is no date."""
    array = plain(array)
    if pa.types.is_string(array.type):
        return _text_seconds(as_text(array, missing_values), order)
    if pa.types.is_timestamp(array.type) and array.type.tz:
        array = pc.local_timestamp(array)
    micros = array.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    return micros.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) / 1e6


def _text_seconds(text: pa.StringArray, order: str) -> np.ndarray:
    names = [*order, "hour", "minute", "second"]
    pattern = DATES[order]
    for name in names:
        pattern = re.sub(r"\((?!\?)", f"(?P<{name}>", pattern, count=1)
    parts = pc.extract_regex(text, f"^(?:{pattern})$")
    year, month, day, hour, minute, second = (
        pc.if_else(pc.equal(part, ""), "0", part)
        for part in (parts.field(name) for name in ("y", "m", "d", *names[3:]))
    )
    dates = [
        pc.utf8_lpad(part, width, "0")
        for part, width in ((year, 4), (month, 2), (day, 2))
    ]
    days = pc.strptime(
        pc.binary_join_element_wise(*dates, "-"), "%Y-%m-%d", "s", error_is_null=True
    )
    clock = [
        part.cast(pa.float64()).to_numpy(zero_copy_only=False)
        for part in (days.cast(pa.int64()), hour, minute, second)
    ]
    values = clock[0] + 3600 * clock[1] + 60 * clock[2] + clock[3]
    values[pc.is_null(parts).to_numpy(zero_copy_only=False)] = np.nan
    return values


def numbers(
    array: pa.Array, missing_values: Sequence[str] = (), dtype: str = "float32"
) -> np.ndarray:
    """Numbers, booleans or numeric text as floats, NaN for missing or infinite.

    What float32 takes for infinite counts so in float64 too.

    Raises:
        pyarrow.ArrowInvalid: a text is no number.
    """
    array = plain(array)
    if pa.types.is_string(array.type):
        array = as_text(array, missing_values).cast(pa.float64())
        return _floats(array, dtype)
    values = _floats(array.cast(pa.float64(), safe=False), dtype)
    for missing in missing_numbers(missing_values):
        values[values == np.dtype(dtype).type(missing)] = np.nan
    return values


def missing_numbers(missing_values: Sequence[str]) -> list[float]:
    """Those of the texts that are numbers: what they are in a column of numbers."""
    return [float(text) for text in missing_values if re.fullmatch(NUMBER, text)]


def _floats(array: pa.Array, dtype: str) -> np.ndarray:
    values = array.to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):  # beyond float32 is as good as infinite
        narrow = values.astype("float32")
    kept = narrow if dtype == "float32" else values.astype(dtype)
    kept[np.isinf(narrow)] = np.nan
    return kept


def formatted_numbers(text: pa.StringArray, dtype: str = "float32") -> np.ndarray:
    """Values of texts that all match FORMATTED_NUMBER."""
    bare = pc.replace_substring_regex(text, FORMATTED_NUMBER_JUNK, "")
    values = bare.cast(pa.float64())
    sign = pc.if_else(pc.starts_with(text, "("), -1.0, 1.0)
    unit = pc.if_else(pc.match_substring(text, "%"), 0.01, 1.0)
    return _floats(pc.multiply(pc.multiply(values, sign), unit), dtype)


def refuse_first(
    column: Column,
    array: pa.Array,
    is_fine: pa.BooleanArray,
    *,
    expected: str,
    where: str,
    first_row: int,
) -> None:
    """Raise a SchemaError for the first value that is not fine; null counts as fine.

    Args:
        first_row: rows of the source before `array`.
    """
    fine = pc.fill_null(is_fine, True).to_numpy(zero_copy_only=False)
    if fine.all():
        return
    position = int(np.argmin(fine))
    raise SchemaError(
        f"column '{column.name}' in {where}, row {first_row + position + 1}: "
        f"expected {expected}, got {str(array[position].as_py())[:60]!r}. "
        "Mend it or leave it empty, or train with it among missing_values, or with "
        f"--column {column.name}=categorical"
    )
