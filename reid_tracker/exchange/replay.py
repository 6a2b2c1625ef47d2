"""Finished tracks frame by frame again, as the sinks of a run take them."""

import logging
from collections.abc import Iterable, Iterator

import numpy as np
import supervision as sv

from reid_tracker.exchange.tracks import Tracks
from reid_tracker.video.frames import Frame, Source

logger = logging.getLogger(__name__)


def frames_for(tracks: Tracks, source: Source) -> Iterator[Frame]:
    """The frames of a video; a note where it ends before the tracks do: it may be another one's."""
    read, last = 0, int(tracks.frame.max(initial=0))
    for frame in source:
        read = frame.index + 1
        yield frame
    if read < last:
        logger.warning(
            "%s ends with frame %d, but the results go on to frame %d: is it their video?", source.name, read, last
        )


def replay(
    tracks: Tracks, source: Iterable[Frame] | None = None, frame_rate: float | None = None
) -> Iterator[tuple[Frame, sv.Detections]]:
    """Each frame with its tracks.

    Parameters
    ----------
    tracks : Tracks
        From `read_tracks`.
    source : Source or iterable of Frame, optional
        The video: all its frames and their times. Without it as many as the tracks hold, without pictures.
    frame_rate : float, optional
        Where there is no video: for the times; else those of the tracks, and only frames for which they hold one.
    """
    starts = np.searchsorted(tracks.frame, np.arange(1, int(tracks.frame.max(initial=0)) + 2))
    labels = np.array(tracks.label, dtype=object)
    kinds = np.unique(labels.astype(str), return_inverse=True)[1].reshape(-1)
    frames: Iterable[Frame]
    if source is None:
        known = np.unique(tracks.frame, return_index=True)
        moments = dict(zip(known[0].tolist(), tracks.seconds[known[1]].tolist(), strict=True))
        frames = (
            Frame(None, number - 1, (number - 1) / frame_rate if frame_rate else moments[number])
            for number in range(1, len(starts))
            if frame_rate or number in moments
        )
    else:
        frames = source
    for frame in frames:
        if frame.index + 1 < len(starts):
            rows = slice(starts[frame.index], starts[frame.index + 1])
            here = sv.Detections(
                xyxy=tracks.xyxy[rows].astype(np.float32),
                confidence=tracks.confidence[rows],
                class_id=kinds[rows],
                tracker_id=tracks.identity[rows],
                data={"tracklet": tracks.tracklet[rows], "class_name": labels[rows]},
            )
        else:
            here = sv.Detections.empty()
        yield frame, here
