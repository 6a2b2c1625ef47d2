"""The loop: frames in, identities out. The only place where source, detector, embedder, tracker and sinks meet."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import supervision as sv

from reid_tracker.backends import appearance_form, detector_form
from reid_tracker.config import LiveConfig, TrackConfig
from reid_tracker.corrections import Corrections
from reid_tracker.counting import PassageCounter, parse_points
from reid_tracker.detection.detector import Detector
from reid_tracker.errors import UserError
from reid_tracker.gallery.recorder import GalleryMemory, GallerySink
from reid_tracker.gallery.store import Gallery, Model, forget_unseen, is_url, open_gallery
from reid_tracker.ownership import Claim, Inputs, check_outputs, claim, part_of, source_marks
from reid_tracker.places.files import named
from reid_tracker.results import Reports, RunSummary, begin_reports, ending, open_sinks, wanted_files
from reid_tracker.stages import Behind, ahead
from reid_tracker.tracking.bridge import Bridge, measured
from reid_tracker.tracking.calibration import CosineStatistics
from reid_tracker.tracking.refine import History, Join, read_refused
from reid_tracker.tracking.state import TrackerState
from reid_tracker.tracking.tracker import Tracker
from reid_tracker.video.sinks import FrameResult, Sink, VideoSink
from reid_tracker.video.sources import Frame, Source, expand_sources, open_source
from reid_tracker.writing import check_writable

logger = logging.getLogger(__name__)

Progress = Callable[[Source, int], None]


class AppearanceModel(Protocol):
    """What turns boxes into vectors: `Embedder`, or your own."""

    def embed(self, image: np.ndarray, xyxy: np.ndarray) -> np.ndarray:
        """Unit vectors float32 [N, D] of the boxes [N, 4] (px) of a BGR image; a NaN row where there is none."""


class BatchError(UserError):
    """Some sources of a batch failed; the others are done.

    Attributes
    ----------
    summaries : list of RunSummary
        One per source; those that failed have an ``error``.
    """

    def __init__(self, summaries: list[RunSummary]) -> None:
        failed = [each for each in summaries if each.error]
        lines = (f"  {each.source}: {each.error}" for each in failed)
        super().__init__("\n".join([f"{len(failed)} of {len(summaries)} sources failed.", *lines]))
        self.summaries = summaries


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
    with ExitStack() as opened_here:
        return _track(source, config or TrackConfig(), detector, embedder, progress, opened_here)


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
    opened = open_source(source, **config.source.model_dump(exclude={"roi", "resume"}))
    models = Models(config, detector, embedder)
    looks = models.detector_for(Path(source), opened)
    if hasattr(looks, "restart"):
        looks.restart()
    describes, statistics = models.embedder_for(looks, opened)
    tracker = Tracker(config.tracker, opened.frame_rate, statistics)
    polygon = parse_polygon(config.source.roi) if config.source.roi else None
    follower = _Follower(opened, describes, tracker, polygon, config, RunSummary(opened.name))
    for frame in opened:
        yield frame, follower.follow(frame, looks.detect(frame)).tracks


@dataclass
class _Job:
    """One source of a batch, and what is to be written of it: kinds of results by their files."""

    path: Path
    name: str
    outputs: dict[Path, str] = field(default_factory=dict)
    refined: dict[Path, str] = field(default_factory=dict)
    error: str | None = None

    def listed(self) -> tuple[list[Path], list[Path]]:
        """Files and folders."""
        both = {**self.outputs, **self.refined}
        return [file for file, kind in both.items() if kind != "crops"], [
            file for file, kind in both.items() if kind == "crops"
        ]


def _track(
    source: str | Path | Sequence[str | Path],
    config: TrackConfig,
    detector: Detector | None,
    embedder: AppearanceModel | None,
    progress: Progress | None,
    opened_here: ExitStack,
) -> list[RunSummary]:
    """`track`; what it opens and must close goes to ``opened_here``."""
    if config.output.blur_people and config.output.crops:
        raise UserError("blur_people and crops contradict each other: crops show people. Leave one out.")
    if config.output.blur_people and config.output.report:
        raise UserError("blur_people and report contradict each other: a report shows people. Leave one out.")
    if config.output.blur_people and config.gallery.where:
        raise UserError(
            "blur_people and a gallery contradict each other: a gallery keeps crops of people. Leave one out."
        )
    patterns = [source] if isinstance(source, str | Path) else source
    if not isinstance(patterns, Sequence) or not all(isinstance(each, str | Path) for each in patterns):
        raise UserError(f"{source!r}: track takes the paths of videos; for a camera there is reid-tracker live.")
    jobs = _plan(list(patterns), config)
    if not jobs:
        return []
    if len(jobs) > 1 and (config.source.resume or config.output.save_state):
        raise UserError("A state is that of one video: give one source with save_state or resume.")
    if len(jobs) > 1 and config.refine.refused:
        raise UserError("refine.refused is the report of one video; give one source with it.")
    inputs = _inputs(jobs, config)
    for job in jobs:
        if job.error is None:
            check_outputs(*_arguments(job, inputs, config))
    state = _state_arguments(jobs, config)
    refused = read_refused(Path(config.refine.refused).expanduser()) if config.refine.refused else []
    run = _Batch(config, Models(config, detector, embedder), progress, inputs, state, refused, opened_here)
    summaries: list[RunSummary] = []
    for job in jobs:
        summary = RunSummary(job.name, error=job.error)
        summaries.append(summary)
        try:
            if job.error is None:
                run.track(job, summary)
        except KeyboardInterrupt:
            summary.interrupted = True
        except UserError as error:
            if len(jobs) == 1:
                raise
            summary.error = str(error)
        if summary.error is not None and job is not jobs[-1]:
            logger.warning("%s Going on with the next source.", summary.error)
        if summary.interrupted:
            break
    errors = {each.error for each in summaries}
    if errors == {summaries[0].error} and summaries[0].error is not None:
        raise UserError(summaries[0].error)  # one cause for all: a model that is not there, a full disk
    if errors != {None} and not summaries[-1].interrupted:
        raise BatchError(summaries)
    return summaries


def _plan(patterns: list[str | Path], config: TrackConfig) -> list[_Job]:
    """What is tracked, under which name, and what that will write: all names apart, whatever their case."""
    jobs: dict[Path, _Job] = {}
    for pattern in patterns:
        try:
            for path in expand_sources([pattern]):
                jobs.setdefault(path, _Job(path, _name_of(path)))
        except UserError as error:
            if len(patterns) == 1:
                raise
            jobs.setdefault(Path(pattern), _Job(Path(pattern), Path(pattern).name, error=str(error)))
    taken: set[str] = set()
    for job in jobs.values():
        if job.error is None:
            stem, number = job.name, 1
            while True:
                job.outputs = wanted_files(config, job.name, has_pixels=not job.path.is_dir())
                job.refined = wanted_files(config, f"{job.name}_refined", not job.path.is_dir(), refined=True)
                names = {_folded(each) for file in job.outputs | job.refined for each in (file, part_of(file))}
                if not names & taken:
                    break
                number += 1
                job.name = f"{stem}-{number}"
            taken |= names
    return list(jobs.values())


def _name_of(path: Path) -> str:
    """What a source is called."""
    return path.resolve().name if path.is_dir() else path.stem


def _folded(path: Path) -> str:
    return str(path).casefold()


def _inputs(jobs: list[_Job], config: TrackConfig, with_state: bool = True) -> Inputs:
    """Everything that the run reads."""
    recorded, where = config.detector.recorded, config.gallery.where
    gallery = [where] if where and not is_url(where) else []
    return Inputs(
        {
            "settings": [config.file],
            "model": [config.detector.model, config.embedder.model],
            "gallery": gallery,
            "state": [config.source.resume] if with_state else [],
            "refused joins": [config.refine.refused],
            "places": [config.count.places],
            "detections": [_recorded_of(recorded, each.path, _name_of(each.path)) for each in jobs] if recorded else [],
            "source": [each.path for each in jobs],
        },
        closed=gallery,
    )


def _recorded_of(recorded: str, path: Path, name: str) -> str:
    """Where a source's recorded detections are; not by str.format, as a path may hold other braces."""
    return recorded.replace("{source}", str(path)).replace("{name}", name)


