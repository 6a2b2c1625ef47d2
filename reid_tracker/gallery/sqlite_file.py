"""The SQLite file of a gallery in a folder: how it is made, opened, brought up to date, locked and found damaged.

Several programs may use one gallery at a time: SQLite's write-ahead log lets readers read while one writes, and each
change is one transaction, whole after a kill.
"""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from threading import RLock
from typing import Any

from filelock import FileLock

from reid_tracker.errors import UserError
from reid_tracker.gallery.crop_files import CropFiles
from reid_tracker.gallery.store import Model, check_model
from reid_tracker.tracking.calibration import CosineStatistics

FILE = "gallery.sqlite"
APPLICATION, SCHEMA = 0x52654944, 2  # "ReID"
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


class SqliteFile:
    """``gallery.sqlite``, and the crops that its rows name.

    Parameters
    ----------
    folder, model
        As `SqliteGallery` takes them.

    Attributes
    ----------
    lock : RLock
        One thread at a time.
    run : callable
        Executes a statement of SQL.
    model : Model
        Whose vectors it held when it was opened.
    dropped : list of Path
        Crops that go once the transaction is whole.

    Raises
    ------
    UserError
        As `SqliteGallery` does.
    """

    def __init__(self, folder: Path, model: Model | None = None) -> None:
        self.folder, self.path = folder, folder / FILE
        self.lock = RLock()
        self.dropped: list[Path] = []
        self._changes = 0  # transactions of this program
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: a gallery is a folder, and this is none; name another place.")
        if model is None and not self.path.is_file():
            raise UserError(f"{folder}: no gallery is there; reid-tracker track --gallery {folder} makes one.")
        with self.reporting():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.crops = CropFiles(folder / "crops", folder)
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self._connection = sqlite3.connect(
                self.path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
        self.run = self._connection.execute
        try:
            with self.reading():
                self._inode = self.path.stat().st_ino
                self._make_private()
                self.model = self._open(model)
                if self.header("forgetting"):
                    self.wipe()  # a kill came in between
        except UserError:
            self._connection.close()
            raise

    def _make_private(self) -> None:
        """Remove other users' access to what an older version, a copy or an existing folder left open."""
        for path, mode in ((self.folder, 0o700), (self.crops.folder, 0o700), (self.path, 0o600)):
            with suppress(FileNotFoundError, PermissionError):  # another user's, who shares it
                if path.stat().st_mode & 0o077:
                    path.chmod(mode)

    def _open(self, model: Model | None) -> Model:
        self.run("PRAGMA secure_delete = ON")
        empty = not self.run("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if empty and model is not None:
            self._create(model)
        if self.run("PRAGMA application_id").fetchone()[0] != APPLICATION:
            raise UserError(f"{self.path}: not a gallery of reid-tracker; name another folder.")
        if self.run("PRAGMA user_version").fetchone()[0] > SCHEMA:
            raise UserError(f"{self.path}: written by a newer version of reid-tracker; update this one.")
        self._migrate()
        with self.reading():
            known = Model(**json.loads(self.header("model")))
            if known.calibration:
                statistics: dict[str, Any] = dict(known.calibration["all"])
                CosineStatistics(**statistics)
            if not isinstance(known.dimension, int) or known.dimension < 1:
                raise ValueError("a model without a dimension")
            if not 0 <= int(self.header("last_number")) < 1 << 62:
                raise ValueError("a last number that cannot be")
        check_model(self.folder, known, model)
        return known

    def _create(self, model: Model) -> None:
        """Make the tables, unless another program was quicker: SQLite changes a journal's mode for one at a time."""
        with FileLock(self.folder / ".create.lock", timeout=WAIT_SECONDS, mode=0o600):
            self.run("PRAGMA journal_mode = WAL")
            with self.alone():
                if self.run("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    return
                self.run(f"PRAGMA application_id = {APPLICATION}")
                self.run(f"PRAGMA user_version = {SCHEMA}")
                for statement in TABLES.split(";\n")[:-1]:
                    self.run(statement)
                self.run("INSERT INTO header VALUES ('model', ?)", (json.dumps(asdict(model)),))
                self.run("INSERT INTO header VALUES ('last_number', 0), ('forgetting', 0), ('linked', 0)")

    def _migrate(self) -> None:
        if self.run("PRAGMA user_version").fetchone()[0] == SCHEMA:
            return
        with self.alone():
            for schema in range(int(self.run("PRAGMA user_version").fetchone()[0]) + 1, SCHEMA + 1):
                for statement in MIGRATIONS[schema]:
                    self.run(statement)
            self.run(f"PRAGMA user_version = {SCHEMA}")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Make what is done inside one transaction, whole or not at all; one inside another is part of it."""
        with self.lock, self.reporting():
            if self._connection.in_transaction:
                yield
                return
            self.check_place()
            self.run("BEGIN IMMEDIATE")
            try:
                yield
                self.run("COMMIT")
                self.crops.remove(self.dropped)
            except BaseException:
                if self._connection.in_transaction:
                    self.run("ROLLBACK")
                raise
            finally:
                self._changes += 1
                self.dropped = []

    def check_place(self) -> None:
        """Raise a UserError if the file is gone: SQLite would go on writing to a deleted file."""
        try:
            is_there = self.path.stat().st_ino == self._inode
        except OSError:
            is_there = False
        if not is_there:
            raise UserError(f"{self.path}: was moved or deleted while it was in use; what came since is not saved.")

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """SQLite's and the system's errors as one sentence."""
        try:
            yield
        except sqlite3.ProgrammingError:
            raise  # a mistake of this program
        except sqlite3.Error as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            if "locked" in reason:
                raise UserError(f"{self.path}: in use by another program for too long; try again.") from error
            if "readonly" in reason or "unable to open" in reason:  # whoever reads writes the log's index, too
                raise UserError(f"{self.path}: cannot be used ({reason}); make it and its folder writable.") from error
            if isinstance(error, sqlite3.OperationalError):
                raise UserError(f"{self.path}: cannot be used ({reason}); what was stored before is kept.") from error
            raise UserError(f"{self.path}: not a gallery, or damaged ({reason}); restore it from a copy.") from error
        except OSError as error:
            raise UserError(f"{error.filename or self.folder}: cannot be used ({error.strerror}).") from error

    @contextmanager
    def reading(self) -> Iterator[None]:
        """The same, and values that are not what they should be: the file may have been damaged, or made to mislead."""
        with self.reporting():
            try:
                yield
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
                raise UserError(f"{self.path}: damaged ({error}); restore it from a copy.") from error

    def state(self) -> tuple[int, int]:
        """What differs once anything was changed, by this program or by another."""
        return self._changes, self.run("PRAGMA data_version").fetchone()[0]

    def header(self, key: str) -> Any:
        """A value of the header."""
        return self.run("SELECT value FROM header WHERE key = ?", (key,)).fetchone()[0]

    def wipe(self) -> None:
        """Remove what deleted rows left behind in the files."""
        with self.alone():  # no crops are written meanwhile: those without a row are left from a kill
            rows = self.run("SELECT number, crop FROM views WHERE crop IS NOT NULL").fetchall()
            self.crops.remove_others(rows)
        self.run("VACUUM")
        # The log still holds old pages until it is cut to nothing; a reader that began before keeps it from that.
        if self.run("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise UserError(
                f"{self.path}: deleted, but another program reads so long that traces stay in the log beside it; end "
                "that program and open the gallery again."
            )
        with self.alone():
            self.run("UPDATE header SET value = 0 WHERE key = 'forgetting'")

    def close(self) -> None:
        """End."""
        with self.lock:
            self._connection.close()
