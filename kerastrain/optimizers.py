"""Names of Keras' optimisers and the arguments that each has of its own.

They are written here so that a wrong one is refused without importing Keras; a test
holds them against Keras.
"""

__all__ = ["OPTIMIZERS", "OPTIMIZER_OPTIONS"]

_ADAM = ("beta_1", "beta_2", "epsilon")
OPTIMIZER_OPTIONS = {
    "adadelta": ("rho", "epsilon"),
    "adafactor": (
        "beta_2_decay", "epsilon_1", "epsilon_2", "clip_threshold", "relative_step",
    ),
    "adagrad": ("initial_accumulator_value", "epsilon"),
    "adam": (*_ADAM, "amsgrad"),
    "adamax": _ADAM,
    "adamw": (*_ADAM, "amsgrad"),
    "ftrl": (
        "learning_rate_power", "initial_accumulator_value", "beta",
        "l1_regularization_strength", "l2_regularization_strength",
        "l2_shrinkage_regularization_strength",
    ),
    "lamb": _ADAM,
    "lion": ("beta_1", "beta_2"),
    "muon": (
        "adam_beta_1", "adam_beta_2", "adam_weight_decay", "adam_lr_ratio", "epsilon",
        "exclude_layers", "exclude_embeddings", "muon_a", "muon_b", "muon_c",
        "momentum", "ns_steps", "nesterov", "rms_rate",
    ),
    "nadam": _ADAM,
    "rmsprop": ("rho", "momentum", "epsilon", "centered"),
    "schedulefreeadamw": (*_ADAM, "warmup_steps"),
    "sgd": ("momentum", "nesterov"),
}  # fmt: skip
OPTIMIZERS = tuple(OPTIMIZER_OPTIONS)
