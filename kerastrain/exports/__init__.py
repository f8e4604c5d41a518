"""Formats in which a model leaves. A format is one file here and one line in `EXPORTS`.

An export is a function `(model, folder, **options)` that returns the path it wrote.
Beside it, in the same file, stands `self_test(path)`: the text of a program that
replays golden rows with nothing but the format's own library.
"""

from kerastrain.registry import Registry

__all__ = ["EXPORTS"]

EXPORTS = Registry(
    "export format", {"saved_model": "kerastrain.exports.saved_model:saved_model"}
)
