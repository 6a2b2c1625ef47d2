"""Text that the user names."""

from pathlib import Path

from reid_tracker.errors import UserError


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises
    ------
    UserError
        If it cannot be read, or is none.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file in UTF-8.") from error
