"""One source of a run, from the opened file to the last note about it."""

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import supervision as sv

from reid_tracker.config import TrackConfig
from reid_tracker.counting import PassageCounter
from reid_tracker.detection.recorded import RecordedDetections
from reid_tracker.errors import UserError
from reid_tracker.gallery.recorder import GalleryMemory, GallerySink
from reid_tracker.gallery.store import Gallery
from reid_tracker.inputs import Inputs
from reid_tracker.late_numbers import Corrections
from reid_tracker.ownership import Claim, claim
from reid_tracker.pipeline.follow import Follower, check_region, inside_of
from reid_tracker.pipeline.models import AppearanceModel, Models
from reid_tracker.pipeline.plan import Job, claim_arguments
from reid_tracker.pipeline.redraw import Kept, redraw
from reid_tracker.places.files import Places
from reid_tracker.report.run import Reports, begin_reports
from reid_tracker.results import PICTURED, Outputs, RunSummary, annotator_of, ending, open_sinks, wanted_files
from reid_tracker.stages import Behind, ahead
from reid_tracker.tracking.refine import History, Join
from reid_tracker.tracking.state import TrackerState
from reid_tracker.tracking.tracker import Tracker
from reid_tracker.video.frames import Frame
from reid_tracker.video.settling import Settling
from reid_tracker.video.sinks import FrameResult, Sink
from reid_tracker.video.sources import open_source
from reid_tracker.video.video_sink import VideoSink


class Followed(Protocol):
    """What `Progress` is told of a source."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def frame_count(self) -> int | None:
        """How many frames it has, where that is known."""

    @property
    def notes(self) -> list[str]:
        """Sentences for the user."""


class Again(NamedTuple):
    """A source that is read a second time, as `Progress` is told of it."""

    name: str
    frame_count: int | None
    notes: list[str]


class Progress(Protocol):
    """Told of each frame that is done."""

    def __call__(self, source: Followed, done: int) -> None:
        """Take note of the source and the number of its frames done."""


@dataclass
class Common:
    """What the sources of a run have in common.

    Attributes
    ----------
    config : TrackConfig
    models : Models
    inputs : Inputs
        All that the run reads.
    polygon : ndarray float32 [K, 2] or None
        The region of interest, px.
    places : Places
        Lines and zones.
    state : tuple or None
        The place for the tracker's state, as `claim` takes it.
    refused : list of Join
        Joins that an earlier look back made and the user refused.
    gallery : callable
        Gives the run's gallery, for vectors of an appearance model.
    progress : callable, optional
    """

    config: TrackConfig
    models: Models
    inputs: Inputs
    polygon: np.ndarray | None
    places: Places
    state: tuple[list[Path], Inputs, list[str], bool] | None
    refused: list[Join]
    gallery: "GalleryOpener"
    progress: Progress | None = None


class GalleryOpener(Protocol):
    """Opens the run's gallery once."""

    def __call__(self, embedder: AppearanceModel | None) -> Gallery:
        """The gallery, for this appearance model's vectors."""


