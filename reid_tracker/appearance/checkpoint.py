"""Checkpoints of the appearance network: safetensors with a JSON header in their metadata. Nothing is unpickled."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from reid_tracker.appearance.network import EmbeddingNetwork
from reid_tracker.errors import UserError
from reid_tracker.reading import parse_json

FORMAT = "reid_tracker.appearance/1"
LARGEST = 1000.0  # of a mean or deviation: pixels lie in 0 to 1


def save_checkpoint(path: Path, network: EmbeddingNetwork, header: dict[str, Any], half: bool = False) -> None:
    """Write a network; an older file at `path` is replaced only once the new one is whole.

    Parameters
    ----------
    path : Path
        Where to write (.safetensors).
    network : EmbeddingNetwork
        What to store.
    header : dict
        What JSON can hold. `load_checkpoint` needs `input_size` ([H, W] in pixels), `mean` and `std` (BGR, scale 0..1);
        `calibration`, `training`, `figures` and `licence` are carried along. `format` and `network` are filled in here.
    half : bool
        Store float16: half the size, and no loss of accuracy that retrieval notices.
    """
    path = Path(path)
    header = {**header, "format": FORMAT, "network": network.settings}
    tensors = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    if half:
        tensors = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
    unfinished = path.with_name(path.name + ".part")
    save_file(tensors, unfinished, metadata={"header": json.dumps(header, sort_keys=True)})
    unfinished.chmod(0o644)  # safetensors makes files that only their owner can read
    unfinished.replace(path)


def load_checkpoint(path: Path, device: str | torch.device = "cpu") -> tuple[EmbeddingNetwork, dict[str, Any]]:
    """Read a network.

    Returns
    -------
    network : EmbeddingNetwork
        In evaluation mode, float32, on `device`.
    header : dict
        As `save_checkpoint` wrote it.

    Raises
    ------
    UserError
        If the file is missing, is no safetensors file, has no header of this package, or its weights do not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such model file.")
    try:
        with safe_open(path, framework="pt") as file:
            header = parse_json((file.metadata() or {}).get("header", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping, no iteration
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}).") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UserError(f"{path}: not an appearance model of reid-tracker; train one or use the bundled model.")
    missing = [key for key in ("network", "input_size", "mean", "std") if key not in header]
    if missing:
        raise UserError(f"{path}: its header lacks {', '.join(missing)}; the file is damaged, fetch or train it again.")
    try:
        _check_header(header)
        network = EmbeddingNetwork(**header["network"])
        expected = network.state_dict()
        for name in expected.keys() & tensors.keys():
            if tensors[name].is_floating_point() != expected[name].is_floating_point():
                raise ValueError(f"{name} is of another kind of number")
            if not torch.isfinite(tensors[name]).all():
                raise ValueError(f"{name} holds what is no number")
        network.load_state_dict(tensors)
        network.float().eval()
        with torch.inference_mode():
            length = network(torch.linspace(-2, 2, 3 * 64 * 32).reshape(1, 3, 64, 32)).norm()
        if not (torch.isfinite(length) and length > 0):
            raise ValueError("it gives no vectors")
    except (TypeError, ValueError, RuntimeError, OverflowError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: its weights do not fit its header ({reason}); fetch or train it again.") from error
    return network.to(device), header


def _check_header(header: dict[str, Any]) -> None:
    """Raise a ValueError or TypeError about what no input of a network is."""
    height, width = header["input_size"]
    if not (
        isinstance(height, int) and isinstance(width, int) and 8 <= min(height, width) <= max(height, width) <= 1024
    ):
        raise ValueError(f"input_size {header['input_size']}")
    for name in ("mean", "std"):
        values = [float(each) for each in header[name]]
        least = -LARGEST if name == "mean" else 1 / LARGEST
        if len(values) != 3 or not all(least <= each <= LARGEST for each in values):  # NaN is neither
            raise ValueError(f"{name} {header[name]}")
