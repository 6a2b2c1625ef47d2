"""From the settings' names to a loss: which distance, which formula, which miner."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from reid_tracker.appearance.network import check_new_name
from reid_tracker.config import LossSettings
from reid_tracker.errors import UserError
from reid_tracker.training.batch_all import batch_all_loss
from reid_tracker.training.distances import pairwise_distance
from reid_tracker.training.hierarchical import ClassTree, hierarchical_triplet_loss
from reid_tracker.training.losses import (
    centroid_bound_loss,
    constellation_loss,
    contrastive_loss,
    quadruplet_loss,
    triplet_loss,
)
from reid_tracker.training.mining import Triplets, batch_hard, distance_weighted, semi_hard
from reid_tracker.training.offline_mining import BANDS

T = TypeVar("T")

_SEMI_HARD_BAND = 0.2  # FaceNet's, where the soft margin gives none
_SLACK = 0.1  # of the hierarchical triplet loss, by its paper


class Classes(NamedTuple):
    """What some losses know about all identities of the training set.

    Attributes
    ----------
    centroids : Tensor, float32 [C, D], optional
        For the loss centroid.
    tree : ClassTree, optional
        For the loss hierarchical, renewed every epoch.
    """

    centroids: Tensor | None = None
    tree: ClassTree | None = None


class Batch(NamedTuple):
    """A batch as a loss sees it.

    Attributes
    ----------
    embeddings : Tensor [B, D]
        Of unit length if the settings want it.
    distance : Tensor [B, B]
        Between them, in the settings' metric.
    identities : Tensor, int [B]
        Who each row is, 0 to C - 1.
    generator : torch.Generator or None
        Source of chance, in step in all processes.
    """

    embeddings: Tensor
    distance: Tensor
    identities: Tensor
    generator: torch.Generator | None


MINERS: dict[str, Callable[[Batch, LossSettings], Triplets]] = {
    "batch_hard": lambda batch, settings: batch_hard(batch.distance, batch.identities),
    "semi_hard": lambda batch, settings: semi_hard(
        batch.distance, batch.identities, settings.margin or _SEMI_HARD_BAND
    ),
    "distance_weighted": lambda batch, settings: distance_weighted(
        batch.distance, batch.identities, batch.embeddings.shape[1], settings.metric, batch.generator
    ),
}

LOSSES: dict[str, Callable[[Batch, LossSettings, Classes], Tensor]] = {
    "quadruplet": lambda batch, settings, classes: quadruplet_loss(
        batch.distance, batch.identities, settings.margin, None if settings.margin is None else settings.margin / 2
    ),
    "contrastive": lambda batch, settings, classes: contrastive_loss(
        batch.distance, batch.identities, settings.margin or 0.0
    ),
    "constellation": lambda batch, settings, classes: constellation_loss(
        batch.embeddings, batch.identities, generator=batch.generator
    ),
    "centroid": lambda batch, settings, classes: centroid_bound_loss(
        batch.embeddings, batch.identities, _known(classes.centroids)
    ),
    "hierarchical": lambda batch, settings, classes: hierarchical_triplet_loss(
        batch.distance, batch.identities, _known(classes.tree), _SLACK if settings.margin is None else settings.margin
    ),
}

OFFLINE = {f"offline_{band.replace('-', '_')}": band for band in BANDS}


def loss_names() -> tuple[str, ...]:
    """All names that `loss.name` may have."""
    return ("triplet", *LOSSES)


def miner_names() -> tuple[str, ...]:
    """All names that `loss.miner` may have."""
    return ("batch_all", *MINERS, *OFFLINE)


def register_loss(name: str, loss: Callable[[Batch, LossSettings, Classes], Tensor]) -> None:
    """Make a loss of one's own known to `train`, as `loss.name`.

    Parameters
    ----------
    name : str
        Letters, digits and underscores; not that of another loss.
    loss : callable
        Gets a `Batch`, the settings of the loss, and what is known of all identities; returns a scalar with a gradient
        to the batch's embeddings or its distances.

    Raises
    ------
    UserError
        If the name is taken or impossible.
    """
    check_new_name("loss", name, loss_names())
    LOSSES[name] = loss


def register_miner(name: str, miner: Callable[[Batch, LossSettings], Triplets]) -> None:
    """Make a miner of one's own known to `train`, as `loss.miner`, for the loss triplet.

    Parameters
    ----------
    name : str
        Letters, digits and underscores; not that of another miner.
    miner : callable
        Gets a `Batch` without gradients and the settings of the loss; returns `Triplets`, rows of the batch. What it
        draws it draws from the batch's generator, so that a resumed run repeats it.

    Raises
    ------
    UserError
        If the name is taken or impossible.
    """
    check_new_name("miner", name, miner_names())
    MINERS[name] = miner


def _known(value: T | None) -> T:
    assert value is not None  # the trainer fills in what the settings' loss needs
    return value


def check_names(settings: LossSettings) -> None:
    """Raise UserError if a name in the settings is not known, or two of them do not go together."""
    miners = set(settings.miner.values())
    if settings.name not in loss_names():
        raise UserError(f"loss.name {settings.name!r} is not known; choose among {', '.join(loss_names())}.")
    for name in miners - set(miner_names()):
        raise UserError(f"loss.miner {name!r} is not known; choose among {', '.join(miner_names())}.")
    if not miners or min(settings.miner) < 1:
        raise UserError("loss.miner needs the first epoch (1 or later) of at least one miner, such as {1: batch_hard}.")
    if settings.name == "contrastive" and not settings.margin:
        raise UserError("the loss contrastive needs loss.margin, the distance from which strangers are let be.")
    if settings.name == "hierarchical" and not (settings.unit_length and settings.metric == "squared_euclidean"):
        raise UserError(
            "the loss hierarchical needs loss.unit_length: true and loss.metric: squared_euclidean, the units of its "
            "tree."
        )
    if "distance_weighted" in miners and not (settings.unit_length or settings.metric == "cosine"):
        raise UserError("the miner distance_weighted is made for the unit sphere; set loss.unit_length: true.")


def metric_loss(
    embeddings: Tensor,
    identities: Tensor,
    settings: LossSettings,
    miner: str | Triplets,
    classes: Classes,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Loss of a batch on its distances.

    Parameters
    ----------
    embeddings : Tensor [B, D]
        f_t of the network, of all processes.
    identities : Tensor, int [B]
        Who each row is, 0 to C - 1.
    settings : LossSettings
        Formula, distance and margin.
    miner : str or Triplets
        For the loss triplet: one of `miner_names`, or triplets that were mined offline.
    classes : Classes
        What the settings' loss needs of it.
    generator : torch.Generator, optional
        Source of chance, in step in all processes.

    Returns
    -------
    loss : Tensor, scalar
    distance : Tensor [B, B]
    """
    if settings.unit_length:
        embeddings = functional.normalize(embeddings)
    distance = pairwise_distance(embeddings, settings.metric)
    if settings.name != "triplet":
        return LOSSES[settings.name](Batch(embeddings, distance, identities, generator), settings, classes), distance
    if miner == "batch_all":
        return batch_all_loss(distance, identities, settings.margin)[0], distance
    if isinstance(miner, str):
        miner = MINERS[miner](Batch(embeddings.detach(), distance.detach(), identities, generator), settings)
    return triplet_loss(distance, miner, settings.margin), distance
