"""Which processor computes, and in which precision."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_tracker.errors import UserError

if TYPE_CHECKING:  # PyTorch is not loaded where it is not needed
    import torch

# Where Linux shows a GPU: of NVIDIA, of AMD, in WSL.
GPU_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


_CPU_AVX_512VNNI = 23  # in OpenCV's enumeration CpuFeatures, which Python does not name

_share = 0  # threads of this process's networks; 0: all of the machine's


def share_processor(threads: int) -> None:
    """Let the networks that this process loads from now on compute with so many threads: others work beside it."""
    import cv2

    global _share
    _share = threads
    cv2.setNumThreads(threads)


def openvino_settings(threads: int = 0) -> dict[str, Any]:
    """How OpenVINO is to compile a network: for one picture at a time, with so many threads (0: all there are)."""
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if threads or _share:
        settings["INFERENCE_NUM_THREADS"] = threads or _share
    if _share:
        settings["ENABLE_CPU_PINNING"] = False  # every process would choose the same cores
    return settings


def multiplies_bytes() -> bool:
    """Whether the processor has AVX-512 VNNI, which makes networks in 8-bit whole numbers faster than in float16."""
    import cv2

    return bool(cv2.checkHardwareSupport(_CPU_AVX_512VNNI))


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


def bring(batch: "torch.Tensor", device: "torch.device") -> "torch.Tensor":
    """Take a batch to the device; on CUDA the copy runs beside the work before it."""
    if device.type != "cuda":
        return batch.to(device)
    return batch.pin_memory().to(device, non_blocking=True)


def autocast(device: "torch.device", kind: "torch.dtype", wanted: bool, width: int) -> "torch.autocast":
    """Half precision where it is wanted and right.

    On a CPU PyTorch 2.14 gives other numbers at each call for a strided convolution in bfloat16 on a map 2 pixels wide;
    crops up to 32 pixels wide come to that in every backbone.
    """
    import torch

    return torch.autocast(device.type, kind, enabled=wanted and (device.type != "cpu" or width > 32))
