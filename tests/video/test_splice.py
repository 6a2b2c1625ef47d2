"""Parts of an annotated video are replaced, and the rest is not encoded again."""

from pathlib import Path

import av
import numpy as np
import pytest
import supervision as sv

from reid_tracker.errors import UserError
from reid_tracker.video.annotate import Annotator
from reid_tracker.video.frames import Frame
from reid_tracker.video.sinks import FrameResult
from reid_tracker.video.sources import open_source
from reid_tracker.video.splice import Part, keyframes, splice
from reid_tracker.video.video_sink import VideoSink

RATE = 10


def film(path: Path, shades: list[int], first: int = 0, size: tuple[int, int] = (48, 64)) -> Path:
    sink = VideoSink(path, RATE)
    for number, shade in enumerate(shades, first):
        image = np.full((*size, 3), shade, np.uint8)
        sink.write(FrameResult(Frame(image, number, 5 + number / RATE), sv.Detections.empty(), sv.Detections.empty()))
    sink.close()
    return path


def packets(path: Path) -> list[tuple[int, int, bool]]:
    with av.open(str(path)) as container:
        return [(each.pts, each.dts, each.is_keyframe) for each in container.demux(video=0) if each.size]


def test_a_part_is_replaced_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.mp4", [40] * 70)
    begins = keyframes(whole)
    assert begins == [0, 19, 38, 57, 70]  # two seconds apart at most
    parts = [
        Part(19, 38, film(tmp_path / "one.mp4", [200] * 19, 19)),
        Part(57, 70, film(tmp_path / "two.mp4", [120] * 13, 57)),
    ]
    splice(whole, parts, tmp_path / "spliced.mp4")
    shades = [frame.image[20, 30, 0] for frame in open_source(tmp_path / "spliced.mp4") if frame.image is not None]
    np.testing.assert_allclose(shades, [40] * 19 + [200] * 19 + [40] * 19 + [120] * 13, atol=4)
    assert packets(tmp_path / "spliced.mp4") == packets(whole)


def test_a_part_that_does_not_belong_is_refused(tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.mp4", [40] * 70)
    short = film(tmp_path / "short.mp4", [200] * 18, 19)
    large = film(tmp_path / "large.mp4", [200] * 19, 19, (96, 64))
    for part in (short, large):
        with pytest.raises(UserError, match="not of the form"):
            splice(whole, [Part(19, 38, part)], tmp_path / "spliced.mp4")


def test_a_frame_that_is_not_drawn_leaves_the_same_trails() -> None:
    image = np.zeros((120, 160, 3), np.uint8)
    drawn, remembered = Annotator(1.0), Annotator(1.0)
    for step in range(20):
        tracks = sv.Detections(
            np.array([[5 * step, 20, 5 * step + 20, 80]], np.float32),
            confidence=np.array([0.9]),
            class_id=np.array([step % 2]),
            tracker_id=np.array([3]),
            data={"tracklet": np.array([1]), "class_name": np.array(["person"])},
        )
        picture = drawn.draw(image, tracks, tracks, step / RATE)
        if step < 19:
            remembered.remember(tracks, step / RATE, 160, 120)
    assert np.array_equal(remembered.draw(image, tracks, tracks, 1.9), picture)
