"""What a reviewer has changed, as a list that is saved, replayed and undone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.exchange.tracks import Tracks
from reid_tracker.reading import parse_json, read_text

LONGEST_NAME, LONGEST_TEXT = 64, 200
DROPPED = np.iinfo(np.int64).min  # instead of an identity: tools count theirs from 0 or 1, and some below
MOST_EDITS = 100_000
# What each kind of edit must hold, besides "do".
FIELDS: dict[str, dict[str, type]] = {
    "merge": {"identity": int, "into": int},
    "split": {"identity": int, "frame": int},
    "swap": {"identity": int, "other": int, "frame": int},
    "rename": {"identity": int, "name": str},
    "drop": {"identity": int},
    "keep": {"doubt": str},
}


@dataclass
class Reviewed:
    """Finished tracks and what has been changed about them.

    Parameters
    ----------
    tracks : Tracks

    Attributes
    ----------
    identity : ndarray int64 [R]
        Identity of each row; `DROPPED` where it was dropped.
    names : dict of int to str
    kept : set of str
        Keys of doubts that were looked at and found right.
    edits : list of dict
        In the order in which they were made.
    """

    tracks: Tracks
    identity: np.ndarray = field(init=False)
    names: dict[int, str] = field(init=False)
    kept: set[str] = field(init=False)
    edits: list[dict[str, Any]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.identity, self.names, self.kept = self.tracks.identity.copy(), dict(self.tracks.names), set()
        self._next = int(self.tracks.identity.max(initial=0)) + 1

    def edit(self, change: Any) -> None:
        """Make a change.

        Parameters
        ----------
        change : dict
            ``{"do": "merge", "identity": 12, "into": 7}``: two numbers are one person.
            ``{"do": "split", "identity": 7, "frame": 120}``: from that frame (from 1) on it is a new person.
            ``{"do": "swap", "identity": 3, "other": 5, "frame": 200}``: from that frame on they were exchanged.
            ``{"do": "rename", "identity": 7, "name": "Anna"}``; ``{"do": "drop", "identity": 9}``: not a person.
            ``{"do": "keep", "doubt": "gap 7 7 120"}``: this was right.

        Raises
        ------
        UserError
            If it is something else, or cannot be: the number is unknown, or two people in view at once would be one.
            Nothing is changed then.
        """
        change = _check(change)
        if len(self.edits) >= MOST_EDITS:
            raise UserError(f"{MOST_EDITS} changes are the most that one review holds.")
        self._apply(change)
        self.edits.append(change)

    def undo(self) -> None:
        """Take the last change back; without any nothing happens."""
        self.go_back(max(len(self.edits) - 1, 0))

    def go_back(self, count: int) -> None:
        """Keep so many of the changes only."""
        self.edits = self.edits[:count]
        self._begin()
        for each in self.edits:
            self._apply(each)

    def _apply(self, change: dict[str, Any]) -> None:
        getattr(self, f"_{change['do']}")(**{name: value for name, value in change.items() if name != "do"})

    def _merge(self, identity: int, into: int) -> None:
        rows, others = self._rows(identity), self._rows(into)
        if identity == into:
            raise UserError(f"#{identity} is #{into} already.")
        seen = self.tracks.confidence > 0
        both = np.intersect1d(self.tracks.frame[rows & seen], self.tracks.frame[others & seen])
        if both.size:
            raise UserError(
                f"#{identity} and #{into} are both in view in frame {both[0]}: they are two people. Split one first."
            )
        # Where one of them was only expected the other was seen.
        meanwhile = np.isin(self.tracks.frame, self.tracks.frame[(rows | others) & seen])
        self.identity[(rows | others) & ~seen & meanwhile] = DROPPED
        self.identity[rows & (self.identity != DROPPED)] = into
        name = self.names.pop(identity, "")
        if name:
            self.names.setdefault(into, name)

    def _split(self, identity: int, frame: int) -> None:
        rows = self._rows(identity)
        later = rows & (self.tracks.frame >= frame)
        if not later.any() or (later == rows).all():
            raise UserError(f"#{identity} cannot be split at frame {frame}: it is not there both before and after.")
        self.identity[later] = self._next
        self._next += 1

    def _swap(self, identity: int, other: int, frame: int) -> None:
        if identity == other:
            raise UserError(f"#{identity} cannot be swapped with itself.")
        later = self.tracks.frame >= frame
        one, two = self._rows(identity) & later, self._rows(other) & later
        if not one.any() or not two.any():
            raise UserError(f"#{identity if not one.any() else other} is not there from frame {frame} on.")
        self.identity[one], self.identity[two] = other, identity

    def _rename(self, identity: int, name: str) -> None:
        self._rows(identity)
        name = name.strip()
        if len(name) > LONGEST_NAME or not name.isprintable():
            raise UserError(f"A name has at most {LONGEST_NAME} printable characters.")
        self.names.pop(identity, None)
        if name:
            self.names[identity] = name

    def _drop(self, identity: int) -> None:
        self.identity[self._rows(identity)] = DROPPED
        self.names.pop(identity, None)

    def _keep(self, doubt: str) -> None:
        if not doubt.isprintable():
            raise UserError("There is no such doubt.")
        self.kept.add(doubt)

    def _rows(self, identity: int) -> np.ndarray:
        rows: np.ndarray = self.identity == identity
        if identity == DROPPED or not rows.any():
            raise UserError(f"There is no #{identity}.")
        return rows

    def read(self, path: Path) -> None:
        """Replay a saved review.

        Raises
        ------
        UserError
            If it cannot be read, or is not a review of these tracks.
        """
        try:
            changes = parse_json(read_text(path))["edits"]
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path}: not a review (<name>_review.json).") from error
        if not isinstance(changes, list):
            raise UserError(f"{path}: not a review (<name>_review.json).")
        for number, each in enumerate(changes, start=1):
            try:
                self.edit(each)
            except UserError as error:
                raise UserError(f"{path}: change {number} does not fit these tracks. {error}") from error

    def write(self) -> bytes:
        """The file that `read` reads: one change a line."""
        lines = ",\n".join(f" {json.dumps(each, ensure_ascii=False)}" for each in self.edits)
        return f'{{"edits": [\n{lines}\n]}}\n'.encode()

    def people(self) -> np.ndarray:
        """Everyone's number, int [P]."""
        numbers: np.ndarray = np.unique(self.identity[self.identity != DROPPED])
        return numbers

    def stretches(self, times: np.ndarray, apart: float = 1.0) -> dict[int, list[tuple[float, float]]]:
        """When everyone was there: from and to, s; ``times`` [R] of the rows, gaps up to ``apart`` s are bridged."""
        rows = np.flatnonzero(self.identity != DROPPED)
        rows = rows[np.argsort(self.identity[rows], kind="stable")]
        who, when = self.identity[rows], times[rows]
        if not rows.size:
            return {}
        new = np.flatnonzero((np.diff(who) != 0) | (np.diff(when) > apart)) + 1
        first, last = np.concatenate([[0], new]), np.concatenate([new, [len(rows)]]) - 1
        found: dict[int, list[tuple[float, float]]] = {}
        for number, begun, ended in zip(who[first].tolist(), when[first].tolist(), when[last].tolist(), strict=True):
            found.setdefault(number, []).append((begun, ended))
        return found


def _check(change: Any) -> dict[str, Any]:
    """A change with what it must hold and nothing else."""
    kind = change.get("do") if isinstance(change, dict) else None
    if not isinstance(kind, str) or kind not in FIELDS:
        raise UserError(f"A change is one of {', '.join(FIELDS)}.")
    for name, wanted in FIELDS[kind].items():
        value: Any = change.get(name)
        if wanted is int:
            fits = type(value) is int and abs(value) < 2**53  # a bool is an int to Python, and no number here
        else:
            fits = isinstance(value, str) and len(value) <= LONGEST_TEXT
        if not fits:
            what = "number" if wanted is int else "short text"
            raise UserError(f"{kind}: {name} is missing, or is no {what}.")
    return {"do": kind, **{name: change[name] for name in FIELDS[kind]}}


def review_table(reviewed: Reviewed) -> Sequence[tuple[int, str, str]]:
    """Number, decision and name of each identity, as ``export-crops --review`` reads them."""
    return [(int(each), "keep", reviewed.names.get(int(each), "")) for each in reviewed.people()]
