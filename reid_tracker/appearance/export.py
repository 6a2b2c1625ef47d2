"""Write an appearance network as ONNX or OpenVINO, whole numbers (int8) if wanted, and check what was written."""

import json
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reid_tracker.appearance.checkpoint import load_checkpoint
from reid_tracker.appearance.exported import ExportedNetwork
from reid_tracker.appearance.network import EmbeddingNetwork, fold_batch_norms
from reid_tracker.errors import UserError
from reid_tracker.inputs import Inputs
from reid_tracker.offline import silence_runtimes
from reid_tracker.ownership import claim
from reid_tracker.weights import model_hash
from reid_tracker.writing import check_writable

FORMATS = {"onnx": ".onnx", "openvino": ".xml"}

# Largest difference of a float export's vectors from torch's, and least cosine (mean over the crops) of an int8 one's.
FLOAT_TOLERANCE, INT8_COSINE = 1e-3, 0.95

_CALIBRATION_PEOPLE, _CALIBRATION_CROPS = 100, 300


class _Pixels(nn.Module):
    """The network with the normalisation inside: crops go in as they are, uint8 [N, H, W, 3] in BGR."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: EmbeddingNetwork, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("scale", 1 / (255 * torch.tensor(std)))
        self.register_buffer("shift", -torch.tensor(mean) / torch.tensor(std))

    def forward(self, crops: Tensor) -> Tensor:
        return self.network((crops.float() * self.scale + self.shift).permute(0, 3, 1, 2))


def export_model(
    checkpoint: Path | str,
    output: Path | str,
    format: str = "onnx",
    int8: bool = False,
    data: Sequence[str] = (),
    *,
    overwrite: bool = False,
) -> Path:
    """Export a checkpoint for `Embedder`; the file carries the checkpoint's header and takes any number of crops.

    Parameters
    ----------
    checkpoint : Path
        As `save_checkpoint` writes it.
    output : Path
        Where to write; the format's suffix is put on where it is missing. OpenVINO writes a .bin beside its .xml.
    format : {"onnx", "openvino"}
        What runs it: ONNX Runtime or OpenVINO.
    int8 : bool
        OpenVINO only: compute in 8-bit whole numbers, a quarter of the size and faster on processors with such
        instructions. Their ranges are taken from crops of `data`.
    data : sequence of str
        Sets of crops to calibrate int8 on, as `read_crops` takes them: what the network was trained on, never test
        data.
    overwrite : bool
        Replace an existing file of any origin; without it only an earlier export.

    Returns
    -------
    Path
        The .onnx or .xml file.

    Raises
    ------
    UserError
        If the checkpoint cannot be read, a library is missing, int8 has no data or another format, or the export's
        vectors are not the network's: float within 1e-3, int8 with a mean cosine of 0.95; or if the file is an input,
        or another program's.
    """
    output = Path(output)
    if format in FORMATS and output.suffix != FORMATS[format]:
        output = output.with_name(output.name + FORMATS[format])
    check_writable(output)
    files = [output, output.with_suffix(".bin")] if format == "openvino" else [output]
    sets = [re.sub(r"\[\d*:\d*\]$", "", each) for each in data]
    with claim(files, Inputs({"checkpoint": [checkpoint], "data": sets}), ["export"], overwrite) as claimed:
        written = convert_model(checkpoint, output, format, int8, data, lambda file: claimed.begin(file, grows=False))
        claimed.complete()
    return written


def convert_model(
    checkpoint: Path | str,
    output: Path,
    format: str,
    int8: bool = False,
    data: Sequence[str] = (),
    place: Callable[[Path], Path] = lambda file: file,
) -> Path:
    """Do the work of `export_model`, without asking whose the file is; ``place`` says where each is written."""
    if format not in FORMATS:
        raise UserError(f"format {format!r} is not known; choose one of {', '.join(FORMATS)}.")
    if int8 and format != "openvino":
        raise UserError("int8 is for OpenVINO (--format openvino); ONNX Runtime takes longer over it than over float.")
    if int8 and not data:
        raise UserError("int8 needs crops to calibrate on; name the training data (--data).")
    checkpoint = Path(checkpoint)
    network, header = load_checkpoint(checkpoint)
    fold_batch_norms(network)
    model = _Pixels(network, header["mean"], header["std"]).eval()
    height, width = header["input_size"]
    header = {**header, "exported_from": model_hash(checkpoint), "precision": "int8" if int8 else "float"}
    crops = _calibration_crops(data, (height, width)) if int8 else _noise(height, width)

    # Written aside, checked, and only then moved to its place.
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".export-") as folder:
        written = Path(folder) / output.name
        _write(model, crops, written, header, int8)
        _check(ExportedNetwork(written, exact=True)(crops), model, crops, int8)
        for file in sorted(Path(folder).glob(f"{output.stem}.*")):  # .bin before .xml
            file.replace(place(output.parent / file.name))
    return output


def _noise(height: int, width: int) -> np.ndarray:
    """Pictures of the right size for tracing and checking, uint8 [4, H, W, 3]."""
    return np.random.default_rng(0).integers(0, 256, (4, height, width, 3), dtype=np.uint8)


def _calibration_crops(data: Sequence[str], size: tuple[int, int]) -> np.ndarray:
    """Random crops of the sets, uint8 [N, H, W, 3]."""
    # Here, not above: the run time never imports training.
    from reid_tracker.crop_sets.crops import join_crops, load_images
    from reid_tracker.crop_sets.layouts import read_crops

    random = np.random.default_rng(0)
    crops = join_crops([read_crops(source) for source in data])
    people = random.permutation(np.unique(crops.identities))[:_CALIBRATION_PEOPLE]
    return random.permutation(load_images(crops.select(people), size))[:_CALIBRATION_CROPS]


def _write(model: _Pixels, crops: np.ndarray, path: Path, header: dict[str, Any], int8: bool) -> None:
    silence_runtimes()
    try:
        import onnx
    except ImportError as error:
        raise UserError(f'exporting needs {error.name}; pip install "reid-tracker[export]".') from error
    graph = path.with_suffix(".onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.from_numpy(crops[:2]),),
            graph,
            input_names=["crops"],
            output_names=["embeddings"],
            dynamo=False,  # the newer exporter gives the same vectors, needs another package and takes 20 times as long
            dynamic_axes={"crops": {0: "count"}, "embeddings": {0: "count"}},
        )
    text = json.dumps(header, sort_keys=True)
    if path.suffix == ".onnx":
        converted = onnx.load(graph)
        onnx.helper.set_model_props(converted, {"header": text})
        onnx.save(converted, graph)
    else:
        _write_openvino(graph, crops, path, text, int8)
        graph.unlink()


def _write_openvino(graph: Path, crops: np.ndarray, path: Path, header: str, int8: bool) -> None:
    try:
        import openvino

        if int8:
            import nncf
    except ImportError as error:
        raise UserError(f'exporting needs {error.name}; pip install "reid-tracker[export]".') from error
    model = openvino.convert_model(graph)
    if int8:
        logging.getLogger("nncf").setLevel(logging.ERROR)
        # Convolutions only: what follows them is no work, and pooling's powers cost more accuracy than all of them.
        head = ["Power", "ReduceMean", "MatMul", "Multiply", "Divide"]
        model = nncf.quantize(
            model,
            nncf.Dataset([{"crops": crops[start : start + 10]} for start in range(0, len(crops), 10)]),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(types=head, validate=False),
            # Processors without VNNI add up products of 8 bits in 16: weights of 7 bits never overflow there.
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
        )
    model.set_rt_info(header, ["reid_tracker"])
    openvino.save_model(model, path)


def _check(rows: np.ndarray, model: _Pixels, crops: np.ndarray, int8: bool) -> None:
    with torch.inference_mode():
        expected = torch.cat([model(part) for part in torch.from_numpy(crops).split(64)]).numpy()
    if int8:
        cosine = float((rows * expected).sum(axis=1).mean())
        if not cosine >= INT8_COSINE:
            raise UserError(f"int8 strays too far from the network (mean cosine {cosine:.3f}); export it as float.")
    elif not np.abs(rows - expected).max() <= FLOAT_TOLERANCE:
        raise UserError(
            f"the export's vectors differ from the network's by {np.abs(rows - expected).max():.1e}; another version "
            "of torch or of the exporting library may do better."
        )
