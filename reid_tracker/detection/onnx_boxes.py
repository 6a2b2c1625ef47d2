"""Detectors of any make as plain ONNX: what goes in and comes out is all that is asked of them.

Two kinds are known, by the names of their outputs. Both take one picture, float32 [1, 3, H, W] or [3, H, W], RGB.

- ``boxes`` [N, 4], ``scores`` [N], ``labels`` [N], as torchvision's detectors are exported: boxes xyxy in px of the
  input, which is the picture with values from 0 to 1; where its size is fixed, the picture is scaled to fit the upper
  left.
- ``dets`` [1, N, 4], ``labels`` [1, N, C], as RF-DETR is exported: boxes as centre and size in shares of the input, and
  a logit for each class; the input is the whole picture squeezed to the network's size, with ImageNet's mean and
  deviation taken out.

Classes have the names in the file's metadata (``names``: JSON, number to name); without it COCO's own numbers, in which
a person is 1.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.offline import silence_runtimes
from reid_tracker.reading import parse_json

Values = tuple[float, float, float]
TORCHVISION, RF_DETR = {"boxes", "scores", "labels"}, {"dets", "labels"}
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PERSON = 1  # COCO's own number; without metadata the others are called by theirs
CLASSES, MOST = 91, 300  # in COCO's own numbers; boxes of a frame


def open_session(path: Path) -> Any | None:
    """Open an ONNX file that is a detector of these kinds; None for others, such as ultralytics' own exports."""
    silence_runtimes()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    outputs = {each.name for each in session.get_outputs()}
    return session if outputs >= TORCHVISION or outputs >= RF_DETR else None


class OnnxBoxes:
    """Picture in, boxes out.

    Parameters
    ----------
    path : Path
        For messages.
    session : onnxruntime.InferenceSession
        From `open_session`.
    confidence : float
        Weaker boxes are dropped.

    Attributes
    ----------
    names : dict of int to str
        All classes of the model.
    size : (int, int)
        Height and width of the input, px; 0 where it takes any.
    stride, dynamic
        As `OpenVinoYolo` has them: the size is the model's own.
    classes : list of int, optional
        The classes to find; None = all.

    Raises
    ------
    UserError
        If its input is not one picture, or its names cannot be read.
    """

    stride, dynamic = 1, False

    def __init__(self, path: Path, session: Any, confidence: float) -> None:
        self._session, self._confidence = session, confidence
        self._outputs = [each.name for each in session.get_outputs()]
        self._is_detr = set(self._outputs) >= RF_DETR
        inputs = session.get_inputs()
        shape = list(inputs[0].shape)
        if len(inputs) != 1 or len(shape) not in (3, 4) or shape[-3] not in (3, "3") or "float" not in inputs[0].type:
            raise UserError(f"{path}: takes no picture of float32 [1, 3, H, W]; export it with this one input.")
        self._input, self._is_batch = inputs[0].name, len(shape) == 4
        height, width = (each if isinstance(each, int) and each > 0 else 0 for each in shape[-2:])
        self.size: tuple[int, int] = (height, width)
        if self._is_detr and not (height and width):
            raise UserError(f"{path}: its input has no size of its own; export it with a fixed one.")
        text = session.get_modelmeta().custom_metadata_map.get("names")
        try:
            known = {int(number): str(name) for number, name in parse_json(text).items()} if text else {}
        except (ValueError, AttributeError) as error:
            raise UserError(f"{path}: its names are not JSON, number to name.") from error
        self.names = known or {number: "person" if number == PERSON else str(number) for number in range(CLASSES)}
        self.classes: list[int] | None = None

    def batch(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Boxes of pictures uint8 [H, W, 3], BGR: float32 [N, 6], xyxy in px, confidence, class; the surest first."""
        return [self._detect(image) for image in images]

    def _detect(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        if self._is_detr:
            squeezed = cv2.resize(image.astype(np.float32), self.size[::-1])  # not rounded, as RF-DETR itself
            found = self._of_detr(self._run(squeezed, MEAN, DEVIATION))
            found[:, :4] *= [width, height, width, height]
        else:
            picture, scale = self._fitted(image)
            outputs = self._run(picture)
            columns = [outputs[name].reshape(-1, size) for name, size in (("boxes", 4), ("scores", 1), ("labels", 1))]
            found = np.concatenate(columns, axis=1).astype(np.float32)
            found[:, :4] /= scale
        found[:, :4] = np.clip(found[:, :4], 0, [width, height, width, height])
        wanted = found[:, 4] > self._confidence
        wanted &= np.isin(found[:, 5], list(self.names) if self.classes is None else self.classes)
        found = found[wanted]
        return found[np.argsort(-found[:, 4], kind="stable")][:MOST]

    def _fitted(self, image: np.ndarray) -> tuple[np.ndarray, float]:
        """The picture in an input of a fixed size, and its scale there."""
        height, width = self.size
        if not (height and width):
            return image, 1.0
        scale = min(height / image.shape[0], width / image.shape[1])
        inner = (max(round(scale * image.shape[1]), 1), max(round(scale * image.shape[0]), 1))
        canvas = np.zeros((height, width, 3), np.uint8)
        canvas[: inner[1], : inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR)
        return canvas, scale

    def _run(self, picture: np.ndarray, mean: Values = (0, 0, 0), deviation: Values = (1, 1, 1)) -> dict[str, Any]:
        """The network's outputs by name."""
        shares = picture[:, :, ::-1].astype(np.float32) / 255
        values = (shares - np.array(mean, np.float32)) / np.array(deviation, np.float32)
        values = np.ascontiguousarray(values.transpose(2, 0, 1))
        outputs = self._session.run(self._outputs, {self._input: values[None] if self._is_batch else values})
        return dict(zip(self._outputs, outputs, strict=True))

    def _of_detr(self, outputs: dict[str, np.ndarray]) -> np.ndarray:
        """Boxes of queries, in shares of the picture; of each query the classes that are sure enough."""
        boxes, logits = outputs["dets"].reshape(-1, 4), outputs["labels"][0]
        sure = 1 / (1 + np.exp(-logits.astype(np.float32)))
        query, label = np.nonzero(sure > self._confidence)
        corner = boxes[query, :2] - boxes[query, 2:] / 2
        columns = (corner, corner + boxes[query, 2:], sure[query, label][:, None], label[:, None])
        return np.concatenate(columns, axis=1).astype(np.float32)
