"""What a run writes: which files, the sinks that fill them, the reports made at the end, and how it all ends."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from reid_tracker.config import OutputSettings, TrackConfig
from reid_tracker.counting import Counts, PassageCounter
from reid_tracker.errors import UserError
from reid_tracker.gallery.recorder import GallerySink
from reid_tracker.late_numbers import Corrections
from reid_tracker.ownership import Claim
from reid_tracker.report.run import Reports, told_visits
from reid_tracker.tracking.bridge import measured
from reid_tracker.video.frames import Source
from reid_tracker.video.sinks import (
    CountsSink,
    CropSink,
    FileSink,
    FrameResult,
    JsonLinesSink,
    MotSink,
    ParquetSink,
    ReportSink,
    Sink,
)
from reid_tracker.video.video_sink import VideoSink

if TYPE_CHECKING:
    import pandas as pd

    from reid_tracker.video.annotate import Annotator

PICTURED = frozenset({"video", "crops", "page"})  # kinds of outputs that need pictures
STAGES = ("read", "detect", "embed", "associate", "write")


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
        People of the gallery who were recognised, and people enrolled; 0 without a gallery.
    seconds : float
        Wall-clock time.
    stage_seconds : dict
        Time by stage: read, detect, embed, associate, write.
    outputs : list of Path
        What was written. Where the run ended early beside results of an earlier one, these are ``*.part.*``.
    urls : list of str
        The same, where the results go to a URL.
    notes : list of str
        Sentences for the user.
    counts : dict
        What was counted, `PassageCounter.update`; empty where nothing was to be.
    interrupted : bool
        Whether Ctrl-C ended the run before its source did.
    error : str or None
        Why this source of a batch failed.
    kept : str
        What a run that ended early left, in words: up to which frame, and where.
    done_before : bool
        Whether an earlier run with the same settings had finished it, so that nothing was done.
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
    urls: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    counts: Counts = field(default_factory=lambda: {"lines": {}, "zones": {}})
    interrupted: bool = False
    error: str | None = None
    kept: str = ""
    done_before: bool = False

    def to_frame(self) -> "pd.DataFrame":
        """What was written of the tracks, as a pandas DataFrame.

        Columns frame (from 1), seconds, identity, tracklet, x1, y1, x2, y2, confidence, class: from the JSON lines
        where there are any, else from the MOTChallenge text, which knows neither seconds nor classes.

        Raises
        ------
        UserError
            If the run wrote neither.
        """
        from reid_tracker.exchange.tracks import read_results

        if self.urls:
            raise UserError(f"{self.source}: its results are at {self.urls[0]}; fetch them first.")

        for ending in (".jsonl", ".txt"):
            written = next((each for each in self.outputs if each.suffix == ending), None)
            if written is not None:
                return read_results(written).to_frame()
        raise UserError(f"{self.source}: the run wrote neither JSON lines nor MOTChallenge text; ask for one.")

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stage_seconds[stage] += time.perf_counter() - start


def wanted_files(config: TrackConfig, name: str, has_pixels: bool, refined: bool = False) -> dict[Path, str]:
    """The files that the settings ask for, and of which kind each is."""
    output = config.output
    if refined and not config.refine.enabled:
        return {}
    nothing_asked = not (output.video or output.mot or output.jsonl or output.parquet or output.crops or output.report)
    wanted = {
        f"{name}.mp4": ("video", output.video or (nothing_asked and has_pixels)),
        f"{name}.txt": ("mot", output.mot or nothing_asked),
        f"{name}.jsonl": ("jsonl", output.jsonl),
        f"{name}.parquet": ("parquet", output.parquet),
        f"{name}_crops": ("crops", output.crops),
        f"{name}_counts.json": ("counts", bool(config.count.lines or config.count.zones or config.count.places)),
        f"{name}.json": ("decisions", refined),
        f"{name}_people.csv": ("people", output.report),
        f"{name}_visits.csv": ("visits", output.report),
        f"{name}_report.html": ("page", output.report),
    }
    folder = Path(output.folder).expanduser()
    return {folder / file: kind for file, (kind, is_wanted) in wanted.items() if is_wanted}


def open_sinks(
    output: OutputSettings,
    claimed: Claim,
    outputs: dict[Path, str],
    source: Source,
    counter: PassageCounter | None = None,
    recorder: GallerySink | None = None,
    made: Reports | None = None,
) -> dict[Path, FileSink]:
    """A sink for each of the outputs; it writes where the claim says."""
    sinks: dict[Path, FileSink] = {}
    private = output.private
    try:
        for file, kind in outputs.items():
            place = claimed.begin(file, grows=kind in ("video", "mot", "jsonl", "crops"))
            if kind == "video":
                sinks[file] = VideoSink(place, source.frame_rate, annotator_of(output, counter, recorder))
            elif kind == "counts":
                assert counter is not None and made is not None and made.log is not None
                sinks[file] = CountsSink(place, counter, partial(told_visits, made.log, made.loitering), private)
            elif kind == "jsonl":
                sinks[file] = JsonLinesSink(place, recorder.name) if recorder else JsonLinesSink(place)
            elif kind in ("mot", "parquet"):
                sinks[file] = MotSink(place) if kind == "mot" else ParquetSink(place, private)
            elif kind == "crops":
                sinks[file] = CropSink(place, private=private)
            else:
                assert made is not None
                sinks[file] = ReportSink(place, partial(made.make, kind), private)
    except UserError:
        for sink in sinks.values():
            sink.close()
        raise
    return sinks


def annotator_of(output: OutputSettings, counter: PassageCounter | None, recorder: GallerySink | None) -> "Annotator":
    """What draws the video."""
    from reid_tracker.video.annotate import Annotator

    named = {"label": recorder.label} if recorder else {}
    return Annotator(output.trail_seconds, output.blur_people, counter.shapes if counter else None, **named)


class Outputs:
    """A `Sink` that gives what is counted, and each frame with it, to those of a run.

    Parameters
    ----------
    sinks : iterable of Sink
        One that fails gets no more frames; the others do. They are closed by who made them.
    summary : RunSummary
        Is told the counts.
    counter : PassageCounter, optional
    shift : callable
        Gives what the counter's times are ahead of the frames', s.
    """

    def __init__(
        self,
        sinks: Iterable[Sink],
        summary: RunSummary,
        counter: PassageCounter | None,
        shift: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._sinks, self._summary, self._counter, self._shift = list(sinks), summary, counter, shift

    def write(self, result: FrameResult) -> None:
        """Store one frame; the first error is raised once all have it."""
        if self._counter is not None:
            now = result.frame.timestamp + self._shift()
            self._summary.counts = self._counter.update(measured(result.tracks), now)
            result = replace(result, counts=self._summary.counts, dwell=self._counter.dwell())
        failure: Exception | None = None
        for sink in tuple(self._sinks):
            try:
                sink.write(result)
            except Exception as error:
                failure = failure or error
                self._sinks.remove(sink)
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Nothing is left to do."""


