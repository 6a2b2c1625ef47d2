from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from reid_tracker.detection.yolo import YoloDetector
from reid_tracker.errors import UserError
from reid_tracker.offline import import_ultralytics
from reid_tracker.training.detector import (
    ConsistencyLoss,
    dead_leaves,
    finish,
    person_only,
    spoil,
    train_detector,
)
from reid_tracker.video.frames import Frame


@pytest.fixture
def network(tiny_yolo: Path) -> Any:
    return import_ultralytics().YOLO(tiny_yolo).model.float()


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    random = np.random.default_rng(0)
    for number in range(12):
        noise = random.integers(0, 255, (9, 16, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(noise, (160, 90), interpolation=cv2.INTER_CUBIC))
    return folder


def test_people_keep_their_boxes_and_confidences(network: Any) -> None:
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        before, after = network.eval()(images)[0], person_only(network).eval()(images)[0]
    assert after.shape[1] == 5
    torch.testing.assert_close(after, torch.cat([before[:, :4], before[:, 5:6]], dim=1))
    again = person_only(person_only(network)).eval()  # as when a run is resumed
    torch.testing.assert_close(again(images)[0], after)
    network.names = {0: "car", 1: "bus", 2: "dog"}
    with pytest.raises(UserError, match="no class person"):
        person_only(network)


def test_nothing_is_to_be_learned_from_clean_frames_and_much_from_dark_ones(network: Any) -> None:
    for *_, sides in network.model[-1].cv2:  # a fresh head gives every box the same size
        torch.nn.init.normal_(sides.weight, std=3)
    images = torch.rand(2, 3, 64, 96)
    student, loss = person_only(network).eval(), ConsistencyLoss(person_only(network))
    total, parts = loss(student(images), {"img": images})
    entropy_of_itself = parts["score_loss"]
    assert entropy_of_itself == parts["box_loss"] == parts["feature_loss"] == 0
    dark, parts = loss(student(images / 5), {"img": images / 5, "clean": images})
    assert dark > total == 0 and all(part > 0 for part in parts.values())
    dark.backward()
    assert all(p.grad is not None for p in student.parameters() if p.requires_grad)
    assert all(p.grad is None for p in loss.teacher.parameters())


def test_a_share_of_the_frames_is_spoilt() -> None:
    images = torch.rand(40, 3, 32, 48)
    result = spoil(images, torch.Generator().manual_seed(0), share=0.5)
    assert result.shape == images.shape and result.dtype == torch.float32
    assert result.min() >= -0.01 and result.max() <= 1.01
    changed = (result != images).flatten(1).any(1).float().mean()
    assert 0.25 < changed < 0.7  # half, less those that chance spared
    assert torch.equal(spoil(images, torch.Generator().manual_seed(0), share=0), images)


def test_a_trained_detector_can_be_used_and_a_run_goes_on(tiny_yolo: Path, frames: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"epochs": 2, "image_size": 64, "batch": 4, "rate": 0.05, "device": "cpu"}
    with pytest.raises(UserError, match="nothing to resume"):
        train_detector([str(frames)], tiny_yolo, tmp_path, resume=True, **settings)
    path = train_detector([str(frames)], tiny_yolo, tmp_path, generated=3, int8=True, **settings)
    assert len((tmp_path / "run" / "results.csv").read_text().splitlines()) == 3
    detector = YoloDetector(path, confidence=0)
    assert detector.class_names == {0: "person"}
    noise = np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)
    assert len(detector.detect(Frame(image=noise, index=0, timestamp=0.0))) > 0
    assert not [name for name in path.parent.glob("*.pt") if name.name != "detector.pt"]  # nothing was fetched
    start, student = (import_ultralytics().YOLO(file).model.float() for file in (tiny_yolo, path))
    norms = [(one, other) for one, other in zip(start.modules(), student.modules(), strict=False) if _is_norm(one)]
    assert norms and all(torch.allclose(a.running_mean, b.running_mean, atol=1e-3) for a, b in norms)
    first = (next(each for each in network.modules() if hasattr(each, "in_channels")) for network in (start, student))
    one, other = (layer.weight for layer in first)
    assert not torch.equal(one.half(), other.half())  # it has learned something
    about = (tmp_path / "detector_int8_openvino_model" / "metadata.yaml").read_text()
    assert str(tmp_path) not in about and "data.yaml" in about
    whole_numbers = YoloDetector(tmp_path / "detector_int8_openvino_model", image_size=64, confidence=0)
    assert len(whole_numbers.detect(Frame(image=noise, index=0, timestamp=0.0))) > 0


def _is_norm(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.BatchNorm2d)


def test_a_picture_of_nothing_is_full_of_something_else_each_time() -> None:
    random = np.random.default_rng(0)
    one, other = dead_leaves(random, 90, 160), dead_leaves(random, 90, 160)
    assert one.shape == (90, 160, 3) and one.dtype == np.uint8
    assert (one != other).mean() > 0.9
    assert one.std() > 20 and len(np.unique(one.reshape(-1, 3), axis=0)) > 1000


def test_the_result_lies_between_student_and_start_and_tells_nothing_of_its_run(
    tiny_yolo: Path, tmp_path: Path
) -> None:
    yolo = import_ultralytics().YOLO(tiny_yolo)
    yolo.model = person_only(yolo.model)
    yolo.model.pt_path = str(tiny_yolo)  # as ultralytics' trainer leaves it
    for weight in yolo.model.parameters():
        weight.data += 1
    yolo.save(tmp_path / "student.pt")
    finish(tmp_path / "student.pt", tiny_yolo, tmp_path / "result.pt", share=0.25, image_size=96)
    start = person_only(import_ultralytics().YOLO(tiny_yolo).model).state_dict()
    result = import_ultralytics().YOLO(tmp_path / "result.pt").model.float().state_dict()
    convolutions = [name for name in start if name.endswith("conv.weight")]
    assert convolutions
    for name in convolutions:
        torch.testing.assert_close(result[name], start[name].float() + 0.25, atol=2e-3, rtol=0)
    assert YoloDetector(tmp_path / "result.pt").image_size == (96, 96)
    content = (tmp_path / "result.pt").read_bytes()
    assert str(tmp_path).encode() not in content and str(tiny_yolo.parent).encode() not in content
