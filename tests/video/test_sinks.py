import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import supervision as sv

from reid_tracker.counting import PassageCounter
from reid_tracker.errors import UserError
from reid_tracker.motchallenge import read_rows
from reid_tracker.video.annotate import Annotator
from reid_tracker.video.frames import Frame
from reid_tracker.video.sinks import (
    CountsSink,
    CropSink,
    FrameResult,
    JsonLinesSink,
    MotSink,
    ParquetSink,
    ReportSink,
    Sink,
)
from reid_tracker.video.sources import open_source
from reid_tracker.video.video_sink import VideoSink

NOISE = np.random.default_rng(0).integers(0, 255, (96, 160, 3), np.uint8)
TRACKS = sv.Detections(
    np.array([[10, 20, 40.26, 80], [-20, 30, 25, 200]], np.float32),
    confidence=np.array([0.9, 0.45678], np.float32),
    class_id=np.array([0, 2]),
    tracker_id=np.array([7, 1234567]),
    data={"tracklet": np.array([9, 3]), "class_name": np.array(["person", "car"])},
)


def result(
    index: int, timestamp: float, image: np.ndarray | None = NOISE, tracks: sv.Detections = TRACKS
) -> FrameResult:
    return FrameResult(Frame(image, index, timestamp), tracks, tracks)


def video_sink(path: Path) -> VideoSink:
    return VideoSink(path, 25.0, Annotator())


def read_video(path: Path) -> tuple[list[float], list[np.ndarray]]:
    with av.open(str(path)) as container:
        pictures = [(frame.time, frame.to_ndarray(format="bgr24")) for frame in container.decode(video=0)]
    return [time for time, _ in pictures], [image for _, image in pictures]


# --- video ---


def test_video_keeps_pictures_and_variable_times(tmp_path: Path) -> None:
    times = 3 + np.cumsum([0, 0.04, 0.007, 0.12, 0.033, 0.5, 3.0, 0.04, 1e-6, 0.04])
    sink = video_sink(tmp_path / "new" / "folder" / "out.mp4")
    for index, timestamp in enumerate(times):
        image = np.full((96, 160, 3), 20 * index, np.uint8)
        sink.write(result(index, timestamp, image, sv.Detections.empty()))
    sink.close()
    sink.close()
    written, images = read_video(tmp_path / "new" / "folder" / "out.mp4")
    assert np.allclose(written, times - 3, atol=2e-5)
    assert [round(image.mean() / 20) for image in images] == list(range(10))


def test_video_is_what_browsers_play(tmp_path: Path) -> None:
    sink = video_sink(tmp_path / "out.mp4")
    moving = sv.Detections(np.array([[10, 20, 40, 80]], np.float32), tracker_id=np.array([1]))
    for index in range(150):
        sink.write(result(index, index / 25, np.roll(NOISE, index, 1)[:95, :159], moving))
    sink.close()
    data = (tmp_path / "out.mp4").read_bytes()
    assert data.count(b"moof") >= 3 and data.index(b"moov") < data.index(b"moof")
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt, context.width, context.height) == ("h264", "yuv420p", 160, 96)
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert len(packets) == 150 and packets[0].pts == 0
    assert [packet.pts for packet in packets] == [packet.dts for packet in packets]
    keys = np.array([float(packet.pts * packet.time_base) for packet in packets if packet.is_keyframe] + [6.0])
    assert np.diff(keys).max() <= 2.0


def test_video_colours_survive(tmp_path: Path) -> None:
    colors = [(0, 0, 255), (0, 255, 0), (255, 0, 0), (40, 120, 200)]
    sink = video_sink(tmp_path / "out.mp4")
    for index, color in enumerate(colors):
        sink.write(result(index, index / 25, np.full((96, 160, 3), color, np.uint8), sv.Detections.empty()))
    sink.close()
    for image, color in zip(read_video(tmp_path / "out.mp4")[1], colors, strict=True):
        assert np.abs(image.mean(axis=(0, 1)) - color).max() < 6


CHILD = """
import resource, sys
import numpy as np, supervision as sv
from reid_tracker.errors import UserError
from reid_tracker.video.annotate import Annotator
from reid_tracker.video.sinks import FrameResult
from reid_tracker.video.video_sink import VideoSink
from reid_tracker.video.frames import Frame

path, limit = sys.argv[1], int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sink = VideoSink(path, 25, Annotator())
tracks = sv.Detections(np.float32([[10, 20, 40, 80]]), tracker_id=np.array([1]))
noise = np.random.default_rng(0).integers(0, 255, (96, 160, 3), np.uint8)
try:
    for index in range(100_000):
        sink.write(FrameResult(Frame(np.roll(noise, index, 1), index, index / 25), tracks, tracks))
        print(index + 1, flush=True)
except UserError as error:
    sink.close()
    sink.close()
    print(error)
"""


