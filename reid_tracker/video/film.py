"""Video files as a source of frames."""

import math
from collections.abc import Generator, Iterator
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

import av

from reid_tracker.errors import UserError
from reid_tracker.video.frames import DEFAULT_FPS, Cut, Read, Source
from reid_tracker.video.upright import Upright

LISTS = {"hls", "dash", "concat"}
"""Formats that name files rather than hold a film."""
LEAP = 10.0
"""Seconds between two packets from which a file's stated duration is not to be trusted."""


class Film(Source):
    """A video file, decoded by FFmpeg through PyAV.

    A range is reached by decoding and dropping what comes before, not by seeking: only so is every index exact.
    """

    def __init__(self, path: Path, name: str, fps: float | None, cut: Cut) -> None:
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
                    self.describe_nothing_wanted(f"it has about {count} frames, {count / self._rate:.1f} s")
                )
            self.frame_count = cut.count_of(count, self._rate) or None

    def _read(self) -> Generator[Read, None, None]:
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
        container = open_input(f"file:{path}")
    except (OSError, av.error.FFmpegError) as error:
        raise UserError(f"{path}: not a video that can be read ({error.strerror or error}).") from error
    is_text = container.format.name == "tty"  # FFmpeg renders any text as a film
    if is_text or all(_is_cover(each) for each in container.streams.video):
        container.close()
        raise UserError(f"{path}: there is no video in this file.")
    return container


def open_input(address: str, **options: Any) -> Any:
    """`av.open` for reading, whatever bytes stand in a title; from PyAV 19 on it needs no telling."""
    if int(av.__version__.partition(".")[0]) < 19:
        options["metadata_errors"] = "replace"
    return av.open(address, **options)


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
