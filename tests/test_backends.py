"""Which form of a model runs, and that every form gives the same boxes and vectors."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_tracker import backends
from reid_tracker.appearance.embedder import Embedder
from reid_tracker.backends import appearance_form, detector_form
from reid_tracker.detection.yolo import YoloDetector
from reid_tracker.errors import UserError
from reid_tracker.video.frames import Frame
from reid_tracker.weights import APPEARANCE


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def frame():
    image = np.random.default_rng(0).integers(0, 255, (48, 96, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(image).resize((192, 96)))
    return Frame(image, 0, 0.0)


# Scores of random weights lie so close together that in half precision it is chance which of two boxes drops the other.
@pytest.mark.parametrize(("backend", "chance"), [("onnx", 0), ("openvino", 0.5)])
def test_a_converted_detector_sees_the_same(tiny_yolo, frame, cache, backend, chance):
    form = detector_form(tiny_yolo, backend)
    assert form.is_relative_to(cache) and form != tiny_yolo
    one, other = (YoloDetector(path, image_size=96, confidence=0.3).detect(frame) for path in (tiny_yolo, form))
    assert len(other) == pytest.approx(len(one), rel=chance)
    assert np.abs(one.xyxy[:, None] - other.xyxy).max(axis=2).min(axis=0).max() < 20
    # No square is made of a wide frame, and a frame of another shape is as good.
    tall = dataclasses.replace(frame, image=np.ascontiguousarray(frame.image.transpose(1, 0, 2)))
    detector = YoloDetector(form, image_size=96, confidence=0.3)
    for each in (frame, tall, frame):
        expected = YoloDetector(tiny_yolo, image_size=96, confidence=0.3).detect(each)
        assert len(detector.detect(each)) == pytest.approx(len(expected), rel=chance)


def test_it_is_converted_once(tiny_yolo, monkeypatch, caplog):
    form = detector_form(tiny_yolo, "onnx")
    assert "converting tiny.pt for ONNX Runtime" in caplog.text
    monkeypatch.setattr("reid_tracker.detection.export.export_detector", pytest.fail)
    assert detector_form(tiny_yolo, "onnx") == form


def test_a_converted_appearance_network_gives_the_same_vectors():
    crops = np.random.default_rng(0).integers(0, 255, (3, 160, 60, 3), dtype=np.uint8)
    boxes = np.array([[0, 0, 60, 160]])
    form = appearance_form(None, "onnx")
    assert form.suffix == ".onnx"
    one, other = Embedder(device="cpu"), Embedder(form)
    assert one.hash == other.hash
    for crop in crops:
        assert (one.embed(crop, boxes) @ other.embed(crop, boxes).T).item() > 0.99


def test_what_is_asked_for_is_run(tiny_yolo):
    assert detector_form(tiny_yolo) == detector_form(tiny_yolo, "torch") == tiny_yolo
    assert appearance_form(None, "torch") == APPEARANCE


def test_without_openvino_the_checkpoint_runs_and_the_user_is_told(monkeypatch, caplog):
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None)
    assert appearance_form(None, device="cpu") == APPEARANCE
    assert "pip install openvino" in caplog.text


def test_what_does_not_go_together_is_refused(tiny_yolo, tmp_path):
    form = detector_form(tiny_yolo, "onnx")
    with pytest.raises(UserError, match=r"made for ONNX Runtime; give its checkpoint"):
        detector_form(form, "openvino")
    with pytest.raises(UserError, match="no such"):
        appearance_form(tmp_path / "missing.safetensors", "onnx")
    nonsense = tmp_path / "no.pt"
    nonsense.write_bytes(b"no")
    with pytest.raises(UserError, match="cannot be used as a YOLO"):
        detector_form(nonsense, "openvino")
    assert not list(Path(tmp_path / "cache" / "reid_tracker").glob("no-*"))


def test_a_cache_that_cannot_be_written_is_named(tiny_yolo, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="use --backend torch"):
        detector_form(tiny_yolo, "onnx")