def _arguments(
    job: _Job, inputs: Inputs, config: TrackConfig
) -> tuple[list[Path], Inputs, list[str], bool, list[Path]]:
    """A job's outputs as `claim` takes them."""
    files, folders = job.listed()
    return files, inputs, source_marks(job.path), config.output.overwrite, folders


def _state_arguments(jobs: list[_Job], config: TrackConfig) -> tuple[list[Path], Inputs, list[str], bool] | None:
    """The place for the state as `claim` takes it, once it has been checked; None where none is saved."""
    if config.output.save_state is None:
        return None
    file, resumed = Path(config.output.save_state).expanduser(), config.source.resume
    check_writable(file)
    if _folded(file.resolve()) in {_folded(each.resolve()) for each in jobs[0].outputs | jobs[0].refined}:
        raise UserError(f"{file}: a result and the state would go into this file; name them apart.")
    # One state that goes on from video to video is what naming it twice means; it is replaced at the end.
    before = Path(resumed).expanduser() if resumed else None
    goes_on = before is not None and file.exists() and before.exists() and file.samefile(before)
    inputs = _inputs(jobs, config, with_state=not goes_on)
    arguments = [file], inputs, ["state"], config.output.overwrite or goes_on
    check_outputs(*arguments)
    return arguments


class _Batch:
    """What the sources of a run have in common, and how one of them is tracked."""

    def __init__(
        self,
        config: TrackConfig,
        models: "Models",
        progress: Progress | None,
        inputs: Inputs,
        state: tuple[list[Path], Inputs, list[str], bool] | None,
        refused: list[Join],
        opened_here: ExitStack,
    ) -> None:
        self._config, self._models, self._progress, self._inputs = config, models, progress, inputs
        self._state, self._refused, self._opened_here = state, refused, opened_here
        self._polygon = parse_polygon(config.source.roi) if config.source.roi else None
        self._places = named(config.count)
        self._gallery: Gallery | None = None

    def track(self, job: _Job, summary: RunSummary) -> None:
        """Track one source; fills the summary."""
        config, name = self._config, job.name
        opened = open_source(job.path, **config.source.model_dump(exclude={"roi", "resume"}))
        summary.notes += opened.notes
        run_detector = self._models.detector_for(job.path, opened)
        if hasattr(run_detector, "restart"):
            run_detector.restart()
        run_embedder, statistics = self._models.embedder_for(run_detector, opened)
        recorder, memory = None, None
        if config.gallery.where:
            gallery = self._open_gallery(run_embedder)
            # A memory for each video: their clocks differ. What one taught the gallery, the next one knows.
            memory = GalleryMemory(gallery)
            recorder = GallerySink(gallery, name, config.tracker, config.gallery.save_seconds, memory)
        model = getattr(run_embedder, "hash", None)
        before = TrackerState.load(config.source.resume, model) if config.source.resume else None
        tracker = _tracker(config, opened, statistics, before, summary, memory)
        shapes = self._places.within(opened.width, opened.height, str(job.path)).shapes
        counter = _counter(shapes, before, summary)
        if not opened.has_pixels and wanted_files(config, name, False) != wanted_files(config, name, True):
            summary.notes.append(f"{name} has no pictures: no video is written.")
        job.outputs = wanted_files(config, name, opened.has_pixels)
        job.refined = wanted_files(config, f"{name}_refined", opened.has_pixels, refined=True)
        private = config.output.private
        with ExitStack() as claims:
            claimed = claims.enter_context(claim(*_arguments(job, self._inputs, config), private=private))
            claimed_state = claims.enter_context(claim(*self._state, private=private)) if self._state else None
            made = begin_reports(config, job.path.name, name, counter, recorder)
            sinks = open_sinks(config.output, claimed, job.outputs, opened, counter, recorder, made)
            history = History() if config.refine.enabled else None
            others = [each for each in (recorder, history, made.log) if each is not None]
            corrections = Corrections()
            began = time.perf_counter()
            try:
                with ending(claimed, sinks, summary, others=others, corrected=(corrections, job.outputs)):
                    _run(
                        opened,
                        run_detector,
                        run_embedder,
                        tracker,
                        [*sinks.values(), *others],
                        counter,
                        corrections,
                        self._polygon,
                        config,
                        summary,
                        self._progress,
                    )
            finally:
                summary.seconds = time.perf_counter() - began
            if recorder is not None:
                summary.recognised, summary.enrolled = len(recorder.recognised), len(recorder.new)
                summary.notes.append(recorder.summary())
            summary.notes += [each.note for each in sinks.values() if isinstance(each, VideoSink) and each.note]
            if claimed_state is not None:
                self._save_state(tracker, counter, model, claimed_state, summary)
            if history is not None and not summary.interrupted:
                # What it looked back on bears other tracklets: nobody's passage goes on from the video before.
                again = _counter(shapes, before, summary, follow=False)
                made = begin_reports(config, job.path.name, name, again, recorder)
                made = replace(made, hindsight=history.refined(config.refine, self._refused))
                _refine(history, config, opened, claimed, job.refined, summary, again, made)
        summary.notes += [note for note in opened.notes if note not in summary.notes]
        summary.notes += run_detector.notes() if hasattr(run_detector, "notes") else []

    def _open_gallery(self, embedder: AppearanceModel | None) -> Gallery:
        config = self._config
        if config.source.resume or config.output.save_state:
            mend = "a state has numbers of its own; give a gallery, or save_state and resume."
            raise UserError(f"gallery {config.gallery.where}: {mend}")
        known = model_of(embedder, config)
        if self._gallery is None:
            assert config.gallery.where is not None
            self._gallery = open_gallery(config.gallery.where, known)
            self._opened_here.callback(self._gallery.close)
            if config.gallery.retention_days is not None:
                forget_unseen(self._gallery, config.gallery.retention_days)
        return self._gallery

    def _save_state(
        self, tracker: Tracker, counter: PassageCounter | None, model: str | None, claimed: Claim, summary: RunSummary
    ) -> None:
        """Save the state; that of a video broken off does not replace an older one."""
        state = tracker.state()
        state.header["counts"] = counter.state() if counter else None
        file = Path(self._config.output.save_state or "").expanduser()
        place = claimed.begin(file, grows=False)
        state.save(place, model)
        if summary.interrupted:
            summary.outputs.append(place)
        else:
            claimed.complete()
            summary.outputs.append(file)


