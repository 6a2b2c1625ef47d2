import json
import os
import subprocess
import sys
from pathlib import Path

# Runs in an interpreter of its own, outside pytest, where ultralytics would keep its analytics off by itself.
WATCH = """
import json, os, sys
seen = []
network = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"}
programs = {"subprocess.Popen", "os.system", "os.posix_spawn", "os.exec", "os.fork"}
def watch(event, arguments):
    # Importing torch asks the dynamic linker's cache for a library.
    if event in network | programs and "ldconfig" not in str(arguments[:1]):
        seen.append([event, repr(arguments)])
sys.addaudithook(watch)
"""

# The user of a notebook has imported ultralytics before, with a network at hand: its analytics are on.
IMPORTED_BEFORE = """
import socket
look_up, socket.getaddrinfo = socket.getaddrinfo, lambda *_: []
from ultralytics.utils import events
socket.getaddrinfo = look_up
assert events.events.enabled
"""

DETECT = """
import threading
import cv2, numpy as np, torch

def process():
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    return environment, torch.get_num_threads(), cv2.getNumThreads(), torch.save, str(np.get_printoptions())

before = process()
from reid_tracker.detection.yolo import YoloDetector
from reid_tracker.video.frames import Frame
detector = YoloDetector(sys.argv[1], confidence=0, image_size=64)
found = 0
for index in range(3):
    image = np.random.default_rng(index).integers(0, 255, (90, 160, 3), dtype=np.uint8)
    found += len(detector.detect(Frame(image=image, index=index, timestamp=0.0)))
unchanged = process() == before

from ultralytics.utils import checks  # what it does when it misses something
checks.check_requirements("a-package-that-nobody-has")
checks.check_font("no-such-font.ttf")
checks.check_pip_update_available()
for runtime in ("openvino", "onnxruntime"):  # those that are installed
    try:
        __import__(runtime)
    except ImportError:
        pass
for thread in threading.enumerate():  # analytics are sent by one
    if thread is not threading.main_thread():
        thread.join(timeout=5)
print(json.dumps({"seen": seen, "found": found, "unchanged": unchanged}))
"""

REACH_OUT = """
import socket, subprocess
try:
    socket.create_connection(("127.0.0.1", 9), timeout=1)
except OSError:
    pass
subprocess.run([sys.executable, "-c", ""])
print(json.dumps({"seen": seen}))
"""


def run_watched(script: str, home: Path, *arguments: str) -> dict:
    """Run a script with the audit hook, as a user whose home is empty, and return its report and what it printed."""
    doubtful = ("PYTEST", "YOLO", "ULTRALYTICS", "GITHUB", "XDG", "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(doubtful)}
    result = subprocess.run(
        [sys.executable, "-c", WATCH + script, *arguments],
        env=environment | {"HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    *printed, last = result.stdout.splitlines()
    return json.loads(last) | {"printed": printed}


def test_the_watch_sees_connections_look_ups_and_programs(tmp_path: Path) -> None:
    seen = {event for event, _ in run_watched(REACH_OUT, tmp_path)["seen"]}
    assert seen >= {"socket.getaddrinfo", "socket.connect", "subprocess.Popen"}


def test_detecting_contacts_nobody_and_leaves_the_process_and_the_home_folder_alone(
    tiny_yolo: Path, tmp_path: Path
) -> None:
    outcome = run_watched(DETECT, tmp_path, str(tiny_yolo))
    assert outcome["found"] > 0
    assert outcome["seen"] == []
    assert outcome["unchanged"]
    assert outcome["printed"] == []
    assert not list(tmp_path.iterdir())


def test_it_contacts_nobody_where_ultralytics_was_imported_before(tiny_yolo: Path, tmp_path: Path) -> None:
    outcome = run_watched(IMPORTED_BEFORE + DETECT, tmp_path, str(tiny_yolo))
    assert outcome["found"] > 0
    assert outcome["seen"] == []
    settings = json.loads(next(tmp_path.rglob("settings.json")).read_text())
    assert settings["sync"] is True  # the user's own choice stays on the disk