@contextmanager
def ending(
    claimed: Claim,
    sinks: dict[Path, FileSink],
    summary: RunSummary,
    before: str = "",
    others: Sequence[Sink] = (),
    corrected: tuple[Corrections, dict[Path, str]] | None = None,
    draw_again: Callable[[Corrections, bool], str] | None = None,
) -> Iterator[None]:
    """Finish every file, however the block ends; say what is left of a run that ends early.

    The ``others`` are closed first: some hold frames that the files are still to get. What ``corrected`` has learned is
    put right in the outputs, of which it gives the kinds; in the video by ``draw_again``, which is told whether the run
    has ended well, and says in words what came of it.
    """
    failure: Exception | None = None
    try:
        yield
    except KeyboardInterrupt:
        summary.interrupted = True
    except Exception as error:  # also one that nobody foresaw: what is written is worth no less
        failure = error
    finally:
        with summary.timed("write"):
            at_the_end = _close((*others, *sinks.values()), summary)
            failure = failure or at_the_end
            if corrected is not None:
                corrections, kinds = corrected
                for each in others:
                    if isinstance(each, GallerySink):
                        corrections.learn(each.merged)
                try:
                    there = [output for output in sinks if claimed.place(output).exists()]
                    corrections.apply(claimed, {output: kinds[output] for output in there})
                except UserError as error:
                    summary.notes.append(str(error))
                if corrections and draw_again is not None:
                    note = draw_again(corrections, failure is None and not summary.interrupted)
                    summary.notes += [note] if note else []
    if failure is None and not summary.interrupted:
        summary.outputs += sinks
        claimed.complete()
        return
    kept = _keep(claimed, sinks, summary)
    summary.kept = before + kept if kept else f"{before}nothing is kept."
    if isinstance(failure, UserError):
        raise UserError(f"{failure} Stopped; {summary.kept}" if kept else str(failure)) from failure
    if failure is not None:
        failure.add_note(f"Stopped; {summary.kept}")
        raise failure


def _close(sinks: Iterable[Sink], summary: RunSummary) -> Exception | None:
    """Close all of them, whatever is wrong with one; the first error."""
    failure: Exception | None = None
    for sink in sinks:
        try:
            sink.close()
        except KeyboardInterrupt:  # a second one: what still waits is given up
            summary.interrupted = True
        except Exception as error:
            failure = failure or error
    return failure


def _keep(claimed: Claim, sinks: dict[Path, FileSink], summary: RunSummary) -> str:
    """Keep what a run that ends early has written, in words: where, and up to which frame; empty files go."""
    # What is made at the end may not have come about.
    holds = {output: sink.last_frame if claimed.place(output).exists() else 0 for output, sink in sinks.items()}
    claimed.discard(*(output for output, last in holds.items() if not last))
    places = claimed.keep()
    summary.outputs += places.values()
    frames = {place: holds[output] for output, place in places.items()}
    if not frames:
        return ""
    beside = [place for output, place in places.items() if place != output]
    if set(frames.values()) == {summary.last_frame} and not beside and 0 not in holds.values():
        return f"frames up to {summary.last_frame} are kept."
    alike: dict[int, list[str]] = {}
    for place, last in frames.items():
        alike.setdefault(last, []).append(str(place))
    text = "frames " + ", ".join(f"up to {last} are kept in {' and '.join(names)}" for last, names in alike.items())
    text += "".join(f", none in {output}" for output, last in holds.items() if last == 0) + "."
    return text + (" The results of the run before stay as they were." if beside else "")
