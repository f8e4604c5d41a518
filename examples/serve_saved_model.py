"""Predict with TensorFlow alone: no kerastrain, no Keras, no preprocessing code.

python examples/serve_saved_model.py   about two minutes on two cores
"""

import subprocess
import sys
from pathlib import Path

import tensorflow as tf

DATA = Path(__file__).parent / "data" / "telco_churn.csv"
RUN = Path("runs") / "serve_saved_model"


def train() -> None:
    """In a process of its own: nothing of kerastrain is imported in this one."""
    command = [sys.executable, "-m", "kerastrain", "train", str(DATA)]
    subprocess.run([*command, "--target", "Churn", "--out", str(RUN)], check=True)


def main() -> None:
    if not RUN.exists():
        train()
    model = tf.saved_model.load(str(RUN / "exports" / "saved_model"))
    serve = model.signatures["serving_default"]
    _, inputs = serve.structured_input_signature

    # A column of two customers for each input: missing, but for what is known of them.
    missing = {tf.string: "", tf.float32: float("nan")}
    rows = {name: [missing[spec.dtype]] * 2 for name, spec in inputs.items()}
    rows |= {"Contract": ["Month-to-month", "Two year"], "tenure": [2.0, 60.0]}

    answer = serve(**{k: tf.constant(v, inputs[k].dtype) for k, v in rows.items()})
    for name, value in answer.items():
        print(name, value.numpy().tolist())
    assert "kerastrain" not in sys.modules


if __name__ == "__main__":
    main()
