"""Which processor computes, and in which precision."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from reid_tracker.errors import UserError

if TYPE_CHECKING:  # whoever computes without PyTorch need not wait for it to load
    import torch

# Where Linux shows a GPU: of NVIDIA, of AMD, in WSL.
GPU_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def is_cpu(name: str) -> bool:
    """Whether a device's name, or "auto", comes to the processor; PyTorch is only asked where there may be a GPU."""
    if name == "auto" and sys.platform == "linux" and not any(Path(file).exists() for file in GPU_FILES):
        return True
    return name == "cpu" or pick_device(name).type == "cpu"


def pick_device(name: str) -> "torch.device":
    """Turn "auto" or a device's name into a torch device.

    Raises
    ------
    UserError
        If this machine has no such device.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r} is not available here; choose auto or cpu.") from error
    return device


def autocast(device: "torch.device", kind: "torch.dtype", wanted: bool, width: int) -> "torch.autocast":
    """Half precision where it is wanted and right.

    On a CPU PyTorch 2.14 gives other numbers at each call for a strided convolution in bfloat16 on a map 2 pixels wide;
    crops up to 32 pixels wide come to that in every backbone.
    """
    import torch

    return torch.autocast(device.type, kind, enabled=wanted and (device.type != "cpu" or width > 32))
