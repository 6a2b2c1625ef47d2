"""How well a network tells people apart that it was not trained on."""

from typing import Any

from torch import Tensor

from reid_tracker.appearance.embedder import embed_crops
from reid_tracker.appearance.network import EmbeddingNetwork
from reid_tracker.config import NetworkSettings
from reid_tracker.evaluation.retrieval import evaluate_retrieval, similarity_statistics, stranger_tail
from reid_tracker.training.datasets import CropSet


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
        `stranger_tail` in its `same_camera` where there are people enough). For the
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
    calibration = similarity_statistics(embeddings, crops.identities, crops.cameras)
    if "same_camera" in calibration:
        calibration["same_camera"] |= stranger_tail(embeddings, crops.identities, crops.cameras)
    return {**figures.as_dict(), "calibration": calibration}
