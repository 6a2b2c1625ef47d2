"""Who owns a file: decided before the first byte, in one place for every command that writes.

Each folder of results keeps a record of what this program wrote there (`.reid_tracker/files.json`). A file is ours if
its size and time are those of the record; whatever else is there, or was changed since, belongs to the user. New
results are written in place where nothing is, and otherwise beside (`walk.part.mp4`) and renamed when they are whole.
A claim holds a lock that ends with its process, so that two runs never write one file.
"""

import hashlib
import json
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from reid_tracker.errors import UserError
from reid_tracker.inputs import NOTHING, Inputs, normal
from reid_tracker.writing import is_stream, make_empty, write_whole

FOLDER, RECORD, LOCK = ".reid_tracker", "files.json", "files.lock"
RECORD_SECONDS = 30.0  # for another run to end its look at the record
FRESH = ".new"  # ends the names of what is written anew
_EMPTY = "empty"  # mark of a file that is about to be made
_MARKS = 2  # of one file: those before and after a rename, as a kill may come in between


def check_outputs(
    files: Iterable[Path | str | None],
    inputs: Inputs = NOTHING,
    of: Sequence[str] = (),
    overwrite: bool = False,
    folders: Iterable[Path | str] = (),
) -> None:
    """Raise a UserError about the first output that must not be written; changes nothing.

    Parameters
    ----------
    files, folders : iterable of path
        What is going to be written; None is passed over.
    inputs : Inputs
        What the run reads.
    of : sequence of str
        What the results are of (`source_marks`, or a command's name). Only results of the same are replaced.
    overwrite : bool
        Replace files of any origin; never an input.
    """
    _Check(inputs, of, overwrite).look(_listed(files), _listed(folders))


def source_marks(path: Path | str) -> list[str]:
    """What a source is known by: its place, and for a file its name, size and time, so that it may be moved."""
    path = Path(path).expanduser()
    marks = [_digest(str(path.resolve()))]
    with suppress(OSError):
        found = path.stat()
        if stat.S_ISREG(found.st_mode):
            marks.append(_digest(f"{path.name} {found.st_size} {found.st_mtime_ns}"))
    return marks


def is_finished(output: Path, of: Sequence[str]) -> bool:
    """Whether a file or folder is there as this program finished it, made of what has these `source_marks`."""
    entry = _read(output.parent)["files"].get(_key(output)) if output.parent.is_dir() else None
    return entry is not None and bool(set(entry.get("of") or ()) & set(of)) and _is_written(output, entry)


@contextmanager
def claim(
    files: Iterable[Path | str | None],
    inputs: Inputs = NOTHING,
    of: Sequence[str] = (),
    overwrite: bool = False,
    folders: Iterable[Path | str] = (),
    private: bool = False,
) -> "Iterator[Claim]":
    """Own some outputs for the time of a run; parameters as for `check_outputs`.

    With ``private`` only this user may read what is made, whatever the umask. What was begun and not completed when the
    block ends is kept where it is.

    Raises
    ------
    UserError
        If one of them must not be written, another run is writing it, or a folder cannot be made.
    """
    claimed = Claim(_listed(files), _listed(folders), inputs, of, overwrite, private)
    try:
        yield claimed
    finally:
        claimed.release()


