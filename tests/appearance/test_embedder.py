from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from reid_tracker.appearance.checkpoint import save_checkpoint
from reid_tracker.appearance.embedder import Embedder, embed_crops
from reid_tracker.appearance.network import EmbeddingNetwork
from reid_tracker.cropping import align_crops, normalise
from reid_tracker.errors import UserError
from reid_tracker.weights import APPEARANCE

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def network() -> EmbeddingNetwork:
    torch.manual_seed(0)
    network = EmbeddingNetwork("mobilenet_v3_small", 32).train()
    for _ in range(5):  # statistics that belong to the input: an untrained network hardly tells two crops apart
        network(torch.randn(16, 3, 64, 32))
    return network.eval()


@pytest.fixture(scope="module")
def path(network: EmbeddingNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(path, network, {"input_size": [64, 32], "mean": MEAN, "std": STD, "calibration": {"all": {}}})
    return path


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC)


BOXES = np.array([[10, 20, 60, 140], [100, 5, 180, 235], [200, 100, 240, 200]], dtype=np.float32)


def test_embeddings_are_the_networks_for_the_boxes_by_hand(
    path: Path, network: EmbeddingNetwork, image: np.ndarray
) -> None:
    embedder = Embedder(path, device="cpu")
    embeddings = embedder.embed(image, BOXES)
    crops = [
        cv2.resize(image[y1:y2, x1:x2], (32, 64), interpolation=cv2.INTER_AREA) for x1, y1, x2, y2 in BOXES.astype(int)
    ]
    with torch.inference_mode():
        expected = network(normalise(torch.from_numpy(np.stack(crops)), MEAN, STD)).numpy()
    assert embeddings.dtype == np.float32 and embeddings.shape == (3, embedder.dimension)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    # Folded and, where the processor has it, in bfloat16.
    assert ((embeddings * expected).sum(axis=1) > 0.99).all()
    assert embedder.header["calibration"] == {"all": {}}


def test_small_crops_are_not_computed_in_a_precision_that_garbles_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = EmbeddingNetwork("resnet18", 16).train()
    network(torch.randn(32, 3, 64, 32))
    network.eval()
    crops = torch.randint(0, 256, (32, 64, 32, 3), dtype=torch.uint8)
    wanted = embed_crops(network, crops, MEAN, STD)
    found = embed_crops(network, crops, MEAN, STD, half=True)
    assert ((wanted * found).sum(axis=1) > 0.95).all()


def test_gpu_crops_and_cpu_crops_give_the_same_embeddings(
    path: Path, network: EmbeddingNetwork, image: np.ndarray
) -> None:
    aligned = embed_crops(network, align_crops(torch.from_numpy(image), BOXES, (64, 32)), MEAN, STD)
    assert ((Embedder(path, device="cpu").embed(image, BOXES) * aligned).sum(axis=1) > 0.98).all()


def test_a_box_outside_or_not_a_number_has_no_embedding_and_spoils_no_other(path: Path, image: np.ndarray) -> None:
    bad = np.array([[-50, 0, -10, 40], [30, 40, 30, 90], [np.nan, 0, 10, 10], [400, 300, 500, 400]], dtype=np.float32)
    embedder = Embedder(path, device="cpu")
    embeddings = embedder.embed(image, np.concatenate([bad[:2], BOXES, bad[2:]]))
    assert np.isnan(embeddings[[0, 1, 5, 6]]).all()
    np.testing.assert_allclose(embeddings[2:5], embedder.embed(image, BOXES), atol=1e-6)
    assert np.isnan(embedder.embed(image, bad)).all()


def test_a_box_partly_outside_is_clipped(path: Path, image: np.ndarray) -> None:
    embedder = Embedder(path, device="cpu")
    over, inside = np.array([[-30, -20, 50, 100]]), np.array([[0, 0, 50, 100]])
    np.testing.assert_array_equal(embedder.embed(image, over), embedder.embed(image, inside))


def test_no_boxes_no_rows(path: Path, image: np.ndarray) -> None:
    assert Embedder(path, device="cpu").embed(image, np.zeros((0, 4), dtype=np.float32)).shape == (0, 32)


def test_a_limited_batch_changes_nothing(path: Path, image: np.ndarray) -> None:
    whole, pieces = Embedder(path, device="cpu"), Embedder(path, device="cpu", batch=2)
    boxes = np.concatenate([BOXES, BOXES[::-1]])
    np.testing.assert_allclose(whole.embed(image, boxes), pieces.embed(image, boxes), atol=2e-2)


def test_an_unknown_device_is_refused(path: Path) -> None:
    with pytest.raises(UserError, match="abacus"):
        Embedder(path, device="abacus")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_missing_device_is_refused(path: Path) -> None:
    with pytest.raises(UserError, match="cuda"):
        Embedder(path, device="cuda")


def test_the_bundled_model_is_small_and_carries_its_papers(image: np.ndarray) -> None:
    embedder = Embedder(device="cpu")
    assert APPEARANCE.stat().st_size < 8e6
    for group in ("all", "same_camera", "cross_camera"):
        calibration = embedder.header["calibration"][group]
        assert calibration["same_mean"] > calibration["stranger_mean"] + 2 * calibration["stranger_std"]
    assert embedder.header["licence"] and embedder.header["figures"]
    assert APPEARANCE.with_suffix(".md").is_file()
    assert embedder.embed(image, BOXES).shape == (3, embedder.dimension)


def test_statistics_come_from_pairs_within_one_camera(tmp_path):
    network = EmbeddingNetwork("mobilenet_v3_small", dimension=8)
    header = {"input_size": [64, 32], "mean": MEAN, "std": STD}
    known = {"same_mean": 0.5, "same_std": 0.1, "stranger_mean": 0.0, "stranger_std": 0.2}
    for calibration, expected in (({"same_camera": known}, 0.5), ({}, None)):
        save_checkpoint(tmp_path / "m.safetensors", network, {**header, "calibration": calibration})
        statistics = Embedder(tmp_path / "m.safetensors", device="cpu").statistics
        assert (statistics and statistics.same_mean) == expected
    learned = {"same_camera": {**known, "covered": [1.0, 0.9, 0.8, 0.7, 0.6]}}
    save_checkpoint(tmp_path / "m.safetensors", network, {**header, "calibration": learned})
    assert Embedder(tmp_path / "m.safetensors", device="cpu").statistics.covered == [1.0, 0.9, 0.8, 0.7, 0.6]
    for change in ({"mean": 1}, {"same_mean": "high"}, {"covered": [1.0, 0.5]}, {"covered": 1}):
        wrong = {**known, **change}
        save_checkpoint(tmp_path / "m.safetensors", network, {**header, "calibration": {"same_camera": wrong}})
        with pytest.raises(UserError, match="calibration"):
            Embedder(tmp_path / "m.safetensors", device="cpu")
