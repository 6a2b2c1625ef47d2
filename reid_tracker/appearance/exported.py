"""Networks as ONNX and OpenVINO files: those of `export_model`, and other people's to compare with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reid_tracker.device import openvino_settings
from reid_tracker.errors import UserError
from reid_tracker.offline import silence_runtimes
from reid_tracker.reading import parse_json
from reid_tracker.weights import model_hash

SUFFIXES = (".onnx", ".xml")


class ExportedNetwork:
    """A network from a file: pictures in, unit rows out.

    Parameters
    ----------
    path : Path
        .onnx, or .xml with its .bin beside it. One picture input, BGR 0..255, [N, 3, H, W] or [N, H, W, 3], uint8 or
        float32; the first output is the vectors. A file of another origin has no header and may fix N at 1.
    threads : int, optional
        Processor threads; default: as many as the runtime thinks best.
    exact : bool
        Compute in float32 even where OpenVINO would choose bfloat16, which is faster and loses nothing that matters.

    Attributes
    ----------
    dimension : int
        Length D of a vector.
    header : dict
        The checkpoint's header; of a file of another origin only `input_size`.
    hash : str
        That of the checkpoint, since the vectors are the same; of a file of another origin the file's own.

    Raises
    ------
    UserError
        If the file is missing or cannot be read, its input is no picture, or the library that runs it is missing.
    """

    def __init__(self, path: Path, threads: int | None = None, exact: bool = False) -> None:
        if not path.is_file():
            raise UserError(f"{path}: no such model file.")
        load = _load_onnx if path.suffix == ".onnx" else _load_openvino
        self._run, shape, kind, header = load(path, threads or 0, exact)
        self._rows_last = len(shape) == 4 and shape[3] == 3
        size = shape[1:3] if self._rows_last else shape[2:]
        if (
            len(shape) != 4
            or 3 not in (shape[1], shape[3])
            or not all(isinstance(side, int) and side > 0 for side in size)
        ):
            raise UserError(f"{path}: its input {shape} is no batch of pictures, [N, 3, H, W] or [N, H, W, 3].")
        self._batch = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else None
        self._kind = np.uint8 if "u8" in kind or "uint8" in kind else np.float32
        try:
            self.header: dict[str, Any] = parse_json(header) if header else {"input_size": list(size)}
            self.hash = self.header.get("exported_from") or model_hash(path)
        except (ValueError, AttributeError) as error:
            raise UserError(f"{path}: its header is none of reid-tracker; export it again.") from error
        self.dimension = self(np.zeros((1, *size, 3), dtype=np.uint8)).shape[1]

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """Describe crops, uint8 [N, H, W, 3] in BGR: unit rows, float32 [N, D]."""
        pictures = np.ascontiguousarray(crops if self._rows_last else crops.transpose(0, 3, 1, 2), dtype=self._kind)
        step = self._batch or max(len(pictures), 1)
        parts = [self._run_padded(pictures[start : start + step], step) for start in range(0, len(pictures), step)]
        rows = np.concatenate(parts).reshape(len(pictures), -1) if parts else np.zeros((0, self.dimension), np.float32)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)

    def _run_padded(self, pictures: np.ndarray, batch: int) -> np.ndarray:
        """Run fewer pictures than a fixed batch."""
        missing = batch - len(pictures)
        filled = (
            np.concatenate([pictures, np.zeros((missing, *pictures.shape[1:]), self._kind)]) if missing else pictures
        )
        return self._run(filled)[: len(pictures)]


# Runs a batch, shape of the input, its type, the header (JSON; empty where there is none)
_Loaded = tuple[Callable[[np.ndarray], np.ndarray], list[Any], str, str]


def _load_onnx(path: Path, threads: int, exact: bool) -> _Loaded:
    silence_runtimes()
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f'{path}: running ONNX needs onnxruntime; pip install "reid-tracker[onnx]".') from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has an exception of its own per failure
        raise UserError(f"{path}: not a readable ONNX file ({str(error).splitlines()[0]}).") from error
    entry, output = session.get_inputs()[0], session.get_outputs()[0].name
    header = session.get_modelmeta().custom_metadata_map.get("header", "")
    return lambda pictures: session.run([output], {entry.name: pictures})[0], entry.shape, entry.type, header


def _load_openvino(path: Path, threads: int, exact: bool) -> _Loaded:
    silence_runtimes()
    try:
        import openvino
    except ImportError as error:
        raise UserError(f'{path}: running it needs openvino; pip install "reid-tracker[openvino]".') from error
    try:
        core = openvino.Core()
        model = core.read_model(path)
        entry = model.inputs[0]
        shape = [-1, *list(entry.partial_shape)[1:]]
        model.reshape({entry: openvino.PartialShape(shape)})
        settings = openvino_settings(threads)
        compiled = core.compile_model(model, "CPU", settings | ({"INFERENCE_PRECISION_HINT": "f32"} if exact else {}))
    except RuntimeError as error:
        if not path.with_suffix(".bin").is_file() and b"<net" in path.read_bytes()[:200]:
            raise UserError(f"{path}: its weights, {path.with_suffix('.bin').name}, are not beside it.") from error
        raise UserError(f"{path}: not a readable OpenVINO model ({str(error).splitlines()[0]}).") from error
    header = model.get_rt_info(["reid_tracker"]).astype(str) if model.has_rt_info(["reid_tracker"]) else ""
    sides: list[Any] = [
        side if isinstance(side, int) else side.get_length() if side.is_static else None for side in shape
    ]
    return lambda pictures: compiled(pictures)[0], sides, entry.element_type.get_type_name(), header
