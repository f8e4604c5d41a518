"""What columns can be. A type is one file here and one line in `COLUMNS`.

A type says which columns are its own (`matches`), how such a column is read
(`describe`), what the model's input gets for it (`to_input`) and what the model
makes of that (`encode`). The first type that matches takes the column.
"""

from kerastrain.registry import Registry

__all__ = ["COLUMNS"]

COLUMNS = Registry(
    "column type",
    {
        "boolean": "kerastrain.columns.boolean:Boolean",
        "datetime": "kerastrain.columns.datetime:Datetime",
        "numeric": "kerastrain.columns.numeric:Numeric",
        "text": "kerastrain.columns.text:Text",
        "categorical": "kerastrain.columns.categorical:Categorical",
    },
)
