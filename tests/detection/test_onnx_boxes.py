"""Detectors of other makes as plain ONNX: two that find what is white, exported as torchvision's and RF-DETR's are."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from reid_tracker.detection.yolo import YoloDetector
from reid_tracker.errors import UserError
from reid_tracker.video.frames import Frame

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

IMAGE = np.zeros((120, 400, 3), np.uint8)
IMAGE[20:110, 60:90] = (0, 0, 255)  # red
IMAGE[40:80, 300:380] = (255, 255, 0)


def extent(mask):
    """Left, top, right, bottom of what is true in a picture [H, W]."""
    sides = []
    for along, size in ((mask.any(0), mask.shape[1]), (mask.any(1), mask.shape[0])):
        first = along.int().argmax().float()
        sides.append((first, size - along.flip(0).int().argmax().float()))
    (left, right), (top, bottom) = sides
    return torch.stack([left, top, right, bottom])


class Torchvision(nn.Module):
    """What is red is somebody (1), of .9; what is not, a bus (6), of .4."""

    def forward(self, pictures):
        red, green = pictures[0, 0], pictures[0, 1]
        boxes = torch.stack([extent(red > 0.5), extent(green > 0.5)])
        return boxes, torch.tensor([0.9, 0.4]), torch.tensor([1, 6])


class RfDetr(nn.Module):
    """The same, in shares and logits; it knows what ImageNet's mean and deviation make of black and white."""

    def forward(self, pictures):
        boxes, _, _ = Torchvision()(pictures)
        boxes = boxes / torch.tensor([pictures.shape[3], pictures.shape[2]] * 2)
        shares = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], dim=1)
        logits = torch.full((1, 2, 91), -9.0)
        logits[0, 0, 1], logits[0, 1, 6] = 2.2, -0.4
        return shares[None], logits


def exported(path, network, size=(60, 60), names=None, outputs=("boxes", "scores", "labels")):
    options = {"input_names": ["picture"], "output_names": list(outputs), "dynamo": False}
    if size is None:
        options["dynamic_axes"] = {"picture": {2: "height", 3: "width"}}
    torch.onnx.export(network, (torch.rand(1, 3, *(size or (60, 80))),), path, **options)
    if names is not None:
        model = onnx.load(path)
        model.metadata_props.add(key="names", value=names)
        onnx.save(model, path)
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", [(60, 60), (60, 160), (240, 500), None])
@pytest.mark.parametrize("kind", ["torchvision", "rf-detr"])
def test_boxes_lie_on_what_the_network_found(tmp_path, kind, size):
    if kind == "torchvision":
        path, off = exported(tmp_path / "a.onnx", Torchvision(), size), max(400 / (size or (1, 400))[1], 2)
    else:
        if size is None:
            with pytest.raises(UserError, match="its input has no size of its own"):
                YoloDetector(exported(tmp_path / "a.onnx", RfDetr(), None, outputs=("dets", "labels")))
            return
        path, off = exported(tmp_path / "a.onnx", RfDetr(), size, outputs=("dets", "labels")), 400 / size[1] + 1
    found = YoloDetector(path, classes=["all"]).detect(Frame(IMAGE, 0, 0.0))
    assert found.confidence == pytest.approx([0.9, 0.4], abs=0.01)
    assert found.class_id.tolist() == [1, 6] and found.data["class_name"].tolist() == ["person", "6"]
    assert np.abs(found.xyxy - [[60, 20, 90, 110], [300, 40, 380, 80]]).max() <= off
    people = YoloDetector(path).detect(Frame(IMAGE, 0, 0.0))
    assert people.class_id.tolist() == [1]
    assert len(YoloDetector(path, classes=["all"], confidence=0.5).detect(Frame(IMAGE, 0, 0.0))) == 1


@pytest.mark.filterwarnings("ignore")
def test_names_are_the_files_own(tmp_path):
    path = exported(tmp_path / "a.onnx", Torchvision(), names=json.dumps({1: "nurse", 6: "trolley"}))
    found = YoloDetector(path, classes=["trolley"]).detect(Frame(IMAGE, 0, 0.0))
    assert found.data["class_name"].tolist() == ["trolley"]
    with pytest.raises(UserError, match="its names are not JSON"):
        YoloDetector(exported(tmp_path / "b.onnx", Torchvision(), names="[1]"))
    with pytest.raises(UserError, match="has its own; leave it out"):
        YoloDetector(path, image_size=640)
    with pytest.raises(UserError, match="run on the CPU"):
        YoloDetector(path, device="meta")
    (tmp_path / "c.onnx").write_bytes(b"hello")
    with pytest.raises(UserError, match="cannot be used as a YOLO"):
        YoloDetector(tmp_path / "c.onnx")
