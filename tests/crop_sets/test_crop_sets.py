from pathlib import Path

import cv2
import numpy as np
import pytest

from reid_tracker.crop_sets.crops import CropSet, join_crops, load_images, split_identities
from reid_tracker.errors import UserError


def crop_set(
    identities: list[int], cameras: list[int], folder: Path = Path(), boxes: np.ndarray | None = None
) -> CropSet:
    paths = [folder / f"{row}.png" for row in range(len(identities))]
    return CropSet(paths, np.array(identities), np.array(cameras), np.zeros(len(identities), dtype=bool), boxes)


def test_sets_joined_share_no_identity_and_no_camera() -> None:
    joined = join_crops([crop_set([2, 2, 7], [1, 2, 1]), crop_set([2, 9], [-1, -1]), crop_set([2, 3], [1, 3])])
    np.testing.assert_array_equal(joined.identities, [0, 0, 1, 2, 3, 4, 5])
    assert joined.cameras[0] == joined.cameras[2] and len(set(joined.cameras[[0, 1, 5, 6]])) == 4
    np.testing.assert_array_equal(joined.cameras[3:5], [-1, -1])
    assert len(joined) == len(joined.paths) == 7 and joined.boxes is not None and np.isnan(joined.boxes).all()


def test_an_unknown_camera_is_nobody_elses() -> None:
    apart = crop_set([1, 1, 1, 2], [-1, 4, -1, 4]).cameras_apart
    assert apart[1] == apart[3] == 4 and len(set(apart)) == 3


def test_validation_people_are_never_trained_on() -> None:
    crops = crop_set(list(range(30)) * 2, [1] * 60)
    for wanted, number in [(5, 5), (0, 0), (None, 5)]:
        training, validation = split_identities(crops, wanted, seed=0)
        assert len(set(validation.identities)) == number
        assert not set(training.identities) & set(validation.identities)
        assert len(training) + len(validation) == len(crops)
    for people, number in [(3, 0), (4, 1), (20, 5), (60, 6), (500, 40)]:
        assert len(np.unique(split_identities(crop_set(range(people), [1] * people), None, 0)[1].identities)) == number
    with pytest.raises(UserError, match="validation_identities"):
        split_identities(crops, 29, seed=0)
    with pytest.raises(UserError, match="1 identity to train on; name crops of at least two"):
        split_identities(crop_set([1, 1], [1, 2]), None, seed=0)


def test_images_are_cut_and_resized_in_the_sets_order(tmp_path: Path) -> None:
    for row, shade in enumerate((10, 50, 90)):
        picture = np.full((16, 8, 3), shade, dtype=np.uint8)
        picture[:8] += 20
        cv2.imwrite(str(tmp_path / f"{row}.png"), picture)
    boxes = np.array([[np.nan] * 4, [0, 0, 8, 8], [0, 8, 8, 16]], dtype=np.float32)
    images = load_images(crop_set([1, 2, 3], [1, 1, 1], tmp_path, boxes), (4, 2))
    assert images.shape == (3, 4, 2, 3) and images.dtype == np.uint8
    np.testing.assert_array_equal(images[:, :, 0, 0], [[30, 30, 10, 10], [70] * 4, [90] * 4])
    outside = crop_set([1], [1], tmp_path, np.array([[20, 0, 30, 9]], dtype=np.float32))
    with pytest.raises(UserError, match=r"0\.png: a box lies outside"):
        load_images(outside, (4, 2))
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"1\.png: not a readable picture"):
        load_images(crop_set([1, 2], [1, 1], tmp_path), (4, 2))
