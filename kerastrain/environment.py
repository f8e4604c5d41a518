"""Where, with what and how long a run ran: JSON types, without importing TensorFlow."""

import contextlib
import datetime as dt
import importlib.metadata
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from kerastrain.secrets import hide_passwords

__all__ = [
    "Stages",
    "describe",
    "free_memory_bytes",
    "num_threads",
    "resident_bytes",
]

PACKAGES = (
    "kerastrain", "tensorflow", "keras", "numpy", "pandas", "scikit-learn", "duckdb",
    "pyarrow",
)  # fmt: skip
SAMPLE_EVERY_S = 0.05
UNLIMITED_BYTES = 2**60  # cgroup v1 writes about 2**63 where there is no limit


class Stages:
    """Times the stages of a run: `with stages("profile"): ...`

    `records` holds `name`, `seconds` and `peak_memory_bytes` of each stage, in the
    order in which they ended. The peak is the resident memory of this process: exact
    when the stage is the highest so far, else the largest of samples taken every
    50 ms, so that a shorter spike below an earlier peak can be missed. A stage inside
    another counts for both.
    """

    def __init__(self) -> None:
        self.started = dt.datetime.now(dt.UTC)
        self.records: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        before = peak_memory_bytes()
        start_s = time.perf_counter()
        with _Sampler() as sampler:
            try:
                yield
            finally:
                seconds = time.perf_counter() - start_s
                highest = peak_memory_bytes()
                peak = max(sampler.sample(), highest if highest > before else 0)
                self.records.append(
                    {
                        "name": name,
                        "seconds": round(seconds, 3),
                        "peak_memory_bytes": peak,
                    }
                )


class _Sampler:
    """A thread that looks at the resident memory until the block ends."""

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "_Sampler":
        self.sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def sample(self) -> int:
        self.peak = max(self.peak, resident_bytes())
        return self.peak

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_EVERY_S):
            self.sample()


def describe(
    seed: int,
    data_fingerprint: dict[str, Any],
    command: Sequence[str] | str,
    *,
    stages: Stages | None = None,
) -> dict[str, Any]:
    """What `environment.json` holds: enough to know whether a run can be repeated.

    Args:
        stages: of the run; gives when it started and the time of each stage.
    """
    started = stages.started if stages else dt.datetime.now(dt.UTC)
    return {
        "started": started.isoformat(timespec="seconds"),
        "command": hide_passwords(command),
        "seed": seed,
        "data": hide_passwords(data_fingerprint),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cpu": _cpu_model(),
        "cores": _cores(),
        "memory_bytes": _total_memory_bytes(),
        "gpus": _gpus(),
        "git": _git(),
        "peak_memory_bytes": peak_memory_bytes(),
        "stages": list(stages.records) if stages else [],
    }


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def free_memory_bytes() -> int:
    """Memory that can still be taken, within the limit of the container if any."""
    free = psutil.virtual_memory().available
    return max(0, min([free, *(limit - used for limit, used in cgroup_limits())]))


def _total_memory_bytes() -> int:
    total = psutil.virtual_memory().total
    return min([total, *(limit for limit, _ in cgroup_limits())])


def resident_bytes() -> int:
    """Resident memory of this process now."""
    return psutil.Process().memory_info().rss


def _lines(path: Path) -> list[str]:
    """Lines of a file of the system; none where there is no such file."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def cgroup_limits(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> list[tuple[int, int]]:
    """Limit and use in bytes of each cgroup with a limit that this process is in.

    Cached pages of files are not counted as used, because they are given up on demand.
    """
    found = []
    for line in _lines(own):
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            files, base = ("memory.max", "memory.current"), root
        elif "memory" in controllers.split(","):  # version 1
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            base = root / "memory"
        else:
            continue
        inner = base / path.strip("/")
        around = [inner, *inner.parents]
        folders = [folder for folder in around if folder.is_relative_to(base)]
        found += [_limit(folder, *files) for folder in folders]
    return [pair for pair in found if pair is not None]


def _limit(folder: Path, limit_file: str, used_file: str) -> tuple[int, int] | None:
    try:
        limit = (folder / limit_file).read_text().strip()
        used = int((folder / used_file).read_text())
    except (OSError, ValueError):
        return None
    if limit == "max" or int(limit) > UNLIMITED_BYTES:
        return None
    return int(limit), used - _cached_bytes(folder)


def _cached_bytes(folder: Path) -> int:
    for line in _lines(folder / "memory.stat"):
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def num_threads() -> int:
    """That a library may use: the cores there are, or fewer by OMP_NUM_THREADS."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(_cores(), int(asked)) if asked.isdigit() and int(asked) else _cores()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpus() -> list[str]:
    """Names of the GPUs; empty as long as nobody has imported TensorFlow."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return []
    config = tensorflow.config
    devices = config.list_physical_devices("GPU")
    details = [config.experimental.get_device_details(device) for device in devices]
    return [str(detail.get("device_name", "GPU")) for detail in details]


def _git() -> dict[str, Any] | None:
    """Commit of the current folder and whether files differ from it; None outside."""
    commit = _git_says("rev-parse", "HEAD")
    if not commit:
        return None
    changes = _git_says("status", "--porcelain")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git_says(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
