"""Recording and drawing beside a loop that must not wait."""

import threading
from pathlib import Path

import numpy as np
import pytest
from live_world import picture, wait_until
from tracking_world import detections, person

from reid_tracker.config import LiveOutputSettings
from reid_tracker.live.outputs import Outputs
from reid_tracker.video.frames import Frame
from reid_tracker.video.sinks import FrameResult
from reid_tracker.video.sources import open_source


def result(index: int, image: np.ndarray | None = None) -> FrameResult:
    """Somebody in a frame, ten frames a second."""
    tracks = detections([person(10 + index, 20)])
    tracks.tracker_id, tracks.data["tracklet"] = np.array([4]), np.array([4])
    return FrameResult(Frame(picture(index) if image is None else image, index, 500 + 0.1 * index), tracks, tracks)


def record(folder: Path, results, names=("10.0.0.5:554/h264",), **settings) -> list[tuple[int, np.ndarray]]:
    shown = []
    outputs = Outputs(
        names,
        LiveOutputSettings(record=str(folder), **settings),
        lambda number: f"No. {number}",
        [lambda camera, image, arrived: shown.append((camera, image))],
    )
    for number, each in enumerate(results, 1):
        outputs.put(0, each, 0.0)
        wait_until(lambda number=number: len(shown) == number)
    outputs.close()
    return shown


def test_recordings_are_drawn_and_come_in_segments_with_true_times(tmp_path):
    shown = record(tmp_path, map(result, range(25)), segment_seconds=1.0)
    parts = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert len(parts) == 3 and all(part.name.startswith("10.0.0.5_554_h264-2") for part in parts)
    times = [[frame.timestamp for frame in open_source(part)] for part in parts]
    assert [len(each) for each in times] == [10, 10, 5]
    np.testing.assert_allclose(np.diff(times[0]), 0.1, atol=1e-3)
    assert np.abs(shown[0][1].astype(int) - picture(0)).max() > 100  # a box and a name


def test_another_size_of_picture_begins_another_file(tmp_path):
    record(tmp_path, [result(0), result(1), result(2, np.zeros((96, 128, 3), np.uint8))])
    sizes = {(source.width, source.height) for source in map(open_source, tmp_path.iterdir())}
    assert sizes == {(320, 240), (128, 96)}


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path, caplog):
    (tmp_path / "file").touch()
    assert len(record(tmp_path / "file" / "below", map(result, range(5)))) == 5
    assert caplog.text.count("cannot be written") == 1 and "Recording is tried again in 300 s" in caplog.text


def test_what_cannot_be_drawn_in_time_is_left_out():
    may_go_on, shown = threading.Event(), []

    def slow(camera, image, arrived):
        may_go_on.wait(5)
        shown.append((camera, arrived))

    outputs = Outputs(["one", "two"], LiveOutputSettings(), str, [slow])
    outputs.put(0, result(0), 0.0)
    wait_until(lambda: not outputs._waiting)
    for index in range(1, 9):
        outputs.put(0, result(index), index)
    outputs.put(1, result(1), 1.0)
    may_go_on.set()
    outputs.close()
    assert shown == [(0, 0.0), (0, 7), (0, 8), (1, 1.0)] and outputs.skipped == 6


@pytest.mark.parametrize("blur", [True, False])
def test_people_are_blurred_on_every_picture_if_wanted(tmp_path, blur):
    image = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    ((_, drawn),) = record(tmp_path, [result(0, image)], blur_people=blur)
    kept = np.abs(drawn[60:100, 25:35].astype(int) - image[60:100, 25:35]).mean() < 5
    assert kept != blur


def test_a_result_that_cannot_be_drawn_ends_no_recording(tmp_path, caplog):
    shown = []

    def show(camera, image, arrived):
        shown.append(camera)
        if len(shown) == 2:
            raise OSError(24, "Too many open files")

    outputs = Outputs(["hall"], LiveOutputSettings(record=str(tmp_path)), str, [show])
    for index in range(6):
        outputs.put(0, result(index), 0.0)
        wait_until(lambda number=index: len(shown) > number)
    outputs.close()
    assert outputs.failed == 1 and caplog.text.count("could not be drawn") == 1
    (video,) = tmp_path.iterdir()
    assert len(list(open_source(video))) == 6
