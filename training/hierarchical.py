"""Hierarchical triplet loss: classes that look alike are told apart with a margin of their own (Ge et al. 2018)."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import squareform
from torch import Tensor
from torch.nn import functional

from reid_tracker.training.batch_all import batch_all_loss

FARTHEST = 4.0  # squared distance between opposite points of the unit sphere


class ClassTree(NamedTuple):
    """How alike the classes are to the network that made the embeddings; in squared Euclidean distances on the sphere.

    Attributes
    ----------
    classes : Tensor, int64 [C]
        Identities, ascending.
    distance : Tensor, float32 [C, C]
        Mean between their embeddings; batches are filled with classes and their nearest ones by it.
    merged_at : Tensor, float32 [C, C]
        Threshold of the level of the tree at which two classes become one node.
    spread : Tensor, float32 [C]
        Mean within each class; for a class of one row, the mean spread of the others.
    """

    classes: Tensor
    distance: Tensor
    merged_at: Tensor
    spread: Tensor


@torch.no_grad()
def build_class_tree(embeddings: Tensor, identities: Tensor, levels: int = 16) -> ClassTree:
    """Merge classes whose mean distance is below a threshold that rises from level to level.

    With d_0 the mean spread, the threshold of level l of L is d_0 + l (4 - d_0) / L; checked, like the margin of
    `hierarchical_triplet_loss`, against two accounts of the paper. The paper merges nodes "recursively" without saying
    how far apart two nodes are; here it is the mean over their classes (average linkage).

    Parameters
    ----------
    embeddings : Tensor [N, D]
        Of the training set, by the current network; the paper renews the tree every epoch.
    identities : Tensor, int [N]
        Who each row is.
    levels : int
        L.

    Returns
    -------
    ClassTree
        On the device of `embeddings`. Memory and time go with N D + C^2 D, not with N^2.
    """
    unit = functional.normalize(embeddings.float())
    classes, label, size = identities.unique(return_inverse=True, return_counts=True)
    mean = torch.zeros(len(classes), unit.shape[1], device=unit.device).index_add_(0, label, unit) / size[:, None]
    # On the sphere |a - b|^2 = 2 - 2 ab, so the class means hold all the sums over pairs.
    distance = (2 - 2 * mean @ mean.T).clamp_(0, FARTHEST).fill_diagonal_(0)
    spread = (2 - 2 * mean.square().sum(1)).clamp_min(0) * size / (size - 1).clamp(min=1)
    several = size > 1
    start = spread[several].mean() if several.any() else spread.new_zeros(())
    spread = torch.where(several, spread, start)

    between = distance.cpu().double().numpy()
    joined = np.zeros_like(between)
    if len(classes) > 1:
        joined = squareform(cophenet(linkage(squareform((between + between.T) / 2), "average")))
    threshold = float(start) + np.arange(levels + 1) * (FARTHEST - float(start)) / levels
    level = np.searchsorted(threshold, joined, side="right").clip(max=levels)  # the first threshold above
    merged_at = torch.from_numpy(threshold[level]).to(unit)
    return ClassTree(classes, distance, merged_at, spread)


def hierarchical_triplet_loss(distance: Tensor, identities: Tensor, tree: ClassTree, slack: float = 0.1) -> Tensor:
    """Half the mean, over all triplets, of max(d(a, p) - d(a, n) + margin, 0), with a margin for each pair of classes.

    The margin is slack + (threshold at which the classes of a and n merge) - (spread of the class of a): negatives of
    a far class are sent far away, those of a near class only as far as the tree has them.

    Parameters
    ----------
    distance : Tensor [B, B]
        Squared Euclidean distances of unit embeddings: the units of the tree.
    identities : Tensor, int [B]
        Who each row is; all of them among `tree.classes`.
    tree : ClassTree
        Of the whole training set, on the same device.
    slack : float
        The paper's beta.

    Returns
    -------
    Tensor, scalar
        Zero, with zero gradients, if there is no triplet.
    """
    label = torch.searchsorted(tree.classes, identities)
    margin = slack + tree.merged_at[label[:, None], label] - tree.spread[label][:, None]
    loss, active = batch_all_loss(distance, identities, margin.to(distance.dtype))
    return loss * active / 2
