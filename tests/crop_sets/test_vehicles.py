"""The set of vehicles that the documentation trains on (`scripts/vehicles.py`), made small."""

import runpy
from pathlib import Path

import numpy as np
import pytest

import reid_tracker
from reid_tracker import RecordedDetections, open_source
from reid_tracker.crop_sets.layouts import read_crops
from reid_tracker.motchallenge import IDENTITY, read_rows

SCRIPT = Path(__file__).parents[2] / "scripts" / "vehicles.py"


@pytest.fixture(scope="module")
def vehicles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, script = tmp_path_factory.mktemp("made") / "vehicles", runpy.run_path(str(SCRIPT))
    small = {"TRAIN": 3, "TEST": 2, "ROAD": 2, "CROPS": 4, "SECONDS": 28.0, "WIDTH": 480, "AWAY": (10.0, 11.0)}
    for name in ("write_crops", "write_road"):
        script[name].__globals__.update(small)
        script[name](folder)
    return folder


def test_crops_of_one_vehicle_are_alike_and_none_is_in_both_parts(vehicles: Path) -> None:
    train, test = read_crops(str(vehicles / "train")), read_crops(str(vehicles / "test.csv"), "test")
    assert len(train) == 12 and len(set(train.identities)) == 3
    assert len(test) == 8 and test.query.sum() == 4 and len(set(test.identities)) == 2


def test_who_drives_by_comes_back_and_the_boxes_are_where_the_vehicles_are(vehicles: Path) -> None:
    truth, seen = read_rows(vehicles / "road" / "gt" / "gt.txt"), RecordedDetections(vehicles / "road.npz")
    frames = list(open_source(vehicles / "road.mp4"))
    assert len(frames) == 336 and seen.last_frame == truth[-1, 0]
    for number in (1, 2):
        at = truth[truth[:, IDENTITY] == number, 0]
        assert np.diff(at).max() > 36  # away for three seconds or more
    boxes = [seen.detect(frame) for frame in frames]
    assert sum(map(len, boxes)) == len(truth) and {2} == {kind for each in boxes for kind in each.class_id}
    fullest = int(np.argmax([each.xyxy[:, 2].max(initial=0) for each in boxes]))
    left, top, right, bottom = boxes[fullest].xyxy[0].astype(int)
    vehicle, road = frames[fullest].image[top:bottom, left:right], frames[-1].image[top:bottom, left:right]
    assert np.abs(vehicle.astype(int) - road).mean() > 15
    assert reid_tracker.open_source(vehicles / "road.mp4").frame_rate == 12
