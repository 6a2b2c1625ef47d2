"""A YOLO checkpoint in another runtime's form, by ultralytics' own exporter."""

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

from reid_tracker.detection.yolo import errors_about
from reid_tracker.offline import import_ultralytics, process_unchanged


def export_detector(checkpoint: Path, output: Path, format: str, calibrate_on: Path | None = None) -> Path:
    """Export a YOLO for frames of any size.

    Parameters
    ----------
    checkpoint : Path
        .pt.
    output : Path
        Where to write: a file .onnx, or a folder whose name ends in _openvino_model.
    format : {"onnx", "openvino"}
        What runs it.
    calibrate_on : Path, optional
        OpenVINO only: compute in 8-bit whole numbers, their ranges taken from the validation frames of this data.yaml
        (as ultralytics reads it).

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    UserError
        If the checkpoint is no YOLO, or a library is missing.
    """
    options: dict[str, Any] = {"format": format, "dynamic": True, "device": "cpu", "verbose": False}
    if format == "openvino" and calibrate_on is None:
        options["half"] = True  # of the file: half its size; OpenVINO computes in what the processor does best
    if format == "onnx":
        options["simplify"] = False  # needs another package, for a graph that the runtime simplifies itself
    if calibrate_on is not None:
        options |= {"int8": True, "data": str(calibrate_on)}
    output.parent.mkdir(parents=True, exist_ok=True)
    # Ultralytics writes beside the checkpoint, which may be where one must not write.
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".export-") as folder:
        copy = Path(shutil.copy(checkpoint, folder))
        with process_unchanged(), errors_about(checkpoint), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            written = Path(import_ultralytics().YOLO(copy).export(**options))
        for about in written.glob("metadata.yaml"):  # where the frames lay is private
            about.write_text(about.read_text().replace(str(calibrate_on), Path(calibrate_on or "").name))
        if output.is_dir():
            shutil.rmtree(output)
        written.rename(output)
    return output
