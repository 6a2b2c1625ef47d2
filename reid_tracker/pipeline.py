"""The loop: frames in, identities out. The only place where source, detector, embedder, tracker and sinks meet."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import supervision as sv

from reid_tracker.backends import appearance_form, detector_form
from reid_tracker.config import LiveConfig, OutputSettings, TrackConfig
from reid_tracker.counting import Counts, PassageCounter, parse_points, parse_shapes
from reid_tracker.detection.detector import Detector
from reid_tracker.errors import UserError
from reid_tracker.gallery.recorder import GalleryMemory, GallerySink
from reid_tracker.gallery.store import Gallery, Model, forget_unseen, open_gallery
from reid_tracker.stages import Behind, ahead
from reid_tracker.tracking.bridge import Bridge, measured
from reid_tracker.tracking.calibration import CosineStatistics
from reid_tracker.tracking.refine import History
from reid_tracker.tracking.state import TrackerState
from reid_tracker.tracking.tracker import Tracker
from reid_tracker.video.sinks import CountsSink, CropSink, FrameResult, JsonLinesSink, MotSink, Sink, VideoSink
from reid_tracker.video.sources import Frame, Source, expand_sources, open_source
from reid_tracker.writing import check_writable

Progress = Callable[[Source, int], None]
STAGES = ("read", "detect", "embed", "associate", "write")


class AppearanceModel(Protocol):
    """What turns boxes into vectors: `Embedder`, or your own."""

    def embed(self, image: np.ndarray, xyxy: np.ndarray) -> np.ndarray:
        """Unit vectors float32 [N, D] of the boxes [N, 4] (px) of a BGR image; a NaN row where there is none."""


@dataclass
class RunSummary:
    """What came of one source.

    Attributes
    ----------
    source : str
        Name of the source.
    frames : int
        Frames tracked.
    last_frame : int
        Number of the last one in the source, from 1; 0 before the first.
    identities : int
        Identities given.
    recognised, enrolled : int
        People whom the gallery knew, and whom it knows now; 0 without a gallery.
    seconds : float
        Wall-clock time.
    stage_seconds : dict
        Time by stage: read, detect, embed, associate, write.
    outputs : list of Path
        What was written.
    notes : list of str
        Sentences for the user.
    counts : dict
        What was counted, `PassageCounter.update`; empty where nothing was to be.
    interrupted : bool
        Whether Ctrl-C ended the run before its source did.
    """

    source: str
    frames: int = 0
    last_frame: int = 0
    identities: int = 0
    recognised: int = 0
    enrolled: int = 0
    seconds: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    outputs: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    counts: Counts = field(default_factory=lambda: {"lines": {}, "zones": {}})
    interrupted: bool = False

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stage_seconds[stage] += time.perf_counter() - start


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
        If something given cannot be used, or a result cannot be stored. What was written stays readable, and the
        message says up to which frame.
    """
    with ExitStack() as opened_here:
        return _track(source, config or TrackConfig(), detector, embedder, progress, opened_here)


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
    if config.gallery.where:
        rate = max(config.tracker.return_false_match_rate, config.gallery.false_match_rate)
        recognising = config.tracker.model_copy(update={"return_false_match_rate": rate})
        config = config.model_copy(update={"tracker": recognising})
    patterns: list[str | Path] = [source] if isinstance(source, str | Path) else list(source)
    paths = expand_sources(patterns)
    if len(paths) > 1 and (config.source.resume or config.output.save_state):
        raise UserError("A state is that of one video: give one source with save_state or resume.")
    check_writable(config.output.save_state)
    models = Models(config, detector, embedder)
    polygon = parse_polygon(config.source.roi) if config.source.roi else None
    shapes = parse_shapes(config.count.lines, config.count.zones)
    summaries: list[RunSummary] = []
    names: set[str] = set()
    gallery: Gallery | None = None
    for path in paths:
        opened = open_source(path, **config.source.model_dump(exclude={"roi", "resume"}))
        name = _unused(opened.name, names)
        run_detector = models.detector_for(path, opened)
        run_embedder, statistics = models.embedder_for(run_detector, opened)
        summary = RunSummary(source=name, notes=[*opened.notes])
        recorder, memory = None, None
        if config.gallery.where:
            if config.source.resume or config.output.save_state:
                mend = "a state has numbers of its own; give a gallery, or save_state and resume."
                raise UserError(f"gallery {config.gallery.where}: {mend}")
            known = model_of(run_embedder, config)
            if gallery is None:
                gallery = open_gallery(config.gallery.where, known)
                opened_here.callback(gallery.close)
                if config.gallery.retention_days is not None:
                    forget_unseen(gallery, config.gallery.retention_days)
            # A memory for each video: their clocks differ. What one taught the gallery, the next one knows.
            recorder = GallerySink(gallery, name, config.tracker, config.gallery.save_seconds)
            memory = GalleryMemory(gallery)
        model = getattr(run_embedder, "hash", None)
        before = TrackerState.load(config.source.resume, model) if config.source.resume else None
        tracker = _tracker(config, opened, statistics, before, summary, memory)
        counter = _counter(shapes, before, summary)
        sinks, summary.outputs = _open_sinks(config.output, path, name, opened, summary, counter, recorder)
        history = History() if config.refine.enabled else None
        sinks += [history] if history else []
        _run(
            opened,
            run_detector,
            run_embedder,
            tracker,
            sinks,
            counter,
            polygon,
            config,
            summary,
            progress,
        )
        if recorder is not None:
            summary.recognised, summary.enrolled = len(recorder.recognised), len(recorder.new)
            summary.notes.append(recorder.summary())
        if config.output.save_state:
            state = tracker.state()
            state.header["counts"] = counter.state() if counter else None
            state.save(config.output.save_state, model)
            summary.outputs.append(Path(config.output.save_state))
        if history is not None and not summary.interrupted:
            # What it looked back on bears other tracklets: nobody's passage goes on from the video before.
            _refine(history, config, path, opened, summary, _counter(shapes, before, summary, follow=False))
        summary.notes += [note for note in opened.notes if note not in summary.notes]
        summaries.append(summary)
        if summary.interrupted:
            break
    return summaries


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
    polygon: np.ndarray | None,
    config: TrackConfig,
    summary: RunSummary,
    progress: Progress | None,
) -> None:
    """The loop itself; fills ``summary``."""
    began = time.perf_counter()
    before, shift = tracker.time, 0.0
    inside_region = None if polygon is None else partial(_feet_inside, polygon=polygon)
    bridge = Bridge(config.output.bridge_seconds, inside=inside_region)
    size = (source.width, source.height) if source.width else None

    def detected() -> Iterator[tuple[Frame, sv.Detections]]:
        for frame in frames:
            with summary.timed("detect"):
                detections = detector.detect(frame)
            yield frame, detections

    def write(done: tuple[FrameResult, int]) -> None:
        result, summary.identities = done
        with summary.timed("write"):
            if counter is not None:
                summary.counts = counter.update(measured(result.tracks), result.frame.timestamp + shift)
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
        try:
            for number, (frame, detections) in enumerate(seen, 1):
                if number == 1 and before is not None:  # this video follows on an earlier one
                    shift = before + 1 / source.frame_rate - frame.timestamp
                now = frame.timestamp + shift
                inside = detections if polygon is None else detections[_feet_inside(detections.xyxy, polygon)]
                with summary.timed("embed"):
                    if embedder is not None and frame.image is not None and "embedding" not in inside.data:
                        needed = needs_vector(inside, tracker, now, config.embedder.refresh_seconds)
                        attach_vectors(inside, needed, embedder.embed(frame.image, inside.xyxy[needed]))
                with summary.timed("associate"):
                    tracks = tracker.update(inside, now, frame.image)
                if config.output.smooth_boxes:
                    tracks.xyxy = tracks.data["smooth_xyxy"]
                tracks = bridge(tracks, tracker, size)
                writer.put((FrameResult(frame, tracks, detections), tracker.identities))
                if progress is not None:
                    progress(source, number)
        finally:
            seen.close()
            frames.close()
            writer.finish()
    except KeyboardInterrupt:
        summary.interrupted = True
    except UserError as error:
        if not summary.frames:
            raise
        raise UserError(f"{error} Stopped; frames up to {summary.last_frame} are kept.") from error
    finally:
        _close_all(sinks, summary)
        summary.seconds = time.perf_counter() - began


