"""The gallery on a Qdrant server or cluster, for when it outgrows one machine.

Two collections: NAME holds the views (vector, number, and the crop's JPEG bytes, so that every machine sees them),
NAME_people a point for each number: a person, or what became of one; point 0 is the header.
"""

import base64
import itertools
import os
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from threading import RLock
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.gallery.store import (
    BEST_VIEWS,
    Describe,
    Match,
    Model,
    Person,
    Sighting,
    View,
    check_model,
    clean_name,
)
from reid_tracker.gallery.views import choose_varied

try:
    from qdrant_client import QdrantClient, models
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
except ImportError as missing:
    raise UserError('A gallery on a cluster needs qdrant-client; pip install "reid-tracker[cluster]".') from missing

SCHEMA = 1
HEADER = 0  # its point among the people
FORGOTTEN = 0  # what they became; a null would not be stored everywhere
PAGE = 1000  # points asked for at a time
API_KEY = "QDRANT_API_KEY"


def open_qdrant(url: str, model: Model | None) -> "QdrantGallery":
    """Open ``http://host:6333/collection``; the environment variable QDRANT_API_KEY may hold a key."""
    parts = urlsplit(url)
    client = QdrantClient(
        url=f"{parts.scheme}://{parts.netloc}", api_key=os.environ.get(API_KEY), check_compatibility=False
    )
    return QdrantGallery(client, parts.path.strip("/") or "reid_tracker", model, where=url)


