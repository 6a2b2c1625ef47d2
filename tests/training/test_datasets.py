import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid_tracker.errors import UserError
from reid_tracker.training.datasets import join_crops, load_images, read_crops, split_identities

DATA = os.environ.get("REID_TRACKER_DATA")


def write(folder: Path, names: list[str], shade: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((16, 8, 3), shade + number, dtype=np.uint8))
    return folder


@pytest.fixture
def market(tmp_path: Path) -> Path:
    names = ["0002_c1s1_000451_03.jpg", "0002_c1s1_000551_01.jpg", "0002_c2s1_000301_01.jpg", "0007_c3s1_000001_01.jpg"]
    return write(tmp_path / "market", [*names, "0010_c1s2_000001_01.png", "-1_c1s1_000401_03.jpg", "notes.jpg"])


@pytest.fixture
def cuhk(tmp_path: Path) -> Path:
    return write(tmp_path / "cuhk", ["0000_c1_00.jpg", "0000_c2_01.jpg", "0007_c1_00.jpg", "0007_c1_01.jpg"])


def test_market_names_give_identity_camera_and_query(market: Path) -> None:
    crops = read_crops(str(market))
    assert [path.name[:7] for path in crops.paths] == ["0002_c1", "0002_c1", "0002_c2", "0007_c3", "0010_c1"]
    np.testing.assert_array_equal(crops.identities, [2, 2, 2, 7, 10])
    np.testing.assert_array_equal(crops.cameras, [1, 1, 2, 3, 1])
    # The first crop of each identity in each camera asks.
    np.testing.assert_array_equal(crops.query, [True, False, True, True, True])


def test_a_slice_is_of_sorted_identities(market: Path) -> None:
    np.testing.assert_array_equal(read_crops(f"{market}[:2]").identities, [2, 2, 2, 7])
    np.testing.assert_array_equal(read_crops(f"{market}[2:]").identities, [10])
    np.testing.assert_array_equal(read_crops(f"{market}[1:2]").identities, [7])


def test_cuhk03_asks_with_camera_one(cuhk: Path) -> None:
    crops = read_crops(str(cuhk))
    np.testing.assert_array_equal(crops.identities, [0, 0, 7, 7])
    np.testing.assert_array_equal(crops.query, [True, False, True, True])


def test_sets_joined_share_no_identity_and_no_camera(market: Path, cuhk: Path) -> None:
    joined = join_crops([read_crops(str(market)), read_crops(str(cuhk))])
    np.testing.assert_array_equal(joined.identities, [0, 0, 0, 1, 2, 3, 3, 4, 4])
    np.testing.assert_array_equal(joined.cameras, [0, 0, 1, 2, 0, 3, 4, 3, 3])
    assert len(joined) == len(joined.paths) == 9


def test_validation_people_are_never_trained_on(market: Path, cuhk: Path) -> None:
    joined = join_crops([read_crops(str(market)), read_crops(str(cuhk))])
    training, validation = split_identities(joined, 2, seed=0)
    assert len(set(validation.identities)) == 2
    assert not set(training.identities) & set(validation.identities)
    assert len(training) + len(validation) == len(joined)
    with pytest.raises(UserError, match="validation_identities"):
        split_identities(joined, 4, seed=0)


def test_images_are_loaded_in_order_and_resized(market: Path) -> None:
    crops = read_crops(str(market))
    images = load_images(crops, (8, 4))
    assert images.shape == (5, 8, 4, 3) and images.dtype == np.uint8
    for image, path in zip(images, crops.paths, strict=True):
        assert abs(int(image.mean()) - int(cv2.imread(str(path)).mean())) <= 1


def test_what_cannot_be_used_is_refused_by_name(market: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        read_crops(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="no identity is left"):
        read_crops(f"{market}[40:]")
    for names in ([], ["a.jpg", "b.jpg"]):
        with pytest.raises(UserError, match="no known layout"):
            read_crops(str(write(tmp_path / f"other{len(names)}", names)))
    (market / "0002_c1s1_000451_03.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"0002_c1s1_000451_03\.jpg: not a readable picture"):
        load_images(read_crops(str(market)), (8, 4))


@pytest.mark.needs_data
@pytest.mark.skipif(DATA is None, reason="REID_TRACKER_DATA is not set")
def test_the_published_sets_have_their_published_sizes() -> None:
    assert DATA is not None
    market = read_crops(f"{DATA}/market1501/bounding_box_train")
    assert (len(market), len(set(market.identities)), set(market.cameras)) == (12936, 751, {1, 2, 3, 4, 5, 6})
    training, test = (
        read_crops(f"{DATA}/market1501/bounding_box_train[:551]"),
        read_crops(f"{DATA}/market1501/bounding_box_train[551:]"),
    )
    assert len(set(training.identities)) == 551 and len(set(test.identities)) == 200
    assert max(training.identities) < min(test.identities)
    cuhk = read_crops(f"{DATA}/cuhk03/val")
    assert (len(cuhk), len(set(cuhk.identities)), set(cuhk.cameras)) == (938, 100, {1, 2})
