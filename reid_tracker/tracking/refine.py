"""After the fact: who is who in a recorded video, decided with the future known as well.

The online pass gives people, some of them twice and some mixed up. Looking back on the whole video:

1. *split*: whose appearance before and after some moment is that of two people is cut there;
2. *link*: end to start, in passes of growing gaps; each pass is one exact assignment of all pieces (hierarchical
   association, Huang et al. 2008), and what it joined goes into the next as one piece with all its vectors;
3. *fill*: short gaps are closed with straight lines.

How alike one person's crops and strangers' are is learned from the video first: people in sight together are strangers.
Without vectors nothing is split or linked: motion alone joins strangers as often as not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import supervision as sv

from reid_tracker.config import RefineSettings
from reid_tracker.errors import UserError
from reid_tracker.reading import parse_json, read_text
from reid_tracker.tracking import costs, kalman
from reid_tracker.tracking.assignment import assign
from reid_tracker.tracking.association import REACH_SLACK
from reid_tracker.tracking.bridge import measured

if TYPE_CHECKING:
    from reid_tracker.video.sinks import FrameResult

# Longest gaps of the passes, s: the surest links come first.
PASSES = (0.5, 2.0, 8.0, 30.0, np.inf)
# A vector of each tracklet is kept so often, s: neighbours say the same again, and an hour must fit into memory.
VECTOR_SECONDS = 0.2
# Vectors needed on either side of a cut, and pairs of them to learn from.
SIDE_VECTORS, KNOWN_PAIRS = 6, 30
# Velocity is taken over so long, s, and kept up for about as long.
VELOCITY_SECONDS = 1.0
# How far off a prediction may be (std): in body heights, and for each second unseen.
SPREAD, SPREAD_PER_SECOND = 0.25, 0.4
# Motion has half a say at first, which dies out within about so many seconds unseen.
MOTION_SECONDS = 3.0
# Bound on |log(height ratio)|: whoever was away for long may come back nearer, or further off.
SAME_HEIGHT = 0.7
SAME_MOMENT = 0.01  # s, of a join in a report that was written with rounded times


NewNumbers = Callable[[int], np.ndarray]  # that many unused numbers


class History:
    """What a run gave, frame by frame, to look back on; a `Sink`.

    Attributes
    ----------
    frames : list of (int, float)
        Index and timestamp (s) of each frame.
    seen : list of ndarray, float32 [M, 4]
        Every detection's box of each frame, xyxy in px.
    """

    def __init__(self) -> None:
        self.frames: list[tuple[int, float]] = []
        self.seen: list[np.ndarray] = []
        self._rows: list[tuple[np.ndarray, ...]] = []
        self._vectors: list[np.ndarray] = []
        self._described: dict[int, float] = {}
        self._class_names: dict[int, str] = {}

    def write(self, result: "FrameResult") -> None:
        """Keep one frame's tracks; vectors only of uncovered crops."""
        tracks, now, place = measured(result.tracks), result.frame.timestamp, len(self.frames)
        self.frames.append((result.frame.index, now))
        self.seen.append(result.detections.xyxy)
        if not len(tracks):
            return
        tracklet, embedding = tracks.data["tracklet"], tracks.data.get("embedding")
        vector = np.full(len(tracks), -1)
        if embedding is not None:
            for row in np.flatnonzero(~np.isnan(embedding[:, 0]) & (costs.coverage(tracks.xyxy) < costs.MOST_COVERED)):
                if now - self._described.get(int(tracklet[row]), -np.inf) >= VECTOR_SECONDS - 1e-6:
                    self._described[int(tracklet[row])] = now
                    vector[row] = len(self._vectors)
                    self._vectors.append(embedding[row].astype(np.float16))
        confidence = np.ones(len(tracks)) if tracks.confidence is None else tracks.confidence
        class_id = np.zeros(len(tracks), dtype=np.int64) if tracks.class_id is None else tracks.class_id
        self._class_names.update(zip(class_id.tolist(), tracks.data.get("class_name", ()), strict=False))
        frame = np.full(len(tracks), place)
        self._rows.append((frame, tracks.xyxy, confidence, class_id, tracklet, tracks.tracker_id, vector))

    def close(self) -> None:
        """Nothing is left to do."""

    def refined(
        self, settings: RefineSettings, refused: Sequence["Join"] = (), new_numbers: NewNumbers | None = None
    ) -> "Refined":
        """Look back; joins that were ``refused`` after an earlier look are not made again.

        Who is cut off from a number gets one of ``new_numbers``, a gallery's; by default the next after the highest.
        """
        if not self._rows:
            return Refined([sv.Detections.empty() for _ in self.frames], [], [], [])
        frame, xyxy, confidence, class_id, tracklet, identity, vector = map(
            np.concatenate, zip(*self._rows, strict=True)
        )
        times = np.array([timestamp for _, timestamp in self.frames])
        vectors = np.array(self._vectors or np.zeros((0, 1)), dtype=np.float32)
        # A newcomer may have been numbered anew before it was recognised: its last number is the decided one.
        last = dict(zip(tracklet.tolist(), identity.tolist(), strict=True))
        decided = np.array([last[each] for each in tracklet.tolist()])
        boxes = _Boxes(times, frame, xyxy, confidence, class_id, decided, vector, vectors)
        people = [np.flatnonzero(decided == each) for each in np.unique(decided)]
        people, cuts = _split(boxes, people, settings.split_distance)
        people, joins, met = _link(boxes, people, settings, refused)
        paths = [_path(boxes, rows, settings) for rows in people]
        columns = [np.concatenate(column) for column in zip(*paths, strict=True)]
        number = np.repeat(_number(boxes.identity, people, new_numbers), [len(path[0]) for path in paths])
        unbroken = (np.diff(columns[0]) == 1) & (np.diff(number) == 0)
        stretch = np.concatenate([[1], 1 + np.cumsum(~unbroken)])
        order = np.argsort(columns[0], kind="stable")
        bounds = np.searchsorted(columns[0][order], np.arange(len(self.frames) + 1))
        result = []
        for start, stop in pairwise(bounds):
            _, box, sure, kind = (column[order[start:stop]] for column in columns)
            data = {"tracklet": stretch[order[start:stop]]}
            if self._class_names:
                data["class_name"] = np.array([self._class_names.get(each, "") for each in kind.tolist()])
            result.append(
                sv.Detections(
                    box,
                    confidence=sure,
                    class_id=kind,
                    tracker_id=number[order[start:stop]],
                    data=data,
                )
            )
        return Refined(result, cuts, joins, met)


