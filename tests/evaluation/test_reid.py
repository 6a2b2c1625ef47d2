from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from command_world import Run

from reid_tracker.appearance.checkpoint import save_checkpoint
from reid_tracker.appearance.embedder import Embedder
from reid_tracker.appearance.network import EmbeddingNetwork
from reid_tracker.errors import UserError
from reid_tracker.evaluation.corruptions import CORRUPTIONS
from reid_tracker.evaluation.reid import evaluate_reid
from reid_tracker.evaluation.reid_pictures import embed_in_plane
from reid_tracker.evaluation.retrieval import evaluate_retrieval

PEOPLE, CAMERAS, EACH = 8, 2, 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = EmbeddingNetwork("mobilenet_v3_small", 16).train()
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # statistics of this very input: colours are told apart without training
    coarse = torch.rand(64, 3, 4, 2) * 2 - 1
    network(torch.nn.functional.interpolate(coarse, (64, 32), mode="bilinear"))
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(path, network.eval(), {"input_size": [64, 32], "mean": [0.5] * 3, "std": [0.5] * 3})
    return path


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every person a pattern of colours, every crop of it a little noise more; named as in Market-1501."""
    folder = tmp_path_factory.mktemp("market")
    random = np.random.default_rng(0)
    for person in range(PEOPLE):
        pattern = cv2.resize(random.integers(0, 256, (4, 2, 3), dtype=np.uint8), (32, 64))
        for camera in range(CAMERAS):
            for number in range(EACH):
                crop = np.clip(pattern + random.normal(0, 12, pattern.shape), 0, 255).astype(np.uint8)
                cv2.imwrite(str(folder / f"{person:04d}_c{camera + 1}s1_{number:06d}_00.png"), crop)
    return folder


def test_the_bundled_network_is_named_as_in_training(command: Run, market: Path) -> None:
    status, out, error = command("evaluate", "reid", "--data", market, "--model", "bundled")
    assert status == 0 and "bundled" in out, error


def test_figures_are_those_of_the_vectors(market: Path, model: Path) -> None:
    result = evaluate_reid(str(market), model, device="cpu")
    paths = sorted(market.glob("*.png"))
    people, cameras = np.repeat(np.arange(PEOPLE), CAMERAS * EACH), np.tile(np.repeat([1, 2], EACH), PEOPLE)
    query = np.arange(len(paths)) % EACH == 0
    vectors = Embedder(model, device="cpu").describe(torch.from_numpy(np.stack([cv2.imread(str(p)) for p in paths])))
    expected = evaluate_retrieval(
        vectors[query], vectors[~query], people[query], people[~query], cameras[query], cameras[~query]
    )
    assert {name: result[name] for name in expected.as_dict()} == pytest.approx(expected.as_dict(), abs=1e-3)
    assert (result["queries"], result["gallery"], result["identities"]) == (16, 32, PEOPLE)
    assert result["mAP"] > 0.2  # by chance: about 0.1


def test_a_table_of_whom_to_find_without_cameras(market: Path, model: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in market.glob("*.png"))
    lines = [f"{market / name},person {name[:4]},{'query' if '_000000_' in name else 'gallery'}" for name in names]
    (tmp_path / "crops.csv").write_text("\n".join(["path,identity,split", *lines]))
    result = evaluate_reid(str(tmp_path / "crops.csv"), model, device="cpu")
    assert (result["queries"], result["gallery"]) == (16, 32)
    everyone = "\n".join(["path,identity,split", *(line.replace("gallery", "query") for line in lines)])
    (tmp_path / "crops.csv").write_text(everyone)
    with pytest.raises(UserError, match="queries and a gallery"):
        evaluate_reid(str(tmp_path / "crops.csv"), model)


def test_corruptions_and_reranking_are_reported_and_repeat(market: Path, model: Path) -> None:
    done: dict[str, int] = {}
    arguments = {"corruptions": True, "rerank": True, "device": "cpu", "severities": (1, 5)}
    first = evaluate_reid(
        str(market), model, **arguments, progress=lambda task, crops, total: done.update({task: crops == total})
    )
    assert set(first["reranked"]) == {"rank1", "rank5", "mAP", "mINP"}
    assert set(first["corruptions"]) == set(CORRUPTIONS)
    assert done == {"clean": True} | {f"{kind} {severity}": True for kind in CORRUPTIONS for severity in (1, 5)}
    for severity in ("1", "5"):
        mean = np.mean([figures[severity]["mAP"] for figures in first["corruptions"].values()])
        assert first["robustness"][severity] == pytest.approx(mean / first["mAP"])
    again, other = (
        evaluate_reid(str(market), model, corruptions=True, device="cpu", severities=(5,), seed=seed)["corruptions"]
        for seed in (0, 1)
    )
    assert all(again[kind]["5"] == first["corruptions"][kind]["5"] for kind in CORRUPTIONS)
    assert any(again[kind]["5"] != other[kind]["5"] for kind in CORRUPTIONS)


def test_pictures(market: Path, model: Path, tmp_path: Path) -> None:
    ranked, plane = tmp_path / "new" / "ranked.png", tmp_path / "map.png"
    evaluate_reid(str(market), model, ranked_list=ranked, embedding_map=plane, device="cpu")
    image = cv2.imread(str(ranked))
    assert image.shape == (24 + 12 * 150, 72 + 12 + 10 * 72, 3)
    frames = [tuple(image[24 + line * 150 + 1, 84 + 72 * cell + 1]) for line in range(12) for cell in range(10)]
    assert len(set(frames)) == 2  # some right, some wrong: each person is at most three times in the other camera
    captions = [image[24 + line * 150 + 137 : 24 + line * 150 + 149, 84:] for line in range(12)]
    assert (image[:23] < 100).any() and all((each < 100).any() for each in captions)  # title, numbers and cosines
    assert cv2.imread(str(plane)).shape == (1624, 1600, 3)
    assert (ranked.stat().st_mode | plane.stat().st_mode) & 0o077 == 0  # they show people
    with pytest.raises(UserError, match=r"\.png"):
        evaluate_reid(str(market), model, ranked_list=tmp_path / "ranked.txt", device="cpu")


def test_the_plane_keeps_groups_together() -> None:
    random = np.random.default_rng(0)
    centres = random.normal(size=(5, 32))
    vectors = np.repeat(centres, 12, axis=0) + 0.2 * random.normal(size=(60, 32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    plane = embed_in_plane(vectors.astype(np.float32), random)
    distances = np.linalg.norm(plane[:, None] - plane, axis=2) + np.where(np.eye(60) > 0, np.inf, 0)
    assert (np.arange(60) // 12 == distances.argmin(axis=1) // 12).all()
    equal = embed_in_plane(np.tile(vectors[:1], (9, 1)).astype(np.float32), random)
    assert np.isfinite(equal).all()
