import math

import pytest
import torch

from reid_tracker.training.collapse import CollapseAlarm, Spread, measure_spread
from reid_tracker.training.distances import pairwise_distance

HEALTHY = Spread(same=0.5, strangers=1.0, relative=1.0, active=0.5)
ALIKE = Spread(same=0.99, strangers=1.0, relative=0.3, active=0.5)


def test_the_spread_of_a_batch() -> None:
    embeddings = torch.tensor([[3.0, 4.0], [3.0, 4.0], [-3.0, 4.0]])
    spread = measure_spread(embeddings, pairwise_distance(embeddings), torch.tensor([1, 1, 2]))
    assert spread == Spread(same=0.0, strangers=6.0, relative=pytest.approx(6 / 5), active=0.0)
    wide = measure_spread(embeddings, pairwise_distance(embeddings), torch.tensor([1, 1, 2]), margin=7.0)
    assert wide.active == 1.0  # both anchors that have a positive
    alone = measure_spread(embeddings, pairwise_distance(embeddings), torch.tensor([1, 1, 1]))
    assert alone.strangers == 0 and math.isfinite(alone.relative)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_shrinking_distances_are_told_once_whatever_the_scale(scale: float) -> None:
    shrunk = Spread(same=0.001 * scale, strangers=0.002 * scale, relative=0.002, active=0.5)
    alarm = CollapseAlarm(margin=0.3, warm_up=1)
    assert alarm.look(0.2, shrunk) is None  # it warms up
    message = alarm.look(0.2, shrunk)
    assert message is not None and "learning_rate" in message and "semi_hard" in message
    assert alarm.look(0.2, shrunk) is None


@pytest.mark.parametrize(("margin", "standstill"), [(0.3, 0.3), (None, math.log(2))])
def test_a_loss_at_its_standstill_is_told_after_five_epochs(margin: float | None, standstill: float) -> None:
    alarm = CollapseAlarm(margin)
    said = [alarm.look(standstill * 1.005, ALIKE) for _ in range(6)]
    assert said[:4] == [None] * 4 and said[4] is not None and said[5] is None
    assert ("ln 2" if margin is None else "margin (0.300)") in said[4]


def test_good_runs_are_left_in_peace() -> None:
    alarm = CollapseAlarm(0.3)
    # A falling loss; one that stands elsewhere; one at the margin, as batch-all's, while people are told apart.
    assert not any(alarm.look(1 / epoch, ALIKE) for epoch in range(1, 30))
    assert not any(alarm.look(0.2, ALIKE) for _ in range(10))
    assert not any(alarm.look(0.3, HEALTHY) for _ in range(10))
    # Four epochs at the margin and out again.
    assert not any(alarm.look(loss, ALIKE) for loss in (0.3, 0.3, 0.3, 0.3, 0.2, 0.3, 0.3, 0.3, 0.3))