class Cut(NamedTuple):
    """One number that turned out to be two people.

    Attributes
    ----------
    number : int
        As it was online.
    before, after : float
        When it was last the one and first the other, s.
    distance : float
        Mean calibrated distance of the crops before and after: 0 as one person's, 1 as strangers'.
    """

    number: int
    before: float
    after: float
    distance: float


class Join(NamedTuple):
    """Two stretches that turned out to be one person.

    Attributes
    ----------
    number, following : int
        Their numbers online; the same where a gap was bridged.
    ended, began : float
        When the one ended and the other began, s.
    distance : float
        Mean calibrated distance of their crops: 0 as one person's, 1 as strangers'.
    cost : float
        What was compared with `refine.link_limit`: the distance, and over short gaps the motion too.
    """

    number: int
    following: int
    ended: float
    began: float
    distance: float = 0.0
    cost: float = 0.0

    def is_same(self, other: "Join") -> bool:
        """Whether this is the same join, decided anew."""
        times = abs(self.ended - other.ended) + abs(self.began - other.began)
        return (self.number, self.following) == (other.number, other.following) and times < SAME_MOMENT


class Refined(NamedTuple):
    """A run as it looks in hindsight.

    Attributes
    ----------
    tracks : list of supervision.Detections
        The people of each frame: ``tracker_id`` is the number that most of a person's boxes had online,
        ``data["tracklet"]`` an unbroken stretch. The confidence of a box not seen but filled in is 0.
    cuts : list of Cut
    joins : list of Join
        In the order of time.
    refused : list of Join
        Of those that were not to be made, the ones that could have been.
    """

    tracks: list[sv.Detections]
    cuts: list[Cut]
    joins: list[Join]
    refused: list[Join]


