"""Who the tracks are: the appearance kept of each, their numbers, and who has come back."""

from collections.abc import Sequence

import numpy as np

from reid_tracker.config import TrackerSettings
from reid_tracker.tracking.calibration import AppearanceCalibration, return_cosine
from reid_tracker.tracking.memory import NEWCOMER_CROPS, IdentityMemory, add_views
from reid_tracker.tracking.track_table import CONFIRMED, LOST, SETTLED, TENTATIVE, UNMATCHED, TrackTable

# Share of the old vector kept at each good sighting: lower follows a change of light faster.
MOMENTUM = 0.9
# The memory gets a view of everyone in sight this often, s.
VIEW_SECONDS = 0.5
# Of two who look alike neither is guessed: the next most similar person's cosine must be so much lower.
RETURN_MARGIN = 0.05
# A newcomer that passes at this share of the stated rate is recognised at once. Others need two looks in a row, at
# least `VIEW_SECONDS` apart, with the same result: a track that is compared often will resemble a stranger now and
# then.
AT_ONCE = 0.5
# Calibrated distance above which a person entering over an edge is not the one who left over it a moment ago.
OTHER_PERSON = 0.5
# Of a network without statistics of its own nothing is known until strangers were seen together: the mean of everybody,
# by which vectors are compared, says nothing while fewer people than these are known.
LEAST_PEOPLE = 3


