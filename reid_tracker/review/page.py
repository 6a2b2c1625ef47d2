"""The page on which finished tracks are looked over beside the video, for this machine's user alone."""

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

import numpy as np

from reid_tracker.web.local import LocalPage  # isort: skip - first: it says what is missing
from fastapi import Body
from fastapi.responses import FileResponse, Response

from reid_tracker.errors import UserError
from reid_tracker.review.doubts import CROSSING, GAP, Doubt, Timeline
from reid_tracker.review.edits import DROPPED, Reviewed
from reid_tracker.review.pictures import MOST_DOUBTS, Pictures
from reid_tracker.video.annotate import css_color

STATIC = Path(__file__).parent / "static"
MOST_SECONDS = 60.0  # of boxes in one answer


class ReviewPage:
    """Answers what the page asks.

    Parameters
    ----------
    reviewed : Reviewed
    doubts : list of Doubt
        The most doubtful first.
    timeline : Timeline
        Of the tracks.
    pictures : Pictures
    about : dict
        ``title``, ``size`` [width, height] and ``length`` (s) of the video.
    save : callable
        Keeps the changes; called after each.
    """

    def __init__(
        self,
        reviewed: Reviewed,
        doubts: list[Doubt],
        timeline: Timeline,
        pictures: Pictures,
        about: dict[str, Any],
        save: Callable[[], None],
    ) -> None:
        self._reviewed, self._doubts, self._pictures, self._about, self._save = reviewed, doubts, pictures, about, save
        self._times = timeline.times
        self._rows_with_picture = np.array(sorted(pictures.wanted), dtype=np.int64)
        self._lock = Lock()

    def state(self) -> dict[str, Any]:
        """Everything but boxes and pictures."""
        reviewed = self._reviewed
        stretches = reviewed.stretches(self._times)
        shown = reviewed.identity[self._rows_with_picture]
        people = []
        for number, stays in stretches.items():
            rows = self._rows_with_picture[shown == number]
            people.append(
                {
                    "number": number,
                    "name": reviewed.names.get(number, ""),
                    "colour": css_color(number),
                    "stays": [[round(begun, 3), round(ended, 3)] for begun, ended in stays],
                    "picture": int(rows[len(rows) // 2]) if len(rows) else None,
                }
            )
        told = [self._tell(each) for each in self._doubts[:MOST_DOUBTS]]
        return {
            **self._about,
            "people": people,
            "doubts": [each for each in told if each is not None],
            "changes": len(reviewed.edits),
            **self.progress(),
        }

    def progress(self) -> dict[str, Any]:
        """How far the pictures are."""
        return {"progress": self._pictures.progress, "failed": self._pictures.failed}

    def _tell(self, doubt: Doubt) -> dict[str, Any] | None:
        """A doubt by the numbers as they are now; None once it is settled."""
        identity = self._reviewed.identity
        now = {name: int(identity[rows[0]]) for name, rows in doubt.sides.items()}
        own, other = now["own after"], now.get("other before", now.get("own before"))
        decided = own != now["own before"] if doubt.kind in (GAP, CROSSING) else own == other
        if doubt.key in self._reviewed.kept or decided or DROPPED in now.values():
            return None
        return {
            "key": doubt.key,
            "kind": doubt.kind,
            "identity": own,
            "other": other,
            "start": round(doubt.start, 3),
            "end": round(doubt.end, 3),
            "frame": doubt.after,
            "odds": round(doubt.odds, 3),
            "sides": {name: rows[:2].tolist() for name, rows in doubt.sides.items()},
        }

    def boxes(self, start: float, end: float) -> dict[str, Any]:
        """Boxes of some seconds: [s, frame, number, x1, y1, x2, y2, 1 if seen] each."""
        tracks, identity = self._reviewed.tracks, self._reviewed.identity
        end = min(end, start + MOST_SECONDS)
        first, last = np.searchsorted(self._times, (start, end))
        rows = first + np.flatnonzero(identity[first:last] != DROPPED)
        columns = (
            self._times[rows].round(4).tolist(),
            tracks.frame[rows].tolist(),
            identity[rows].tolist(),
            *tracks.xyxy[rows].round(1).T.tolist(),
            (tracks.confidence[rows] > 0).astype(int).tolist(),
        )
        return {"boxes": list(zip(*columns, strict=True))}

    def change(self, content: Any) -> dict[str, Any]:
        """Make a change, or take the last one back; the state then."""
        with self._lock:
            before = list(self._reviewed.edits)
            if content == {"do": "undo"}:
                self._reviewed.undo()
            else:
                self._reviewed.edit(content)
            try:
                self._save()
            except UserError:
                self._reviewed.edits = before
                self._reviewed.go_back(len(before))
                raise
            return self.state()

    def serve(self, video: Path, address: str | None, started: Callable[[str], None]) -> None:
        """Serve until the page's user is done; parameters as for `LocalPage.serve`; ``video`` is what is played."""
        page = LocalPage(STATIC)
        app = page.app

        @app.get("/state")
        def state() -> dict[str, Any]:
            with self._lock:
                return self.state()

        @app.get("/progress")
        async def progress() -> dict[str, Any]:
            return self.progress()

        @app.get("/boxes")
        def boxes(start: float, end: float) -> dict[str, Any]:
            with self._lock:
                return self.boxes(start, end)

        @app.get("/picture/{row}.jpg")
        async def picture(row: int) -> Response:
            taken = self._pictures.taken.get(row)
            return Response(taken, media_type="image/jpeg") if taken else Response(status_code=204)

        @app.get("/video")
        async def play() -> Response:
            return FileResponse(video) if video.is_file() else Response(status_code=204)

        @app.post("/change")
        def change(content: Annotated[Any, Body()]) -> dict[str, Any]:
            return self.change(content)

        page.serve(address, started)
