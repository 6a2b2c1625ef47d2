import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid_tracker.crop_sets.crops import load_images
from reid_tracker.crop_sets.layouts import read_crops
from reid_tracker.errors import UserError
from reid_tracker.training.command import train

DATA = os.environ.get("REID_TRACKER_DATA")


def write(folder: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.full((16, 8, 3), number, dtype=np.uint8))
    return folder


@pytest.fixture
def market(tmp_path: Path) -> Path:
    names = ["0002_c1s1_000451_03.jpg", "0002_c1s1_000551_01.jpg", "0002_c2s1_000301_01.jpg", "0007_c3s1_000001_01.jpg"]
    return write(tmp_path / "market", [*names, "0010_c1s2_000001_01.png", "-1_c1s1_000401_03.jpg", "notes.jpg"])


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


def test_the_whole_market_folder_has_a_part_to_train_and_one_to_test(tmp_path: Path) -> None:
    root = write(tmp_path, ["bounding_box_train/0002_c1s1_000451_03.jpg", "bounding_box_train/0003_c1s1_000451_03.jpg"])
    with pytest.raises(UserError, match="needs the folder query"):
        read_crops(str(root), "test")
    write(root, ["query/0001_c1s1_000001_00.jpg", "bounding_box_test/0001_c2s1_000001_00.jpg"])
    write(root, ["bounding_box_test/-1_c2s1_000001_00.jpg", "bounding_box_test/0000_c2s1_000001_00.jpg"])
    np.testing.assert_array_equal(read_crops(str(root)).identities, [2, 3])
    test = read_crops(str(root), "test")
    np.testing.assert_array_equal(test.identities, [1, 0, 1])  # 0 are strangers that stay, -1 is junk
    np.testing.assert_array_equal(test.query, [True, False, False])


def test_cuhk03_asks_with_camera_one(tmp_path: Path) -> None:
    crops = read_crops(str(write(tmp_path, ["0000_c1_00.jpg", "0000_c2_01.jpg", "0007_c1_00.jpg", "0007_c1_01.jpg"])))
    np.testing.assert_array_equal(crops.identities, [0, 0, 7, 7])
    np.testing.assert_array_equal(crops.query, [True, False, True, True])


@pytest.mark.parametrize("folders", [("train", "test"), ("mask_train_v2", "mask_test_v2")])
def test_msmt17_is_read_by_its_lists(tmp_path: Path, folders: tuple[str, str]) -> None:
    lists = {
        "train": ["0000/0000_000_01_0303morning_0008_0.jpg 0", "0000/0000_001_14_0303morning_0008_1.jpg 0"],
        "val": ["0001/0001_000_05_0303noon_0008_0.jpg 1"],
        "query": ["0000/0000_000_02_0303morning_0008_0.jpg 0"],
        "gallery": ["0000/0000_001_03_0303morning_0008_0.jpg 0", "0001/0001_000_03_0303morning_0008_0.jpg 1"],
    }
    for name, lines in lists.items():
        (tmp_path / f"list_{name}.txt").write_text("\n".join(lines) + "\n")
        write(tmp_path / folders[name not in ("train", "val")], [line.split()[0] for line in lines])
    train, test = read_crops(str(tmp_path)), read_crops(str(tmp_path), "test")
    np.testing.assert_array_equal(train.identities, [0, 0, 1])
    np.testing.assert_array_equal(train.cameras, [1, 14, 5])
    np.testing.assert_array_equal(test.query, [True, False, False])
    np.testing.assert_array_equal(test.cameras, [2, 3, 3])
    assert load_images(train, (8, 4)).shape[0] == load_images(test, (8, 4)).shape[0] == 3
    (tmp_path / "list_val.txt").write_text("0001/0001_000_05.jpg 1\nnonsense\n")
    with pytest.raises(UserError, match=r"list_val\.txt: line 1 is not 'path identity'"):
        read_crops(str(tmp_path))
    (tmp_path / "list_val.txt").unlink()
    with pytest.raises(UserError, match=r"list_val\.txt: cannot be read"):
        read_crops(str(tmp_path))


def test_a_folder_per_identity(tmp_path: Path) -> None:
    crops = read_crops(str(write(tmp_path, ["bob/1.jpg", "anna/x.png", "anna/y.jpg", "empty/z.txt.jpg"])))
    assert [path.parent.name for path in crops.paths] == ["anna", "anna", "bob", "empty"]
    np.testing.assert_array_equal(crops.identities, [0, 0, 1, 2])
    np.testing.assert_array_equal(crops.query, [True, False, True, True])
    assert (crops.cameras == -1).all()
    assert [path.name for path in read_crops(f"{tmp_path}[:1]").paths] == ["x.png", "y.jpg"]


