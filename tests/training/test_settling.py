"""What is measured before a fit is measured once in a run."""

import pytest

from kerastrain.config import parse_config
from kerastrain.schedules.rate import Rate
from kerastrain.training import settling
from kerastrain.training.finder import RateCurve
from kerastrain.training.settling import Settled


@pytest.fixture
def measured(monkeypatch):
    """How often something was measured."""
    calls = []

    def size(engine, blocks_of, *, has_gpu):
        calls.append("size")
        return 256

    def rate(engine, blocks, rate):
        calls.append("rate")
        return RateCurve([1e-3, 1e-2], [2.0, 1.0], 0.02)

    monkeypatch.setattr(settling, "best_batch_size", size)
    monkeypatch.setattr(settling, "find_rate", rate)
    return calls


class Engine:
    def retrace(self):
        pass


def settle(settled):
    rate = Rate(1e-3, lambda step: step * 0 + 1)
    settled.rate(Engine(), None, rate)
    return settled.batch_size("auto", None, None), rate.peak


def test_a_run_that_goes_on_does_not_measure_again(tmp_path, measured):
    path = tmp_path / "settled.json"
    assert settle(Settled(path)) == settle(Settled(path)) == (256, 0.02)
    assert measured == ["rate", "size"]


def test_a_number_that_is_set_is_not_measured(measured):
    assert Settled().batch_size(64, None, None) == 64
    assert measured == []


def test_the_configuration_then_holds_what_was_found(measured):
    settled = Settled()
    config = {"target": "y", "fit": {"batch_size": "auto", "find_rate": True}}
    settle(settled)
    found = settled.config(parse_config(config))
    assert (found.fit.batch_size, found.fit.find_rate) == (256, False)
    assert found.optimizer.learning_rate == 0.02
    assert settled.metrics["rate_curve"]["suggested"] == 0.02
    assert Settled().config(found) == found