def read_refused(path: Path) -> list[Join]:
    """Joins that a report of an earlier look names with ``"refused": true``.

    Raises
    ------
    UserError
        If it cannot be read, or is no such report.
    """
    try:
        joins = parse_json(read_text(path))["joins"]
        if not all(isinstance(each.get("refused", False), bool) for each in joins):
            raise UserError(f"{path}: refused must be true or false, without quotation marks.")
        names = ("number", "following", "ended", "began")
        return [Join(*(float(each[name]) for name in names)) for each in joins if each.get("refused")]  # type: ignore[arg-type]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: not a report of --refine (<name>_refined.json).") from error


@dataclass(frozen=True, slots=True)
class _Boxes:
    """Every box given, parallel arrays [R] in the order of time; ``vector`` is the row of ``vectors`` [V, D], or -1.

    A *piece* is an array of such rows: one person's boxes, as far as is known.
    """

    times: np.ndarray  # [F] of all frames, s
    frame: np.ndarray
    xyxy: np.ndarray
    confidence: np.ndarray
    class_id: np.ndarray
    identity: np.ndarray
    vector: np.ndarray
    vectors: np.ndarray

    def moments(self, row: int, other: int) -> tuple[float, float]:
        """When two rows were seen, s."""
        return float(self.times[self.frame[row]]), float(self.times[self.frame[other]])

    def described(self, piece: np.ndarray) -> np.ndarray:
        """Those rows of a piece that have a vector."""
        return piece[self.vector[piece] >= 0]


def _distance_scale(boxes: _Boxes, pieces: list[np.ndarray]) -> tuple[float, float] | None:
    """Mean cosine within a person, first half to second, and between people in sight together; None where unknown."""
    same = strangers = 0.0
    same_pairs = stranger_pairs = 0
    sums, counts = _sums(boxes, pieces)
    for piece in pieces:
        vectors = boxes.vectors[boxes.vector[boxes.described(piece)]]
        half = len(vectors) // 2
        same += float(vectors[:half].sum(axis=0) @ vectors[half:].sum(axis=0))
        same_pairs += half * (len(vectors) - half)
    start, end = (boxes.frame[[piece[at] for piece in pieces]] for at in (0, -1))
    together = np.triu((start[:, None] <= end) & (start <= end[:, None]), 1)
    strangers = float((sums @ sums.T)[together].sum())
    stranger_pairs = int(np.outer(counts, counts)[together].sum())
    if min(same_pairs, stranger_pairs) < KNOWN_PAIRS or same / same_pairs <= strangers / stranger_pairs:
        return None
    return same / same_pairs, strangers / stranger_pairs


