"""Looks at what `Tracker.update` is given before anything moves: mistakes are errors, what looks like one is a note."""

import logging
from numbers import Real
from typing import Any

import numpy as np
import supervision as sv

from reid_tracker.errors import UserError

logger = logging.getLogger(__name__)

# Frames further apart than this, s, and than so many of the stated frame rate, look like milliseconds.
FAR_APART, MANY_FRAMES = 10.0, 100
# Of a class's number; stores keep it in 32 bits.
MOST_CLASSES = 1 << 31
# Boxes that never reach beyond this many px look like shares of the picture.
SHARE = 2.0


def check(detections: Any, timestamp: Any, image: Any) -> None:
    """Refuse what is of the wrong kind.

    Raises
    ------
    UserError
        In one sentence that names the argument and what it should be.
    """
    if not isinstance(detections, sv.Detections):
        kind = type(detections).__name__
        raise UserError(
            f"detections are a {kind}: give supervision.Detections, or an array with the columns x1, y1, x2, y2, and "
            "where known confidence and class."
        )
    class_id = detections.class_id
    if class_id is not None and not are_classes(np.asarray(class_id)):
        raise UserError("class_id holds other things than whole numbers; give the classes' numbers.")
    if timestamp is not None and (isinstance(timestamp, bool) or not isinstance(timestamp, Real)):
        hint = "; name the picture: image=..." if isinstance(timestamp, np.ndarray) else ""
        raise UserError(f"timestamp is a {type(timestamp).__name__}: give seconds as a number{hint}.")
    if image is not None:
        shape = getattr(image, "shape", None)
        if shape is None or len(shape) != 3 or shape[2] != 3 or image.dtype != np.uint8:
            found = f"{image.dtype} {list(shape)}" if shape is not None else f"a {type(image).__name__}"
            raise UserError(f"image is {found}: give uint8 [height, width, 3], blue, green, red.")


def from_array(rows: np.ndarray, embedding: Any = None) -> sv.Detections:
    """Detections of an array [N, 4 to 6]: x1, y1, x2, y2, confidence, class; and vectors [N, D].

    Raises
    ------
    UserError
        If the array has another shape or holds no numbers.
    """
    empty = rows.size == 0
    if not empty and (rows.ndim != 2 or rows.shape[1] not in (4, 5, 6) or rows.dtype.kind not in "fiu"):
        raise UserError(
            f"detections are an array of {rows.dtype} {list(rows.shape)}: give numbers [N, 4 to 6], x1, y1, x2, y2, "
            "confidence, class."
        )
    columns = np.zeros((0, 6)) if empty else rows.astype(np.float64)
    with np.errstate(over="ignore"):
        boxes = columns[:, :5].astype(np.float32)
    boxes[~np.isfinite(boxes[:, :4]).all(axis=1), :4] = 0  # no box, as NaN is, which supervision refuses
    found = sv.Detections(boxes[:, :4], data={"row": np.arange(len(columns))})
    if columns.shape[1] > 4:
        found.confidence = boxes[:, 4]
    if columns.shape[1] > 5:
        if not are_classes(columns[:, 5]):
            raise UserError("class_id holds other things than whole numbers; give the classes' numbers.")
        found.class_id = columns[:, 5].astype(np.int64)
    if embedding is not None:
        vectors = np.asarray(embedding)
        if not (empty and vectors.size == 0):
            if vectors.ndim != 2 or len(vectors) != len(columns):
                raise UserError(
                    f"embedding is an array {list(vectors.shape)}: give a vector for each of the {len(columns)} boxes."
                )
            found.data["embedding"] = vectors
    return found


def are_classes(numbers: np.ndarray) -> bool:
    """Whether these are whole numbers such as classes have."""
    if numbers.dtype.kind not in "iuf":
        return False
    within = (numbers > -MOST_CLASSES) & (numbers < MOST_CLASSES)
    return bool((within & (numbers == np.round(numbers))).all())


class Notes:
    """Says once what looks like a mistake: of units, or of the confidence that newcomers need."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._frames, self._surest = 0, 0.0  # in which somebody weak was seen while nobody was followed yet

    def look(self, xyxy: np.ndarray, confidence: np.ndarray, step: float, frame_rate: float) -> None:
        """Look at a frame's boxes [N, 4], their confidences [N] and the seconds from the last frame (0: sure)."""
        if len(xyxy) and xyxy.max() <= SHARE:
            self._say("no box reaches beyond two pixels: boxes must be in pixels, not in shares of the picture.")
        if len(confidence) and confidence.max() > 1:
            self._say("a confidence is above 1: confidences must lie between 0 and 1, not in percent.")
        if step > max(FAR_APART, MANY_FRAMES / frame_rate):
            self._say(f"frames are {step:g} s apart: timestamps must be in seconds, not in milliseconds.")

    def look_for_nobody(self, confidence: np.ndarray, least: float, asked: float) -> None:
        """Look at a frame's confidences [N] while nobody was followed yet: boxes count from ``least`` on."""
        surest = float(confidence.max(initial=0.0))
        if not least <= surest < asked:
            return
        self._frames, self._surest = self._frames + 1, max(self._surest, surest)
        if self._frames == MANY_FRAMES:
            self._say(
                f"nobody is followed: newcomers need a confidence of {asked:g}, and the surest box of {MANY_FRAMES} "
                f"frames has {self._surest:.2f}; lower tracker.new_confidence if these are people."
            )

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            logger.warning("%s", text)
