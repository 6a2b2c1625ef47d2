"""The direct way through OpenVINO finds what ultralytics finds with the same file, without loading PyTorch."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from reid_tracker.demo import make_clip
from reid_tracker.detection.openvino_yolo import OpenVinoYolo, read_metadata
from reid_tracker.detection.yolo import YoloDetector, _Ultralytics
from reid_tracker.errors import UserError
from reid_tracker.video.frames import Frame
from reid_tracker.video.sources import open_source
from reid_tracker.weights import BUNDLED_FORMS, DETECTOR

MODEL = BUNDLED_FORMS[DETECTOR, "openvino"]


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    return next(iter(open_source(make_clip(tmp_path_factory.mktemp("yolo") / "clip")))).image


@pytest.fixture(scope="module")
def both():
    ultralytics = _Ultralytics(MODEL, 0.3, None, "cpu")
    return OpenVinoYolo(MODEL, 0.3), lambda image: ultralytics.batch([image])[0]


@pytest.mark.parametrize(("left", "right", "scale"), [(0, 1, 1), (0, 0.45, 1), (0.5, 1, 0.7), (0.1, 0.9, 2.3)])
def test_it_finds_what_ultralytics_finds(picture, both, left, right, scale):
    width = picture.shape[1]
    image = cv2.resize(picture[:, int(left * width) : int(right * width)], None, fx=scale, fy=scale)
    ours, theirs = (run(image) for run in both)
    # Ultralytics pads to a square here, so the network sees another edge: only sure boxes are the same.
    sure = theirs[theirs[:, 4] > 0.6]
    assert len(sure) >= 1
    overlap = _iou(ours, sure).max(axis=0)
    assert overlap.min() > 0.9
    assert (np.diff(ours[:, 4]) <= 0).all() and (ours[:, :4] >= 0).all()
    assert (ours[:, 2] <= image.shape[1]).all() and (ours[:, 3] <= image.shape[0]).all()


def test_classes_are_looked_for_one_by_one(picture, both):
    run = both[0]
    everyone = run(picture)
    run.classes = [0]
    np.testing.assert_array_equal(run(picture), everyone)
    run.classes = None


def test_no_picture_no_people(both):
    assert both[0](np.full((120, 200, 3), 114, dtype=np.uint8)).shape == (0, 6)


def test_what_is_no_plain_detector_is_left_to_ultralytics(tmp_path):
    assert read_metadata(MODEL)["names"] == {0: "person"}
    text = (MODEL / "metadata.yaml").read_text()
    (tmp_path / "model.xml").touch()
    for changed in (text.replace("task: detect", "task: pose"), text.replace("end2end: false", "end2end: true"), "[]"):
        (tmp_path / "metadata.yaml").write_text(changed)
        assert read_metadata(tmp_path) is None
    assert read_metadata(tmp_path / "nothing") is None and read_metadata(DETECTOR) is None


def test_a_damaged_model_is_named(tmp_path):
    folder = tmp_path / "broken_openvino_model"
    folder.mkdir()
    (folder / "metadata.yaml").write_text((MODEL / "metadata.yaml").read_text())
    (folder / "detector.xml").write_text("<net/>")
    with pytest.raises(UserError, match=r"broken_openvino_model: cannot be used as a YOLO"):
        YoloDetector(folder)


def test_tracking_with_the_bundled_models_loads_no_pytorch(tmp_path):
    clip = make_clip(tmp_path / "clip")
    code = (
        "import sys; from reid_tracker import TrackConfig, track; from reid_tracker.config import load\n"
        f"settings = {{'output.folder': {str(tmp_path)!r}, 'source.end': 3, 'device': 'cpu'}}\n"
        f"(summary,) = track({str(clip)!r}, load(TrackConfig, None, settings))\n"
        "print(summary.frames, {'torch', 'torchvision', 'ultralytics'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2] == "3 set()"


def _iou(one, other):
    low = np.maximum(one[:, None, :2], other[:, :2])
    high = np.minimum(one[:, None, 2:4], other[:, 2:4])
    inter = np.clip(high - low, 0, None).prod(axis=2)
    area = [(each[:, 2:4] - each[:, :2]).prod(axis=1) for each in (one, other)]
    return inter / (area[0][:, None] + area[1] - inter)


@pytest.mark.parametrize(("cameras", "compiled"), [(1, 10), (5, 5)])
def test_a_network_is_kept_for_each_cameras_shape(monkeypatch, cameras, compiled):
    detector = YoloDetector(MODEL)
    detector.expect_shapes(cameras)
    run, count = detector._run, []

    class Core:
        read_model = run._core.read_model

        def compile_model(self, *arguments):
            count.append(arguments)
            return lambda picture: [np.zeros((1, 4 + len(run.names), 1), np.float32)]

    monkeypatch.setattr(run, "_core", Core())
    frames = [Frame(np.zeros((64 * (number + 2), 640, 3), np.uint8), 0, 0.0) for number in range(5)]
    for frame in 2 * frames:
        detector.detect(frame)
    assert len(count) == compiled and len(run._networks) == max(cameras, 4)
