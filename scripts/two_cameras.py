"""Whether a person keeps one number across two cameras, counted against the truth.

    python scripts/two_cameras.py SEQUENCE [--seconds 57] [--also 13=2 11=3 12=4 9=5 10=6 14=8 15=8 18=8 19=1]
        [--set tracker.return_false_match_rate=0.01]

SEQUENCE is a MOTChallenge folder with pixels. Two cameras are made of it, in two ways, and tracked as `reid-tracker
live` does, at the sequence's own pace whatever this machine's: "side by side" cuts the picture into a left and a right
part with a strip between them that neither sees; "one after the other" gives one camera the frames up to --seconds, the
other those after. `--also` names people whom the truth numbers anew when they return (PETS09-S2L1: as in that line).

A passage is a person of the truth who was before one camera (at least 5 frames) and is next before the other. They keep
their number, get a new one, or another one's: one that somebody else had borne longest when they came.
"""

import argparse
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from reid_tracker.config import LiveConfig, load
from reid_tracker.live.loop import LiveLoop
from reid_tracker.live.people import People
from reid_tracker.motchallenge import CONFIDENCE, FRAME, IDENTITY, LEFT, read_rows
from reid_tracker.pipeline.models import Models
from reid_tracker.tracking.costs import area, intersection, iou
from reid_tracker.video.frames import Frame
from reid_tracker.video.sources import open_source

STRIP = 0.15  # share of the width that neither of two cameras side by side sees
ENOUGH = 5  # frames that make a visit
VISIBLE = 0.5  # share of a person that a camera must show


class Part:
    """What one camera sees: columns and times of the sequence."""

    status = "live"

    def __init__(self, name: str, left: float, right: float, first: float, last: float) -> None:
        self.name, self.left, self.right, self.first, self.last = name, left, right, first, last
        self.frame: Frame | None = None

    def feed(self, frame: Frame) -> None:
        """Show the camera a frame of the sequence."""
        self.frame = None
        if self.first <= frame.timestamp < self.last:
            self.frame = Frame(frame.image[:, int(self.left) : int(self.right)].copy(), frame.index, frame.timestamp)

    def take(self) -> tuple[Frame, float] | None:
        """Give what the camera saw of it."""
        frame, self.frame = self.frame, None
        return None if frame is None else (frame, frame.timestamp)


class Clock:
    """The sequence's time."""

    now = 0.0

    def __call__(self) -> float:
        """Give it, in s."""
        return self.now


@dataclass
class Visit:
    """A person's time before one camera: frames with each number, and whose each number was when it began."""

    place: int
    owners: dict[int, int]
    found: Counter[int] = field(default_factory=Counter)

    @property
    def number(self) -> int:
        """The one borne longest."""
        return self.found.most_common(1)[0][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequence", type=Path)
    parser.add_argument("--seconds", type=float, default=57.0)
    parser.add_argument("--also", nargs="*", default=[], metavar="NUMBER=NUMBER")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of reid-tracker live")
    arguments = parser.parse_args()
    same = {int(pair.partition("=")[0]): int(pair.partition("=")[2]) for pair in arguments.also}
    rows = read_rows(arguments.sequence / "gt" / "gt.txt")
    rows = rows[rows[:, CONFIDENCE] > 0]
    config = load(LiveConfig, None, dict(pair.split("=", 1) for pair in arguments.set))
    models = Models(config)
    detector, (embedder, statistics) = models.detector(), models.embedder()
    width = open_source(arguments.sequence).width
    middle, forever = (1 - STRIP) / 2 * width, float("inf")
    layouts = {
        "side by side": [Part("left", 0, middle, 0, forever), Part("right", width - middle, width, 0, forever)],
        "one after the other": [
            Part("first", 0, width, 0, arguments.seconds),
            Part("second", 0, width, arguments.seconds, forever),
        ],
    }
    print(f"{'cameras':<22}{'passages':>9}{'kept':>6}{'new number':>12}{'another one':>13}{'numbers':>9}{'people':>8}")
    clock = Clock()
    for layout, cameras in layouts.items():
        visits: dict[int, list[Visit]] = defaultdict(list)
        borne: dict[int, Counter[int]] = defaultdict(Counter)

        def note(place, result, arrived, cameras=cameras, visits=visits, borne=borne) -> None:
            """Give each person of the truth the number of the track on them."""
            camera, index = cameras[place], result.frame.index
            truth = rows[rows[:, FRAME] == index + 1]
            boxes = np.hstack([truth[:, LEFT : LEFT + 2], truth[:, LEFT : LEFT + 2] + truth[:, LEFT + 2 : LEFT + 4]])
            seen = np.tile([camera.left, -1e6, camera.right, 1e6], (len(boxes), 1))
            visible = intersection(boxes, seen) / area(boxes) >= VISIBLE
            boxes = boxes - [camera.left, 0, camera.left, 0]
            for box, person in zip(boxes[visible], truth[visible, IDENTITY].astype(int).tolist(), strict=True):
                person = same.get(person, person)
                if not visits[person] or visits[person][-1].place != place:
                    owners = {number: bearers.most_common(1)[0][0] for number, bearers in borne.items()}
                    visits[person].append(Visit(place, owners))
                tracks = result.tracks
                if len(tracks):
                    overlap = iou(np.tile(box, (len(tracks), 1)).astype(np.float32), tracks.xyxy)
                    if overlap.max() >= 0.5:
                        number = int(tracks.tracker_id[overlap.argmax()])
                        visits[person][-1].found[number] += 1
                        borne[number][person] += 1

        people = People()
        loop = LiveLoop(cameras, detector, embedder, config, people, note, statistics, clock=clock)
        for frame in open_source(arguments.sequence):
            clock.now = frame.timestamp
            for camera in cameras:
                camera.feed(frame)
            loop.step()
        counts, taken = Counter(), set()
        for person, theirs in visits.items():
            known = [visit for visit in theirs if visit.found.total() >= ENOUGH]
            for before, after in pairwise(known):
                if before.place != after.place:
                    owner = after.owners.get(after.number, person)
                    kept = before.number == after.number
                    counts["kept" if kept else "new" if owner == person else "another"] += 1
            taken.update(visit.number for visit in known)
        figures = (counts.total(), counts["kept"], counts["new"], counts["another"], len(taken), len(visits))
        sizes = (9, 6, 12, 13, 9, 8)
        print(f"{layout:<22}" + "".join(f"{each:>{size}}" for each, size in zip(figures, sizes, strict=True)))


if __name__ == "__main__":
    main()
