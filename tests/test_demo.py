import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid_tracker.cli import main
from reid_tracker.demo import HEIGHT, WIDTH, make_clip
from reid_tracker.errors import UserError
from reid_tracker.motchallenge import CLASS, FRAME, IDENTITY, LEFT, VISIBILITY, read_rows
from reid_tracker.video.sources import open_source


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("demo") / "clip")


def test_the_truth_is_where_the_people_are(clip: Path) -> None:
    from ultralytics.utils import ASSETS

    rows = read_rows(clip.parent / "gt" / "gt.txt")
    corners = np.hstack([rows[:, LEFT : LEFT + 2], rows[:, LEFT : LEFT + 2] + rows[:, LEFT + 2 : LEFT + 4]])
    assert corners.min() >= 0 and (corners.max(axis=0) <= [WIDTH, HEIGHT, WIDTH, HEIGHT]).all()
    frames = list(open_source(clip))
    assert len(frames) == 210 and frames[0].image is not None and frames[15].timestamp == pytest.approx(1, abs=1e-3)
    # A person of the first photograph, whole and in full light.
    (row,) = np.flatnonzero((rows[:, FRAME] == 1) & (rows[:, IDENTITY] == 3))
    x1, y1, x2, y2 = corners[row].round().astype(int)
    photograph = cv2.imread(str(ASSETS / "bus.jpg"))[406:863, 222:346]
    shown = cv2.resize(photograph, (x2 - x1, y2 - y1), interpolation=cv2.INTER_AREA)
    assert rows[row, VISIBILITY] > 0.99
    assert np.abs(frames[0].image[y1:y2, x1:x2].astype(int) - shown).mean() < 12


def test_everyone_leaves_and_some_return(clip: Path) -> None:
    rows = read_rows(clip.parent / "gt" / "gt.txt")
    present = {
        person: set(rows[(rows[:, IDENTITY] == person) & (rows[:, CLASS] == 1), FRAME]) for person in range(1, 7)
    }
    gaps = {person: max(np.diff(sorted(frames))) for person, frames in present.items()}
    assert all(gaps[person] > 45 for person in (1, 2, 3, 4))  # away for more than three seconds
    assert all(max(present[person]) < 190 for person in (5, 6))  # and not back at the end


def test_the_demo_ends_with_a_video_and_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The truth, as though a detector had found it, with those hardly seen at confidence 0.
    told = [f"detector.recorded={tmp_path / 'clip' / 'gt' / 'gt.txt'}", "embedder.enabled=false"]
    told.append("output.jsonl=true")  # one output more, and none less
    arguments = ["reid-tracker", "demo", "-o", str(tmp_path), *(part for text in told for part in ("--set", text))]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as end:
        main()
    out = capsys.readouterr().out
    assert end.value.code == 0
    figures = re.search(r"HOTA ([\d.]+)  MOTA ([\d.]+)  IDF1 ([\d.]+)", out)
    assert figures and float(figures[1]) > 55 and float(figures[2]) > 80
    assert (tmp_path / "clip.jsonl").is_file()
    assert out.splitlines()[-1] == str(tmp_path / "clip.mp4") and (tmp_path / "clip.mp4").stat().st_size > 10_000
    with pytest.raises(UserError, match="cannot be written"):
        make_clip(tmp_path / "clip.mp4" / "here")