def model_of(embedder: AppearanceModel | None, config: TrackConfig | LiveConfig) -> Model:
    """What the gallery must know of the appearance model; UserError where nobody could be recognised by it."""
    where = config.gallery.where
    if not config.tracker.memory_seconds:
        raise UserError(f"gallery {where}: without a memory nobody is recognised; raise tracker.memory_seconds.")
    identifier, dimension = getattr(embedder, "hash", None), getattr(embedder, "dimension", None)
    if identifier is None or dimension is None:
        raise UserError(
            f"gallery {where}: it needs pictures and an appearance model with a hash and a dimension; recorded vectors "
            "do not say which model made them, and without appearance nobody can be recognised."
        )
    return Model(identifier, dimension, getattr(embedder, "header", {}).get("calibration", {}))


def _tracker(
    config: TrackConfig,
    source: Source,
    statistics: CosineStatistics | None,
    state: TrackerState | None,
    summary: RunSummary,
    memory: GalleryMemory | None,
) -> Tracker:
    """A fresh tracker, or one that goes on from a state."""
    if state is None:
        return Tracker(config.tracker, source.frame_rate, statistics, memory)
    tracker = Tracker.restore(state, config.tracker)
    tracker.frame_rate = source.frame_rate
    if state.header["settings"] != config.tracker.model_dump():
        summary.notes.append(f"{config.source.resume} was made with other tracker settings; this run's are used.")
    return tracker


