"""Where each file of a run lies, and how it is written: whole or not at all."""

import contextlib
import datetime as dt
import errno
import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kerastrain.errors import ConfigError, RunError, StorageError

__all__ = ["ModelParts", "RunFolder", "atomic"]


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A path to write to, file or folder, that becomes `path` when the block ends well.

    The temporary name keeps the ending, because Keras goes by it. After an error or a
    kill `path` is what it was before.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"Cannot make the folder {path.parent}: {error.strerror}."
        ) from None
    temporary = path.with_name(f".{os.getpid()}.part.{path.name}")
    replaced = path.with_name(f".{os.getpid()}.old.{path.name}")
    _delete(temporary)  # of a killed process that had the same number
    try:
        yield temporary
        temporary.stat()  # before what is there is moved away
        if path.is_dir() or (path.exists() and temporary.is_dir()):
            os.replace(path, replaced)  # a folder takes two steps
        os.replace(temporary, path)
    except Exception as error:
        problem = _disk_problem(error)
        if problem is None:
            raise
        raise StorageError(
            f"Cannot write {path}: {problem}. What was written before is whole. Free "
            "some space, or name another folder with --out."
        ) from error
    finally:
        _delete(temporary)
        _delete(replaced)


# What the libraries under us make of it: h5py tells the number in its text, TensorFlow
# and DuckDB the words.
_DISK_PROBLEMS = {
    errno.ENOSPC: "No space left on device",
    errno.EDQUOT: "Disk quota exceeded",
    errno.EROFS: "Read-only file system",
    errno.EIO: "Input/output error",
}


def _disk_problem(error: Exception) -> str | None:
    """What is wrong with the disk, when that is what the error is about."""
    text = str(error)
    for number, words in _DISK_PROBLEMS.items():
        is_it = isinstance(error, OSError) and error.errno == number
        if is_it or words in text or f"errno = {number}," in text:
            return words[0].lower() + words[1:]
    return None


# Of `atomic`, in a process that was killed.
_LEFT_OVER = re.compile(r"\.\d+\.(part|old)\..*")


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # of a disk that is read-only
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json_text(value, indent=1) + "\n")


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Strict JSON: NaN and infinities become null, numpy scalars plain numbers."""
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy array or scalar
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)  # paths, dates


def read_json(path: Path) -> Any:
    """The value in a file of a run; RunError when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(
            f"{path} is missing: the run was stopped before it was written. "
            "Train again."
        ) from None
    except (OSError, ValueError) as error:
        raise RunError(f"Cannot read {path}: {error}") from error


class ModelParts:
    """Names of the files of a model that is no Keras model as a whole."""

    def __init__(self, path: Path):
        self.front = path / "front.keras"
        self.estimator = path / "estimator.skops"
        self.decision = path / "decision.keras"


class RunFolder:
    """Names of the files of a run. Only this class knows them."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.schema = self.path / "schema.json"
        self.split = self.path / "split.parquet"
        self.metrics = self.path / "metrics.json"
        self.history = self.path / "history.csv"
        self.leaderboard = self.path / "leaderboard.csv"
        self.test_predictions = self.path / "test_predictions.parquet"
        self.resources = self.path / "resources.csv"
        self.events = self.path / "events.jsonl"
        self.environment = self.path / "environment.json"
        self.model = self.path / "model.keras"
        self.model_parts = self.model.with_suffix("")  # see `ModelParts`
        self.golden = self.path / "golden.json"
        self.explanation = self.path / "explanation.json"
        self.background = self.path / "background.parquet"
        self.checkpoints = self.path / "checkpoints"
        self.exports = self.path / "exports"
        self.tensorboard = self.path / "tensorboard"
        self.report = self.path / "report.html"
        self.arrays = self.path / "arrays"
        self.broken_batch = self.path / "diverged_batch.parquet"
        self.settled = self.checkpoints / "settled.json"
        self.request = self.path / "request.json"
        self.lock = self.path / ".lock"

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @classmethod
    def create(cls, out: str | None, *, name: str) -> "RunFolder":
        """A new, empty run folder: `out`, or `runs/<name>-<date>-<time>`.

        Raises:
            ConfigError: `out` holds something already, or cannot be made.
        """
        try:
            path = _made(Path(out).expanduser()) if out else _new_path(name)
            self = cls(path)
            has_files = self.has_work
            if not has_files:  # what a refused configuration leaves may be replaced
                for place in path.iterdir():
                    _delete(place)
        except OSError as error:
            raise ConfigError(
                f"Cannot make the run folder {error.filename}: {error.strerror}."
            ) from None
        if has_files:
            raise ConfigError(
                f"The run folder {path} is not empty. "
                "Name another with --out, or delete it."
            )
        return self

    @property
    def _marks(self) -> list[Path]:
        """What stands there before any work is done."""
        return [self.events, self.request, self.resources, self.lock]

    @property
    def has_work(self) -> bool:
        """Whether there is more than a run leaves that never came to train."""
        early = list(self._marks)
        if self.request.is_file() and not any(self.checkpoints.rglob("*.npz")):
            early += [self.config, self.schema, self.split, self.arrays]
            early += [self.tensorboard, self.checkpoints]
        return any(
            place not in early and not _LEFT_OVER.fullmatch(place.name)
            for place in self.path.iterdir()
        )

    def remove_left_over(self) -> None:
        """What processes that were killed while they wrote have left."""
        for place in [*self.path.rglob(".*")]:
            if _LEFT_OVER.fullmatch(place.name):
                _delete(place)

    @classmethod
    def open(cls, path: Path | str) -> "RunFolder":
        """An existing run folder; RunError when it is none."""
        folder = cls(path)
        if not folder.path.is_dir():
            raise RunError(f"There is no run folder {folder.path}.")
        if not folder.config.is_file():
            raise RunError(f"{folder.path} is not a run folder: it has no config.yaml.")
        return folder


def _made(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _new_path(name: str) -> Path:
    """A folder that did not exist before, also when two runs start in one second."""
    plain = re.sub(r"[^\w.-]+", "_", name).strip("_.") or "run"
    stamp = dt.datetime.now().strftime("%Y%m%d-%H%M%S")
    path, count = Path("runs") / f"{plain}-{stamp}", 1
    while True:
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            if not path.is_dir():  # "runs" itself is a file
                raise
            count += 1
            path = path.with_name(f"{plain}-{stamp}-{count}")
