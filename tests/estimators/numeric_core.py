"""The numeric core around an estimator that was fitted without a run."""

import keras

from kerastrain.features import Features


def core_of(estimator):
    """Keras model from the matrices that its setting has to its outputs."""
    setting = estimator.setting_
    widths = {
        "numbers": ("float32", len(setting.statistics.median)),
        "codes": ("int32", len(setting.vocabulary_sizes)),
    }
    inputs = {
        name: keras.Input((width,), name=name, dtype=dtype)
        for name, (dtype, width) in widths.items()
        if width
    }
    clean = {n: keras.layers.Identity(dtype=t.dtype)(t) for n, t in inputs.items()}
    features = Features(
        inputs,
        clean.get("numbers"),
        clean.get("codes"),
        tuple(f"n{i}" for i in range(widths["numbers"][1])),
        tuple(f"c{i}" for i in range(widths["codes"][1])),
        setting.vocabulary_sizes,
        setting.statistics,
        setting.num_outputs,
    )
    return keras.Model(inputs, estimator.layers(features))


def outputs_of(core, rows):
    """What a core gives for `Examples`, as an array."""
    matrices = {"numbers": rows.numbers, "codes": rows.codes}
    return core({name: matrices[name] for name in core.input}).numpy()
