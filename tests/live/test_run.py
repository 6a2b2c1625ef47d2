"""reid-tracker live as a user starts and ends it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
from live_world import ColorDetector, ColorEmbedder, free_port, wait_until

from reid_tracker.cli import main
from reid_tracker.config import LiveConfig, load
from reid_tracker.errors import UserError
from reid_tracker.live import run as run_module
from reid_tracker.live.run import run_live
from reid_tracker.video.sources import open_source

PROGRAM = """
import sys
from live_world import ColorDetector, ColorEmbedder
from reid_tracker.config import LiveConfig, load
from reid_tracker.live.run import run_live
config = load(LiveConfig, None, {"output.record": sys.argv[2], "output.serve": "none"})
run_live([sys.argv[1]], config, detector=ColorDetector(), embedder=ColorEmbedder(),
     started=lambda address: print("running", address, flush=True))
print("ended", flush=True)
"""


@pytest.fixture
def refused(monkeypatch, capsys):
    """Call the command line; the one sentence that it ends with."""

    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["reid-tracker", "live", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        error = capsys.readouterr().err
        assert end.value.code == 2 and error.startswith("Error: ") and error.count("\n") == 1
        return error

    return call


def test_a_folder_that_takes_no_recordings_is_told_before_a_camera_is_opened(refused, walkers, tmp_path):
    (tmp_path / "taken").touch()
    for place in ("taken", "taken/below"):
        told = refused("-s", "rtsp://127.0.0.1:1/x", "--serve", ":0", "--record", str(tmp_path / place))
        assert f"{tmp_path / place}/127.0.0.1" in told and "taken: Not a directory" in told
    long = f"{250 * 'x'}={walkers}"  # the second camera's name is one that no file has
    told = refused("-s", "0", "-s", long, "--realtime", "--serve", ":0", "--record", str(tmp_path))
    assert "no file can have this name" in told and [each.name for each in tmp_path.iterdir()] == ["taken"]


def test_mistakes_end_in_one_sentence(refused, walkers, tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    file = ("--source", str(walkers))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert "in use by another program" in refused(*file, "--realtime", "--serve", address)
        assert "silent" in refused("-s", f"http://{address}/x", "--serve", ":0", "--set", "capture.timeout_seconds=0.5")
    assert "connection refused" in refused("-s", f"rtsp://{address}/x", "--serve", ":0")
    assert "no such camera" in refused("--source", "77", "--serve", ":0")
    assert "add --realtime" in refused(*file)
    for name, reason in (("text.mp4", "not a video that can be read"), ("text.nfo", "there is no video in it")):
        (tmp_path / name).write_text("hello")
        assert f"{tmp_path / name}: {reason}" in refused("-s", str(tmp_path / name), "--realtime", "--no-serve")
    assert "there is no screen here" in refused(*file, "--realtime", "--show")
    assert "The token may hold" in refused(*file, "--realtime", "--serve", ":0", "--token", "two words")
    assert "for people in a gallery" in refused(*file, "--realtime", "--set", "gallery.retention_days=3")
    assert "did you mean" in refused(*file, "--realtime", "--set", "people.left_second=3")


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_however_it_ends_the_recording_can_be_played(serve, tmp_path, ending):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, serve("mjpeg").url, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None and process.stdout.readline() == "running None\n"
    wait_until(lambda: any(path.stat().st_size > 2000 for path in tmp_path.iterdir()), 60)
    process.send_signal(ending)
    assert process.wait(10) == (-ending if ending == signal.SIGKILL else 0)
    assert process.stdout.read() == ("" if ending == signal.SIGKILL else "ended\n")
    (video,) = tmp_path.iterdir()
    assert list(open_source(video))


def start(sources, **settings):
    """A run in a thread; how to end it, and the loop that it gives."""
    stopping, started, loops = threading.Event(), threading.Event(), []
    config = load(LiveConfig, None, {name.replace("__", "."): value for name, value in settings.items()})
    options = {"detector": ColorDetector(), "embedder": ColorEmbedder(), "stopping": stopping, "realtime": True}

    def work():
        loops.append(run_live(sources, config, started=lambda address: started.set(), **options))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert started.wait(60)

    def end():
        stopping.set()
        thread.join(10)
        return loops[0]

    return end, thread


def test_cameras_of_one_name_are_told_apart_and_the_run_ends_with_its_files(walkers, tmp_path):
    again = tmp_path / walkers.name
    again.symlink_to(walkers)
    port = free_port()
    end, thread = start([str(walkers), str(again)], output__serve=f":{port}")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/state", timeout=5) as answer:
        state = json.load(answer)
    assert [camera["name"] for camera in state["cameras"]] == ["walkers", "walkers (2)"]
    thread.join(15)
    loop = end()
    assert [camera.status for camera in loop.cameras] == ["ended", "ended"]
    assert all(meter.frames > 3 for meter in loop.meters)


def test_another_address_gets_a_token_of_its_own(walkers):
    told, stopping = [], threading.Event()
    stopping.set()
    port = free_port()
    config = load(LiveConfig, None, {"output.serve": f"0.0.0.0:{port}"})
    options = {"detector": ColorDetector(), "embedder": ColorEmbedder(), "stopping": stopping, "realtime": True}
    for _ in range(2):
        run_live([str(walkers)], config, started=told.append, **options)
    tokens = [address.partition("?token=")[2] for address in told]
    assert tokens[0] != tokens[1] and all(len(token) > 20 for token in tokens)


def test_recorded_detections_are_no_live_detector(walkers):
    with pytest.raises(UserError, match="live sources need a detector"):
        run_live([str(walkers)], load(LiveConfig, None, {"detector.recorded": "det.txt"}), realtime=True)


def test_one_camera_of_two_may_be_off_at_the_start(serve):
    url = serve("mjpeg").url
    end, _ = start([f"hall={url}", f"yard=http://127.0.0.1:{free_port()}/off"], output__serve="none")
    loop = end()
    assert [camera.name for camera in loop.cameras] == ["hall", "yard"]
    assert "nobody answers there" in loop.cameras[1].error


def test_the_page_is_served_beside_other_outputs_and_says_where(walkers, tmp_path):
    told, stopping = [], threading.Event()
    stopping.set()
    options = {"detector": ColorDetector(), "embedder": ColorEmbedder(), "stopping": stopping, "realtime": True}
    for settings in ({"output.record": str(tmp_path)}, {"output.record": str(tmp_path), "output.serve": "none"}):
        run_live([str(walkers)], load(LiveConfig, None, settings), started=told.append, **options)
    assert told[0].startswith("http://127.0.0.1:") and told[1] is None
    port = free_port()
    run_live(
        [str(walkers)], load(LiveConfig, None, {"output.serve": f"0.0.0.0:{port}"}), started=told.append, **options
    )
    assert told[2].startswith(f"http://{socket.gethostname()}:{port}/?token=")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkey = pytest.MonkeyPatch()
        monkey.setattr(run_module, "DEFAULT_PAGE", f"127.0.0.1:{taken.getsockname()[1]}")
        run_live([str(walkers)], LiveConfig(), started=told.append, **options)
        monkey.undo()
    assert told[3].startswith("http://127.0.0.1:")
