"""The reports of a run: what is logged of its frames, and the files made of that when it is over."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import reid_tracker
from reid_tracker.config import TrackConfig
from reid_tracker.counting import PassageCounter
from reid_tracker.gallery.recorder import GallerySink
from reid_tracker.report.clock_time import began_at
from reid_tracker.report.visits import VisitLog
from reid_tracker.tracking.refine import Join, Refined


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
            # Only joins of two numbers are decisions that one may refuse; those refused stand there for the next run.
            joins = [(each, False) for each in self.hindsight.joins if each.number != each.following]
            joins += [(each, True) for each in self.hindsight.refused]
            decisions = {
                "cuts": [each._asdict() for each in self.hindsight.cuts],
                "joins": [{**each._asdict(), "refused": refused} for each, refused in sorted(joins, key=_ended)],
            }
            return (json.dumps(decisions, indent=1) + "\n").encode()
        assert self.log is not None
        if kind == "people":
            return self.log.people_table()
        if kind == "visits":
            return self.log.visits_table()
        from reid_tracker.report.page import make_page

        return make_page(self.log, self.name, self.about)


def _ended(join: tuple[Join, bool]) -> float:
    return join[0].ended


def told_visits(log: VisitLog, loitering: float | None) -> dict[str, Any]:
    """Queues in zones, every stay there and every crossing of a line, for ``<name>_counts.json``."""
    told, visits = [], log.visits()
    for each in visits:
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
    queues = {place: {"mean": round(mean, 3), "most": most} for place, (mean, most) in log.queues(visits).items()}
    return {"queues": queues, "visits": told}


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
