"""How well a network tells people apart that it was not trained on."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from reid_tracker.appearance.embedder import embed_crops
from reid_tracker.appearance.network import EmbeddingNetwork
from reid_tracker.config import NetworkSettings
from reid_tracker.crop_sets.crops import CropSet
from reid_tracker.evaluation.retrieval import evaluate_retrieval, similarity_statistics, stranger_tail
from reid_tracker.tracking.calibration import COVERED_SHARES, LEAST_QUALITY
from reid_tracker.training.augment import cover

# So many crops are covered to measure what is left of them.
COVERED_CROPS = 200


def measure(network: EmbeddingNetwork, crops: CropSet, images: Tensor, settings: NetworkSettings) -> dict[str, Any]:
    """Retrieval figures and calibration.

    Parameters
    ----------
    network : EmbeddingNetwork
        It is left in evaluation mode.
    crops : CropSet
        People it was not trained on.
    images : Tensor, uint8 [N, H, W, 3]
        Its pictures (`load_images`).
    settings : NetworkSettings
        For the normalisation.

    Returns
    -------
    dict
        `rank1`, `rank5`, `mAP`, `mINP` (0..1) and `calibration` (`similarity_statistics`, and
        `stranger_tail` and `quality_covered` in its `same_camera` where there are people enough). For the
        calibration, crops whose camera is not known count as seen by one camera: they mostly come from one video.
    """
    network.eval()
    embeddings = embed_crops(network, images, settings.mean, settings.std)
    query, gallery = crops.query, ~crops.query
    figures = evaluate_retrieval(
        embeddings[query],
        embeddings[gallery],
        crops.identities[query],
        crops.identities[gallery],
        crops.cameras_apart[query],
        crops.cameras_apart[gallery],
    )
    calibration: dict[str, Any] = similarity_statistics(embeddings, crops.identities, crops.cameras)
    if "same_camera" in calibration:
        calibration["same_camera"] |= stranger_tail(embeddings, crops.identities, crops.cameras)
        calibration["same_camera"] |= quality_covered(network, crops, images, embeddings, settings)
    return {**figures.as_dict(), "calibration": calibration}


def quality_covered(
    network: EmbeddingNetwork, crops: CropSet, images: Tensor, embeddings: np.ndarray, settings: NetworkSettings
) -> dict[str, list[float]]:
    """What crops are still worth of which other people cover a part, coming in from a side or from below.

    Parameters
    ----------
    network, crops, images, settings
        As `measure` takes them.
    embeddings : ndarray, float32 [N, D]
        Unit rows of the crops as they are.

    Returns
    -------
    dict
        `covered`: for each of `COVERED_SHARES`, how much more such crops are like their own person's others than like
        strangers, as a share of what whole crops are, `LEAST_QUALITY` or more (`AppearanceCalibration.quality`). Empty
        where no one has two crops, or there is one person only.
    """
    who, count = np.unique(crops.identities, return_counts=True)
    if len(who) < 2 or count.max() < 2:
        return {}
    random, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    rows = np.flatnonzero(np.isin(crops.identities, who[count > 1]))
    rows = random.permutation(rows)[:COVERED_CROPS]
    front = np.array([random.choice(np.flatnonzero(crops.identities != crops.identities[row])) for row in rows])
    own = crops.identities[rows, None] == crops.identities
    other = own & (rows[:, None] != np.arange(len(own.T)))
    behind, before = (images[torch.as_tensor(each)].permute(0, 3, 1, 2) for each in (rows, front))
    side = torch.randint(3, (len(rows),), generator=generator)
    lead = []
    for share in COVERED_SHARES:
        covered = cover(behind, before, side, torch.full((len(rows),), share), torch.zeros(len(rows)))
        vectors = embed_crops(network, covered.permute(0, 2, 3, 1).contiguous(), settings.mean, settings.std)
        cosine = vectors @ embeddings.T
        lead.append(cosine[other].mean() - cosine[~own].mean())
    worth = np.clip(np.array(lead) / max(lead[0], 1e-6), LEAST_QUALITY, 1.0)
    worth = np.minimum.accumulate(worth)  # never more for more that is hidden
    return {"covered": [round(float(each), 3) for each in worth]}
