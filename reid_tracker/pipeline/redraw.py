"""The annotated video drawn once more, where numbers turned out to be older ones while it was being written."""

import pickle
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import supervision as sv

from reid_tracker.errors import UserError
from reid_tracker.late_numbers import Corrections
from reid_tracker.video.frames import Frame
from reid_tracker.video.sinks import FrameResult

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

    def results(self, frames: Iterable[Frame], corrections: Corrections) -> Iterator[FrameResult]:
        """Each frame's result once more, with its picture and the numbers found in the end.

        Raises
        ------
        UserError
            If they could not be kept.
        """
        if self._file is None or self._failure:
            raise UserError(f"What was to be drawn could not be kept ({self._failure}).")
        self._file.seek(0)
        for frame in frames:
            try:
                result = pickle.load(self._file)
            except EOFError:
                return
            dwell = result.dwell and {corrections.of(number): each for number, each in result.dwell.items()}
            yield replace(result, frame=frame, tracks=corrected(result.tracks, corrections), dwell=dwell)

    def discard(self) -> None:
        """Let the file go."""
        if self._file is not None:
            with suppress(OSError):  # what a full disk did not take
                self._file.close()


def corrected(tracks: sv.Detections, corrections: Corrections) -> sv.Detections:
    """A frame's tracks with the numbers found in the end; of a person's boxes that were not seen one at most stays."""
    if tracks.tracker_id is None or not len(tracks):
        return tracks
    numbers, there, stay = [corrections.of(each) for each in tracks.tracker_id.tolist()], set[int](), []
    seen = np.ones(len(tracks), bool) if tracks.confidence is None else tracks.confidence > 0
    for row, number in enumerate(numbers):
        if seen[row] or number not in there:
            stay.append(row)
        there.add(number)
    data = dict(tracks.data)
    if "perhaps" in data:
        data["perhaps"] = np.where(np.asarray(data["perhaps"]) == numbers, 0, data["perhaps"])  # it was so
    result: sv.Detections = replace(tracks, tracker_id=np.array(numbers), data=data)[np.array(stay)]
    return result
