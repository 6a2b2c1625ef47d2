"""Who was here before: several views of every identity that is out of sight, for the decision who has come back.

An identity that left is dormant: motion says nothing about it any more, only appearance can bring it back, anywhere in
the picture and after minutes. The decision is open-set: most newcomers are new. A newcomer is someone known only if the
mean of several crops, seen from the mean of everybody known, is more like the known one's than the stated share of
strangers would be (`calibration.return_cosine`), and clearly more than like anyone else's.

Several trackers may share a memory: then who left one camera's picture is recognised in another's, and nobody's number
is given twice.
"""

from collections import deque
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from reid_tracker.errors import UserError

VIEWS = 8  # kept per identity
NEWCOMER_CROPS = 3  # needed to tell who a newcomer is
BLOCK = 4096  # identities that are compared, or made room for, at a time


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
        Unit vectors; zeros behind the ``count`` first. Made at each asking; `views_of` is for one identity.
    count : ndarray, int64 [C]
    mean : ndarray, float32 [C, D]
        Of the views.
    kept : ndarray, bool [C]
        Whether the identity is one of those ``lasting``.
    known : set of int
        Identities from elsewhere.
    lasting : set of int
        Identities that are never forgotten: those known, and those kept since (`keep`).
    visits : list of dict
        For each camera, identity to when its last visit there began and ended, s.
    """

    COLUMNS = ("identity", "class_id", "last_seen", "views", "count", "mean", "kept")

    def __init__(self, capacity: int = 1000) -> None:
        self.capacity = capacity
        self._length = 0
        # Rows behind the first `_length` are free, so that thousands of known people are not copied at each coming.
        self._rows: dict[str, np.ndarray] = {
            "identity": np.zeros(0, dtype=np.int64),
            "class_id": np.zeros(0, dtype=np.int64),
            "last_seen": np.zeros(0),
            "count": np.zeros(0, dtype=np.int64),
            "mean": np.zeros((0, 0), dtype=np.float32),
            "kept": np.zeros(0, dtype=bool),
        }
        # Not a column of `VIEWS` places each: most have fewer, and known people's are rows of a gallery's matrix.
        self._views: dict[int, np.ndarray] = {}
        self._became: dict[int, int | None] = {}  # since `merge` or `lose`: the identity it is part of, or None
        self._told: deque[tuple[int, int | None]] = deque()
        self.known: set[int] = set()
        self.lasting: set[int] = set()
        self.visits: list[dict[int, tuple[float, float]]] = []
        self.next_identity = 1
        self.next_tracklet = 1

    def __len__(self) -> int:
        return self._length

    def __getattr__(self, name: str) -> np.ndarray:
        if name not in self.COLUMNS:
            raise AttributeError(name)
        return self._rows[name][: self._length]

    @property
    def views(self) -> np.ndarray:
        """Views of all, float32 [C, VIEWS, D]."""
        padded = np.zeros((self._length, VIEWS, self.mean.shape[1]), dtype=np.float32)
        for row, identity in enumerate(self.identity.tolist()):
            views = self._views[identity]
            padded[row, : len(views)] = views
        return padded

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
            Number, class and views (float [K, D], unit rows; the first `VIEWS` of them, which are not copied) of each.

        Raises
        ------
        UserError
            If the vectors are of another length than those here.
        """
        people = list(people)
        views = [np.asarray(each[:VIEWS], dtype=np.float32) for _, _, each in people]
        for dimension in {each.shape[1] for each in views}:
            self.check_dimension(dimension)
        numbers = [number for number, _, _ in people]
        self._remove(self._rows_of(numbers))
        self.known.update(numbers)
        self.keep(numbers)
        for number in numbers:  # somebody's merge was taken back
            self._became.pop(number, None)
        self._append(
            views,
            identity=np.array(numbers, dtype=np.int64),
            class_id=np.array([class_id for _, class_id, _ in people], dtype=np.int64),
            last_seen=np.full(len(people), -np.inf),
        )
        self.next_identity = max([self.next_identity, *(number + 1 for number in numbers)])

    def keep(self, identities: Iterable[int]) -> None:
        """Never forget these from now on, wherever they are; may be called from another thread."""
        self.lasting |= set(identities)

    def merge(self, keep: int, other: int) -> None:
        """``other`` is ``keep`` as well from now on. From any thread."""
        self._told.append((other, keep))

    def lose(self, identity: int) -> None:
        """Forget an identity: on return the person gets a new number. From any thread."""
        self._told.append((identity, None))

    def absorb(self) -> None:
        """Take in what others have told of since; called before each decision, in the tracker's thread."""
        while self._told:
            other, keep = self._told.popleft()
            keep = self._became.get(keep, keep) if keep is not None else None
            if keep == other:
                continue
            self._became |= {old: keep for old, new in self._became.items() if new == other} | {other: keep}
            row, views = np.flatnonzero(self.identity == other), self._views.get(other)
            if keep is not None:
                self._became.pop(keep, None)
                for kind in (self.known, self.lasting):
                    if other in kind:
                        kind.add(keep)
                if views is not None and keep not in self._views:
                    self._append(
                        [views],
                        identity=np.array([keep]),
                        class_id=self.class_id[row].copy(),
                        last_seen=self.last_seen[row].copy(),
                    )
            self.known.discard(other)
            self.lasting.discard(other)
            self._remove(self.identity == other)

    def check_dimension(self, dimension: int) -> None:
        """Take over the length of vectors, or raise UserError if there are vectors of another length."""
        known = self.mean.shape[1]
        if known == 0:
            self._rows["mean"] = np.zeros((len(self._rows["identity"]), dimension), dtype=np.float32)
        elif known != dimension:
            raise UserError(
                f"vectors of {dimension} numbers, but the people known have vectors of {known}: "
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
        """Take over what `numbers` gave; ValueError for what it cannot have given."""
        counts = [numbers[name] for name in ("capacity", "next_identity", "next_tracklet")]
        if not all(isinstance(each, int) and 0 <= each < 1 << 62 for each in (*counts, *numbers["known"])):
            raise ValueError("numbers")
        self.capacity, self.known, self.lasting = numbers["capacity"], set(numbers["known"]), set(numbers["known"])
        self.next_identity, self.next_tracklet = numbers["next_identity"], numbers["next_tracklet"]

    def set_columns(self, columns: dict[str, np.ndarray]) -> None:
        """Take over copies of another memory's `COLUMNS`; ValueError for what they cannot have been."""
        count = columns["count"]
        if len(np.unique(columns["identity"])) < len(count) or ((count < 1) | (count > VIEWS)).any():
            raise ValueError("identities")
        self._rows = {name: columns[name].copy() for name in self._rows}
        self._length = len(columns["identity"])
        rows = zip(columns["identity"].tolist(), columns["views"], columns["count"], strict=True)
        self._views = {identity: views[:count].copy() for identity, views, count in rows}

    def views_of(self, identity: int) -> np.ndarray | None:
        """Views of a dormant identity, float32 [K, D], or None."""
        return self._views.get(identity)

    def sleep(
        self, identity: np.ndarray, class_id: np.ndarray, last_seen: np.ndarray, views: np.ndarray, count: np.ndarray
    ) -> None:
        """Put identities to the dormant ones, one row of each array for each; without a view there is no return."""
        seen = count > 0
        if self._became:
            identity = np.array([self._became.get(each, each) or 0 for each in identity.tolist()], dtype=np.int64)
            # Of an identity that now has two rows the one seen last counts; 0 is none.
            order = np.lexsort((last_seen, identity))
            last = np.zeros(len(identity), dtype=bool)
            last[order[np.append(np.diff(identity[order]) != 0, [True] * bool(len(order))).astype(bool)]] = True
            seen &= last & (identity != 0)
        if not seen.any():
            return
        self.check_dimension(views.shape[2])
        self._remove(self._rows_of(identity[seen].tolist()))
        looks = [views[row, : count[row]].copy() for row in np.flatnonzero(seen)]
        mean = views[seen].sum(axis=1) / count[seen, None]
        self._append(looks, mean, identity=identity[seen], class_id=class_id[seen], last_seen=last_seen[seen])
        if np.count_nonzero(~self.kept) > self.capacity:
            self._mark_kept()
            own = np.flatnonzero(~self.kept)
            gone = np.zeros(len(self), dtype=bool)
            gone[own[np.argsort(self.last_seen[own], kind="stable")[: max(own.size - self.capacity, 0)]]] = True
            self._remove(gone)

    def wake(self, identities: np.ndarray | Iterable[int]) -> None:
        """Take identities that are back in sight from the dormant ones."""
        self._remove(self._rows_of(int(each) for each in identities))

    def forget(self, before: float) -> None:
        """Forget identities last seen before a time, s, unless they are to be kept."""
        gone = (self.last_seen < before) & ~self.kept
        if gone.any():
            self._mark_kept()
            self._remove(gone & ~self.kept)

    def _mark_kept(self) -> None:
        self.kept[:] = np.isin(self.identity, list(self.lasting))

    def likeness(
        self,
        seen: np.ndarray,
        class_id: np.ndarray | None,
        born: np.ndarray,
        in_sight: np.ndarray,
        strangers: float = 0.5,
    ) -> np.ndarray:
        """Compare newcomers with all dormant identities.

        All vectors are centred on the mean of the people known here: what people share under one light and in front of
        one background says nothing about identity, and most of a cosine comes from it. The mean of a few people is
        mostly those people, so it is drawn towards zero, the less the more alike strangers are.

        Parameters
        ----------
        seen : ndarray, float32 [R, D]
            Mean of each newcomer's crops.
        class_id : ndarray, int [R], optional
            Only identities of the newcomer's class.
        born : ndarray, float [R]
            When each newcomer appeared: a person in view at that time is a different one, or has a number already.
        in_sight : ndarray, float32 [K, D]
            Means of the crops of those in sight who are no newcomers; they belong to the people known.
        strangers : float
            Mean cosine of two people's vectors.

        Returns
        -------
        ndarray, float [R, C]
            Cosines of the mean views; -inf for who cannot be the one.
        """
        common = common_part(self.mean.sum(axis=0) + in_sight.sum(axis=0), len(self) + len(in_sight), strangers)
        fresh, cosine = unit(seen - common), np.empty((len(seen), len(self)), dtype=np.float32)
        for start in range(0, len(self), BLOCK):
            cosine[:, start : start + BLOCK] = fresh @ unit(self.mean[start : start + BLOCK] - common).T
        possible = self.last_seen < born[:, None]
        if class_id is not None:
            possible &= self.class_id == class_id[:, None]
        return np.where(possible, cosine, -np.inf)

    def were_together(self, identities: Iterable[int]) -> bool:
        """Whether any camera saw two of these at once, when they came last: then they are not one person."""
        spans = [sorted(each[number] for number in identities if number in each) for each in self.visits]
        return any(later[0] <= before[1] for each in spans for before, later in pairwise(each))

    def _append(self, views: list[np.ndarray], mean: np.ndarray | None = None, **columns: np.ndarray) -> None:
        identities = columns["identity"].tolist()
        self._views.update(zip(identities, views, strict=True))
        columns["count"] = np.array([len(each) for each in views], dtype=np.int64)
        columns["kept"] = np.array([each in self.lasting for each in identities], dtype=bool)
        before, self._length = self._length, self._length + len(views)
        for name, rows in self._rows.items():
            if self._length > len(rows):
                # Known people are added all at once: doubling the space would waste it.
                places = self._length + min(self._length, BLOCK)
                rows = np.zeros((places, *rows.shape[1:]), dtype=rows.dtype)
                rows[:before] = self._rows[name][:before]
                self._rows[name] = rows
            if name in columns:
                rows[before : self._length] = columns[name]
        if mean is not None:
            self._rows["mean"][before : self._length] = mean
            return
        for start in range(0, len(views), BLOCK):
            count = columns["count"][start : start + BLOCK]
            total = np.add.reduceat(np.concatenate(views[start : start + BLOCK]), np.cumsum(count) - count)
            self._rows["mean"][before + start :][: len(count)] = total / count[:, None]

    def _rows_of(self, identities: Iterable[int]) -> np.ndarray:
        """Mask [C] of those of these that are dormant; in most frames none of those in sight are."""
        dormant = [each for each in identities if each in self._views]
        return np.isin(self.identity, dormant) if dormant else np.zeros(len(self), dtype=bool)

    def _remove(self, rows: np.ndarray) -> None:
        """Fill the places of these rows with the last ones."""
        gone = np.flatnonzero(rows)
        if not gone.size:
            return
        for identity in self.identity[gone].tolist():
            del self._views[identity]
        self._length -= gone.size
        holes = gone[gone < self._length]
        last = self._length + np.flatnonzero(~rows[self._length :])
        for array in self._rows.values():
            array[holes] = array[last]


def common_part(total: np.ndarray, count: int, strangers: float = 0.5) -> np.ndarray:
    """What people's vectors have in common, float [D], from the sum of some people's and how many they are.

    A vector is the common part, whose squared length is the mean cosine ``strangers`` of two people, and what is one's
    own, of the rest up to one: the best linear estimate of the first is total / (count + own / common). At most one is
    added, for which the rates of `return_cosine` were measured.
    """
    estimate: np.ndarray = total / (count + min((1 - strangers) / max(strangers, 1e-3), 1.0))
    return estimate


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows [N, D] at length 1; zeros stay."""
    rows: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return rows
