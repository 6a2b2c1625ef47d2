"""Counting who crosses a line or enters a zone, by their feet, per identity: who comes back is counted once.

An identity may be corrected shortly after it was given, and motion goes on through that. So supervision's `LineZone`
and `PolygonZone` follow tracklets, and a tracklet's passages belong to whichever identity it has in the end.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import supervision as sv

from reid_tracker.errors import UserError

# A tracklet out of sight stays where it was last seen for so long, s: being covered on the line is not a new beginning.
MISSING_SECONDS = 5.0
# Seen so often on the other side, someone has crossed: feet jitter.
SIGHTINGS = 2
FURTHEST = 32767  # px; supervision keeps a mask of the zone's extent
NOWHERE = 1e6  # px; what lies further out was never meant

_KINDS = ("settled", "following")  # of _Passages
Counts = dict[str, dict[str, dict[str, int]]]
Dwell = dict[int, dict[str, float]]  # seconds that each person, by number, has been in the zones they are in


def parse_points(text: str, what: str, least: int, most: float = np.inf) -> np.ndarray:
    """Read ``"x1,y1 x2,y2 ..."`` in px, float32 [K, 2] with ``least`` <= K <= ``most``, or raise a UserError."""
    try:
        points: np.ndarray = np.array([[float(value) for value in point.split(",")] for point in text.split()])
    except ValueError:
        points = np.zeros(0)
    if points.ndim != 2 or points.shape[1] != 2 or not least <= len(points) <= most or not np.isfinite(points).all():
        shape, number = ("line", "two points") if most == 2 else ("polygon", "three corners at least")
        example = "x1,y1 x2,y2" if most == 2 else "x1,y1 x2,y2 x3,y3"
        raise UserError(f'{what} {text!r}: a {shape} is written as "{example}", with {number}.')
    if np.abs(points).max() > NOWHERE:
        raise UserError(f"{what} {text!r}: lies outside of any picture.")
    return points.astype(np.float32)


def parse_shapes(lines: Sequence[str], zones: Sequence[str]) -> dict[str, np.ndarray]:
    """Lines [2, 2] and zones [K, 2] by name from ``NAME=x1,y1 x2,y2 ...``; without a name they are numbered.

    Raises
    ------
    UserError
        If one cannot be read, lies beyond `FURTHEST`, or two have one name.
    """
    shapes: dict[str, np.ndarray] = {}
    for what, texts, least, most in (("line", lines, 2, 2), ("zone", zones, 3, np.inf)):
        for number, text in enumerate(texts, start=1):
            name, _, points = text.rpartition("=")
            name = name.strip() or f"{what} {number}"
            if not name.isprintable():
                raise UserError(f"{what} {text!r}: its name holds what cannot be shown; name it otherwise.")
            if name in shapes:
                raise UserError(f"{what} {text!r}: there is another one of the name {name!r}; name them differently.")
            shapes[name] = parse_points(points, what, least, most)
            if np.abs(shapes[name]).max() > FURTHEST or (shapes[name] == shapes[name][0]).all():
                raise UserError(f"{what} {text!r}: lies outside of any picture or is a mere point.")
    return shapes


@dataclass
class _Passages:
    """How often each identity passed; a tracklet still followed may change its identity."""

    settled: Counter[int] = field(default_factory=Counter)
    following: Counter[int] = field(default_factory=Counter)
    forgotten_people: int = 0
    settled_passages: int = 0  # of everyone, forgotten or not

    def count(self, identity_of: dict[int, int]) -> tuple[int, int]:
        """How many passages there were, and of how many people; in the time of those still followed."""
        unsettled = {identity_of[tracklet] for tracklet in self.following} - self.settled.keys()
        people = self.forgotten_people + len(self.settled) + len(unsettled)
        return self.settled_passages + self.following.total(), people

    def by_identity(self, identity_of: dict[int, int]) -> Counter[int]:
        total = self.settled.copy()
        for tracklet, passages in self.following.items():
            total[identity_of[tracklet]] += passages
        return total

    def settle(self, tracklet: int, identity: int, most: float) -> None:
        """Let a tracklet's passages stay with this identity; of more than ``most`` the first ones lose their number."""
        if tracklet in self.following:
            passages = self.following.pop(tracklet)
            self.settled[identity] += passages
            self.settled_passages += passages
            while len(self.settled) > most:
                del self.settled[next(iter(self.settled))]
                self.forgotten_people += 1


