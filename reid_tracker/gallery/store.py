"""What a gallery is: the protocol of both stores, and what goes in and comes out."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.urls import is_url, masked

if TYPE_CHECKING:
    from reid_tracker.gallery.merging import Merge

LONGEST_NAME = 80
BEST_VIEWS = 3  # of a person that a likeness is the mean of: one alone may be alike by chance


@dataclass(frozen=True)
class Model:
    """The appearance network that made a gallery's vectors.

    Attributes
    ----------
    hash : str
        `Embedder.hash`; vectors of two models cannot be compared.
    dimension : int
        Length D of a vector.
    calibration : dict
        Of its header: ``{"all": {"same_mean": ...}, ...}``, the fields of `CosineStatistics`; empty where unknown.
    """

    hash: str
    dimension: int
    calibration: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class View:
    """One look at a person.

    Attributes
    ----------
    vector : ndarray, float32 [D]
        Of unit length.
    crop : bytes or None
        The picture, JPEG.
    source : str
        Name of the video.
    time : float
        Seconds by that video's clock.
    quality : float
        0..1; of two views that are alike the better one is kept.
    """

    vector: np.ndarray
    crop: bytes | None = None
    source: str = ""
    time: float = 0.0
    quality: float = 1.0


@dataclass(frozen=True)
class Sighting:
    """What a run has to tell about one person: new views, and when the person was seen (Unix time, s)."""

    views: Sequence[View]
    first_seen: float
    last_seen: float
    class_id: int = 0


@dataclass(frozen=True, slots=True)
class Person:
    """Someone in the gallery, without the views.

    Attributes
    ----------
    number : int
        The identity's number, in every output of every run with this gallery; never given to anyone else.
    name : str or None
        As a user gave it.
    first_seen, last_seen : float
        Unix time, s, of the runs that saw the person (not the clock of their videos).
    views : int
        How many there are.
    class_id : int
        The detector's class.
    """

    number: int
    name: str | None
    first_seen: float
    last_seen: float
    views: int
    class_id: int = 0


@dataclass(frozen=True)
class Match:
    """Someone found: ``cosine`` is the mean of the best `BEST_VIEWS` views' cosines with the query."""

    number: int
    name: str | None
    cosine: float


Describe = Callable[[Sequence[bytes]], np.ndarray]  # crops, JPEG, to unit rows float32 [N, D]


class Gallery(Protocol):
    """Numbered people with views. Every method may be called from any thread, and raises UserError if it cannot do it.

    A number that the gallery does not have is an error, except in `enrol`.
    """

    model: Model

    def new_numbers(self, count: int = 1) -> list[int]:
        """Reserve the next numbers: no other run that uses this gallery gets them."""

    def give_back(self, numbers: Sequence[int]) -> None:
        """Return unused numbers, as far as no others were reserved since."""

    def alone(self) -> AbstractContextManager[None]:
        """Run the block as one transaction, while no other program changes the gallery."""

    def enrol(self, sightings: Mapping[int, Sighting]) -> None:
        """Add or update people in one transaction; of too many views of one the most varied ones stay.

        Someone merged meanwhile is updated under the new number, someone forgotten stays forgotten.
        """

    def search(self, vectors: np.ndarray, limit: int = 10) -> list[list[Match]]:
        """For each unit vector [Q, D] the most similar people, best first."""

    def people(self) -> list[Person]:
        """Everyone, by number."""

    def person(self, number: int) -> Person:
        """One of them."""

    def views(self, number: int) -> list[View]:
        """Someone's views, the oldest first."""

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """Everyone's vectors: numbers int64 [N], ascending, and unit rows float32 [N, D]; do not change them."""

    def moments(self) -> tuple[list[str], np.ndarray]:
        """Source and time (s, by that video's clock) [N] of every row of `vectors`."""

    def name(self, number: int, text: str) -> None:
        """Name someone; an empty text takes the name away."""

    def merge(self, number: int, other: int, *, batch: float = 0.0, for_good: bool = False) -> None:
        """``other`` is ``number`` as well: the views are put together, and ``other`` is removed until `unmerge`.

        ``batch`` stands in `merges`. ``for_good`` there is no way back: of too many views the most varied ones stay.
        """

    def unmerge(self, number: int) -> int:
        """Make a person of a merged number again, with the views, name and times it had; who it was part of.

        What was enrolled since the merge stays there.
        """

    def merges(self) -> "list[Merge]":
        """Every merge that can be taken back, in no order."""

    def linked(self, until: int | None = None) -> int:
        """Up to which number everyone was linked with everyone (`reid-tracker link`), after setting it."""

    def split(self, number: int, views: Sequence[int]) -> int:
        """Make a new person of some of someone's views (positions in `views`, from 0); the new number."""

    def forget(self, numbers: Sequence[int]) -> None:
        """Delete people so that neither vector nor crop can be read from the store's files any more."""

    def gone(self, numbers: Sequence[int]) -> dict[int, int | None]:
        """Which of these numbers were merged, and into which, or forgotten (None)."""

    def describe_anew(self, model: Model, describe: Describe) -> int:
        """Replace every vector by that of its crop under another model; how many views had no crop and went.

        A run that goes on with the old model's vectors is refused when it next enrols someone.
        """

    def close(self) -> None:
        """End; a closed gallery cannot be used any more."""


def is_database(where: str | Path) -> bool:
    """Whether this names a database, not a folder."""
    return str(where).startswith(("postgresql://", "postgres://"))


def shown(where: str | Path) -> str:
    """A gallery's place as messages name it: of a database neither user nor password nor options."""
    return masked(str(where)) if is_url(where) else str(where)


def check_vectors(where: object, sightings: Mapping[int, Sighting], dimension: int) -> None:
    """Refuse vectors of another length, and such as are no numbers."""
    for each in sightings.values():
        for view in each.views:
            if view.vector.shape != (dimension,) or not np.isfinite(view.vector).all():
                raise UserError(
                    f"{where}: a vector of shape {view.vector.shape} or with NaN; {dimension} numbers are needed."
                )


def chosen_views(number: int, views: Sequence[int], count: int) -> list[int]:
    """Positions of some of someone's ``count`` views; UserError for none, all or others."""
    chosen = sorted(set(views))
    if not chosen or len(chosen) >= count or not 0 <= chosen[0] <= chosen[-1] < count:
        raise UserError(f"{number}: has {count} views; name some of them, not all.")
    return chosen


def can_be(number: int) -> bool:
    """Whether a database can hold this as somebody's number."""
    return -(1 << 63) <= number < 1 << 63


def unknown_number(where: object, number: int, became: int | None) -> UserError:
    """The error of a number that a gallery does not have."""
    merged = f"; it is part of {became} now" if became else ""
    return UserError(f"{where}: there is no number {number}{merged}; see reid-tracker gallery list.")


def check_model(where: object, known: Model, given: Model | None) -> None:
    """Refuse vectors of another model than the gallery's."""
    if given is not None and (given.hash, given.dimension) != (known.hash, known.dimension):
        raise UserError(
            f"{where}: its vectors are of the appearance model {known.hash[:12]}, these of {given.hash[:12]}, and "
            "cannot be compared; name that model with --embedder, use another gallery, or let 'reid-tracker gallery "
            "re-describe' describe its crops with this one."
        )


def clean_source(text: str) -> str:
    """A source's name as databases can keep it: without NUL and bytes that are no text."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def clean_name(text: str) -> str:
    """A name as it is kept: one line of letters that can be shown, at most `LONGEST_NAME`; no control characters."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:LONGEST_NAME]
