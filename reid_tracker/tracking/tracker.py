"""The tracker: detections of one frame in, identities out.

An identity's life
------------------
=========== ==================================== ============================== =====================================
state       how it gets there                    how it is matched              how it ends
=========== ==================================== ============================== =====================================
tentative   an unmatched box >= new_confidence   motion (+ appearance), last    dropped at its first miss
confirmed   confirm_sightings sightings in a     motion + appearance first,     lost at its first miss
            row (at once on the first frame)     then low-confidence boxes
lost        a confirmed track that was missed    motion + appearance; without   dormant after lost_seconds
                                                 overlap only if it looks the
                                                 same and could have walked it
dormant     nothing is left but its views (see   a newcomer who looks the same  forgotten after memory_seconds
            `memory`); a lost one has them too   gets its number back
=========== ==================================== ============================== =====================================

A number is given when a track is confirmed and never to anyone else; for return_seconds from then on it may be taken
back for an older one.
"""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import supervision as sv

from reid_tracker.config import TrackerSettings
from reid_tracker.errors import UserError
from reid_tracker.tracking import costs, kalman
from reid_tracker.tracking.assignment import assign
from reid_tracker.tracking.calibration import AppearanceCalibration, CosineStatistics, return_cosine
from reid_tracker.tracking.camera_motion import CameraMotion, warp
from reid_tracker.tracking.memory import NEWCOMER_CROPS, VIEWS, IdentityMemory, add_views
from reid_tracker.tracking.state import TrackerState
from reid_tracker.tracking.track_table import CONFIRMED, LOST, TENTATIVE, TrackTable

UNMATCHED = -1
# A person who walks on is not suddenly half or twice as tall: bound on |log(height ratio)| for matches without overlap.
SAME_HEIGHT = 0.5
# Half a body height of free play in such matches: boxes jitter and people lean.
REACH_SLACK = 0.5
# So much of the calibrated distance the next most similar must be further away in them.
CLEAR_LEAD = 0.1
# Overlap with the expected place from which, where there is no rival, nobody asks what the person looks like.
CERTAIN_IOU = 0.6
# Share of a new box in the smooth size: a person's changes slowly, the detector's jumps with limbs and what hides them.
SIZE_SHARE = 0.3
# The memory gets a view of everyone in sight this often, s.
VIEW_SECONDS = 0.5
# Of two who look alike neither is guessed: the next most similar person's cosine must be so much lower.
RETURN_MARGIN = 0.05
# A box this close to the picture's edge, in shares of its height, shows only a part of somebody.
EDGE = 0.02
# Whoever is still cut off by the edge after so long, s, is taken as they are.
CUT_SECONDS = 1.0
# Calibrated distance from which whoever comes in over an edge is not the one who went out over it a moment ago.
OTHER_PERSON = 0.5
# Self-calibration looks at this many certain pairs a frame: enough to learn from, and its cost does not grow.
CERTAIN_PAIRS = 32


