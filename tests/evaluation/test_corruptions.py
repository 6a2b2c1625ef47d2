import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_tracker.errors import UserError
from reid_tracker.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt

KINDS = sorted(CORRUPTIONS)


def picture(height: int = 128, width: int = 64) -> np.ndarray:
    """Coloured shapes with fine texture, neither black nor white on the whole."""
    random = np.random.default_rng(3)
    coarse = cv2.resize(random.integers(30, 220, (8, 4, 3), dtype=np.uint8), (width, height))
    return np.clip(coarse + random.normal(0, 8, coarse.shape), 0, 255).astype(np.uint8)


def error(image: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(image.astype(float) - other).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_each_severity_spoils_more_than_the_last(kind: str) -> None:
    image = picture()
    spoilt = [
        np.mean([error(image, corrupt(image, kind, severity, np.random.default_rng(seed))) for seed in range(5)])
        for severity in SEVERITIES
    ]
    assert spoilt[0] > 0.5 and (np.diff(spoilt) > 0).all()


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(KINDS),
    st.sampled_from(SEVERITIES),
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(0, 2**32 - 1),
)
def test_any_picture_keeps_its_shape_and_the_seed_decides(kind: str, severity, height, width, seed) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    before = image.copy()
    first, second = (corrupt(image, kind, severity, np.random.default_rng(seed)) for _ in range(2))
    assert first.dtype == np.uint8 and first.shape == image.shape
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("kind", ["motion_blur", "shadow", "noise", "low_light"])
def test_another_seed_gives_another_picture(kind: str) -> None:
    first, second = (corrupt(picture(), kind, 3, np.random.default_rng(seed)) for seed in (0, 1))
    assert (first != second).any()


def test_blur_grows_with_the_person_not_the_frame() -> None:
    point = np.zeros((401, 401, 3), dtype=np.uint8)
    point[200, 200] = 255
    for kind in ("motion_blur", "defocus"):
        spread = [
            np.ptp(np.argwhere(corrupt(point, kind, 3, np.random.default_rng(0), height)[..., 0]), axis=0).max()
            for height in (100, 200)
        ]
        assert 1.5 < spread[1] / spread[0] < 2.6
        # Without a height the picture is a person.
        whole = np.ptp(np.argwhere(corrupt(point, kind, 3, np.random.default_rng(0))[..., 0]), axis=0).max()
        assert whole > 1.5 * spread[1]


def test_light_is_scaled_as_light() -> None:
    grey = np.full((40, 40, 3), 118, dtype=np.uint8)  # 18 % of white's light
    brighter = corrupt(grey, "over_exposure", 2, np.random.default_rng(0))
    assert abs(int(brighter[0, 0, 0]) - 175) <= 2  # 2.4 x 18 % = 43 % of the light
    darker = corrupt(grey, "low_light", 1, np.random.default_rng(0))
    assert abs(darker.mean() - 76) < 3  # 0.4 x 18 % = 7 %


def test_blur_and_contrast_keep_the_mean() -> None:
    image = picture()
    for kind in ("motion_blur", "defocus", "contrast"):
        assert abs(corrupt(image, kind, 4, np.random.default_rng(0)).mean() - image.mean()) < 3


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(UserError, match="motion_blur"):
        corrupt(picture(), "rain", 3, np.random.default_rng(0))
    with pytest.raises(UserError, match="1 to 5"):
        corrupt(picture(), "noise", 6, np.random.default_rng(0))
