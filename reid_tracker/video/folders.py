"""Folders of numbered pictures as a source of frames."""

import re
from collections.abc import Generator
from contextlib import suppress
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.pictures import read_picture
from reid_tracker.video.frames import Cut, Read, Source, UnreadableError

IMAGE_ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
MORE_PICTURES = {".heic", ".heif", ".avif", ".gif", ".jp2", ".jxl", ".dng", ".raw", ".cr2", ".nef"}
"""Endings of pictures that OpenCV does not read."""


class Pictures(Source):
    """Numbered pictures, or a sequence of known length without pixels (``None`` in place of each path)."""

    def __init__(self, folder: Path, entries: list[tuple[int, Path | None]], rate: float, cut: Cut) -> None:
        super().__init__(folder.resolve().name, rate, cut)
        self._entries = entries
        indices = np.array([index for index, _ in entries])
        self.frame_count = cut.count(indices, indices / rate)
        if self.frame_count == 0:
            raise UserError(
                self.describe_nothing_wanted(f"it has frames 1 to {indices[-1] + 1}, {indices[-1] / rate:.1f} s")
            )
        paths = [path for _, path in entries if path]
        self.has_pixels = bool(paths)
        if not paths:
            return
        for path in paths:
            with suppress(UnreadableError):
                self.height, self.width = _load_picture(path).shape[:2]
                self._look_closer(path)
                break
        else:
            raise UserError(f"{folder}: none of its {len(paths)} pictures can be read.")
        left_out = len(list_files(paths[0].parent, MORE_PICTURES))
        if left_out:
            self._note(
                f"{self.name}: {left_out} pictures are of kinds that cannot be read; convert them to JPEG or PNG."
            )

    def _look_closer(self, path: Path) -> None:
        """Tell of what a picture holds beyond what is read of it."""
        if (pages := cv2.imcount(str(path))) > 1:
            self._note(f"{path}: has {pages} pages, of which the first is read; save each as a picture of its own.")
        raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if raw is not None and raw.dtype != np.uint8:
            self._note(
                f"{path}: {8 * raw.dtype.itemsize} bits a pixel, of which the upper 8 are read; where it looks black, "
                "stretch the pictures to 8 bits first."
            )

    def _read(self) -> Generator[Read, None, None]:
        for index, path in self._entries:
            yield index, index / self._rate, partial(_load_picture, path) if path else lambda: None

    def _take_other_size(self, index: int, image: np.ndarray) -> np.ndarray:
        path, size = dict(self._entries)[index], f"{image.shape[1]}x{image.shape[0]}"
        before = f"{self.width}x{self.height}"
        raise UserError(f"{path}: {size}, where the pictures before are {before}; one folder holds one size.")


def number_pictures(pictures: list[Path]) -> list[tuple[int, Path | None]]:
    """Give each picture of a sequence its index: the number in its name less one, else its place in the folder."""
    numbers = [int(path.stem) for path in pictures if path.stem.isdecimal()]
    if len(set(numbers)) < len(pictures):
        return list(enumerate(pictures))
    first = min(1, *numbers)  # some number their pictures from 0
    return sorted((number - first, path) for number, path in zip(numbers, pictures, strict=True))


def list_files(folder: Path, endings: set[str]) -> list[Path]:
    """Files with one of these endings in natural order, hidden ones (macOS leaves ``._1.jpg``) left out."""
    files = folder.iterdir() if folder.is_dir() else []
    return sorted(
        (path for path in files if path.suffix.lower() in endings and path.name[0] != "." and path.is_file()),
        key=natural_key,
    )


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sort key under which ``frame2`` comes before ``frame10``."""
    return [
        (1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"([0-9]+)", str(path)) if part
    ]


def _load_picture(path: Path) -> np.ndarray:
    """Decode a picture, upright by its EXIF orientation."""
    image = read_picture(path)
    if image is None:
        raise UnreadableError(path)
    return image
