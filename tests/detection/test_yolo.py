import logging
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from reid_tracker.detection.yolo import YoloDetector
from reid_tracker.errors import UserError
from reid_tracker.offline import import_ultralytics
from reid_tracker.video.frames import Frame


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> object:
    """Ultralytics' download module, working in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    return import_ultralytics().utils.downloads


@pytest.mark.parametrize("classes", [["dog", "car"], ["all"]])
def test_boxes_are_those_of_ultralytics(tiny_yolo: Path, frame: Frame, classes: list[str]) -> None:
    detections = YoloDetector(tiny_yolo, classes=classes, confidence=0.1, image_size=160, device="cpu").detect(frame)
    numbers = [0, 2] if classes != ["all"] else [0, 1, 2]
    options = {"conf": 0.1, "imgsz": 160, "classes": numbers, "device": "cpu", "verbose": False}
    expected = import_ultralytics().YOLO(tiny_yolo).predict(frame.image, **options)[0].boxes
    assert len(detections) == len(expected) > 10
    np.testing.assert_allclose(detections.xyxy, expected.xyxy.numpy(), atol=1e-4)
    np.testing.assert_allclose(detections.confidence, expected.conf.numpy(), atol=1e-6)
    np.testing.assert_array_equal(detections.class_id, expected.cls.numpy())
    assert set(detections.class_id.tolist()) == set(numbers)
    names = {0: "car", 1: "Person", 2: "dog"}
    assert detections.data["class_name"].tolist() == [names[number] for number in detections.class_id]
    assert detections.xyxy.dtype == detections.confidence.dtype == np.float32
    assert detections.class_id.dtype == np.int64


def test_threshold_and_empty_results(tiny_yolo: Path, frame: Frame) -> None:
    everything = YoloDetector(tiny_yolo, confidence=0, image_size=160).detect(frame)
    middle = float(np.median(everything.confidence))
    some = YoloDetector(tiny_yolo, confidence=middle, image_size=160).detect(frame)
    assert 0 < len(some) < len(everything)
    assert some.confidence.min() >= middle
    nothing = YoloDetector(tiny_yolo, confidence=1, image_size=160).detect(frame)
    assert nothing.xyxy.shape == (0, 4)
    assert nothing.class_id.dtype == np.int64
    assert nothing.data["class_name"].shape == (0,)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (None, {1: "Person"}),
        ([], {1: "Person"}),
        (["DOG"], {2: "dog"}),
        ([2, "car"], {2: "dog", 0: "car"}),
        (["0"], {0: "car"}),
        ("dog", {2: "dog"}),
        (["all"], {0: "car", 1: "Person", 2: "dog"}),
    ],
)
def test_classes_by_name_or_number(tiny_yolo: Path, classes: list | None, expected: dict[int, str]) -> None:
    assert YoloDetector(tiny_yolo, classes=classes, image_size=64).class_names == expected


def test_a_model_without_persons_finds_all_its_classes(tiny_yolo: Path, tmp_path: Path) -> None:
    yolo = import_ultralytics().YOLO(tiny_yolo)
    yolo.model.names = {0: "car", 1: "bus", 2: "dog"}
    yolo.save(tmp_path / "cars.pt")
    assert list(YoloDetector(tmp_path / "cars.pt", image_size=64).class_names) == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["persn"]}, "'persn'.*nearest: Person"),
        ({"classes": [3]}, "Class 3"),
        ({"confidence": -0.1}, "between 0 and 1"),
        ({"confidence": float("nan")}, "between 0 and 1"),
        ({"image_size": 0}, "at least 32"),
        ({"device": "gpu"}, "choose auto or cpu"),
        ({"device": "cuda:x"}, "choose auto or cpu"),
        ({"device": "cuda:99"}, "cuda:99.*not available"),
    ],
)
def test_impossible_settings_are_refused(tiny_yolo: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        YoloDetector(tiny_yolo, **options)


@pytest.mark.filterwarnings("ignore")  # torch on TorchScript's age
def test_an_export_of_fixed_size_keeps_to_it(tiny_yolo: Path, tmp_path: Path, frame: Frame) -> None:
    shutil.copy(tiny_yolo, tmp_path / "tiny.pt")
    export = import_ultralytics().YOLO(tmp_path / "tiny.pt").export(format="torchscript", imgsz=96, verbose=False)
    detector = YoloDetector(export, confidence=0)
    assert detector.image_size == (96, 96)
    assert detector.class_names == {1: "Person"}
    assert len(detector.detect(frame)) > 0
    with pytest.raises(UserError, match="exported for 96 x 96 only"):
        YoloDetector(export, image_size=160)


class Payload:
    """Unpickling it creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"model": Payload(tmp_path / "ran")}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match="ULTRALYTICS_SAFE_LOAD=0"):
        YoloDetector(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["empty.pt", "text.pt", "half.pt", "vector.pt", "notes.txt", "folder", "old.pth"])
