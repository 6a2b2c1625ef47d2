"""Counting at a camera's lines and zones while it runs."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import supervision as sv

from reid_tracker.counting import Counts, Dwell, PassageCounter
from reid_tracker.errors import UserError
from reid_tracker.live.people import People
from reid_tracker.places.files import Places, read
from reid_tracker.tracking.bridge import measured

logger = logging.getLogger(__name__)

# People of whom it is known where they passed, at each place; further ones count, but as new people if they come again.
MOST_PEOPLE = 10_000


def of_cameras(files: Sequence[str], cameras: Sequence[str]) -> list[Places]:
    """The places of each camera.

    Parameters
    ----------
    files : sequence of str
        ``CAMERA=FILE``, or ``FILE`` for every camera without one of its own.
    cameras : sequence of str
        Their names.

    Raises
    ------
    UserError
        If a file cannot be read, no camera has the name, or two files are for one camera.
    """
    own: dict[str, Places] = {}
    for each in files:
        name, equals, file = each.partition("=")
        if not equals or (name not in cameras and Path(each).expanduser().exists()):
            name, file = "", each
        elif name not in cameras:
            raise UserError(f"--places {each}: there is no camera {name!r}; these are there: {', '.join(cameras)}.")
        if name in own:
            raise UserError(f"--places {each}: there is another file for {name or 'every camera'}; give one.")
        own[name] = read(Path(file).expanduser())
    return [own.get(name, own.get("", Places({}))) for name in cameras]


class LivePlaces:
    """Counts who passes the places of one camera, and tells of it.

    Parameters
    ----------
    camera : str
        Its name.
    places : Places
        As they were drawn.
    people : People
        Told of each passage.

    Attributes
    ----------
    shapes : dict of str to ndarray [K, 2]
        The places in the camera's picture, px; empty before the first one, and where they do not fit it.
    counts : dict, optional
        Up to the last frame (`PassageCounter.update`).
    dwell : dict
        How long those in view have been in the zones that they are in (`PassageCounter.dwell`).
    """

    def __init__(self, camera: str, places: Places, people: People) -> None:
        self._camera, self._places, self._people = camera, places, people
        self._size = (0, 0)
        self._counter: PassageCounter | None = None
        self.shapes: dict[str, np.ndarray] = {}
        self.counts: Counts | None = None
        self.dwell: Dwell = {}

    def update(self, tracks: sv.Detections, now: float, image: np.ndarray | None) -> None:
        """Take in one frame's tracks, with the numbers that are shown, at ``now``, s, in the picture ``image``."""
        if image is None or not self._places.shapes:
            return
        size = (image.shape[1], image.shape[0])
        if size != self._size:
            self._fit(size)
        if self._counter is None:
            return
        self.counts = self._counter.update(measured(tracks), now)
        self.dwell = self._counter.dwell()
        for moment, person, place, way in self._counter.take_passages():
            self._people.passed(person, self._camera, moment, place, way)

    def _fit(self, size: tuple[int, int]) -> None:
        """Begin to count in pictures of this size; what was counted in others is over."""
        self._size, self._counter, self.counts, self.shapes, self.dwell = size, None, None, {}, {}
        try:
            self.shapes = self._places.within(*size, self._camera).shapes
        except UserError as error:
            logger.warning("%s Nothing is counted there.", error)
            return
        self._counter = PassageCounter(self.shapes, MOST_PEOPLE)
