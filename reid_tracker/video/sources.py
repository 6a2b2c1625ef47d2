"""Where frames come from: video files, folders of pictures, MOTChallenge sequences; cut to a range, with true times."""

import glob
import math
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.motchallenge import read_sequence_info
from reid_tracker.pictures import read_picture
from reid_tracker.video.clock import Clock
from reid_tracker.video.upright import Upright, fit

IMAGE_ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
VIDEO_ENDINGS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".264", ".h264"}
LISTS = {"hls", "dash", "concat"}
"""Formats that name files rather than hold a film."""
MORE_PICTURES = {".heic", ".heif", ".avif", ".gif", ".jp2", ".jxl", ".dng", ".raw", ".cr2", ".nef"}
"""Endings of pictures that OpenCV does not read."""
LEAP = 10.0
"""Seconds between two packets from which a file's stated duration is not to be trusted."""
DEFAULT_FPS = 25.0
"""Frames per second of a folder of pictures unless stated otherwise."""

# One frame as a reader sees it: index, seconds (None: not told), and how to get its pixels if they are wanted.
_Load = Callable[[], np.ndarray | None]
_Read = tuple[int, float | None, _Load]


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a source.

    Attributes
    ----------
    image : ndarray, uint8 [H, W, 3], BGR, or None
        The pixels, upright; None when the sequence comes without pixels.
    index : int
        Number of the frame in its source, from 0; MOTChallenge text writes ``index + 1``.
    timestamp : float
        Seconds since the source's first frame, by the source's own clock; strictly increasing.
    """

    image: np.ndarray | None
    index: int
    timestamp: float


class _UnreadableError(Exception):
    """One picture of a folder cannot be decoded."""


@dataclass(frozen=True)
class _Cut:
    """Which frames are wanted: inclusive bounds by index and by time, then every ``stride``-th."""

    first_index: float = 0
    last_index: float = math.inf
    first_time: float = -math.inf
    last_time: float = math.inf
    stride: int = 1

    @classmethod
    def parse(cls, start: str | int | None, end: str | int | None, stride: int) -> "_Cut":
        if stride < 1:
            raise UserError(f"stride {stride}: must be 1 (every frame) or more.")
        first, last = _parse_bound(start, "start"), _parse_bound(end, "end")
        if first and last and type(first) is type(last) and first > last:
            raise UserError(f"start {start} lies after end {end}; swap them.")
        bounds: dict[str, float] = {}
        # Numbers are 1-based. Times get a microsecond of grace: 12.5 s of a 1/30 s clock is not exactly 12.5.
        for name, bound, grace in (("first", first, -1e-6), ("last", last, 1e-6)):
            if isinstance(bound, int):
                bounds[f"{name}_index"] = bound - 1
            elif bound is not None:
                bounds[f"{name}_time"] = bound + grace
        return cls(stride=stride, **bounds)

    def contains(self, index: Any, timestamp: Any) -> Any:
        """Whether frames lie inside the bounds; scalars or arrays."""
        return (
            (self.first_index <= index)
            & (index <= self.last_index)
            & (self.first_time <= timestamp)
            & (timestamp <= self.last_time)
        )

    def is_past(self, index: int, timestamp: float) -> bool:
        """Whether nothing wanted can follow."""
        return index > self.last_index or timestamp > self.last_time

    def count(self, indices: np.ndarray, timestamps: np.ndarray) -> int:
        """How many of these frames are taken."""
        return math.ceil(np.count_nonzero(self.contains(indices, timestamps)) / self.stride)

    def count_of(self, frames: int, rate: float) -> int:
        """How many are taken of so many frames at even steps."""
        first = max(self.first_index, math.ceil(max(self.first_time, 0.0) * rate), 0)
        last = min(self.last_index, frames - 1, self.last_time * rate)
        return max(math.ceil((math.floor(last) - first + 1) / self.stride), 0)


class Source:
    """The frames of one video, folder or sequence; iterate as often as wanted, each time from the start.

    Attributes
    ----------
    name : str
        Stem of the file or name of the folder: what output files are called.
    width, height : int
        Size of the upright picture in pixels.
    frame_rate : float
        Nominal frames per second after the stride.
    frame_count : int or None
        Number of frames expected, None when unknown. A damaged file gives fewer, a variable rate may give others.
    has_pixels : bool
        Whether frames carry an image.
    notes : list of str
        Sentences for the user. Some are known at once, others (damage, repaired times) after reading.
    corrupt_frames : int
        Frames that were damaged or lost in the last reading.
    corrupt_after : int or None
        Number (from 1) of the last sound frame before the first damage, 0 when the very first was hit.
    """

    def __init__(self, name: str, rate: float, cut: _Cut) -> None:
        self.name = name
        self.width = self.height = 0
        self.frame_rate = rate / cut.stride
        self.frame_count: int | None = None
        self.has_pixels = True
        self.notes: list[str] = []
        self.corrupt_frames = 0
        self.corrupt_after: int | None = None
        self._rate = rate
        self._cut = cut
        self._other_sizes: list[tuple[int, ...]] = []

    def __iter__(self) -> Iterator[Frame]:
        self.corrupt_frames, self.corrupt_after = 0, None
        position, index, clock = 0, -1, Clock[_Load](self._rate)
        frames = self._read()
        try:
            for index, timestamp, load in clock.run(frames):
                if self._cut.is_past(index, timestamp):
                    break
                if not self._cut.contains(index, timestamp):
                    continue
                position += 1
                if (position - 1) % self._cut.stride:
                    continue
                try:
                    image = load()
                except _UnreadableError:
                    self._add_damage(index)
                    continue
                if image is not None and image.shape[:2] != (self.height, self.width):
                    image = self._take_other_size(index, image)
                yield Frame(image, index, timestamp)
        finally:
            frames.close()
            if self.corrupt_frames:
                lost = f"{self.corrupt_frames} damaged frame{'s' * (self.corrupt_frames > 1)}"
                self._note(f"{self.name}: {lost}, the first after frame {self.corrupt_after}.")
            if clock.repaired:
                self._note(f"{self.name}: {clock.repaired} frames had no increasing timestamp; theirs were estimated.")
            if clock.sets:
                times = "" if clock.sets == 1 else f" and {clock.sets - 1} times later"
                self._note(f"{self.name}: its clock was set after frame {clock.first_set}{times}; time goes on evenly.")
        if position == 0:
            raise UserError(self._describe_nothing_wanted(f"looked at up to frame {index + 1}"))

    def _read(self) -> Generator[_Read, None, None]:
        raise NotImplementedError

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def _add_damage(self, index: int, count: int = 1) -> None:
        """Count frames from ``index`` on as damaged."""
        self.corrupt_frames += count
        self.corrupt_after = index if self.corrupt_after is None else self.corrupt_after

    def _take_other_size(self, index: int, image: np.ndarray) -> np.ndarray:
        """Go on with a picture of another size than those before."""
        before = f"{self.width}x{self.height}"
        if image.shape not in self._other_sizes:
            self._other_sizes.append(image.shape)
            self._note(
                f"{self.name}: from frame {index + 1} on the picture is {image.shape[1]}x{image.shape[0]} instead of "
                f"{before}; it is scaled to that."
            )
        return fit(image, self.width, self.height)

    def _describe_nothing_wanted(self, extent: str) -> str:
        return f"{self.name}: no frame lies between start and end ({extent})."


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
    path = Path(path).expanduser()
    if fps is not None and not 0 < fps < math.inf:
        raise UserError(f"fps {fps}: must be a positive number.")
    cut = _Cut.parse(start, end, stride)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder.")
    if not path.is_dir():
        return _VideoFile(path, path.stem, fps, cut)
    if (path / "seqinfo.ini").is_file():
        return _open_sequence(path, fps, cut)
    pictures = _list_files(path, IMAGE_ENDINGS)
    if not pictures:
        hint = f'; for its videos give "{path}/*.mp4"' if _list_files(path, VIDEO_ENDINGS) else ""
        raise UserError(f"{path}: no pictures and no seqinfo.ini in this folder{hint}.")
    source = _Pictures(path, list(enumerate(pictures)), fps or DEFAULT_FPS, cut)
    if fps is None:
        source.notes.append(
            f"{source.name} is a folder of pictures: using {DEFAULT_FPS:g} fps; give --fps to change it."
        )
    return source


def expand_sources(patterns: Sequence[str | Path]) -> list[Path]:
    """Turn files, folders and globs (those a shell left alone) into paths, each once, globs in natural order.

    Raises
    ------
    UserError
        If a path is missing or a glob matches nothing.
    """
    paths: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if path.exists():  # first: a name may hold brackets
            paths[path] = None
        elif glob.has_magic(str(path)):
            matches = sorted(map(Path, glob.glob(str(path), recursive=True)), key=_natural_key)  # noqa: PTH207 (absolute patterns)
            if not matches:
                raise UserError(f"{pattern}: nothing matches this pattern.")
            paths.update(dict.fromkeys(matches))
        elif "://" in str(pattern):
            scheme = str(pattern).partition("://")[0]
            raise UserError(f"{scheme}://...: a stream is no file; follow it with reid-tracker live, or save it first.")
        else:
            raise UserError(f"{pattern}: no such file or folder.")
    return list(paths)


class _Pictures(Source):
    """Numbered pictures, or a sequence of known length without pixels (``None`` in place of each path)."""

    def __init__(self, folder: Path, entries: list[tuple[int, Path | None]], rate: float, cut: _Cut) -> None:
        super().__init__(folder.resolve().name, rate, cut)
        self._entries = entries
        indices = np.array([index for index, _ in entries])
        self.frame_count = cut.count(indices, indices / rate)
        if self.frame_count == 0:
            raise UserError(
                self._describe_nothing_wanted(f"it has frames 1 to {indices[-1] + 1}, {indices[-1] / rate:.1f} s")
            )
        paths = [path for _, path in entries if path]
        self.has_pixels = bool(paths)
        if not paths:
            return
        for path in paths:
            with suppress(_UnreadableError):
                self.height, self.width = _load_picture(path).shape[:2]
                self._look_closer(path)
                break
        else:
            raise UserError(f"{folder}: none of its {len(paths)} pictures can be read.")
        left_out = len(_list_files(paths[0].parent, MORE_PICTURES))
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

    def _read(self) -> Generator[_Read, None, None]:
        for index, path in self._entries:
            yield index, index / self._rate, partial(_load_picture, path) if path else lambda: None

    def _take_other_size(self, index: int, image: np.ndarray) -> np.ndarray:
        path, size = dict(self._entries)[index], f"{image.shape[1]}x{image.shape[0]}"
        before = f"{self.width}x{self.height}"
        raise UserError(f"{path}: {size}, where the pictures before are {before}; one folder holds one size.")


class _VideoFile(Source):
    """A video file, decoded by FFmpeg through PyAV.

    A range is reached by decoding and dropping what comes before, not by seeking: only so is every index exact.
    """

    def __init__(self, path: Path, name: str, fps: float | None, cut: _Cut) -> None:
        self._path, self._fps = path, fps
        with _open_container(path) as container:
            stream = container.streams.best("video")
            rate = _nominal_rate(container, stream)
            super().__init__(name, fps or rate, cut)
            first = next((picture for picture in self._decode(container, stream, []) if picture is not None), None)
            if first is None:
                raise UserError(f"{path}: not one frame of it can be decoded.")
            self.height, self.width = Upright(stream)(first)().shape[:2]
            films = [each for each in container.streams.video if not _is_cover(each)]
            if len(films) > 1:
                self._note(f"{path.name} holds {len(films)} films: stream {stream.index} is used, the others are not.")
            self._has_times = first.pts is not None
            if fps is None and (not self._has_times or invents_times(container)):
                self._fps = rate
                self._note(f"{path.name} has no timestamps: using its nominal {rate:g} fps; give --fps to change it.")
            count = round((container.duration or 0) / av.time_base * rate)
            # The header's count is exact, unless it counts empty chunks (AVI) or what an edit list trims (mp4).
            if stream.frames and (not count or stream.frames <= 1.05 * count + 1):
                count = stream.frames
        if count > _size_of(
            container, path
        ):  # fewer bytes than frames: a clock that was set made the film seem so long
            count = 0
        if count:
            # Refuse at once what is far out; what is off by a few frames shows while reading.
            if cut.first_index > 1.1 * count + 10 or cut.first_time > 1.1 * count / self._rate + 1:
                raise UserError(
                    self._describe_nothing_wanted(f"it has about {count} frames, {count / self._rate:.1f} s")
                )
            self.frame_count = cut.count_of(count, self._rate) or None

    def _read(self) -> Generator[_Read, None, None]:
        index, origin, latest, is_damaged = -1, None, -math.inf, False
        pending: list[int] = []  # heap of the times of packets whose picture has not come out yet
        with _open_container(self._path) as container:
            stream = container.streams.best("video")
            upright = Upright(stream)
            for picture in self._decode(container, stream, pending):
                is_damaged = is_damaged or picture is None or picture.is_corrupt
                if picture is None:
                    if not self._has_times:
                        index += 1
                        self._add_damage(index)
                    continue
                due = []
                if picture.pts is not None:
                    if is_damaged and 0 <= latest - picture.pts < 1 / stream.time_base:
                        continue  # out of turn, already counted as lost (later than a second: the clock was reset)
                    latest = picture.pts
                    while pending and pending[0] <= latest:
                        due.append(heappop(pending))
                # After damage a decoder also drops pictures in silence; the times of their packets say how many. In a
                # sound file a packet without a picture is no loss (VP8 has hidden reference frames).
                lost = sum(time < picture.pts for time in due) if is_damaged else 0
                if lost:
                    self._add_damage(index + 1, lost)
                index += lost + 1
                if picture.is_corrupt:
                    self._add_damage(index)
                if origin is None:
                    origin = due[0] if lost else picture.pts
                timestamp = None
                if self._fps:
                    timestamp = index / self._fps
                elif picture.pts is not None:
                    timestamp = float((picture.pts - origin) * stream.time_base)
                yield index, timestamp, upright(picture)
            # One packet may be left over in a sound file (DivX packs two pictures into one and pads with an empty one).
            if pending and (is_damaged or len(pending) > 1):
                self._add_damage(index + 1, len(pending))
            if self._is_cut_short:
                self._note(f"{self._path.name} is damaged: stopped after frame {index + 1}.")

    def _decode(self, container: Any, stream: Any, pending: list[int]) -> Iterator[Any]:
        """Yield each picture (``av.VideoFrame``), or None where a packet cannot be decoded; note packet times."""
        stream.thread_type = "AUTO"
        self._is_cut_short = False
        reached, file_size, latest, is_even = 0.0, _size_of(container, self._path), None, True
        try:
            for packet in container.demux():
                if packet.pts is not None:
                    reached = max(reached, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream_index != stream.index or not packet.size:
                    continue
                if packet.dts is not None:
                    now = float(packet.dts * packet.time_base)
                    is_even, latest = is_even and (latest is None or 0 <= now - latest < LEAP), now
                if packet.is_corrupt and (packet.pos or 0) + packet.size >= file_size:
                    self._is_cut_short = True  # torn by the end of the file: decoding it would spoil the ones before
                    break
                time = packet.dts if packet.pts is None else packet.pts
                if time is not None and not packet.is_discard:
                    heappush(pending, time)
                yield from _decode_packet(stream, packet)
            # Cut between packets a file just ends; the margin covers rounding and encoder delay in its stated duration,
            # which says nothing where the clock leaps.
            # Matroska's counts from 0, not from where the film begins.
            start = 0 if "matroska" in container.format.name else container.start_time or 0
            stated = (start + (container.duration or 0)) / av.time_base
            self._is_cut_short |= is_even and reached < stated - 2 / self._rate - 0.25
        except av.error.FFmpegError:
            self._is_cut_short = True
        yield from _decode_packet(stream, None)


def _open_sequence(folder: Path, fps: float | None, cut: _Cut) -> Source:
    """Open a MOTChallenge sequence: its pictures, else its one video, else its frame numbers without pixels."""
    info = read_sequence_info(folder)
    pictures = _list_files(info.image_folder, IMAGE_ENDINGS)
    if pictures:
        source = _Pictures(folder, _number(pictures), fps or info.frame_rate, cut)
        if len(pictures) < info.length:
            source.notes.append(f"{source.name}: {len(pictures)} of its {info.length} pictures are there.")
        return source
    videos = _list_files(folder, VIDEO_ENDINGS)
    if len(videos) > 1:
        raise UserError(f"{folder}: no {info.image_folder.name} but {len(videos)} videos; give the one that is meant.")
    if not videos:
        source = _Pictures(folder, [(index, None) for index in range(info.length)], fps or info.frame_rate, cut)
        source.width, source.height = info.width, info.height
        return source
    name, rate = folder.resolve().name, fps or info.frame_rate
    video = _VideoFile(videos[0], name, rate, cut)
    video.notes.append(f"{name} has no {info.image_folder.name}: using the frames of {videos[0].name} at {rate:g} fps.")
    return video


def _number(pictures: list[Path]) -> list[tuple[int, Path | None]]:
    """Give each picture of a sequence its index: the number in its name less one, else its place in the folder."""
    numbers = [int(path.stem) for path in pictures if path.stem.isdecimal()]
    if len(set(numbers)) < len(pictures):
        return list(enumerate(pictures))
    first = min(1, *numbers)  # some number their pictures from 0
    return sorted((number - first, path) for number, path in zip(numbers, pictures, strict=True))


def _list_files(folder: Path, endings: set[str]) -> list[Path]:
    """Files with one of these endings in natural order, hidden ones (macOS leaves ``._1.jpg``) left out."""
    files = folder.iterdir() if folder.is_dir() else []
    return sorted(
        (path for path in files if path.suffix.lower() in endings and path.name[0] != "." and path.is_file()),
        key=_natural_key,
    )


def _natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sort key under which ``frame2`` comes before ``frame10``."""
    return [
        (1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"([0-9]+)", str(path)) if part
    ]


