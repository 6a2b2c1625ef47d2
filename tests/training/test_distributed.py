import os
import socket
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

from reid_tracker.config import DistillationSettings, TrainConfig
from reid_tracker.crop_sets.layouts import read_crops
from reid_tracker.training.distributed import own_share
from reid_tracker.training.objective import Classes
from reid_tracker.training.trainer import Trainer
from reid_tracker.weights import APPEARANCE

MINERS = ("batch_all", "batch_hard", "semi_hard", "distance_weighted")
LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 4])  # an odd number: the shares differ in size


class Network(nn.Module):
    """A small network whose batch norms are in evaluation mode: they know only their own process's rows."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8).eval()
        self.linear, self.neck = nn.Linear(8, 16), nn.BatchNorm1d(16).eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.linear(self.norm(self.convolution(images)).relu().mean((2, 3)))
        return pooled, self.neck(pooled)


def config() -> TrainConfig:
    values: dict[str, Any] = {
        "network": {"backbone": "mobilenet_v3_small", "dimension": 16, "input_size": (32, 16)},
        "batch": {"people": 4, "images": 2},
        "schedule": {"epochs": 1, "validation_identities": 2, "warm_up_epochs": 0},
        "loss": {"unit_length": True, "margin": 0.2},
        "compute": {"threads": 1, "precision": "float32"},
    }
    return TrainConfig.model_validate(values)


def gradients(run: Trainer, miner: str) -> list[Tensor]:
    """Of one batch in float64, as this process has them in the end."""
    torch.manual_seed(0)
    run.network = Network().double()  # type: ignore[assignment]
    run.classifier = nn.Linear(16, 5, bias=False).double()
    images = torch.randn(len(LABELS), 3, 6, 6, dtype=torch.float64)
    targets = torch.randn(len(LABELS), 16, dtype=torch.float64)
    place = own_share(LABELS.numpy())
    random = torch.Generator().manual_seed(3)
    run.backward(images[place], LABELS, place, miner, Classes(), random, targets[place])
    return [p.grad.clone() for p in (*run.network.parameters(), run.classifier.weight) if p.grad is not None]


def work(rank: int, port: int, people: str, folder: str) -> None:
    """One of two processes, as torchrun starts them."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()} | {"GLOO_SOCKET_IFNAME": "lo"})
    run = Trainer(config(), read_crops(people), Path(folder) / "run", "cpu")
    # As where one process alone has a teacher to ask: it draws random numbers that the other does not.
    taught = config().model_copy(update={"distillation": DistillationSettings(teacher=str(APPEARANCE), mixtures=4)})
    with_teacher = Trainer(taught, read_crops(people), Path(folder) / "taught", "cpu")
    torch.save(with_teacher.classifier.weight, f"{folder}/classifier{rank}.pt")
    run.run()
    weights = torch.cat([p.detach().flatten() for p in run.network.parameters()])
    torch.save({"weights": weights, "best": run.best["mAP"]}, f"{folder}/end{rank}.pt")
    torch.save({miner: gradients(run, miner) for miner in MINERS}, f"{folder}/gradients{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    random = np.random.default_rng(0)
    for person in range(10):
        for image in range(3):
            crop = random.integers(0, 256, (32, 16, 3)).astype(np.uint8)
            cv2.imwrite(str(folder / f"{person:04d}_c{1 + image % 2}_{image:02d}.png"), crop)
    return folder


def test_two_processes_train_as_one(people: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(work, (port, str(people), str(tmp_path)), nprocs=2)
    ends = [torch.load(tmp_path / f"end{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert torch.equal(*(torch.load(tmp_path / f"classifier{rank}.pt", weights_only=True) for rank in (0, 1)))
    assert torch.equal(ends[0]["weights"], ends[1]["weights"]) and ends[0]["best"] == ends[1]["best"]
    assert (tmp_path / "run" / "appearance.safetensors").is_file() and (tmp_path / "run" / "last.pt").is_file()

    alone = Trainer(config(), read_crops(str(people)), tmp_path / "alone", "cpu")
    both = [torch.load(tmp_path / f"gradients{rank}.pt", weights_only=True) for rank in (0, 1)]
    for miner in MINERS:
        wanted = gradients(alone, miner)
        assert len(wanted) == 9 and all(gradient.abs().max() > 0 for gradient in wanted[:6])
        for mine in (both[0][miner], both[1][miner]):
            for gradient, expected in zip(mine, wanted, strict=True):
                torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
