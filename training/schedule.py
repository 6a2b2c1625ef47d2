"""What changes during a run: the learning rate and the miner."""

import math

from reid_tracker.config import ScheduleSettings


def learning_rate(epoch: float, settings: ScheduleSettings, begun: int = 0) -> float:
    """Linear warm-up to `learning_rate`, for half of a short run, then half a cosine down to zero at the last epoch.

    Where epochs were added to a finished run, `begun` is how many it had: both begin anew from there.
    """
    epoch, epochs = epoch - begun, settings.epochs - begun
    warm = min(settings.warm_up_epochs, epochs / 2)
    if epoch < warm:
        return settings.learning_rate * (0.05 + 0.95 * epoch / warm)
    progress = (epoch - warm) / max(epochs - warm, 1e-9)
    return settings.learning_rate * (1 + math.cos(math.pi * min(progress, 1))) / 2


def miner_at(epoch: int, miners: dict[int, str]) -> tuple[str, int]:
    """Name of the miner in an epoch (counted from 1), and the epoch since which it serves.

    Examples
    --------
    >>> miner_at(20, {1: "semi_hard", 20: "batch_hard"})
    ('batch_hard', 20)
    """
    begun = [start for start in miners if start <= epoch]
    return (miners[max(begun)], max(begun)) if begun else (miners[min(miners)], 1)
