"""The annotated video, playable up to the moment of a kill."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.video.annotate import Annotator
from reid_tracker.video.sinks import FrameResult, naming

KEYFRAME_SECONDS = 2.0
"""Longest distance of two keyframes: how exactly a player can seek."""
LONGEST_GAP = 3600.0  # s between two frames of a video
FRAGMENT_SECONDS = 0.5
"""Length of a fragment: what a kill or a full disk may lose, beside the frames that the encoder holds back."""
TIME_BASE = Fraction(1, 90_000)


class VideoSink:
    """Annotated H.264 mp4 that browsers play, each frame at its own time.

    The file is a fragmented mp4: a fragment (FRAGMENT_SECONDS at most) is complete in itself, so a kill or a full disk
    leaves all finished ones playable. Odd sizes are padded by a pixel, as 4:2:0 colour needs even ones. A gap longer
    than an hour is left out, as an mp4 cannot tell of much longer ones; ``note`` then says so.

    Parameters
    ----------
    path : Path
        The file to write; its folder is made.
    frame_rate : float
        Nominal frames per second.
    annotator : Annotator, optional
        Draws each frame; without it the frames are drawn already.

    Raises
    ------
    UserError
        If the file cannot be written; from ``write`` also if a frame has no pixels.
    """

    def __init__(self, path: str | Path, frame_rate: float, annotator: Annotator | None = None) -> None:
        self._path = Path(path)
        with naming(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        self._frame_rate = frame_rate
        self._annotator = annotator
        self._container: Any = None
        self._stream: Any = None
        self._file: _VideoFile | None = None
        self._start = self._keyframe = self._latest = 0.0
        self._pts = -1
        self._numbers = _Numbers()
        self.last_frame = 0
        self.note = ""

    def write(self, result: FrameResult) -> None:
        """Draw and encode one frame."""
        frame = result.frame
        if frame.image is None:
            raise UserError(f"{self._path}: a source without pictures gives no video; choose another output.")
        image = frame.image
        if self._annotator is not None:
            image = self._annotator.draw(
                image, result.tracks, result.detections, frame.timestamp, result.counts, result.dwell
            )
        height, width = image.shape[:2]
        image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        if self.last_frame and frame.timestamp - self._latest > LONGEST_GAP:
            hours = (frame.timestamp - self._latest) / LONGEST_GAP
            self.note = self.note or f"{self._path.name}: {hours:.1f} h without a frame are left out of the video."
            self._start += frame.timestamp - self._latest - 1 / self._frame_rate
            self._keyframe = -np.inf
        self._latest = frame.timestamp
        with naming(self._path):
            self._encode(image, frame.timestamp)
        self.last_frame = frame.index + 1
        self._numbers.add(self.last_frame)

    def close(self) -> None:
        """Write what the encoder still holds and end the file; one that could not take it all ends with whole frames.

        Raises
        ------
        UserError
            If the end of the file cannot be written, and `write` has not said so before.
        """
        container, self._container = self._container, None
        file, self._file = self._file, None
        if file is None:
            return
        try:
            with suppress(UserError) if file.has_failed else nullcontext(), naming(self._path):
                try:
                    if container is not None:
                        container.mux(self._stream.encode(None))
                finally:
                    if container is not None:
                        container.close()
                    file.close()
        finally:
            if file.has_failed:
                self.last_frame = self._numbers.at(cut_to_whole_fragments(self._path))

    def _encode(self, image: np.ndarray, timestamp: float) -> None:
        is_keyframe = self._container is None
        if self._container is None:
            self._open(image.shape[1], image.shape[0])
            self._start = timestamp
        picture = av.VideoFrame.from_ndarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), format="yuv420p")
        self._pts = max(self._pts + 1, round((timestamp - self._start) / TIME_BASE))
        picture.pts, picture.time_base = self._pts, TIME_BASE
        # By time, not by count, as the rate may vary; a frame early, so that the next does not come too late.
        if is_keyframe or timestamp - self._keyframe > KEYFRAME_SECONDS - 1.5 / self._frame_rate:
            picture.pict_type = av.video.frame.PictureType.I
            self._keyframe = timestamp
        self._container.mux(self._stream.encode(picture))

    def _open(self, width: int, height: int) -> None:
        container, self._file = _new_file(self._path)
        # No B-frames: an mp4 whose header comes first cannot say that pictures are delayed, and all times would shift.
        # Superfast takes 55 % of veryfast's time, and at this crf a fifth more bytes than that at 23 for the same PSNR.
        coding = {"preset": "superfast", "crf": "24", "bf": "0"}
        stream = container.add_stream(
            "libx264", rate=Fraction(self._frame_rate).limit_denominator(100_000), options=coding
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        # What OpenCV converts BGR to; untagged, players would guess by the picture's size.
        stream.codec_context.colorspace = av.video.reformatter.Colorspace.ITU601
        stream.codec_context.color_range = av.video.reformatter.ColorRange.MPEG
        container.start_encoding()
        self._container, self._stream = container, stream


def _new_file(path: Path) -> "tuple[Any, _VideoFile]":
    """A fragmented mp4 to write to, and the file that it goes into."""
    muxing = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
    muxing["frag_duration"] = str(round(FRAGMENT_SECONDS * 1e6))
    file = _VideoFile(path)
    return av.open(file, "w", format="mp4", container_options=muxing), file


@contextmanager
def new_file(path: Path) -> Iterator[Any]:
    """A fragmented mp4 to write packets to, closed with the block."""
    container, file = _new_file(path)
    try:
        yield container
        container.close()
    finally:
        file.close()


class _Numbers:
    """The numbers of frames in the order they were written, as stretches of equal steps: short for any length."""

    def __init__(self) -> None:
        self._stretches: list[tuple[int, int, int]] = []  # how many came before, the first one's number, the step
        self._count = self._last = 0

    def add(self, number: int) -> None:
        """Add the next one."""
        if not self._stretches or self._last + self._stretches[-1][2] != number:
            step = number - self._last if self._count else 1
            self._stretches.append((self._count, number, step))
        self._count, self._last = self._count + 1, number

    def at(self, count: int) -> int:
        """Number of the last of so many frames; 0 of none."""
        for before, first, step in reversed(self._stretches):
            if before < count:
                return first + (count - before - 1) * step
        return 0


class _VideoFile:
    """The file that FFmpeg writes a video to; after the first error nothing more goes in, so that it has no hole."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self.name = str(path)
        self.has_failed = False

    def write(self, data: bytes) -> int:
        """Write all of it."""
        left = memoryview(data)
        while left and not self.has_failed:
            try:
                left = left[self._file.write(left) :]
            except OSError:
                self.has_failed = True
                raise
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to another place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where it is."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def cut_to_whole_fragments(path: Path) -> int:
    """Cut off what a full disk left of the last fragment of an mp4; how many frames remain."""
    end, whole = 0, 0
    with suppress(OSError), path.open("r+b") as file:
        size = file.seek(0, 2)
        while end + 8 <= size:
            file.seek(end)
            length, kind = struct.unpack(">I4s", file.read(8))
            if length < 8 or end + length > size:
                break
            end += length
            whole = whole if kind == b"moof" else end  # a fragment is a moof and its mdat
        file.truncate(whole)
    try:
        with av.open(str(path)) as container:
            return sum(1 for packet in container.demux(video=0) if packet.size)
    except (av.error.FFmpegError, IndexError):
        return 0  # not even the header is whole
