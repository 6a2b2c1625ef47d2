"""The crops of a gallery in a folder: ``crops/000007/<random>.jpg``, files of this program alone.

The names come from a database that may be someone else's: they are accepted only if they are of this form, symbolic
links are not followed, and other files in the folder are left alone.
"""

import os
import re
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from reid_tracker.errors import UserError

NAME, FOLDER = re.compile(r"[0-9a-f]{32}\.jpg"), re.compile(r"[0-9]{6,}")


class CropFiles:
    """Crops by person and name.

    Parameters
    ----------
    folder : Path
        Made when the first crop is written, readable by its owner alone.
    gallery : Path
        The gallery, for messages.

    Raises
    ------
    UserError
        If it is a symbolic link.
    """

    def __init__(self, folder: Path, gallery: Path) -> None:
        self.folder, self._gallery = folder, gallery
        if folder.is_symlink():
            raise UserError(f"{folder}: a symbolic link; a gallery holds its crops itself, so move them here.")

    def write(self, number: int, data: bytes) -> str:
        """Write a crop; its name."""
        name = f"{uuid.uuid4().hex}.jpg"
        path = self.path(number, name)
        for folder in (self.folder, path.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(data)
        return name

    def read(self, number: int, name: str | None) -> bytes | None:
        """Read a crop; None where it is missing (it may just have been replaced)."""
        try:
            return self.path(number, name).read_bytes() if name else None
        except FileNotFoundError:
            return None

    def path(self, number: int, name: str) -> Path:
        """Where a crop lies; UserError where that is not inside of the gallery."""
        path = self.folder / f"{number:06d}" / name
        if not NAME.fullmatch(name) or path.parent.is_symlink() or path.is_symlink():
            raise UserError(
                f"{self._gallery}: the crop {name[:100]!r} of person {number} is none of this gallery's; someone "
                f"changed it. Forget {number}, or restore the gallery from a copy."
            )
        return path

    def paths(self, number: int, names: Iterable[str | None]) -> list[Path]:
        """Where crops lie; names that are none of this gallery's are left out."""
        found = []
        for name in names:
            with suppress(UserError):
                found += [self.path(number, name)] if name else []
        return found

    def of(self, number: int) -> list[Path]:
        """All crops of a person that are there."""
        return self._own(self.folder / f"{number:06d}")

    def remove(self, crops: Iterable[Path]) -> None:
        """Remove crops, and the folders that they leave empty."""
        folders = set()
        for crop in crops:
            crop.unlink(missing_ok=True)
            folders.add(crop.parent)
        for folder in folders:
            _tidy(folder)

    def remove_others(self, known: Iterable[tuple[int, str]]) -> None:
        """Remove every crop but these (number, name): they are left from a kill."""
        kept = {self.folder / f"{number:06d}" / name for number, name in known}
        folders = list(self.folder.iterdir()) if self.folder.is_dir() else []
        self.remove([crop for folder in folders for crop in self._own(folder) if crop not in kept])
        for folder in folders:
            _tidy(folder)

    @staticmethod
    def _own(folder: Path) -> list[Path]:
        """The crops in a person's folder, without files that this program did not make."""
        if folder.is_symlink() or not folder.is_dir() or not FOLDER.fullmatch(folder.name):
            return []
        return [each for each in folder.iterdir() if NAME.fullmatch(each.name) and not each.is_dir()]


def _tidy(folder: Path) -> None:
    """Remove a person's folder if it is empty."""
    is_own = FOLDER.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink()
    if is_own and not any(folder.iterdir()):
        folder.rmdir()
