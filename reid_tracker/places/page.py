"""The page on which places are drawn over a still of the video, for this machine's user alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np

from reid_tracker.web.local import LocalPage  # isort: skip - first: it says what is missing
from fastapi import Body
from fastapi.responses import Response

from reid_tracker.places.files import Places, parse
from reid_tracker.video.annotate import PLACE_COLORS

STATIC = Path(__file__).parent / "static"


def serve(
    image: np.ndarray,
    places: Places,
    save: Callable[[Places], None],
    title: str,
    address: str | None = None,
    started: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the page until its user is done, or Ctrl-C.

    Parameters
    ----------
    image : ndarray uint8 [H, W, 3], BGR
        The still.
    places : Places
        What is there to begin with.
    save : callable
        Keeps the places; called at each saving.
    title : str
        What the page is about.
    address, started
        As for `LocalPage.serve`.

    Raises
    ------
    UserError
        If the address cannot be used.
    """
    height, width = image.shape[:2]
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    kept = places
    page = LocalPage(STATIC)

    @page.app.get("/still.jpg")
    async def still() -> Response:
        return Response(jpeg, media_type="image/jpeg")

    @page.app.get("/places")
    async def read() -> dict[str, Any]:
        shapes = {name: points.round(1).tolist() for name, points in kept.shapes.items()}
        return {"title": title, "size": [width, height], "colors": PLACE_COLORS, "places": shapes}

    @page.app.post("/places")
    def write(content: Annotated[Any, Body()]) -> Response:
        nonlocal kept
        given = parse(content, "the page")
        kept = Places(given.shapes, (width, height)).within(width, height, "the page")
        save(kept)
        return Response(status_code=204)

    page.serve(address, started)
