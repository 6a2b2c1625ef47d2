"""Parts of an annotated video replaced without encoding the rest again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import av

from reid_tracker.errors import UserError
from reid_tracker.video.sinks import naming
from reid_tracker.video.video_sink import new_file


class Part(NamedTuple):
    """A stretch of frames that was drawn again.

    Attributes
    ----------
    first, end : int
        Its frames, counted from 0 in the video; ``first`` is a keyframe, and so is ``end`` if there is one.
    video : Path
        A `VideoSink`'s, of the same source.
    """

    first: int
    end: int
    video: Path


def keyframes(video: Path) -> list[int]:
    """Which frames of a video, counted from 0, can be begun at; at the end how many frames there are."""
    with naming(video), av.open(str(video)) as container:
        packets = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    return [*(number for number, is_key in enumerate(packets) if is_key), len(packets)]


def splice(video: Path, parts: Sequence[Part], output: Path) -> None:
    """Write a video with some parts in the place of its own.

    Parameters
    ----------
    video : Path
        A `VideoSink`'s.
    parts : sequence of Part
        In order.
    output : Path
        Where to write.

    Raises
    ------
    UserError
        If a part is not of the same form or length, or something cannot be read or written.
    """
    waiting = list(parts)
    with naming(output), av.open(str(video)) as source, new_file(output) as container:
        own = source.streams.video[0]
        stream, end = container.add_stream_from_template(own), 0
        for number, packet in enumerate(each for each in source.demux(video=0) if each.size):
            if waiting and number == waiting[0].first:
                part = waiting.pop(0)
                end = part.end
                _put(part, own, packet, container, stream)
            if number >= end:
                packet.stream = stream
                container.mux(packet)


def _put(part: Part, own: Any, first: Any, container: Any, stream: Any) -> None:
    """Write a part's packets from the time of the packet on that they replace first."""
    with av.open(str(part.video)) as source:
        new = source.streams.video[0]
        packets = [packet for packet in source.demux(video=0) if packet.size]
        alike = new.codec_context.extradata == own.codec_context.extradata and new.time_base == own.time_base
        if not alike or len(packets) != part.end - part.first or not packets[0].is_keyframe:
            raise UserError(f"{part.video}: not of the form of the video that it belongs into.")
        shift = first.pts - packets[0].pts
        for packet in packets:
            packet.pts += shift
            packet.dts += shift
            packet.stream = stream
            container.mux(packet)
