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
        rows, cosine = self._candidates(detection_of, now)
        if not rows.size:
            return detection_of
        gone = self._apply(self._decide(rows, cosine))
        if not gone.any():
            return detection_of
        self._table.keep(~gone)
        return detection_of[~gone]

    def _candidates(self, detection_of: np.ndarray, now: float) -> tuple[np.ndarray, np.ndarray]:
        """Tracks [R] of newcomers who are due for a comparison, and their cosines [R, C] with those in the memory."""
        table, s = self._table, self._settings
        in_view = (table.state == CONFIRMED) & (detection_of != UNMATCHED)
        since = np.minimum(table.whole_since, table.born + SETTLED)
        undecided = (table.identity == 0) | ((table.born > -np.inf) & (now - since <= s.return_seconds))
        enough = (table.last_view == now) & (table.view_count >= NEWCOMER_CROPS) & self.seen_enough()
        rows = np.flatnonzero(in_view & undecided & enough)
        if not rows.size:
            return rows, np.zeros((0, len(self._memory)))
        means = table.views.sum(axis=1) / np.maximum(table.view_count, 1)[:, None]
        others = in_view & ~undecided & (table.view_count > 0)
        calibrated = self._calibration.statistics is not None
        if not calibrated and len(self._memory) + np.count_nonzero(others) < LEAST_PEOPLE:
            return rows[:0], np.zeros((0, len(self._memory)))
        class_id = None if s.class_agnostic else table.class_id[rows]
        return rows, self._memory.likeness(means[rows], class_id, table.born[rows], means[others])

    def _decide(self, rows: np.ndarray, cosine: np.ndarray) -> dict[int, int]:
        """Which track is which identity of the memory."""
        table, memory = self._table, self._memory
        candidates, given = np.isfinite(cosine).sum(axis=1), self._calibration.given
        nearest = -np.sort(-np.pad(cosine, ((0, 0), (0, 1)), constant_values=-1.0), axis=1)[:, :2]
        rates = self._settings.return_false_match_rate * np.array([[1.0], [AT_ONCE]])
        asked, asked_at_once = return_cosine(rates, np.maximum(candidates, 1), given)
        clear = (nearest[:, 0] > asked) & (nearest[:, 0] - nearest[:, 1] >= RETURN_MARGIN)
        best = cosine.argmax(axis=1)
        before, resembled = table.resembles[rows], np.where(clear, memory.identity[best], 0)
        table.resembles[rows] = resembled
        clear &= (nearest[:, 0] > asked_at_once) | (before == resembled)
        # Two newcomers cannot be one person: the more similar one is matched first.
        order = np.flatnonzero(clear)[np.argsort(-cosine[clear, best[clear]])]
        found: dict[int, int] = {}
        for row, identity in zip(rows[order].tolist(), memory.identity[best[order]].tolist(), strict=True):
            if identity not in found.values():
                found[row] = identity
        return found

    def _apply(self, found: dict[int, int]) -> np.ndarray:
        """Number the tracks so, with the views known of them; mask [N] of the lost tracks that this makes up for."""
        table, memory = self._table, self._memory
        gone = np.zeros(len(table), dtype=bool)
        for row, identity in found.items():
            self.own -= table.identity[row] != 0
            self.guests |= memory.known & {identity}
            gone |= (table.state == LOST) & (table.identity == identity)
            table.identity[row] = identity
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
        self._table.identity[rows] = self._memory.new_identities(len(rows))
        self.own += len(rows)