def test_a_csv_names_its_pictures(tmp_path: Path) -> None:
    table = tmp_path / "set.csv"
    table.write_text("path,identity,camera,split\na/1.png,bob,hall,query\na/2.png,anna,door,gallery\n")
    crops = read_crops(str(table))
    assert crops.paths == [tmp_path / "a/1.png", tmp_path / "a/2.png"]
    np.testing.assert_array_equal(crops.identities, [1, 0])
    np.testing.assert_array_equal(crops.cameras, [1, 0])
    np.testing.assert_array_equal(crops.query, [True, False])
    table.write_text("\ufeffidentity, path\n7, 1.png\n7, 2.png\n-1, 3.png\n", encoding="utf-8")
    crops = read_crops(str(table))
    np.testing.assert_array_equal(crops.identities, [7, 7])  # -1 is junk
    np.testing.assert_array_equal(crops.query, [True, False])
    np.testing.assert_array_equal(crops.cameras, [-1, -1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,person\n1.png,2\n", "no column identity"),
        ("", "no column path and no column identity"),
        ("path,identity\n1.png\n", "line 2 has no identity"),
        ("path,identity,split\n1.png,2,test\n", "line 2: split is 'test'"),
        ("path,identity\n1.png,-1\n", "no identity is left"),
        ("path,identity\n", "no identity is left"),
        ("path,identity\n1.png," + "x" * 200_000, "line 2 is not of a table"),
        ("x" * 200_000, "line 1 is not of a table"),
    ],
    ids=lambda text: text[:40],
)
def test_faults_of_a_csv_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "set.csv").write_text(text)
    with pytest.raises(UserError, match=rf"set\.csv.*{message}"):
        read_crops(str(tmp_path / "set.csv"))


def test_a_picture_is_of_one_person(tmp_path: Path) -> None:
    table, other = tmp_path / "set.csv", tmp_path / "other.csv"
    table.write_text("path,identity\na.png,1\nb.png,1\na.png,1\nc.png,2\n")
    assert len(read_crops(str(table))) == 4
    table.write_text("path,identity\na.png,1\nb.png,1\nc/../a.png,2\n")
    with pytest.raises(UserError, match=r"a\.png: stands under two identities"):
        read_crops(str(table))
    # In two sets two people are meant, also where they have one number.
    table.write_text("path,identity\na.png,1\nb.png,2\n")
    other.write_text("path,identity\na.png,1\n")
    with pytest.raises(UserError, match=r"a\.png: stands under two identities"):
        train([str(table), str(other)], tmp_path / "model")


def sequence(folder: Path, rows: list[str], frames: int = 2) -> Path:
    (folder / "gt").mkdir(parents=True)
    (folder / "gt" / "gt.txt").write_text("\n".join(rows) + "\n")
    (folder / "seqinfo.ini").write_text(
        "[Sequence]\nname=s\nimDir=img1\nframeRate=10\nseqLength=9\nimWidth=40\nimHeight=30\nimExt=.png\n"
    )
    (folder / "img1").mkdir()
    for frame in range(1, frames + 1):
        picture = np.zeros((30, 40, 3), dtype=np.uint8)
        picture[:, 20:] = 10 * frame
        cv2.imwrite(str(folder / "img1" / f"{frame:06d}.png"), picture)
    return folder


def test_a_motchallenge_sequence_is_cut_from_its_truth(tmp_path: Path) -> None:
    rows = [
        "1,7,20,0,10,20,1,1,1.0",
        "2,7,20,0,10,20,1,1,0.6",
        "3,7,20,0,10,20,1,1,1.0",  # its picture is not there
        "1,8,0,0,10,20,1,1,0.4",  # hardly visible
        "1,9,0,0,10,20,0,1,1.0",  # not to be counted
        "1,10,0,0,10,20,1,3,1.0",  # a car
        "1,11,36,0,10,20,1,1,1.0",  # mostly outside of the picture
        "2,12,34,0,10,20,1,1,1.0",
    ]
    folder = sequence(tmp_path / "A", rows)
    crops = read_crops(str(folder))
    np.testing.assert_array_equal(crops.identities, [7, 7, 12])
    assert crops.boxes is not None and crops.boxes[2].tolist() == [34, 0, 40, 20] and (crops.cameras == -1).all()
    np.testing.assert_array_equal(load_images(crops, (4, 2))[:, 0, 0, 0], [10, 20, 20])
    np.testing.assert_array_equal(read_crops(str(folder), min_visibility=0.3).identities, [7, 7, 8, 11, 12])
    # MOT15 has coordinates in the world in place of class and visibility.
    sequence(tmp_path / "B", ["1,7,20,0,10,20,1,-3.1,-7.2,0", "1,8,20,0,10,20,0,-3.1,-7.2,0"])
    both = read_crops(str(tmp_path))
    np.testing.assert_array_equal(both.identities, [0, 0, 1, 2])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("row", ["nan,7,20,0,10,20", "1e300,7,20,0,10,20", "1,7.5,20,0,10,20", "1,7,20,0,inf,20"])
