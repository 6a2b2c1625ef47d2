import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reid_tracker.cropping import align_crops, clip_boxes, cut_crops, normalise, resize_crop

SIZE = (64, 32)


@pytest.fixture(scope="module")
def smooth() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    return cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC)


def test_both_ways_to_cut_agree_on_a_smooth_picture(smooth: np.ndarray) -> None:
    boxes = np.array([[10, 20, 60, 140], [100, 5, 300, 235], [200, 100, 216, 140], [0, 0, 320, 240]], dtype=np.float32)
    cut = cut_crops(smooth, boxes, SIZE).astype(float)
    aligned = align_crops(torch.from_numpy(smooth), boxes, SIZE).numpy()
    assert cut.shape == aligned.shape == (4, *SIZE, 3)
    assert np.abs(cut - aligned).mean() < 1.0
    assert np.abs(cut - aligned).max() < 12  # at the edges roi_align sees beyond the box


def test_a_crop_is_the_part_of_the_frame_under_the_box() -> None:
    image = np.zeros((100, 100, 3), dtype=np.uint8)
    image[20:84, 30:62] = np.random.default_rng(0).integers(0, 256, (64, 32, 3))
    (crop,) = cut_crops(image, np.array([[30, 20, 62, 84]], dtype=np.float32), SIZE)
    np.testing.assert_array_equal(crop, image[20:84, 30:62])


def test_shrinking_averages_where_sampling_would_alias() -> None:
    stripes = np.zeros((256, 128, 3), dtype=np.uint8)
    stripes[::2] = 255  # every other row: a sampler that skips pixels sees all or nothing
    assert np.abs(resize_crop(stripes, SIZE).astype(int) - 127.5).max() <= 1


@given(
    st.lists(st.tuples(*[st.floats(-400, 700, width=32) for _ in range(4)]), max_size=8),
)
def test_every_usable_box_can_be_cut_and_lies_inside(boxes: list[tuple[float, ...]]) -> None:
    image = np.zeros((240, 320, 3), dtype=np.uint8)
    xyxy = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    clipped, usable = clip_boxes(xyxy, 240, 320)
    for (x1, y1, x2, y2), (left, top, right, bottom), use in zip(xyxy, clipped, usable, strict=True):
        assert use == (max(x1, 0) < min(x2, 320) and max(y1, 0) < min(y2, 240))
        if use:
            assert (left, top, right, bottom) == (max(x1, 0), max(y1, 0), min(x2, 320), min(y2, 240))
    assert cut_crops(image, clipped[usable], SIZE).shape == (usable.sum(), *SIZE, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_boxes_that_are_not_finite_are_unusable(value: float) -> None:
    clipped, usable = clip_boxes(np.array([[10, 10, value, 50], [10, 10, 40, 50]]), 240, 320)
    np.testing.assert_array_equal(usable, [False, True])
    assert np.isfinite(clipped).all()


def test_normalise_scales_and_shifts_each_channel_without_moving_pixels() -> None:
    crops = torch.randint(0, 256, (2, 4, 3, 3), dtype=torch.uint8)
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.5, 0.7)
    result = normalise(crops, mean, std)
    expected = (crops.double() / 255 - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(result, expected.permute(0, 3, 1, 2).float())
    assert result.is_contiguous(memory_format=torch.channels_last)
