"""The decisions in finished tracks that are most likely wrong, told by motion alone, so that they can be looked at.

Nearly all boxes follow the one before beyond doubt. Identities go wrong at three kinds of moments:

*gap*       a person was missed for a while, and the one followed afterwards may be another;
*crossing*  two people covered each other, and may have been swapped;
*newcomer*  a new number may be a person who was there before.

How likely each is wrong was learned from eleven sequences with ground truth (`scripts/fit_doubts.py`): good enough to
choose where to look first, not to be read as a share of errors.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from reid_tracker.exchange.tracks import Tracks
from reid_tracker.tracking import costs, kalman

GAP, CROSSING, NEWCOMER = "gap", "crossing", "newcomer"
# Logistic regression by kind: the constant, then a weight for each of the doubt's `features`.
WEIGHTS = {
    GAP: (-1.96, 1.07, 1.18, 0.74, 1.06),
    CROSSING: (-1.4, 2.75, -0.76, 0.66, 2.17),
    NEWCOMER: (1.26, -0.58, -1.68, -1.61, 6.27, -0.84),
}
# A miss no longer than this, s, is no gap; nor is one after which two boxes still overlap this much.
SHORT_GAP, JUMP_IOU = 0.25, 0.2
# Boxes that overlap so much are a crossing; those less than so many seconds apart are one crossing.
CROSSING_IOU, APART = 0.3, 1.0
# A newcomer may be a person last seen at most this long ago, s; in the first moments no one is a newcomer.
RETURN_SECONDS, BEGINNING = 60.0, 1.0
# Boxes of so many moments on either side, at least so many seconds apart, describe a person.
MOMENTS, SPACING = 4, 0.3
# Velocity is taken over so long, s, and kept up for about as long.
VELOCITY_SECONDS = 1.0
# How far off a prediction may be (std): in body heights, and for each second unseen; more than so many say no more.
SPREAD, SPREAD_PER_SECOND, FURTHEST = 0.25, 0.4, 4.0
# Share of the picture's sides: a track that begins this near to an edge has entered over it.
EDGE = 0.03


@dataclass(frozen=True, slots=True)
class Doubt:
    """One decision.

    Attributes
    ----------
    kind : str
        `GAP`, `CROSSING` or `NEWCOMER`.
    identity : int
        Whose number it is about.
    other : int
        The one crossed, or the one a newcomer may have been; of a gap the identity itself.
    start, end : float
        When the last box before and the first one after were seen, s.
    after : int
        Frame (from 1) from which on a correction counts.
    sides : dict of str to ndarray of int
        Rows of the tracks, nearest first, that show "own before", "own after", "other before", "other after"; what the
        kind does not ask about is missing.
    features : tuple of float
        What the odds go by.
    """

    kind: str
    identity: int
    other: int
    start: float
    end: float
    after: int
    sides: dict[str, np.ndarray]
    features: tuple[float, ...]

    @property
    def odds(self) -> float:
        """0..1: the higher, the sooner it should be looked at."""
        constant, *weights = WEIGHTS[self.kind]
        return float(1 / (1 + np.exp(-(constant + np.dot(weights, self.features)))))

    @property
    def key(self) -> str:
        """What it is called in a log: the same whenever it is found in these tracks."""
        return f"{self.kind} {self.identity} {self.other} {self.after}"


def find_doubts(timeline: "Timeline") -> list[Doubt]:
    """Every decision of these kinds, the most doubtful first."""
    found = [*_gaps(timeline), *_crossings(timeline), *_newcomers(timeline)]
    return sorted(found, key=lambda doubt: (-doubt.odds, doubt.start, doubt.identity))


class Timeline:
    """Everyone's boxes in the order of time, as the detector saw them.

    Parameters
    ----------
    tracks : Tracks
    frame_rate : float
        Where the tracks hold no times.

    Attributes
    ----------
    times : ndarray float64 [R]
        When each row was, s.
    people : dict of int to ndarray of int
        Rows of each identity that were seen.
    step : float
        Seconds from frame to frame.
    meetings : tuple of three ndarray [K]
        Rows, rows and IoU of boxes seen in one frame that overlap, each pair once.
    """

    def __init__(self, tracks: Tracks, frame_rate: float) -> None:
        self.tracks = tracks
        self.times = (tracks.frame - 1) / frame_rate if np.isnan(tracks.seconds).any() else tracks.seconds
        self.rows = np.flatnonzero(tracks.confidence > 0)
        moments = np.unique(self.times[self.rows])
        self.step = float(np.median(np.diff(moments))) if len(moments) > 1 else 1 / frame_rate
        order = self.rows[np.argsort(tracks.identity[self.rows], kind="stable")]
        bounds = np.flatnonzero(np.diff(tracks.identity[order])) + 1
        self.people = {int(tracks.identity[part[0]]): part for part in np.split(order, bounds) if len(part)}
        self._box = kalman.measure(tracks.xyxy)
        pairs = [np.zeros((2, 0), dtype=np.int64)]
        for rows in np.split(self.rows, np.flatnonzero(np.diff(tracks.frame[self.rows])) + 1):
            i, j = costs.overlapping(tracks.xyxy[rows], tracks.xyxy[rows])
            pairs.append(rows[np.stack([i[i < j], j[i < j]])])
        one, two = np.concatenate(pairs, axis=1)
        self.meetings = one, two, costs.iou(tracks.xyxy[one], tracks.xyxy[two])
        self._crowded = np.zeros(len(tracks))
        for each in (one, two):
            np.maximum.at(self._crowded, each, self.meetings[2])

    def crowded(self, *rows: int) -> float:
        """Largest overlap (IoU) of some boxes with other boxes of the same frame."""
        return float(self._crowded[list(rows)].max())

    def last_before(self, identity: int, time: float) -> int | None:
        """Row of an identity's last box before a time."""
        rows = self.people[identity]
        place = int(np.searchsorted(self.times[rows], time - 1e-6))
        return int(rows[place - 1]) if place else None

    def first_after(self, identity: int, time: float) -> int | None:
        """Row of an identity's first box after a time."""
        rows = self.people[identity]
        place = int(np.searchsorted(self.times[rows], time + 1e-6))
        return int(rows[place]) if place < len(rows) else None

    def end(self, row: int) -> np.ndarray:
        """Motion up to a box: time, centre, median size, velocity (px/s), [7]."""
        return self._state(row, -1)

    def start(self, row: int) -> np.ndarray:
        """Motion from a box on, [7]."""
        return self._state(row, 1)

    def _state(self, row: int, direction: int) -> np.ndarray:
        rows, now = self.people[int(self.tracks.identity[row])], self.times[row]
        low, high = (now - VELOCITY_SECONDS, now) if direction < 0 else (now, now + VELOCITY_SECONDS)
        rows = rows[slice(*np.searchsorted(self.times[rows], (low - 1e-6, high + 1e-6)))]
        times, box = self.times[rows], self._box[rows]
        off = times - times.mean()
        spread = off @ off
        velocity = off @ box[:, :2] / spread if len(rows) >= 3 and spread > 0 else np.zeros(2)
        return np.concatenate([[now], self._box[row, :2], np.median(box[:, 2:], axis=0), velocity])

    def shown(self, row: int, direction: int) -> np.ndarray:
        """Rows of some moments back (-1) or on (1) from a box of an identity, the nearest first."""
        rows = self.people[int(self.tracks.identity[row])]
        place = int(np.searchsorted(rows, row))
        inside = rows[place::-1] if direction < 0 else rows[place:]
        chosen = [int(inside[0])]
        for each in inside[: 4 * MOMENTS + int(MOMENTS * SPACING / max(self.step, 1e-3))]:
            if len(chosen) < MOMENTS and abs(self.times[each] - self.times[chosen[-1]]) >= SPACING - 1e-6:
                chosen.append(int(each))
        return np.array(chosen)


