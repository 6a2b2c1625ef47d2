"""What a run writes: which files, the sinks that fill them, the reports made at the end, and how it all ends."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import reid_tracker
from reid_tracker.config import OutputSettings, TrackConfig
from reid_tracker.corrections import Corrections
from reid_tracker.counting import Counts, PassageCounter
from reid_tracker.errors import UserError
from reid_tracker.gallery.recorder import GallerySink
from reid_tracker.ownership import Claim
from reid_tracker.report.clock_time import began_at
from reid_tracker.report.visits import VisitLog
from reid_tracker.tracking.refine import Refined
from reid_tracker.video.sinks import (
    CountsSink,
    CropSink,
    JsonLinesSink,
    MotSink,
    ParquetSink,
    ReportSink,
    Sink,
    VideoSink,
)
from reid_tracker.video.sources import Source

if TYPE_CHECKING:
    import pandas as pd

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
        People whom the gallery knew, and whom it knows now; 0 without a gallery.
    seconds : float
        Wall-clock time.
    stage_seconds : dict
        Time by stage: read, detect, embed, associate, write.
    outputs : list of Path
        What was written. Where the run ended early beside results of an earlier one, these are ``*.part.*``.
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


@dataclass
class Reports:
    """What is written about a run when it is over, from what its frames have told ``log``."""

    log: VisitLog | None
    name: str = ""
    about: dict[str, str] = field(default_factory=dict)
    hindsight: Refined | None = None
    loitering: float | None = None

    def make(self, kind: str) -> bytes:
        """The file of a kind."""
        if kind == "decisions":
            assert self.hindsight is not None
            # Only joins of two numbers are decisions that one may refuse.
            joined = [each for each in self.hindsight.joins if each.number != each.following]
            decisions = {
                "cuts": [each._asdict() for each in self.hindsight.cuts],
                "joins": [{**each._asdict(), "refused": False} for each in joined],
            }
            return (json.dumps(decisions, indent=1) + "\n").encode()
        assert self.log is not None
        if kind == "people":
            return self.log.people_table()
        if kind == "visits":
            return self.log.visits_table()
        from reid_tracker.report.page import make_page

        return make_page(self.log, self.name, self.about)


def told_visits(log: VisitLog, loitering: float | None) -> list[dict[str, Any]]:
    """Every stay in a zone and every crossing of a line, for ``<name>_counts.json``."""
    told = []
    for each in log.visits():
        if not each.place:
            continue
        about: dict[str, Any] = {"place": each.place, "identity": each.number}
        about |= {"name": name} if (name := log.name_of(each.number)) else {}
        if each.direction:
            told.append(about | {"seconds": round(each.entered, 3), "direction": each.direction})
            continue
        dwell = each.left - each.entered
        about |= {"entered": round(each.entered, 3), "left": round(each.left, 3), "dwell": round(dwell, 3)}
        told.append(about | ({"loitering": dwell > loitering} if loitering is not None else {}))
    return told


def begin_reports(
    config: TrackConfig, path: Path, name: str, counter: PassageCounter | None, recorder: GallerySink | None
) -> Reports:
    """Get ready for the reports of a video, its results called ``name``; without any or places nothing is kept."""
    if not config.output.report and counter is None:
        return Reports(None)
    settings = config.model_dump(exclude_defaults=True, exclude={"output", "detector", "embedder", "gallery"})
    about = {
        "video": path.name,
        "detector": Path(config.detector.recorded or config.detector.model or "bundled").name,
        "appearance network": Path(config.embedder.model or "bundled").name if config.embedder.enabled else "none",
        "other settings": json.dumps(settings) if settings else "the defaults",
        "made by": f"reid_tracker {reid_tracker.__version__}",
    }
    began = began_at(config.source.clock, path)
    name_of = recorder.name if recorder else (lambda _: "")
    log = VisitLog(counter, name_of, began, pictures=config.output.report)
    return Reports(log, name, about, loitering=config.count.loitering_seconds)


def open_sinks(
    output: OutputSettings,
    claimed: Claim,
    outputs: dict[Path, str],
    source: Source,
    counter: PassageCounter | None = None,
    recorder: GallerySink | None = None,
    made: Reports | None = None,
) -> dict[Path, Sink]:
    """A sink for each of the outputs; it writes where the claim says."""
    from reid_tracker.video.annotate import Annotator

    sinks: dict[Path, Sink] = {}
    try:
        for file, kind in outputs.items():
            place = claimed.begin(file, grows=kind in ("video", "mot", "jsonl", "crops"))
            if kind == "video":
                named = {"label": recorder.label} if recorder else {}
                shapes = counter.shapes if counter else None
                annotator = Annotator(output.trail_seconds, output.blur_people, shapes, **named)
                sinks[file] = VideoSink(place, source.frame_rate, annotator)
            elif kind == "counts":
                assert counter is not None and made is not None and made.log is not None
                sinks[file] = CountsSink(place, counter, partial(told_visits, made.log, made.loitering))
            elif kind == "jsonl":
                sinks[file] = JsonLinesSink(place, recorder.name) if recorder else JsonLinesSink(place)
            elif kind == "parquet":
                sinks[file] = ParquetSink(place)
            elif kind in ("mot", "crops"):
                sinks[file] = {"mot": MotSink, "crops": CropSink}[kind](place)
            else:
                assert made is not None
                sinks[file] = ReportSink(place, partial(made.make, kind))
    except UserError:
        for sink in sinks.values():
            sink.close()
        raise
    return sinks


@contextmanager
def ending(
    claimed: Claim,
    sinks: dict[Path, Sink],
    summary: RunSummary,
    before: str = "",
    others: Sequence[Sink] = (),
    corrected: tuple[Corrections, dict[Path, str]] | None = None,
) -> Iterator[None]:
    """Finish every file, however the block ends; say what is left of a run that ends early.

    What ``corrected`` has learned is put right in the outputs, of which it gives the kinds.
    """
    failure: UserError | None = None
    try:
        yield
    except KeyboardInterrupt:
        summary.interrupted = True
    except UserError as error:
        failure = error
    finally:
        with summary.timed("write"):
            for sink in (*sinks.values(), *others):
                try:
                    sink.close()
                except UserError as error:
                    failure = failure or error
            if corrected is not None:
                corrections, kinds = corrected
                try:
                    corrections.apply(claimed, {output: kinds[output] for output in sinks})
                except UserError as error:
                    summary.notes.append(str(error))
                if corrections and "video" in kinds.values():
                    summary.notes.append(
                        f"{summary.source}: {len(corrections)} recognised late; in the video they bear another number "
                        "until then."
                    )
    if failure is None and not summary.interrupted:
        summary.outputs += sinks
        claimed.complete()
        return
    kept = _keep(claimed, sinks, summary)
    summary.kept = before + kept if kept else f"{before}nothing is kept."
    if failure is not None:
        raise UserError(f"{failure} Stopped; {summary.kept}" if kept else str(failure)) from failure


def _keep(claimed: Claim, sinks: dict[Path, Sink], summary: RunSummary) -> str:
    """Keep what a run that ends early has written, in words: where, and up to which frame; empty files go."""
    holds = {output: getattr(sink, "last_frame", None) for output, sink in sinks.items()}
    claimed.discard(*(output for output, last in holds.items() if not last))
    places = claimed.keep()
    summary.outputs += places.values()
    frames = {place: holds[output] for output, place in places.items()}
    if not frames:
        return ""
    beside = [place for output, place in places.items() if place != output]
    if set(frames.values()) == {summary.last_frame} and not beside and 0 not in holds.values():
        return f"frames up to {summary.last_frame} are kept."
    alike: dict[int | None, list[str]] = {}
    for place, last in frames.items():
        alike.setdefault(last, []).append(str(place))
    text = "frames " + ", ".join(f"up to {last} are kept in {' and '.join(names)}" for last, names in alike.items())
    text += "".join(f", none in {output}" for output, last in holds.items() if last == 0) + "."
    return text + (" The results of the run before stay as they were." if beside else "")