def _load_picture(path: Path) -> np.ndarray:
    """Decode a picture, upright by its EXIF orientation."""
    image = read_picture(path)
    if image is None:
        raise _UnreadableError(path)
    return image


def _size_of(container: Any, path: Path) -> float:
    """Bytes of a film; those of a playlist say nothing about it."""
    return math.inf if set(container.format.name.split(",")) & LISTS else path.stat().st_size


def _is_cover(stream: Any) -> bool:
    """Whether a stream is the picture on a record's sleeve."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _open_container(path: Path) -> Any:
    """Open a video file; what a playlist names, FFmpeg opens only if that is a file too."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is read more than once, which a pipe or device cannot be; save it to a file first.")
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path}: this file is empty.")
        container = av.open(f"file:{path}", metadata_errors="replace")
    except (OSError, av.error.FFmpegError) as error:
        raise UserError(f"{path}: not a video that can be read ({error.strerror or error}).") from error
    is_text = container.format.name == "tty"  # FFmpeg renders any text as a film
    if is_text or all(_is_cover(each) for each in container.streams.video):
        container.close()
        raise UserError(f"{path}: there is no video in this file.")
    return container


def invents_times(container: Any) -> bool:
    """Whether timestamps, if any, are FFmpeg's own invention (raw streams)."""
    return bool(container.format.flags & av.format.Flags.no_timestamps.value)