def unforeseen(end: np.ndarray, start: np.ndarray) -> tuple[float, float]:
    """How far a start lies from where an end leads, in its expected deviations; |log(height ratio)|.

    Both [7], by `Timeline`. Onwards, backwards, or at the mean of both velocities all the way: whichever explains it
    best.
    """
    gap = max(start[0] - end[0], 0.0)
    height = max(min(end[4], start[4]), 1.0)
    offset = start[1:3] - end[1:3]
    kept_up = VELOCITY_SECONDS * (1 - np.exp(-gap / VELOCITY_SECONDS))
    errors = (offset - kept_up * end[5:], offset - kept_up * start[5:], offset - gap * (end[5:] + start[5:]) / 2)
    off = min(float(np.hypot(*each)) for each in errors) / height / (SPREAD + SPREAD_PER_SECOND * gap)
    return min(off, FURTHEST), abs(float(np.log(max(start[4], 1.0) / max(end[4], 1.0))))


def _gaps(timeline: Timeline) -> Iterator[Doubt]:
    tracks, times = timeline.tracks, timeline.times
    least = max(1.5 * timeline.step, SHORT_GAP)
    lengths = np.concatenate([np.zeros(0), *(np.diff(times[rows]) for rows in timeline.people.values())])
    # A detector that misses people often makes gaps that mean little.
    usual = float(np.median(lengths[lengths > least])) if (lengths > least).any() else least
    for identity, rows in timeline.people.items():
        long = np.diff(times[rows]) > least
        apart = costs.iou(tracks.xyxy[rows[:-1]], tracks.xyxy[rows[1:]]) < JUMP_IOU
        for place in np.flatnonzero(long | apart):
            last, first = int(rows[place]), int(rows[place + 1])
            gap = max(float(times[first] - times[last]), 1e-3)
            motion = unforeseen(timeline.end(last), timeline.start(first))
            features = (float(np.log(gap / usual)), *motion, timeline.crowded(last, first))
            sides = {"own before": timeline.shown(last, -1), "own after": timeline.shown(first, 1)}
            moments = float(times[last]), float(times[first])
            yield Doubt(GAP, identity, identity, *moments, int(tracks.frame[first]), sides, features)


