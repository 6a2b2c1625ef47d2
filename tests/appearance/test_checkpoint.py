import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from reid_tracker.appearance.checkpoint import load_checkpoint, save_checkpoint
from reid_tracker.appearance.network import EmbeddingNetwork
from reid_tracker.errors import UserError
from reid_tracker.weights import model_hash

HEADER = {"input_size": [64, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "figures": {"rank1": 0.5}}


@pytest.fixture
def network() -> EmbeddingNetwork:
    return EmbeddingNetwork("mobilenet_v3_small", 8).eval()


def test_a_network_comes_back_as_it_was(network: EmbeddingNetwork, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, network, HEADER)
    loaded, header = load_checkpoint(path)
    images = torch.randn(2, 3, 64, 32)
    assert torch.equal(loaded(images), network(images))
    assert {key: header[key] for key in HEADER} == HEADER
    assert not loaded.training
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_half_storage_is_half_as_large_and_loads_as_float32(network: EmbeddingNetwork, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "whole.safetensors", network, HEADER)
    save_checkpoint(tmp_path / "half.safetensors", network, HEADER, half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * (tmp_path / "whole.safetensors").stat().st_size
    loaded, _ = load_checkpoint(tmp_path / "half.safetensors")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    images = torch.randn(4, 3, 64, 32)
    assert ((loaded(images) * network(images)).sum(1) > 0.999).all()


def test_the_hash_follows_the_content(network: EmbeddingNetwork, tmp_path: Path) -> None:
    first, same, other = (tmp_path / f"{name}.safetensors" for name in "abc")
    save_checkpoint(first, network, HEADER)
    save_checkpoint(same, network, HEADER)
    save_checkpoint(other, EmbeddingNetwork("mobilenet_v3_small", 8), HEADER)
    assert model_hash(first) == model_hash(same) != model_hash(other)


def _rewrite(path: Path, network: EmbeddingNetwork, changes: dict[str, object]) -> None:
    save_checkpoint(path, network, HEADER)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["header"])
    header = {key: value for key, value in {**header, **changes}.items() if value is not None}
    save_file(network.state_dict(), path, metadata={"header": json.dumps(header)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "something else"}, "not an appearance model"),
        ({"mean": None, "input_size": None}, "lacks input_size, mean"),
        ({"network": {"backbone": "resnet18", "dimension": 8}}, "do not fit"),
        ({"network": {"backbone": "vgg"}}, "vgg"),
        ({"network": {"depth": 3}}, "do not fit"),
        ({"mean": [0.5, 0.5, 1e300]}, "mean"),
        ({"std": [0.5, 0.5, 1e-300]}, "std"),
        ({"std": [0.5, -0.5, 0.5]}, "std"),
    ],
)
def test_a_foreign_header_is_refused(
    network: EmbeddingNetwork, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    path = tmp_path / "model.safetensors"
    _rewrite(path, network, changes)
    with pytest.raises(UserError, match=message):
        load_checkpoint(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    text, pickled, plain = tmp_path / "a.txt", tmp_path / "b.pt", tmp_path / "c.safetensors"
    text.write_text("hello")
    torch.save({"weight": torch.ones(3)}, pickled)
    save_file({"weight": torch.ones(3)}, plain)
    for path, message in [
        (text, "not a readable safetensors"),
        (pickled, "not a readable safetensors"),
        (plain, "not an appearance model"),
        (tmp_path / "missing.safetensors", "no such model"),
    ]:
        with pytest.raises(UserError, match=message) as caught:
            load_checkpoint(path)
        assert str(path) in str(caught.value)
    with pytest.raises(UserError, match="cannot be read"):
        model_hash(tmp_path / "missing.safetensors")


def test_a_truncated_file_is_refused(network: EmbeddingNetwork, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, network, HEADER)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="not a readable safetensors"):
        load_checkpoint(path)
