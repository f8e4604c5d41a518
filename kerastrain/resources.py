"""What a run takes of the machine over its time, in a file: CPU, memory, disk, GPU."""

import contextlib
import csv
import importlib
import io
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import psutil

from kerastrain.environment import free_memory_bytes
from kerastrain.store import write_text

__all__ = ["COLUMNS", "ResourceSampler"]

COLUMNS = (
    "seconds", "stage", "cpu_percent", "resident_bytes", "available_bytes",
    "read_bytes", "written_bytes", "gpu_percent", "gpu_bytes",
)  # fmt: skip


class ResourceSampler:
    """A thread that appends a row to a CSV file until the block ends.

    A row is written in one piece, so that after a kill all of them are whole. After
    each `rows_per_pace` rows the time between rows doubles: three days are 14,000 rows
    (1 MB) where half an hour has one per second. In a file that is there already the
    rows, and their time, go on.

    Set `stage` to what goes on; its end has a row of its own. Set `has_devices` once
    TensorFlow has set up the GPUs: asking for their memory sets them up, and no setting
    could be changed after that.

    A row takes 0.6 ms of CPU time: with one a second 0.06 % of a core.

    Args:
        path: of the file.
        every_s: seconds between rows at first.
        rows_per_pace: rows after which rows become rarer.
    """

    def __init__(self, path: Path, every_s: float = 1.0, *, rows_per_pace: int = 1_800):
        self.path = path
        self.every_s = every_s
        self.rows_per_pace = rows_per_pace
        self.has_devices = False
        self._stage = ""
        self._lock = threading.Lock()
        self.num_rows = 0
        self._process = psutil.Process()
        self._gpu_percent = _gpu_meter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def stage(self) -> str:
        return self._stage

    @stage.setter
    def stage(self, name: str) -> None:
        if self._stage and self._thread.is_alive():
            with contextlib.suppress(OSError):
                self._add_row()
        self._stage = name

    @property
    def wait_s(self) -> float:
        """Seconds between rows by now."""
        return self.every_s * 2 ** (self.num_rows // self.rows_per_pace)

    def __enter__(self) -> Self:
        before_s = self._continue()
        self._start_s = time.monotonic() - before_s
        self._process.cpu_percent()  # the first call has nothing to compare with
        self._read_before, self._written_before = self._io()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._add_row()

    def _run(self) -> None:
        # What cannot be written, on a full disk, is told by what needs it more.
        with contextlib.suppress(OSError):
            while not self._stop.wait(self.wait_s):
                self._add_row()

    def _continue(self) -> float:
        """Seconds at which an earlier process left the file; a new one has a head."""
        lines = _whole_lines(self.path)
        if lines[:1] != [",".join(COLUMNS)]:
            write_text(self.path, ",".join(COLUMNS) + "\n")
            return 0.0
        write_text(self.path, "\n".join(lines) + "\n")
        self.num_rows = len(lines) - 1
        return float(lines[-1].partition(",")[0]) if self.num_rows else 0.0

    def _add_row(self) -> None:
        with self._lock:
            line = io.StringIO()
            csv.writer(line, lineterminator="\n").writerow(self._row())
            with self.path.open("ab", buffering=0) as file:
                file.write(line.getvalue().encode())
            self.num_rows += 1

    def _row(self) -> list[Any]:
        read, written = self._io()
        return [
            round(time.monotonic() - self._start_s, 2),
            self._stage,
            round(self._process.cpu_percent(), 1),
            self._process.memory_info().rss,
            free_memory_bytes(),
            read - self._read_before,
            written - self._written_before,
            self._gpu_percent(),
            _gpu_bytes() if self.has_devices else None,
        ]

    def _io(self) -> tuple[int, int]:
        """Bytes read from and written to disks; 0 where the system does not tell."""
        with contextlib.suppress(psutil.Error, AttributeError, OSError):
            counters = self._process.io_counters()
            return counters.read_bytes, counters.write_bytes
        return 0, 0


def _whole_lines(path: Path) -> list[str]:
    """Lines that end; a power cut may leave half a one."""
    if not path.is_file():
        return []
    return path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]


def _gpu_bytes() -> int | None:
    """What TensorFlow holds on all GPUs; None without any."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return None
    config = tensorflow.config
    num_gpus = len(config.list_physical_devices("GPU"))
    if not num_gpus:
        return None
    names = [f"GPU:{number}" for number in range(num_gpus)]
    infos = [config.experimental.get_memory_info(name) for name in names]
    return sum(info["current"] for info in infos)


def _gpu_meter() -> Callable[[], float | None]:
    """Gives the use of the GPUs in percent, their mean; None without `nvidia-ml-py`."""
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
        handles = [
            nvml.nvmlDeviceGetHandleByIndex(index)
            for index in range(nvml.nvmlDeviceGetCount())
        ]
    except Exception:  # no package, no driver, no GPU: all of them are none
        return lambda: None

    def percent() -> float | None:
        with contextlib.suppress(nvml.NVMLError):  # a driver may not tell
            rates = [nvml.nvmlDeviceGetUtilizationRates(one).gpu for one in handles]
            return sum(rates) / len(rates) if rates else None
        return None

    return percent