def _crossings(timeline: Timeline) -> Iterator[Doubt]:
    tracks, times = timeline.tracks, timeline.times
    meetings: dict[tuple[int, int], list[tuple[float, float]]] = {}
    i, j, overlap = (column[timeline.meetings[2] >= CROSSING_IOU] for column in timeline.meetings)
    who = zip(tracks.identity[i].tolist(), tracks.identity[j].tolist(), strict=True)
    for (one, two), *moment in zip(who, times[i].tolist(), overlap.tolist(), strict=True):
        if one != two:
            meetings.setdefault((min(one, two), max(one, two)), []).append((moment[0], moment[1]))
    for (one, two), moments in meetings.items():
        when, overlaps = np.array(moments).T
        for part in np.split(np.arange(len(when)), np.flatnonzero(np.diff(when) > APART) + 1):
            begun, over = float(when[part[0]]), float(when[part[-1]])
            before = [timeline.last_before(each, begun) for each in (one, two)]
            after = [timeline.first_after(each, over) for each in (one, two)]
            if None in before or None in after:
                continue
            ends = [timeline.end(each) for each in before if each is not None]
            starts = [timeline.start(each) for each in after if each is not None]
            kept = np.sum([unforeseen(*pair) for pair in zip(ends, starts, strict=True)], axis=0)
            swapped = np.sum([unforeseen(*pair) for pair in zip(ends, reversed(starts), strict=True)], axis=0)
            features = (float(np.log1p(over - begun)), float(overlaps[part].max()), *(kept - swapped).tolist())
            sides = {
                f"{name} {side}": timeline.shown(row, direction)
                for side, direction, pair in (("before", -1, before), ("after", 1, after))
                for name, row in zip(("own", "other"), pair, strict=True)
                if row is not None
            }
            # The one seen first after it bears the other's number from there on.
            frame = min(int(tracks.frame[each]) for each in after if each is not None)
            yield Doubt(CROSSING, one, two, begun, over, frame, sides, features)


def _newcomers(timeline: Timeline) -> Iterator[Doubt]:
    tracks, times = timeline.tracks, timeline.times
    if not len(timeline.rows):
        return
    beginning = float(times[timeline.rows[0]]) + max(BEGINNING, 3 * timeline.step)
    low, high = tracks.xyxy[timeline.rows].min(axis=0)[:2], tracks.xyxy[timeline.rows].max(axis=0)[2:]
    for identity, rows in timeline.people.items():
        first = int(rows[0])
        if times[first] < beginning:
            continue
        start, candidates = timeline.start(first), []
        for other in timeline.people:
            last = timeline.last_before(other, times[first])
            if other == identity or last is None:
                continue
            absent = float(times[first] - times[last])
            if timeline.step * 1.5 < absent <= RETURN_SECONDS:
                off, growth = unforeseen(timeline.end(last), start)
                candidates.append((off + growth + 0.3 * np.log1p(absent), other, last, absent, off, growth))
        if not candidates:
            continue
        _, other, last, absent, off, growth = min(candidates)
        margin = np.concatenate([tracks.xyxy[first, :2] - low, high - tracks.xyxy[first, 2:]])[[0, 2, 3]]
        at_edge = float((margin / np.maximum(high - low, 1)[[0, 0, 1]]).min() < EDGE)
        features = (float(np.log(absent / SHORT_GAP)), off, growth, timeline.crowded(first), at_edge)
        sides = {"own after": timeline.shown(first, 1), "other before": timeline.shown(last, -1)}
        moments = float(times[last]), float(times[first])
        yield Doubt(NEWCOMER, identity, other, *moments, int(tracks.frame[first]), sides, features)


def rows_shown(doubts: Iterable[Doubt]) -> np.ndarray:
    """All rows that show what these are about, int [K]."""
    rows = [rows for each in doubts for rows in each.sides.values()]
    return np.unique(np.concatenate([np.zeros(0, np.int64), *rows]))