class QdrantGallery:
    """A gallery on Qdrant; see `Gallery` for the methods.

    Qdrant has no transactions: the views are written before the people they belong to, so that a kill leaves at most
    views that the next update replaces; and of two runs that number new people in the same instant both could take one
    number, so let one run at a time enrol. What `forget` deletes is gone from every answer at once, from the server's
    files when its optimizer next rewrites them.

    Parameters
    ----------
    client : qdrant_client.QdrantClient
        Connected; its local mode serves as well.
    name : str
        Of the collection.
    model : Model, optional
        Whose vectors are going to be used.
    where : str
        What error messages call it.
    """

    def __init__(self, client: QdrantClient, name: str, model: Model | None = None, where: str = "Qdrant") -> None:
        self._client, self._views, self._people, self._where = client, name, f"{name}_people", where
        self._lock = RLock()
        with self._reporting():
            if not client.collection_exists(self._people):
                if model is None:
                    raise UserError(f"{where}: no gallery is there; reid-tracker track --gallery {where} makes one.")
                client.create_collection(
                    self._views, models.VectorParams(size=model.dimension, distance=models.Distance.COSINE)
                )
                client.create_payload_index(self._views, "number", models.PayloadSchemaType.INTEGER)
                client.create_collection(self._people, vectors_config={})
                self._put(HEADER, {"schema": SCHEMA, "model": asdict(model), "last_number": 0})
            header = self._get([HEADER]).get(HEADER)
        if header is None or header.get("schema", SCHEMA + 1) > SCHEMA:
            raise UserError(f"{where}: not a gallery of this version of reid-tracker; name another collection.")
        self.model = Model(**header["model"])
        check_model(where, self.model, model)

    def new_numbers(self, count: int = 1) -> list[int]:
        """Reserve the next numbers."""
        with self._reporting():
            last = int(self._get([HEADER])[HEADER]["last_number"]) + count
            self._client.set_payload(self._people, {"last_number": last}, [HEADER], wait=True)
        return list(range(last - count + 1, last + 1))

    def give_back(self, numbers: Sequence[int]) -> None:
        """Let numbers that nobody got be the next ones again, as far as no others were reserved since."""
        with self._reporting():
            last = known = int(self._get([HEADER])[HEADER]["last_number"])
            for number in sorted(numbers, reverse=True):
                last -= number == last
            if last < known:
                self._client.set_payload(self._people, {"last_number": last}, [HEADER], wait=True)

    def enrol(self, sightings: Mapping[int, Sighting]) -> None:
        """Add or update people."""
        for each in sightings.values():
            for view in each.views:
                if view.vector.shape != (self.model.dimension,) or not np.isfinite(view.vector).all():
                    raise UserError(
                        f"{self._where}: a vector of shape {view.vector.shape} or with NaN; {self.model.dimension} "
                        "numbers are needed."
                    )
        gone = self.gone(list(sightings))
        with self._reporting():
            check_model(self._where, Model(**self._get([HEADER])[HEADER]["model"]), self.model)
            for given, each in sightings.items():
                number = gone.get(given, given)
                if number is None:
                    continue
                self._add_views(number, each.views)
                known = self._get([number]).get(number, {})
                fresh = {
                    "first_seen": min(known.get("first_seen", np.inf), each.first_seen),
                    "last_seen": max(known.get("last_seen", -np.inf), each.last_seen),
                }
                self._put(number, {"name": "", "class_id": each.class_id, **known, **fresh})
            highest = max([int(self._get([HEADER])[HEADER]["last_number"]), *sightings])
            self._client.set_payload(self._people, {"last_number": highest}, [HEADER], wait=True)

    def search(self, vectors: np.ndarray, limit: int = 10) -> list[list[Match]]:
        """For each unit vector [Q, D] the most similar people, best first."""
        found = []
        with self._reporting():
            for query in np.asarray(vectors, np.float32).reshape(-1, self.model.dimension):
                # The server orders people by their best view; whoever leads by several is among the first ones.
                groups = self._client.query_points_groups(
                    self._views, "number", query.tolist(), limit=3 * limit, group_size=BEST_VIEWS
                ).groups
                people = self._get([int(group.id) for group in groups])
                matches = [
                    Match(int(group.id), person["name"] or None, float(np.mean([hit.score for hit in group.hits])))
                    for group in groups
                    if "first_seen" in (person := people.get(int(group.id), {}))
                ]
                found.append(sorted(matches, key=lambda match: -match.cosine)[:limit])
        return found

    def people(self) -> list[Person]:
        """Everyone, by number."""
        with self._reporting():
            points = [point for point in self._scroll(self._people, None) if "first_seen" in point.payload]
            # One pass over the views: asking the server for each person's takes a round trip each.
            counts = Counter(int(each.payload["number"]) for each in self._scroll(self._views, None, fields=["number"]))
        return sorted(
            (_person(int(point.id), point.payload, counts[int(point.id)]) for point in points),
            key=lambda each: each.number,
        )

    def person(self, number: int) -> Person:
        """One of them."""
        with self._reporting():
            payload = self._get([number]).get(number, {})
            if number == HEADER or "first_seen" not in payload:
                became = payload.get("became")
                merged = f"; it is part of {became} now" if became else ""
                raise UserError(f"{self._where}: there is no number {number}{merged}; see reid-tracker gallery list.")
            return _person(number, payload, self._client.count(self._views, count_filter=_of(number)).count)

    def views(self, number: int) -> list[View]:
        """Someone's views, the oldest first."""
        self.person(number)
        with self._reporting():
            return [view for _, view in self._known(number)]

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """Everyone's vectors: numbers int64 [N], ascending, and unit rows float32 [N, D]."""
        with self._reporting():
            points = list(self._scroll(self._views, None, vectors=True, fields=["number"]))
        numbers = np.array([point.payload["number"] for point in points], np.int64)
        matrix = np.array([point.vector for point in points], np.float32).reshape(-1, self.model.dimension)
        order = np.argsort(numbers, kind="stable")
        return numbers[order], matrix[order]

    def moments(self) -> tuple[list[str], np.ndarray]:
        """Source and time (s, by that video's clock) [N] of every row of `vectors`."""
        with self._reporting():
            points = list(self._scroll(self._views, None, fields=["number", "source", "time"]))
        told = sorted((point.payload for point in points), key=lambda payload: int(payload["number"]))
        return [str(each["source"]) for each in told], np.array([float(each["time"]) for each in told])

    def name(self, number: int, text: str) -> None:
        """Name someone; an empty text takes the name away."""
        self.person(number)
        with self._reporting():
            self._client.set_payload(self._people, {"name": clean_name(text)}, [number], wait=True)

    def merge(self, number: int, other: int) -> None:
        """Make ``other`` part of ``number``."""
        if number == other:
            raise UserError(f"{number} and {other} are one already; name two people.")
        one, two = self.person(number), self.person(other)
        with self._reporting():
            self._client.set_payload(self._views, {"number": number}, _of(other), wait=True)
            self._add_views(number, [])
            merged = replace(
                one,
                name=one.name or two.name,
                first_seen=min(one.first_seen, two.first_seen),
                last_seen=max(one.last_seen, two.last_seen),
            )
            self._put(number, _payload(merged))
            for point in self._scroll(self._people, _of(other, "became")):
                self._put(int(point.id), {"became": number})
            self._put(other, {"became": number})

    def split(self, number: int, views: Sequence[int]) -> int:
        """Make a new person of some of someone's views; the new number."""
        person = self.person(number)
        with self._reporting():
            known, chosen = self._known(number), sorted(set(views))
            if not chosen or len(chosen) >= len(known) or not 0 <= chosen[0] <= chosen[-1] < len(known):
                raise UserError(f"{number}: has {len(known)} views; name some of them, not all.")
            new = self.new_numbers()[0]
            self._put(new, _payload(replace(person, number=new, name=None)))
            self._client.set_payload(self._views, {"number": new}, [known[each][0] for each in chosen], wait=True)
        return new

    def forget(self, numbers: Sequence[int]) -> None:
        """Delete people."""
        for number in numbers:
            self.person(number)
        with self._reporting():
            for number in numbers:
                self._client.delete(self._views, _of(number), wait=True)
                for point in self._scroll(self._people, _of(number, "became")):
                    self._put(int(point.id), {"became": FORGOTTEN})
                self._put(number, {"became": FORGOTTEN})

    def gone(self, numbers: Sequence[int]) -> dict[int, int | None]:
        """Which of these numbers were merged, and into whom, or forgotten (None)."""
        with self._reporting():
            found = self._get([int(each) for each in numbers])
        return {number: payload["became"] or None for number, payload in found.items() if "became" in payload}

    def describe_anew(self, model: Model, describe: Describe) -> int:
        """Replace every vector by that of its crop; how many views had no crop and went.

        The header says first that this is under way: after a kill the gallery is refused until it has been done again.
        """
        if model.dimension != self.model.dimension:
            raise UserError(
                f"{self._where}: a collection's vectors keep their length, {self.model.dimension}; a model with "
                f"{model.dimension} needs another collection."
            )
        lost: list[str] = []
        with self._reporting():
            unfinished = replace(model, hash=f"unfinished: {model.hash}")
            self._client.set_payload(self._people, {"model": asdict(unfinished)}, [HEADER], wait=True)
            points = self._scroll(self._views, None, fields=["crop"])
            while page := list(itertools.islice(points, PAGE)):
                crops = {str(each.id): base64.b64decode(each.payload["crop"]) for each in page if each.payload["crop"]}
                lost += [str(each.id) for each in page if str(each.id) not in crops]
                if crops:
                    vectors = describe(list(crops.values()))
                    fresh = [
                        models.PointVectors(id=point, vector=vector.tolist())
                        for point, vector in zip(crops, vectors, strict=True)
                    ]
                    self._client.update_vectors(self._views, fresh, wait=True)
            if lost:
                self._client.delete(self._views, lost, wait=True)
            self._client.set_payload(self._people, {"model": asdict(model)}, [HEADER], wait=True)
        self.model = model
        return len(lost)

    def close(self) -> None:
        """End."""
        self._client.close()

    # ------------------------------------------------------------------ inside

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """One thread at a time; the server's errors as one sentence."""
        with self._lock:
            try:
                yield
            except (UnexpectedResponse, ResponseHandlingException) as error:
                raise UserError(f"{self._where}: the Qdrant server fails ({_first_line(error)}).") from error

    def _put(self, number: int, payload: dict[str, Any]) -> None:
        self._client.upsert(self._people, [models.PointStruct(id=number, vector={}, payload=payload)], wait=True)

    def _get(self, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
        points = self._client.retrieve(self._people, numbers) if numbers else []
        return {int(point.id): point.payload or {} for point in points}

    def _scroll(
        self, collection: str, condition: Any, vectors: bool = False, fields: bool | list[str] = True
    ) -> Iterator[Any]:
        offset = None
        while True:
            points, offset = self._client.scroll(
                collection, condition, limit=PAGE, offset=offset, with_payload=fields, with_vectors=vectors
            )
            yield from points
            if offset is None:
                return

    def _known(self, number: int) -> list[tuple[str, View]]:
        """Ids and views of someone, the oldest first."""
        points = list(self._scroll(self._views, _of(number), vectors=True))
        points.sort(key=lambda point: (point.payload["added"], point.payload["position"]))
        return [
            (
                str(point.id),
                View(
                    np.array(point.vector, np.float32),
                    base64.b64decode(point.payload["crop"]) if point.payload["crop"] else None,
                    point.payload["source"],
                    point.payload["time"],
                    point.payload["quality"],
                ),
            )
            for point in points
        ]

    def _add_views(self, number: int, views: Sequence[View]) -> None:
        """Keep the most varied of someone's views and these."""
        known = self._known(number)
        everything = [*(view for _, view in known), *views]
        if not everything:
            return
        kept = choose_varied(
            np.stack([view.vector for view in everything]), np.array([view.quality for view in everything])
        ).tolist()
        added = time.time()
        fresh = [
            models.PointStruct(
                id=str(uuid.uuid4()),
                vector=everything[position].vector.tolist(),
                payload={
                    "number": number,
                    "crop": base64.b64encode(everything[position].crop or b"").decode(),
                    "source": everything[position].source,
                    "time": everything[position].time,
                    "quality": everything[position].quality,
                    "added": added,
                    "position": position,
                },
            )
            for position in kept
            if position >= len(known)
        ]
        if fresh:
            self._client.upsert(self._views, fresh, wait=True)
        dropped = [name for position, (name, _) in enumerate(known) if position not in kept]
        if dropped:
            self._client.delete(self._views, dropped, wait=True)


def _of(number: int, field: str = "number") -> Any:
    """Points with this number."""
    return models.Filter(must=[models.FieldCondition(key=field, match=models.MatchValue(value=number))])


def _person(number: int, payload: Mapping[str, Any], views: int) -> Person:
    seen = payload["first_seen"], payload["last_seen"]
    return Person(number, payload["name"] or None, *seen, views, payload["class_id"])


def _payload(person: Person) -> dict[str, Any]:
    seen = {key: getattr(person, key) for key in ("first_seen", "last_seen", "class_id")}
    return {"name": person.name or "", **seen}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
