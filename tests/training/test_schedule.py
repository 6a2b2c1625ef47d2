import numpy as np
import pytest

from reid_tracker.config import ScheduleSettings
from reid_tracker.training.schedule import learning_rate, miner_at


def test_the_rate_warms_up_and_ends_at_zero() -> None:
    settings = ScheduleSettings(epochs=20, warm_up_epochs=4, learning_rate=0.1)
    rates = [learning_rate(epoch, settings) for epoch in np.linspace(0, 20, 81)]
    peak = int(np.argmax(rates))
    assert rates[peak] == pytest.approx(0.1) and peak == 16
    assert all(np.diff(rates[: peak + 1]) > 0) and all(np.diff(rates[peak:]) < 0)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


def test_each_miner_serves_from_its_epoch_to_the_next() -> None:
    miners = {20: "batch_hard", 1: "semi_hard"}
    assert [miner_at(epoch, miners) for epoch in (1, 19, 20, 99)] == [("semi_hard", 1)] * 2 + [("batch_hard", 20)] * 2
    assert miner_at(3, {5: "batch_all"}) == ("batch_all", 1)


def test_the_rate_of_a_short_run_falls_to_zero_too() -> None:
    settings = ScheduleSettings(epochs=4, warm_up_epochs=4, learning_rate=1.0)
    rates = [learning_rate(epoch, settings) for epoch in np.linspace(0, 4, 33)]
    assert max(rates) == rates[16] == pytest.approx(1) and rates[-1] == pytest.approx(0, abs=1e-9)
    longer = ScheduleSettings(epochs=6, warm_up_epochs=4, learning_rate=1.0)  # two added to the four
    assert learning_rate(5, longer, 4) == pytest.approx(1) and learning_rate(6, longer, 4) == pytest.approx(0, abs=1e-9)