class Claim:
    """Outputs that this run owns; made by `claim`."""

    def __init__(
        self,
        files: list[Path],
        folders: list[Path],
        inputs: Inputs,
        of: Sequence[str],
        overwrite: bool,
        private: bool = False,
    ):
        self._of, self._private = list(of), private
        self._folders = set(folders)
        self._places: dict[Path, Path] = {}
        self._inodes: dict[Path, int] = {}
        self._made: list[Path] = []
        self._locks: dict[Path, FileLock] = {}
        check = _Check(inputs, of, overwrite)
        outputs = files + folders
        try:
            for parent in dict.fromkeys(each.parent for each in outputs):
                self._take(parent, [each for each in outputs if each.parent == parent])
            check.look(files, folders, is_claimed=True)
        except BaseException:
            self.release()
            raise

    def _take(self, parent: Path, outputs: list[Path]) -> None:
        """Lock the outputs in one folder."""
        own = parent / FOLDER
        with _naming(parent):
            for folder in (*reversed(parent.parents), parent, own):
                if not folder.exists():
                    folder.mkdir(exist_ok=True)
                    self._made.append(folder)
        with _record(parent) as record:
            record["running"] = {key: name for key, name in record["running"].items() if _is_alive(parent, name)}
            for fresh in own.glob(f"*{FRESH}"):  # of a run that was killed meanwhile
                if not _is_alive(parent, f"{fresh.name.partition('-')[0]}.lock"):
                    _remove(fresh)
            for each in (each for output in outputs for each in (output, part_of(output))):
                _check_free(each, record)
            lock = FileLock(own / f"{uuid.uuid4().hex}.lock", timeout=0, thread_local=False)
            lock.acquire()
            self._locks[parent] = lock
            for output in outputs:
                record["running"] |= dict.fromkeys(map(_key, (output, part_of(output))), Path(lock.lock_file).name)

    def begin(self, output: Path | str, grows: bool = True) -> Path:
        """Give the place to write to: the output's own where nothing is there yet, else one beside it.

        Parameters
        ----------
        output : path
            One of those claimed.
        grows : bool
            An empty file or folder is made there now; otherwise its writer makes it whole.
        """
        output = Path(output).expanduser()
        if is_stream(output):
            if grows:
                raise UserError(f"{output}: cannot be written, as it is no ordinary file; name another place.")
            return output
        place = part_of(output) if os.path.lexists(output) and not _is_empty_folder(output) else output
        # A kill may come at any time: before it is made a file is known by being empty, unfinished by its inode.
        with _naming(place), _record(output.parent) as record:
            if place != output and os.path.lexists(place):
                _remove(place)
            if grows:
                record["files"][_key(place)] = {"of": self._of, "marks": [_EMPTY]}
        if grows:
            with _naming(place), _record(output.parent) as record:
                if output in self._folders:
                    place.mkdir(mode=0o700 if self._private else 0o777, exist_ok=True)
                else:
                    make_empty(place, self._private)
                self._inodes[place] = place.stat().st_ino
                record["files"][_key(place)] = {"of": self._of, "marks": [f"inode {self._inodes[place]}"]}
        self._places[output] = place
        return place

    def write(self, output: Path | str, data: bytes) -> None:
        """Begin an output and write all of it; UserError if that cannot be done."""
        write_whole(self.begin(output, grows=False), data, self._private)

    def place(self, output: Path | str) -> Path:
        """Where an output is now."""
        return self._places.get(Path(output), Path(output))

    def folder(self, output: Path | str) -> Path:
        """The folder beside an output in which this program keeps what is its own."""
        return self.place(output).parent / FOLDER

    def rewrite(self, output: Path | str, change: Callable[[str], str]) -> None:
        """Put each line of a finished text through ``change``; the file is replaced once the new one is whole.

        Raises
        ------
        OSError
            If that cannot be written; then the file is as it was.
        """
        with (
            self.renewed(output) as fresh,
            self.place(output).open(encoding="utf-8", newline="") as old,
            fresh.open("w", encoding="utf-8", newline="") as new,
        ):
            new.writelines(map(change, old))

    @contextmanager
    def renewed(self, output: Path | str) -> Iterator[Path]:
        """Give a place to write a finished output anew; it replaces the old one if the block ends well.

        Raises
        ------
        OSError
            If it cannot be made or put there; then the file is as it was.
        """
        place = self.place(output)
        lock = Path(self._locks[place.parent].lock_file)
        fresh = lock.with_name(f"{lock.stem}-{uuid.uuid4().hex[:8]}{FRESH}")
        try:
            make_empty(fresh, self._private)
            yield fresh
            inode = fresh.stat().st_ino
            with _record(place.parent) as record:  # under both marks, as a kill may come in between
                entry = record["files"].setdefault(_key(place), {"of": self._of, "marks": []})
                entry["marks"] = [*entry["marks"], f"inode {inode}"][-_MARKS:]
            self._check_there(place)
            fresh.replace(place)
            self._inodes[place] = inode
        finally:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)

    def complete(self, *outputs: Path | str) -> None:
        """Put finished outputs, all that were begun if none is named, in place of those of earlier runs."""
        chosen = [Path(each) for each in outputs] or list(self._places)
        marks: dict[Path, str] = {}
        for output in chosen:
            self._check_there(self._places[output])
            with _naming(output):
                self._protect(self._places[output])
                marks[output] = _mark(self._places[output])
        for parent in dict.fromkeys(each.parent for each in chosen):
            with _record(parent) as record:
                for output in (each for each in chosen if each.parent == parent):
                    self._note(record["files"], output, marks[output])
        for output in chosen:
            place = self._places.pop(output)
            if place != output:
                with _naming(output):
                    _replace(place, output)

    def _protect(self, place: Path) -> None:
        """Where that is wanted, let nobody else read what was written, nor what others made anew in its place."""
        for each in (place, *place.rglob("*")) if self._private else ():
            each.chmod(0o700 if each.is_dir() else 0o600)

    def _note(self, entries: dict[str, Any], output: Path, mark: str) -> None:
        """Record a finished output; one about to be renamed under both marks, as a kill may come in between."""
        place = self._places[output]
        before = entries.get(_key(output), {}).get("marks", []) if place != output else []
        kept = [each for each in before if each != _EMPTY and not each.startswith("inode")]
        entries[_key(output)] = {"of": self._of, "marks": [*kept, mark][-_MARKS:]}
        if place != output:
            entries[_key(place)] = {"of": self._of, "marks": [mark]}

    def _check_there(self, place: Path) -> None:
        """Raise a UserError if a file was removed while it was written."""
        try:
            is_there = self._inodes.get(place) in (None, place.stat().st_ino)
        except OSError:
            is_there = False
        if not is_there:
            raise UserError(f"{place}: was moved or deleted while the run wrote it; run it again.")

    def discard(self, *outputs: Path | str) -> None:
        """Remove what was begun, for example because nothing was written into it."""
        for output in map(Path, outputs):
            place = self._places.pop(output, None)
            if place is not None:
                with suppress(OSError):
                    _remove(place)

    def keep(self) -> dict[Path, Path]:
        """Keep what was begun and not completed where it is; its places by output."""
        kept = {output: place for output, place in self._places.items() if place.exists()}
        for output, place in kept.items():
            with suppress(OSError):
                self._protect(place)
            # The run has an error to tell already: one of the record is not worth more.
            with suppress(UserError, OSError), _record(output.parent) as record:
                record["files"][_key(place)] = {"of": self._of, "marks": [_mark(place)]}
        self._places = {}
        return kept

    def release(self) -> None:
        """End the claim; empty files that were begun, and folders that were made for it, go again."""
        empty = (output for output, place in self._places.items() if place.exists() and _is_empty(place))
        self.discard(*list(empty))
        self.keep()
        for parent, lock in self._locks.items():
            with suppress(UserError, OSError), _record(parent) as record:
                name = Path(lock.lock_file).name
                record["running"] = {key: each for key, each in record["running"].items() if each != name}
                there = {_key(each) for each in parent.iterdir()}
                record["files"] = {key: each for key, each in record["files"].items() if key in there}
            with suppress(OSError):
                Path(lock.lock_file).unlink()  # while it is held: its name is never used again
            lock.release()
        self._locks = {}
        for folder in reversed(self._made):
            with suppress(OSError, Timeout):
                if folder.name != FOLDER:
                    folder.rmdir()
                    continue
                with FileLock(folder / LOCK, timeout=0, thread_local=False):
                    if not any(_read(folder.parent).values()):
                        shutil.rmtree(folder)


