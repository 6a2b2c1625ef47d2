"""Files that the user named: refused before the work is done rather than after it, and written whole or not at all."""

import contextlib
import os
import tempfile
from pathlib import Path

from reid_tracker.errors import UserError


def check_writable(*paths: Path | str | None) -> None:
    """Raise a UserError about the first of these files that cannot be written; changes nothing. None is passed over."""
    for path in (Path(each) for each in paths if each is not None and not is_stream(each)):
        folder = next(each for each in path.absolute().parents if each.exists())  # the rest will be made
        if path.is_dir():
            raise UserError(f"{path}: cannot be written, as it is a folder; name a file.")
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({folder}: {error.strerror}); choose another place.") from error


def printable(text: object) -> str:
    """What may be shown in a terminal: the name of a file or person may hold what moves its cursor or colours it."""
    kept = (each if each.isprintable() or each == "\n" or "\udc80" <= each <= "\udcff" else "?" for each in str(text))
    return "".join(kept)  # bytes that are no text stay: they are how a file is found again


def is_stream(path: Path | str) -> bool:
    """Whether this takes bytes without keeping them (a pipe, /dev/stdout): it is written to, never replaced."""
    path = Path(path)
    return path.exists() and not path.is_file() and not path.is_dir()


def make_empty(path: Path, private: bool) -> None:
    """Make an empty file that is not there yet, for this user only or as the umask says."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600 if private else 0o666))


def write_whole(path: Path | str, data: bytes, private: bool = False) -> None:
    """Write beside the place and rename, so that no half file ever bears the name; the folder is made.

    With ``private`` only this user may read what is made, whatever the umask.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        if is_stream(path):
            path.write_bytes(data)
            return
        path.parent.mkdir(0o700 if private else 0o777, parents=True, exist_ok=True)
        part.unlink(missing_ok=True)  # of a killed run of the same number
        make_empty(part, private)
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another place.") from error