def test_what_is_no_yolo_is_refused(tiny_yolo: Path, tmp_path: Path, name: str) -> None:
    whole = tiny_yolo.read_bytes()
    contents = {"empty.pt": b"", "text.pt": b"hello", "half.pt": whole[: len(whole) // 2], "notes.txt": b"hello"}
    if name == "folder":
        (tmp_path / name).mkdir()
    elif name in ("vector.pt", "old.pth"):
        torch.save({"weights": torch.zeros(3)}, tmp_path / name)
    else:
        (tmp_path / name).write_bytes(contents[name])
    with pytest.raises(UserError, match=f"{name}: cannot be used as a YOLO"):
        YoloDetector(tmp_path / name)


def test_a_classifier_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "nc: 3\nbackbone:\n  - [-1, 1, Conv, [8, 3, 2]]\nhead:\n  - [-1, 1, Classify, [nc]]\n"
    )
    import_ultralytics().YOLO(tmp_path / "c.yaml").save(tmp_path / "c.pt")
    with pytest.raises(UserError, match="task 'classify'"):
        YoloDetector(tmp_path / "c.pt")
    with pytest.raises(UserError, match="only describes a network"):
        YoloDetector(tmp_path / "c.yaml")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x_openvino_model").mkdir()
    monkeypatch.setitem(sys.modules, "openvino", None)  # importing it fails, as where it is not installed
    with pytest.raises(UserError, match=r"pip install 'reid-tracker\[openvino\]'"):
        YoloDetector(tmp_path / "x_openvino_model")


def test_a_frame_without_pixels_is_refused(tiny_yolo: Path) -> None:
    with pytest.raises(UserError, match="Frame 7: no pixels"):
        YoloDetector(tiny_yolo, image_size=64).detect(Frame(image=None, index=7, timestamp=0.0))


@pytest.mark.parametrize("model", ["folder/yolo26n.pt", "./yolo26n.pt", "/nowhere/yolo26n.pt", "yolo26q.pt", "my.onnx"])
def test_a_missing_path_or_unknown_name_is_never_downloaded(
    downloads: object, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr(downloads, "safe_download", lambda *_, **__: pytest.fail("tried to download"))
    monkeypatch.setattr(downloads, "get_github_assets", lambda *_, **__: pytest.fail("asked for a list"))
    with pytest.raises(UserError, match="no such"):
        YoloDetector(model)


@pytest.mark.parametrize("name", ["yolo26n.pt", "yolo26n"])
def test_a_named_model_is_announced_and_then_downloaded(
    downloads: object,
    tiny_yolo: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    name: str,
) -> None:
    announced = []

    def download(url: str, file: Path, **_: object) -> None:
        announced.append(caplog.text)
        assert url.endswith("/yolo26n.pt")
        shutil.copy(tiny_yolo, file)

    monkeypatch.setattr(downloads, "safe_download", download)
    with caplog.at_level(logging.WARNING):
        YoloDetector(name, image_size=64)
        YoloDetector(name, image_size=64)  # is there now
    assert len(announced) == 1
    assert str(tmp_path / "yolo26n.pt") in announced[0]


def test_a_failed_download_says_what_to_do(downloads: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("network is unreachable")

    import requests  # what ultralytics downloads with

    monkeypatch.setattr(requests.Session, "request", unreachable)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("asked another host"))
    with pytest.raises(UserError, match="download failed; give the path"):
        YoloDetector("yolo26n.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.needs_data
@pytest.mark.skipif(
    not {"REID_TRACKER_DATA", "REID_TRACKER_WEIGHTS"} <= os.environ.keys(),
    reason="REID_TRACKER_DATA and REID_TRACKER_WEIGHTS name no evaluation data and weights",
)
def test_people_are_found_where_they_are() -> None:
    import cv2

    from reid_tracker.motchallenge import read_rows

    sequence = Path(os.environ["REID_TRACKER_DATA"]) / "mot15" / "PETS09-S2L1"
    detector = YoloDetector(Path(os.environ["REID_TRACKER_WEIGHTS"]) / "yolo11n_float.pt", confidence=0.25)
    truth = read_rows(sequence / "gt" / "gt.txt")
    video = cv2.VideoCapture(str(sequence / "PETS09-S2L1.avi"))
    found = total = 0
    for index in range(5):
        detections = detector.detect(Frame(image=video.read()[1], index=index, timestamp=0.0))
        centre = (detections.xyxy[:, :2] + detections.xyxy[:, 2:]) / 2
        for left, top, width, height in truth[truth[:, 0] == index + 1, 2:6]:
            near = np.abs(centre - [left + width / 2, top + height / 2]) < [width / 2, height / 4]
            found += near.all(axis=1).any()
            total += 1
    assert found >= 0.8 * total > 0