def _refine(
    history: History,
    config: TrackConfig,
    path: Path,
    source: Source,
    summary: RunSummary,
    counter: PassageCounter | None,
) -> None:
    """Look back on a finished run and write files of the same kinds again, named <name>_refined."""
    refined = history.refined(config.refine)
    sinks, outputs = _open_sinks(config.output, path, f"{summary.source}_refined", source, summary, counter)
    with_pictures = any(each.suffix not in (".txt", ".jsonl", ".json") for each in outputs)
    frames = source if with_pictures else (Frame(None, *each) for each in history.frames)
    try:
        for frame, tracks, seen in zip(frames, refined, history.seen, strict=False):
            if counter is not None:  # from here on the summary's counts are the refined ones
                summary.counts = counter.update(tracks, frame.timestamp)
            result = FrameResult(frame, tracks, sv.Detections(seen), summary.counts if counter else None)
            for sink in sinks:
                sink.write(result)
    finally:
        _close_all(sinks, summary)
    summary.outputs += outputs
    people = {number for tracks in refined if len(tracks) for number in tracks.tracker_id.tolist()}
    summary.notes.append(f"{summary.source}, looked back on: {len(people)} identities instead of {summary.identities}.")


def _close_all(sinks: Sequence[Sink], summary: RunSummary) -> None:
    """Finish every file, also when finishing another one fails."""
    failure: UserError | None = None
    with summary.timed("write"):
        for sink in sinks:
            try:
                sink.close()
            except UserError as error:
                failure = failure or error
    if failure is not None:
        raise failure


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

            # Not str.format: a path may hold other braces.
            where = self._recorded.replace("{source}", str(path)).replace("{name}", source.name)
            return RecordedDetections(where, settings.confidence)
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


