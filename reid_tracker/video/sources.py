"""Opening what frames come from: video files, folders of pictures, MOTChallenge sequences."""

import glob
from collections.abc import Sequence
from pathlib import Path

from reid_tracker.errors import UserError
from reid_tracker.motchallenge import RATES, read_sequence_info
from reid_tracker.urls import is_url, masked
from reid_tracker.video.film import Film
from reid_tracker.video.folders import IMAGE_ENDINGS, Pictures, list_files, natural_key, number_pictures
from reid_tracker.video.frames import DEFAULT_FPS, Cut, Source

VIDEO_ENDINGS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".264", ".h264"}


def open_source(
    path: str | Path,
    *,
    fps: float | None = None,
    start: str | int | None = None,
    end: str | int | None = None,
    stride: int = 1,
) -> Source:
    """Open a video file, a folder of pictures or a MOTChallenge sequence folder.

    Parameters
    ----------
    path : str or Path
        What to open.
    fps : float, optional
        Frames per second that replace the source's own clock.
    start, end : str or int, optional
        First and last frame, both included: a frame number from 1 (``100``), seconds (``"12.5s"``) or a clock time
        (``"1:30"``, ``"0:01:30.5"``).
    stride : int
        Take every ``stride``-th frame of the range.

    Returns
    -------
    Source
        Checked to hold at least one readable frame.

    Raises
    ------
    UserError
        If the path cannot be read as one of the three, or the range is impossible.
    """
    _refuse_stream(path)
    path = Path(path).expanduser()
    check_fps(fps)
    cut = Cut.parse(start, end, stride)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder.")
    if not path.is_dir():
        return Film(path, path.stem, fps, cut)
    if (path / "seqinfo.ini").is_file():
        return _open_sequence(path, fps, cut)
    pictures = list_files(path, IMAGE_ENDINGS)
    if not pictures:
        hint = f'; for its videos give "{path}/*.mp4"' if list_files(path, VIDEO_ENDINGS) else ""
        raise UserError(f"{path}: no pictures and no seqinfo.ini in this folder{hint}.")
    source = Pictures(path, list(enumerate(pictures)), fps or DEFAULT_FPS, cut)
    if fps is None:
        source.notes.append(
            f"{source.name} is a folder of pictures: using {DEFAULT_FPS:g} fps; give --fps to change it."
        )
    return source


def check_fps(fps: float | None) -> None:
    """Raise a UserError about a number of frames per second that no camera has; None is passed over."""
    if fps is not None and not RATES[0] <= fps <= RATES[1]:
        raise UserError(f"fps {fps:g}: must be between {RATES[0]:g} and {RATES[1]:g}.")


def expand_sources(patterns: Sequence[str | Path]) -> list[Path]:
    """Turn files, folders and globs (those a shell left alone) into paths, each once, globs in natural order.

    Raises
    ------
    UserError
        If a path is missing or a glob matches nothing.
    """
    paths: dict[Path, None] = {}
    for pattern in patterns:
        _refuse_stream(pattern)
        path = Path(pattern).expanduser()
        if path.exists():  # first: a name may hold brackets
            paths[path] = None
        elif glob.has_magic(str(path)):
            matches = sorted(map(Path, glob.glob(str(path), recursive=True)), key=natural_key)  # noqa: PTH207 (absolute patterns)
            if not matches:
                raise UserError(f"{pattern}: nothing matches this pattern.")
            paths.update(dict.fromkeys(matches))
        else:
            raise UserError(f"{pattern}: no such file or folder.")
    return list(paths)


def _refuse_stream(given: str | Path) -> None:
    if is_url(given):  # first: a token may be longer than a file's name can be, and hold what a glob does
        raise UserError(
            f"{masked(str(given))}: a stream is no file; follow it with reid-tracker live, or save it first."
        )


def _open_sequence(folder: Path, fps: float | None, cut: Cut) -> Source:
    """Open a MOTChallenge sequence: its pictures, else its one video, else its frame numbers without pixels."""
    info = read_sequence_info(folder)
    pictures = list_files(info.image_folder, IMAGE_ENDINGS)
    if pictures:
        source = Pictures(folder, number_pictures(pictures), fps or info.frame_rate, cut)
        if len(pictures) < info.length:
            source.notes.append(f"{source.name}: {len(pictures)} of its {info.length} pictures are there.")
        return source
    videos = list_files(folder, VIDEO_ENDINGS)
    if len(videos) > 1:
        raise UserError(f"{folder}: no {info.image_folder.name} but {len(videos)} videos; give the one that is meant.")
    if not videos:
        source = Pictures(folder, [(index, None) for index in range(info.length)], fps or info.frame_rate, cut)
        source.width, source.height = info.width, info.height
        return source
    name, rate = folder.resolve().name, fps or info.frame_rate
    video = Film(videos[0], name, rate, cut)
    video.notes.append(f"{name} has no {info.image_folder.name}: using the frames of {videos[0].name} at {rate:g} fps.")
    return video
