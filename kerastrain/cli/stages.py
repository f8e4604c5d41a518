"""Import of the stages that bring TensorFlow, without what it says while it loads."""

import contextlib
import importlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType

__all__ = ["load_stage"]

LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def load_stage(name: str) -> ModuleType:
    """The module `kerastrain.<name>`.

    TensorFlow's own log is kept off the screen, unless the user has set its level.
    """
    name = f"kerastrain.{name}"
    if LEVEL in os.environ:
        return importlib.import_module(name)
    os.environ[LEVEL] = "3"
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with _silent_stderr():
        return importlib.import_module(name)


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Hold back what C++ writes to stderr; after an error it is shown.

    The level alone does not do: what TensorFlow 2.21 says about oneDNN and CUDA on
    import comes before its log is set up, and goes to stderr whatever the level.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
