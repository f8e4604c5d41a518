"""What is measured before a fit: the batch size, the learning rate."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow as tf

from kerastrain.blocks import Blocks
from kerastrain.config import RunConfig
from kerastrain.engine import Engine
from kerastrain.schedules.rate import Rate
from kerastrain.store import read_json, write_json
from kerastrain.training.batchsize import best_batch_size
from kerastrain.training.finder import find_rate
from kerastrain.training.pace import epochs_within

__all__ = ["Settled"]


@dataclass
class Settled:
    """Measured once in a run: for all folds, and for a run that goes on.

    Args:
        path: a file that keeps it; None keeps nothing.
    """

    path: Path | None = None
    found: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path is not None and self.path.is_file():
            self.found = read_json(self.path)

    def batch_size(
        self, wanted: int | str, engine: Engine, blocks_of: Callable[[int], Blocks]
    ) -> int:
        """Of steps over all devices; `auto` is measured with `engine`."""
        if isinstance(wanted, int):
            return wanted
        if "batch_size" not in self.found:
            has_gpu = bool(tf.config.list_logical_devices("GPU"))
            size = best_batch_size(engine, blocks_of, has_gpu=has_gpu)
            self._keep({"batch_size": size})
        return self.found["batch_size"]

    def epochs(
        self,
        wanted: int,
        engine: Engine,
        blocks: Blocks,
        num_validation: int,
        end_s: float,
        least: int = 1,
    ) -> int:
        """Those that are done at `end_s`, measured with `engine`, if not all are.

        Raises:
            OutOfTime: fewer than `least` are.
        """
        if "epochs" not in self.found:
            within = epochs_within(
                engine, blocks, num_validation, wanted, end_s, least=least
            )
            self._keep({"epochs": within})
        return min(wanted, self.found["epochs"])

    def rate(self, engine: Engine, blocks: Blocks, rate: Rate) -> None:
        """Set the peak of `rate`; where none is found it stays."""
        if "rate_curve" not in self.found:
            self._keep({"rate_curve": find_rate(engine, blocks, rate).summary()})
        rate.peak = self.found["rate_curve"]["suggested"] or rate.peak
        engine.retrace()

    def config(self, config: RunConfig) -> RunConfig:
        """With the numbers that were found, so that it repeats the run."""
        changes: dict[str, Any] = {}
        if "batch_size" in self.found:
            changes["fit"] = {"batch_size": self.found["batch_size"]}
        if "epochs" in self.found:
            changes["fit"] = changes.get("fit", {}) | {"epochs": self.found["epochs"]}
        curve = self.found.get("rate_curve")
        if curve is not None:
            changes["fit"] = changes.get("fit", {}) | {"find_rate": False}
            if curve["suggested"]:
                changes["optimizer"] = {"learning_rate": curve["suggested"]}
        parts = {
            name: getattr(config, name).model_copy(update=update)
            for name, update in changes.items()
        }
        return config.model_copy(update=parts)

    @property
    def metrics(self) -> Mapping[str, Any]:
        """For `metrics.json`."""
        return {k: v for k, v in self.found.items() if k == "rate_curve"}

    def _keep(self, more: dict[str, Any]) -> None:
        self.found |= more
        if self.path is not None:
            write_json(self.path, self.found)