class _Check:
    """What must not be written."""

    def __init__(self, inputs: Inputs, of: Sequence[str], overwrite: bool) -> None:
        self._inputs, self._of, self._overwrite = inputs, set(of), overwrite

    def look(self, files: list[Path], folders: list[Path], is_claimed: bool = False) -> None:
        """Raise a UserError about the first of these outputs; those claimed are locked by this run itself."""
        seen: set[tuple[Path, str]] = set()
        records: dict[Path, dict[str, Any]] = {}
        for output in files + folders:
            record = records.setdefault(output.parent, _read(output.parent))
            for each in (output, part_of(output)):
                name = each.parent.resolve(), normal(each.name)
                if name in seen:
                    raise UserError(f"{each}: two results would go into this file; name them apart.")
                seen.add(name)
                if not is_claimed and _is_alive(output.parent, record["running"].get(_key(each))):
                    _check_free(each, record)
                self._look_at(each, record["files"].get(_key(each), {}), is_folder=output in folders)

    def _look_at(self, path: Path, entry: dict[str, Any], is_folder: bool) -> None:
        is_there = os.path.lexists(path) and not (is_folder and _is_empty_folder(path))
        is_written = is_there and _is_written(path, entry)
        is_ours = is_written and (not self._of or not entry.get("of") or bool(self._of & set(entry["of"])))
        conflict = self._inputs.conflict(path)
        if is_there and not is_ours and self._overwrite:  # what is there in a folder that is read, is read
            conflict = conflict or self._inputs.around(path)
        if conflict:
            raise UserError(f"{path}: the result would overwrite its own {conflict}; name another place.")
        if is_there and path.is_dir() and not is_folder:
            raise UserError(f"{path}: cannot be written, as it is a folder; name a file.")
        if is_there and not is_ours and not self._overwrite:
            reason = (
                "holds results of something else"
                if is_written
                else "was not written by this program, or was changed since"
            )
            raise UserError(f"{path}: is there already and {reason}; name another place, or give --overwrite.")


