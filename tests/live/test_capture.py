"""Cameras and streams as they fail in life: real servers, killed and started again."""

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from live_world import SIZE, ColorDetector, ColorEmbedder, picture, wait_until

from reid_tracker.config import LiveConfig, load
from reid_tracker.errors import UserError
from reid_tracker.live import capture
from reid_tracker.live.capture import Camera, LiveSource
from reid_tracker.live.loop import LiveLoop
from reid_tracker.live.people import People

QUICK = load(LiveConfig, None, {"capture.timeout_seconds": 1.5})


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def still(index: int) -> Callable[[], np.ndarray]:
    return lambda: picture(index)


@contextmanager
def file_server(folder: Path) -> Iterator[ThreadingHTTPServer]:
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def connect(url: str, **settings: float) -> Camera:
    camera = Camera(LiveSource.parse(url), QUICK.capture.model_copy(update=settings))
    camera.start()
    return camera


def test_at_three_times_the_pipelines_speed_one_frame_waits_and_it_is_the_newest():
    clock, shown = Clock(), []
    camera = Camera(LiveSource("", "fast", "stream"), clock=clock)
    produced = 0

    class SlowDetector(ColorDetector):
        """Takes as long as three frames of the camera."""

        def detect(self, frame):
            nonlocal produced
            for _ in range(3):
                clock.now += 0.1
                camera.offer(None, still(produced))
                produced += 1
            return super().detect(frame)

    camera.offer(None, still(0))
    loop = LiveLoop(
        [camera], SlowDetector(), None, LiveConfig(), People(), lambda *done: shown.append(done), clock=clock
    )
    for _ in range(40):
        before = clock.now
        assert loop.step() == 1
        arrived = shown[-1][2]
        assert before - arrived < 0.1 + 1e-9  # it is the newest: no older than the camera's step
    assert loop.meters[0].frames == 40 and camera.received == 121
    assert camera.dropped == 121 - 40 - 1  # all others but the one that waits
    assert loop.meters[0].delay() == pytest.approx(0.3)
    np.testing.assert_allclose(np.diff([each[1].frame.timestamp for each in shown[1:]]), 0.3)  # true steps
    assert shown[9][1].tracks.tracker_id.tolist() == [1, 2, 3]  # a drop does not break tracking


def test_steps_are_the_sources_own_and_its_leaps_are_bridged():
    clock = Clock()
    camera = Camera(LiveSource("", "jittery", "stream"), clock=clock)
    times = []
    random = np.random.default_rng(0)
    for index in range(50):
        clock.now = 1000 + 0.1 * index + (random.uniform(0, 0.08) if index else 0)
        camera.offer(0.1 * index, still(0))
        times.append(camera.take()[0].timestamp)
    np.testing.assert_allclose(np.diff(times), 0.1, atol=1e-4)
    clock.now += 1
    camera.offer(90_000.0, still(0))  # the camera's clock was set
    frame, _ = camera.take()
    assert frame.timestamp == pytest.approx(clock.now)
    clock.now += 1
    camera.offer(5.0, still(0))
    assert camera.take()[0].timestamp == pytest.approx(frame.timestamp + 1)
    camera.offer(4.0, still(0))  # time may not run back
    assert frame.timestamp + 1 < camera.take()[0].timestamp < frame.timestamp + 1.01
    assert camera.take() is None


@pytest.mark.parametrize("drift", [-5e-5, 5e-5])
def test_a_source_whose_clock_is_slow_or_fast_is_followed_smoothly(drift):
    clock, random, steps = Clock(), np.random.default_rng(0), []
    camera, last = Camera(LiveSource("", "quartz", "stream"), clock=clock), None
    for index in range(0, 8 * 3600):  # a picture a second for eight hours
        clock.now = 1000 + index + random.uniform(0, 0.05)
        camera.offer(index * (1 + drift), still(0))
        time = camera.take()[0].timestamp
        assert clock.now - 0.2 < time <= clock.now
        steps.append(1.0 if last is None else time - last)
        last = time
    assert max(steps) < 1.06 and min(steps) > 0.94  # no leap


