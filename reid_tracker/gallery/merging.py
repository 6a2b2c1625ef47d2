"""Merges that can be taken back: what both stores write down of one, and what its undoing gives back.

The stores' `merge` and `unmerge` carry it out.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from reid_tracker.errors import UserError
from reid_tracker.gallery.store import Person

Values = tuple[str | None, float, float]  # name, first_seen, last_seen


@dataclass(frozen=True)
class Merge:
    """A merge as the store keeps it.

    Attributes
    ----------
    number, into : int
        Who became part of whom.
    batch : float
        Unix time, s, of the `reid-tracker link --apply` that made it; 0 of one made by hand.
    person : tuple
        Name, first_seen, last_seen and class of ``number``.
    before, after : tuple
        Name, first_seen and last_seen of ``into``, before the merge and by it.
    """

    number: int
    into: int
    batch: float
    person: tuple[str | None, float, float, int]
    before: Values
    after: Values

    @classmethod
    def of(cls, one: Person, two: Person, batch: float = 0.0) -> "Merge":
        """``two`` becomes part of ``one``."""
        first, last = min(one.first_seen, two.first_seen), max(one.last_seen, two.last_seen)
        return cls(
            two.number,
            one.number,
            batch,
            (two.name, two.first_seen, two.last_seen, two.class_id),
            (one.name, one.first_seen, one.last_seen),
            (one.name or two.name, first, last),
        )

    def text(self) -> str:
        """As JSON, without the number."""
        return json.dumps([self.into, self.batch, self.person, self.before, self.after])

    @classmethod
    def read(cls, number: int, text: str) -> "Merge":
        """From `text`; ValueError or TypeError if it is none."""
        into, batch, (name, first, last, class_id), before, after = json.loads(text)
        (was, *began), (made, *seen) = before, after
        person = (_name(name), float(first), float(last), int(class_id))
        times = [float(each) for each in (*began, *seen)]
        return cls(
            number,
            int(into),
            float(batch),
            person,
            (_name(was), times[0], times[1]),
            (_name(made), times[2], times[3]),
        )

    def undone(self, now: Person) -> Values:
        """What ``into`` is without it; what changed since the merge stays changed."""
        current = (now.name, now.first_seen, now.last_seen)
        name, first, last = (
            old if is_now == made else is_now
            for old, made, is_now in zip(self.before, self.after, current, strict=True)
        )
        return name, first, last  # type: ignore[return-value]


def _name(value: object) -> str | None:
    return None if value is None else str(value)


def parts_of(number: int, merges: Iterable[Merge]) -> list[int]:
    """Everyone who had become part of ``number``, and of those, before it became part of somebody."""
    merges, found = list(merges), [number]
    for whole in found:
        found += [each.number for each in merges if each.into == whole and each.number not in found]
    return found[1:]


def merge_of(where: object, number: int, merges: Iterable[Merge], became: int | None) -> Merge:
    """The merge that made ``number`` part of somebody; UserError if it cannot be taken back."""
    found = {each.number: each for each in merges}.get(number)
    if found is None:
        raise UserError(f"{where}: {number} was not merged, or for good: there is nothing to take back.")
    if found.into != became:
        raise UserError(
            f"{where}: {number} became part of {found.into}, which is part of {became} now; first: "
            f"reid-tracker gallery unmerge {found.into}."
        )
    return found
