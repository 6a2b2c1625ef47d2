"""The collapse alarm: a network that maps everyone to one point has a low loss and no use."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reid_tracker.training.mining import batch_hard

_SHRUNK = 0.01  # strangers this close, as a share of the length of the vectors
_STUCK_EPOCHS = 5
_STUCK = 0.01  # relative distance of the loss from the value at which it stands when all distances are equal


@dataclass(frozen=True, slots=True)
class Spread:
    """How far apart a batch lies.

    Attributes
    ----------
    same, strangers : float
        Mean distance of two crops of one person, and of two people, in the loss's own metric.
    relative : float
        Mean Euclidean distance of two people as a share of the mean length of the vectors, 0..2.
    active : float
        Share of the crops whose farthest other crop of the same person is not yet nearer, by the margin, than their
        nearest stranger, 0..1: where it is zero, there is nothing left to learn from triplets.
    """

    same: float
    strangers: float
    relative: float
    active: float


@torch.no_grad()
def measure_spread(embeddings: Tensor, distance: Tensor, identities: Tensor, margin: float | None = None) -> Spread:
    """Spread of a batch: embeddings [B, D], their distances [B, B], identities [B] and the loss's margin."""
    same = identities[:, None] == identities
    strangers, same = ~same, same.fill_diagonal_(False)
    length = embeddings.norm(dim=1).mean().clamp_min(1e-30)
    apart = torch.cdist(embeddings.float(), embeddings.float())
    hardest = batch_hard(distance, identities)
    wrong = distance[hardest.anchor, hardest.positive] + (margin or 0) > distance[hardest.anchor, hardest.negative]
    active = float(wrong.float().mean()) if len(wrong) else 0.0
    return Spread(_mean(distance, same), _mean(distance, strangers), _mean(apart / length, strangers), active)


def _mean(values: Tensor, chosen: Tensor) -> float:
    return float(values[chosen].mean()) if bool(chosen.any()) else 0.0


@dataclass(slots=True)
class CollapseAlarm:
    """Watches one run, an epoch at a time, and speaks up once for each of its two signs.

    Parameters
    ----------
    margin : float or None
        Margin of the triplet loss; None is the soft margin, whose loss is ln 2 where all distances are equal.
    warm_up : float
        Epochs in which it keeps quiet.
    """

    margin: float | None
    warm_up: float = 0
    _epoch: int = 0
    _stuck: int = 0
    _told: set[str] = field(default_factory=set)

    def look(self, loss: float, spread: Spread) -> str | None:
        """Take in the mean loss and spread of an epoch; return a sentence with the remedy when something is wrong."""
        self._epoch += 1
        standstill = math.log(2) if self.margin is None else self.margin
        # Solved batches can stand near the margin too (batch-all drops what it solved): then people are separated.
        alike = spread.same >= 0.9 * spread.strangers
        stands = standstill > 0 and abs(loss - standstill) <= _STUCK * standstill and alike
        self._stuck = self._stuck + 1 if stands else 0
        if self._epoch <= self.warm_up:
            return None
        if spread.relative < _SHRUNK:
            return self._tell(
                "shrunk",
                f"strangers lie {spread.relative:.1e} of a vector's length apart: the network maps everyone to one "
                "point. Lower schedule.learning_rate, and begin with the miner semi_hard or batch_all instead of "
                "batch_hard.",
            )
        if self._stuck >= _STUCK_EPOCHS:
            name = "ln 2" if self.margin is None else "its margin"
            return self._tell(
                "stuck",
                f"the loss has stood at {name} ({standstill:.3f}) for {self._stuck} epochs, as if all distances were "
                "equal. Begin with the miner semi_hard or batch_all instead of batch_hard, lower "
                "schedule.learning_rate, and look for crops under a wrong identity.",
            )
        return None

    def _tell(self, sign: str, message: str) -> str | None:
        if sign in self._told:
            return None
        self._told.add(sign)
        return message
