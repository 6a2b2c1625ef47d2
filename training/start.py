"""Where a network starts from: ImageNet weights of its backbone, or a checkpoint of this package."""

from pathlib import Path
from typing import Any

import torch

from reid_tracker.appearance.checkpoint import load_checkpoint
from reid_tracker.appearance.network import EmbeddingNetwork
from reid_tracker.config import NetworkSettings
from reid_tracker.errors import UserError


def adopt_start(settings: NetworkSettings, path: Path | None) -> NetworkSettings:
    """Settings with what they leave open taken from the start: a checkpoint's stride and size, or the usual ones."""
    stride, size = 2, (128, 64)
    if path is not None and path.suffix == ".safetensors":
        network, header = load_checkpoint(path)
        height, width = header["input_size"]
        stride, size = int(network.settings["last_stride"] or stride), (int(height), int(width))
    found = {"last_stride": settings.last_stride or stride, "input_size": settings.input_size or size}
    return settings.model_copy(update=found)


def load_start(network: EmbeddingNetwork, path: Path) -> None:
    """Fill a network with starting weights, in place.

    Parameters
    ----------
    network : EmbeddingNetwork
        The network to train.
    path : Path
        A checkpoint of this package (.safetensors): all of the network. Or ImageNet weights of its backbone (a .pth or
        .pt file of plain tensors, RGB input). These are matched in their order, not by name: every published
        implementation of a network lists the same layers in the same order, each under its own names. Those after the
        backbone's last, the classifier, are left out.

    Raises
    ------
    UserError
        If the file is no such file or is of another network.
    """
    if path.suffix == ".safetensors":
        source = load_checkpoint(path)[0]
        # The last stride has no weights: a network may start at 2, where it is fast, and go on at 1.
        changed = [
            key for key, value in network.settings.items() if key != "last_stride" and source.settings[key] != value
        ]
        if changed:
            wanted = ", ".join(f"network.{key}: {source.settings[key]}" for key in changed)
            raise UserError(f"{path}: a start for {wanted} only; set that, or start from something else.")
        network.load_state_dict(source.state_dict())
        return
    values = [value for name, value in load_tensors(path).items() if not name.endswith("num_batches_tracked")]
    target = network.backbone.state_dict()
    names = [name for name in target if not name.endswith("num_batches_tracked")]
    if len(values) < len(names) or any(
        target[name].shape != getattr(value, "shape", None) for name, value in zip(names, values, strict=False)
    ):
        raise UserError(f"{path}: not the weights of {network.settings['backbone']}; its layers have other shapes.")
    loaded = dict(zip(names, values, strict=False))
    loaded[names[0]] = loaded[names[0]].flip(1)  # the first layer learned RGB, our frames are BGR
    network.backbone.load_state_dict({**target, **loaded})


def load_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a file of named tensors.

    Raises
    ------
    UserError
        If it is none.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)  # tensors only: nothing is run from the file
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file of weights; the network of this package is called bundled.") from error
    except Exception as error:  # a file of another make raises one of a dozen kinds
        raise UserError(f"{path}: not a readable file of weights ({type(error).__name__}).") from error
    if not isinstance(state, dict):
        raise UserError(f"{path}: not a file of named weights.")
    return state
