"""A clip made from photographs, with known truth: a camera pans over two scenes and back, through all that is hard.

The photographs are the two that ship inside ultralytics. People leave the picture and return, a pillar passes in front
of them, fast pans blur them, and the light goes down and up again.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import cv2
import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.offline import import_ultralytics

FRAME_RATE, SECONDS = 15, 14
WIDTH, HEIGHT = 640, 480
SHUTTER = 0.6  # share of a frame's time during which light falls on it: what makes pans blur
MATCHED, SEEN = 0.4, 0.05  # visible share from which a person must be found, and from which they may be

# Photograph: its size in the world, place of its upper left corner, and its people, xyxy in its own pixels.
SCENES = {
    "bus.jpg": (1.0, (0, 0), [(0, 552, 65, 875), (48, 399, 211, 889), (222, 406, 346, 863), (669, 405, 810, 879)]),
    "zidane.jpg": (0.75, (900, 430), [(164, 202, 738, 715), (723, 55, 1157, 710)]),
}
WORLD_WIDTH, WORLD_HEIGHT = 1860, 1080
VIEW = 900  # width of what the camera sees, in pixels of the world
TOP = 330  # of what it sees

# Camera: (second, left edge of the view); it eases from one to the next.
PATH = [(0, 0), (3.0, 60), (5.0, 955), (7.0, 935), (9.0, 20), (11.5, 60), (12.5, 30), (SECONDS, 0)]
PILLAR = [(0.8, -150), (2.8, WIDTH), (9.6, WIDTH), (11.6, -150)]  # (second, left edge in the frame)
PILLAR_WIDTH = 110
LIGHT = [(0, 1.0), (5.4, 1.0), (5.7, 0.35), (6.6, 0.35), (6.9, 1.0), (12.0, 1.0), (12.4, 0.4), (13.2, 0.4), (13.5, 1.0)]


def make_clip(folder: Path, name: str | None = None) -> Path:
    """Write the clip and its truth as a MOTChallenge sequence.

    Parameters
    ----------
    folder : Path
        The sequence folder: `<name>.mp4`, `seqinfo.ini`, `gt/gt.txt`. People who are hardly visible are of a class
        that evaluation lets be found or not.
    name : str, optional
        Of the sequence; without it that of the folder.

    Returns
    -------
    Path
        The video.

    Raises
    ------
    UserError
        If a photograph is missing, or the folder cannot be written.
    """
    world, people = _paint_world()
    name = name or folder.name
    video = folder / f"{name}.mp4"
    rows: list[str] = []
    try:
        (folder / "gt").mkdir(parents=True, exist_ok=True)
        with av.open(str(video), "w") as container:
            stream = container.add_stream("libx264", rate=FRAME_RATE, options={"preset": "veryfast", "crf": "20"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for number, (image, boxes, visible) in enumerate(_shoot(world, people), 1):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
                for person, (box, share) in enumerate(zip(boxes, visible, strict=True), 1):
                    if share >= SEEN:
                        x1, y1, x2, y2 = box
                        kind = 1 if share >= MATCHED else 8
                        place = f"{x1:.1f},{y1:.1f},{x2 - x1:.1f},{y2 - y1:.1f}"
                        rows.append(f"{number},{person},{place},{int(kind == 1)},{kind},{share:.2f}\n")
            container.mux(stream.encode(None))
        (folder / "gt" / "gt.txt").write_text("".join(rows), encoding="utf-8")
        (folder / "seqinfo.ini").write_text(
            f"[Sequence]\nname={name}\nframeRate={FRAME_RATE}\nseqLength={FRAME_RATE * SECONDS}\n"
            f"imWidth={WIDTH}\nimHeight={HEIGHT}\n",
            encoding="utf-8",
        )
    except OSError as error:
        raise UserError(f"{folder}: the demo's clip cannot be written there ({error.strerror or error}).") from error
    return video


def _paint_world() -> tuple[np.ndarray, np.ndarray]:
    """Both scenes on one canvas, and the boxes of the people on it, [P, 4]."""
    import_ultralytics()
    from ultralytics.utils import ASSETS

    world = np.empty((WORLD_HEIGHT, WORLD_WIDTH, 3), np.uint8)
    world[:] = np.linspace(175, 120, WORLD_HEIGHT).astype(np.uint8)[:, None, None]
    boxes = []
    for name, (scale, (left, top), people) in SCENES.items():
        photograph = cv2.imread(str(ASSETS / name))
        if photograph is None:
            raise UserError(f"{ASSETS / name}: the demo's photograph is missing; install ultralytics anew.")
        photograph = cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        height, width = photograph.shape[:2]
        world[top : top + height, left : left + width] = photograph
        boxes += [scale * np.array(person) + [left, top, left, top] for person in people]
    return world, np.array(boxes)


def _shoot(world: np.ndarray, people: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Frames uint8 [H, W, 3], boxes [P, 4] clipped to them, and how much of each person is visible, [P]."""
    zoom = WIDTH / VIEW
    seen = cv2.resize(world[TOP : TOP + VIEW * HEIGHT // WIDTH], None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(0).normal(0, 2, (HEIGHT, 2 * WIDTH, 3)).astype(np.float32)
    for index in range(FRAME_RATE * SECONDS):
        opens, middle, closes = ((index + SHUTTER * share) / FRAME_RATE for share in (0, 0.5, 1))
        edges = [round(zoom * _ease(PATH, moment)) for moment in np.linspace(opens, closes, 24)]
        views = [seen[:HEIGHT, edge : edge + WIDTH] for edge in dict.fromkeys(edges)]  # their mean is the blur
        frame = np.asarray(np.mean(views, axis=0, dtype=np.float32))
        pillar = _ease(PILLAR, middle)
        left, right = np.clip(np.rint([pillar, pillar + PILLAR_WIDTH]), 0, WIDTH).astype(int)
        frame[:, left:right] = 60 + 25 * np.sin(np.linspace(0, np.pi, max(right - left, 1)))[: right - left, None]
        grain = (37 * index) % WIDTH
        lit = frame * _ease(LIGHT, middle) + noise[:, grain : grain + WIDTH]
        image = np.clip(lit, 0, 255).astype(np.uint8)

        whole = (people - np.array([_ease(PATH, middle), TOP] * 2)) * zoom
        boxes = np.clip(whole, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
        sides = boxes[:, 2:] - boxes[:, :2]
        hidden = np.clip(np.minimum(boxes[:, 2], right) - np.maximum(boxes[:, 0], left), 0, None)
        area = (whole[:, 2:] - whole[:, :2]).prod(axis=1)
        yield image, boxes, (sides[:, 0] - hidden) * sides[:, 1] / area


def _ease(stops: Sequence[tuple[float, float]], moment: float) -> float:
    """Between stops (second, value): slow at both ends, fast in the middle."""
    seconds, values = np.array(stops).T
    at = int(np.clip(np.searchsorted(seconds, moment, side="right") - 1, 0, len(stops) - 2))
    share = float(np.clip((moment - seconds[at]) / (seconds[at + 1] - seconds[at]), 0, 1))
    return float(values[at] + (values[at + 1] - values[at]) * share * share * (3 - 2 * share))
