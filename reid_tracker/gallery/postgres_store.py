"""The gallery in PostgreSQL with pgvector: many programs on many machines write to it at the same time.

::

    header   schema, model (JSON), last_number, forgetting, linked; one row
    people   number, name, first_seen, last_seen, class_id
    views    id, number, vector, crop (JPEG), source, time, quality, origin
    gone     number, became (NULL = forgotten), merge (JSON; NULL = no way back)

in a schema of their own. Whatever is written is one transaction that holds an advisory lock: writers take turns.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from threading import RLock
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.gallery.merging import Merge, Values, merge_of, parts_of
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
    clean_source,
    shown,
    unknown_number,
)
from reid_tracker.gallery.views import choose_varied
from reid_tracker.tracking.memory import VIEWS

try:
    import psycopg
    from pgvector.psycopg import register_vector
    from psycopg import sql
    from psycopg.rows import tuple_row
except ImportError as missing:
    raise UserError(
        'A gallery in PostgreSQL needs psycopg and pgvector; pip install "reid-tracker[postgres]".'
    ) from missing

SCHEMA = 2  # of the tables
DEFAULT_NAME, LONGEST_SCHEMA = "reid_tracker", 63
WAIT_SECONDS = 30  # for other programs' transactions, and for a connection
APPROXIMATE_FROM = 100_000  # views: up to here all are compared, beyond the index names the nearest
INDEXED_DIMENSIONS = 2000  # the longest vector that pgvector indexes
LOCK = 0x52654944  # "ReID": first key of the advisory locks; the second is the schema's
DESCRIBED_AT_A_TIME = 256  # crops
TABLES = """
CREATE TABLE header (only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row), schema int NOT NULL,
    model jsonb NOT NULL, last_number bigint NOT NULL DEFAULT 0, forgetting boolean NOT NULL DEFAULT false,
    linked bigint NOT NULL DEFAULT 0);
CREATE TABLE people (number bigint PRIMARY KEY, name text, first_seen float8 NOT NULL, last_seen float8 NOT NULL,
    class_id int NOT NULL);
CREATE TABLE views (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, number bigint NOT NULL REFERENCES people,
    vector vector({dimension}) NOT NULL, crop bytea, source text NOT NULL, time float8 NOT NULL,
    quality float8 NOT NULL, origin bigint);
