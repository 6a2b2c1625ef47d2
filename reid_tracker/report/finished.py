"""The report of a run that is over, from what it wrote: other places can be asked about without tracking again."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

import reid_tracker
from reid_tracker.config import CountSettings
from reid_tracker.counting import PassageCounter
from reid_tracker.errors import UserError
from reid_tracker.exchange.formats import Video, read_tracks
from reid_tracker.exchange.replay import frames_for, replay
from reid_tracker.inputs import Inputs
from reid_tracker.ownership import claim, source_marks
from reid_tracker.places.files import named
from reid_tracker.report.clock_time import began_at
from reid_tracker.report.run import Reports
from reid_tracker.report.visits import VisitLog
from reid_tracker.tracking.bridge import measured
from reid_tracker.video.sinks import FrameResult
from reid_tracker.video.sources import check_fps, open_source


def report(
    results: Path | str,
    video: Path | str | None = None,
    output: Path | str | None = None,
    *,
    lines: Sequence[str] = (),
    zones: Sequence[str] = (),
    places: Path | str | None = None,
    fps: float | None = None,
    clock: str | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write ``<name>_people.csv``, ``<name>_visits.csv`` and ``<name>_report.html`` of results at hand.

    Parameters
    ----------
    results : path
        What `track` wrote (``<name>.jsonl`` or ``<name>.txt``), or what `convert` reads.
    video : path, optional
        The video it is of: for pictures of people and places, and for the times.
    output : path, optional
        Folder; that of the results by default.
    lines, zones : sequence of str
        As `track` takes them.
    places : path, optional
        A file of lines and zones.
    fps : float, optional
        Frames a second, where there is no video and the results hold no times.
    clock : str, optional
        When the video began: a date and time, or ``file`` (`began_at`).
    overwrite : bool
        Replace files that another program wrote.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    UserError
        If something is missing, not what it should be, or would be written over.
    """
    results = Path(results)
    check_fps(fps)
    source = open_source(video, fps=fps) if video is not None else None
    tracks = read_tracks(results, Video.of(source) if source else None)
    if source is None and fps is None and np.isnan(tracks.seconds).any():
        raise UserError(f"{results}: holds no times; name the video with --video, or give --fps.")
    known = named(CountSettings(lines=list(lines), zones=list(zones), places=str(places) if places else None))
    size = (source.width, source.height) if source else (0, 0)
    shapes = known.within(*size, str(video)).shapes
    counter = PassageCounter(shapes) if shapes else None
    about = {
        "video": Path(video).name if video is not None else "not at hand",
        "results": results.name,
        "made by": f"reid_tracker {reid_tracker.__version__}",
    }
    made = Reports(
        VisitLog(counter, lambda number: tracks.names.get(number, ""), began_at(clock, video)), results.stem, about
    )
    assert made.log is not None
    folder = Path(output).expanduser() if output is not None else results.parent
    files = {
        folder / f"{results.stem}_{name}": kind
        for name, kind in (("people.csv", "people"), ("visits.csv", "visits"), ("report.html", "page"))
    }
    # The video's run wrote a report of the same name: it may be made anew, as by that run itself.
    of = [*source_marks(results), *(source_marks(video) if video is not None else ())]
    with claim(
        files, Inputs({"results": [results], "video": [video], "places": [places]}), of, overwrite, private=True
    ) as claimed:
        for frame, here in replay(tracks, source and frames_for(tracks, source), fps):
            if counter is not None:
                counter.update(measured(here), frame.timestamp)
            made.log.write(FrameResult(frame, here, here))
        for file, kind in files.items():
            claimed.write(file, made.make(kind))
        claimed.complete()
    return list(files)