def create_new(path: Path, private: bool = False) -> Path:
    """Make an empty file that was not there before, numbered where the name is taken; no other program has it.

    Raises
    ------
    UserError
        If it cannot be made.
    """
    candidate, number = path, 1
    while True:
        with _naming(candidate):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                make_empty(candidate, private)
                return candidate
            except FileExistsError:
                number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")


def part_of(output: Path) -> Path:
    """Where an output is written while an older one stays: ``walk.part.mp4`` can be played as it is."""
    return output.with_name(f"{output.stem}.part{output.suffix}")


def _listed(paths: Iterable[Path | str | None]) -> list[Path]:
    """Those that are files: a pipe has no owner."""
    return [path for path in (Path(each).expanduser() for each in paths if each is not None) if not is_stream(path)]


def _key(path: Path) -> str:
    """A file's name in the record; JSON holds no bytes that are no text."""
    return normal(path.name).encode("utf-8", "backslashreplace").decode()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _mark(path: Path) -> str:
    """What a finished file or folder is known by."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return f"{found.st_size} {found.st_mtime_ns}"
    rows = []
    for folder, _, names in os.walk(path):
        for each in (Path(folder) / name for name in names):
            about = each.lstat()
            rows.append(f"{each.relative_to(path)} {about.st_size} {about.st_mtime_ns}")
    return _digest("\n".join(sorted(rows)))


def _is_written(path: Path, entry: dict[str, Any]) -> bool:
    """Whether a file is the recorded one."""
    marks = entry.get("marks") or []
    try:
        found = path.lstat()
        is_made = _EMPTY in marks and stat.S_ISREG(found.st_mode) and not found.st_size
        return is_made or f"inode {found.st_ino}" in marks or _mark(path) in marks
    except OSError:
        return False


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def _is_empty(path: Path) -> bool:
    return _is_empty_folder(path) if path.is_dir() else path.stat().st_size == 0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _replace(place: Path, output: Path) -> None:
    """Rename; a folder cannot replace another, so the older one steps aside first."""
    if not (output.is_dir() and not output.is_symlink()):
        if place.is_dir() and os.path.lexists(output):
            output.unlink()
        place.replace(output)
        return
    aside = output.parent / FOLDER / f"{uuid.uuid4().hex}.old"
    output.rename(aside)
    try:
        place.rename(output)
    except OSError:
        aside.rename(output)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _check_free(path: Path, record: dict[str, Any]) -> None:
    """Raise a UserError if another run owns a file."""
    if _key(path) in record["running"]:
        raise UserError(f"{path}: another run is writing it; wait until that ends, or name another place.")


def _is_alive(parent: Path, name: str | None) -> bool:
    """Whether the run that made a lock still holds it; that of one that was killed goes."""
    lock = parent / FOLDER / str(name)
    if not lock.is_file():
        return False
    try:
        with FileLock(lock, timeout=0, thread_local=False):
            lock.unlink(missing_ok=True)
        return False
    except Timeout:
        return True


def _read(parent: Path) -> dict[str, Any]:
    """The record of a folder; empty if it cannot be read, so that nothing is taken for ours."""
    try:
        return {
            name: dict(part) for name, part in _parse((parent / FOLDER / RECORD).read_text(encoding="utf-8")).items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {"files": {}, "running": {}}


@lru_cache(maxsize=4)  # a batch asks for one record many times
def _parse(text: str) -> dict[str, dict[str, Any]]:
    found = json.loads(text)
    files = {str(key): each for key, each in found["files"].items() if isinstance(each, dict)}
    return {"files": files, "running": {str(key): str(each) for key, each in found["running"].items()}}


@contextmanager
def _record(parent: Path) -> Iterator[dict[str, Any]]:
    """The record of a folder, alone; written if the block ends well."""
    own = parent / FOLDER
    try:
        with FileLock(own / LOCK, timeout=RECORD_SECONDS, thread_local=False):
            record = _read(parent)
            yield record
            if not (own / ".gitignore").exists():
                (own / ".gitignore").write_text("*\n")
            write_whole(own / RECORD, (json.dumps(record) + "\n").encode())
    except Timeout as error:
        raise UserError(f"{own / LOCK}: another run holds it for too long; end that, or name another place.") from error
    except OSError as error:
        raise UserError(f"{own}: cannot be written ({error.strerror}); name another place.") from error


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn a failing system call into a UserError that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); name another place.") from error
