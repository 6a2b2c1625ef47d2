"""What ``reid-tracker places`` does: a still, and a page to draw on it or a picture of what was drawn."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.inputs import Inputs
from reid_tracker.ownership import check_outputs, claim, source_marks
from reid_tracker.places.files import Places, read, write
from reid_tracker.video.annotate import draw_places
from reid_tracker.video.sources import open_source


def still(video: Path, at: str | None = None) -> np.ndarray:
    """The frame at a time or number (`open_source`'s ``start``), by default the first: uint8 [H, W, 3], BGR.

    Raises
    ------
    UserError
        If the video cannot be read, has no pictures, or ends before.
    """
    source = open_source(video, start=at)
    frame = next(iter(source), None)
    if frame is None or frame.image is None:
        raise UserError(f"{video}: there is no picture{'' if at is None else f' at {at}'}.")
    return frame.image


def draw_on_page(
    video: Path,
    output: Path,
    at: str | None,
    address: str | None,
    overwrite: bool,
    started: Callable[[str], None],
) -> bool:
    """Let the user draw places and save them in ``output``; whether that was done.

    Raises
    ------
    UserError
        If the video or the file cannot be read, the file must not be written, or the page's address cannot be used.
    """
    from reid_tracker.places.page import serve

    image = still(video, at)
    before = _known(output, image, video) if output.exists() else Places({})
    inputs, of, saved = Inputs({"source": [video]}), source_marks(video), False
    check_outputs([output], inputs, of, overwrite)

    def save(places: Places) -> None:
        nonlocal saved
        with claim([output], inputs, of, overwrite) as claimed:
            claimed.write(output, write(places).encode())
            claimed.complete()
        saved = True

    try:
        serve(image, before, save, video.name, address, started)
    except KeyboardInterrupt:
        if not saved:
            raise
    return saved


def draw_preview(video: Path, places: Path, picture: Path, at: str | None, overwrite: bool) -> None:
    """Draw the places of a file on a still, as a PNG.

    Raises
    ------
    UserError
        As `draw_on_page`; or if the picture is no .png.
    """
    if picture.suffix.lower() != ".png":
        raise UserError(f"--preview {picture}: name a .png.")
    image = still(video, at)
    known = _known(places, image, video)
    inputs = Inputs({"source": [video], "places": [places]})
    with claim([picture], inputs, source_marks(video), overwrite, private=True) as claimed:  # it may show people
        scene = image.copy()
        draw_places(scene, known.shapes, list(known.shapes))
        claimed.write(picture, cv2.imencode(".png", scene)[1].tobytes())
        claimed.complete()


def _known(path: Path, image: np.ndarray, video: Path) -> Places:
    return read(path).within(image.shape[1], image.shape[0], str(video))
