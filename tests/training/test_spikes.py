"""Losses that jump are counted, also where an epoch goes on in the middle."""

import numpy as np
import pytest

from kerastrain.blocks import Blocks
from kerastrain.events import recording
from kerastrain.pipeline import Rows
from kerastrain.training.spikes import Spikes

NUM_CALLS = 20


def blocks_of():
    rows = Rows({}, np.zeros(640), np.ones(640, "float32"), np.arange(640))
    return Blocks(rows, 16, 2, seed=0)


def play(callback, blocks, losses, *, first=0, until=None):
    """The calls of an epoch, with the mean since its start in their logs."""
    blocks.first_block = first
    callback.on_epoch_begin(1)
    for call in range(first, until or len(losses)):
        mean = float(np.mean(losses[: call + 1]))
        callback.on_train_batch_end(call - first, {"loss": mean})
    if until is None:
        callback.on_epoch_end(1)


@pytest.mark.parametrize(
    ("jumps", "expected"),
    [({}, None), ({15: 3.0}, None), ({15: 9.0}, 1), ({12: 9.0, 18: 30.0}, 2)],
)
def test_an_epoch_with_jumps_is_an_event(jumps, expected):
    losses = [jumps.get(call, 1.0) for call in range(NUM_CALLS)]
    blocks = blocks_of()
    with recording() as recorder:
        play(Spikes(blocks), blocks, losses)
    counts = [event.details["count"] for event in recorder.events]
    assert counts == ([] if expected is None else [expected])
    if expected == 2:
        assert "jumped 2 times in epoch 2, to 30 times the usual near step 37" in (
            recorder.events[0].message
        )


def test_a_jump_before_a_crash_is_counted_after_it():
    losses = [9.0 if call == 11 else 1.0 for call in range(NUM_CALLS)]
    blocks = blocks_of()
    before, after = Spikes(blocks), Spikes(blocks)
    play(before, blocks, losses, until=13)
    for name in Spikes.remembered:
        setattr(after, name, getattr(before, name))
    with recording() as recorder:
        play(after, blocks, losses, first=13)
    assert [event.details["count"] for event in recorder.events] == [1]
