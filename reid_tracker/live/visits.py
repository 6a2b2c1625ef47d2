"""A person seen by cameras, and when."""

from dataclasses import dataclass, field, replace

import numpy as np


@dataclass
class Visit:
    """Someone before a camera; times in s by the machine's clock."""

    camera: str
    start: float
    end: float
    ongoing: bool = True


@dataclass
class Person:
    """Someone who was seen."""

    number: int
    name: str = ""
    visits: list[Visit] = field(default_factory=list)
    seconds: float = 0.0  # in view, of any camera
    announced: bool = False
    crop: bytes = b""
    crop_score: float = 0.0

    @property
    def last_seen(self) -> float:
        """When any camera saw them last, s."""
        return max((visit.end for visit in self.visits), default=-np.inf)


def length(visits: list[Visit]) -> float:
    """Seconds that lie in any of these visits."""
    total, reached = 0.0, -np.inf
    for visit in sorted(visits, key=lambda visit: visit.start):
        total += max(visit.end - max(visit.start, reached), 0.0)
        reached = max(reached, visit.end)
    return total


def copy(person: Person) -> Person:
    """A copy as of now; later visits change the original only."""
    return replace(person, visits=[replace(visit) for visit in person.visits])


def joined(visits: list[Visit]) -> list[Visit]:
    """Visits in order of time, those of one camera that overlap made one."""
    joined: list[Visit] = []
    for visit in sorted(visits, key=lambda visit: visit.start):
        same = next((each for each in joined if each.camera == visit.camera and each.end >= visit.start), None)
        if same is None:
            joined.append(visit)
        else:
            same.end, same.ongoing = max(same.end, visit.end), same.ongoing or visit.ongoing
    return joined
