"""What is left of tracking under bad cameras, by the command line, on a clip that the test draws itself."""

import json
import sys

import cv2
import numpy as np
import pytest

from reid_tracker.cli import main

FRAMES = 24


@pytest.fixture
def sequence(tmp_path):
    """Two squares that walk past, their truth, and their boxes with vectors of clean frames."""
    folder = tmp_path / "walk"
    for part in ("img1", "gt", "det"):
        (folder / part).mkdir(parents=True)
    truth = []
    for number in range(1, FRAMES + 1):
        image = np.random.default_rng(number).integers(0, 60, (120, 200, 3), dtype=np.uint8)
        for who, left in ((1, 10 + 3 * number), (2, 150 - 2 * number)):
            image[30:90, left : left + 20] = 100 * who
            truth.append(f"{number},{who},{left + 1},31,20,60,1,-1,-1,-1")
        cv2.imwrite(str(folder / "img1" / f"{number:06d}.jpg"), image)
    (folder / "gt" / "gt.txt").write_text("\n".join(truth))
    (folder / "det" / "det.txt").write_text("\n".join(row.replace(",1,-1,-1,-1", ",0.9") for row in truth))
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname=walk\nframeRate=10\nseqLength={FRAMES}\nimWidth=200\nimHeight=120\nimDir=img1\nimExt=.jpg\n"
    )
    return folder


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["reid-tracker", "evaluate", "robustness", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_boxes_given_are_scored_on_the_frames_left_and_where_the_camera_shook_them(
    sequence, tmp_path, monkeypatch, capsys
):
    kinds = ["--corruptions", "flicker,low_fps,camera_shake", "--severities", "2,4"]
    boxes = ["--detections", sequence / "det" / "det.txt", "--set", "embedder.enabled=false"]
    files = ["--json", tmp_path / "figures.json", "--plot", tmp_path / "plot.png"]
    assert call(monkeypatch, sequence, *kinds, *boxes, *files) == 0
    assert "kept" in capsys.readouterr().out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["frames"] == FRAMES and figures["mode"] == "boxes given"
    assert figures["clean"]["IDF1"] > 0.95
    cells = figures["corruptions"]
    assert {kind: list(row) for kind, row in cells.items()} == {kind: ["2", "4"] for kind in kinds[1].split(",")}
    assert cells["flicker"]["4"]["kept"] == 1  # motion alone does not see it
    assert figures["blur_and_light"] == {"2": 1, "4": 1}
    assert cells["camera_shake"]["2"]["IDF1"] > 0.9  # the truth moves with the boxes
    assert cells["low_fps"]["4"]["IDF1"] > 0.6  # frames that are not there are not missed
    assert cv2.imread(str(tmp_path / "plot.png")).shape[0] > 100


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--corruptions", "fog"], "fog"),
        (["--severities", "3,9"], "severity 9"),
        (["--severities", "much"], "much"),
        (["--truth", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_mistakes_are_one_sentence(sequence, monkeypatch, capsys, arguments, word):
    boxes = ["--detections", sequence / "det" / "det.txt", "--set", "embedder.enabled=false"]
    assert call(monkeypatch, sequence, *boxes, *arguments) == 2
    error = capsys.readouterr().err
    assert word in error and "Traceback" not in error
