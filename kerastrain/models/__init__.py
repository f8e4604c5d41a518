"""Networks. A model is one function in one file here and one line in `MODELS`."""

from kerastrain.estimators import ESTIMATORS
from kerastrain.registry import Registry

__all__ = ["LEARNERS", "MODELS"]

MODELS = Registry(
    "model",
    {
        "linear": "kerastrain.models.linear:linear",
        "mlp": "kerastrain.models.mlp:mlp",
        "dcn_v2": "kerastrain.models.dcn_v2:dcn_v2",
        "ft_transformer": "kerastrain.models.ft_transformer:ft_transformer",
        "resnet": "kerastrain.models.resnet:resnet",
        "realmlp": "kerastrain.models.realmlp:realmlp",
        "tabm": "kerastrain.models.tabm:tabm",
    },
)

# What `--model` names: a network, an estimator of another library, or the best of them
# together.
LEARNERS = Registry(
    "model", {"auto": "kerastrain.ensembles.portfolio:auto", **MODELS, **ESTIMATORS}
)
