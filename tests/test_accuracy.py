"""Identities on real sequences: what the README claims must keep holding (recorded boxes, so that it is quick)."""

import json

import pytest

from reid_tracker import TrackConfig, evaluate_mot, track
from reid_tracker.config import load

pytestmark = pytest.mark.needs_data

# PETS09-S2L1's published truth numbers who returns after seconds anew: against it nobody may be recognised.
NOBODY_RETURNS = {"tracker.memory_seconds": 0}


def figures(folders, recorded, tmp_path, **more):
    truth = tmp_path / "truth"
    truth.mkdir()
    for folder in folders:
        (truth / folder.name).symlink_to(folder.resolve())
    results = tmp_path / "results"
    settings = {"detector.recorded": recorded, "output.mot": True, "output.folder": str(results), **more}
    track(folders, load(TrackConfig, None, settings))
    if "refine.enabled" in more:
        for folder in folders:
            (results / f"{folder.name}_refined.txt").replace(results / f"{folder.name}.txt")
    return evaluate_mot(truth, results)


def test_with_appearance(data, tmp_path):
    folders = [data / "mot15" / name for name in ("PETS09-S2L1", "TUD-Campus")]
    found = figures(folders, "{source}/yolo11n_osnet.npz", tmp_path, **NOBODY_RETURNS)
    both = found["COMBINED_SEQ"]
    assert both["HOTA"] >= 0.61 and both["IDF1"] >= 0.86 and both["IDSW"] <= 20
    # The best of BoxMOT's and Ultralytics' trackers on the same input.
    assert found["PETS09-S2L1"]["IDF1"] >= 0.797 and found["TUD-Campus"]["IDF1"] >= 0.785


def test_looking_back(data, tmp_path):
    folders = [data / "mot15" / name for name in ("PETS09-S2L1", "TUD-Campus")]
    short = {"refine.enabled": True, "refine.link_seconds": 3, **NOBODY_RETURNS}
    both = figures(folders, "{source}/yolo11n_osnet.npz", tmp_path, **short)["COMBINED_SEQ"]
    assert both["HOTA"] >= 0.66 and both["MOTA"] >= 0.84 and both["IDF1"] >= 0.90 and both["IDSW"] <= 12


def test_returns(data, tmp_path):
    """With one number a person the default gives people back, and looking back gives more of them back."""
    folder = data / "mot15" / "PETS09-S2L1"
    person_of = json.loads((folder / "people.json").read_text())
    copy = tmp_path / "truth" / folder.name
    (copy / "gt").mkdir(parents=True)
    (copy / "seqinfo.ini").symlink_to(folder / "seqinfo.ini")
    rows = [line.split(",") for line in (folder / "gt" / "gt.txt").read_text().splitlines()]
    lines = [",".join([row[0], str(person_of.get(row[1], row[1])), *row[2:]]) for row in rows]
    (copy / "gt" / "gt.txt").write_text("\n".join(lines) + "\n")
    found = []
    for place, more in enumerate(({}, NOBODY_RETURNS, {"refine.enabled": True})):
        out = tmp_path / str(place)
        settings = {"detector.recorded": "{source}/yolo11n_osnet.npz", "output.mot": True, "output.folder": str(out)}
        track(folder, load(TrackConfig, None, {**settings, **more}))
        if more.get("refine.enabled"):
            (out / f"{folder.name}_refined.txt").replace(out / f"{folder.name}.txt")
        found.append(evaluate_mot(copy, out / f"{folder.name}.txt")[folder.name]["IDF1"])
    assert found[0] >= found[1] + 0.05 and found[2] >= found[0] + 0.03


def test_motion_only(data, tmp_path):
    folders = [data / "mot17" / f"MOT17-{number}-FRCNN" for number in ("02", "04", "09", "11")]
    both = figures(folders, "{source}/det/det.txt", tmp_path)["COMBINED_SEQ"]
    assert both["HOTA"] >= 0.505 and both["IDF1"] >= 0.58