CREATE INDEX views_of ON views (number);
CREATE TABLE gone (number bigint PRIMARY KEY, became bigint, merge text);
"""
# What older galleries lack, by the schema that brought it. 2: merges that can be taken back, and `linked`.
MIGRATIONS = {
    2: (
        "ALTER TABLE views ADD COLUMN origin bigint",  # of a merged person's views: the number that they had
        "ALTER TABLE gone ADD COLUMN merge text",  # `Merge.text`; NULL where there is no way back
        "ALTER TABLE header ADD COLUMN linked bigint NOT NULL DEFAULT 0",
    )
}
NEAR = "CREATE INDEX views_near ON views USING hnsw (vector vector_ip_ops)"
# Of the people with the nearest views, the mean of each one's best.
SEARCH = """
WITH near AS (SELECT number FROM views ORDER BY vector <#> %(query)s LIMIT %(near)s),
ranked AS (SELECT number, -(vector <#> %(query)s) AS cosine,
    row_number() OVER (PARTITION BY number ORDER BY vector <#> %(query)s) AS place
    FROM views WHERE number IN (SELECT number FROM near))
SELECT number, name, avg(cosine) FROM ranked JOIN people USING (number) WHERE place <= %(best)s
GROUP BY number, name ORDER BY avg(cosine) DESC LIMIT %(limit)s
"""


class PostgresGallery:
    """A gallery in PostgreSQL; see `Gallery` for the methods.

    Parameters
    ----------
    url : str
        ``postgresql://user@host:5432/database``, as libpq takes it; its parameter ``gallery`` names the schema of this
        gallery, ``reid_tracker`` by default. A password belongs into ``PGPASSWORD`` or ``~/.pgpass``.
    model : Model, optional
        Whose vectors are going to be used; what is not there yet is made for it.

    Raises
    ------
    UserError
        If the server cannot be reached, or there is no gallery, or one of a newer version or of another model.
    """

    def __init__(self, url: str, model: Model | None = None) -> None:
        self._url, self._name, self._where = _read(url)
        self._lock = RLock()
        self._connection: psycopg.Connection[Any] | None = None
        self._knows_vectors, self._inside = False, False  # inside: of a transaction that writes
        try:
            with self._reporting():
                self.model = self._open(model)
                if self._run("SELECT forgetting FROM header")[0][0]:
                    self._wipe()  # a kill came in between
        except UserError:
            self.close()
            raise

    def _open(self, model: Model | None) -> Model:
        if not self._is_there():
            if model is None:
                raise UserError(f"{self._where}: no gallery is there; reid-tracker track --gallery makes one.")
            self._create(model)
        if not self._knows_vectors:  # made by another program since this connection began
            self._connect()
        schema, known = self._run("SELECT schema, model FROM header")[0]
        if schema > SCHEMA:
            raise UserError(f"{self._where}: written by a newer version of reid-tracker; update this one.")
        known = Model(**known)
        check_model(self._where, known, model)
        if schema < SCHEMA:
            self._migrate()
        return known

    def _migrate(self) -> None:
        with self.alone():
            for schema in range(self._run("SELECT schema FROM header")[0][0] + 1, SCHEMA + 1):
                for statement in MIGRATIONS[schema]:
                    self._run(statement)
            self._run("UPDATE header SET schema = %s", (SCHEMA,))

    def _is_there(self) -> bool:
        found = self._run("SELECT to_regclass(format('%%I.header', %s::text)) IS NOT NULL", (self._name,))
        return bool(found[0][0])

    def _create(self, model: Model) -> None:
        """Make the tables, unless another program was quicker."""
        with self.alone():
            self._run("SELECT pg_advisory_xact_lock(%s, 0)", (LOCK,))  # the extension is the whole database's
            self._run("CREATE EXTENSION IF NOT EXISTS vector")
            self._run(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(self._name)))
            if not self._is_there():
                for statement in TABLES.format(dimension=int(model.dimension)).split(";\n")[:-1]:
                    self._run(statement)
                if model.dimension <= INDEXED_DIMENSIONS:
                    self._run(NEAR)
                self._run("INSERT INTO header (schema, model) VALUES (%s, %s)", (SCHEMA, json.dumps(asdict(model))))

    def new_numbers(self, count: int = 1) -> list[int]:
        """Reserve the next numbers."""
        with self._reporting():
            change = "UPDATE header SET last_number = last_number + %s RETURNING last_number"
            last = int(self._run(change, (count,))[0][0])
        return list(range(last - count + 1, last + 1))

    def give_back(self, numbers: Sequence[int]) -> None:
        """Return unused numbers, as far as no others were reserved since."""
        with self._reporting():
            for number in sorted(numbers, reverse=True):
                self._run("UPDATE header SET last_number = %s WHERE last_number = %s", (number - 1, number))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Run the block as one transaction, while no other program changes the gallery."""
        with self._reporting():
            if self._inside:
                yield
                return
            connection = self._connected()
            with connection.transaction():
                self._inside = True
                try:
                    self._run("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (LOCK, self._name))
                    yield
                finally:
                    self._inside = False

    def enrol(self, sightings: Mapping[int, Sighting]) -> None:
        """Add or update people in one transaction."""
        check_vectors(self._where, sightings, self.model.dimension)
        with self.alone():
            check_model(self._where, Model(**self._run("SELECT model FROM header")[0][0]), self.model)
            gone = self.gone(list(sightings))
            for given, each in sightings.items():
                number = gone.get(given, given)
                if number is None:
                    continue
                self._run(
                    "INSERT INTO people VALUES (%s, NULL, %s, %s, %s) ON CONFLICT (number) DO UPDATE SET first_seen = "
                    "least(people.first_seen, excluded.first_seen), "
                    "last_seen = greatest(people.last_seen, excluded.last_seen)",
                    (number, each.first_seen, each.last_seen, each.class_id),
                )
                self._add_views(number, each.views)
            if sightings:
                self._run("UPDATE header SET last_number = greatest(last_number, %s)", (max(sightings),))

    def search(self, vectors: np.ndarray, limit: int = 10) -> list[list[Match]]:
        """For each unit vector [Q, D] the most similar people, best first.

        Of so many views that an index names the nearest, a person may be missed: docs/benchmarks.md says how often.
        """
        queries = np.asarray(vectors, np.float32).reshape(-1, self.model.dimension)
        near = 3 * limit * VIEWS  # a person who leads by several views is among the first by the best one
        with self._reporting(), self._connected().transaction():
            known = self._run("SELECT reltuples FROM pg_class WHERE oid = 'views'::regclass")[0][0]
            if known > APPROXIMATE_FROM:
                self._run(f"SET LOCAL hnsw.ef_search = {min(max(near, 200), 1000)}")
            else:
                self._run("SET LOCAL enable_indexscan = off")
            asked = [{"query": each, "near": near, "best": BEST_VIEWS, "limit": limit} for each in queries]
            return [[Match(*row) for row in self._run(SEARCH, each)] for each in asked]

    def people(self) -> list[Person]:
        """Everyone, by number."""
        with self._reporting():
            return self._people("")

    def person(self, number: int) -> Person:
        """One of them."""
        with self._reporting():
            found = self._people("WHERE number = %s", number)
            if not found:
                raise unknown_number(self._where, number, self.gone([number]).get(number))
            return found[0]

    def views(self, number: int) -> list[View]:
        """Someone's views, the oldest first."""
        with self._reporting():
            rows = self._rows(number)
            if not rows:
                self.person(number)
            return [View(_floats([vector])[0], *rest) for _, vector, *rest in rows]

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """Everyone's vectors: numbers int64 [N], ascending, and unit rows float32 [N, D]."""
        with self._reporting():
            rows = self._run("SELECT number, vector_send(vector) FROM views ORDER BY number, id")
            matrix = _floats([row[1] for row in rows]).reshape(-1, self.model.dimension)
            return np.array([row[0] for row in rows], np.int64), matrix

    def moments(self) -> tuple[list[str], np.ndarray]:
        """Source and time (s, by that video's clock) [N] of every row of `vectors`."""
        with self._reporting():
            rows = self._run("SELECT source, time FROM views ORDER BY number, id")
            return [row[0] for row in rows], np.array([row[1] for row in rows], float)

    def name(self, number: int, text: str) -> None:
        """Name someone; an empty text takes the name away."""
        with self.alone():
            self.person(number)
            self._run("UPDATE people SET name = %s WHERE number = %s", (clean_name(text) or None, number))

    def merge(self, number: int, other: int, *, batch: float = 0.0, for_good: bool = False) -> None:
        """Make ``other`` part of ``number``."""
        if number == other:
            raise UserError(f"{number} and {other} are one already; name two people.")
        with self.alone():
            made = Merge.of(self.person(number), self.person(other), batch)
            if for_good:
                views = self.views(other)
                self._run("DELETE FROM views WHERE number = %s", (other,))
                self._add_views(number, views)
                self._run("UPDATE gone SET merge = NULL WHERE number = ANY(%s)", (parts_of(other, self.merges()),))
            else:
                change = "UPDATE views SET number = %s, origin = coalesce(origin, number) WHERE number = %s"
                self._run(change, (number, other))
            self._run("DELETE FROM people WHERE number = %s", (other,))
            self._run("UPDATE gone SET became = %s WHERE became = %s", (number, other))
            self._run("INSERT INTO gone VALUES (%s, %s, %s)", (other, number, None if for_good else made.text()))
            self._set_person(number, made.after)

    def unmerge(self, number: int) -> int:
        """Make a person of a merged number again; who it was part of."""
        with self.alone():
            merges = self.merges()
            made = merge_of(self._where, number, merges, self.gone([number]).get(number))
            own = [number, *parts_of(number, merges)]
            self._set_person(made.into, made.undone(self.person(made.into)))
            self._run("INSERT INTO people VALUES (%s, %s, %s, %s, %s)", (number, *made.person))
            self._run(
                "UPDATE views SET number = %s, origin = nullif(origin, %s) WHERE number = %s AND origin = ANY(%s)",
                (number, number, made.into, own),
            )
            self._run("DELETE FROM gone WHERE number = %s", (number,))
            self._run("UPDATE gone SET became = %s WHERE number = ANY(%s)", (number, own))
        return made.into

    def merges(self) -> list[Merge]:
        """Every merge that can be taken back."""
        with self._reporting():
            rows = self._run("SELECT number, merge FROM gone WHERE merge IS NOT NULL")
            return [Merge.read(*row) for row in rows]

    def linked(self, until: int | None = None) -> int:
        """Up to which number everyone was linked with everyone, after setting it."""
        with self._reporting():
            if until is not None:
                self._run("UPDATE header SET linked = %s", (until,))
            return int(self._run("SELECT linked FROM header")[0][0])

    def split(self, number: int, views: Sequence[int]) -> int:
        """Make a new person of some of someone's views; the new number."""
        with self.alone():
            person, rows = self.person(number), self._rows(number)
            moved = [rows[each][0] for each in chosen_views(number, views, len(rows))]
            new = self.new_numbers()[0]
            row = (new, person.first_seen, person.last_seen, person.class_id)
            self._run("INSERT INTO people VALUES (%s, NULL, %s, %s, %s)", row)
            self._run("UPDATE views SET number = %s, origin = NULL WHERE id = ANY(%s)", (new, moved))
        return new

    def forget(self, numbers: Sequence[int]) -> None:
        """Delete people, and rewrite the tables (VACUUM FULL), so that their files hold nothing of them.

        Meanwhile the gallery cannot be read, the longer the more views there are. A kill in between is made good when
        the gallery is next opened. Copies are beyond this: the server's log until it is recycled,
        replicas until they have followed, backups.

        Raises
        ------
        UserError
            If a number is unknown (then no one is forgotten), or others keep reading: then the tables could not be
            rewritten yet.
        """
        with self.alone():
            for number in set(numbers):
                self.person(number)
                self._run("DELETE FROM views WHERE number = %s", (number,))
                self._run("DELETE FROM people WHERE number = %s", (number,))
                self._run("UPDATE gone SET became = NULL, merge = NULL WHERE became = %s", (number,))
                self._run("INSERT INTO gone VALUES (%s, NULL, NULL)", (number,))
            self._run("UPDATE header SET forgetting = true")
        with self._reporting():
            self._wipe()

    def gone(self, numbers: Sequence[int]) -> dict[int, int | None]:
        """Which of these numbers were merged, and into which, or forgotten (None)."""
        with self._reporting():
            asked = [int(each) for each in numbers]
            return dict(self._run("SELECT number, became FROM gone WHERE number = ANY(%s)", (asked,)))

    def describe_anew(self, model: Model, describe: Describe) -> int:
        """Replace every vector by that of its crop, in one transaction; how many views had no crop and went."""
        with self.alone():
            self._run(f"ALTER TABLE views ADD COLUMN fresh vector({int(model.dimension)})")
            last, change = 0, "UPDATE views SET fresh = %s WHERE id = %s"
            some = "SELECT id, crop FROM views WHERE crop IS NOT NULL AND id > %s ORDER BY id LIMIT %s"
            while rows := self._run(some, (last, DESCRIBED_AT_A_TIME)):
                for (view, _), vector in zip(rows, describe([crop for _, crop in rows]), strict=True):
                    self._run(change, (np.asarray(vector, np.float32), view))
                last = rows[-1][0]
            lost = self._run(
                "WITH lost AS (DELETE FROM views WHERE fresh IS NULL RETURNING id) SELECT count(*) FROM lost"
            )
            self._run("ALTER TABLE views DROP COLUMN vector")
            self._run("ALTER TABLE views RENAME COLUMN fresh TO vector")
            self._run("ALTER TABLE views ALTER COLUMN vector SET NOT NULL")
            if model.dimension <= INDEXED_DIMENSIONS:
                self._run(NEAR)
            self._run("UPDATE header SET model = %s", (json.dumps(asdict(model)),))
        self.model = model
        return int(lost[0][0])

    def close(self) -> None:
        """End."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()

    # ------------------------------------------------------------------ inside

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """One thread at a time; the server's errors as one sentence."""
        with self._lock:
            try:
                yield
            except psycopg.ProgrammingError as error:
                if error.sqlstate is None:
                    raise  # a mistake of this program
                raise UserError(f"{self._where}: {_first_line(error)}; is the user allowed to do this?") from error
            except psycopg.errors.LockNotAvailable as error:
                raise UserError(f"{self._where}: in use by another program for too long; try again.") from error
            except psycopg.Error as error:
                raise UserError(f"{self._where}: cannot be used ({_first_line(error)}).") from error

    def _connected(self) -> "psycopg.Connection[Any]":
        """The connection; a new one where the server let the last one go."""
        if self._connection is None or (self._connection.closed and not self._inside):
            self._connect()
        assert self._connection is not None
        return self._connection

    def _connect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        # Not the user's own search path: a table of the same name elsewhere is none of this gallery's.
        self._connection = psycopg.connect(
            self._url, autocommit=True, connect_timeout=WAIT_SECONDS, row_factory=tuple_row, prepare_threshold=3
        )
        found = self._connection.execute(
            "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'vector'"
        ).fetchone()
        path = [self._name, found[0].strip('"') if found else "public"]
        self._connection.execute(sql.SQL("SET search_path = {}").format(sql.SQL(", ").join(map(sql.Identifier, path))))
        self._connection.execute(f"SET lock_timeout = '{WAIT_SECONDS}s'")
        self._knows_vectors = found is not None
        if found:
            register_vector(self._connection)

    def _run(self, statement: Any, values: Any = None) -> list[Any]:
        """Rows that a statement gives; binary, for the vectors' sake."""
        with self._connected().cursor(binary=True) as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def _people(self, condition: str, *values: int) -> list[Person]:
        count = "(SELECT count(*) FROM views WHERE views.number = people.number)"
        rows = self._run(
            f"SELECT number, name, first_seen, last_seen, {count}, class_id FROM people {condition} ORDER BY number",
            values,
        )
        return [Person(*row) for row in rows]

    def _rows(self, number: int) -> list[Any]:
        """Views of someone as (id, vector, crop, source, time, quality)."""
        return self._run(
            "SELECT id, vector_send(vector), crop, source, time, quality FROM views WHERE number = %s ORDER BY id",
            (number,),
        )

    def _add_views(self, number: int, views: Sequence[View]) -> None:
        """Keep the most varied of someone's own views and these; merged people's stay, as they may be taken back."""
        if not views:
            return
        own = "SELECT id, vector_send(vector), quality FROM views WHERE number = %s AND origin IS NULL ORDER BY id"
        known = self._run(own, (number,))
        vectors = np.stack([*_floats([row[1] for row in known]), *(each.vector for each in views)])
        quality = np.array([*(row[2] for row in known), *(each.quality for each in views)])
        kept = set(choose_varied(vectors, quality).tolist())
        dropped = [row[0] for position, row in enumerate(known) if position not in kept]
        self._run("DELETE FROM views WHERE id = ANY(%s)", (dropped,))
        fresh = [
            (number, np.asarray(view.vector, np.float32), view.crop, clean_source(view.source), view.time, view.quality)
            for position, view in enumerate(views, len(known))
            if position in kept
        ]
        with self._connected().cursor() as cursor:
            cursor.executemany(
                "INSERT INTO views (number, vector, crop, source, time, quality) VALUES (%s, %s, %s, %s, %s, %s)", fresh
            )

    def _set_person(self, number: int, values: Values) -> None:
        change = "UPDATE people SET name = %s, first_seen = %s, last_seen = %s WHERE number = %s"
        self._run(change, (*values, number))

    def _wipe(self) -> None:
        """Rewrite the tables without the deleted rows."""
        self._run("VACUUM (FULL, ANALYZE) people, views")
        self._run("UPDATE header SET forgetting = false")


def _floats(vectors: Sequence[bytes]) -> np.ndarray:
    """Rows float32 [N, D] of what `vector_send` gives: two numbers of 16 bits, and big-endian floats."""
    length = len(vectors[0]) if vectors else 4
    numbers = np.frombuffer(b"".join(vectors), np.uint8).reshape(len(vectors), length)[:, 4:]
    return np.ascontiguousarray(numbers).view(">f4").astype(np.float32)


def _read(url: str) -> tuple[str, str, str]:
    """What libpq takes of a URL, the gallery's name, and the place as messages name it."""
    address, _, options = url.partition("?")
    given = parse_qsl(options, keep_blank_values=True)
    name = dict(given).get("gallery", DEFAULT_NAME)
    if not name.isprintable() or not 1 <= len(name.encode()) <= LONGEST_SCHEMA:
        raise UserError(f"gallery= in a gallery's address is a name of 1 to {LONGEST_SCHEMA} letters.")
    kept = urlencode([each for each in given if each[0] != "gallery"], quote_via=quote)
    address = f"{address}?{kept}" if kept else address
    try:
        psycopg.conninfo.conninfo_to_dict(address)
    except psycopg.Error:  # its text would show the password
        raise UserError(
            "The gallery's address is none that PostgreSQL takes; write postgresql://HOST:5432/DATABASE."
        ) from None
    return address, name, shown(url) + (f" (gallery {name})" if name != DEFAULT_NAME else "")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
