"""What a run reads, and must therefore never write."""

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path


class Inputs:
    """What a run reads, and must therefore never write.

    Parameters
    ----------
    named : mapping of str to iterable of path
        Files and folders by what they are called in a message ("source", "detections"). Those that do not exist
        (names of models, URLs) and None are passed over.
    closed : iterable of path
        Folders in which nothing at all may be written, such as the gallery's.
    """

    def __init__(self, named: Mapping[str, Iterable[Path | str | None]], closed: Iterable[Path | str] = ()) -> None:
        self._files: dict[tuple[int, int], str] = {}
        self._names: dict[tuple[tuple[int, int] | None, str], str] = {}
        self._folders: dict[tuple[int, int], str] = {}
        self._around: dict[tuple[int, int], str] = {}
        self._closed = [Path(each).expanduser().resolve() for each in closed]
        self._known: dict[Path, tuple[int, int] | None] = {}
        for label, paths in named.items():
            for path in (Path(each).expanduser() for each in paths if each is not None):
                self._add(path, f"{label} ({path})")

    def _add(self, path: Path, text: str) -> None:
        identity = self._identity(path)
        if identity is None:
            return
        real = path.resolve()
        (self._folders if path.is_dir() else self._files)[identity] = text
        # The link's own place as well as that of the file that it leads to, whatever the case of the name.
        for each in (path.absolute(), real):
            self._names[self._identity(each.parent), normal(each.name)] = text
        for folder in real.parents:
            around = self._identity(folder)
            if around is None or around in self._around:
                break
            self._around[around] = text

    def _identity(self, path: Path) -> tuple[int, int] | None:
        """Device and inode, None where nothing is; remembered, as a batch asks for few folders many times."""
        if path not in self._known:
            try:
                found = path.stat()
                self._known[path] = (found.st_dev, found.st_ino)
            except (OSError, ValueError):
                self._known[path] = None
        return self._known[path]

    def conflict(self, output: Path) -> str | None:
        """Which input an output would destroy, in words; None = none."""
        real = output.parent.resolve() / output.name
        for folder in self._closed:
            if real.is_relative_to(folder):
                return f"gallery ({folder})"
        try:
            found = output.stat()
            identity: tuple[int, int] | None = (found.st_dev, found.st_ino)
        except OSError:
            identity = None
        named = self._names.get((self._identity(output.parent), normal(output.name)))
        if named or identity is None:
            return named
        if identity in self._files or identity in self._folders:
            return self._files.get(identity) or self._folders[identity]
        return self._around.get(identity) if output.is_dir() else None

    def around(self, output: Path) -> str | None:
        """Which input folder an output lies in, in words; None = none."""
        parents = (self._identity(each) for each in (output.parent.resolve() / output.name).parents)
        return next((self._folders[each] for each in parents if each in self._folders), None)


NOTHING = Inputs({})


def normal(name: str) -> str:
    """One form of names that some file system takes for the same."""
    return unicodedata.normalize("NFC", name).casefold()
