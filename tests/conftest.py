"""What tests of several files need."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports TensorFlow

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True, scope="session")
def plain_network() -> None:
    """Tests that name no model train the plain network and explain nothing: the
    default, a portfolio, takes minutes. What it does is in test_auto.py, which asks for
    it; a test there asks a fresh process for the default."""
    from kerastrain.config import ModelConfig, RunConfig

    ModelConfig.model_fields["name"].default = "mlp"
    ModelConfig.model_rebuild(force=True)
    RunConfig.model_fields["model"].default = ModelConfig()
    RunConfig.model_fields["explain"].default = 0.0
    RunConfig.model_rebuild(force=True)


@pytest.fixture
def run_python() -> Callable[..., str]:
    """Run code in a fresh process, where nothing is imported yet; gives its stdout."""

    def run(code: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
