"""The gallery in a folder: one SQLite file, and the crops beside it.

::

    gallery/gallery.sqlite          header, people, views (vectors as float32 BLOBs), gone
    gallery/crops/000007/<random>.jpg

All of it is readable by its owner alone.

Several programs may use one gallery at a time: SQLite's write-ahead log lets readers read while one writes, and each
change is one transaction, whole after a kill. Searches run on one matrix in memory, read again after a write.
"""

import json
import math
import os
import sqlite3
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from filelock import FileLock

from reid_tracker.errors import UserError
from reid_tracker.gallery.crop_files import CropFiles
from reid_tracker.gallery.merging import Merge, merge_of, parts_of
from reid_tracker.gallery.store import (
    BEST_VIEWS,
    Describe,
    Match,
    Model,
    Person,
    Sighting,
    View,
    check_model,
    check_vectors,
    chosen_views,
    clean_name,
    unknown_number,
)
from reid_tracker.gallery.views import choose_varied
from reid_tracker.tracking.calibration import CosineStatistics

FILE = "gallery.sqlite"
APPLICATION, SCHEMA = 0x52654944, 2  # "ReID"
DESCRIBED_AT_A_TIME = 256  # crops
WAIT_SECONDS = 30.0  # for another program to end its transaction
TABLES = """
CREATE TABLE header (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE people (number INTEGER PRIMARY KEY, name TEXT, first_seen REAL, last_seen REAL, class_id INTEGER);
CREATE TABLE views (id INTEGER PRIMARY KEY, number INTEGER REFERENCES people, vector BLOB, crop TEXT, source TEXT,
    time REAL, quality REAL, origin INTEGER);
CREATE INDEX views_of ON views (number);
CREATE TABLE gone (number INTEGER PRIMARY KEY, became INTEGER, merge TEXT);
"""
# What older galleries lack, by the schema that brought it. 2: merges that can be taken back, and `linked`.
MIGRATIONS = {
    2: (
        "ALTER TABLE views ADD COLUMN origin INTEGER",  # of a merged person's views: the number that they had
        "ALTER TABLE gone ADD COLUMN merge TEXT",  # `Merge.text`; NULL where there is no way back
        "INSERT INTO header VALUES ('linked', 0)",
    )
}


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
        self._folder, self._file = folder, folder / FILE
        self._lock = RLock()
        self._version: int | None = None  # of what is kept of the file; None = to be read again
        self._everyone: list[Person] | None = None
        self._matrix: np.ndarray | None = None
        self._numbers = np.zeros(0, np.int64)
        self._layout: tuple[np.ndarray, ...] = ()
        self._dropped: list[Path] = []  # crops that go once the transaction is whole
        if model is None and not self._file.is_file():
            raise UserError(f"{folder}: no gallery is there; reid-tracker track --gallery {folder} makes one.")
        with self._reporting():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._crops = CropFiles(folder / "crops", folder)
            with suppress(FileExistsError):
                os.close(os.open(self._file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self._connection = sqlite3.connect(
                self._file, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            with self._reading():
                self._inode = self._file.stat().st_ino
                self._make_private()
                self.model = self._open(model)
                if self._header("forgetting"):
                    self._wipe()  # a kill came in between
        except UserError:
            self._connection.close()
            raise

    def _make_private(self) -> None:
        """Remove other users' access to what an older version, a copy or an existing folder left open."""
        for path, mode in ((self._folder, 0o700), (self._crops.folder, 0o700), (self._file, 0o600)):
            with suppress(FileNotFoundError, PermissionError):  # another user's, who shares it
                if path.stat().st_mode & 0o077:
                    path.chmod(mode)

    def _open(self, model: Model | None) -> Model:
        run = self._connection.execute
        run("PRAGMA secure_delete = ON")
        empty = not run("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if empty and model is not None:
            self._create(model)
        if run("PRAGMA application_id").fetchone()[0] != APPLICATION:
            raise UserError(f"{self._file}: not a gallery of reid-tracker; name another folder.")
        if run("PRAGMA user_version").fetchone()[0] > SCHEMA:
            raise UserError(f"{self._file}: written by a newer version of reid-tracker; update this one.")
        self._migrate()
        with self._reading():
            known = Model(**json.loads(self._header("model")))
            if known.calibration:
                statistics: dict[str, Any] = dict(known.calibration["all"])
                CosineStatistics(**statistics)
            if not isinstance(known.dimension, int) or known.dimension < 1:
                raise ValueError("a model without a dimension")
            if not 0 <= int(self._header("last_number")) < 1 << 62:
                raise ValueError("a last number that cannot be")
        check_model(self._folder, known, model)
        return known

    def _create(self, model: Model) -> None:
        """Make the tables, unless another program was quicker: SQLite changes a journal's mode for one at a time."""
        run = self._connection.execute
        with FileLock(self._folder / ".create.lock", timeout=WAIT_SECONDS, mode=0o600):
            run("PRAGMA journal_mode = WAL")
            with self.alone():
                if run("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    return
                run(f"PRAGMA application_id = {APPLICATION}")
                run(f"PRAGMA user_version = {SCHEMA}")
                for statement in TABLES.split(";\n")[:-1]:
                    run(statement)
                run("INSERT INTO header VALUES ('model', ?)", (json.dumps(asdict(model)),))
                run("INSERT INTO header VALUES ('last_number', 0), ('forgetting', 0), ('linked', 0)")

    def _migrate(self) -> None:
        run = self._connection.execute
        if run("PRAGMA user_version").fetchone()[0] == SCHEMA:
            return
        with self.alone():
            for schema in range(int(run("PRAGMA user_version").fetchone()[0]) + 1, SCHEMA + 1):
                for statement in MIGRATIONS[schema]:
                    run(statement)
            run(f"PRAGMA user_version = {SCHEMA}")

    def new_numbers(self, count: int = 1) -> list[int]:
        """Reserve the next numbers."""
        with self.alone():
            sql = "UPDATE header SET value = value + ? WHERE key = 'last_number' RETURNING value"
            last = int(self._connection.execute(sql, (count,)).fetchall()[0][0])
        return list(range(last - count + 1, last + 1))

    def give_back(self, numbers: Sequence[int]) -> None:
        """Return unused numbers, as far as no others were reserved since."""
        with self.alone():
            for number in sorted(numbers, reverse=True):
                sql = "UPDATE header SET value = ? WHERE key = 'last_number' AND value = ?"
                self._connection.execute(sql, (number - 1, number))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Make what is done inside one transaction, whole or not at all; one inside another is part of it."""
        with self._lock, self._reporting():
            if self._connection.in_transaction:
                yield
                return
            self._check_place()
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
                self._version = None
                self._crops.remove(self._dropped)
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._dropped = []

    def enrol(self, sightings: Mapping[int, Sighting]) -> None:
        """Add or update people in one transaction."""
        check_vectors(self._folder, sightings, self.model.dimension)
        run = self._connection.execute
        with self.alone():
            check_model(self._folder, Model(**json.loads(self._header("model"))), self.model)
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
        with self._lock:
            _, matrix = self.vectors()
            people, count, cell = self._layout
        queries = np.asarray(vectors, np.float32).reshape(-1, self.model.dimension)
        if not len(people):
            return [[] for _ in queries]
        cosine = np.full((len(people), count.max()), -np.inf, np.float32)
        found, of = [], np.minimum(count, BEST_VIEWS).astype(np.float32)
        for row in np.ascontiguousarray((matrix @ queries.T).T):
            cosine.reshape(-1)[cell] = row
            best = np.sort(cosine, axis=1)[:, -BEST_VIEWS:]
            score = np.where(np.isfinite(best), best, np.float32(0)).sum(axis=1) / of
            order = np.argpartition(-score, limit - 1)[:limit] if limit < len(score) else np.arange(len(score))
            order = order[np.argsort(-score[order])]
            found.append((people[order].tolist(), score[order].tolist()))
        wanted = {number for row, _ in found for number in row}
        with self._lock, self._reporting():
            names = {
                number: self._connection.execute("SELECT name FROM people WHERE number = ?", (number,)).fetchone()
                for number in wanted
            }
        return [
            [
                Match(number, names[number][0], score)
                for number, score in zip(*row, strict=True)
                if names[number]  # not forgotten since the matrix was read
            ]
            for row in found
        ]

    def people(self) -> list[Person]:
        """Everyone, by number."""
        with self._lock, self._reading():
            self._check_place()
            self._drop_stale()
            if self._everyone is None:
                self._everyone = self._people("")
            return list(self._everyone)

    def person(self, number: int) -> Person:
        """One of them."""
        found = self._people("WHERE number = ?", number)
        if not found:
            raise self._unknown(number)
        return found[0]

    def views(self, number: int) -> list[View]:
        """Someone's views, the oldest first."""
        with self._lock, self._reading():
            rows = self._rows(number)
            if not rows:
                self.person(number)
            return self._views_of(number, rows)

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """Everyone's vectors: numbers int64 [N], ascending, and unit rows float32 [N, D]."""
        with self._lock, self._reading():
            self._drop_stale()
            if self._matrix is None:
                found, data, length = array("q"), bytearray(), 4 * self.model.dimension
                for number, vector in self._connection.execute("SELECT number, vector FROM views"):
                    if len(vector) != length:
                        raise ValueError("a vector that is cut short")
                    found.append(number)
                    data += vector
                numbers = np.frombuffer(found, np.int64)
                matrix = np.frombuffer(data, np.float32).reshape(len(numbers), self.model.dimension)
                # A sum with NaN or infinity in it is not finite, and takes no table of the matrix's size.
                if not math.isfinite(matrix.sum(dtype=np.float64)):
                    raise ValueError("a vector with NaN")
                order = np.argsort(numbers, kind="stable")
                if (np.diff(order) != 1).any():
                    numbers, matrix = numbers[order], matrix[order]
                self._numbers, self._matrix = numbers, matrix
                # A table of one row a person: how many cells are filled, and which of them each view has.
                people, first, count = np.unique(numbers, return_index=True, return_counts=True)
                width = count.max(initial=0)
                cell = np.arange(len(numbers)) + np.repeat(np.arange(len(people)) * width - first, count)
                self._layout = people, count, cell
            return self._numbers, self._matrix

    def moments(self) -> tuple[list[str], np.ndarray]:
        """Source and time (s, by that video's clock) [N] of every row of `vectors`."""
        with self._lock, self._reading():
            rows = self._connection.execute("SELECT number, source, time FROM views").fetchall()
            rows.sort(key=lambda row: int(row[0]))
            return [str(row[1]) for row in rows], np.array([float(row[2]) for row in rows])

    def name(self, number: int, text: str) -> None:
        """Name someone; an empty text takes the name away."""
        with self.alone():
            changed = self._connection.execute(
                "UPDATE people SET name = ? WHERE number = ?", (clean_name(text) or None, number)
            )
            if not changed.rowcount:
                raise self._unknown(number)

    def merge(self, number: int, other: int, *, batch: float = 0.0, for_good: bool = False) -> None:
        """Make ``other`` part of ``number``."""
        if number == other:
            raise UserError(f"{number} and {other} are one already; name two people.")
        run = self._connection.execute
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
            self._dropped += self._crops.of(other)

    def unmerge(self, number: int) -> int:
        """Make a person of a merged number again; who it was part of."""
        run = self._connection.execute
        with self.alone(), self._reading():
            merges = self.merges()
            made = merge_of(self._folder, number, merges, self.gone([number]).get(number))
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
        with self._lock, self._reading():
            rows = self._connection.execute("SELECT number, merge FROM gone WHERE merge IS NOT NULL").fetchall()
            return [Merge.read(*row) for row in rows]

    def linked(self, until: int | None = None) -> int:
        """Up to which number everyone was linked with everyone, after setting it."""
        if until is not None:
            with self.alone():
                self._connection.execute("UPDATE header SET value = ? WHERE key = 'linked'", (until,))
        with self._lock, self._reading():
            return int(self._header("linked"))

    def split(self, number: int, views: Sequence[int]) -> int:
        """Make a new person of some of someone's views; the new number."""
        run = self._connection.execute
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
        run = self._connection.execute
        with self.alone():
            for number in set(numbers):
                self.person(number)
                run("DELETE FROM views WHERE number = ?", (number,))
                run("DELETE FROM people WHERE number = ?", (number,))
                run("UPDATE gone SET became = NULL, merge = NULL WHERE became = ?", (number,))
                run("INSERT INTO gone VALUES (?, NULL, NULL)", (number,))
            run("UPDATE header SET value = 1 WHERE key = 'forgetting'")
        with self._lock, self._reporting():
            self._wipe()

    def gone(self, numbers: Sequence[int]) -> dict[int, int | None]:
        """Which of these numbers were merged, and into which, or forgotten (None)."""
        with self._lock, self._reporting():
            run = self._connection.execute
            found = [
                run("SELECT number, became FROM gone WHERE number = ?", (int(each),)).fetchone() for each in numbers
            ]
        return dict(row for row in found if row)

    def describe_anew(self, model: Model, describe: Describe) -> int:
        """Replace every vector by that of its crop, in one transaction; how many views had no crop and went."""
        run = self._connection.execute
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
        with self._lock, self._reading():
            rows = self._connection.execute("SELECT id, number, crop FROM views ORDER BY id").fetchall()
        left = [row for row in rows if row[0] not in vectors]
        for start in range(0, len(left), DESCRIBED_AT_A_TIME):
            read = [
                (view, self._crops.read(number, crop))
                for view, number, crop in left[start : start + DESCRIBED_AT_A_TIME]
            ]
            crops = {view: crop for view, crop in read if crop is not None}
            for view, vector in zip(crops, describe(list(crops.values())) if crops else (), strict=True):
                vectors[view] = np.ascontiguousarray(vector, np.float32).tobytes()

    def close(self) -> None:
        """End."""
        with self._lock:
            self._connection.close()

    # ------------------------------------------------------------------ inside

    def _check_place(self) -> None:
        """Raise a UserError if the file is gone: SQLite would go on writing to a deleted file."""
        try:
            is_there = self._file.stat().st_ino == self._inode
        except OSError:
            is_there = False
        if not is_there:
            raise UserError(f"{self._file}: was moved or deleted while it was in use; what came since is not saved.")

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """SQLite's and the system's errors as one sentence."""
        try:
            yield
        except sqlite3.ProgrammingError:
            raise  # a mistake of this program
        except sqlite3.Error as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            if "locked" in reason:
                raise UserError(f"{self._file}: in use by another program for too long; try again.") from error
            if isinstance(error, sqlite3.OperationalError):
                raise UserError(f"{self._file}: cannot be used ({reason}); what was stored before is kept.") from error
            raise UserError(f"{self._file}: not a gallery, or damaged ({reason}); restore it from a copy.") from error
        except OSError as error:
            raise UserError(f"{error.filename or self._folder}: cannot be used ({error.strerror}).") from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """The same, and values that are not what they should be: the file may have been damaged, or made to mislead."""
        with self._reporting():
            try:
                yield
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
                raise UserError(f"{self._file}: damaged ({error}); restore it from a copy.") from error

    def _drop_stale(self) -> None:
        """Drop what is cached of the file after a write; one matrix at a time is in memory."""
        # Changes when another connection commits; own changes set the version to None.
        version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version:
            self._version, self._everyone, self._matrix = version, None, None

    def _header(self, key: str) -> Any:
        return self._connection.execute("SELECT value FROM header WHERE key = ?", (key,)).fetchone()[0]

    def _unknown(self, number: int) -> UserError:
        return unknown_number(self._folder, number, self.gone([number]).get(number))

    def _people(self, condition: str, *values: int) -> list[Person]:
        with self._lock, self._reading():
            self._check_place()
            rows = self._connection.execute(
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
        rows = self._connection.execute(
            f"SELECT id, vector, crop, source, time, quality FROM views WHERE number = ? {condition} ORDER BY id",
            (number, *values),
        ).fetchall()
        for _, vector, crop, _, _, quality in rows:
            if len(vector) != 4 * self.model.dimension or not isinstance(crop, str | None):
                raise UserError(f"{self._file}: damaged, a view of {number} is cut short; restore it from a copy.")
            float(quality)
        return rows

    def _views_of(self, number: int, rows: Sequence[Any]) -> list[View]:
        return [
            View(
                np.frombuffer(vector, np.float32), self._crops.read(number, crop), str(source), float(seconds), quality
            )
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
            crop = None if view.crop is None else self._crops.write(number, view.crop)
            vector = np.ascontiguousarray(view.vector, np.float32).tobytes()
            self._connection.execute(
                "INSERT INTO views (number, vector, crop, source, time, quality) VALUES (?, ?, ?, ?, ?, ?)",
                (number, vector, crop, view.source, view.time, view.quality),
            )

    def _drop(self, number: int, rows: Sequence[Any]) -> None:
        """Delete views; their crops once the transaction is whole."""
        self._connection.executemany("DELETE FROM views WHERE id = ?", [(row[0],) for row in rows])
        self._dropped += self._crops.paths(number, [row[2] for row in rows])

    def _move(self, rows: Sequence[Any], number: int, to: int, origin: str) -> None:
        """Make someone's views another one's, crops and all; ``origin`` is SQL."""
        for view, _, crop, *_ in rows:
            data = self._crops.read(number, crop)
            moved = None if data is None else self._crops.write(to, data)
            change = f"UPDATE views SET origin = {origin}, number = ?, crop = ? WHERE id = ?"
            self._connection.execute(change, (to, moved, view))
        self._dropped += self._crops.paths(number, [row[2] for row in rows])

    def _wipe(self) -> None:
        """Remove what deleted rows left behind in the files."""
        run = self._connection.execute
        with self.alone():  # no crops are written meanwhile: those without a row are left from a kill
            rows = run("SELECT number, crop FROM views WHERE crop IS NOT NULL").fetchall()
            self._crops.remove_others(rows)
        run("VACUUM")
        # The log still holds old pages until it is cut to nothing; a reader that began before keeps it from that.
        if run("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise UserError(
                f"{self._file}: deleted, but another program reads so long that traces stay in the log beside it; end "
                "that program and open the gallery again."
            )
        with self.alone():
            run("UPDATE header SET value = 0 WHERE key = 'forgetting'")


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
