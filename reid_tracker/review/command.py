"""What ``reid-tracker review`` does: the page, the list of changes, and corrected results."""

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.exchange.formats import Video, read_tracks
from reid_tracker.exchange.replay import frames_for, replay
from reid_tracker.exchange.tracks import Tracks
from reid_tracker.gallery.opening import describe_crops, open_gallery
from reid_tracker.gallery.store import Model, Sighting, View
from reid_tracker.inputs import Inputs
from reid_tracker.ownership import check_outputs, claim, source_marks
from reid_tracker.review.doubts import Timeline, find_doubts
from reid_tracker.review.edits import DROPPED, Reviewed, review_table
from reid_tracker.reviewed_crops import best_crops
from reid_tracker.tracking.memory import VIEWS
from reid_tracker.video.frames import Frame, Source
from reid_tracker.video.sinks import FrameResult, JsonLinesSink, MotSink, Sink
from reid_tracker.video.sources import open_source
from reid_tracker.video.video_sink import VideoSink
from reid_tracker.writing import csv_table

if TYPE_CHECKING:
    from reid_tracker.appearance.embedder import Embedder

logger = logging.getLogger(__name__)

CLOCKS_DIFFER = 0.05


class Review:
    """Finished tracks of a video, the changes made to them, and what comes out.

    Parameters
    ----------
    results : path
        What `track` wrote (``<name>.jsonl`` or ``<name>.txt``), or what `convert` reads.
    video : path
        The video it is of.
    output : path, optional
        Folder; that of the results by default.
    fps : float, optional
        Frames a second, as given to `track`.
    overwrite : bool
        Replace files that another program wrote.

    Attributes
    ----------
    reviewed : Reviewed
        With the changes of ``<name>_review.json`` where that is there.
    log : Path
        That file.

    Raises
    ------
    UserError
        If something is missing, not what it should be, or would be written over.
    """

    def __init__(
        self,
        results: Path | str,
        video: Path | str,
        output: Path | str | None = None,
        *,
        fps: float | None = None,
        overwrite: bool = False,
    ) -> None:
        self._results, self._video, self._fps, self._overwrite = Path(results), Path(video), fps, overwrite
        self._source: Source = open_source(video, fps=fps)
        if not self._source.has_pixels:
            raise UserError(f"{video}: has no pictures to look at.")
        tracks = read_tracks(self._results, Video.of(self._source))
        if not len(tracks):
            raise UserError(f"{results}: holds no one; there is nothing to review.")
        if np.isnan(tracks.seconds).any():
            tracks = replace(tracks, seconds=(tracks.frame - 1) / self._source.frame_rate)
        self._compare_clocks(tracks)
        self.reviewed = Reviewed(tracks)
        folder = Path(output).expanduser() if output is not None else self._results.parent
        stem = self._results.stem
        self.log = folder / f"{stem}_review.json"
        self._text, self._lines, self._table, self._film = (
            folder / f"{stem}_reviewed.{ending}" for ending in ("txt", "jsonl", "csv", "mp4")
        )
        self._inputs = Inputs({"results": [self._results], "video": [self._video]})
        self._of = [*source_marks(self._results), *source_marks(self._video)]
        check_outputs(self._files(False), self._inputs, self._of, overwrite)
        self._known = self._logged()
        if self.log.exists():
            self.reviewed.read(self.log)

    def _compare_clocks(self, tracks: Tracks) -> None:
        """Say so where the results were made by another clock than the video's: boxes would not fit the picture."""
        span = float(tracks.seconds[-1] - tracks.seconds[0])
        if span <= 0:
            return
        rate = float(tracks.frame[-1] - tracks.frame[0]) / span
        if abs(rate / self._source.frame_rate - 1) > CLOCKS_DIFFER:
            logger.warning(
                "%s counts %.3g frames a second, the video %.3g. If boxes do not fit the picture, give --fps %.3g.",
                self._results,
                rate,
                self._source.frame_rate,
                rate,
            )

    def _files(self, render: bool) -> list[Path]:
        return [self._text, self._lines, self._table, *([self._film] if render else [])]

    def on_page(self, address: str | None, started: Callable[[str], None]) -> None:
        """Let the user look the tracks over in a browser; each change is saved at once.

        Raises
        ------
        UserError
            If the address cannot be used, or the extra ``live`` is missing.
        """
        from reid_tracker.review.page import ReviewPage
        from reid_tracker.review.pictures import Pictures, is_playable, rows_to_show

        tracks = self.reviewed.tracks
        timeline = Timeline(tracks, self._source.frame_rate)
        doubts = find_doubts(timeline)
        with ExitStack() as stack:
            copy = None
            if self._fps is not None or not is_playable(self._video):
                copy = Path(stack.enter_context(TemporaryDirectory(prefix="reid-tracker-"))) / "video.mp4"
            pictures = Pictures(self._source, tracks, rows_to_show(tracks, doubts), copy)
            stack.callback(pictures.end)
            pictures.start()
            length = max(float(tracks.seconds[-1]), (self._source.frame_count or 0) / self._source.frame_rate)
            about: dict[str, Any] = {
                "title": self._results.name,
                "size": [self._source.width, self._source.height],
                "rate": self._source.frame_rate,
                "length": round(length, 3),
                "copied": copy is not None,
            }
            page = ReviewPage(self.reviewed, doubts, timeline, pictures, about, self.save)
            page.serve(copy or self._video, address, started)

    def save(self) -> None:
        """Write the list of changes.

        Raises
        ------
        UserError
            If it cannot be written, or another review of these tracks has written it meanwhile.
        """
        if self._logged() != self._known:
            raise UserError(f"{self.log}: another review has changed it. End this one, and begin it again.")
        # Of any origin: it was read as a review of these tracks, or was not there.
        with claim([self.log], self._inputs, self._of, overwrite=True, private=True) as claimed:
            claimed.write(self.log, self.reviewed.write())
            claimed.complete()
        self._known = self._logged()

    def _logged(self) -> bytes | None:
        """What the file of changes holds; None where there is none."""
        try:
            return self.log.read_bytes()
        except OSError:
            return None

    def corrected(self) -> Tracks:
        """The tracks as they are after the changes."""
        tracks, identity = self.reviewed.tracks, self.reviewed.identity
        rows = np.flatnonzero(identity != DROPPED)
        # A part that got another number is another unbroken piece of motion, too.
        pieces = np.unique(np.stack([tracks.tracklet[rows], identity[rows]]), axis=1, return_inverse=True)[1]
        return Tracks(
            frame=tracks.frame[rows],
            identity=identity[rows],
            tracklet=pieces.reshape(-1) + 1,
            xyxy=tracks.xyxy[rows],
            confidence=tracks.confidence[rows],
            label=[tracks.label[row] for row in rows.tolist()],
            seconds=tracks.seconds[rows],
            names=self.reviewed.names,
        )

    def _frames(self) -> Iterable[Frame]:
        """All frames of the video without their pictures; where it does not say how many, those with tracks."""
        tracks, count = self.reviewed.tracks, self._source.frame_count or 0
        moments = dict(zip(tracks.frame.tolist(), tracks.seconds.tolist(), strict=True))
        for number in range(1, max(count, int(tracks.frame.max(initial=0))) + 1):
            yield Frame(None, number - 1, moments.get(number, (number - 1) / self._source.frame_rate))

    def write(self, render: bool = False) -> list[Path]:
        """Write the corrected results.

        Parameters
        ----------
        render : bool
            Also the annotated video.

        Returns
        -------
        list of Path
            ``<name>_reviewed.txt`` (MOTChallenge), ``.jsonl``, ``.csv`` (for ``export-crops --review``), ``.mp4``.
        """
        tracks, names = self.corrected(), self.reviewed.names
        files = self._files(render)
        with claim(files, self._inputs, self._of, self._overwrite, private=True) as claimed:
            places = {file: claimed.begin(file) for file in files if file is not self._table}
            sinks: list[Sink] = [
                MotSink(places[self._text]),
                JsonLinesSink(places[self._lines], lambda number: names.get(number, "")),
            ]
            if render:
                from reid_tracker.video.annotate import Annotator

                label = Annotator(label=lambda number: f"#{number} {names.get(number, '')}".rstrip())
                sinks.append(VideoSink(places[self._film], self._source.frame_rate, label))
            with ExitStack() as closing:
                for sink in sinks:
                    closing.callback(sink.close)
                for frame, here in replay(tracks, frames_for(tracks, self._source) if render else self._frames()):
                    for sink in sinks:
                        sink.write(FrameResult(frame, here, here))
            claimed.write(self._table, csv_table(("identity", "decision", "name"), review_table(self.reviewed)))
            claimed.complete()
        return files

    def check_gallery(self, folder: Path | str) -> None:
        """Refuse a folder or numbers of which `enrol` could make no gallery, before the review begins."""
        folder, lowest = Path(folder).expanduser(), int(self.reviewed.tracks.identity.min())
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise UserError(f"{folder}: is there already, and its numbers are other people's; name a new folder.")
        if lowest < 1:
            raise UserError(f"A gallery's numbers begin at 1, and here is #{lowest}; number the tracks from 1.")

    def enrol(self, folder: Path | str, network: "Embedder", min_height: float = 48) -> tuple[int, int]:
        """Make a gallery of the reviewed people, under their numbers and names.

        Parameters
        ----------
        folder : path
            A new one.
        network : Embedder
            Describes their crops.
        min_height : float
            Lower boxes are left out, px.

        Returns
        -------
        int, int
            How many are in it, and how many others were not shown well enough.

        Raises
        ------
        UserError
            If the folder is there already, a number is below 1, or no one is shown well enough.
        """
        self.check_gallery(folder)
        folder, tracks, names = Path(folder).expanduser(), self.corrected(), self.reviewed.names
        people = np.unique(tracks.identity).tolist()
        chosen = best_crops(self._source, tracks, {each: str(each) for each in people}, VIEWS, min_height)
        if not chosen:
            raise UserError(f"{self._results}: no one in it is shown well enough for a gallery.")
        vectors = describe_crops(network, [crop for _, _, crop in chosen])
        calibration, now = network.header.get("calibration", {}), time.time()
        gallery = open_gallery(folder, Model(network.hash, network.dimension, calibration))
        try:
            views: dict[int, list[View]] = {}
            for (text, frame, crop), vector in zip(chosen, vectors, strict=True):
                seconds = (frame - 1) / self._source.frame_rate
                views.setdefault(int(text), []).append(View(vector, crop, self._source.name, seconds))
            gallery.enrol({number: Sighting(own, now, now) for number, own in views.items()})
            for number, name in names.items():
                if number in views:
                    gallery.name(number, name)
        finally:
            gallery.close()
        return len(views), len(people) - len(views)
