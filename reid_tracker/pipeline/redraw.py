"""The annotated video drawn once more, where numbers turned out to be older ones while it was being written."""

import pickle
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
import supervision as sv

from reid_tracker.errors import UserError
from reid_tracker.late_numbers import Corrections
from reid_tracker.ownership import FRESH
from reid_tracker.video.annotate import Annotator
from reid_tracker.video.frames import Frame
from reid_tracker.video.sinks import FrameResult
from reid_tracker.video.splice import Part, keyframes, splice
from reid_tracker.video.video_sink import VideoSink

COLUMNS = ("tracklet", "class_name", "perhaps")  # of `Detections.data`: what is drawn


class Kept:
    """A sink that keeps what is drawn of each frame, but the picture, in a file without a name.

    Parameters
    ----------
    folder : Path
        Where that file is.
    blurs : bool
        Whether everything that the detector saw is blurred: then all its boxes are kept.
    """

    def __init__(self, folder: Path, blurs: bool) -> None:
        self._blurs, self._failure = blurs, ""
        self._file: IO[bytes] | None = None
        try:
            # Nobody else's, as it has no name: what is unpickled is this run's own.
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        except OSError as error:
            self._failure = error.strerror or str(error)

    def write(self, result: FrameResult) -> None:
        """Keep one frame; when that fails the video stays as it was drawn first."""
        if self._file is None or self._failure:
            return
        tracks = result.tracks
        kept = replace(
            result,
            frame=Frame(None, result.frame.index, result.frame.timestamp),
            tracks=replace(
                tracks, mask=None, data={name: tracks.data[name] for name in COLUMNS if name in tracks.data}
            ),
            detections=sv.Detections(result.detections.xyxy) if self._blurs else sv.Detections.empty(),
        )
        try:
            pickle.dump(kept, self._file, pickle.HIGHEST_PROTOCOL)
        except OSError as error:
            self._failure = error.strerror or str(error)

    def close(self) -> None:
        """All is there; `results` reads it."""

    def _read(self) -> Iterator[FrameResult]:
        if self._file is None or self._failure:
            raise UserError(f"What was to be drawn could not be kept ({self._failure}).")
        self._file.seek(0)
        with suppress(EOFError):
            while True:
                yield pickle.load(self._file)

    def changed(self, corrections: Corrections, seconds: float = 0.0) -> np.ndarray:
        """Mask [F] of frames that look otherwise with the numbers found in the end, or up to ``seconds`` after such.

        Raises
        ------
        UserError
            If they could not be kept.
        """
        mask, until = [], -np.inf
        for result in self._read():
            numbers = () if result.tracks.tracker_id is None else result.tracks.tracker_id.tolist()
            if any(corrections.of(number) != number for number in numbers):
                until = result.frame.timestamp + seconds
            mask.append(result.frame.timestamp <= until)
        return np.array(mask, dtype=bool)

    def results(self, corrections: Corrections) -> Iterator[FrameResult]:
        """Each frame's result once more, without its picture, with the numbers found in the end."""
        for result in self._read():
            yield result.renumbered(corrections.of)

    def discard(self) -> None:
        """Let the file go."""
        if self._file is not None:
            with suppress(OSError):  # what a full disk did not take
                self._file.close()


def redraw(
    video: Path,
    kept: Kept,
    frames: Iterable[Frame],
    corrections: Corrections,
    annotator: Annotator,
    frame_rate: float,
    output: Path,
) -> None:
    """Draw a video again where its people have other numbers now; the rest stays as it is encoded.

    Parameters
    ----------
    video : Path
        As it was drawn first.
    kept : Kept
        What was drawn.
    frames : iterable of Frame
        The source once more.
    corrections : Corrections
        The numbers found in the end.
    annotator : Annotator
        What draws.
    frame_rate : float
        Nominal frames per second, as the first drawing had it.
    output : Path
        Where to write; what is drawn lies beside it until it is put together.

    Raises
    ------
    UserError
        If something cannot be read, drawn or written.
    """
    begins = keyframes(video)
    changed = kept.changed(corrections, annotator.trail_seconds)
    again = [(first, end) for first, end in pairwise(begins) if changed[first:end].any()]
    # Named as the output is: if a kill leaves it, it goes when the output does.
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=output.stem, suffix=FRESH) as folder:
        parts = [Part(first, end, Path(folder) / f"{first}.mp4") for first, end in again]
        place = 0
        sink: VideoSink | None = None
        for number, (frame, result) in enumerate(zip(frames, kept.results(corrections), strict=False)):
            if place == len(parts):
                break
            part = parts[place]
            if number >= part.first:
                sink = sink or VideoSink(part.video, frame_rate, annotator)
                sink.write(replace(result, frame=frame))
            elif frame.image is not None:
                annotator.remember(result.tracks, frame.timestamp, *frame.image.shape[1::-1])
            if number + 1 == part.end and sink is not None:
                sink.close()
                sink, place = None, place + 1
        splice(video, parts, output)
