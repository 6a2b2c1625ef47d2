"""An exported YOLO run by OpenVINO itself: no PyTorch to load, and the picture is prepared inside the graph."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from reid_tracker.device import openvino_settings
from reid_tracker.offline import silence_runtimes

GREY = 114  # what YOLO is trained to see beside the picture
OVERLAP = 0.7  # IoU from which the weaker of two boxes of one class is dropped; ultralytics' own default
MOST = 300  # boxes of a frame
SHAPES = 4  # compiled networks kept, one for each shape of frame, unless told of more


def read_metadata(folder: Path) -> dict[str, Any] | None:
    """What an ..._openvino_model folder says of itself; None if it is not a plain detector that this module runs."""
    try:
        metadata = yaml.safe_load((folder / "metadata.yaml").read_text(encoding="utf-8"))
        plain = metadata["task"] == "detect" and not metadata.get("end2end") and metadata.get("channels", 3) == 3
        nms = (metadata.get("args") or {}).get("nms")
        height, width = metadata["imgsz"]
        known = {"names": dict(metadata["names"]), "stride": int(metadata["stride"]), "size": (int(height), int(width))}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return None
    dynamic = bool((metadata.get("args") or {}).get("dynamic"))
    return {**known, "dynamic": dynamic} if plain and not nms and len(list(folder.glob("*.xml"))) == 1 else None


class OpenVinoYolo:
    """Picture in, boxes out; the same boxes as ultralytics gives for the same file.

    Parameters
    ----------
    folder : Path
        As ultralytics exports it (`read_metadata` knows it).
    confidence : float
        Weaker boxes are dropped.
    image_size : int, optional
        Longer side of the network's input, px; by default the exported one. Only a dynamic export can change it.

    Attributes
    ----------
    names : dict of int to str
        All classes of the model.
    stride : int
    dynamic : bool
        Whether ``size`` may be changed at any time.
    size : (int, int)
        Height and width of the input, px; a dynamic export pads no further than the frame needs.
    classes : list of int, optional
        The classes to find; None = all.
    shapes : int
        Compiled networks kept; of more shapes of frame the one unused for longest is compiled anew when it comes again.
    """

    def __init__(self, folder: Path, confidence: float, image_size: int | None = None) -> None:
        metadata = read_metadata(folder)
        assert metadata is not None
        self.names: dict[int, str] = metadata["names"]
        self.stride: int = metadata["stride"]
        self.size: tuple[int, int] = metadata["size"]
        self.classes: list[int] | None = None
        self.dynamic, self._confidence = metadata["dynamic"], confidence
        if image_size is not None and self.dynamic:
            self.size = (-(-image_size // self.stride) * self.stride,) * 2
        silence_runtimes()
        import openvino

        self._openvino, self._core = openvino, openvino.Core()
        self._file = next(folder.glob("*.xml"))
        self._networks: dict[tuple[int, int], Any] = {}  # the one used last comes last
        self.shapes = SHAPES
        self._core.read_model(self._file)  # a fault shows before the video starts

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Find boxes.

        Parameters
        ----------
        image : ndarray, uint8 [H, W, 3]
            BGR.

        Returns
        -------
        ndarray, float32 [N, 6]
            xyxy in px of the image, confidence, class; by falling confidence.
        """
        picture, scale, left, top = self._letterbox(image)
        network = self._network(picture.shape[:2])
        output = network(picture[None])[0][0]  # [4 + classes, places]: centre, size and the scores of each
        scores = output[4:] if self.classes is None else output[4:][self.classes]
        best = scores.argmax(axis=0) if len(scores) > 1 else np.zeros(scores.shape[1], dtype=np.int64)
        confidence = scores[best, np.arange(scores.shape[1])]
        sure = np.flatnonzero(confidence > self._confidence)
        confidence = confidence[sure]
        classes = best[sure] if self.classes is None else np.array(self.classes)[best[sure]]
        centre, size = output[:2, sure].T, output[2:4, sure].T
        corner = centre - size / 2
        kept = cv2.dnn.NMSBoxesBatched(
            np.concatenate([corner, size], axis=1).astype(float).tolist(),
            confidence.astype(float).tolist(),
            classes.tolist(),
            self._confidence,
            OVERLAP,
        )
        rows = np.array(kept, dtype=np.int64).reshape(-1)
        rows = rows[np.argsort(-confidence[rows], kind="stable")][:MOST]
        boxes = (np.concatenate([corner, corner + size], axis=1)[rows] - [left, top, left, top]) / scale
        height, width = image.shape[:2]
        boxes = np.clip(boxes, 0, [width, height, width, height])
        return np.concatenate([boxes, confidence[rows, None], classes[rows, None]], axis=1).astype(np.float32)

    def batch(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The boxes of several pictures, one after another."""
        return [self(image) for image in images]

    def _letterbox(self, image: np.ndarray) -> tuple[np.ndarray, float, int, int]:
        """Scale and pad as ultralytics does: the picture, its scale, and what was added left and above."""
        height, width = image.shape[:2]
        scale = min(self.size[0] / height, self.size[1] / width)
        inner_width, inner_height = round(width * scale), round(height * scale)
        missing_width, missing_height = self.size[1] - inner_width, self.size[0] - inner_height
        if self.dynamic:
            missing_width, missing_height = missing_width % self.stride, missing_height % self.stride
        left, top = round(missing_width / 2 - 0.1), round(missing_height / 2 - 0.1)
        if (height, width) != (inner_height, inner_width):
            image = cv2.resize(image, (inner_width, inner_height), interpolation=cv2.INTER_LINEAR)
        if missing_width or missing_height:
            right, bottom = missing_width - left, missing_height - top
            image = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(GREY, GREY, GREY))
        return image, scale, left, top

    def _network(self, shape: tuple[int, int]) -> Any:
        """The network compiled for pictures of one shape.

        With whole numbers OpenVINO 2026 crashes on dynamic shapes where the processor multiplies matrices (AMX), and
        for fixed ones it plans memory better.
        """
        network = self._networks.pop(shape, None)
        if network is None:
            from openvino.preprocess import ColorFormat, PrePostProcessor

            model = self._core.read_model(self._file)
            model.reshape([1, 3, *shape])
            prepare = PrePostProcessor(model)
            tensor = prepare.input().tensor()
            tensor.set_element_type(self._openvino.Type.u8).set_layout(self._openvino.Layout("NHWC"))
            tensor.set_color_format(ColorFormat.BGR)
            prepare.input().model().set_layout(self._openvino.Layout("NCHW"))
            prepare.input().preprocess().convert_element_type(self._openvino.Type.f32)
            prepare.input().preprocess().convert_color(ColorFormat.RGB).scale(255.0)
            network = self._core.compile_model(prepare.build(), "CPU", openvino_settings())
            if len(self._networks) >= self.shapes:
                del self._networks[next(iter(self._networks))]
        self._networks[shape] = network
        return network