class PassageCounter:
    """Counts along a video.

    Parameters
    ----------
    shapes : dict of str to ndarray [K, 2]
        By name (`parse_shapes`): two points are a line, more are a zone.
    most_people : float
        How many people's passages are remembered; one who comes again after that many others is counted anew.

    Attributes
    ----------
    passages : list of (float, int, str, str)
        When (s), which tracklet, where, and "in" or "out", in the order of time.
    """

    def __init__(self, shapes: dict[str, np.ndarray], most_people: float = np.inf) -> None:
        self.shapes = shapes
        self._most_people = most_people
        feet = (sv.Position.BOTTOM_CENTER,)
        self._lines = {
            name: sv.LineZone(sv.Point(*points[0]), sv.Point(*points[1]), feet, SIGHTINGS)
            for name, points in shapes.items()
            if len(points) == 2
        }
        self._zones = {
            name: sv.PolygonZone(points.astype(int), feet) for name, points in shapes.items() if len(points) > 2
        }
        self._passages = {(name, way): _Passages() for name in shapes for way in ("in", "out")}
        self.passages: list[tuple[float, int, str, str]] = []
        self._inside: dict[str, set[int]] = {name: set() for name in self._zones}
        self._raw: dict[str, set[int]] = {name: set() for name in self._zones}
        self._since: dict[str, dict[int, float]] = {name: {} for name in self._zones}
        self._now = 0.0
        self._identity: dict[int, int] = {}
        self._last: dict[int, tuple[float, np.ndarray]] = {}
        self._in_sight: set[int] = set()
        # From these frames lines learn again on which side of them everyone is.
        self._recent: deque[sv.Detections] = deque(maxlen=SIGHTINGS + 1)

    def update(self, tracks: sv.Detections, timestamp: float) -> Counts:
        """Take in one frame, in the order of time.

        Parameters
        ----------
        tracks : supervision.Detections
            What `Tracker.update` gave: ``tracker_id`` and ``data["tracklet"]``.
        timestamp : float
            Seconds.

        Returns
        -------
        dict
            ``{"lines": {name: {"in", "out", "people_in", "people_out"}}, "zones": {name: {"inside", "in", "out",
            "people", "longest"}}}``: passages, and how many people made them; ``inside`` is now, ``longest`` how many
            whole seconds the one of them has been there who came first.
        """
        if len(tracks):
            for tracklet, identity, box in zip(
                tracks.data["tracklet"].tolist(), tracks.tracker_id.tolist(), tracks.xyxy, strict=True
            ):
                self._identity[tracklet] = identity
                self._last[tracklet] = timestamp, box
        for tracklet in [each for each, (seen, _) in self._last.items() if timestamp - seen > MISSING_SECONDS]:
            self._forget(tracklet)
        numbers = np.array(list(self._last), dtype=np.int64)
        everyone = sv.Detections.empty()
        if len(numbers):
            everyone = sv.Detections(np.array([box for _, box in self._last.values()]), tracker_id=numbers)
        self._recent.append(everyone)
        for name, line in self._lines.items():
            for way, crossed in zip(("in", "out"), line.trigger(everyone), strict=True):
                self._pass(timestamp, name, way, numbers[crossed].tolist())
        for name, zone in self._zones.items():
            now, before, inside = set(numbers[zone.trigger(everyone)].tolist()), self._raw[name], self._inside[name]
            self._raw[name] = now
            inside = (now & before) | (inside & (now | before))  # two sightings change it, one is jitter
            for tracklet in inside - self._inside[name]:
                self._since[name][tracklet] = timestamp
            for tracklet in self._inside[name] - inside:
                self._since[name].pop(tracklet, None)
            self._pass(timestamp, name, "in", inside - self._inside[name])
            self._pass(timestamp, name, "out", self._inside[name] - inside)
            self._inside[name] = inside
        self._now = timestamp
        self._in_sight = {tracklet for tracklet, (seen, _) in self._last.items() if seen == timestamp}
        return self.counts()

    def _pass(self, timestamp: float, name: str, way: str, tracklets: Iterable[int]) -> None:
        for tracklet in tracklets:
            self._passages[name, way].following[tracklet] += 1
            self.passages.append((timestamp, tracklet, name, way))

    def _forget(self, tracklet: int) -> None:
        for passages in self._passages.values():
            passages.settle(tracklet, self._identity[tracklet], self._most_people)
        for inside in (*self._inside.values(), *self._raw.values()):
            inside.discard(tracklet)
        for since in self._since.values():
            since.pop(tracklet, None)
        del self._last[tracklet], self._identity[tracklet]

    def take_passages(self) -> list[tuple[float, int, str, str]]:
        """The `passages` since the last call, with identities in place of tracklets; they are not kept."""
        taken = [(moment, self._identity[tracklet], name, way) for moment, tracklet, name, way in self.passages]
        self.passages.clear()
        return taken

    def counts(self) -> Counts:
        """What `update` gave last."""
        counts: Counts = {"lines": {}, "zones": {}}
        counted = {key: each.count(self._identity) for key, each in self._passages.items()}
        passages, people = ({key: each[place] for key, each in counted.items()} for place in (0, 1))
        for name in self._lines:
            counts["lines"][name] = {way: passages[name, way] for way in ("in", "out")}
            counts["lines"][name] |= {f"people_{way}": people[name, way] for way in ("in", "out")}
        for name in self._zones:
            since = self._here(name)
            began = min(since.values(), default=self._now)
            counts["zones"][name] = {
                "inside": len(since),
                "in": passages[name, "in"],
                "out": passages[name, "out"],
                "people": people[name, "in"],
                "longest": int(self._now - began + 1e-6),
            }
        return counts

    def _here(self, zone: str) -> dict[int, float]:
        """Tracklets that are in a zone and in sight, and since when, s."""
        since = self._since[zone]
        return {each: since.get(each, self._now) for each in self._inside[zone] & self._in_sight}

    def dwell(self) -> Dwell:
        """How long those in sight have been in the zones that they are in, at the last frame."""
        told: Dwell = {}
        for name in self._zones:
            for tracklet, began in self._here(name).items():
                told.setdefault(self._identity[tracklet], {})[name] = self._now - began
        return told

    def state(self) -> dict[str, Any]:
        """What JSON can hold, for `restore`; the tracker's own state belongs to it."""
        kept = [(key, each, getattr(self._passages[key], each)) for key in self._passages for each in _KINDS]
        return {
            "shapes": {name: points.tolist() for name, points in self.shapes.items()},
            "passages": [[*key, each, *entry] for key, each, counts in kept for entry in counts.items()],
            "inside": {name: [sorted(self._inside[name]), sorted(self._raw[name])] for name in self._zones},
            "since": {name: [[each, when] for each, when in since.items()] for name, since in self._since.items()},
            "last": [
                [tracklet, self._identity[tracklet], seen, box.tolist()] for tracklet, (seen, box) in self._last.items()
            ],
            "recent": [
                [everyone.xyxy.tolist(), [] if everyone.tracker_id is None else everyone.tracker_id.tolist()]
                for everyone in self._recent
            ],
        }

    def restore(self, state: dict[str, Any], follow: bool = True) -> list[str]:
        """Go on from the counts of another counter, before the first `update`.

        Parameters
        ----------
        state : dict
            From `state`.
        follow : bool
            Whether its tracklets go on; if not, only what they did so far stands.

        Returns
        -------
        list of str
            Names in the state that are not shapes of this one, or other shapes: their counts are dropped.
        """
        places = {name: points.tolist() for name, points in self.shapes.items()}
        same = {name for name, points in state["shapes"].items() if places.get(name) == points}
        for tracklet, identity, seen, box in state["last"]:
            self._identity[tracklet], self._last[tracklet] = identity, (seen, np.array(box, np.float32))
        for name, way, each, number, passages in state["passages"]:
            if name in same:
                getattr(self._passages[name, way], each)[number] += passages
                self._passages[name, way].settled_passages += passages if each == "settled" else 0
        if not follow:
            for tracklet in list(self._last):
                self._forget(tracklet)
            return sorted(state["shapes"].keys() - same)
        for name in same & self._zones.keys():
            self._inside[name], self._raw[name] = map(set, state["inside"][name])
            self._since[name] = dict(state.get("since", {}).get(name, []))
        for boxes, numbers in state["recent"]:
            self._recent.append(
                sv.Detections(np.array(boxes, np.float32).reshape(-1, 4), tracker_id=np.array(numbers, np.int64))
            )
            for line in self._lines.values():
                line.trigger(self._recent[-1])
        return sorted(state["shapes"].keys() - same)

    def by_identity(self) -> dict[str, dict[str, dict[int, int]]]:
        """Passages of each identity: ``{name: {"in": {identity: times}, "out": {identity: times}}}``."""
        return {
            name: {
                way: dict(sorted(self._passages[name, way].by_identity(self._identity).items()))
                for way in ("in", "out")
            }
            for name in self.shapes
        }


def describe(counts: Counts) -> list[str]:
    """The counts in words, a line for each shape."""
    words = [
        f"{name}: {each['in']} in ({_people(each['people_in'])}), {each['out']} out ({_people(each['people_out'])})"
        for name, each in counts["lines"].items()
    ]
    return words + [
        f"{name}: {_people(each['people'])}, {each['in']} {'entry' if each['in'] == 1 else 'entries'}, "
        f"{each['inside']} inside" + (f", longest {each['longest']} s" if each["inside"] else "")
        for name, each in counts["zones"].items()
    ]


def _people(number: int) -> str:
    return "1 person" if number == 1 else f"{number} people"
