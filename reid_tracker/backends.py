"""Which form of a model runs: its checkpoint in PyTorch, or one made for OpenVINO or ONNX Runtime."""

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from reid_tracker.device import is_cpu, multiplies_bytes
from reid_tracker.errors import UserError
from reid_tracker.offline import own_cache
from reid_tracker.weights import APPEARANCE, BUNDLED_FORMS, DETECTOR, EIGHT_BIT_FORMS, model_hash

logger = logging.getLogger(__name__)

Backend = Literal["auto", "torch", "onnx", "openvino"]

CHECKPOINT = ".safetensors"  # of an appearance network
NAMES = {"torch": "PyTorch", "onnx": "ONNX Runtime", "openvino": "OpenVINO"}


def detector_form(model: str | Path | None, backend: Backend = "auto", device: str = "auto") -> Path:
    """Find or make the form of a detector that is to run.

    Parameters
    ----------
    model : str or Path, optional
        As `YoloDetector` takes it; without it the bundled detector.
    backend : {"auto", "torch", "onnx", "openvino"}
        What runs it. Automatic is OpenVINO for the bundled checkpoint on a CPU, and for any other what its file is
        made for.
    device : str
        "auto" or a torch device.

    Returns
    -------
    Path
        For `YoloDetector`. What is converted is kept in the user's cache folder, and converted once.

    Raises
    ------
    UserError
        If the model cannot be found or converted, or does not go together with the backend or the device.
    """
    from reid_tracker.detection.yolo import find_model

    path = find_model(model) if model else DETECTOR
    endings = {"onnx": ".onnx", "openvino": "_openvino_model"}

    def export(kind: str, file: Path) -> Path:
        from reid_tracker.detection.export import export_detector

        return export_detector(path, file, kind)

    return _form(path, backend, device, export, endings)


def appearance_form(model: str | Path | None, backend: Backend = "auto", device: str = "auto") -> Path:
    """Find or make the form of an appearance network that is to run; the same for `Embedder`."""
    path = Path(model).expanduser() if model else APPEARANCE

    def export(kind: str, file: Path) -> Path:
        from reid_tracker.appearance.export import convert_model

        return convert_model(path, file, kind)

    return _form(path, backend, device, export, {"onnx": ".onnx", "openvino": ".xml"})


def _form(
    path: Path, backend: Backend, device: str, export: Callable[[str, Path], Path], endings: dict[str, str]
) -> Path:
    made_for = _made_for(path)
    if backend == "auto":
        ready = _bundled(path, "openvino")
        if not is_cpu(device):
            return path
        if ready is None:
            if path.suffix == CHECKPOINT and path.is_file() and importlib.util.find_spec("openvino") is not None:
                logger.warning("%s runs in PyTorch; --backend openvino takes a fraction of the time", path.name)
            return path
        if importlib.util.find_spec("openvino") is None:
            logger.warning("without OpenVINO this takes several times as long; pip install openvino")
            return path
        return ready
    if backend == made_for:
        return path
    if made_for != "torch":
        raise UserError(f"{path}: made for {NAMES[made_for]}; give its checkpoint, or leave out --backend {backend}.")
    if device != "auto" and not is_cpu(device):
        raise UserError(f"--backend {backend} runs on the CPU; leave out the device {device!r}, or use torch.")
    if (ready := _bundled(path, backend)) is not None:
        return ready
    if not path.is_file():
        raise UserError(f"{path}: no such model file.")
    kept = own_cache() / f"{path.stem}-{model_hash(path)[:12]}{endings[backend]}"
    if not kept.exists():
        logger.warning("converting %s for %s, once; it is kept as %s", path.name, NAMES[backend], kept)
        try:
            export(backend, kept)
        except OSError as error:
            raise UserError(f"{kept}: cannot be written ({error.strerror or error}); use --backend torch.") from error
    return kept


def _bundled(path: Path, backend: str) -> Path | None:
    """The form that comes with the package and is fastest on this processor, if there is any."""
    if (path, backend) in EIGHT_BIT_FORMS and multiplies_bytes():
        return EIGHT_BIT_FORMS[path, backend]
    return BUNDLED_FORMS.get((path, backend))


def _made_for(path: Path) -> str:
    if path.suffix == ".onnx":
        return "onnx"
    return "openvino" if path.suffix == ".xml" or path.name.endswith("_openvino_model") else "torch"