def _counter(
    shapes: dict[str, np.ndarray], state: TrackerState | None, summary: RunSummary, follow: bool = True
) -> PassageCounter | None:
    """A counter from zero, or one that goes on from a state (`PassageCounter.restore`); None where nothing counts."""
    before = state.header.get("counts") if state else None
    counter = PassageCounter(shapes) if shapes else None
    lost = counter.restore(before, follow) if counter and before else list((before or {}).get("shapes", ()))
    if lost and follow:
        summary.notes.append(
            f"What the video before counted at {', '.join(lost)} is dropped: name the same place again."
        )
    return counter


def _run(
    source: Source,
    detector: Detector,
    embedder: AppearanceModel | None,
    tracker: Tracker,
    sinks: Sequence[Sink],
    counter: PassageCounter | None,
    corrections: Corrections,
    polygon: np.ndarray | None,
    config: TrackConfig,
    summary: RunSummary,
    progress: Progress | None,
) -> None:
    """The loop itself; fills ``summary``."""
    follower = _Follower(source, embedder, tracker, polygon, config, summary)

    def detected() -> Iterator[tuple[Frame, sv.Detections]]:
        for frame in frames:
            with summary.timed("detect"):
                detections = detector.detect(frame)
            yield frame, detections

    def write(done: tuple[FrameResult, int]) -> None:
        result, summary.identities = done
        with summary.timed("write"):
            corrections.take(result.tracks)
            if counter is not None:
                now = result.frame.timestamp + follower.shift
                summary.counts = counter.update(measured(result.tracks), now)
                result = replace(result, counts=summary.counts)
            for sink in sinks:
                sink.write(result)
        summary.frames += 1
        summary.last_frame = result.frame.index + 1

    # Reading, detecting and writing have a thread each; embedding and association happen here.
    frames = ahead(_timed(source, summary))
    seen = ahead(detected())
    writer = Behind(write)
    try:
        for number, (frame, detections) in enumerate(seen, 1):
            writer.put((follower.follow(frame, detections), tracker.identities))
            if progress is not None:
                progress(source, number)
    finally:
        seen.close()
        frames.close()
        writer.finish()