class SourceRun:
    """Tracks one source, in the steps of `track`.

    Parameters
    ----------
    job : Job
        The source and its files.
    summary : RunSummary
        Filled here.
    common : Common
        What it shares with the run's other sources.
    """

    def __init__(self, job: Job, summary: RunSummary, common: Common) -> None:
        self._job, self._summary, self._common, self._config = job, summary, common, common.config

    def track(self) -> None:
        """Open, follow everyone, save the state, look back, tell."""
        job, config, summary = self._job, self._config, self._summary
        self._open()
        private = config.output.private
        with ExitStack() as claims:
            claimed = claims.enter_context(claim(*claim_arguments(job, self._common.inputs, config), private=private))
            state = self._common.state
            claimed_state = claims.enter_context(claim(*state, private=private)) if state else None
            made = begin_reports(config, job.path, job.name, self._counter, self._recorder)
            history = History() if config.refine.enabled else None
            self._follow(claimed, made, history)
            if claimed_state is not None:
                self._save_state(claimed_state)
            if history is not None and not summary.interrupted:
                self._look_back(history, claimed)
        summary.notes += [note for note in self._source.notes if note not in summary.notes]
        summary.notes += self._beyond()
        summary.notes += self._detector.notes() if hasattr(self._detector, "notes") else []

    def _open(self) -> None:
        """Everything that reads: the source, the networks, the tracker, what counts."""
        job, config, summary, common = self._job, self._config, self._summary, self._common
        self._source = opened = open_source(job.path, **config.source.frames())
        summary.notes += opened.notes
        check_region(common.polygon, opened, job.path)
        self._detector = common.models.detector_for(job.path, opened)
        if hasattr(self._detector, "restart"):
            self._detector.restart()
        self._embedder, statistics = common.models.embedder_for(self._detector, opened)
        self._model = getattr(self._embedder, "hash", None)
        self._recorder: GallerySink | None = None
        self._memory: GalleryMemory | None = None
        if config.gallery.where:
            gallery = common.gallery(self._embedder)
            # A memory for each video: their clocks differ. What one taught the gallery, the next one knows.
            self._memory = GalleryMemory(gallery)
            self._recorder = GallerySink(gallery, job.name, config.tracker, config.gallery.save_seconds, self._memory)
        self._before = TrackerState.load(config.source.resume, self._model) if config.source.resume else None
        if self._before is None:
            self._tracker = Tracker(config.tracker, opened.frame_rate, statistics, self._memory)
        else:
            self._tracker = Tracker.restore(self._before, config.tracker)
            self._tracker.frame_rate = opened.frame_rate
            if self._before.header["settings"] != config.tracker.model_dump():
                summary.notes.append(
                    f"{config.source.resume} was made with other tracker settings; this run's are used."
                )
        self._shapes = common.places.within(opened.width, opened.height, str(job.path)).shapes
        self._counter = self._new_counter()
        if not opened.has_pixels and wanted_files(config, job.name, False) != wanted_files(config, job.name, True):
            summary.notes.append(f"{job.name} has no pictures: no video is written.")
        job.outputs = wanted_files(config, job.name, opened.has_pixels)
        job.refined = wanted_files(config, f"{job.name}_refined", opened.has_pixels, refined=True)

    def _new_counter(self, follow: bool = True) -> PassageCounter | None:
        """A counter from zero, or one that goes on from a state; None where nothing counts."""
        before = self._before.header.get("counts") if self._before else None
        counter = PassageCounter(self._shapes) if self._shapes else None
        lost = counter.restore(before, follow) if counter and before else list((before or {}).get("shapes", ()))
        if lost and follow:
            self._summary.notes.append(
                f"What the video before counted at {', '.join(lost)} is dropped: name the same place again."
            )
        return counter

    def _follow(self, claimed: Claim, made: Reports, history: History | None) -> None:
        """Track from the first frame to the last, and write."""
        job, summary, recorder = self._job, self._summary, self._recorder
        output, inside = self._config.output, inside_of(self._common.polygon)
        # Something to draw the video again from, where people may be recognised later than it can wait.
        video = next((file for file, kind in job.outputs.items() if kind == "video"), None)
        may_return = self._config.tracker.memory_seconds > 0
        kept = Kept(claimed.folder(video), output.blur_people) if video and may_return else None
        sinks = open_sinks(output, claimed, job.outputs, self._source, self._counter, recorder, made)
        follower = Follower(self._source, self._embedder, self._tracker, self._common.polygon, self._config, summary)
        told = [each for each in (*sinks.values(), made.log, kept, history) if each is not None]
        settling = Settling(
            Outputs(told, summary, self._counter, lambda: follower.shift),
            output.bridge_seconds,
            output.smooth_boxes,
            inside,
            output.lead_in_seconds,
            pictures=self._source.has_pixels and not PICTURED.isdisjoint(job.outputs.values()),
        )
        others: list[Sink] = [each for each in (settling, recorder) if each is not None]
        corrections = Corrections()
        again = partial(self._draw_again, video, kept, claimed) if video and kept else None
        began = time.perf_counter()
        try:
            with ending(claimed, sinks, summary, others=others, corrected=(corrections, job.outputs), draw_again=again):
                self._run(follower, others, corrections)
        finally:
            if kept is not None:
                kept.discard()
            summary.seconds = time.perf_counter() - began
        if recorder is not None:
            summary.recognised, summary.enrolled = len(recorder.recognised), len(recorder.new)
            summary.notes.append(recorder.summary())
        summary.notes += [each.note for each in sinks.values() if isinstance(each, VideoSink) and each.note]

    def _draw_again(self, video: Path, kept: Kept, claimed: Claim, corrections: Corrections, has_ended: bool) -> str:
        """See to it that the video shows the numbers found in the end; in words, what came of it."""
        late = f"{self._summary.source}: {len(corrections)} recognised late"
        as_it_is = f"{late}; in the video they bear another number until then"
        try:
            if not kept.changed(corrections).any():
                return ""
            if not has_ended:
                return f"{as_it_is}."
            self._redraw(video, kept, claimed, corrections)
        except KeyboardInterrupt:
            return f"{as_it_is}, as it was not drawn again to the end."
        except (UserError, OSError) as error:
            return f"{as_it_is}, as it could not be drawn again: {error}"
        return f"{late}; the video was drawn again with the right numbers."

    def _redraw(self, video: Path, kept: Kept, claimed: Claim, corrections: Corrections) -> None:
        """Read the source a second time, and draw."""
        config, source, progress = self._config, self._source, self._common.progress
        again = Again(f"{source.name}, drawn again", source.frame_count, [])

        def told(frames: Iterable[Frame]) -> Iterator[Frame]:
            for number, frame in enumerate(frames, 1):
                yield frame
                if progress is not None:
                    progress(again, number)

        annotator = annotator_of(config.output, self._counter, self._recorder)
        with (
            claimed.renewed(video) as place,
            closing(ahead(open_source(self._job.path, **config.source.frames()))) as read,
        ):
            redraw(claimed.place(video), kept, told(read), corrections, annotator, source.frame_rate, place)

    def _run(self, follower: Follower, sinks: list[Sink], corrections: Corrections) -> None:
        """The loop itself. Reading, detecting and writing have a thread each; embedding and association happen here."""
        source, summary, tracker, progress = self._source, self._summary, self._tracker, self._common.progress
        detector = self._detector

        def detected() -> Iterator[tuple[Frame, sv.Detections]]:
            for frame in frames:
                with summary.timed("detect"):
                    detections = detector.detect(frame)
                yield frame, detections

        def write(done: tuple[FrameResult, int]) -> None:
            result, summary.identities = done
            with summary.timed("write"):
                corrections.take(result.tracks)
                for sink in sinks:
                    sink.write(result)
            summary.frames += 1
            summary.last_frame = result.frame.index + 1

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

    def _beyond(self) -> list[str]:
        """What to say where recorded detections go on after the video, and so may be another's."""
        config, summary, detector = self._config, self._summary, self._detector
        if not isinstance(detector, RecordedDetections) or config.source.end is not None or summary.interrupted:
            return []
        if detector.last_frame < summary.last_frame + config.source.stride:  # perhaps one that was passed over
            return []
        beyond = f"go on to frame {detector.last_frame}, which {summary.source} does not have"
        return [f"{detector.path}: its detections {beyond}; check that they are of this video."]

    def _save_state(self, claimed: Claim) -> None:
        """Save the state; that of a video broken off does not replace an older one."""
        state = self._tracker.state()
        state.header["counts"] = self._counter.state() if self._counter else None
        file = Path(self._config.output.save_state or "").expanduser()
        place = claimed.begin(file, grows=False)
        state.save(place, self._model)
        if self._summary.interrupted:
            self._summary.outputs.append(place)
        else:
            claimed.complete()
            self._summary.outputs.append(file)

    def _look_back(self, history: History, claimed: Claim) -> None:
        """Decide again with the future known, and write files of the same kinds, named <name>_refined."""
        job, config, source, summary = self._job, self._config, self._source, self._summary
        # What it looked back on bears other tracklets: nobody's passage goes on from the video before.
        counter = self._new_counter(follow=False)
        # Another run with the gallery may have given the next numbers to others meanwhile.
        new_numbers = self._memory.new_identities if self._memory is not None else None
        hindsight = history.refined(config.refine, self._common.refused, new_numbers)
        made = replace(begin_reports(config, job.path, job.name, counter, self._recorder), hindsight=hindsight)
        sinks = open_sinks(config.output, claimed, job.refined, source, counter, made=made)
        with_pictures = source.has_pixels and not PICTURED.isdisjoint(job.refined.values())
        frames = source if with_pictures else (Frame(None, *each) for each in history.frames)
        with ending(claimed, sinks, summary, f"{summary.source} is written; of what it was looked back on, "):
            # From here on the summary's counts are the refined ones.
            outputs = Outputs([*sinks.values(), *([made.log] if made.log else [])], summary, counter)
            for frame, tracks, seen in zip(frames, hindsight.tracks, history.seen, strict=False):
                outputs.write(FrameResult(frame, tracks, sv.Detections(seen)))
        people = {number for tracks in hindsight.tracks if len(tracks) for number in tracks.tracker_id.tolist()}
        for each in self._common.refused:
            if not any(each.is_same(other) for other in hindsight.refused):
                who, when = f"{each.number:g} and {each.following:g}", f"{each.ended:g} s to {each.began:g} s"
                summary.notes.append(f"No join of {who}, {when}, could be made: the refusal of it changes nothing.")
        joined = sum(each.number != each.following for each in hindsight.joins)
        summary.notes.append(
            f"{summary.source}, looked back on: {len(people)} identities instead of {summary.identities}; "
            f"{len(hindsight.cuts)} cut, {joined} joined, see {summary.source}_refined.json."
        )


def _timed(source: Iterable[Frame], summary: RunSummary) -> Iterator[Frame]:
    """Yield the frames and count the time that reading takes."""
    frames = iter(source)
    while True:
        with summary.timed("read"):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame
