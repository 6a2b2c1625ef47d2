"""Which detection of a frame belongs to which track: motion, appearance and the Hungarian method in three rounds."""

import numpy as np

from reid_tracker.config import TrackerSettings
from reid_tracker.tracking import costs, kalman
from reid_tracker.tracking.assignment import assign
from reid_tracker.tracking.calibration import AppearanceCalibration
from reid_tracker.tracking.fading import FAR
from reid_tracker.tracking.frame_arrays import FrameArrays
from reid_tracker.tracking.memory import unit
from reid_tracker.tracking.track_table import MOMENT, TENTATIVE, UNMATCHED, TrackTable

# Matches without overlap need a calibrated distance (0 same, 1 stranger) below this, and such a lead over the next most
# similar.
ALIKE, CLEAR_LEAD = 0.4, 0.1
# They reach as far as people walk briskly, and so many body heights more: boxes jitter and people lean.
REACH_SLACK = 0.5
# A person who walks on is not suddenly half or twice as tall: bound on |log(height ratio)|.
SAME_HEIGHT = 0.5
# Calibrated distance (0 same, 1 stranger) from which a box is not the track's, however well it overlaps: where one
# person follows another in the same place, only appearance can tell. A track seen a moment ago keeps such a box
# if crops of one person have been as unlike in this scene: a single crop may show mostly another person. A crop of
# a whole person says more than one that others cover: some strangers look more alike than the mean of strangers. Once
# the scene has shown how alike crops of one person are, half way is enough for one that is more unlike.
STRANGER_DISTANCE, WHOLE_STRANGER, UNLIKE_STRANGER = 0.75, 0.6, 0.5
# Share of apparently unmoved people who must look like others for the frame to count as a hard cut.
MOST_CHANGED = 0.75
# Where everybody changed at once, so many deviations of what chance gives tell that it was the light: 1 in 40.
BEYOND_CHANCE = 2.0
# Overlap alone re-identifies a missed person only while the filter's position is this certain (std, body heights):
# beyond, a stranger is as likely to be there. That takes seconds under a static camera, moments under a moving one.
KNOWN_PLACE = 0.25
# Of so many people in a frame at most the scene is learned: more do not help, and the cost stays bounded.
ENOUGH_PEOPLE = 32


class Association:
    """Matches the tracks of a table to detections.

    Parameters
    ----------
    settings : TrackerSettings
    table : TrackTable
        Read only.
    calibration : AppearanceCalibration
        Turns cosines into distances, and learns from the certain matches.

    Attributes
    ----------
    relit : bool
        Whether the light of the last frame was another one: nobody looks as before.
    """

    def __init__(self, settings: TrackerSettings, table: TrackTable, calibration: AppearanceCalibration) -> None:
        self._settings, self._table, self._calibration = settings, table, calibration
        self._boxes, self._now, self._step = np.zeros((0, 4), dtype=np.float32), 0.0, 0.0
        self.relit = False

    def __call__(self, frame: FrameArrays, boxes: np.ndarray, now: float, step: float) -> np.ndarray:
        """Match a frame.

        First the confident boxes and everyone known; then low-confidence boxes for the remaining tracks (ByteTrack,
        Zhang et al. 2022; here the lost too: someone behind a post shows so for seconds, with gaps), by overlap
        alone; last the tentative tracks, which must not take a box from a known one.

        Parameters
        ----------
        frame : FrameArrays
            M detections.
        boxes : ndarray float32 [N, 4]
            Where the tracks are expected, xyxy in px.
        now, step : float
            Time of the frame and since the last one, s.

        Returns
        -------
        ndarray int [N]
            Row of the detection that each track gets, or UNMATCHED.
        """
        s, state = self._settings, self._table.state
        self._boxes, self._now, self._step = boxes, now, step
        detection_of = np.full(len(state), UNMATCHED)
        self.relit = False
        high = frame.confidence >= s.high_confidence
        low = ~high & (frame.confidence >= s.low_confidence)
        self._match(frame, detection_of, state != TENTATIVE, high, s.motion_limit)
        self._match(frame, detection_of, state != TENTATIVE, low, 1 - costs.RIGHT, motion_only=True)
        self._match(frame, detection_of, state == TENTATIVE, high, s.motion_limit)
        return detection_of

    def _match(
        self,
        frame: FrameArrays,
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
        table, s = self._table, self._settings
        unseen = np.maximum(self._now - table.last_seen[rows] - self._step, 0.0)
        boxes = self._boxes[rows]
        i, j = costs.overlapping(boxes, frame.xyxy[columns])
        overlap = costs.iou(boxes[i], frame.xyxy[columns[j]])
        cost = 1 - overlap
        cosine = distance = None
        if frame.embedding is not None and not motion_only:
            cosine = table.embedding[rows] @ frame.embedding[columns].T
            if self._calibration.statistics is not None:
                far_i, far_j = self._alike_within_reach(rows, unseen, frame.measurement[columns], cosine, i, j)
                if far_i.size:
                    i, j = np.concatenate([i, far_i]), np.concatenate([j, far_j])
                    overlap = np.concatenate([overlap, np.zeros(len(far_i))])
                quality = self._calibration.quality(frame.coverage[columns])
                distance = self._calibration.distance(cosine[i, j], quality[j])
                away = np.maximum(unseen[i], self._step) > MOMENT
                whole = ~frame.cut & (frame.coverage < 0.5)  # half a body says nothing
                whole = whole[columns[j]]
                unlike = self._calibration.unlike(cosine[i, j]) & whole
                rivalled = _rivalled(i, j, overlap, cosine.shape)
                bound = np.where(whole, WHOLE_STRANGER, STRANGER_DISTANCE)
                if self._calibration.learned:
                    bound[unlike] = UNLIKE_STRANGER
                told = ~np.isnan(distance) & ~rivalled & (overlap >= costs.RIGHT)
                changed = _all_changed(unlike, told)
                told &= unseen[i] == 0
                if changed and self._light_changed(rows[i[told]], frame.embedding[columns[j[told]]]):
                    self.relit = True
                if self.relit:
                    distance[:] = np.nan
                unlike &= rivalled | changed
                stranger = (distance > bound) & (away | unlike)
                fused = (1 - s.appearance_weight) * (1 - overlap) + s.appearance_weight * distance
                cost = np.where(np.isnan(distance), 1 - overlap, fused)
                cost[stranger] = np.inf
        # Who was missed in one frame only is met there whatever the frame rate.
        vague = kalman.place_deviation(table.mean[rows], table.covariance[rows]) > KNOWN_PLACE
        vague &= unseen > 1.5 * self._step
        cost[vague[i] & (True if distance is None else np.isnan(distance))] = np.inf
        if not s.class_agnostic:
            same_class = table.class_id[rows[i]] == frame.class_id[columns[j]]
            if not same_class.all():
                # A detector that wavers, as between car and truck: nothing else is so near that the box could be of.
                best = (costs.lead(i, overlap) > 0) & (costs.lead(j, overlap) > 0)
                same_class |= (overlap >= costs.SAME_PLACE) & best & np.isfinite(cost)
                i, j, cost, overlap = i[same_class], j[same_class], cost[same_class], overlap[same_class]
        chosen = assign(i, j, cost, limit)
        if cosine is not None:
            self._learn(i, j, overlap, chosen, cosine)
            if self._calibration.given is None and not self._calibration.learned:
                self._learn_without_overlap(frame, columns, cosine)
        detection_of[rows[i[chosen]]] = columns[j[chosen]]

    def _light_changed(self, rows: np.ndarray, fresh: np.ndarray) -> bool:
        """Whether the tracks ``rows`` differ from each other as their crops ``fresh`` [K, D] do, which all look new.

        Light (infrared at dusk, a lamp) changes all vectors alike; a cut of the film brings other people.
        """
        known = self._calibration.statistics
        if known is None or len(rows) < 2:
            return False
        before = self._table.embedding[rows]
        alike = (unit(before - before.mean(axis=0)) * unit(fresh - fresh.mean(axis=0))).sum(axis=1).mean()
        by_chance = known.stranger_std / (1 - known.stranger_mean) / np.sqrt(len(rows) - 1)  # their mean takes one
        return bool(alike > BEYOND_CHANCE * by_chance)

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
        mean = self._table.mean
        alike = cosine > self._calibration.cosine(ALIKE)
        alike[near_i, near_j] = False
        i, j = costs.pairs(alike)
        height = mean[rows[i], 0, 3]
        offset = measurement[j, :2] - mean[rows[i], 0, :2]
        reach = (REACH_SLACK + kalman.BRISK * (unseen[i] + self._step)) * height
        same_height = np.abs(np.log(measurement[j, 3] / np.maximum(height, 1.0))) < SAME_HEIGHT
        possible = same_height & ((offset**2).sum(axis=1) < reach**2)
        i, j = i[possible], j[possible]
        if not i.size:
            return i, j
        # Each must clearly be the other's most similar: without overlap nothing is guessed.
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
        certain = (overlap[chosen] >= costs.RIGHT) & ~_rivalled(i, j, overlap, cosine.shape)[chosen]
        rows, columns = i[chosen][certain][:ENOUGH_PEOPLE], j[chosen][certain][:ENOUGH_PEOPLE]
        pairs = cosine[np.ix_(rows, columns)]
        same = pairs.diagonal()
        if self._calibration.learned and self._calibration.statistics is not None:  # a post in front is not the person
            doubtful = self._calibration.unlike(same) & (self._calibration.distance(same) > STRANGER_DISTANCE)
            same = same[~doubtful]
        strangers = pairs[~np.eye(len(rows), dtype=bool)]
        self._calibration.learn(same[~np.isnan(same)], strangers[~np.isnan(strangers)])

    def _learn_without_overlap(self, frame: FrameArrays, columns: np.ndarray, cosine: np.ndarray) -> None:
        """Teach the calibration where people hardly overlap from frame to frame, as at one frame a second.

        Two boxes of one frame that are apart are two people. Once those are known, a track and a detection that are
        each other's most alike, and further from strangers than strangers ever are, are one person.

        Parameters
        ----------
        frame : FrameArrays
            The detections.
        columns : ndarray of int
            Those considered.
        cosine : ndarray [N, M]
            Of tracks with these.
        """
        assert frame.embedding is not None
        some = columns[:ENOUGH_PEOPLE]
        apart = np.ones((len(some), len(some)), dtype=bool)
        apart[costs.overlapping(frame.xyxy[some], frame.xyxy[some])] = False
        strangers = (frame.embedding[some] @ frame.embedding[some].T)[np.triu(apart, 1)]
        same = np.zeros(0, dtype=np.float32)
        known = self._calibration.strangers
        if known.enough():
            likeness = np.nan_to_num(cosine, nan=-1.0)
            best = likeness.argmax(axis=1)
            mutual = likeness.argmax(axis=0)[best] == np.arange(len(likeness))
            value = likeness[np.arange(len(likeness)), best]
            same = value[mutual & (value > known.centre + FAR * known.std)]
        self._calibration.learn(same, strangers[~np.isnan(strangers)])


def _rivalled(i: np.ndarray, j: np.ndarray, overlap: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Mask [K] of the pairs of which the track or the detection overlaps another one, too; ``shape`` is N, M."""
    near = overlap > 0.1
    of_track, of_detection = np.bincount(i[near], minlength=shape[0]), np.bincount(j[near], minlength=shape[1])
    mask: np.ndarray = (of_track[i] - near > 0) | (of_detection[j] - near > 0)
    return mask


def _all_changed(unlike: np.ndarray, told: np.ndarray) -> bool:
    """Whether nearly all who seem to be where they were, at least two, look like others [K], [K]: a cut or light."""
    return bool(told.sum() >= 2 and unlike[told].mean() >= MOST_CHANGED)