def start_child(path: Path, limit: int) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", CHILD, str(path), str(limit)], stdout=subprocess.PIPE, text=True)


def test_video_of_a_killed_run_holds_all_but_the_last_seconds(tmp_path: Path) -> None:
    child = start_child(tmp_path / "out.mp4", 0)
    assert child.stdout
    for line in child.stdout:
        if int(line) >= 300:
            break
    child.send_signal(signal.SIGKILL)
    child.wait()
    # Two seconds of the open fragment, and what the encoder holds back to look ahead.
    assert len(list(open_source(tmp_path / "out.mp4"))) >= 300 - 50 - 30


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_video_on_a_full_disk_holds_all_but_the_last_seconds(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    output, _ = start_child(path, 600_000).communicate(timeout=60)
    *counts, message = output.splitlines()
    assert message.startswith(f"{path}: cannot be written (File too large)")
    assert path.stat().st_size <= 600_000
    assert len(list(open_source(path))) >= int(counts[-1]) - 50 - 30 > 0


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
@pytest.mark.parametrize("make", [MotSink, JsonLinesSink])
def test_text_on_a_full_disk_ends_with_a_whole_frame(tmp_path: Path, make: Callable[[Path], Sink]) -> None:
    import resource

    path, limit = tmp_path / "out", 20_000
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    sink, written = make(path), 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(UserError, match=r"out: cannot be written \(File too large\)"):
            for written in range(1000):
                sink.write(result(written, written / 25))
        sink.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    if make is MotSink:
        assert read_rows(path)[:, 0].tolist() == [number for number in range(1, written + 1) for _ in range(2)]
    else:
        assert [json.loads(line)["index"] for line in path.read_text().splitlines()] == list(range(written))
    assert limit - 500 < path.stat().st_size <= limit and written > 50


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("make", [MotSink, JsonLinesSink, video_sink])
def test_disk_full_at_once(make: Callable[[Path], Sink]) -> None:
    sink = make(Path("/dev/full"))
    with pytest.raises(UserError, match="/dev/full: cannot be written"):
        for index in range(100):
            sink.write(result(index, index / 25))
    sink.close()


@pytest.mark.parametrize("make", [MotSink, JsonLinesSink, video_sink, CropSink])
def test_folder_that_cannot_be_made_is_refused(tmp_path: Path, make: Callable[[Path], Sink]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/sub/out: cannot be written"):
        make(tmp_path / "file" / "sub" / "out")


@pytest.mark.parametrize("make", [MotSink, JsonLinesSink, video_sink])
def test_path_that_is_a_folder_is_refused(tmp_path: Path, make: Callable[[Path], Sink]) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        make(tmp_path).write(result(0, 0.0))


@pytest.mark.parametrize("make", [video_sink, CropSink])
def test_source_without_pixels_is_refused(tmp_path: Path, make: Callable[[Path], Sink]) -> None:
    sink = make(tmp_path / "out")
    with pytest.raises(UserError, match="without pictures"):
        sink.write(result(0, 0.0, image=None))
    sink.close()


# --- text ---


def test_mot_text_is_on_disk_after_every_frame(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "out.txt"
    sink = MotSink(path)
    sink.write(result(0, 0.0))
    assert np.allclose(
        read_rows(path)[:, :7], [[1, 7, 10, 20, 30.26, 60, 0.9], [1, 1234567, -20, 30, 45, 170, 0.4568]], atol=1e-4
    )
    sink.write(result(1, 0.1, tracks=sv.Detections.empty()))
    sink.write(result(2, 0.2, image=None, tracks=TRACKS[:1]))
    sink.close()
    assert read_rows(path)[:, 0].tolist() == [1, 1, 3]


def test_json_lines_are_on_disk_after_every_frame(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = JsonLinesSink(path)
    sink.write(result(41, 1.64))
    first = {
        "id": 7,
        "tracklet": 9,
        "xyxy": [10.0, 20.0, 40.26, 80.0],
        "confidence": 0.9,
        "class_id": 0,
        "class": "person",
    }
    (line,) = path.read_text().splitlines()
    frame = json.loads(line)
    assert (frame["index"], frame["timestamp"], len(frame["tracks"])) == (41, 1.64, 2)
    assert frame["tracks"][0] == first
    sink.write(result(42, 1.68, tracks=sv.Detections.empty()))
    sink.write(result(43, 1.72, tracks=sv.Detections(np.zeros((1, 4), np.float32), tracker_id=np.array([1]))))
    tracks = sv.Detections(np.zeros((2, 4), np.float32), tracker_id=np.array([12, 3]))
    tracks.data["perhaps"] = np.array([7, 0])
    sink.write(result(44, 1.76, tracks=tracks))
    sink.close()
    *lines, last = path.read_text().splitlines()
    assert [each.get("perhaps") for each in json.loads(last)["tracks"]] == [7, None]
    path.write_text("\n".join(lines))
    _, empty, bare = (json.loads(line) for line in path.read_text().splitlines())
    assert empty == {"index": 42, "timestamp": 1.68, "tracks": []}
    unknown = dict.fromkeys(("tracklet", "confidence", "class_id", "class"))
    assert bare["tracks"] == [{"id": 1, "xyxy": [0.0, 0.0, 0.0, 0.0], **unknown}]


# --- crops ---


def test_crops_every_so_often_clipped_and_not_tiny(tmp_path: Path) -> None:
    tracks = sv.Detections(
        np.array([[10, 20, 40, 80], [-20, 30, 25, 200], [150, 20, 200, 90], [0, 0, 0, 0]], np.float32),
        tracker_id=np.array([7, 1234567, 3, 4]),
    )
    tracks.xyxy[3] = np.nan
    smooth = cv2.GaussianBlur(NOISE, (0, 0), 5)
    sink = CropSink(tmp_path / "crops", every_seconds=0.5)
    for index in range(25):
        tracks.tracker_id[0] = 8 if index == 10 else 7  # 7 is out of sight in frame 11
        sink.write(result(index, index * 0.1, smooth, tracks))
    sink.close()
    files = sorted(str(path.relative_to(tmp_path / "crops")) for path in (tmp_path / "crops").rglob("*.*"))
    assert [name for name in files if name.startswith("000007")] == [
        f"000007/{number:06d}.jpg" for number in (1, 6, 12, 17, 22)
    ]
    assert [name for name in files if name.startswith("1234567")] == [
        f"1234567/{number:06d}.jpg" for number in (1, 6, 11, 16, 21)
    ]
    assert len(files) == 11  # one of identity 8; identity 3 is 10 px wide inside the picture, identity 4 nowhere
    crop = cv2.imread(str(tmp_path / "crops" / "1234567" / "000001.jpg")).astype(int)
    assert crop.shape == (66, 25, 3) and np.abs(crop - smooth[30:96, 0:25]).mean() < 3


def test_crop_that_cannot_be_written_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = CropSink(tmp_path / "crops")

    def fail_half_way(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail_half_way)
    with pytest.raises(UserError, match=r"000007/000001\.jpg: cannot be written \(No space left on device\)"):
        sink.write(result(0, 0.0))
    sink.close()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_gap_that_an_mp4_cannot_hold_is_left_out_and_told_of(tmp_path: Path) -> None:
    """Seven hours would put all frames behind it a tick apart."""
    times = [index / 25 + 25_200 * (index >= 10) for index in range(20)]
    sink = VideoSink(tmp_path / "gap.mp4", 25)
    for index, time in enumerate(times):
        sink.write(result(index, time))
    sink.close()
    assert sink.note == "gap.mp4: 7.0 h without a frame are left out of the video."
    found = [frame.timestamp for frame in open_source(tmp_path / "gap.mp4")]
    np.testing.assert_allclose(found, [index / 25 for index in range(20)], atol=1e-3)


@pytest.mark.parametrize("private", [True, False])
def test_what_is_made_at_the_end_was_never_open_to_others(tmp_path: Path, private: bool) -> None:
    """Nobody makes it private afterwards: a kill may come in between."""
    before = os.umask(0o022)
    try:
        counter = PassageCounter({"door": np.array([[80, 0], [80, 96]])})
        sinks: list[Sink] = [
            ParquetSink(tmp_path / "table.parquet", private),
            CountsSink(tmp_path / "counts.json", counter, private=private),
            ReportSink(tmp_path / "page.html", lambda: b"page", private),
            CropSink(tmp_path / "crops", private=private),
        ]
        for sink in sinks:
            sink.write(result(0, 0.0))
            sink.close()
    finally:
        os.umask(before)
    made = [each for each in tmp_path.rglob("*") if each.name != "crops"]
    assert len(made) == 7  # two crops in a folder each
    assert {each.stat().st_mode & 0o077 == 0 for each in made} == {private}
