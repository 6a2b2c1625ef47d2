"""Appearance vectors for the boxes of a frame: cut, one network call, unit rows."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reid_tracker.appearance.exported import SUFFIXES, ExportedNetwork
from reid_tracker.cropping import align_crops, clip_boxes, cut_crops, normalise
from reid_tracker.device import autocast, is_cpu, pick_device
from reid_tracker.errors import UserError
from reid_tracker.tracking.calibration import CosineStatistics
from reid_tracker.weights import APPEARANCE, model_hash

if TYPE_CHECKING:  # exported networks run without PyTorch, which takes seconds to load
    import torch

    from reid_tracker.appearance.network import EmbeddingNetwork


class Embedder:
    """The appearance network, ready for the tracker.

    Parameters
    ----------
    path : Path, optional
        A checkpoint (`save_checkpoint`), or an exported network (.onnx, or .xml of OpenVINO; `ExportedNetwork`);
        without it the bundled checkpoint.
    device : str
        "auto" picks CUDA, then MPS, then the CPU; or a torch device. Exported networks run on the CPU.
    batch : int
        Crops in one network call; a frame with more is done in several, which bounds the memory.

    Attributes
    ----------
    dimension : int
        Length D of a vector.
    header : dict
        The checkpoint's header, with `calibration`.
    input_size : (int, int)
        Height and width of a crop in pixels.
    hash : str
        Identifies the model; vectors of another model are not comparable.
    statistics : CosineStatistics or None
        How alike one person's crops and strangers' are within one camera, by the header; None where it does not say.
    """

    def __init__(self, path: Path | str | None = None, device: str = "auto", batch: int = 256) -> None:
        path = Path(path) if path else APPEARANCE
        self.network: EmbeddingNetwork | ExportedNetwork
        self.device: Any = None
        self.half = False
        if path.suffix in SUFFIXES:
            if device != "auto" and not is_cpu(device):
                raise UserError(f"{path}: exported networks run on the CPU; leave out the device {device!r}.")
            self.network = ExportedNetwork(path)
            self.header, self.hash = self.network.header, self.network.hash
        else:
            import torch

            from reid_tracker.appearance.checkpoint import load_checkpoint
            from reid_tracker.appearance.network import fold_batch_norms

            self.device = pick_device(device)
            network, self.header = load_checkpoint(path, self.device)
            fold_batch_norms(network)
            self.network = network.to(memory_format=torch.channels_last)
            self.hash = model_hash(path)
            self.half = self.device.type != "cpu" or _cpu_is_fast_in_half()
        self.dimension = self.network.dimension
        self.statistics = _read_statistics(path, self.header)
        self.batch = batch
        height, width = self.header["input_size"]
        self.input_size = (int(height), int(width))

    def embed(self, image: np.ndarray, xyxy: np.ndarray) -> np.ndarray:
        """Describe the boxes of a frame.

        Parameters
        ----------
        image : ndarray, uint8 [H, W, 3]
            BGR.
        xyxy : ndarray [N, 4]
            Boxes in pixels, clipped to the frame here.

        Returns
        -------
        ndarray, float32 [N, D]
            Unit rows; NaN for a box that is not finite or lies outside the frame.
        """
        return self.embed_batch([image], [xyxy])[0]

    def embed_batch(self, images: Sequence[np.ndarray], xyxys: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Describe the boxes of several frames in one call of the network; else as `embed`."""
        cropped, embeddings, usables = [], [], []
        for image, xyxy in zip(images, xyxys, strict=True):
            boxes, usable = clip_boxes(xyxy, *image.shape[:2])
            embeddings.append(np.full((len(boxes), self.dimension), np.nan, dtype=np.float32))
            usables.append(usable)
            if usable.any():
                cropped.append(self._cut(image, boxes[usable]))
        if cropped:
            if isinstance(cropped[0], np.ndarray):
                vectors = self.describe(np.concatenate(cropped))
            else:
                import torch

                vectors = self.describe(torch.cat(cropped))
            ends = np.cumsum([np.count_nonzero(usable) for usable in usables])[:-1]
            for rows, usable, part in zip(embeddings, usables, np.split(vectors, ends), strict=True):
                rows[usable] = part
        return embeddings

    def _cut(self, image: np.ndarray, boxes: np.ndarray) -> Any:
        """Crops of a frame, where the network computes."""
        if self.device is None or self.device.type == "cpu":
            return cut_crops(image, boxes, self.input_size)
        import torch

        return align_crops(torch.from_numpy(np.ascontiguousarray(image)).to(self.device), boxes, self.input_size)

    def describe(self, crops: "np.ndarray | torch.Tensor") -> np.ndarray:
        """Describe crops of the network's `input_size`, uint8 or float [N, H, W, 3]: unit rows, float32 [N, D]."""
        if not len(crops):
            return np.zeros((0, self.dimension), dtype=np.float32)
        if isinstance(self.network, ExportedNetwork):
            starts = range(0, len(crops), self.batch)
            return np.concatenate([self.network(np.asarray(crops[start : start + self.batch])) for start in starts])
        import torch

        return embed_crops(
            self.network, torch.as_tensor(crops), self.header["mean"], self.header["std"], self.batch, self.half
        )


def _read_statistics(path: Path, header: dict[str, Any]) -> CosineStatistics | None:
    """Cosines within one camera, by the header's calibration."""
    within_camera = header.get("calibration", {}).get("same_camera")
    try:
        return CosineStatistics.read(within_camera) if within_camera else None
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{path}: its calibration is not that of a checkpoint of this package; train it anew."
        ) from error


def embed_crops(
    network: "EmbeddingNetwork",
    crops: "torch.Tensor",
    mean: Sequence[float],
    std: Sequence[float],
    batch: int = 256,
    half: bool = False,
) -> np.ndarray:
    """Describe crops that have the network's input size already.

    Parameters
    ----------
    network : EmbeddingNetwork
        In evaluation mode.
    crops : Tensor, uint8 or float [N, H, W, 3]
        BGR, 0..255, on any device.
    mean, std : sequence of 3 floats
        As in the checkpoint's header.
    batch : int
        Crops in one network call.
    half : bool
        Compute the backbone in half precision.

    Returns
    -------
    ndarray, float32 [N, D]
        Unit rows.
    """
    import torch

    device = network.neck.weight.device
    kind = torch.bfloat16 if device.type == "cpu" else torch.float16
    parts = []
    with torch.inference_mode(), autocast(device, kind, half, crops.shape[2]):
        for part in crops.split(batch):
            parts.append(network(normalise(part.to(device), mean, std)).cpu())
    return torch.cat(parts).numpy() if parts else np.zeros((0, network.dimension), dtype=np.float32)


def _cpu_is_fast_in_half() -> bool:
    """Whether the processor itself computes in bfloat16; where it does not, that is emulated and slow."""
    import torch

    capabilities: Callable[[], dict[str, object]] = getattr(torch.cpu, "get_capabilities", dict)  # not in older torch
    return bool(capabilities().get("avx512_bf16", False))
