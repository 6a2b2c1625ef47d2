"""The gallery in a folder: one SQLite file, and the crops beside it.

::

    gallery/gallery.sqlite          header, people, views (vectors as float32 BLOBs), gone
    gallery/crops/000007/<random>.jpg

All of it is readable by its owner alone. Searches run on one matrix in memory, read again after a write.
"""

import json
import math
from array import array
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.gallery.matrix import Matrix
from reid_tracker.gallery.merging import Merge, merge_of, parts_of
from reid_tracker.gallery.sqlite_file import SqliteFile
from reid_tracker.gallery.store import (
    Describe,
    Match,
    Model,
    Person,
    Sighting,
    View,
    can_be,
    check_model,
    check_vectors,
    chosen_views,
    clean_name,
    clean_source,
    unknown_number,
)
from reid_tracker.gallery.views import choose_varied

DESCRIBED_AT_A_TIME = 256  # crops


class SqliteGallery:
    """A gallery in a folder; see `Gallery` for the methods.

    Parameters
    ----------
    folder : Path
        Made, for its owner alone, when it is not there and a model is given.
    model : Model, optional
        Whose vectors are going to be used.

    Raises
    ------
    UserError
        If it is not there, damaged, no gallery, of a newer version, or of another model.
    """

    def __init__(self, folder: Path, model: Model | None = None) -> None:
        self._file = SqliteFile(folder, model)
        self.model = self._file.model
        self._everyone: list[Person] | None = None
        self._matrix: Matrix | None = None
        self._state = self._file.state()  # of the file as the two above are of it

    def alone(self) -> AbstractContextManager[None]:
        """Make what is done inside one transaction, whole or not at all; one inside another is part of it."""
        return self._file.alone()

    def close(self) -> None:
        """End."""
        self._file.close()

    def new_numbers(self, count: int = 1) -> list[int]:
        """Reserve the next numbers."""
        with self.alone():
            sql = "UPDATE header SET value = value + ? WHERE key = 'last_number' RETURNING value"
            last = int(self._file.run(sql, (count,)).fetchall()[0][0])
        return list(range(last - count + 1, last + 1))

    def give_back(self, numbers: Sequence[int]) -> None:
        """Return unused numbers, as far as no others were reserved since."""
        with self.alone():
            for number in sorted(numbers, reverse=True):
                sql = "UPDATE header SET value = ? WHERE key = 'last_number' AND value = ?"
                self._file.run(sql, (number - 1, number))

    def enrol(self, sightings: Mapping[int, Sighting]) -> None:
        """Add or update people in one transaction."""
        check_vectors(self._file.folder, sightings, self.model.dimension)
        run = self._file.run
        with self.alone():
            check_model(self._file.folder, Model(**json.loads(self._file.header("model"))), self.model)
            gone = self.gone(list(sightings))
            for given, each in sightings.items():
                number = gone.get(given, given)
                if number is None:
                    continue
                run(
                    "INSERT INTO people VALUES (?, NULL, ?, ?, ?) ON CONFLICT (number) DO UPDATE SET "
                    "first_seen = min(first_seen, excluded.first_seen), last_seen = max(last_seen, excluded.last_seen)",
                    (number, each.first_seen, each.last_seen, each.class_id),
                )
                run("UPDATE header SET value = max(value, ?) WHERE key = 'last_number'", (number,))
                self._add_views(number, each.views)

    def search(self, vectors: np.ndarray, limit: int = 10) -> list[list[Match]]:
        """For each unit vector [Q, D] the most similar people, best first."""
        queries = np.asarray(vectors, np.float32).reshape(-1, self.model.dimension)
        found = self._matrix_now().nearest(queries, limit)
        wanted = {number for row in found for number, _ in row}
        with self._file.lock, self._file.reporting():
            sql = "SELECT name FROM people WHERE number = ?"
            names = {number: self._file.run(sql, (number,)).fetchone() for number in wanted}
        # Who has no row was forgotten since the matrix was read.
        return [[Match(number, names[number][0], cosine) for number, cosine in row if names[number]] for row in found]

    def people(self) -> list[Person]:
        """Everyone, by number."""
        with self._file.lock, self._file.reading():
            self._file.check_place()
            self._drop_stale()
            if self._everyone is None:
                self._everyone = self._people("")
            return list(self._everyone)

    def person(self, number: int) -> Person:
        """One of them."""
        found = self._people("WHERE number = ?", number) if can_be(number) else []
        if not found:
            raise self._unknown(number)
        return found[0]

    def views(self, number: int) -> list[View]:
        """Someone's views, the oldest first."""
        with self._file.lock, self._file.reading():
            rows = self._rows(number) if can_be(number) else []
            if not rows:
                self.person(number)
            return self._views_of(number, rows)

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """Everyone's vectors: numbers int64 [N], ascending, and unit rows float32 [N, D]."""
        matrix = self._matrix_now()
        return matrix.numbers, matrix.rows

    def moments(self) -> tuple[list[str], np.ndarray]:
        """Source and time (s, by that video's clock) [N] of every row of `vectors`."""
        with self._file.lock, self._file.reading():
            rows = self._file.run("SELECT number, source, time FROM views").fetchall()
            rows.sort(key=lambda row: int(row[0]))
            return [str(row[1]) for row in rows], np.array([float(row[2]) for row in rows])

    def name(self, number: int, text: str) -> None:
        """Name someone; an empty text takes the name away."""
        with self.alone():
            self.person(number)
            self._file.run("UPDATE people SET name = ? WHERE number = ?", (clean_name(text) or None, number))

    def merge(self, number: int, other: int, *, batch: float = 0.0, for_good: bool = False) -> None:
        """Make ``other`` part of ``number``."""
        if number == other:
            raise UserError(f"{number} and {other} are one already; name two people.")
        run = self._file.run
        with self.alone():
            made, rows = Merge.of(self.person(number), self.person(other), batch), self._rows(other)
            if for_good:
                self._add_views(number, self._views_of(other, rows))
                self._drop(other, rows)
                for part in parts_of(other, self.merges()):
                    run("UPDATE gone SET merge = NULL WHERE number = ?", (part,))
            else:
                self._move(rows, other, number, "coalesce(origin, number)")
            run("DELETE FROM people WHERE number = ?", (other,))
            run("UPDATE gone SET became = ? WHERE became = ?", (number, other))
            run("INSERT INTO gone VALUES (?, ?, ?)", (other, number, None if for_good else made.text()))
            run("UPDATE people SET name = ?, first_seen = ?, last_seen = ? WHERE number = ?", (*made.after, number))
            self._file.dropped += self._file.crops.of(other)

    def unmerge(self, number: int) -> int:
        """Make a person of a merged number again; who it was part of."""
        run = self._file.run
        with self.alone(), self._file.reading():
            merges = self.merges()
            made = merge_of(self._file.folder, number, merges, self.gone([number]).get(number))
            own = [number, *parts_of(number, merges)]
            restored = made.undone(self.person(made.into))
            run("INSERT INTO people VALUES (?, ?, ?, ?, ?)", (number, *made.person))
            run("UPDATE people SET name = ?, first_seen = ?, last_seen = ? WHERE number = ?", (*restored, made.into))
            rows = self._rows(made.into, f"AND origin IN ({_marks(own)})", own)
            self._move(rows, made.into, number, f"nullif(origin, {int(number)})")
            run("DELETE FROM gone WHERE number = ?", (number,))
            run(f"UPDATE gone SET became = ? WHERE number IN ({_marks(own)})", (number, *own))
        return made.into

    def merges(self) -> list[Merge]:
        """Every merge that can be taken back."""
        with self._file.lock, self._file.reading():
            rows = self._file.run("SELECT number, merge FROM gone WHERE merge IS NOT NULL").fetchall()
            return [Merge.read(*row) for row in rows]

    def linked(self, until: int | None = None) -> int:
        """Up to which number everyone was linked with everyone, after setting it."""
        if until is not None:
            with self.alone():
                self._file.run("UPDATE header SET value = ? WHERE key = 'linked'", (until,))
        with self._file.lock, self._file.reading():
            return int(self._file.header("linked"))

    def split(self, number: int, views: Sequence[int]) -> int:
        """Make a new person of some of someone's views; the new number."""
        run = self._file.run
        with self.alone():
            person, rows = self.person(number), self._rows(number)
            moved = [rows[each] for each in chosen_views(number, views, len(rows))]
            new = self.new_numbers()[0]
            run(
                "INSERT INTO people VALUES (?, NULL, ?, ?, ?)",
                (new, person.first_seen, person.last_seen, person.class_id),
            )
            self._move(moved, number, new, "NULL")
        return new

    def forget(self, numbers: Sequence[int]) -> None:
        """Delete people so that neither vector nor crop can be read from the files any more.

        Rows are overwritten (`secure_delete`), the file is rebuilt (VACUUM), the log emptied, the crops unlinked. A
        kill in between is made good when the gallery is next opened. What the file system or a backup keeps is beyond
        this.

        Raises
        ------
        UserError
            If a number is unknown (then no one is forgotten), or another program keeps reading: then the log could
            not be emptied yet.
        """
        run = self._file.run
        with self.alone():
            for number in set(numbers):
                self.person(number)
                run("DELETE FROM views WHERE number = ?", (number,))
                run("DELETE FROM people WHERE number = ?", (number,))
                run("UPDATE gone SET became = NULL, merge = NULL WHERE became = ?", (number,))
                run("INSERT INTO gone VALUES (?, NULL, NULL)", (number,))
            run("UPDATE header SET value = 1 WHERE key = 'forgetting'")
        with self._file.lock, self._file.reporting():
            self._file.wipe()

    def gone(self, numbers: Sequence[int]) -> dict[int, int | None]:
        """Which of these numbers were merged, and into which, or forgotten (None)."""
        with self._file.lock, self._file.reporting():
            run = self._file.run
            found = [
                run("SELECT number, became FROM gone WHERE number = ?", (int(each),)).fetchone()
                for each in numbers
                if can_be(each)
            ]
        return dict(row for row in found if row)

    def describe_anew(self, model: Model, describe: Describe) -> int:
        """Replace every vector by that of its crop, in one transaction; how many views had no crop and went."""
        run = self._file.run
        vectors: dict[int, bytes] = {}
        # What the network takes its time for comes before the transaction; what was enrolled meanwhile, in it.
        self._describe_views(describe, vectors)
        with self.alone():
            self._describe_views(describe, vectors)
            known = [row[0] for row in run("SELECT id FROM views").fetchall()]
            lost = [each for each in known if each not in vectors]
            for view in known:
                if view in vectors:
                    run("UPDATE views SET vector = ? WHERE id = ?", (vectors[view], view))
                else:
                    run("DELETE FROM views WHERE id = ?", (view,))
            run("UPDATE header SET value = ? WHERE key = 'model'", (json.dumps(asdict(model)),))
        self.model = model
        return len(lost)

    def _describe_views(self, describe: Describe, vectors: dict[int, bytes]) -> None:
        """Add the new vectors of the views whose ids ``vectors`` lacks."""
        with self._file.lock, self._file.reading():
            rows = self._file.run("SELECT id, number, crop FROM views ORDER BY id").fetchall()
        left = [row for row in rows if row[0] not in vectors]
        for start in range(0, len(left), DESCRIBED_AT_A_TIME):
            read = [
                (view, self._file.crops.read(number, crop))
                for view, number, crop in left[start : start + DESCRIBED_AT_A_TIME]
            ]
            crops = {view: crop for view, crop in read if crop is not None}
            for view, vector in zip(crops, describe(list(crops.values())) if crops else (), strict=True):
                vectors[view] = np.ascontiguousarray(vector, np.float32).tobytes()

    # ------------------------------------------------------------------ inside

    def _drop_stale(self) -> None:
        """Drop what is cached of the file after a write; one matrix at a time is in memory."""
        state = self._file.state()
        if state != self._state:
            self._state, self._everyone, self._matrix = state, None, None

    def _matrix_now(self) -> Matrix:
        with self._file.lock, self._file.reading():
            self._drop_stale()
            if self._matrix is None:
                found, data, length = array("q"), bytearray(), 4 * self.model.dimension
                for number, vector in self._file.run("SELECT number, vector FROM views"):
                    if len(vector) != length:
                        raise ValueError("a vector that is cut short")
                    found.append(number)
                    data += vector
                rows = np.frombuffer(data, np.float32).reshape(len(found), self.model.dimension)
                self._matrix = Matrix(np.frombuffer(found, np.int64), rows)
            return self._matrix

    def _unknown(self, number: int) -> UserError:
        return unknown_number(self._file.folder, number, self.gone([number]).get(number))

    def _people(self, condition: str, *values: int) -> list[Person]:
        with self._file.lock, self._file.reading():
            self._file.check_place()
            rows = self._file.run(
                "SELECT number, name, first_seen, last_seen, (SELECT count(*) FROM views WHERE views.number = "
                f"people.number), class_id FROM people {condition} ORDER BY number",
                values,
            )
            people = [
                Person(number, name and str(name), float(first), float(last), views, int(class_id))
                for number, name, first, last, views, class_id in rows
            ]
            if not all(math.isfinite(each.first_seen) and math.isfinite(each.last_seen) for each in people):
                raise ValueError("a time without end")
            if any(abs(each.class_id) >= 1 << 31 for each in people):
                raise ValueError("a class that cannot be")
            return people

    def _rows(self, number: int, condition: str = "", values: Sequence[int] = ()) -> list[Any]:
        """Views of someone as (id, vector, crop, source, time, quality)."""
        rows = self._file.run(
            f"SELECT id, vector, crop, source, time, quality FROM views WHERE number = ? {condition} ORDER BY id",
            (number, *values),
        ).fetchall()
        for _, vector, crop, _, _, quality in rows:
            if len(vector) != 4 * self.model.dimension or not isinstance(crop, str | None):
                raise UserError(f"{self._file.path}: damaged, a view of {number} is cut short; restore it from a copy.")
            float(quality)
        return rows

    def _views_of(self, number: int, rows: Sequence[Any]) -> list[View]:
        read = self._file.crops.read
        return [
            View(np.frombuffer(vector, np.float32), read(number, crop), str(source), float(seconds), quality)
            for _, vector, crop, source, seconds, quality in rows
        ]

    def _add_views(self, number: int, views: Sequence[View]) -> None:
        """Keep the most varied of someone's own views and these; merged people's stay, as they may be taken back.

        The crops of the new ones are written before the transaction ends, so that every crop it names exists.
        """
        if not views:
            return
        known = self._rows(number, "AND origin IS NULL")
        vectors = np.stack([*(np.frombuffer(row[1], np.float32) for row in known), *(each.vector for each in views)])
        quality = np.array([*(row[5] for row in known), *(each.quality for each in views)])
        kept = set(choose_varied(vectors, quality).tolist())
        self._drop(number, [row for position, row in enumerate(known) if position not in kept])
        for position, view in enumerate(views, len(known)):
            if position not in kept:
                continue
            crop = None if view.crop is None else self._file.crops.write(number, view.crop)
            vector = np.ascontiguousarray(view.vector, np.float32).tobytes()
            self._file.run(
                "INSERT INTO views (number, vector, crop, source, time, quality) VALUES (?, ?, ?, ?, ?, ?)",
                (number, vector, crop, clean_source(view.source), view.time, view.quality),
            )

    def _drop(self, number: int, rows: Sequence[Any]) -> None:
        """Delete views; their crops once the transaction is whole."""
        for row in rows:
            self._file.run("DELETE FROM views WHERE id = ?", (row[0],))
        self._file.dropped += self._file.crops.paths(number, [row[2] for row in rows])

    def _move(self, rows: Sequence[Any], number: int, to: int, origin: str) -> None:
        """Make someone's views another one's, crops and all; ``origin`` is SQL."""
        for view, _, crop, *_ in rows:
            data = self._file.crops.read(number, crop)
            moved = None if data is None else self._file.crops.write(to, data)
            change = f"UPDATE views SET origin = {origin}, number = ?, crop = ? WHERE id = ?"
            self._file.run(change, (to, moved, view))
        self._file.dropped += self._file.crops.paths(number, [row[2] for row in rows])


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
