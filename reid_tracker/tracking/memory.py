"""Who was here before: several views of every identity that is out of sight, for the decision who has come back.

An identity that left is dormant: motion says nothing about it any more, only appearance can bring it back, anywhere in
the picture and after minutes. The decision is open-set: most newcomers are new. A newcomer is someone known only if
several of its crops are nearly as like the known one's views as one person's crops are from frame to frame, and clearly
more like them than like anyone else's.

Several trackers may share a memory: then who left one camera's picture is recognised in another's, and nobody's number
is given twice.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from reid_tracker.errors import UserError

VIEWS = 8  # kept per identity
KNOWN_STRANGERS = 12  # people whose pairs tell how alike strangers are, until the video itself does
BEST_VIEWS = 3  # of them that a likeness is the mean of: one alone may be alike by chance


def add_views(views: np.ndarray, count: np.ndarray, fresh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add a view to each of K people; of too many the least special one goes.

    Parameters
    ----------
    views : ndarray, float32 [K, VIEWS, D]
        Unit vectors; zeros behind the ``count`` first.
    count : ndarray, int [K]
        How many each has.
    fresh : ndarray, float32 [K, D]
        Unit vectors.

    Returns
    -------
    views, count
        New arrays of the same shapes.
    """
    people = np.arange(len(fresh))
    views = np.concatenate([views, fresh[:, None]], axis=1)
    full, place = np.flatnonzero(count == VIEWS), count.copy()
    if full.size:
        alike = views[full] @ views[full].transpose(0, 2, 1)
        alike[:, np.arange(VIEWS + 1), np.arange(VIEWS + 1)] = -1
        # Of the two that are most alike the one that is more like all others says least.
        one, other = np.unravel_index(alike.reshape(full.size, -1).argmax(axis=1), alike.shape[1:])
        total, each = alike.sum(axis=2), np.arange(full.size)
        place[full] = np.where(total[each, one] >= total[each, other], one, other)
    views[people, place] = fresh
    return views[:, :VIEWS], np.minimum(count + 1, VIEWS)


