"""The MOTChallenge file formats: ``seqinfo.ini`` and the comma-separated rows of gt.txt, det.txt and results."""

import configparser
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid_tracker.errors import UserError

# Columns of a MOTChallenge row. gt.txt has 9 or 10 columns (flag, class, visibility), det.txt and results 7 to 10.
FRAME, IDENTITY, LEFT, TOP, WIDTH, HEIGHT, CONFIDENCE, CLASS, VISIBILITY = range(9)

FURTHEST = 1e9  # px; whatever lies further out, no picture shows
MOST = 2**53  # from here on a float64 does not hold every whole number
RATES, MOST_FRAMES, LARGEST = (0.001, 10_000.0), 10_000_000, 65_536


@dataclass(frozen=True, slots=True)
class SequenceInfo:
    """What a MOTChallenge ``seqinfo.ini`` says.

    Attributes
    ----------
    name : str
        Name of the sequence.
    frame_rate : float
        Frames per second.
    length : int
        Number of frames.
    width, height : int
        Size of the picture in pixels.
    image_folder : Path
        Folder of the pictures (it need not exist: some sequences come without pixels).
    image_extension : str
        Ending of the picture files, with its dot.
    """

    name: str
    frame_rate: float
    length: int
    width: int
    height: int
    image_folder: Path
    image_extension: str


def read_sequence_info(folder: Path) -> SequenceInfo:
    """Read ``folder/seqinfo.ini``.

    Raises
    ------
    UserError
        If the file is missing, or has no usable frame rate, length or size.
    """
    path = Path(folder) / "seqinfo.ini"
    if not path.is_file():
        raise UserError(f"{folder}: no seqinfo.ini there; a MOTChallenge sequence folder has one.")
    parser = configparser.ConfigParser()
    try:
        parser.read(path, encoding="utf-8-sig")
        section = parser["Sequence"]
        info = SequenceInfo(
            name=section.get("name", path.parent.name),
            frame_rate=section.getfloat("frameRate", 0.0),
            length=section.getint("seqLength", 0),
            width=section.getint("imWidth", 0),
            height=section.getint("imHeight", 0),
            image_folder=path.parent / section.get("imDir", "img1"),
            image_extension=section.get("imExt", ".jpg"),
        )
    except (configparser.Error, ValueError, KeyError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"{path}: not a MOTChallenge seqinfo.ini ({reason}).") from error
    if info.frame_rate <= 0 or info.length <= 0:
        raise UserError(f"{path}: frameRate and seqLength must both be given and positive.")
    if not (RATES[0] <= info.frame_rate <= RATES[1] and info.length <= MOST_FRAMES):
        raise UserError(
            f"{path}: frameRate {info.frame_rate:g} or seqLength {info.length} is no camera's; up to {RATES[1]:g} and "
            f"{MOST_FRAMES} are."
        )
    if max(info.width, info.height) > LARGEST:
        raise UserError(
            f"{path}: a picture of {info.width} x {info.height} is no camera's; correct imWidth and imHeight."
        )
    return info


def read_rows(path: Path) -> np.ndarray:
    """Read a MOTChallenge text file.

    Parameters
    ----------
    path : Path
        A gt.txt, det.txt or result file: comma (or white space) separated, at least 6 columns.

    Returns
    -------
    ndarray, float64 [R, C]
        The rows in the file's order; an empty file gives [0, 10].

    Raises
    ------
    UserError
        If the file is missing or a row is not numbers; the message names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file.")
    try:
        # utf-8-sig: result files written on Windows may begin with a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file; MOTChallenge files are comma-separated numbers.") from error
    delimiter = "," if "," in text[:2000] else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "input contained no data": an empty file is a valid result
            rows = np.loadtxt(text.splitlines(), delimiter=delimiter, ndmin=2, dtype=np.float64)
    except ValueError as error:
        raise UserError(f"{path}: {_first_bad_line(text, delimiter)}") from error
    if rows.size == 0:
        return np.zeros((0, 10))
    if rows.shape[1] < 6:
        raise UserError(f"{path}: {rows.shape[1]} columns; a row needs frame,id,left,top,width,height at least.")
    return rows


def _first_bad_line(text: str, delimiter: str | None) -> str:
    """Say which line keeps a file from being a table of numbers."""
    columns = None
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        fields = line.split(delimiter)
        try:
            [float(field) for field in fields]
        except ValueError:
            return f"line {number} is not numbers: {line.strip()[:80]!r}."
        columns = columns or len(fields)
        if len(fields) != columns:
            return f"line {number} has {len(fields)} columns where the lines before have {columns}."
    return "not a table of numbers."


def format_row(frame: int, identity: int, xyxy: np.ndarray, confidence: float) -> str:
    """One result row as the MOTChallenge evaluation reads it: ``frame,id,left,top,width,height,conf,-1,-1,-1``.

    Parameters
    ----------
    frame : int
        1-based frame number.
    identity : int
        The identity's number.
    xyxy : ndarray [4]
        Box in pixels.
    confidence : float
        Confidence of the detection.
    """
    left, top, right, bottom = (float(value) for value in xyxy)
    size = f"{left:.2f},{top:.2f},{right - left:.2f},{bottom - top:.2f}"
    return f"{frame},{identity},{size},{confidence:.4f},-1,-1,-1\n"