class Tracker:
    """Keeps identities across the frames of one video.

    Several trackers in one process share nothing unless given one memory.

    Parameters
    ----------
    settings : TrackerSettings, optional
        Thresholds and lifetimes; the defaults are those of configs/track.yaml.
    frame_rate : float
        Frames per second, used only where `update` is not told the time.
    statistics : CosineStatistics, optional
        How alike same and different people are for the model that made the embeddings, used until the tracker has
        learned it from the video itself.
    memory : IdentityMemory, optional
        People known beforehand, or a memory that trackers of several cameras share, called in turn with times of one
        clock.

    Examples
    --------
    >>> import numpy as np, supervision as sv
    >>> tracker = Tracker(frame_rate=10)
    >>> boxes = sv.Detections(xyxy=np.array([[10, 10, 50, 110]], dtype=np.float32), confidence=np.array([0.9]))
    >>> tracker.update(boxes).tracker_id
    array([1])
    """

    def __init__(
        self,
        settings: TrackerSettings | None = None,
        frame_rate: float = 30.0,
        statistics: CosineStatistics | None = None,
        memory: IdentityMemory | None = None,
    ) -> None:
        if not (np.isfinite(frame_rate) and frame_rate > 0):
            raise UserError(f"frame_rate cannot be {frame_rate}: it must be above 0.")
        self.settings = settings or TrackerSettings()
        self.frame_rate = float(frame_rate)
        self.time: float | None = None
        self._table = TrackTable()
        self._calibration = AppearanceCalibration(statistics)
        self._camera = CameraMotion()
        self._memory = IdentityMemory() if memory is None else memory
        self._own, self._guests = 0, set[int]()  # people first numbered here, and those known beforehand

    @property
    def identities(self) -> int:
        """How many people have been told apart so far, whom no other tracker of a shared memory numbered first."""
        return int(self._own) + len(self._guests)

    def views(self, identity: int) -> np.ndarray | None:
        """Different good crops' vectors, float32 [K, D], of someone followed or remembered; None for others."""
        table = self._table
        rows = np.flatnonzero((table.identity == identity) & (table.view_count > 0))
        return table.views[rows[0], : table.view_count[rows[0]]] if rows.size else self._memory.views_of(identity)

    def state(self) -> TrackerState:
        """Everything known after the last frame, a shared memory included.

        A tracker restored from it goes on exactly as this one does.
        """
        given = self._calibration.given
        header = {
            "settings": self.settings.model_dump(),
            "frame_rate": self.frame_rate,
            "time": self.time,
            "own": int(self._own),
            "guests": sorted(int(each) for each in self._guests),
            "statistics": given and asdict(given),
            "moments": [vars(each) for each in self._calibration.moments],
            "memory": self._memory.numbers(),
        }
        arrays = {f"table.{name}": array.copy() for name, array in vars(self._table).items()}
        arrays |= {f"memory.{name}": getattr(self._memory, name).copy() for name in self._memory.COLUMNS}
        arrays |= {f"camera.{name}": array for name, array in vars(self._camera).items() if array is not None}
        return TrackerState(header, arrays)

    @classmethod
    def restore(cls, state: TrackerState, settings: TrackerSettings | None = None) -> "Tracker":
        """Make a tracker, with a memory of its own, that goes on where `state` was taken.

        Parameters
        ----------
        state : TrackerState
            From `state`, or from a file.
        settings : TrackerSettings, optional
            Other settings from now on; by default those of the state.

        Raises
        ------
        UserError
            If the state is not whole.
        """
        header, arrays = state.header, state.arrays
        try:
            statistics = header["statistics"] and CosineStatistics(**header["statistics"])
            tracker = cls(settings or TrackerSettings(**header["settings"]), header["frame_rate"], statistics)
            tracker.time, tracker._own, tracker._guests = header["time"], header["own"], set(header["guests"])
            for moments, values in zip(tracker._calibration.moments, header["moments"], strict=True):
                vars(moments).update(values)
            tracker._memory.set_numbers(header["memory"])
            for group, owner in (("table", tracker._table), ("memory", tracker._memory), ("camera", tracker._camera)):
                columns = {each.partition(".")[2]: arrays[each] for each in arrays if each.startswith(f"{group}.")}
                if group != "camera":
                    expected = {name: getattr(owner, name) for name in getattr(owner, "COLUMNS", vars(owner))}
                    rows = {len(array) for array in columns.values()}
                    if columns.keys() != expected.keys() or len(rows) != 1:
                        raise ValueError
                    if any(columns[name].dtype != array.dtype for name, array in expected.items()):
                        raise ValueError
                if isinstance(owner, IdentityMemory):
                    owner.set_columns(columns)
                else:
                    vars(owner).update({name: array.copy() for name, array in columns.items()})
        except (KeyError, TypeError, ValueError) as error:
            raise UserError("the tracker's state is not whole or of another version; begin anew without it.") from error
        return tracker

    def update(
        self, detections: sv.Detections, timestamp: float | None = None, image: np.ndarray | None = None
    ) -> sv.Detections:
        """Match one frame's detections to the people known.

        Parameters
        ----------
        detections : supervision.Detections
            ``xyxy`` [N, 4] in px; ``confidence`` [N] (1 where missing), ``class_id`` [N] and ``data["embedding"]``
            float [N, D] (a NaN row where there is none) are used where present. Rows with NaN, infinite or empty boxes
            are ignored.
        timestamp : float, optional
            Time of the frame in seconds; by default 1 / frame_rate after the last.
        image : ndarray uint8 [H, W, 3], optional
            The frame, BGR: for ``camera_motion``, and its size tells whom the edges of a standing camera cut off.

        Returns
        -------
        supervision.Detections
            The confirmed rows in input order, with their measured boxes: ``tracker_id`` is the identity,
            ``data["tracklet"]`` the unbroken piece of motion, ``data["smooth_xyxy"]`` float32 [N, 4] the boxes
            without the detector's jitter (the filter's centre, the size of the last moments), which lie closer to the
            truth.

        Raises
        ------
        UserError
            If time stands still or runs back, or the embeddings change their length.
        """
        seconds = self._advance(timestamp)
        frame = _FrameArrays(detections)
        self._adopt_dimension(frame.embedding)
        self._release()
        self._predict(seconds, frame, image)
        # Edges that move cut off people who stand: who is at one has not come over it.
        if image is not None and (self._camera.stands or not self.settings.camera_motion):
            frame.mark_cut(*image.shape[1::-1])
        detection_of = self._associate(frame)
        detection_of = self._correct(frame, detection_of)
        detection_of = self._retire(detection_of)
        detection_of = self._spawn(frame, detection_of)
        return self._report(detections, frame, detection_of)

    def rest(self) -> None:
        """Take everyone as out of sight, as when the camera is lost: others may meet them from now on."""
        left = np.flatnonzero(self._table.state == CONFIRMED)
        self._sleep(left, self._table.last_seen)
        self._table.state[left] = LOST

    def certain(
        self, detections: sv.Detections, timestamp: float | None = None, refresh_seconds: float = np.inf
    ) -> np.ndarray:
        """Tell which of the next frame's detections motion alone identifies, so that they need no vector.

        These are boxes where the only one expected there is someone who was in view a frame ago, and who expects no
        other box.

        Parameters
        ----------
        detections, timestamp
            What `update` will be given; nothing is changed here.
        refresh_seconds : float
            Whoever has had no vector for so long is due one.

        Returns
        -------
        ndarray, bool [N]
        """
        certain = np.zeros(len(detections), dtype=bool)
        table = self._table
        if self.time is None or not len(table):
            return certain
        frame, now = _FrameArrays(detections), self._next_time(timestamp)
        mean, _ = kalman.predict(table.mean, table.covariance, now - self.time)
        boxes = kalman.boxes(mean).astype(np.float32)
        i, j = costs.overlapping(boxes, frame.xyxy)
        alone = (np.bincount(i, minlength=len(table))[i] == 1) & (np.bincount(j, minlength=len(frame.xyxy))[j] == 1)
        i, j = i[alone], j[alone]
        close = costs.iou(boxes[i], frame.xyxy[j]) >= CERTAIN_IOU
        in_view = (table.state[i] == CONFIRMED) & (table.last_seen[i] == self.time) & ~table.cut[i]
        fresh = now - table.last_described[i] < refresh_seconds - 1e-6
        same_class = table.class_id[i] == frame.class_id[j]
        certain[frame.row[j[close & in_view & fresh & same_class]]] = True
        return certain

    def _next_time(self, timestamp: float | None) -> float:
        before = 0.0 if self.time is None else self.time
        return before + 1 / self.frame_rate if timestamp is None else float(timestamp)

    def _advance(self, timestamp: float | None) -> float:
        """Move the clock; seconds since the last frame."""
        first = self.time is None
        before = 0.0 if self.time is None else self.time
        now = self._next_time(timestamp)
        if not np.isfinite(now) or (not first and now <= before):
            raise UserError(f"timestamp {now} does not come after {before}: frames must be given in order of time.")
        self._step = 1 / self.frame_rate if first else now - before
        self._first = first
        self.time = now
        return self._step

    def _adopt_dimension(self, embedding: np.ndarray | None) -> None:
        if embedding is None:
            return
        table, dimension = self._table, embedding.shape[1]
        if table.embedding.shape[1] == 0:
            self._memory.check_dimension(dimension)
            table.embedding = np.full((len(table), dimension), np.nan, dtype=np.float32)
            table.views = np.zeros((len(table), VIEWS, dimension), dtype=np.float32)
        elif table.embedding.shape[1] != dimension:
            raise UserError(
                f"embeddings of {dimension} numbers after embeddings of {table.embedding.shape[1]}: "
                "use one appearance model per tracker."
            )

    def _release(self) -> None:
        """Look no more for the lost whom another camera has met since: their numbers are taken."""
        table = self._table
        assert self.time is not None
        lost = (table.state == LOST) & (table.view_count > 0) & self._seen_enough()
        lost &= self.time - table.last_seen < self.settings.memory_seconds  # else the memory has forgotten them
        if lost.any():
            table.keep(~(lost & ~np.isin(table.identity, self._memory.identity)))

    def _predict(self, seconds: float, frame: "_FrameArrays", image: np.ndarray | None) -> None:
        table = self._table
        table.mean, table.covariance = kalman.predict(table.mean, table.covariance, seconds)
        if self.settings.camera_motion and image is not None:
            matrix = self._camera.estimate(image, frame.xyxy)
            if matrix is not None:
                table.mean, table.covariance = warp(table.mean, table.covariance, matrix)
        self._boxes = kalman.boxes(table.mean).astype(np.float32)

    def _associate(self, frame: "_FrameArrays") -> np.ndarray:
        """Row of the detection that each track gets, int [N], or UNMATCHED.

        First the confident boxes and everyone known; then low-confidence boxes for whoever was in view a frame ago
        (ByteTrack, Zhang et al. 2022); last the newcomers, who must not take a box from anyone known.
        """
        s, state = self.settings, self._table.state
        detection_of = np.full(len(state), UNMATCHED)
        high = frame.confidence >= s.high_confidence
        low = ~high & (frame.confidence >= s.low_confidence)
        self._match(frame, detection_of, state != TENTATIVE, high, s.motion_limit)
        self._match(frame, detection_of, state == CONFIRMED, low, s.low_limit, motion_only=True)
        self._match(frame, detection_of, state == TENTATIVE, high, s.motion_limit)
        return detection_of

    def _match(
        self,
        frame: "_FrameArrays",
        detection_of: np.ndarray,
        tracks: np.ndarray,
        candidates: np.ndarray,
        limit: float,
        motion_only: bool = False,
    ) -> None:
        """One round of assignment between free tracks (mask [N]) and free detections (mask [M])."""
        free = candidates.copy()
        free[detection_of[detection_of != UNMATCHED]] = False
        rows, columns = np.flatnonzero(tracks & (detection_of == UNMATCHED)), np.flatnonzero(free)
        if not rows.size or not columns.size:
            return
        assert self.time is not None
        table, s = self._table, self.settings
        unseen = np.maximum(self.time - table.last_seen[rows] - self._step, 0.0)
        boxes = costs.enlarge(self._boxes[rows], np.minimum(s.enlarge_per_second * unseen, 0.5))
        i, j = costs.overlapping(boxes, frame.xyxy[columns])
        overlap = costs.iou(boxes[i], frame.xyxy[columns[j]])
        cost = 1 - overlap
        cosine = None
        if frame.embedding is not None and not motion_only:
            cosine = table.embedding[rows] @ frame.embedding[columns].T
            if self._calibration.statistics is not None:
                far_i, far_j = self._alike_within_reach(rows, unseen, frame.measurement[columns], cosine, i, j)
                if far_i.size:
                    i, j = np.concatenate([i, far_i]), np.concatenate([j, far_j])
                    overlap = np.concatenate([overlap, np.zeros(len(far_i))])
                distance = self._calibration.distance(cosine[i, j])
                fused = (1 - s.appearance_weight) * (1 - overlap) + s.appearance_weight * distance
                # Scaled so that one limit serves pairs with and without a vector.
                cost = np.where(np.isnan(distance), 1 - overlap, fused * (limit / s.fused_limit))
        if not s.class_agnostic:
            same_class = table.class_id[rows[i]] == frame.class_id[columns[j]]
            if not same_class.all():
                i, j, cost, overlap = i[same_class], j[same_class], cost[same_class], overlap[same_class]
        chosen = assign(i, j, cost, limit)
        if cosine is not None:
            self._learn(i, j, overlap, chosen, cosine)
        detection_of[rows[i[chosen]]] = columns[j[chosen]]

    def _alike_within_reach(
        self,
        rows: np.ndarray,
        unseen: np.ndarray,
        measurement: np.ndarray,
        cosine: np.ndarray,
        near_i: np.ndarray,
        near_j: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pairs that look the same as no other here and that walking could explain, besides the near ones."""
        s, mean = self.settings, self._table.mean
        alike = cosine > self._calibration.cosine(s.distant_appearance)
        alike[near_i, near_j] = False
        i, j = costs.pairs(alike)
        height = mean[rows[i], 0, 3]
        offset = measurement[j, :2] - mean[rows[i], 0, :2]
        reach = (REACH_SLACK + s.walking_speed * (unseen[i] + self._step)) * height
        same_height = np.abs(np.log(measurement[j, 3] / np.maximum(height, 1.0))) < SAME_HEIGHT
        possible = same_height & ((offset**2).sum(axis=1) < reach**2)
        i, j = i[possible], j[possible]
        # Of two who come into question each must be clearly the most alike: without overlap nobody is guessed.
        lead = np.minimum(costs.lead(i, cosine[i, j]), costs.lead(j, cosine[i, j]))
        clear = lead >= self._calibration.cosine(0.0) - self._calibration.cosine(CLEAR_LEAD)
        return i[clear], j[clear]

    def _learn(self, i: np.ndarray, j: np.ndarray, overlap: np.ndarray, chosen: np.ndarray, cosine: np.ndarray) -> None:
        """Teach the calibration from matches that overlap alone makes certain.

        Parameters
        ----------
        i, j, overlap : ndarray [K]
            The pairs considered: row and column of ``cosine``, IoU.
        chosen : ndarray of int
            Which of them were matched.
        cosine : ndarray [N, M]
            Of all pairs.
        """
        near = overlap > 0.1
        rivals_i, rivals_j = (
            np.bincount(i[near], minlength=len(cosine)),
            np.bincount(j[near], minlength=cosine.shape[1]),
        )
        certain = (overlap[chosen] > 0.5) & (rivals_i[i[chosen]] == 1) & (rivals_j[j[chosen]] == 1)
        rows, columns = i[chosen][certain][:CERTAIN_PAIRS], j[chosen][certain][:CERTAIN_PAIRS]
        pairs = cosine[np.ix_(rows, columns)]
        same = pairs.diagonal()
        strangers = pairs[~np.eye(len(rows), dtype=bool)]
        self._calibration.learn(same[~np.isnan(same)], strangers[~np.isnan(strangers)])

    def _correct(self, frame: "_FrameArrays", detection_of: np.ndarray) -> np.ndarray:
        """Update matched tracks with their detections and number those now confirmed; the detections of all tracks."""
        table, s = self._table, self.settings
        rows = np.flatnonzero(detection_of != UNMATCHED)
        columns = detection_of[rows]
        table.mean[rows], table.covariance[rows] = kalman.update(
            table.mean[rows], table.covariance[rows], frame.measurement[columns]
        )
        table.size[rows] += SIZE_SHARE * (frame.measurement[columns, 2:] - table.size[rows])
        table.last_seen[rows] = self.time
        table.sightings[rows] += 1
        table.class_id[rows] = frame.class_id[columns]
        table.cut[rows] |= frame.cut[columns]
        self._memory.wake(table.identity[rows[table.state[rows] == LOST]])
        table.state[rows[(table.state[rows] != TENTATIVE) | (table.sightings[rows] >= s.confirm_sightings)]] = CONFIRMED
        if frame.embedding is not None:
            table.last_described[rows[~np.isnan(frame.embedding[columns, 0])]] = self.time
            good = frame.shows_person_well(s)[columns]
            self._look(rows[good], frame.embedding[columns[good]], frame.cut[columns[good]])
            detection_of = self._recognise(detection_of)
        self._number(np.flatnonzero((table.state == CONFIRMED) & (table.identity == 0)))
        return detection_of

    def _look(self, rows: np.ndarray, fresh: np.ndarray, cut: np.ndarray) -> None:
        """Take in good crops' vectors ``fresh`` [K, D] of the tracks ``rows``, some of them ``cut`` off by an edge.

        A part of somebody counts only until they have been seen whole.
        """
        table = self._table
        known = self._calibration.statistics
        seen_whole = (table.whole_since[rows] < np.inf) & (table.view_count[rows] > 0)
        back = seen_whole & table.cut[rows] & ~cut & (table.identity[rows] != 0)
        if back.any() and known is not None:
            before = table.views[rows[back]].sum(axis=1)
            cosine = np.einsum("nd,nd->n", before / np.linalg.norm(before, axis=1, keepdims=True), fresh[back])
            self._part(rows[back][self._calibration.distance(cosine) > OTHER_PERSON])
        begin = rows[~cut & (table.whole_since[rows] == np.inf)]
        table.whole_since[begin] = np.where(table.cut[begin], self.time, table.born[begin])
        table.view_count[begin], table.views[begin], table.last_view[begin] = 0, 0.0, -np.inf  # views of a part go
        table.cut[rows[~cut]] = False
        self._remember_appearance(rows, fresh)
        useful = ~cut | (table.whole_since[rows] == np.inf)
        self._keep_views(rows[useful], fresh[useful])

    def _part(self, rows: np.ndarray) -> None:
        """Make newcomers of tracks whose people went out over an edge where somebody else came in."""
        table = self._table
        if not rows.size:
            return
        assert self.time is not None
        self._sleep(rows, np.full(len(table), self.time - self._step))
        table.tracklet[rows], table.identity[rows] = self._memory.new_tracklets(len(rows)), 0
        table.embedding[rows] = np.nan
        table.whole_since[rows], table.born[rows] = np.inf, self.time

    def _remember_appearance(self, rows: np.ndarray, fresh: np.ndarray) -> None:
        """Mix good crops' vectors ``fresh`` [K, D] into those kept for the tracks ``rows``, at unit length."""
        kept = self._table.embedding[rows]
        mixed = self.settings.appearance_momentum * (kept - fresh) + fresh
        first = np.isnan(kept[:, 0])
        mixed[first] = fresh[first]
        mixed /= np.sqrt(np.maximum(np.einsum("nd,nd->n", mixed, mixed), 1e-12))[:, None]
        self._table.embedding[rows] = mixed

    def _keep_views(self, rows: np.ndarray, fresh: np.ndarray) -> None:
        """Show the memory vectors ``fresh`` [K, D] of the tracks ``rows``: newcomers' at once, others' at times."""
        table = self._table
        assert self.time is not None
        if not self.settings.memory_seconds:
            return
        newcomer = table.sightings[rows] <= max(self.settings.confirm_sightings, NEWCOMER_CROPS)
        newcomer |= (table.whole_since[rows] > table.born[rows]) & (table.view_count[rows] < NEWCOMER_CROPS)
        due = newcomer | (self.time - table.last_view[rows] >= VIEW_SECONDS)
        if due.any():
            rows = rows[due]
            table.views[rows], table.view_count[rows] = add_views(table.views[rows], table.view_count[rows], fresh[due])
            table.last_view[rows] = self.time

    def _sleep(self, rows: np.ndarray, last_seen: np.ndarray) -> None:
        """Show the memory the people of these tracks, if they were seen well."""
        table = self._table
        rows = rows[self._seen_enough()[rows]]
        if rows.size and self.settings.memory_seconds:
            columns = (table.identity, table.class_id, last_seen, table.views, table.view_count)
            self._memory.sleep(*(column[rows] for column in columns))

    def _seen_enough(self) -> np.ndarray:
        """Mask [N] of the tracks whose people were seen whole, or are long enough there to be taken as they are."""
        table = self._table
        enough: np.ndarray = (table.whole_since < np.inf) | (table.last_seen - table.born >= CUT_SECONDS)
        return enough

    def _recognise(self, detection_of: np.ndarray) -> np.ndarray:
        """Give newcomers who look like someone out of sight that one's number; the detections of all tracks."""
        table, s, memory = self._table, self.settings, self._memory
        useless = self._calibration.learned and self._calibration.statistics is None  # vectors that tell nobody apart
        if useless or not len(memory):
            return detection_of
        assert self.time is not None
        in_view = (table.state == CONFIRMED) & (detection_of != UNMATCHED)
        since = np.where(table.whole_since < np.inf, table.whole_since, table.born + CUT_SECONDS)
        undecided = (table.identity == 0) | ((table.born > -np.inf) & (self.time - since <= s.return_seconds))
        enough = (table.last_view == self.time) & (table.view_count >= NEWCOMER_CROPS) & self._seen_enough()
        rows = np.flatnonzero(in_view & undecided & enough)
        if not rows.size:
            return detection_of
        means = table.views.sum(axis=1) / np.maximum(table.view_count, 1)[:, None]
        others = (table.state == CONFIRMED) & (detection_of != UNMATCHED) & ~undecided & (table.view_count > 0)
        class_id = None if s.class_agnostic else table.class_id[rows]
        cosine = memory.likeness(means[rows], class_id, table.born[rows], means[others])
        candidates, given = np.isfinite(cosine).sum(axis=1), self._calibration.given
        nearest = -np.sort(-np.pad(cosine, ((0, 0), (0, 1)), constant_values=-1.0), axis=1)[:, :2]
        clear = nearest[:, 0] > return_cosine(s.return_false_match_rate, np.maximum(candidates, 1), given)
        clear &= nearest[:, 0] - nearest[:, 1] >= RETURN_MARGIN
        gone = np.zeros(len(table), dtype=bool)
        taken: set[int] = set()
        # Two newcomers cannot be one person: whoever is more alike comes first.
        best = cosine.argmax(axis=1)
        for each in np.flatnonzero(clear)[np.argsort(-cosine[clear, best[clear]])]:
            row, found = rows[each], best[each]
            identity = int(memory.identity[found])
            if identity in taken:
                continue
            taken.add(identity)
            self._own -= table.identity[row] != 0
            self._guests |= memory.known & {identity}
            gone |= (table.state == LOST) & (table.identity == identity)
            table.identity[row] = identity
            table.born[row] = -np.inf  # decided
            for view in memory.views[found, : memory.count[found]]:
                table.views[row], table.view_count[row] = (
                    part[0] for part in add_views(table.views[[row]], table.view_count[[row]], view[None])
                )
        memory.wake(taken)
        if not gone.any():
            return detection_of
        table.keep(~gone)
        return detection_of[~gone]

    def _retire(self, detection_of: np.ndarray) -> np.ndarray:
        """Mark the missed as lost, drop those missed for too long; the detections of those who stay."""
        table = self._table
        assert self.time is not None
        missed = detection_of == UNMATCHED
        left = missed & (table.state == CONFIRMED)
        self._sleep(np.flatnonzero(left), table.last_seen)
        self._memory.forget(self.time - self.settings.memory_seconds)
        table.state[left] = LOST
        too_long = self.time - table.last_seen > self.settings.lost_seconds + 1e-6
        stay = ~missed | ((table.state == LOST) & ~too_long)
        table.keep(stay)
        return detection_of[stay]

    def _spawn(self, frame: "_FrameArrays", detection_of: np.ndarray) -> np.ndarray:
        """Begin a track for every sure box that is nobody's; the detections of all tracks, the new ones last."""
        s, table = self.settings, self._table
        assert self.time is not None
        matched = np.zeros(len(frame.xyxy), dtype=bool)
        matched[detection_of[detection_of != UNMATCHED]] = True
        new = np.flatnonzero(~matched & (frame.confidence >= s.new_confidence))
        if new.size and matched.any():
            old = np.flatnonzero(matched)
            i, j = costs.overlapping(frame.xyxy[new], frame.xyxy[old])
            same = costs.iou(frame.xyxy[new[i]], frame.xyxy[old[j]]) >= s.duplicate_iou
            if not s.class_agnostic:
                same &= frame.class_id[new[i]] == frame.class_id[old[j]]
            new = np.delete(new, i[same])
        count = new.size
        if not count:
            return detection_of
        mean, covariance = kalman.initiate(frame.measurement[new])
        embedding = np.full((count, table.embedding.shape[1]), np.nan, dtype=np.float32)
        described = np.zeros(count, dtype=bool)
        if frame.embedding is not None:
            described = ~np.isnan(frame.embedding[new, 0])
        # Whoever is there when the video begins need not prove an arrival.
        sure = self._first or s.confirm_sightings == 1
        table.append(
            tracklet=self._memory.new_tracklets(count),
            identity=np.zeros(count, dtype=np.int64),
            class_id=frame.class_id[new],
            state=np.full(count, CONFIRMED if sure else TENTATIVE),
            mean=mean,
            covariance=covariance,
            size=frame.measurement[new, 2:],
            embedding=embedding,
            last_seen=np.full(count, self.time),
            last_described=np.where(described, self.time, -np.inf),
            views=np.zeros((count, *table.views.shape[1:]), dtype=np.float32),
            view_count=np.zeros(count, dtype=np.int64),
            last_view=np.full(count, -np.inf),
            born=np.full(count, self.time),
            sightings=np.ones(count, dtype=np.int64),
            whole_since=np.full(count, np.inf),
            cut=frame.cut[new],
        )
        added = np.arange(len(table) - count, len(table))
        if frame.embedding is not None:
            good = frame.shows_person_well(s)[new]
            self._look(added[good], frame.embedding[new[good]], frame.cut[new[good]])
        if sure:
            self._number(added)
        return np.concatenate([detection_of, new])

    def _number(self, rows: Sequence[int] | np.ndarray) -> None:
        """Give the tracks ``rows`` their identities."""
        self._table.identity[rows] = self._memory.new_identities(len(rows))
        self._own += len(rows)

    def _report(self, detections: sv.Detections, frame: "_FrameArrays", detection_of: np.ndarray) -> sv.Detections:
        table = self._table
        rows = np.flatnonzero((table.state == CONFIRMED) & (detection_of != UNMATCHED))
        rows = rows[np.argsort(detection_of[rows])]
        reported: sv.Detections = detections[frame.row[detection_of[rows]]]
        reported.tracker_id = table.identity[rows]
        reported.data["tracklet"] = table.tracklet[rows]
        centre, half = table.mean[rows, 0, :2], table.size[rows] / 2
        reported.data["smooth_xyxy"] = np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)
        return reported