@pytest.mark.parametrize("kind", ["rtsp", "mjpeg"])
def test_a_killed_stream_is_back_soon_after_its_return_and_so_are_its_people(serve, kind):
    server, other = serve(kind), serve("mjpeg")
    arrival, stopping = threading.Event(), threading.Event()
    cameras = [Camera(LiveSource.parse(each.url), QUICK.capture, arrival) for each in (server, other)]
    cameras[1].name = "other"
    seen: dict[str, set[int]] = {"before": set(), "lost": set(), "after": set()}
    phase, others = "before", []

    def put(camera, result, arrived):
        if camera:
            others.append(arrived)
        else:
            seen[phase].update(result.tracks.tracker_id.tolist())

    for camera in cameras:
        camera.start()
    config = load(LiveConfig, None, {"tracker.lost_seconds": 0.5})
    embedder = ColorEmbedder()
    loop = LiveLoop(cameras, ColorDetector(), embedder, config, People(), put, embedder.statistics)
    thread = threading.Thread(target=loop.run, args=(arrival, stopping))
    thread.start()
    try:
        wait_until(lambda: loop.meters[0].frames > 20)
        phase = "lost"
        server.kill()
        wait_until(lambda: cameras[0].status == "lost", 5)
        went_on = len(others)
        threading.Event().wait(1.5)  # longer than motion is remembered
        assert cameras[0].status == "lost" and len(others) > went_on + 10 and cameras[1].status == "live"
        phase = "after"
        server.start()
        back = wait_until(lambda: cameras[0].status == "live", 5)
        assert back < 3 and cameras[0].reconnects == 1
        count = loop.meters[0].frames
        wait_until(lambda: loop.meters[0].frames > count + 15)
    finally:
        stopping.set()
        thread.join()
        for camera in cameras:
            camera.stop()
    assert len(seen["before"]) == 3 and seen["after"] == seen["before"]


def test_a_camera_that_knows_udp_alone_is_read(serve):
    camera = Camera(LiveSource.parse(serve("rtsp", udp=True).url), QUICK.capture)
    camera.start()
    wait_until(lambda: camera.received > 5)
    frame, _ = camera.take()
    assert len(ColorDetector().detect(frame)) == 3
    camera.stop()


def test_a_camera_that_is_stopped_is_not_called_lost(monkeypatch, caplog):
    pause = threading.Event()

    def pictures(*_):
        while True:
            yield None, still(0)
            pause.wait(0.01)

    monkeypatch.setattr(LiveSource, "open", pictures)
    camera = Camera(LiveSource("", "camera 0", "device"))
    camera.start()
    wait_until(lambda: camera.received >= 2)
    camera.stop()
    assert camera.status == "live" and not caplog.records


def test_a_playlist_is_played_at_its_own_pace(walkers, tmp_path):
    with av.open(str(walkers)) as source, av.open(str(tmp_path / "live.m3u8"), "w", format="hls") as playlist:
        stream = playlist.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                playlist.mux(packet)
    with file_server(tmp_path) as server:
        camera = connect(f"http://127.0.0.1:{server.server_port}/live.m3u8")
        took = wait_until(lambda: camera.received >= 21)
        camera.stop()
    assert 1.5 < took < 4  # 20 steps of 0.1 s, not all at once


def test_a_file_is_played_at_its_own_pace_and_ends(walkers):
    camera = Camera(LiveSource.parse(str(walkers), realtime=True))
    camera.start()
    times = []
    while camera.status != "ended":
        if (taken := camera.take()) is not None:
            times.append((taken[0].timestamp, taken[1]))
    assert 36 <= len(times) <= 40
    np.testing.assert_allclose(np.diff(np.array(times)[:, 0]).mean(), 0.1, atol=0.01)
    assert 3.4 < times[-1][1] - times[0][1] < 4.5


def test_a_device_is_read_until_it_gives_nothing_more(walkers):
    camera = Camera(LiveSource(str(walkers), "camera 0", "device"))
    camera.start()
    wait_until(lambda: camera.status == "lost")
    assert camera.take()[0].image.shape == (SIZE[1], SIZE[0], 3)
    assert camera.error == "camera 0: gives no more pictures; check its cable."
    wait_until(lambda: camera.reconnects >= 2)  # and is tried again
    camera.stop()


def test_a_stream_that_is_silent_is_given_up():
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(UserError, match=r"/quiet: silent for 1.5 s; check"),
    ):
        connect(f"http://127.0.0.1:{listener.getsockname()[1]}/quiet")


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("rtsp", ("guest:secret", "guest:wrong"), "wrong user name or password; write them as user:password@host."),
        ("mjpeg", ("guest:secret", "guest:wrong"), "wrong user name or password; write them as user:password@host."),
        ("mjpeg", ("/camera", "/kamera"), r"there is no such stream \(404\); check the path of the URL."),
        ("rtsp", ("/camera", "/kamera"), r"there is no such stream \(404\); check the path of the URL."),
    ],
)
def test_a_stream_that_refuses_is_told_in_one_sentence_without_the_password(serve, kind, change, message):
    url = serve(kind, login="guest:secret").url
    assert connect(url).received
    with pytest.raises(UserError, match=message) as told:
        connect(url.replace(*change))
    assert str(told.value).startswith("127.0.0.1:") and not re.search(r"secret|wrong\b(?! user)|guest", str(told.value))


def test_nobody_there_and_garbage_are_told(tmp_path):
    (tmp_path / "garbage").write_bytes(np.random.default_rng(0).bytes(300_000))
    with file_server(tmp_path) as server, pytest.raises(UserError, match="what it sends is not video; check the URL"):
        connect(f"http://127.0.0.1:{server.server_port}/garbage")
    with pytest.raises(UserError, match="connection refused"):
        connect(f"rtsp://127.0.0.1:{server.server_port}/gone")


