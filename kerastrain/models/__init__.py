"""Networks. A model is one function in one file here and one line in `MODELS`."""

from kerastrain.registry import Registry

__all__ = ["MODELS"]

MODELS = Registry(
    "model",
    {
        "linear": "kerastrain.models.linear:linear",
        "mlp": "kerastrain.models.mlp:mlp",
    },
)
