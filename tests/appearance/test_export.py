import builtins
import os
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from reid_tracker.appearance.checkpoint import save_checkpoint
from reid_tracker.appearance.embedder import Embedder
from reid_tracker.appearance.export import export_model
from reid_tracker.appearance.exported import ExportedNetwork
from reid_tracker.appearance.network import EmbeddingNetwork
from reid_tracker.errors import UserError
from reid_tracker.evaluation.reid import evaluate_reid
from reid_tracker.weights import APPEARANCE, model_hash

for library in ("onnx", "onnxruntime", "openvino"):
    pytest.importorskip(library)

BOXES = np.array([[10, 20, 60, 140], [100, 5, 180, 235], [400, 0, 500, 9]], dtype=np.float32)
HEADER = {
    "input_size": [64, 32],
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.25, 0.3],
    "calibration": {"same_camera": {"same_mean": 0.6, "same_std": 0.1, "stranger_mean": 0.1, "stranger_std": 0.1}},
}


def pictures(count: int) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (count, 8, 4, 3), dtype=np.uint8)
    return np.stack([cv2.resize(each, (32, 64), interpolation=cv2.INTER_CUBIC) for each in coarse])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = EmbeddingNetwork("mobilenet_v3_small", 32).train()
    for _ in range(5):
        network(torch.randn(16, 3, 64, 32))
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(path, network.eval(), HEADER)
    return path


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def exported(request: pytest.FixtureRequest, checkpoint: Path) -> Path:
    path = export_model(checkpoint, checkpoint.parent / request.param, request.param)
    assert path.name in ("onnx.onnx", "openvino.xml")
    assert not list(checkpoint.parent.glob(".export*"))
    return path


def test_vectors_are_the_networks_for_any_number_of_crops(exported: Path, checkpoint: Path) -> None:
    network = ExportedNetwork(exported, exact=True)
    original = Embedder(checkpoint, device="cpu")
    original.half = False
    for count in (1, 7, 0):
        crops = pictures(7)[:count]
        rows = network(crops)
        assert rows.shape == (count, 32) and rows.dtype == np.float32
        np.testing.assert_allclose(rows, original.describe(torch.from_numpy(crops)), atol=1e-3)


def test_the_embedder_takes_it_for_the_checkpoint(exported: Path, checkpoint: Path) -> None:
    image = cv2.resize(pictures(1)[0], (320, 240), interpolation=cv2.INTER_CUBIC)
    one, other = Embedder(exported), Embedder(checkpoint, device="cpu")
    assert one.dimension == other.dimension and one.input_size == other.input_size
    assert one.hash == other.hash == model_hash(checkpoint)  # vectors can be compared
    assert one.statistics == other.statistics is not None
    rows, expected = one.embed(image, BOXES), other.embed(image, BOXES)
    assert np.isnan(rows[2]).all() and np.isnan(expected[2]).all()
    assert ((rows * expected).sum(axis=1)[:2] > 0.99).all()
    with pytest.raises(UserError, match="CPU"):
        Embedder(exported, device="meta")


def test_a_frame_with_more_boxes_than_a_batch(exported: Path) -> None:
    crops = torch.from_numpy(pictures(7))
    whole, parts = Embedder(exported), Embedder(exported, batch=3)
    np.testing.assert_allclose(whole.describe(crops), parts.describe(crops), atol=1e-2)
    assert whole.describe(crops[:0]).shape == (0, 32)


def test_a_foreign_network_without_header(tmp_path: Path) -> None:
    """NCHW, float, one picture at a time, no unit rows: as others export."""
    path = tmp_path / "foreign.onnx"

    class Foreign(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return 3 * pictures.mean((2, 3))

    picture = torch.zeros(1, 3, 64, 32)
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(Foreign().eval(), (picture,), path, dynamo=False)
    foreign = ExportedNetwork(path)
    crops = pictures(5)
    means = crops.astype(float).mean(axis=(1, 2))
    np.testing.assert_allclose(foreign(crops), means / np.linalg.norm(means, axis=1, keepdims=True), atol=1e-5)
    assert foreign.header == {"input_size": [64, 32]} and foreign.dimension == 3
    assert Embedder(path).statistics is None and foreign.hash == model_hash(path)
    onnx = pytest.importorskip("onnx")
    for header in ("made by hand", "[1]", "[" * 100_000):
        other = onnx.load(path)
        onnx.helper.set_model_props(other, {"header": header})
        onnx.save(other, tmp_path / "other.onnx")
        with pytest.raises(UserError, match=r"other\.onnx: its header is none"):
            ExportedNetwork(tmp_path / "other.onnx")


@pytest.mark.needs_data
@pytest.mark.skipif("REID_TRACKER_DATA" not in os.environ, reason="REID_TRACKER_DATA names no evaluation data")
def test_int8_loses_little(tmp_path: Path) -> None:
    """Only a trained network can be quantised: without training its vectors are noise."""
    pytest.importorskip("nncf")
    crops = Path(os.environ["REID_TRACKER_DATA"]) / "market1501" / "bounding_box_train"
    data = [f"{crops}[:15]", f"{crops}[15:30]"]
    path = export_model(APPEARANCE, tmp_path / "small.xml", "openvino", int8=True, data=data)
    assert path.with_suffix(".bin").stat().st_size < 0.7 * APPEARANCE.stat().st_size  # which is float16
    assert ExportedNetwork(path).header["precision"] == "int8"
    unseen = f"{crops}[551:591]"
    assert evaluate_reid(unseen, path)["mAP"] > evaluate_reid(unseen, device="cpu")["mAP"] - 0.02


def test_what_cannot_be_exported_is_refused(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="onnx, openvino"):
        export_model(checkpoint, tmp_path / "x", "tflite")
    with pytest.raises(UserError, match="calibrate"):
        export_model(checkpoint, tmp_path / "x", "openvino", int8=True)
    with pytest.raises(UserError, match="int8 is for OpenVINO"):
        export_model(checkpoint, tmp_path / "x", "onnx", int8=True, data=["somewhere"])
    with pytest.raises(UserError, match="no such model file"):
        export_model(tmp_path / "none.safetensors", tmp_path / "x")
    real_import = builtins.__import__

    def without_onnx(name: str, *arguments, **keywords):
        if name == "onnx":
            raise ImportError("no onnx", name="onnx")
        return real_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    with pytest.raises(UserError, match=r"needs onnx; pip install .reid-tracker\[export\]"):
        export_model(checkpoint, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_beside_their_model_are_named(checkpoint: Path, tmp_path: Path) -> None:
    export_model(checkpoint, tmp_path / "net.xml", "openvino")
    (tmp_path / "net.bin").unlink()
    with pytest.raises(UserError, match=r"net\.xml: its weights, net\.bin, are not beside it"):
        ExportedNetwork(tmp_path / "net.xml")


def test_what_cannot_be_run_is_refused(tmp_path: Path) -> None:
    for suffix in (".onnx", ".xml"):
        with pytest.raises(UserError, match="no such model file"):
            ExportedNetwork(tmp_path / f"none{suffix}")
        (tmp_path / f"bad{suffix}").write_text("not a model")
        with pytest.raises(UserError, match="not a readable"):
            ExportedNetwork(tmp_path / f"bad{suffix}")