def test_a_camera_that_is_not_there_names_those_that_are(tmp_path, monkeypatch):
    monkeypatch.setattr(capture, "DEVICES", tmp_path)
    absent = LiveSource(str(tmp_path / "video7"), "camera 7", "device")
    with pytest.raises(UserError, match=r"camera 7: there is no such camera; this machine has no camera\."):
        Camera(absent).start()
    (tmp_path / "video2").touch()
    with pytest.raises(UserError, match=r"no such camera; cameras here: .*/video2\."):
        Camera(absent).start()


def test_a_device_without_permission_is_told(tmp_path):
    device = tmp_path / "video0"
    device.touch(mode=0o000)
    is_root = os.geteuid() == 0
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents[:3] if is_root else ():
        folder.chmod(0o755)
    if is_root:
        os.seteuid(65_534)  # root may do everything
    try:
        with pytest.raises(UserError, match=r"camera 0: no permission to use .*; add this user to the group"):
            Camera(LiveSource(str(device), "camera 0", "device")).start()
    finally:
        if is_root:
            os.seteuid(0)


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("0", "device", "camera 0"),
        ("/dev/video3", "device", "/dev/video3"),
        ("rtsp://u:p%40@10.0.0.5:554/h264?key=x", "stream", "10.0.0.5:554/h264"),
        ("http://cam.local/", "stream", "cam.local"),
        ("https://u:a/b@c@host/x", "stream", "host/x"),
        ("rtsp://host/user=admin&password=S3cret&channel=1", "stream", "host"),
        ("rtsp://user:S3?cr//et@host/main", "stream", "host/main"),
        ("rtsp://host/live;pw=S3cret", "stream", "host/live"),
        ("rtsp://host/live#S3cret", "stream", "host/live"),
        ("hall=rtsp://u:S3cret@host/x", "stream", "hall"),
        ("front door=0", "device", "front door"),
    ],
)
def test_sources_are_known_by_what_is_given(text, kind, name):
    source = LiveSource.parse(text)
    assert (source.kind, source.name) == (kind, name)
    assert source.address == text.partition("=")[2] if name in ("hall",) else "S3cret" not in source.name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ftp://u:secret@host/x", "ftp://host/x: write a URL as"),
        ("rtsp://", "write a URL as SCHEME://HOST"),
        ("ftp:/u:secret@host", "ftp://host: write a URL as"),
        ("u:secret@host/x", "host/x: no such file"),
        ("hall=ftp://u:secret@host", "write a URL as"),
        ("nothing.mp4", "nothing.mp4: no such file"),
        (__file__, "a file does not run live; add --realtime"),
    ],
)
def test_what_cannot_be_a_live_source_is_refused(text, message):
    with pytest.raises(UserError, match=message) as told:
        LiveSource.parse(text)
    assert "secret" not in str(told.value)


def test_a_playlist_may_not_lead_to_this_machines_files(walkers, tmp_path):
    (tmp_path / "trap.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nfile://{Path(walkers)}\n")
    with file_server(tmp_path) as server, pytest.raises(UserError):
        connect(f"http://127.0.0.1:{server.server_port}/trap.m3u8")


def test_a_film_on_a_server_is_played_at_its_own_pace_and_ends(walkers):
    with file_server(walkers.parent) as server:
        camera = connect(f"http://127.0.0.1:{server.server_port}/{walkers.name}")
        began = time.monotonic()
        wait_until(lambda: camera.status == "ended", 30)
        assert time.monotonic() - began > 1.0 and camera.reconnects == 0
        camera.stop()


def test_a_url_that_gives_single_pictures_is_a_quiet_camera(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(capture, "SNAPSHOT_SECONDS", 0.05)
    cv2.imwrite(str(tmp_path / "snapshot.jpg"), picture(3))
    with file_server(tmp_path) as server:
        camera = connect(f"http://127.0.0.1:{server.server_port}/snapshot.jpg")
        wait_until(lambda: camera.received > 4, 20)
        assert (camera.status, camera.reconnects, caplog.text) == ("live", 0, "")
        (tmp_path / "snapshot.jpg").unlink()
        wait_until(lambda: camera.status == "lost", 20)
        camera.stop()


def test_whatever_a_driver_raises_is_a_lost_camera_and_tried_again(monkeypatch):
    turns = []

    def opened(source, timeout, stopping):
        if source.name != "odd":
            raise UserError("a camera of another test, which tries again")
        turns.append(len(turns))
        yield None, still(0)
        yield None, still(1)
        if len(turns) < 3:
            raise RuntimeError("the driver fell over")
        stopping.wait()

    monkeypatch.setattr(LiveSource, "open", opened)
    camera = Camera(LiveSource("", "odd", "device"), QUICK.capture.model_copy(update={"retry_first_seconds": 0.01}))
    camera.start()
    wait_until(lambda: len(turns) == 3 and camera.status == "live")
    assert camera.reconnects == 2
    camera.stop()
