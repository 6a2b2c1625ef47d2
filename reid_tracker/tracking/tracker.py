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

from dataclasses import asdict

import numpy as np
import supervision as sv

from reid_tracker.config import TrackerSettings
from reid_tracker.errors import UserError
from reid_tracker.tracking import costs, kalman
from reid_tracker.tracking.association import ENOUGH_PEOPLE, STRANGER_DISTANCE, Association
from reid_tracker.tracking.calibration import AppearanceCalibration, CosineStatistics
from reid_tracker.tracking.camera_motion import CameraMotion, FollowingGain, share_of, warp, zoom
from reid_tracker.tracking.checks import Notes, check, from_array
from reid_tracker.tracking.fading import FadingMean
from reid_tracker.tracking.foresight import Foresight
from reid_tracker.tracking.frame_arrays import FrameArrays, at_edge
from reid_tracker.tracking.lag import Lag
from reid_tracker.tracking.memory import VIEWS, IdentityMemory
from reid_tracker.tracking.motion_noise import SETTLED_SIGHTINGS, MotionNoise
from reid_tracker.tracking.recognition import Recognition
from reid_tracker.tracking.snapshot import from_arrays, to_arrays
from reid_tracker.tracking.state import TrackerState
from reid_tracker.tracking.track_table import CONFIRMED, LOST, SETTLED, TENTATIVE, UNMATCHED, TrackTable