class Recognition:
    """Gives the tracks of a table their identities.

    Parameters
    ----------
    settings : TrackerSettings
    table : TrackTable
    calibration : AppearanceCalibration
    memory : IdentityMemory
        Of those who are out of sight.

    Attributes
    ----------
    own : int
        People first numbered here.
    guests : set of int
        Identities known before this run that were recognised here.
    visits : dict of int to (float, float)
        When the last visit of an identity began and ended here, s.
    """

    def __init__(
        self,
        settings: TrackerSettings,
        table: TrackTable,
        calibration: AppearanceCalibration,
        memory: IdentityMemory,
    ) -> None:
        self._settings, self._table, self._calibration, self._memory = settings, table, calibration, memory
        self.own, self.guests = 0, set[int]()
        self.visits: dict[int, tuple[float, float]] = {}
        memory.visits.append(self.visits)

    def release(self, now: float) -> None:
        """Drop lost tracks that another camera has recognised since: their numbers are in use."""
        table = self._table
        lost = (table.state == LOST) & (table.view_count > 0) & self.seen_enough()
        lost &= now - table.last_seen < self._settings.memory_seconds  # else the memory has forgotten them
        if lost.any():
            asleep = [self._memory.views_of(each) is not None for each in table.identity.tolist()]
            table.keep(~(lost & ~np.array(asleep)))

    def look(self, rows: np.ndarray, fresh: np.ndarray, cut: np.ndarray, now: float, step: float) -> None:
        """Take in good crops' vectors ``fresh`` [K, D] of the tracks ``rows``, some of them ``cut`` off by an edge.

        Crops of a truncated person count only until the whole person has been seen.
        """
        table = self._table
        known = self._calibration.statistics
        seen_whole = (table.whole_since[rows] < np.inf) & (table.view_count[rows] > 0)
        back = seen_whole & table.cut[rows] & ~cut & (table.identity[rows] != 0)
        if back.any() and known is not None:
            before = table.views[rows[back]].sum(axis=1)
            cosine = np.einsum("nd,nd->n", before / np.linalg.norm(before, axis=1, keepdims=True), fresh[back])
            self._part(rows[back][self._calibration.distance(cosine) > OTHER_PERSON], now, step)
        begin = rows[~cut & (table.whole_since[rows] == np.inf)]
        table.whole_since[begin] = np.where(table.cut[begin], now, table.born[begin])
        table.view_count[begin], table.views[begin], table.last_view[begin] = 0, 0.0, -np.inf  # views of a part go
        table.cut[rows[~cut]] = False
        self._remember_appearance(rows, fresh)
        useful = ~cut | (table.whole_since[rows] == np.inf)
        self._keep_views(rows[useful], fresh[useful], now)

    def _part(self, rows: np.ndarray, now: float, step: float) -> None:
        """Make newcomers of tracks whose person left over an edge where another person came in.

        As all newcomers they are confirmed once seen a few times: one false box there is nobody.
        """
        table = self._table
        if not rows.size:
            return
        self.sleep(rows, np.full(len(table), now - step))
        table.tracklet[rows], table.identity[rows] = self._memory.new_tracklets(len(rows)), 0
        table.embedding[rows] = np.nan
        table.state[rows], table.sightings[rows] = TENTATIVE, 1
        table.whole_since[rows], table.born[rows] = np.inf, now

    def _remember_appearance(self, rows: np.ndarray, fresh: np.ndarray) -> None:
        """Mix good crops' vectors ``fresh`` [K, D] into those kept for the tracks ``rows``, at unit length."""
        kept = self._table.embedding[rows]
        mixed = MOMENTUM * (kept - fresh) + fresh
        first = np.isnan(kept[:, 0])
        mixed[first] = fresh[first]
        mixed /= np.sqrt(np.maximum(np.einsum("nd,nd->n", mixed, mixed), 1e-12))[:, None]
        self._table.embedding[rows] = mixed

    def _keep_views(self, rows: np.ndarray, fresh: np.ndarray, now: float) -> None:
        """Show the memory vectors ``fresh`` [K, D] of the tracks ``rows``: newcomers' at once, others' at times."""
        table = self._table
        if not self._settings.memory_seconds:
            return
        newcomer = table.sightings[rows] <= max(self._settings.confirm_sightings, NEWCOMER_CROPS)
        newcomer |= (table.whole_since[rows] > table.born[rows]) & (table.view_count[rows] < NEWCOMER_CROPS)
        due = newcomer | (now - table.last_view[rows] >= VIEW_SECONDS)
        if due.any():
            rows = rows[due]
            table.views[rows], table.view_count[rows] = add_views(table.views[rows], table.view_count[rows], fresh[due])
            table.last_view[rows] = now

    def sleep(self, rows: np.ndarray, last_seen: np.ndarray) -> None:
        """Show the memory the people of these tracks, if they were seen well."""
        table = self._table
        rows = rows[self.seen_enough()[rows]]
        if rows.size and self._settings.memory_seconds:
            columns = (table.identity, table.class_id, last_seen, table.views, table.view_count)
            self._memory.sleep(*(column[rows] for column in columns))
            for identity, until in zip(table.identity[rows].tolist(), last_seen[rows].tolist(), strict=True):
                self.visits[identity] = self.visits.get(identity, (until, until))[0], until

    def seen_enough(self) -> np.ndarray:
        """Mask [N] of the tracks whose people were seen whole, or are long enough there to be taken as they are."""
        table = self._table
        enough: np.ndarray = (table.whole_since < np.inf) | (table.last_seen - table.born >= SETTLED)
        return enough

    def recognise(self, detection_of: np.ndarray, now: float) -> np.ndarray:
        """Give newcomers who look like someone out of sight that one's number; the detections of all tracks."""
        self._memory.absorb()
        useless = self._calibration.learned and self._calibration.statistics is None  # vectors that do not discriminate
        if useless or not len(self._memory):
            return detection_of
        rows, cosine, in_sight = self._candidates(detection_of, now)
        if not rows.size:
            return detection_of
        gone = self._apply(self._decide(rows, cosine, in_sight))
        if not gone.any():
            return detection_of
        self._table.keep(~gone)
        return detection_of[~gone]

    def _candidates(self, detection_of: np.ndarray, now: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Newcomers due for a comparison: tracks [R], cosines [R, C] with the memory; means [K, D] of the others."""
        table, s = self._table, self._settings
        in_view = (table.state == CONFIRMED) & (detection_of != UNMATCHED)
        since = np.minimum(table.whole_since, table.born + SETTLED)
        undecided = (table.identity == 0) | ((table.born > -np.inf) & (now - since <= s.return_seconds))
        enough = (table.last_view == now) & (table.view_count >= NEWCOMER_CROPS) & self.seen_enough()
        rows = np.flatnonzero(in_view & undecided & enough)
        means = table.views.sum(axis=1) / np.maximum(table.view_count, 1)[:, None]
        others = in_view & ~undecided & (table.view_count > 0)
        if self._calibration.statistics is None and len(self._memory) + np.count_nonzero(others) < LEAST_PEOPLE:
            rows = rows[:0]
        class_id = None if s.class_agnostic else table.class_id[rows]
        return rows, self._compare(means[rows], class_id, table.born[rows], means[others]), means[others]

    def _compare(
        self, seen: np.ndarray, class_id: np.ndarray | None, born: np.ndarray, in_sight: np.ndarray
    ) -> np.ndarray:
        """Cosines [R, C] with those in the memory, as `IdentityMemory.likeness` takes them."""
        known = self._calibration.statistics
        alike = {} if known is None else {"strangers": known.stranger_mean}
        return self._memory.likeness(seen, class_id, born, in_sight, **alike)

    def _decide(self, rows: np.ndarray, cosine: np.ndarray, in_sight: np.ndarray) -> dict[int, int]:
        """Which track is which identity of the memory."""
        table, memory = self._table, self._memory
        candidates, given = np.isfinite(cosine).sum(axis=1), self._calibration.given
        rates = self._settings.return_false_match_rate * np.array([[1.0], [AT_ONCE]])
        asked, asked_at_once = return_cosine(rates, np.maximum(candidates, 1), given)
        nearest = cosine.max(axis=1)
        best = np.array([self._one_person(*each, in_sight) for each in zip(cosine, asked, strict=True)])
        clear = best >= 0
        before, resembled = table.resembles[rows], np.where(clear, memory.identity[best], 0)
        table.resembles[rows] = resembled
        clear &= (nearest > asked_at_once) | (before == resembled)
        # Two newcomers cannot be one person: the more similar one is matched first.
        order = np.flatnonzero(clear)[np.argsort(-cosine[clear, best[clear]])]
        found: dict[int, int] = {}
        for row, identity in zip(rows[order].tolist(), memory.identity[best[order]].tolist(), strict=True):
            if identity not in found.values():
                found[row] = identity
        return found

    def _one_person(self, cosine: np.ndarray, asked: float, in_sight: np.ndarray) -> int:
        """Column of whom a newcomer is whose cosines with the memory are these [C]; -1 for nobody.

        Where several are about as alike, they are one person, who was not recognised once, if they are as alike to each
        other as is asked and were never in view at once: the oldest number counts. Those that only other cameras have
        shown come last, as cameras that see the same people each keep their own. Else nobody is guessed.
        """
        memory, best = self._memory, int(cosine.argmax())
        if cosine[best] <= asked:
            return -1
        near = np.flatnonzero(cosine > cosine[best] - RETURN_MARGIN)
        if len(near) > 1:
            between = self._compare(memory.mean[[best]], None, np.full(1, np.inf), in_sight)[0, near]
            if (between <= asked).any() or memory.were_together(memory.identity[near].tolist()):
                return -1
        numbers = memory.identity[near]
        elsewhere = [each not in self.visits and any(each in shown for shown in memory.visits) for each in numbers]
        return int(near[np.lexsort((numbers, np.array(elsewhere)))[0]])

    def _apply(self, found: dict[int, int]) -> np.ndarray:
        """Number the tracks so, with the views known of them; mask [N] of the lost tracks that this makes up for."""
        table, memory = self._table, self._memory
        gone = np.zeros(len(table), dtype=bool)
        for row, identity in found.items():
            self.own -= table.identity[row] != 0
            self.guests |= memory.known & {identity}
            gone |= (table.state == LOST) & (table.identity == identity)
            table.identity[row] = identity
            self.visits[identity] = (float(table.born[row]),) * 2
            table.born[row] = -np.inf  # decided
            known = memory.views_of(identity)
            assert known is not None
            for view in known:
                table.views[row], table.view_count[row] = (
                    part[0] for part in add_views(table.views[[row]], table.view_count[[row]], view[None])
                )
        memory.wake(found.values())
        return gone

    def perhaps(self, rows: np.ndarray, now: float) -> np.ndarray:
        """Whom newcomers among the tracks ``rows`` look like, until a second look says so; int [K], 0 is nobody."""
        table = self._table
        resembled = table.resembles[rows]
        is_open = (resembled != table.identity[rows]) & (now - table.born[rows] <= self._settings.return_seconds)
        return np.where(is_open, resembled, 0)

    def number(self, rows: Sequence[int] | np.ndarray) -> None:
        """Give the tracks ``rows`` their identities."""
        table, capacity = self._table, self._memory.capacity
        table.identity[rows] = self._memory.new_identities(len(rows))
        self.own += len(rows)
        for identity, born in zip(table.identity[rows].tolist(), table.born[rows].tolist(), strict=True):
            self.visits[identity] = born, born
        if len(self.visits) > 2 * capacity:  # who left long ago is forgotten
            for identity in sorted(self.visits, key=lambda each: self.visits[each][1])[:-capacity]:
                del self.visits[identity]
