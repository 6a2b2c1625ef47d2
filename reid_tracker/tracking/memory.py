"""Who was here before: several views of every identity that is out of sight, and the decision who has come back.

An identity that left is dormant: motion says nothing about it any more, only appearance can bring it back, anywhere in
the picture and after minutes. The decision is open-set: most newcomers are new. A newcomer is someone known only if
several of its crops are nearly as like the known one's views as one person's crops are from frame to frame, and clearly
more like them than like anyone else's.
"""

from dataclasses import dataclass

import numpy as np

VIEWS = 8  # kept per identity
BEST_VIEWS = 3  # of them that a likeness is the mean of: one alone may be alike by chance


@dataclass
class Dormant:
    """An identity out of sight.

    Attributes
    ----------
    class_id : int
    last_seen : float
        Time, s.
    views : ndarray, float32 [K, D]
        Unit vectors, K <= VIEWS.
    """

    class_id: int
    last_seen: float
    views: np.ndarray


class IdentityMemory:
    """Views of identities: of those in sight, by tracklet, growing; of the dormant ones, by number.

    Parameters
    ----------
    capacity : int
        Dormant identities kept at most; the one unseen for longest goes first.
    """

    def __init__(self, capacity: int = 1000) -> None:
        self.capacity = capacity
        self.dormant: dict[int, Dormant] = {}
        self._views: dict[int, np.ndarray] = {}

    def look(self, tracklet: int, vector: np.ndarray) -> None:
        """Add a good crop's unit vector [D] to a tracklet's views; of too many the least special one goes."""
        known = self._views.get(tracklet)
        if known is None:
            self._views[tracklet] = vector[None].copy()
            return
        views = np.concatenate([known, vector[None]])
        if len(views) > VIEWS:
            alike = views @ views.T
            np.fill_diagonal(alike, -1)
            # Of the two that are most alike the one that is more like all others says least.
            pair = np.array(np.unravel_index(alike.argmax(), alike.shape))
            views = np.delete(views, pair[alike[pair].sum(axis=1).argmax()], axis=0)
        self._views[tracklet] = views

    def views(self, tracklet: int) -> np.ndarray | None:
        """Views of a tracklet [K, D], or None."""
        return self._views.get(tracklet)

    def drop(self, tracklet: int) -> np.ndarray | None:
        """Forget a tracklet; its views."""
        return self._views.pop(tracklet, None)

    def wake(self, tracklet: int, identity: int) -> None:
        """Give a tracklet the views of a dormant identity, which it turns out to be."""
        known = self.dormant.pop(identity, None)
        for view in () if known is None else known.views:
            self.look(tracklet, view)

    def sleep(self, tracklet: int, identity: int, class_id: int, last_seen: float) -> None:
        """Put an identity to the dormant ones with the views of its tracklet; without any it cannot come back."""
        views = self.drop(tracklet)
        if views is None:
            return
        self.dormant.pop(identity, None)
        self.dormant[identity] = Dormant(class_id, last_seen, views)
        while len(self.dormant) > self.capacity:
            del self.dormant[min(self.dormant, key=lambda each: self.dormant[each].last_seen)]

    def forget(self, before: float) -> None:
        """Forget whoever was last seen before a time, s."""
        for identity in [each for each, known in self.dormant.items() if known.last_seen < before]:
            del self.dormant[identity]

    def likeness(self, tracklet: int, class_id: int | None, born: float) -> tuple[np.ndarray, np.ndarray]:
        """Compare a tracklet with all dormant identities.

        Parameters
        ----------
        tracklet : int
            With views.
        class_id : int, optional
            Only identities of this class.
        born : float
            When the tracklet began: whoever was in sight then is somebody else.

        Returns
        -------
        identities : ndarray, int [N]
        cosine : ndarray, float [N]
            Mean of the best views' cosines with the mean of the tracklet's.
        """
        seen = self._views[tracklet].mean(axis=0)
        seen = seen / max(float(np.linalg.norm(seen)), 1e-12)
        known = {
            number: each
            for number, each in self.dormant.items()
            if each.last_seen < born and class_id in (None, each.class_id)
        }
        if not known:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        # One product for all views, then the best of each identity.
        counts = np.array([len(each.views) for each in known.values()])
        cosine = np.concatenate([each.views for each in known.values()]) @ seen
        table = np.full((len(known), VIEWS), -np.inf)
        table[np.arange(VIEWS) < counts[:, None]] = cosine
        best = -np.sort(-table, axis=1)[:, :BEST_VIEWS]
        found = np.isfinite(best)
        return np.array(list(known)), np.where(found, best, 0).sum(axis=1) / found.sum(axis=1)