class _FrameArrays:
    """One frame's usable detections as plain arrays; ``row`` says where each stands in the input."""

    def __init__(self, detections: sv.Detections) -> None:
        xyxy = np.asarray(detections.xyxy, dtype=np.float32).reshape(-1, 4)
        confidence = detections.confidence
        confidence = np.ones(len(xyxy)) if confidence is None else np.asarray(confidence, dtype=np.float64)
        usable = np.isfinite(xyxy).all(axis=1) & (xyxy[:, 2:] > xyxy[:, :2]).all(axis=1) & np.isfinite(confidence)
        self.row = np.flatnonzero(usable)
        self.xyxy = xyxy[self.row]
        self.confidence = confidence[self.row]
        class_id = detections.class_id
        self.class_id = np.zeros(len(self.row), np.int64) if class_id is None else np.asarray(class_id)[self.row]
        self.measurement = kalman.measure(self.xyxy)
        self.cut = np.zeros(len(self.xyxy), dtype=bool)
        self.embedding: np.ndarray | None = None
        if "embedding" in detections.data and len(xyxy):
            embedding = np.asarray(detections.data["embedding"], dtype=np.float32)
            if embedding.ndim != 2 or len(embedding) != len(xyxy):
                raise UserError(f"embeddings have the shape {embedding.shape}: one row per detection is needed.")
            self.embedding = embedding if usable.all() else embedding[self.row]
        self._good: np.ndarray | None = None

    def mark_cut(self, width: int, height: int) -> None:
        """Tell whom the edges of a picture of this size cut off."""
        inside = np.concatenate([self.xyxy[:, :2], np.array([width, height]) - self.xyxy[:, 2:]], axis=1)
        self.cut = inside.min(axis=1) < EDGE * (self.xyxy[:, 3] - self.xyxy[:, 1])

    def shows_person_well(self, settings: TrackerSettings) -> np.ndarray:
        """Mask [M] of the crops that may change the appearance kept: confident, free of others, with a vector."""
        if self._good is None:
            assert self.embedding is not None
            uncovered = costs.coverage(self.xyxy) < settings.occlusion
            seen = ~np.isnan(self.embedding[:, 0])
            self._good = uncovered & seen & (self.confidence >= settings.high_confidence)
        return self._good
