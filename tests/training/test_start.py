from pathlib import Path

import pytest
import torch

from reid_tracker.appearance.checkpoint import save_checkpoint
from reid_tracker.appearance.network import EmbeddingNetwork
from reid_tracker.errors import UserError
from reid_tracker.training.start import load_start


def test_a_start_from_another_implementations_names_is_taken_in_order(tmp_path: Path) -> None:
    source = EmbeddingNetwork("mobilenet_v3_small", 4).backbone.state_dict()
    theirs = {
        f"layer_{number}" + name[name.rindex(".") :]: value for number, (name, value) in enumerate(source.items())
    }
    torch.save({**theirs, "classifier": torch.zeros(1000, 576)}, tmp_path / "imagenet.pth")
    network = EmbeddingNetwork("mobilenet_v3_small", 4)
    load_start(network, tmp_path / "imagenet.pth")
    (first, *others) = (name for name in source if not name.endswith("num_batches_tracked"))
    loaded = network.backbone.state_dict()
    assert torch.equal(loaded[first], source[first].flip(1))  # theirs reads RGB, ours BGR
    assert all(torch.equal(loaded[name], source[name]) for name in others)
    with pytest.raises(UserError, match="not the weights of resnet18"):
        load_start(EmbeddingNetwork("resnet18"), tmp_path / "imagenet.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(UserError, match="not a readable file of weights"):
        load_start(network, tmp_path / "text.pth")
    with pytest.raises(UserError, match="no such model file"):
        load_start(network, tmp_path / "nothing.safetensors")
    with pytest.raises(UserError, match="bundld: no such file of weights"):
        load_start(network, tmp_path / "bundld")


def test_a_checkpoint_starts_the_same_network_whatever_its_last_stride(
    tmp_path: Path,
) -> None:
    source = EmbeddingNetwork("mobilenet_v3_small", 4, last_stride=2)
    header = {"input_size": [64, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "channels": "bgr", "calibration": {}}
    save_checkpoint(tmp_path / "first.safetensors", source, header)
    network = EmbeddingNetwork("mobilenet_v3_small", 4, last_stride=1)
    load_start(network, tmp_path / "first.safetensors")
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in network.state_dict().items())
    with pytest.raises(UserError, match=r"network\.dimension: 4"):
        load_start(EmbeddingNetwork("mobilenet_v3_small", 8), tmp_path / "first.safetensors")
