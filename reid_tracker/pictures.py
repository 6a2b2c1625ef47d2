"""Pictures that the user names."""

import io
import warnings
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from reid_tracker.errors import UserError

MOST_PIXELS = 1 << 27  # 16384 x 8192
# A smaller file of these kinds cannot hold many more, and is spared the look: data sets are read crop by crop.
SMALL, SIMPLE = 1 << 16, {".jpg", ".jpeg", ".png", ".bmp"}


def unreadable(path: Path) -> str:
    """Why a picture could not be read, and what to do."""
    if not path.exists():
        return "no such file; put it there, or take it out of the list of crops"
    return "not a readable picture; remove it or copy it again"


def read_picture(path: Path) -> np.ndarray | None:
    """Decode a picture, upright by its EXIF orientation.

    Returns
    -------
    ndarray, uint8 [H, W, 3], or None
        BGR; None if it is no picture, or damaged.

    Raises
    ------
    UserError
        If it holds more than `MOST_PIXELS`: a small file may ask for gigabytes.
    """
    with suppress(OSError):
        if path.suffix.lower() not in SIMPLE or path.stat().st_size > SMALL:
            _check_size(path, str(path))
    with suppress(cv2.error):
        return cv2.imread(str(path), cv2.IMREAD_COLOR)
    return None


def decode_picture(data: bytes, name: str, most_pixels: int = MOST_PIXELS) -> np.ndarray:
    """Decode a picture's bytes.

    Parameters
    ----------
    data : bytes
        JPEG or PNG.
    name : str
        What error messages call it.
    most_pixels : int
        It may hold.

    Returns
    -------
    ndarray, uint8 [H, W, 3]
        BGR.

    Raises
    ------
    UserError
        If it is no picture, damaged, or holds more pixels.
    """
    picture = None
    if data.startswith((b"\xff\xd8", b"\x89PNG")):  # of other kinds the size may not be told beforehand
        _check_size(io.BytesIO(data), name, most_pixels)
        with suppress(cv2.error):
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise UserError(f"{name}: not a picture (JPEG or PNG), or a damaged one.")
    return picture


def _check_size(file: Path | io.BytesIO, name: str, most_pixels: int = MOST_PIXELS) -> None:
    """Read the header alone; what Pillow does not know, OpenCV's own limit bounds."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file) as picture:
            if picture.width * picture.height <= most_pixels:
                return
    except Image.DecompressionBombError:  # Pillow's own limit, which is not much higher
        pass
    except Exception:  # whatever its many readers raise: not a picture for it
        return
    raise UserError(f"{name}: has more than {most_pixels:,} pixels; scale it down first.")
