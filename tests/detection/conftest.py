from pathlib import Path

import numpy as np
import pytest
import torch

from reid_tracker.offline import import_ultralytics
from reid_tracker.video.sources import Frame

NAMES = {0: "car", 1: "Person", 2: "dog"}
ARCHITECTURE = """
nc: 3
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 2]]
head:
  - [[2, 3, 4], 1, Detect, [nc]]
"""


@pytest.fixture(scope="session")
def tiny_yolo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YOLO of a few thousand random weights, as a checkpoint file."""
    folder = tmp_path_factory.mktemp("yolo")
    (folder / "tiny.yaml").write_text(ARCHITECTURE)
    torch.manual_seed(0)
    yolo = import_ultralytics().YOLO(folder / "tiny.yaml")
    yolo.model.names = NAMES
    for *_, score in yolo.model.model[-1].cv3:  # a fresh head is sure of nothing: spread its scores over 0..1
        torch.nn.init.normal_(score.weight, std=3)
        torch.nn.init.zeros_(score.bias)
    yolo.save(folder / "tiny.pt")
    return folder / "tiny.pt"


@pytest.fixture
def frame() -> Frame:
    """A frame of noise, wider than it is high."""
    return Frame(image=np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8), index=0, timestamp=0.0)