class _Follower:
    """What happens to each frame's detections: those inside get vectors and identities, the missed are added.

    Attributes
    ----------
    shift : float
        What is added to the source's times, s, where its video follows on an earlier one.
    """

    def __init__(
        self,
        source: Source,
        embedder: AppearanceModel | None,
        tracker: Tracker,
        polygon: np.ndarray | None,
        config: TrackConfig,
        summary: RunSummary,
    ) -> None:
        self._embedder, self._tracker, self._polygon = embedder, tracker, polygon
        self._config, self._summary = config, summary
        self._before, self._step, self.shift = tracker.time, 1 / source.frame_rate, 0.0
        inside = None if polygon is None else partial(_feet_inside, polygon=polygon)
        self._bridge = Bridge(config.output.bridge_seconds, inside=inside)
        self._size = (source.width, source.height) if source.width else None

    def follow(self, frame: Frame, detections: sv.Detections) -> FrameResult:
        """Take in one frame, in the order of time."""
        if self._before is not None:  # this video follows on an earlier one
            self.shift, self._before = self._before + self._step - frame.timestamp, None
        now, tracker, polygon = frame.timestamp + self.shift, self._tracker, self._polygon
        inside = detections if polygon is None else detections[_feet_inside(detections.xyxy, polygon)]
        with self._summary.timed("embed"):
            if self._embedder is not None and frame.image is not None and "embedding" not in inside.data:
                needed = needs_vector(inside, tracker, now, self._config.embedder.refresh_seconds)
                attach_vectors(inside, needed, self._embedder.embed(frame.image, inside.xyxy[needed]))
        with self._summary.timed("associate"):
            tracks = tracker.update(inside, now, frame.image)
        if self._config.output.smooth_boxes:
            tracks.xyxy = tracks.data["smooth_xyxy"]
        return FrameResult(frame, self._bridge(tracks, tracker, self._size), detections)


def _refine(
    history: History,
    config: TrackConfig,
    source: Source,
    claimed: Claim,
    outputs: dict[Path, str],
    summary: RunSummary,
    counter: PassageCounter | None,
    made: Reports,
) -> None:
    """Look back on a finished run and write files of the same kinds again, named <name>_refined."""
    hindsight = made.hindsight
    assert hindsight is not None
    sinks = open_sinks(config.output, claimed, outputs, source, counter, made=made)
    with_pictures = source.has_pixels and any(kind in ("video", "crops", "page") for kind in outputs.values())
    frames = source if with_pictures else (Frame(None, *each) for each in history.frames)
    with ending(claimed, sinks, summary, f"{summary.source} is written; of what it was looked back on, "):
        for frame, tracks, seen in zip(frames, hindsight.tracks, history.seen, strict=False):
            if counter is not None:  # from here on the summary's counts are the refined ones
                summary.counts = counter.update(tracks, frame.timestamp)
            result = FrameResult(frame, tracks, sv.Detections(seen), summary.counts if counter else None)
            for sink in (*sinks.values(), *([made.log] if made.log else [])):
                sink.write(result)
    people = {number for tracks in hindsight.tracks if len(tracks) for number in tracks.tracker_id.tolist()}
    joined = sum(each.number != each.following for each in hindsight.joins)
    summary.notes.append(
        f"{summary.source}, looked back on: {len(people)} identities instead of {summary.identities}; "
        f"{len(hindsight.cuts)} cut, {joined} joined, see {summary.source}_refined.json."
    )