def _nominal_rate(container: Any, stream: Any) -> float:
    """Frames per second that the file states; 25 when it states none."""
    coded = stream.codec_context.framerate
    # For a raw stream FFmpeg assumes 25 fps, but the stream's own header may know (1000 is an MPEG-4 clock, no rate).
    if invents_times(container) and coded and coded <= 240:
        return float(coded)
    # The average is right for a variable rate; the guess where an AVI counts its chunks by the millisecond.
    return float(min(filter(None, (stream.average_rate, stream.guessed_rate)), default=DEFAULT_FPS))


def _decode_packet(stream: Any, packet: Any) -> list[Any]:
    """Decode a packet, or what the decoder still holds (``packet=None``); ``[None]`` if it is damaged."""
    try:
        return stream.codec_context.decode(packet)
    except av.error.EOFError:
        return []
    except av.error.FFmpegError:
        return [None]


def _parse_bound(value: str | int | None, name: str) -> int | float | None:
    """Read a frame number (int, from 1) or a time (float, seconds)."""
    if value is None:
        return None
    text = str(value).strip()
    if text.isdecimal():
        if int(text) < 1:
            raise UserError(f"{name} {value}: frame numbers begin at 1.")
        return int(text)
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)(s?)", text)
    if not match or not (match[4] or match[2]):
        raise UserError(f'{name} {value}: give a frame number (100), seconds ("12.5s") or a clock time ("1:30").')
    hours, minutes, seconds = (float(part or 0) for part in match.groups()[:3])
    return hours * 3600 + minutes * 60 + seconds
