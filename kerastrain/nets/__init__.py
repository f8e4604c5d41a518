"""Layers of the networks, each usable alone; see also `kerastrain.layers`."""
