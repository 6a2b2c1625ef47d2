"""Spoilt videos: the same chances for a frame whatever came before, worse with severity, and in their own time."""

import numpy as np
import pytest

from reid_tracker.errors import UserError
from reid_tracker.evaluation.video_corruptions import VIDEO_CORRUPTIONS, VideoCorruption

PICTURE = np.random.default_rng(0).integers(40, 200, (60, 90, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", VIDEO_CORRUPTIONS)
def test_a_frame_is_spoilt_alike_whatever_came_before(kind):
    one, other = VideoCorruption(kind, 3, 40), VideoCorruption(kind, 3, 40)
    for index in range(5):
        one.apply(PICTURE, index, index / 10)
    assert np.array_equal(one.apply(PICTURE, 37, 3.7), other.apply(PICTURE, 37, 3.7))
    assert [one.keeps(n) for n in range(30)] == [other.keeps(n) for n in range(30)]


@pytest.mark.parametrize("kind", [kind for kind in VIDEO_CORRUPTIONS if kind not in ("dropped_frames", "low_fps")])
def test_pictures_are_worse_at_higher_severity(kind):
    def error(severity):
        corruption = VideoCorruption(kind, severity, 100)
        frames = [corruption.apply(PICTURE, n, n / 5) for n in range(60)]
        return np.mean([np.abs(frame.astype(int) - PICTURE).mean() for frame in frames])

    assert 0 < error(1) < error(3) < error(5)
    assert all(VideoCorruption(kind, 5, 40).keeps(n) for n in range(50))


def test_frames_are_left_out_by_number():
    assert [n for n in range(12) if VideoCorruption("low_fps", 2, 40).keeps(n)] == [0, 3, 6, 9]
    dropped = VideoCorruption("dropped_frames", 3, 40)
    assert dropped.keeps(0) and 0.25 < 1 - np.mean([dropped.keeps(n) for n in range(2000)]) < 0.35
    assert np.array_equal(dropped.apply(PICTURE, 3, 0.3), PICTURE)


def test_shake_moves_picture_and_boxes_alike():
    shake = VideoCorruption("camera_shake", 4, 60)
    spot = np.zeros((80, 100, 3), dtype=np.uint8)
    spot[40, 50] = 255
    for index in range(5):
        right, down = shake.shift(index / 10)
        row, column = np.unravel_index(shake.apply(spot, index, index / 10)[..., 0].argmax(), (80, 100))
        assert abs(column - 50 - right) <= 1 and abs(row - 40 - down) <= 1


def test_impossible_ones_are_refused():
    with pytest.raises(UserError, match="fog"):
        VideoCorruption("fog", 1, 40)
    with pytest.raises(UserError, match="severity 6"):
        VideoCorruption("flicker", 6, 40)