def test_a_truth_of_what_cannot_be_is_refused(tmp_path: Path, row: str) -> None:
    folder = sequence(tmp_path / "A", ["1,7,20,0,10,20,1,1,1.0", f"{row},1,1,1.0"])
    with pytest.raises(UserError, match=r"gt\.txt: frames and identities must be whole numbers, and boxes in pixels"):
        read_crops(str(folder))


def test_a_sequence_without_pictures_is_refused(tmp_path: Path) -> None:
    folder = sequence(tmp_path / "A", ["1,7,20,0,10,20,1,1,1.0"], frames=0)
    with pytest.raises(UserError, match="no identity is left"):
        read_crops(str(folder))
    (folder / "img1").rmdir()
    with pytest.raises(UserError, match="no pictures in img1"):
        read_crops(str(folder))


def test_what_cannot_be_used_is_refused_by_name(market: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing: no such folder"):
        read_crops(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="no identity is left; the set has 3"):
        read_crops(f"{market}[40:]")
    for names in (["notes.txt"], ["a.jpg", "b.jpg"]):
        with pytest.raises(UserError, match="no known layout; give one folder per identity"):
            read_crops(str(write(tmp_path / f"other{len(names)}", [n.replace(".txt", ".jpg") for n in names])))


@pytest.mark.needs_data
@pytest.mark.skipif(DATA is None, reason="REID_TRACKER_DATA is not set")
def test_the_published_sets_have_their_published_sizes() -> None:
    assert DATA is not None
    market = read_crops(f"{DATA}/market1501/bounding_box_train")
    assert (len(market), len(set(market.identities)), set(market.cameras)) == (12936, 751, {1, 2, 3, 4, 5, 6})
    assert len(read_crops(f"{DATA}/market1501")) == 12936
    training, test = (read_crops(f"{DATA}/market1501/bounding_box_train[{part}]") for part in (":551", "551:"))
    assert len(set(training.identities)) == 551 and len(set(test.identities)) == 200
    assert max(training.identities) < min(test.identities)
    cuhk = read_crops(f"{DATA}/cuhk03/val")
    assert (len(cuhk), len(set(cuhk.identities)), set(cuhk.cameras)) == (938, 100, {1, 2})
    sequences = read_crops(f"{DATA}/mot17_mini")
    assert len(sequences) > 100 and sequences.boxes is not None


def test_parts_of_a_set_are_no_people_and_each_can_be_read(tmp_path):
    """VeRi-776's, and a train/ and val/ of one's own."""
    for part in ("image_train", "image_query"):
        (tmp_path / "VeRi" / part).mkdir(parents=True)
        for number in range(1, 4):
            write_picture(tmp_path / "VeRi" / part / f"{number:04d}_c001_0001{number:04d}_0.jpg")
    with pytest.raises(UserError, match="image_query, image_train are parts of a set, not people"):
        read_crops(str(tmp_path / "VeRi"))
    assert read_crops(str(tmp_path / "VeRi/image_train")).identities.tolist() == [1, 2, 3]


def test_names_are_names_unless_all_are_plain_numbers(tmp_path):
    def read(*names):
        rows = (f"{number}.jpg,{name},\n" for number, name in enumerate(names))
        (tmp_path / "set.csv").write_text("path,identity,notes\n" + "".join(rows))
        return read_crops(str(tmp_path / "set.csv")).identities.tolist()

    assert len(set(read("1_12", "11_2", "112", "01", "1"))) == 5
    assert read("7", "-1", "112") == [7, 112]


def test_files_that_a_mac_leaves_are_no_pictures_and_tiffs_are(tmp_path):
    for person in ("a", "b"):
        write_picture(tmp_path / person / "1.tif")
        (tmp_path / person / "._1.tif").write_bytes(b"\0\5\26\7")
    assert len(read_crops(str(tmp_path))) == 2


def test_the_official_test_part_alone_is_read_for_what_it_is(tmp_path):
    for folder, cameras in (("query", (1, 2)), ("bounding_box_test", (1, 2, 3))):
        for person in (3, 8):
            for camera in cameras:
                write_picture(tmp_path / folder / f"{person:04d}_c{camera}s1_000001_00.jpg")
    crops = read_crops(str(tmp_path), "test")
    assert (crops.query.sum(), len(crops), set(crops.identities.tolist())) == (4, 10, {3, 8})
    with pytest.raises(UserError, match="holds the test part only"):
        read_crops(str(tmp_path))


def write_picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((64, 32, 3), 127, np.uint8))
