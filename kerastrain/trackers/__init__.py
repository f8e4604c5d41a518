"""Where training is watched. A tracker is one file here and one line in `TRACKERS`."""

from kerastrain.registry import Registry

__all__ = ["TRACKERS"]

TRACKERS = Registry(
    "tracker", {"tensorboard": "kerastrain.trackers.tensorboard:TensorBoard"}
)
