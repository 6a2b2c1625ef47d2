"""Drawing on frames: boxes, names and trails in a colour that stays with the identity; blur for privacy."""

import colorsys
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, cast

import cv2
import numpy as np
import supervision as sv
from supervision.detection.utils.boxes import spread_out_boxes

from reid_tracker.counting import Counts, Dwell, describe
from reid_tracker.offline import import_ft2font
from reid_tracker.tracking.bridge import measured

BLUR_MARGIN = np.array([-0.1, -0.1, 0.1, 0.1], np.float32)
"""What the blur covers beyond a box, in box sizes: detectors cut off hair and hands."""
COLORS = 64
"""Different colours; identities whose numbers differ by a multiple of it share one."""
SPREAD_LABELS = 50
"""Up to so many labels are moved apart and into the picture; beyond, that takes longer than all other drawing."""
TRAIL_POINTS = 256
"""Most points that one trail keeps, whatever the frame rate."""
FONT = Path(cast(Any, find_spec("matplotlib")).origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
"""Latin, Greek, Cyrillic, Arabic, Hebrew and more; OpenCV's own fonts know no letter beyond ASCII. Matplotlib draws it:
Pillow 13.0.0 corrupts the heap on some of its letters, and names come from outside."""
UNKNOWN_LETTER = "\N{WHITE SQUARE}"
"""Drawn for letters that the font lacks."""

PLACE_COLORS = ("#ffb300", "#00e5ff", "#ff4081", "#76ff03", "#b388ff", "#ff6e40")
"""Of lines and zones, in turn: bright, as they lie over pictures of any kind."""
PLACE_TINT = 0.18
"""Share of its colour in a zone."""

_DRAWING = Lock()  # the font is one object for all threads


class Annotator:
    """Draws what the tracker found on a copy of each frame.

    Parameters
    ----------
    trail_seconds : float
        How long the path of an identity's foot point stays visible; 0 draws none.
    blur_people : bool
        Blur everything that the detector saw, confirmed or not, before drawing.
    shapes : dict of str to ndarray [K, 2], optional
        Lines and zones that are counted (`parse_shapes`).
    label : callable, optional
        What stands at an identity's box; by default its number.
    """

    def __init__(
        self,
        trail_seconds: float = 2.0,
        blur_people: bool = False,
        shapes: dict[str, np.ndarray] | None = None,
        label: Callable[[int], str] = "#{}".format,
    ) -> None:
        self._label = label
        self.trail_seconds = trail_seconds
        self.shapes = shapes or {}
        self._blur = sv.BlurAnnotator() if blur_people else None
        self._trails: dict[tuple[int, int], deque[tuple[float, float, float]]] = {}
        self._classes: set[int] = set()
        self._size = (0, 0)

    def draw(
        self,
        image: np.ndarray,
        tracks: sv.Detections,
        detections: sv.Detections,
        timestamp: float,
        counts: Counts | None = None,
        dwell: Dwell | None = None,
    ) -> np.ndarray:
        """Draw one frame; call it in the order of time.

        Parameters
        ----------
        image : ndarray, uint8 [H, W, 3], BGR
            The frame; not changed.
        tracks : supervision.Detections
            Confirmed rows with ``tracker_id``. Boxes may reach outside the image or be void. Those of
            confidence 0, which are predicted, get corners only.
        detections : supervision.Detections
            Everything the detector saw; only its boxes are used, for the blur.
        timestamp : float
            Seconds, the source's clock.
        counts : dict, optional
            What was counted up to this frame, to be written beside the shapes.
        dwell : dict, optional
            How long each person, by number, has been in each zone, s: shown at the box from one second on.

        Returns
        -------
        ndarray, uint8 [H, W, 3], BGR
        """
        scene = np.ascontiguousarray(image).copy()
        height, width = scene.shape[:2]
        if (width, height) != self._size:
            self._set_up(width, height)
        if self._blur:
            boxes, _ = clip_boxes(np.unique(np.concatenate([detections.xyxy, tracks.xyxy]), axis=0), width, height)
            boxes = boxes + (boxes[:, 2:] - boxes[:, :2])[:, [0, 1, 0, 1]] * BLUR_MARGIN
            self._blur.annotate(scene, sv.Detections(clip_boxes(boxes, width, height)[0]))
        boxes, is_visible = clip_boxes(tracks.xyxy, width, height)
        tracks = replace(tracks, xyxy=np.nan_to_num(tracks.xyxy))[is_visible]  # supervision refuses non-finite rows
        tracks.xyxy = boxes
        if counts is not None:
            draw_places(scene, self.shapes, describe(counts))
        self._draw_trails(scene, tracks, timestamp)
        if len(tracks):
            seen = measured(tracks)
            self._boxes.annotate(scene, seen)
            if len(seen) < len(tracks):
                self._corners.annotate(scene, tracks[tracks.confidence == 0])
            self._draw_labels(scene, tracks, dwell or {})
        return scene

    def remember(self, tracks: sv.Detections, timestamp: float, width: int, height: int) -> None:
        """Take in a frame that is not drawn: trails and classes go on as if it had been."""
        boxes, is_visible = clip_boxes(tracks.xyxy, width, height)
        tracks = replace(tracks, xyxy=np.nan_to_num(tracks.xyxy))[is_visible]
        tracks.xyxy = boxes
        self._follow_feet(tracks, timestamp)
        if len(tracks) and tracks.class_id is not None:
            self._classes.update(tracks.class_id.tolist())

    def _set_up(self, width: int, height: int) -> None:
        """Choose line and letter sizes for this size of picture."""
        self._size = (width, height)
        self._thickness, self._text_size = _line_and_text(width, height)
        look = {"thickness": self._thickness, "color_lookup": sv.ColorLookup.TRACK}
        self._boxes = sv.BoxAnnotator(_PALETTE, **look)
        self._corners = sv.BoxCornerAnnotator(_PALETTE, corner_length=6 * self._thickness, **look)

    def _draw_labels(self, scene: np.ndarray, tracks: sv.Detections, dwell: Dwell) -> None:
        """Each above its box's corner, moved into the picture and apart."""
        numbers = tracks.tracker_id.tolist()
        stays = [int(max(dwell.get(number, {}).values(), default=0)) for number in numbers]
        words = [
            f"{name}  {stay // 60}:{stay % 60:02d}" if stay else name
            for name, stay in zip(self._name(tracks), stays, strict=True)
        ]
        colors = [identity_color(number) for number in numbers]
        labels = [_label(*each, self._text_size) for each in zip(words, colors, strict=True)]
        size = np.array([label.shape[1::-1] for label in labels])
        corner = tracks.xyxy[:, :2].astype(int) - [0, 1] * size
        most = np.maximum(np.array(scene.shape[1::-1]) - size, 0)
        corner = np.clip(corner, 0, most)
        if len(labels) <= SPREAD_LABELS:
            spread = spread_out_boxes(np.concatenate([corner, corner + size], axis=1))
            corner = np.clip(spread[:, :2], 0, most)
        for label, (left, top) in zip(labels, corner.tolist(), strict=True):
            _paste(scene, label, left, top)

    def _name(self, tracks: sv.Detections) -> list[str]:
        """``#7``, ``#12 (#7?)`` of who may turn out to be #7, and the class where more than one was met."""
        names = [self._label(identity) for identity in tracks.tracker_id.tolist()]
        for row in np.flatnonzero(tracks.data.get("perhaps", ())):
            names[row] += f" ({self._label(int(tracks.data['perhaps'][row]))}?)"
        if tracks.class_id is None:
            return names
        self._classes.update(tracks.class_id.tolist())
        if len(self._classes) < 2:
            return names
        classes = tracks.data.get("class_name", tracks.class_id)
        return [f"{name} {kind}" for name, kind in zip(names, classes, strict=True)]

    def _follow_feet(self, tracks: sv.Detections, timestamp: float) -> None:
        """Add this frame's foot points, and forget old ones."""
        identities = [] if tracks.tracker_id is None else tracks.tracker_id.tolist()
        tracklets = tracks.data.get("tracklet", np.zeros(len(tracks), int)).tolist()
        # One trail for each unbroken piece of motion: a return elsewhere must not draw a line across the picture.
        for identity, tracklet, (left, _, right, bottom) in zip(
            identities, tracklets, tracks.xyxy.tolist(), strict=True
        ):
            trail = self._trails.setdefault((identity, tracklet), deque(maxlen=TRAIL_POINTS))
            trail.append((timestamp, (left + right) / 2, bottom))
        for (identity, tracklet), trail in list(self._trails.items()):
            while trail and trail[0][0] <= timestamp - self.trail_seconds:
                trail.popleft()
            if not trail:
                del self._trails[identity, tracklet]

    def _draw_trails(self, scene: np.ndarray, tracks: sv.Detections, timestamp: float) -> None:
        """Draw the paths of the last moments, up to this frame."""
        self._follow_feet(tracks, timestamp)
        for (identity, _), trail in self._trails.items():
            points = np.array(trail)[:, 1:]
            points = np.round(points * 16).astype(np.int32)  # shift=4 is sixteenths of a pixel: smooth when slow
            color = _PALETTE.by_idx(identity).as_bgr()
            cv2.polylines(scene, [points], False, color, self._thickness, cv2.LINE_AA, shift=4)


def draw_places(scene: np.ndarray, shapes: dict[str, np.ndarray], words: list[str]) -> None:
    """Draw lines, with an arrow that shows which way is in, and zones, tinted, with what is said of each.

    Parameters
    ----------
    scene : ndarray uint8 [H, W, 3], BGR
        Drawn on.
    shapes : dict of str to ndarray [K, 2]
        In px: two points are a line, more are a zone.
    words : list of str
        One for each.
    """
    thickness, text_size = _line_and_text(*scene.shape[1::-1])
    colors = [sv.Color.from_hex(PLACE_COLORS[number % len(PLACE_COLORS)]) for number in range(len(shapes))]
    zones = [(points, color) for points, color in zip(shapes.values(), colors, strict=True) if len(points) > 2]
    if zones:
        filled = scene.copy()
        for points, color in zones:
            cv2.fillPoly(filled, [points.round().astype(np.int32)], color.as_bgr())
        cv2.addWeighted(filled, PLACE_TINT, scene, 1 - PLACE_TINT, 0, dst=scene)
    for points, color in zip(shapes.values(), colors, strict=True):
        corners = points.round().astype(np.int32)
        cv2.polylines(scene, [corners], len(points) > 2, color.as_bgr(), thickness, cv2.LINE_AA)
        if len(points) == 2:
            middle, along = points.mean(axis=0), points[1] - points[0]
            inward = np.array([along[1], -along[0]]) * (20 * thickness / np.linalg.norm(along))
            tip = (middle + inward).round().astype(int).tolist()
            cv2.arrowedLine(scene, middle.astype(int).tolist(), tip, color.as_bgr(), thickness, cv2.LINE_AA)
    for points, color, said in zip(shapes.values(), colors, words, strict=True):
        label = _label(said, color.as_rgb(), text_size)
        most = np.maximum(np.array(scene.shape[1::-1]) - label.shape[1::-1], 0)
        left, top = np.clip(points[0].round().astype(int) - np.array(label.shape[1::-1]) // 2, 0, most)
        _paste(scene, label, int(left), int(top))


def _line_and_text(width: int, height: int) -> tuple[int, int]:
    """Thickness of lines and size of letters, px, for a picture of this size."""
    smaller = min(width, height)  # a video keeps colour for every other pixel only, so a line has two at least
    return max(2, round(smaller / 450)), round(float(np.clip(smaller / 50, 12.5, 45)))


def clip_boxes(xyxy: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut boxes to the image and drop what is not in it.

    Parameters
    ----------
    xyxy : ndarray [N, 4]
        Boxes in pixels; NaN, infinite, void and inverted ones are allowed.
    width, height : int
        Size of the image in pixels.

    Returns
    -------
    clipped : ndarray, float32 [M, 4]
        Boxes inside ``[0, width] x [0, height]``, at least one pixel wide and high.
    is_inside : ndarray, bool [N]
        Which rows they are.
    """
    clipped = np.clip(xyxy, 0, [width, height, width, height]).astype(np.float32)
    is_inside: np.ndarray = np.all(clipped[:, 2:] - clipped[:, :2] >= 1, axis=1)  # false for NaN
    return clipped[is_inside], is_inside


def identity_color(identity: int) -> tuple[int, int, int]:
    """The colour of an identity, uint8 (red, green, blue).

    The hue advances by the golden angle, so neighbouring numbers differ most; lightness and saturation alternate.
    """
    saturation, value = ((0.85, 1.0), (0.6, 1.0), (0.95, 0.8))[identity % COLORS % 3]
    red, green, blue = colorsys.hsv_to_rgb(identity % COLORS * 0.61803399 % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def css_color(identity: int) -> str:
    """The same as pages write it, ``#rrggbb``."""
    red, green, blue = identity_color(identity)
    return f"#{red:02x}{green:02x}{blue:02x}"


@lru_cache(1024)
def _label(words: str, color: tuple[int, int, int], size: int) -> np.ndarray:
    """Words on a colour (red, green, blue), uint8 [h, w, 3] BGR: black or white, whichever stands out (Rec. 601)."""
    (font, known), padding = _font(), max(2, size // 5)
    ascent, descent = (round(abs(part) * size / font.units_per_EM) for part in (font.ascender, font.descender))
    with _DRAWING:
        font.set_size(size, 72)
        font.set_text("".join(letter if ord(letter) in known else UNKNOWN_LETTER for letter in words))
        font.draw_glyphs_to_bitmap(antialiased=True)
        ink, below = np.array(font.get_image()), round(font.get_descent() / 64)
    top = padding // 2 + ascent + below - len(ink)
    shade = np.zeros((ascent + descent + padding, ink.shape[1] + 2 * padding))
    _paste(shade, ink / 255, padding, top)
    ground = np.array(color[::-1])
    drawn = 0 if np.dot(ground, (0.114, 0.587, 0.299)) > 128 else 255
    return (ground + (drawn - ground) * shade[:, :, None]).round().astype(np.uint8)


@lru_cache(1)
def _font() -> tuple[Any, frozenset[int]]:
    """The font and the letters it knows; at the first label, as importing matplotlib takes a third of a second."""
    font = import_ft2font().FT2Font(FONT)
    return font, frozenset(font.get_charmap())


def _paste(scene: np.ndarray, label: np.ndarray, left: int, top: int) -> None:
    """Put a label on the picture, as far as it is inside."""
    right, bottom = left + label.shape[1], top + label.shape[0]
    inside = label[max(-top, 0) :, max(-left, 0) :]
    place = scene[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    place[:] = inside[: place.shape[0], : place.shape[1]]


_PALETTE = sv.ColorPalette([sv.Color(*identity_color(identity)) for identity in range(COLORS)])
