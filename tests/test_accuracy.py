"""Identities on real sequences: what the README claims must keep holding (recorded boxes, so that it is quick)."""

import pytest

from reid_tracker import TrackConfig, evaluate_mot, track
from reid_tracker.config import load

pytestmark = pytest.mark.needs_data


def figures(folders, recorded, tmp_path):
    truth = tmp_path / "truth"
    truth.mkdir()
    for folder in folders:
        (truth / folder.name).symlink_to(folder.resolve())
    results = tmp_path / "results"
    settings = {"detector.recorded": recorded, "output.mot": True, "output.folder": str(results)}
    track(folders, load(TrackConfig, None, settings))
    return evaluate_mot(truth, results)


def test_with_appearance(data, tmp_path):
    folders = [data / "mot15" / name for name in ("PETS09-S2L1", "TUD-Campus")]
    found = figures(folders, "{source}/yolo11n_osnet.npz", tmp_path)
    both = found["COMBINED_SEQ"]
    assert both["HOTA"] >= 0.61 and both["IDF1"] >= 0.86 and both["IDSW"] <= 20
    # The best of BoxMOT's and Ultralytics' trackers on the same input.
    assert found["PETS09-S2L1"]["IDF1"] >= 0.797 and found["TUD-Campus"]["IDF1"] >= 0.785


def test_motion_only(data, tmp_path):
    folders = [data / "mot17" / f"MOT17-{number}-FRCNN" for number in ("02", "04", "09", "11")]
    both = figures(folders, "{source}/det/det.txt", tmp_path)["COMBINED_SEQ"]
    assert both["HOTA"] >= 0.505 and both["IDF1"] >= 0.58