def needs_vector(detections: sv.Detections, tracker: Tracker, timestamp: float, refresh_seconds: float) -> np.ndarray:
    """Rows whose appearance matters: association matches weak boxes, and where told so certain ones, by motion."""
    confidence = np.ones(len(detections)) if detections.confidence is None else detections.confidence
    needed = confidence >= tracker.settings.high_confidence
    if refresh_seconds > 0:
        strong = np.flatnonzero(needed)
        needed[strong[tracker.certain(detections[strong], timestamp, refresh_seconds)]] = False
    return np.flatnonzero(needed)


def attach_vectors(detections: sv.Detections, rows: np.ndarray, vectors: np.ndarray) -> None:
    """Give these rows of the detections their vectors; the others stay NaN."""
    embedding = np.full((len(detections), vectors.shape[1]), np.nan, dtype=np.float32)
    embedding[rows] = vectors
    detections.data["embedding"] = embedding


def _timed(source: Iterable[Frame], summary: RunSummary) -> Iterator[Frame]:
    """Yield the frames and count the time that reading takes."""
    frames = iter(source)
    while True:
        with summary.timed("read"):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


class Models:
    """The networks, loaded once for all sources, and the files of recorded detections, one for each."""

    def __init__(
        self,
        config: TrackConfig | LiveConfig,
        detector: Detector | None = None,
        embedder: AppearanceModel | None = None,
    ) -> None:
        self._config = config
        self._detector = detector
        self._embedder = embedder
        self._recorded = config.detector.recorded if detector is None else None
        if self._recorded and config.detector.model:
            raise UserError("Both a detector and recorded detections are named; choose one.")

    def detector_for(self, path: Path, source: Source) -> Detector:
        """Give the detector for one source."""
        settings = self._config.detector
        if self._recorded:
            from reid_tracker.detection.recorded import RecordedDetections

            return RecordedDetections(_recorded_of(self._recorded, path, source.name), settings.confidence)
        return self.detector()

    def detector(self) -> Detector:
        """Give the detector that looks at pixels."""
        settings = self._config.detector
        if self._detector is None:
            from reid_tracker.detection.yolo import YoloDetector

            self._detector = YoloDetector(
                detector_form(settings.model, self._config.backend, self._config.device),
                classes=settings.classes,
                confidence=settings.confidence,
                image_size=settings.image_size,
                device=self._config.device,
                speed=settings.speed,
            )
        return self._detector

    def embedder_for(
        self, detector: Detector, source: Source
    ) -> tuple[AppearanceModel | None, CosineStatistics | None]:
        """Give the appearance model for one source, and what its header says of its cosines; None = none needed."""
        if not source.has_pixels or getattr(detector, "dimension", None) is not None:
            return None, None
        return self.embedder()

    def embedder(self) -> tuple[AppearanceModel | None, CosineStatistics | None]:
        """Give the appearance model, unless the settings want none."""
        settings = self._config.embedder
        if not settings.enabled:
            return None, None
        if self._embedder is None:
            from reid_tracker.appearance.embedder import Embedder

            form = appearance_form(settings.model, self._config.backend, self._config.device)
            self._embedder = Embedder(form, device=self._config.device)
        return self._embedder, getattr(self._embedder, "statistics", None)


def parse_polygon(text: str) -> np.ndarray:
    """Read a region of interest.

    Parameters
    ----------
    text : str
        ``"x1,y1 x2,y2 x3,y3 ..."`` in px, at least three corners.

    Returns
    -------
    ndarray float32 [K, 2]
        Its corners.

    Raises
    ------
    UserError
        If it is not that.
    """
    return parse_points(text, "roi", 3)


def _feet_inside(xyxy: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Mask [N] of the boxes whose foot point (middle of the lower edge) lies in the polygon."""
    feet = [((box[0] + box[2]) / 2, box[3]) for box in xyxy.tolist()]
    return np.array([cv2.pointPolygonTest(polygon, foot, False) >= 0 for foot in feet], dtype=bool)
