import numpy as np
import pytest

from reid_tracker.detection.detector import usable_boxes


@pytest.mark.parametrize(
    ("box", "confidence", "usable"),
    [
        ([1, 2, 3, 4], 0.5, True),
        ([-50, -20, 10, 5000], 0.0, True),  # beyond the picture, and weak: others decide on that
        ([np.nan, 2, 3, 4], 0.5, False),
        ([1, 2, np.inf, 4], 0.5, False),
        ([1, 2, 1, 4], 0.5, False),
        ([1, 2, 3, 2], 0.5, False),
        ([3, 2, 1, 4], 0.5, False),
        ([1, 2, 3, 4], np.nan, False),
    ],
)
def test_usable_boxes_have_area_and_finite_numbers(box: list[float], confidence: float, usable: bool) -> None:
    boxes, confidences = np.array([[1, 2, 3, 4], box], float), np.array([0.9, confidence])
    assert usable_boxes(boxes, confidences).tolist() == [True, usable]


def test_no_boxes_are_no_trouble() -> None:
    assert usable_boxes(np.empty((0, 4)), np.empty(0)).shape == (0,)
