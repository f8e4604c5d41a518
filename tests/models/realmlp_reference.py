"""RealMLP of its authors (pytabkit, torch), run in a process of its own.

    python realmlp_reference.py TASK FILE

fits it for two epochs on made-up rows and writes rows, weights and predictions to FILE
(npz). Codes are those of kerastrain: 0 missing, 2 and up known.
"""

import logging
import sys
import warnings

import numpy as np
import pandas as pd

NUM_ROWS, NUM_TRAIN = 400, 300
LETTERS = np.array(list("abcdefghijkl"))


def main(task, path):
    from pytabkit import RealMLP_TD_Classifier, RealMLP_TD_Regressor

    random = np.random.default_rng(0)
    numbers = np.stack(
        [
            random.normal(size=NUM_ROWS),
            random.exponential(size=NUM_ROWS),
            random.choice([0, 0, 0, 0, 5], NUM_ROWS),
        ],
        axis=1,
    ).astype("float32")
    sizes = (2, 3, 12)
    codes = np.stack([random.integers(2, s + 2, NUM_ROWS) for s in sizes], axis=1)
    codes[NUM_TRAIN::5] = 0
    score = numbers[:, 0] + numbers[:, 1] * (codes[:, 0] == 2) + 0.1 * codes[:, 2]
    kind = RealMLP_TD_Regressor if task == "regression" else RealMLP_TD_Classifier
    target = {
        "regression": 100 + 20 * score,
        "binary": (score > 1.2).astype(int),
        "multiclass": np.digitize(score, [0.8, 1.8]),
    }[task]
    table = pd.DataFrame(numbers, columns=["a", "b", "c"])
    for place, name in enumerate("uvw"):
        words = np.where(codes[:, place] > 0, LETTERS[codes[:, place] - 2], None)
        table[name] = pd.Categorical(words, categories=LETTERS[: sizes[place]])
    model = kind(
        n_epochs=2, device="cpu", random_state=0, n_cv=1, n_refit=0, n_threads=1
    )
    model.fit(table, target, val_idxs=np.arange(NUM_TRAIN, NUM_ROWS))
    is_number = task == "regression"
    weights = [p.detach().numpy()[0] for p in model.alg_interface_.model.parameters()]
    np.savez(
        path,
        numbers=numbers,
        codes=codes,
        target=target,
        outputs=model.predict(table) if is_number else model.predict_proba(table),
        **{f"weight_{i}": weight for i, weight in enumerate(weights)},
    )


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    main(*sys.argv[1:])
