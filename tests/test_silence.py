"""Nothing that the package does contacts anybody or writes outside of what was named: each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_world import make_clip

from reid_tracker import weights
from reid_tracker.gallery.sqlite_store import SqliteGallery
from reid_tracker.gallery.store import Model

# The audit hook sees what Python does; what native libraries do shows in the home folder, where their telemetry keeps
# who the user is before it reports.
WATCH = """
import json, sys
network = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"}
def watch(event, arguments):
    if event in network:
        print("NETWORK", event, arguments, flush=True)
sys.addaudithook(watch)
"""
COMMAND = "from reid_tracker.cli import main; import time\ntry: main()\nfinally: time.sleep(0.5)"
EMBED = """
import numpy as np, time
from reid_tracker import Embedder
boxes = np.array([[0, 0, 30, 60]], np.float32)
assert np.isfinite(Embedder(sys.argv[1]).embed(np.zeros((64, 64, 3), np.uint8), boxes)).all()
time.sleep(0.5)
"""


def watched(program: str, home: Path, *arguments: object) -> str:
    """Run it as a user whose home is empty; what it printed."""
    home.mkdir(exist_ok=True)
    doubtful = ("PYTEST", "YOLO", "ULTRALYTICS", "GITHUB", "XDG", "ORT_", "CI")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(doubtful)}
    done = subprocess.run(
        [sys.executable, "-c", WATCH + program, *map(str, arguments)],
        env=environment | {"HOME": str(home), "XDG_CACHE_HOME": str(home / "own-cache")},
        capture_output=True,
        text=True,
        timeout=240,
        cwd=home.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "NETWORK" not in done.stdout, done.stdout
    left = {path.relative_to(home).parts[0] for path in home.rglob("*")}
    assert left <= {"own-cache"}, sorted(str(path) for path in home.rglob("*"))
    return done.stdout


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_export_and_its_result(tmp_path, form):
    pytest.importorskip("onnxruntime" if form == "onnx" else "openvino")
    file = tmp_path / ("model.onnx" if form == "onnx" else "model.xml")
    watched(COMMAND, tmp_path / "home", "export", weights.APPEARANCE, "-o", file, "--format", form)
    watched(EMBED, tmp_path / "home", file)


@pytest.mark.parametrize("backend", ["auto", "onnx"])
def test_track(tmp_path, backend):
    """The conversion that a backend needs included."""
    if backend == "onnx":
        pytest.importorskip("onnxruntime")
    clip = make_clip(tmp_path / "in/walk.mp4", frames=5)
    command = ["track", clip, "-o", tmp_path / "out", "--backend", backend, "--detections", clip.parent / "det.txt"]
    watched(COMMAND, tmp_path / "home", *command, "--gallery", tmp_path / "people", "--video", "--mot")


@pytest.mark.parametrize(
    "command",
    [
        ["config", "track"],
        ["gallery", "list", "--gallery", "people"],
        ["evaluate", "mot", "--truth", "truth", "--results", "out"],
        ["evaluate", "reid", "--data", "crops"],
        ["report", "out/walk.txt", "--fps", "9"],
        ["convert", "out/walk.txt", "--to", "parquet", "-o", "walk.parquet"],
        ["review", "out/walk.txt", "walk.mp4", "--gallery", "reviewed", "--apply"],
        ["export-crops", "out/walk.txt", "walk.mp4", "-o", "cut", "--min-height", "8"],
        ["places", "walk.mp4", "-o", "places.yaml", "--preview", "places.png"],
        ["link", "people"],
        ["train", "crops", "-o", "model", "--set", "schedule.epochs=1", "--set", "compute.tensorboard=false"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_other_commands(tmp_path, command):
    random = np.random.default_rng(0)
    for person in range(8):
        for image in range(4):
            path = tmp_path / f"crops/{person:04d}/{image}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), random.integers(0, 255, (64, 32, 3), dtype=np.uint8))
    SqliteGallery(tmp_path / "people", Model("a", 8)).close()
    truth = tmp_path / "truth/walk"
    (truth / "gt").mkdir(parents=True)
    (truth / "seqinfo.ini").write_text("[Sequence]\nname=walk\nframeRate=9\nseqLength=3\nimWidth=64\nimHeight=48\n")
    (truth / "gt/gt.txt").write_text("1,1,1,1,9,9,1,1,1\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/walk.txt").write_text("".join(f"{n},1,1,1,30,60,1,-1,-1,-1\n" for n in range(1, 4)))
    (tmp_path / "out/walk_review.json").write_text('{"edits": [{"do": "rename", "identity": 1, "name": "Ada"}]}')
    (tmp_path / "places.yaml").write_text("size: [160, 120]\nlines: {gate: [[80, 10], [80, 110]]}\n")
    make_clip(tmp_path / "walk.mp4", frames=5)
    watched(COMMAND, tmp_path / "home", *command)


LIVE = """
import threading
from reid_tracker import config
from reid_tracker.live.run import run_live
import pathlib
stopping = threading.Event()
def started(address):
    print("PAGE", address, flush=True)
    threading.Timer(3, stopping.set).start()
settings = config.load(config.LiveConfig, None, {"gallery.where": sys.argv[2], "output.record": sys.argv[3]})
run_live([sys.argv[1]], settings, realtime=True, stopping=stopping, started=started)
"""


SERVE = """
import _thread, threading
from reid_tracker.config import TrackerSettings
from reid_tracker.service.run import serve
from reid_tracker.service.sessions import Sessions
print("SESSION", Sessions(60, 1).begin(10, TrackerSettings(), crops=True))
try:
    serve("127.0.0.1:0", None, 60, 10, lambda where, token: threading.Timer(1, _thread.interrupt_main).start())
except KeyboardInterrupt:
    print("ENDED")
"""


def test_serve(tmp_path):
    """With crops, by the bundled network."""
    said = watched(SERVE, tmp_path / "home")
    assert "SESSION" in said and "ENDED" in said


def test_live(tmp_path):
    """With its page, a gallery and recordings, by the bundled networks."""
    clip = make_clip(tmp_path / "in/walk.mp4", frames=30)
    arguments = (clip, tmp_path / "people", tmp_path / "recorded")
    assert "PAGE http://127.0.0.1" in watched(LIVE, tmp_path / "home", *arguments)
    assert list((tmp_path / "recorded").glob("walk-*.mp4")) and (tmp_path / "people/gallery.sqlite").is_file()