class IdentityMemory:
    """Dormant identities as parallel arrays, and the next free numbers.

    Parameters
    ----------
    capacity : int
        Dormant identities kept at most, besides those made known; the one unseen for longest goes first.

    Attributes
    ----------
    identity : ndarray, int64 [C]
        Their numbers.
    class_id : ndarray, int64 [C]
    last_seen : ndarray, float64 [C]
        Time, s; -inf for those known from elsewhere and not seen yet.
    views : ndarray, float32 [C, VIEWS, D]
        Unit vectors; zeros behind the ``count`` first.
    count : ndarray, int64 [C]
    known : set of int
        Identities from elsewhere, which are never forgotten.
    """

    COLUMNS = ("identity", "class_id", "last_seen", "views", "count")

    def __init__(self, capacity: int = 1000) -> None:
        self.capacity = capacity
        self.identity = np.zeros(0, dtype=np.int64)
        self.class_id = np.zeros(0, dtype=np.int64)
        self.last_seen = np.zeros(0)
        self.views = np.zeros((0, VIEWS, 0), dtype=np.float32)
        self.count = np.zeros(0, dtype=np.int64)
        self.known: set[int] = set()
        self.next_identity = 1
        self.next_tracklet = 1

    def __len__(self) -> int:
        return len(self.identity)

    def new_identities(self, count: int) -> np.ndarray:
        """Numbers never given before, int [count]."""
        self.next_identity += count
        return np.arange(self.next_identity - count, self.next_identity)

    def new_tracklets(self, count: int) -> np.ndarray:
        """The same for tracklets."""
        self.next_tracklet += count
        return np.arange(self.next_tracklet - count, self.next_tracklet)

    def know(self, people: Iterable[tuple[int, int, np.ndarray]]) -> None:
        """Make people known from elsewhere, who then are recognised by their numbers and never forgotten.

        Parameters
        ----------
        people : iterable of (int, int, ndarray)
            Number, class and views (float [K, D], unit rows; the first `VIEWS` of them) of each.

        Raises
        ------
        UserError
            If the vectors are of another length than those here.
        """
        people = list(people)
        padded = [_pad(views[:VIEWS]) for _, _, views in people]
        for views in padded:
            self.check_dimension(views.shape[1])
        numbers = [number for number, _, _ in people]
        self._remove(np.isin(self.identity, numbers))
        self._append(
            identity=np.array(numbers, dtype=np.int64),
            class_id=np.array([class_id for _, class_id, _ in people], dtype=np.int64),
            last_seen=np.full(len(people), -np.inf),
            views=np.stack(padded) if padded else self.views[:0],
            count=np.array([min(len(views), VIEWS) for _, _, views in people], dtype=np.int64),
        )
        self.known.update(numbers)
        self.next_identity = max([self.next_identity, *(number + 1 for number in numbers)])

    def strangers(self) -> np.ndarray:
        """Cosines between some of those known from elsewhere, float [P]: certain pairs of two people."""
        some = self.views[np.isin(self.identity, list(self.known)), 0][:KNOWN_STRANGERS]
        cosine: np.ndarray = (some @ some.T)[np.triu_indices(len(some), 1)]
        return cosine

    def check_dimension(self, dimension: int) -> None:
        """Take over the length of vectors, or raise UserError if there are vectors of another length."""
        if self.views.shape[2] == 0:
            self.views = np.zeros((len(self), VIEWS, dimension), dtype=np.float32)
        elif self.views.shape[2] != dimension:
            raise UserError(
                f"vectors of {dimension} numbers, but the people known have vectors of {self.views.shape[2]}: "
                "use the appearance model that described them."
            )

    def numbers(self) -> dict[str, Any]:
        """What is not an array, for JSON."""
        return {
            "capacity": self.capacity,
            "known": sorted(int(each) for each in self.known),
            "next_identity": int(self.next_identity),
            "next_tracklet": int(self.next_tracklet),
        }

    def set_numbers(self, numbers: dict[str, Any]) -> None:
        """Take over what `numbers` gave."""
        self.capacity, self.known = numbers["capacity"], set(numbers["known"])
        self.next_identity, self.next_tracklet = numbers["next_identity"], numbers["next_tracklet"]

    def views_of(self, identity: int) -> np.ndarray | None:
        """Views of a dormant identity, float32 [K, D], or None."""
        rows = np.flatnonzero(self.identity == identity)
        return self.views[rows[0], : self.count[rows[0]]] if rows.size else None

    def sleep(
        self, identity: np.ndarray, class_id: np.ndarray, last_seen: np.ndarray, views: np.ndarray, count: np.ndarray
    ) -> None:
        """Put identities to the dormant ones, one row of each array for each; without a view nobody can come back."""
        seen = count > 0
        if not seen.any():
            return
        self.check_dimension(views.shape[2])
        self._remove(np.isin(self.identity, identity[seen]))
        self._append(
            identity=identity[seen],
            class_id=class_id[seen],
            last_seen=last_seen[seen],
            views=views[seen],
            count=count[seen],
        )
        own = np.flatnonzero(~np.isin(self.identity, list(self.known)))
        if own.size > self.capacity:
            gone = np.zeros(len(self), dtype=bool)
            gone[own[np.argsort(self.last_seen[own], kind="stable")[: own.size - self.capacity]]] = True
            self._remove(gone)

    def wake(self, identities: np.ndarray | Iterable[int]) -> None:
        """Take identities that are back in sight from the dormant ones."""
        self._remove(np.isin(self.identity, np.fromiter(identities, dtype=np.int64)))

    def forget(self, before: float) -> None:
        """Forget whoever was last seen before a time, s, and is not known from elsewhere."""
        old = self.last_seen < before
        if old.any():
            self._remove(old & ~np.isin(self.identity, list(self.known)))

    def likeness(self, seen: np.ndarray, class_id: np.ndarray | None, born: np.ndarray) -> np.ndarray:
        """Compare newcomers with all dormant identities.

        Parameters
        ----------
        seen : ndarray, float32 [R, D]
            Mean of each newcomer's crops, unit rows.
        class_id : ndarray, int [R], optional
            Only identities of the newcomer's class.
        born : ndarray, float [R]
            When each newcomer came: whoever was in sight then is somebody else.

        Returns
        -------
        ndarray, float [R, C]
            Mean of the best views' cosines; -inf for who cannot be the one.
        """
        cosine = (seen @ self.views.reshape(-1, self.views.shape[2]).T).reshape(len(seen), len(self), VIEWS)
        cosine = np.where(np.arange(VIEWS) < self.count[:, None], cosine, -np.inf)
        best = -np.sort(-cosine, axis=2)[:, :, :BEST_VIEWS]
        mean = np.where(np.isfinite(best), best, 0).sum(axis=2) / np.minimum(self.count, BEST_VIEWS)
        possible = self.last_seen < born[:, None]
        if class_id is not None:
            possible &= self.class_id == class_id[:, None]
        return np.where(possible, mean, -np.inf)

    def _append(self, **columns: Any) -> None:
        for name in self.COLUMNS:
            array = getattr(self, name)
            setattr(self, name, np.concatenate([array, columns[name]], dtype=array.dtype))

    def _remove(self, rows: np.ndarray) -> None:
        if rows.any():
            for name in self.COLUMNS:
                setattr(self, name, getattr(self, name)[~rows])


def _pad(views: np.ndarray) -> np.ndarray:
    return np.concatenate([views, np.zeros((VIEWS - len(views), views.shape[1]))]).astype(np.float32)