# Weight of a new confident box in the smoothed size: people's sizes change slowly, boxes jump with limbs.
SIZE_SHARE = 0.4
# The same for a smaller box: usually the person is partly occluded.
SHRINKING_SHARE = 0.2
# Largest timestamp, s: powers of longer times overflow.
LATEST = 1e15


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
        People already known, or a memory shared by the trackers of several cameras, which are then called in turn with
        times of one clock.

    Attributes
    ----------
    time : float or None
        Of the last frame, s.
    knows_seconds : bool
        Whether times are known to be in seconds, as those of a video or camera: else a long gap is noted, as it may be
        milliseconds. False at first.
    moved : ndarray float64 [2, 3] or None
        How the picture moved from the frame before to the last one, an affine map of its pixels, where it is followed.

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
        if not 1 / LATEST <= frame_rate <= LATEST:
            raise UserError(f"frame_rate cannot be {frame_rate}: it must be between {1 / LATEST:g} and {LATEST:g}.")
        self.settings = settings or TrackerSettings()
        self.frame_rate = float(frame_rate)
        self.time: float | None = None
        self._step, self._is_gap = 1 / self.frame_rate, False
        self.knows_seconds = False
        self.moved: np.ndarray | None = None
        self._table = TrackTable()
        self._calibration = AppearanceCalibration(statistics)
        self._camera = CameraMotion()
        self._following = FollowingGain()
        self._foresight = Foresight()
        self._noise = MotionNoise()
        self._lag = Lag()
        self._notes = Notes()
        self._memory = IdentityMemory() if memory is None else memory
        self._associate = Association(self.settings, self._table, self._calibration)
        self._who = Recognition(self.settings, self._table, self._calibration, self._memory)

    @property
    def motion_noise(self) -> float:
        """How hard people are to predict in this scene: the factor on the filters' usual noise (`motion_noise`)."""
        return self._noise.factor

    @property
    def identities(self) -> int:
        """How many people this tracker has found, without those that others with the same memory numbered first."""
        return int(self._who.own) + len(self._who.guests)

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
            "step": self._step,
            "own": int(self._who.own),
            "guests": sorted(int(each) for each in self._who.guests),
            "visits": sorted(self._who.visits.items()),
            "statistics": given and asdict(given),
            "memory": self._memory.numbers(),
        }
        return TrackerState(header, to_arrays(self._table, self._memory, self._camera, self._learned()))

    def _learned(self) -> dict[str, FadingMean]:
        """What this scene has taught, by the name it has in a state."""
        return {
            "following": self._following,
            "foresight": self._foresight,
            "motion_noise": self._noise,
            "lag": self._lag,
            "same": self._calibration.same,
            "strangers": self._calibration.strangers,
        }

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
        header = state.header
        try:
            statistics = header["statistics"] and CosineStatistics.read(header["statistics"])
            # States of before may name settings that are gone.
            kept = {name: each for name, each in header["settings"].items() if name in TrackerSettings.model_fields}
            tracker = cls(settings or TrackerSettings(**kept), header["frame_rate"], statistics)
            tracker.time = header["time"]
            tracker._step = header.get("step", tracker._step)  # not in older states
            tracker._who.own, tracker._who.guests = header["own"], set(header["guests"])
            tracker._memory.set_numbers(header["memory"])
            from_arrays(state.arrays, tracker._table, tracker._memory, tracker._camera, tracker._learned())
            tracker._who.visits.update((int(who), (float(a), float(b))) for who, (a, b) in header.get("visits", []))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError("the tracker's state is not whole or of another version; begin anew without it.") from error
        return tracker

    def update(
        self,
        detections: sv.Detections | np.ndarray,
        timestamp: float | None = None,
        image: np.ndarray | None = None,
        *,
        embedding: np.ndarray | None = None,
    ) -> sv.Detections:
        """Match one frame's detections to the people known.

        Parameters
        ----------
        detections : supervision.Detections, or ndarray [N, 4 to 6]
            ``xyxy`` [N, 4] in px; ``confidence`` [N] (1 where missing), ``class_id`` [N] and ``data["embedding"]``
            float [N, D] (a NaN row where there is none) are used where present. Rows with NaN, infinite or empty boxes
            are ignored. An array has the columns x1, y1, x2, y2, and where known confidence and class; ``data["row"]``
            then tells which row each result was.
        timestamp : float, optional
            Time of the frame in seconds; by default 1 / frame_rate after the last.
        image : ndarray uint8 [H, W, 3], optional
            The frame, BGR: for ``camera_motion``; its size tells which people a static camera's edges truncate.
        embedding : ndarray float [N, D], optional
            Vectors for an array of detections.

        Returns
        -------
        supervision.Detections
            The confirmed rows in input order, with their measured boxes: ``tracker_id`` is the identity,
            ``data["tracklet"]`` the unbroken piece of motion, ``data["smooth_xyxy"]`` float32 [N, 4] the boxes
            without the detector's jitter, as far as the scene's boxes have any (`lag`), which lie closer to the truth,
            ``data["perhaps"]`` whom a newcomer looks like until a second look says so (0: nobody).

        Raises
        ------
        UserError
            If something given is of the wrong kind, time stands still or runs back, or the embeddings change their
            length; the tracker is then as it was, and the frame can be given again.
        """
        if isinstance(detections, np.ndarray):
            detections = from_array(detections, embedding)
        elif embedding is not None:
            raise UserError(
                'embedding goes with an array of detections; supervision.Detections have data["embedding"].'
            )
        check(detections, timestamp, image)
        frame = FrameArrays(detections)
        self._adopt_dimension(frame.embedding)
        first = self.time is None
        seconds = self._advance(timestamp)
        step = 0.0 if first or self.knows_seconds else seconds
        self._notes.look(frame.xyxy, frame.confidence, step, self.frame_rate)
        if not self.identities:
            self._notes.look_for_nobody(frame.confidence, self.settings.high_confidence, self.settings.new_confidence)
        self._expire()
        self._who.release(self._now)
        boxes = self._predict(seconds, frame, image)
        # Under a moving camera a person at an edge need not have come over it.
        stands = self._camera.stands or not self._following.worth or not self.settings.camera_motion
        if image is not None and stands:
            frame.mark_cut(*image.shape[1::-1])
        detection_of = self._associate(frame, boxes, self._now, self._step)
        detection_of = self._correct(frame, detection_of)
        detection_of = self._retire(detection_of)
        detection_of = self._spawn(frame, detection_of)
        return self._report(detections, frame, detection_of)

    def rest(self) -> None:
        """Treat everyone as out of view, as when the camera is lost: other trackers may recognise them from now on."""
        left = np.flatnonzero(self._table.state == CONFIRMED)
        self._who.sleep(left, self._table.last_seen)
        self._table.state[left] = LOST

    def expected(self, seconds: float, size: tuple[int, int] | None = None) -> sv.Detections:
        """Predict the boxes of people whom the detector has missed for a moment.

        Parameters
        ----------
        seconds : float
            Tracks missed for no longer than this, and at least a second old: short-lived boxes are often false. In
            scenes where motion is hard to predict it is less (`foresight`).
        size : (int, int), optional
            Width and height of the picture, px: tracks at its edges are left out, as the person may have left.

        Returns
        -------
        supervision.Detections
            Boxes by the filters, at the time of the last `update`, with ``tracker_id``, ``class_id``,
            ``data["tracklet"]`` and ``data["smooth_xyxy"]``; their confidence is 0.
        """
        table = self._table
        if self.time is None:
            return sv.Detections.empty()
        seconds = min(seconds, self._foresight.seconds)
        missed = (table.state == LOST) & (self.time - table.last_seen <= seconds + 1e-6)
        missed &= table.last_seen - table.born >= SETTLED - 1e-6
        boxes = self._smooth_boxes(np.arange(len(table)))
        if size is not None:
            missed &= ~at_edge(boxes, *size)
        rows = np.flatnonzero(missed)
        return sv.Detections(
            xyxy=boxes[rows],
            confidence=np.zeros(len(rows)),
            class_id=table.class_id[rows],
            tracker_id=table.identity[rows],
            data={"tracklet": table.tracklet[rows], "smooth_xyxy": boxes[rows]},
        )

    def certain(
        self, detections: sv.Detections, timestamp: float | None = None, refresh_seconds: float = np.inf
    ) -> np.ndarray:
        """Tell which of the next frame's detections motion alone identifies, so that they need no embedding.

        These are boxes where the only one expected there is someone who was in view a frame ago, and who expects no
        other box.

        Parameters
        ----------
        detections, timestamp
            What `update` will be given; nothing is changed here.
        refresh_seconds : float
            Tracks without an embedding for this long get one.

        Returns
        -------
        ndarray, bool [N]
        """
        certain = np.zeros(len(detections), dtype=bool)
        table = self._table
        if self.time is None or not len(table):
            return certain
        frame, now = FrameArrays(detections), self._next_time(timestamp)
        boxes = kalman.boxes(kalman.move(table.mean, now - self.time)).astype(np.float32)
        i, j = costs.overlapping(boxes, frame.xyxy)
        alone = (np.bincount(i, minlength=len(table))[i] == 1) & (np.bincount(j, minlength=len(frame.xyxy))[j] == 1)
        i, j = i[alone], j[alone]
        close = costs.iou(boxes[i], frame.xyxy[j]) >= costs.SAME_PLACE
        in_view = (table.state[i] == CONFIRMED) & (table.last_seen[i] == self.time) & ~table.cut[i]
        in_view &= np.isnan(table.unlike_since[i])
        fresh = now - table.last_described[i] < refresh_seconds - 1e-6
        same_class = table.class_id[i] == frame.class_id[j]
        certain[frame.row[j[close & in_view & fresh & same_class]]] = True
        return certain

    @property
    def _now(self) -> float:
        """Time of the frame at hand, s."""
        assert self.time is not None
        return self.time

    def _next_time(self, timestamp: float | None) -> float:
        before = 0.0 if self.time is None else self.time
        return before + 1 / self.frame_rate if timestamp is None else float(timestamp)

    def _advance(self, timestamp: float | None) -> float:
        """Move the clock; seconds since the last frame."""
        first = self.time is None
        before = 0.0 if self.time is None else self.time
        now = self._next_time(timestamp)
        if not abs(now) <= LATEST:
            raise UserError(f"timestamp {now} is no time in seconds; give one between -{LATEST:g} and {LATEST:g}.")
        if not first and now <= before:
            raise UserError(f"timestamp {now} does not come after {before}: frames must be given in order of time.")
        step = 1 / self.frame_rate if first else now - before
        self._step, self._is_gap = step, step > 2 * self._step
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

    def _expire(self) -> None:
        """End tracks unseen for too long before anything is matched, as after a gap without frames.

        Where frames are so far apart anyway, as in a time lapse, nobody would ever be matched.
        """
        table = self._table
        stale = self._now - table.last_seen > self.settings.lost_seconds + 1e-6
        if self._is_gap and stale.any():
            self._who.sleep(np.flatnonzero(stale & (table.state == CONFIRMED)), table.last_seen)
            table.keep(~stale)

    def _predict(self, seconds: float, frame: FrameArrays, image: np.ndarray | None) -> np.ndarray:
        """Move the tracks to where they are expected; their boxes there, float32 [N, 4]."""
        table = self._table
        table.mean, table.covariance = kalman.predict(table.mean, table.covariance, seconds, self._noise.factor)
        table.foreseen = kalman.move(table.foreseen, seconds)
        self.moved = None
        if self.settings.camera_motion and image is not None:
            self._follow_camera(seconds, frame, image)
        boxes: np.ndarray = kalman.boxes(table.mean).astype(np.float32)
        return boxes

    def _follow_camera(self, seconds: float, frame: FrameArrays, image: np.ndarray) -> None:
        """Move the tracks with the camera, as the picture shows its motion."""
        table = self._table
        matrix = self._camera.estimate(image, frame.xyxy)
        if matrix is None:
            return
        followed, foreseen = warp(table.mean, matrix), warp(table.foreseen, matrix)
        recent = table.last_seen >= self._now - seconds - 1e-6
        last = share_of(matrix, 1 / self._camera.steps)
        if self._camera.steps > 1:  # tracks measured since have followed most of that motion
            followed[recent] = warp(table.mean[recent], last)
            foreseen[recent] = warp(table.foreseen[recent], last)
        seen = np.flatnonzero(recent)
        seen = seen[:: max(len(seen) // ENOUGH_PEOPLE, 1)]
        measured = frame.measurement[frame.confidence >= self.settings.high_confidence, :2]
        noise = (kalman.MEASUREMENT_NOISE * np.maximum(table.mean[seen, 0, 3:4], 1.0)) ** 2
        variance = table.covariance[seen, 0, :2] + noise
        self._following.learn(table.mean[seen, 0, :2], followed[seen, 0, :2], variance, measured)
        if self._following.worth:
            table.mean, table.foreseen, self.moved = followed, foreseen, last
            table.covariance = table.covariance * zoom(matrix) ** 2

    def _correct(self, frame: FrameArrays, detection_of: np.ndarray) -> np.ndarray:
        """Update matched tracks with their detections and number those now confirmed; the detections of all tracks."""
        table, s = self._table, self.settings
        rows = np.flatnonzero(detection_of != UNMATCHED)
        columns = detection_of[rows]
        self._move(rows, frame.measurement[columns], kalman.trust(frame.confidence[columns]))
        table.last_seen[rows] = self._now
        table.sightings[rows] += 1
        table.class_id[rows] = frame.class_id[columns]
        cut = frame.cut[columns] | (table.cut[rows] & frame.near[columns])
        table.cut[rows] |= cut
        self._memory.wake(table.identity[rows[table.state[rows] == LOST]])
        table.state[rows[(table.state[rows] != TENTATIVE) | (table.sightings[rows] >= s.confirm_sightings)]] = CONFIRMED
        if frame.embedding is not None:
            table.last_described[rows[~np.isnan(frame.embedding[columns, 0])]] = self._now
            if self._associate.relit:
                table.embedding[:] = np.nan  # nobody looks as before
            good = frame.shows_person_well(s)[columns]
            good &= self._doubt(rows, frame.embedding[columns], cut)
            self._who.look(rows[good], frame.embedding[columns[good]], cut[good], self._now, self._step)
            detection_of = self._who.recognise(detection_of, self._now)
        self._who.number(np.flatnonzero((table.state == CONFIRMED) & (table.identity == 0)))
        in_view = np.flatnonzero((table.state == CONFIRMED) & (detection_of != UNMATCHED))
        self._foresight.learn(table, in_view, self._smooth_boxes(in_view), self._now)
        return detection_of

    def _move(self, rows: np.ndarray, measurement: np.ndarray, weight: np.ndarray) -> None:
        """Correct the filters and smooth sizes of the tracks ``rows`` with centre boxes [K, 4] of such weight [K]."""
        table, height = self._table, np.maximum(measurement[:, 3:], 1.0)
        steady = (table.sightings[rows] >= SETTLED_SIGHTINGS) & (table.last_seen[rows] >= self._now - self._step - 1e-6)
        innovation, variance = (
            each[:, :2] for each in kalman.innovation(table.mean[rows], table.covariance[rows], measurement, weight)
        )
        self._noise.learn(innovation[steady], variance[steady])
        before = np.where(steady[:, None], table.surprise[rows] * height, 0)
        # Where people are hard to predict, innovations are large by chance.
        error = (max(self._noise.factor, 1.0) * kalman.MEASUREMENT_NOISE * height[:, 0]) ** 2 / weight
        covariance = kalman.catch_up(table.covariance[rows], innovation, before, error)
        table.surprise[rows] = innovation / height
        table.mean[rows], table.covariance[rows] = kalman.update(table.mean[rows], covariance, measurement, weight)
        residual = (measurement - table.mean[rows, 0])[:, :2] / height
        self._lag.learn(table.residual[rows[steady]], residual[steady])
        table.residual[rows] = residual
        growth = measurement[:, 2:] - table.size[rows]
        share = self._noise.share(np.where(growth < 0, SHRINKING_SHARE, SIZE_SHARE))
        table.size[rows] += weight[:, None] * share * growth

    def _doubt(self, rows: np.ndarray, fresh: np.ndarray, cut: np.ndarray) -> np.ndarray:
        """Mask [K] of the crops ``fresh`` [K, D] of the tracks ``rows`` that may change the appearance kept.

        A crop that looks like a stranger's shows mostly an occluder, or the track is about to switch to another person:
        neither may enter the appearance of this one. ``cut`` marks those truncated by an edge.
        """
        table, calibration = self._table, self._calibration
        if calibration.statistics is None:
            return np.ones(len(rows), dtype=bool)
        cosine = np.einsum("kd,kd->k", table.embedding[rows], fresh)
        told = ~np.isnan(cosine) & ~cut
        doubtful = told & calibration.unlike(cosine) & (calibration.distance(cosine) > STRANGER_DISTANCE)
        since = table.unlike_since[rows]
        since[told & ~doubtful] = np.nan
        since[doubtful & np.isnan(since)] = self._now
        table.unlike_since[rows] = since
        return ~doubtful | (self._now - since >= SETTLED - 1e-6)

    def _retire(self, detection_of: np.ndarray) -> np.ndarray:
        """Mark missed tracks as lost, drop those missed for too long; the detections of the remaining tracks."""
        table = self._table
        missed = detection_of == UNMATCHED
        left = missed & (table.state == CONFIRMED)
        self._who.sleep(np.flatnonzero(left), table.last_seen)
        self._memory.forget(self._now - self.settings.memory_seconds)
        table.state[left] = LOST
        table.foreseen_since[missed] = np.nan
        too_long = self._now - table.last_seen > self.settings.lost_seconds + 1e-6
        stay = ~missed | ((table.state == LOST) & ~too_long)
        table.keep(stay)
        return detection_of[stay]

    def _spawn(self, frame: FrameArrays, detection_of: np.ndarray) -> np.ndarray:
        """Begin a track for every confident unmatched box; the detections of all tracks, the new ones last."""
        s, table = self.settings, self._table
        matched = np.zeros(len(frame.xyxy), dtype=bool)
        matched[detection_of[detection_of != UNMATCHED]] = True
        new = self._without_doubles(frame, np.flatnonzero(~matched & (frame.confidence >= s.new_confidence)), matched)
        count = new.size
        if not count:
            return detection_of
        mean, covariance = kalman.initiate(frame.measurement[new])
        embedding = np.full((count, table.embedding.shape[1]), np.nan, dtype=np.float32)
        described = np.zeros(count, dtype=bool)
        if frame.embedding is not None:
            described = ~np.isnan(frame.embedding[new, 0])
        # People in the first frame need no confirmation.
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
            last_seen=np.full(count, self._now),
            last_described=np.where(described, self._now, -np.inf),
            views=np.zeros((count, *table.views.shape[1:]), dtype=np.float32),
            view_count=np.zeros(count, dtype=np.int64),
            last_view=np.full(count, -np.inf),
            born=np.full(count, self._now),
            sightings=np.ones(count, dtype=np.int64),
            whole_since=np.full(count, np.inf),
            cut=frame.cut[new],
            unlike_since=np.full(count, np.nan),
            resembles=np.zeros(count, dtype=np.int64),
            foreseen=mean,
            foreseen_since=np.full(count, np.nan),
            foreseen_stage=np.zeros(count, dtype=np.int64),
            residual=np.zeros((count, 2)),
            surprise=np.zeros((count, 2)),
        )
        added = np.arange(len(table) - count, len(table))
        if frame.embedding is not None:
            good = frame.shows_person_well(s)[new]
            self._who.look(added[good], frame.embedding[new[good]], frame.cut[new[good]], self._now, self._step)
        if sure:
            self._who.number(added)
        return np.concatenate([detection_of, new])

    def _without_doubles(self, frame: FrameArrays, new: np.ndarray, matched: np.ndarray) -> np.ndarray:
        """Those of the rows ``new`` that are nobody else's second box: some detectors give one person several."""
        old = np.flatnonzero(matched)
        all_of_them = np.concatenate([new, old])
        i, j = costs.overlapping(frame.xyxy[new], frame.xyxy[all_of_them])
        same = (i != j) & (costs.iou(frame.xyxy[new[i]], frame.xyxy[all_of_them[j]]) >= costs.SAME_PLACE)
        if not self.settings.class_agnostic:
            same &= frame.class_id[new[i]] == frame.class_id[all_of_them[j]]
        i, j = i[same], j[same]
        second = np.zeros(len(new), dtype=bool)
        second[i[j >= len(new)]] = True
        i, j = i[j < len(new)], j[j < len(new)]
        several = np.unique(i)
        for row in several[np.argsort(-frame.confidence[new[several]], kind="stable")].tolist():  # the surest stay
            if not second[row]:
                second[j[i == row]] = True
        return new[~second]

    def _report(self, detections: sv.Detections, frame: FrameArrays, detection_of: np.ndarray) -> sv.Detections:
        table = self._table
        rows = np.flatnonzero((table.state == CONFIRMED) & (detection_of != UNMATCHED))
        rows = rows[np.argsort(detection_of[rows])]
        reported: sv.Detections = detections[frame.row[detection_of[rows]]]
        reported.tracker_id = table.identity[rows]
        reported.data["tracklet"] = table.tracklet[rows]
        reported.data["perhaps"] = self._who.perhaps(rows, self._now)
        smooth, measured = self._smooth_boxes(rows), frame.xyxy[detection_of[rows]]
        reported.data["smooth_xyxy"] = smooth + np.float32(self._lag.share) * (measured - smooth)
        return reported

    def _smooth_boxes(self, rows: np.ndarray) -> np.ndarray:
        """The filters' centres with the size of the last moments, xyxy float32 [K, 4]."""
        centre, half = self._table.mean[rows, 0, :2], self._table.size[rows] / 2
        boxes: np.ndarray = np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)
        return boxes
