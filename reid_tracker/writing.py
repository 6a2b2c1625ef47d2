"""Files that the user named: refused before the work is done rather than after it, and written whole or not at all."""

import contextlib
import csv
import errno
import io
import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reid_tracker.errors import UserError

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # begins a text that a spreadsheet would run


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


def csv_table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> bytes:
    """A table for people as CSV; before a text that a spreadsheet would run stands a quote (`without_quote`)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(
        [f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell for cell in row] for row in rows
    )
    return text.getvalue().encode("utf-8", "replace")  # the name of a file may hold bytes that are no text


def without_quote(cell: str) -> str:
    """A text of `csv_table` as it was."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


def is_stream(path: Path | str) -> bool:
    """Whether this takes bytes without keeping them (a pipe, /dev/stdout): it is written to, never replaced.

    Raises
    ------
    UserError
        If no file can have this name.
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            raise UserError(f"{path}: no file can have this name; choose a shorter one.") from error
        return False  # nothing is there, or it shows when it is written
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


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