def _sums(boxes: _Boxes, pieces: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Sum of each piece's vectors [P, D], whose product over the counts' is a mean of cosines; their counts [P]."""
    described = [boxes.vector[boxes.described(piece)] for piece in pieces]
    return np.stack([boxes.vectors[rows].sum(axis=0) for rows in described]), np.array([len(r) for r in described])


def _split(boxes: _Boxes, pieces: list[np.ndarray], limit: float) -> tuple[list[np.ndarray], list[Cut]]:
    """Cut pieces where the mean calibrated distance of the vectors before and after is over the limit.

    Boxes between the last vector before a cut and the first after it are dropped: in a crossing they may be either's.
    """
    whole, cuts = pieces, list[Cut]()
    while (scale := _distance_scale(boxes, whole)) is not None:
        pieces = []
        for piece in whole:
            described = boxes.described(piece)
            count = len(described)
            after = np.arange(SIDE_VECTORS, count - SIDE_VECTORS + 1)  # first vector after the cut
            if after.size:
                running = boxes.vectors[boxes.vector[described]].cumsum(axis=0)
                earlier = running[after - 1]
                cosine = np.einsum("kd,kd->k", earlier, running[-1] - earlier) / (after * (count - after))
                cut = after[cosine.argmin()]
                distance = float((scale[0] - cosine.min()) / (scale[0] - scale[1]))
                if distance > limit:
                    low, high = np.searchsorted(piece, described[[cut - 1, cut]])
                    cuts.append(Cut(int(boxes.identity[piece[low]]), *boxes.moments(piece[low], piece[high]), distance))
                    pieces += [piece[: low + 1], piece[high:]]
                    continue
            pieces.append(piece)
        if len(pieces) == len(whole):
            break
        whole = pieces  # what is cut no longer blurs what is known of people
    return whole, sorted(cuts, key=lambda cut: cut.before)


def _link(
    boxes: _Boxes, pieces: list[np.ndarray], settings: RefineSettings, refused: Sequence[Join]
) -> tuple[list[np.ndarray], list[Join], list[Join]]:
    """Join pieces end to start, pass by pass: the pieces, the joins, and those refused that could have been made."""
    scale, joins, met = _distance_scale(boxes, pieces), list[Join](), dict[Join, Join]()
    if scale is None:
        return pieces, joins, []

    def join(first: int, second: int, distance: float, cost: float) -> Join:
        last, next_ = pieces[first][-1], pieces[second][0]
        ended, began = boxes.moments(last, next_)
        return Join(int(boxes.identity[last]), int(boxes.identity[next_]), ended, began, distance, cost)

    for longest in PASSES:
        i, j, cost, distance = _link_costs(boxes, pieces, scale, min(longest, settings.link_seconds))
        if refused:
            allowed = np.ones(len(i), dtype=bool)
            for place, pair in enumerate(zip(*(column.tolist() for column in (i, j, distance, cost)), strict=True)):
                possible = join(*pair)
                same = next((each for each in refused if possible.is_same(each)), None)
                if same is not None:
                    allowed[place], met[same] = False, possible
            i, j, cost, distance = (column[allowed] for column in (i, j, cost, distance))
        chosen = assign(i, j, cost, settings.link_limit)
        following = dict(zip(i[chosen].tolist(), j[chosen].tolist(), strict=True))
        columns = (i[chosen], j[chosen], distance[chosen], cost[chosen])
        joins += [join(*pair) for pair in zip(*(column.tolist() for column in columns), strict=True)]
        joined = []
        for first in sorted(set(range(len(pieces))) - set(following.values())):
            chain = [first]
            while chain[-1] in following:
                chain.append(following[chain[-1]])
            joined.append(np.concatenate([pieces[each] for each in chain]))
        pieces = joined
    return pieces, sorted(joins, key=lambda each: each.ended), list(met.values())


def _link_costs(
    boxes: _Boxes, pieces: list[np.ndarray], scale: tuple[float, float], longest: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of a piece and a later one that may be one person: which, which, cost (0 certain), distance. [K] each."""
    sums, counts = _sums(boxes, pieces)
    ends = np.array([_end(boxes, piece, -1) for piece in pieces])
    starts = np.array([_end(boxes, piece, 0) for piece in pieces])
    class_id = boxes.class_id[[piece[0] for piece in pieces]]
    gap = starts[:, 0] - ends[:, :1]
    same_class = class_id[:, None] == class_id
    i, j = np.nonzero((gap > 0) & (gap <= longest) & same_class & (counts[:, None] > 0) & (counts > 0))
    end, start, gap = ends[i], starts[j], gap[i, j]
    height = np.minimum(end[:, 4], start[:, 4])
    offset = start[:, 1:3] - end[:, 1:3]
    kept_up = (VELOCITY_SECONDS * (1 - np.exp(-gap / VELOCITY_SECONDS)))[:, None]
    steady = gap[:, None] * (end[:, 5:] + start[:, 5:]) / 2
    # Onwards, backwards, or at the mean of both velocities all the way: whichever explains it best.
    errors = [offset - kept_up * end[:, 5:], offset - kept_up * start[:, 5:], offset - steady]
    error = np.min([np.hypot(*each.T) for each in errors], axis=0) / height
    motion = 1 - np.exp(-0.5 * (error / (SPREAD + SPREAD_PER_SECOND * gap)) ** 2)
    cosine = np.einsum("kd,kd->k", sums[i], sums[j]) / (counts[i] * counts[j])
    appearance = np.clip((scale[0] - cosine) / (scale[0] - scale[1]), 0, None)
    share = 0.5 * np.exp(-gap / MOTION_SECONDS)
    feasible = (np.hypot(*offset.T) < (REACH_SLACK + kalman.BRISK * gap) * height) & (
        np.abs(np.log(end[:, 4] / start[:, 4])) < SAME_HEIGHT
    )
    cost = share * motion + (1 - share) * appearance
    return i[feasible], j[feasible], cost[feasible], appearance[feasible]


def _end(boxes: _Boxes, piece: np.ndarray, at: int) -> np.ndarray:
    """Time, centre, median size and velocity (px/s) at the start (0) or the end (-1) of a piece: [7]."""
    times = boxes.times[boxes.frame[piece]]
    near = np.abs(times - times[at]) <= VELOCITY_SECONDS
    box = kalman.measure(boxes.xyxy[piece[near]])
    off = times[near] - times[near].mean()
    enough = near.sum() >= 3
    velocity = off @ box[:, :2] / (off @ off) if enough else np.zeros(2)
    return np.concatenate([[times[at]], box[at, :2], np.median(box[:, 2:], axis=0), velocity])


def _path(
    boxes: _Boxes, piece: np.ndarray, settings: RefineSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A person's frames [K], boxes float32 [K, 4], confidences (0 = filled in) and classes."""
    seen = boxes.frame[piece]
    times = boxes.times[seen]
    short = np.diff(times) <= settings.fill_seconds + 1e-6
    frame = np.concatenate(
        [np.arange(a, b if bridged else a + 1) for a, b, bridged in zip(seen[:-1], seen[1:], short, strict=True)]
        + [seen[-1:]]
    )
    now = boxes.times[frame]
    centred = kalman.measure(boxes.xyxy[piece])
    filled = np.stack([np.interp(now, times, column) for column in centred.T], axis=1)
    half = np.maximum(filled[:, 2:], 1) / 2
    xyxy = np.concatenate([filled[:, :2] - half, filled[:, :2] + half], axis=1).astype(np.float32)
    row = np.minimum(np.searchsorted(seen, frame), len(piece) - 1)
    confidence = np.where(seen[row] == frame, boxes.confidence[piece[row]], 0)
    return frame, xyxy, confidence, boxes.class_id[piece[row]]


def _number(identity: np.ndarray, people: list[np.ndarray], new_numbers: NewNumbers | None) -> np.ndarray:
    """Give each person an online number, so that most boxes keep theirs; who is left over gets a new one."""
    person = np.repeat(np.arange(len(people)), [len(rows) for rows in people])
    pairs, boxes = np.unique(np.stack([person, identity[np.concatenate(people)]]), axis=1, return_counts=True)
    chosen = assign(pairs[0], pairs[1], -boxes, 0)
    number = np.zeros(len(people), dtype=np.int64)
    number[pairs[0, chosen]] = pairs[1, chosen]
    left = number == 0
    count = int(left.sum())
    number[left] = new_numbers(count) if new_numbers else identity.max() + 1 + np.arange(count)
    return number
