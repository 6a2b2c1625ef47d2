"""A run: every source in turn, with the networks loaded once; and a video frame by frame."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import supervision as sv

from reid_tracker.config import TrackConfig, WorkerSettings
from reid_tracker.detection.detector import Detector
from reid_tracker.errors import UserError
from reid_tracker.pipeline.failures import raise_failures
from reid_tracker.pipeline.follow import Follower, check_region, parse_polygon
from reid_tracker.pipeline.models import AppearanceModel, Models
from reid_tracker.pipeline.prepare import planned, prepare
from reid_tracker.pipeline.remote import remote_of, track_one
from reid_tracker.pipeline.source_run import Progress
from reid_tracker.results import RunSummary
from reid_tracker.tracking.tracker import Tracker
from reid_tracker.video.frames import Frame
from reid_tracker.video.sources import open_source

logger = logging.getLogger(__name__)


def track(
    source: str | Path | Sequence[str | Path],
    config: TrackConfig | None = None,
    *,
    detector: Detector | None = None,
    embedder: AppearanceModel | None = None,
    progress: Progress | None = None,
) -> list[RunSummary]:
    """Track everyone in one or more videos and write what the settings ask for.

    Parameters
    ----------
    source : path or sequence of paths
        Video files, globs, folders of images, MOTChallenge sequence folders. Each has its own tracker.
    config : TrackConfig, optional
        All settings; the defaults are those of configs/track.yaml.
    detector : Detector, optional
        Used instead of the one that the settings name.
    embedder : AppearanceModel, optional
        Used instead of the one that the settings name.
    progress : callable, optional
        Called after each frame with the source and the number of frames done.

    Returns
    -------
    list of RunSummary
        One per source. Ctrl-C ends the list with a summary whose ``interrupted`` is true; its files are complete up to
        ``last_frame``.

    Raises
    ------
    UserError
        If something given cannot be used, a result would be written over an input or over a file that this program
        did not write (`reid_tracker.ownership`), or cannot be stored. What was written stays readable, and the message
        says up to which frame.
    BatchError
        If some of several sources failed; the others are done.

    Notes
    -----
    Results of an earlier run of the same source are replaced once the new ones are complete.
    """
    config = config or TrackConfig()
    if config.workers.count or config.workers.ray:
        if detector is not None or embedder is not None:
            raise UserError("workers load their own networks: name files in the settings instead.")
        from reid_tracker.pipeline.workers import track_on_workers

        return track_on_workers(source, config, progress)  # type: ignore[arg-type]
    if config.workers != WorkerSettings():
        raise UserError("These settings are for workers (timeout, again, threads, gpus): add --workers or --ray.")
    with ExitStack() as opened_here:
        return _track(source, config, detector, embedder, progress, opened_here)


def stream(
    source: str | Path,
    config: TrackConfig | None = None,
    *,
    detector: Detector | None = None,
    embedder: AppearanceModel | None = None,
) -> Iterator[tuple[Frame, sv.Detections]]:
    """Track everyone in a video, a frame at a time; nothing is written, and it ends when the caller stops.

    Parameters
    ----------
    source : path
        A video file, a folder of images, or a MOTChallenge sequence folder.
    config, detector, embedder
        As for `track`. What is to be written, counted, refined or resumed is left aside.

    Yields
    ------
    frame : Frame
    tracks : supervision.Detections
        ``tracker_id`` is the identity; rows of confidence 0 were missed for a moment and are expected there.

    Raises
    ------
    UserError
        If something given cannot be used; a gallery is for `track`.
    """
    config = config or TrackConfig()
    if config.gallery.where:
        raise UserError("stream keeps no gallery; use track.")
    opened = open_source(source, **config.source.frames())
    polygon = parse_polygon(config.source.roi) if config.source.roi else None
    check_region(polygon, opened, source)
    models = Models(config, detector, embedder)
    looks = models.detector_for(Path(source), opened)
    if hasattr(looks, "restart"):
        looks.restart()
    describes, statistics = models.embedder_for(looks, opened)
    tracker = Tracker(config.tracker, opened.frame_rate, statistics)
    follower = Follower(opened, describes, tracker, polygon, config, RunSummary(opened.name))
    for frame in opened:
        yield frame, follower.follow(frame, looks.detect(frame)).tracks


def _track(
    source: str | Path | Sequence[str | Path],
    config: TrackConfig,
    detector: Detector | None,
    embedder: AppearanceModel | None,
    progress: Progress | None,
    opened_here: ExitStack,
) -> list[RunSummary]:
    """`track`; what it opens and must close goes to ``opened_here``."""
    jobs = planned(source, config)
    if not jobs:
        return []
    for job in jobs if len(jobs) > 1 else ():
        if job.error is not None:  # told now, not after hours
            logger.warning("%s The other sources are tracked.", job.error)
    remote = remote_of(jobs, config)
    common = prepare(jobs, config, Models(config, detector, embedder), progress, opened_here)
    summaries: list[RunSummary] = []
    for job in jobs:
        summary = RunSummary(job.name, error=job.error)
        summaries.append(summary)
        try:
            if job.error is None:
                track_one(job, summary, common, remote)
        except KeyboardInterrupt:
            summary.interrupted = True
        except UserError as error:
            if len(jobs) == 1:
                raise
            summary.error = str(error)
        if summary.error is not None and job.error is None and job is not jobs[-1]:
            logger.warning("%s Going on with the next source.", summary.error)
        if summary.interrupted:
            break
    if not summaries[-1].interrupted:
        raise_failures(summaries)
    return summaries
