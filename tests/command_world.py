"""What tests of the command line share: a clip with its boxes, and commands in this process or in one of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from reid_tracker.cli import main
from reid_tracker.detection.recorded import RecordedDetections

FRAMES = 30


def make_clip(path: Path, shade: int = 200, frames: int = FRAMES) -> Path:
    """Write a moving square, ten frames a second, and its boxes as det.txt beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "10", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for index in range(frames):
            image = np.random.default_rng(index).integers(0, 60, (120, 160, 3), dtype=np.uint8)
            image[30:90, 3 * index : 3 * index + 20] = shade
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    boxes = (f"{number},-1,{3 * (number - 1)},30,20,60,0.9\n" for number in range(1, frames + 1))
    (path.parent / "det.txt").write_text("".join(boxes))
    return path


def boxes_of(*clips: Path) -> str:
    """Write the boxes beside each of several clips to a file of its own, and give what names them all."""
    for clip in clips:
        shutil.copy(clip.parent / "det.txt", f"{clip}.txt")
    return "{source}.txt"


class Run:
    """Calls the command line in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        self._monkeypatch.setattr(sys, "argv", ["reid-tracker", *map(str, arguments)])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, err = self._capsys.readouterr()
        return int(end.value.code or 0), out, err

    def track(self, source: Path, output: Path, *flags: object) -> tuple[int, str, str]:
        """Track by the recorded boxes beside the source, by motion alone."""
        fixed = ["--detections", source.parent / "det.txt", "--no-appearance", "--no-camera-motion", "-o", output]
        return self("track", source, *fixed, *flags)

    def breaking(self, frame: int, error: BaseException) -> pytest.MonkeyPatch:
        """Let the detector fail at a frame (from 0) until the monkeypatch is undone."""
        patch, original = pytest.MonkeyPatch(), RecordedDetections.detect

        def detect(self: RecordedDetections, each):
            if each.index == frame:
                raise error
            return original(self, each)

        patch.setattr(RecordedDetections, "detect", detect)
        return patch


def refused(result: tuple[int, str, str], *words: str) -> str:
    """A user's mistake: status 2, one sentence with these words, no traceback; the sentence."""
    status, _, error = result
    assert status == 2, error
    lines = [line for line in error.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1 and "Traceback" not in error
    for word in words:
        assert word in lines[0], lines[0]
    return lines[0]


SLOW = """
import time
from reid_tracker.detection.recorded import RecordedDetections as R
detect = R.detect
R.detect = lambda self, frame: (time.sleep({seconds}), detect(self, frame))[1]
"""


def start(*arguments: object, seconds: float = 0.0, before: str = "") -> "subprocess.Popen[str]":
    """Call the command line in a process of its own, in which each frame takes so long."""
    program = SLOW.format(seconds=seconds) + before + "\nfrom reid_tracker.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
