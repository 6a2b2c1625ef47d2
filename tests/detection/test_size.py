"""The size at which the detector looks: by the picture, by how tall people are, within the time there is."""

import numpy as np
import pytest

from reid_tracker import YoloDetector
from reid_tracker.detection.size import EVERY, LOOKS, FittingSize
from reid_tracker.video.frames import Frame


def boxes(*heights, confidence=0.9):
    """Boxes of these heights, px."""
    return np.array([[0, 0, 10, height, confidence, 0] for height in heights], np.float32).reshape(-1, 6)


def watch(fitting, shape, found, frames=200, seconds=lambda size: 0.0):
    """The sizes used for so many frames that all show the same."""
    sizes = []
    for _ in range(frames):
        size = fitting.size(*shape)
        fitting.learn(*shape, size, found, seconds(size))
        sizes.append(size)
    return sizes


def last(sizes):
    """The size at the end, between two looks at the largest."""
    return sizes[-2]


@pytest.mark.parametrize(
    ("shape", "height", "speed", "expected"),
    [
        ((1080, 1920), 500, "auto", 640),  # tall people need no more
        ((1080, 1920), 150, "auto", 960),
        ((1080, 1920), 240, "auto", 800),
        ((1080, 1920), 150, "accurate", 1280),
        ((1080, 1920), 60, "accurate", 1440),  # of compressed video no more is to be seen
        ((2160, 3840), 60, "accurate", 2560),
        ((720, 1280), 60, "accurate", 1280),
        ((1080, 1920), 150, "fast", 640),
        ((1080, 1920), 500, "fast", 448),
        ((1920, 1080), 150, "auto", 960),
        ((375, 1242), 80, "auto", 960),
        ((576, 768), 60, "auto", 640),  # a picture is never enlarged
        ((576, 768), 60, "accurate", 640),
        ((240, 320), 60, "auto", 640),  # but the model's own size it sees
    ],
)
def test_small_people_in_large_pictures_get_a_larger_size(shape, height, speed, expected):
    assert last(watch(FittingSize(640, speed=speed), shape, boxes(*[height] * 4))) == expected


def test_before_anybody_was_seen_the_largest_size_looks():
    assert set(watch(FittingSize(640), (1080, 1920), boxes())) == {960}
    assert set(watch(FittingSize(640), (1080, 1920), boxes(300, 300, confidence=0.2))) == {960}


def test_who_comes_later_and_smaller_is_noticed():
    fitting = FittingSize(640)
    assert last(watch(fitting, (1080, 1920), boxes(600, 600))) == 640
    assert last(watch(fitting, (1080, 1920), boxes(100, 100, 120, 600), frames=100 * EVERY)) == 960
    assert last(watch(fitting, (1080, 1920), boxes(600, 600), frames=300 * EVERY)) == 640


def test_a_height_at_the_border_does_not_make_it_waver():
    rng = np.random.default_rng(0)
    fitting, sizes = FittingSize(640), []
    for _ in range(200):
        sizes += watch(fitting, (1080, 1920), boxes(*rng.normal(270, 12, 5)), EVERY)[1:]
    assert np.count_nonzero(np.diff(sizes)) <= 2 * LOOKS


def test_cameras_are_told_apart_and_videos_begin_anew():
    fitting = FittingSize(640)
    assert last(watch(fitting, (1080, 1920), boxes(600))) == 640
    assert last(watch(fitting, (720, 1280), boxes(60))) == 960
    assert last(watch(fitting, (1080, 1920), boxes(600))) == 640
    assert fitting.describe() == [
        "The detector looked at 640 px for pictures of 1920x1080.",
        "The detector looked at 960 px for pictures of 1280x720.",
    ]
    fitting.restart()
    assert fitting.size(1080, 1920) == 960 and fitting.describe() == []


def test_sizes_that_take_too_long_are_not_used_again():
    fitting = FittingSize(640)
    fitting.budget = 0.1
    assert last(watch(fitting, (1080, 1920), boxes(100), seconds=lambda size: size / 7000)) == 640
    fitting = FittingSize(640)
    fitting.budget = 0.01  # none is fast enough: the smallest
    assert last(watch(fitting, (1080, 1920), boxes(100), seconds=lambda size: size / 7000)) == 640


def test_the_detector_finds_what_it_finds_at_the_size_chosen(tiny_yolo):
    image = np.random.default_rng(0).integers(0, 255, (600, 1100, 3), np.uint8)
    frame = Frame(image, 0, 0.0)
    chosen = YoloDetector(tiny_yolo, confidence=0)
    own = max(chosen.image_size)
    found = chosen.detect(frame)
    (note,) = chosen.notes()
    size = min(1.5 * own, 1100) // 32 * 32
    assert note == f"The detector looked at {size:.0f} px for pictures of 1100x600."
    exact = YoloDetector(tiny_yolo, confidence=0, image_size=int(size))
    np.testing.assert_allclose(found.xyxy, exact.detect(frame).xyxy, atol=1e-3)
    assert exact.notes() == []