def _open_sinks(
    output: OutputSettings,
    path: Path,
    name: str,
    source: Source,
    summary: RunSummary,
    counter: PassageCounter | None = None,
    recorder: GallerySink | None = None,
) -> tuple[list[Sink], list[Path]]:
    """The sinks that the settings ask for and what they write."""
    from reid_tracker.video.annotate import Annotator

    folder = Path(output.folder).expanduser()
    nothing_asked = not (output.video or output.mot or output.jsonl or output.crops)
    wants_video = output.video or (nothing_asked and source.has_pixels)
    if nothing_asked and not source.has_pixels:
        summary.notes.append(f"{name} has no pictures: no video is written.")
    wanted: dict[Path, Callable[[Path], Sink]] = {}
    if wants_video:
        named = {"label": recorder.label} if recorder else {}
        shapes = counter.shapes if counter else None
        annotator = Annotator(output.trail_seconds, output.blur_people, shapes, **named)
        wanted[folder / f"{name}.mp4"] = lambda file: VideoSink(file, source.frame_rate, annotator)
    if output.mot or nothing_asked:
        wanted[folder / f"{name}.txt"] = MotSink
    if output.jsonl:
        wanted[folder / f"{name}.jsonl"] = JsonLinesSink
    if output.crops:
        wanted[folder / f"{name}_crops"] = CropSink
    if counter is not None:
        wanted[folder / f"{name}_counts.json"] = lambda file: CountsSink(file, counter)
    for file in wanted:
        if file.resolve() == path.resolve():
            raise UserError(f"{file}: the result would overwrite its own source; name another folder with --output.")
    sinks: list[Sink] = [recorder] if recorder else []
    try:
        for file, make in wanted.items():
            sinks.append(make(file))
    except UserError:
        _close_all(sinks, summary)
        raise
    return sinks, list(wanted)


def _unused(name: str, names: set[str]) -> str:
    """A name that no source of this run has yet: two folders may hold videos of one name."""
    candidate, number = name, 2
    while candidate in names:
        candidate, number = f"{name}-{number}", number + 1
    names.add(candidate)
    return candidate


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
