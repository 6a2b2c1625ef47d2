from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from reid_tracker.appearance.checkpoint import load_checkpoint
from reid_tracker.appearance.network import EmbeddingNetwork
from reid_tracker.errors import UserError
from reid_tracker.training import trainer as module
from reid_tracker.training.datasets import read_crops
from reid_tracker.training.trainer import Trainer, TrainSettings, learning_rate, load_backbone, main, read_settings

SMALL = {
    "backbone": "mobilenet_v3_small",
    "dimension": 16,
    "input_size": (32, 16),
    "epochs": 3,
    "people": 4,
    "images": 2,
    "validation_identities": 2,
    "validate_every": 2,
    "warm_up_epochs": 1,
    "threads": 1,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty people in two cameras: two colours each, and noise."""
    folder = tmp_path_factory.mktemp("people")
    random = np.random.default_rng(0)
    for person in range(20):
        clothes = np.repeat(random.integers(20, 235, (2, 1, 3)), 16, axis=0)
        for camera in (1, 2):
            for image in range(2):
                crop = np.clip(clothes + random.normal(0, 10, (32, 16, 3)), 0, 255).astype(np.uint8)
                cv2.imwrite(str(folder / f"{person:04d}_c{camera}_{image:02d}.png"), crop)
    return folder


def state(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path / "appearance.safetensors")[0].state_dict()


def test_an_interrupted_and_resumed_run_ends_in_the_same_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrainSettings(**SMALL)
    crops = read_crops(f"{data}[:10]")
    Trainer(settings, crops, tmp_path / "whole", "cpu").run()

    cut = Trainer(settings, crops, tmp_path / "cut", "cpu")
    step, steps = torch.optim.AdamW.step, 0

    def interrupt(self: torch.optim.AdamW, *arguments: object) -> object:
        nonlocal steps
        steps += 1
        if steps == 4:  # in the middle of the second epoch
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch.optim.AdamW, "step", interrupt)
        cut.run()
    resumed = Trainer(settings, crops, tmp_path / "cut", "cpu")
    resumed.resume()
    assert resumed.epoch == 1
    resumed.run()
    whole, again = state(tmp_path / "whole"), state(tmp_path / "cut")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_training_learns_and_the_command_writes_a_usable_model(data: Path, tmp_path: Path) -> None:
    config = tmp_path / "train.yaml"
    values = {
        **SMALL,
        "input_size": [32, 16],
        "epochs": 12,
        "images": 4,
        "learning_rate": 1e-3,
        "average_decay": 0.5,
        "pooling": "average",
    }
    config.write_text(yaml.safe_dump({**values, "licence": "ours"}))
    test = f"--test=toy={data}[:6]"
    assert (
        main(["--config", str(config), "--data", f"{data}[6:]", test, "--output", str(tmp_path), "--device=cpu"]) == 0
    )
    _, header = load_checkpoint(tmp_path / "appearance.safetensors")
    # Six strangers in other colours; by chance rank 1 is one in six.
    assert header["figures"]["toy"]["rank1"] > 0.7
    assert header["calibration"] == header["figures"]["toy"]["calibration"]
    assert header["calibration"]["all"]["same_mean"] > header["calibration"]["all"]["stranger_mean"]
    assert header["licence"] == "ours" and header["training"]["epoch"] == 12 and header["training"]["identities"] == 12


def test_frozen_blocks_keep_their_weights_and_statistics(data: Path, tmp_path: Path) -> None:
    run = Trainer(
        TrainSettings(**{**SMALL, "epochs": 1, "frozen_blocks": 2}), read_crops(f"{data}[:10]"), tmp_path, "cpu"
    )
    before = {name: value.clone() for name, value in run.network.backbone.state_dict().items()}
    run.run()
    after = run.network.backbone.state_dict()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert not moved & {"0", "1"} and {"2", "3"} <= moved


def test_the_rate_warms_up_and_ends_at_zero() -> None:
    settings = TrainSettings(epochs=20, warm_up_epochs=4, learning_rate=0.1)
    rates = [learning_rate(epoch, settings) for epoch in np.linspace(0, 20, 81)]
    peak = int(np.argmax(rates))
    assert rates[peak] == pytest.approx(0.1) and peak == 16
    assert all(np.diff(rates[: peak + 1]) > 0) and all(np.diff(rates[peak:]) < 0)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


def test_a_start_from_another_implementations_names_is_taken_in_order(tmp_path: Path) -> None:
    source = EmbeddingNetwork("mobilenet_v3_small", 4).backbone.state_dict()
    theirs = {
        f"layer_{number}" + name[name.rindex(".") :]: value for number, (name, value) in enumerate(source.items())
    }
    torch.save({**theirs, "classifier": torch.zeros(1000, 576)}, tmp_path / "imagenet.pth")
    network = EmbeddingNetwork("mobilenet_v3_small", 4)
    load_backbone(network, tmp_path / "imagenet.pth")
    (first, *others) = (name for name in source if not name.endswith("num_batches_tracked"))
    loaded = network.backbone.state_dict()
    assert torch.equal(loaded[first], source[first].flip(1))  # theirs reads RGB, ours BGR
    assert all(torch.equal(loaded[name], source[name]) for name in others)
    with pytest.raises(UserError, match="not the weights of resnet18"):
        load_backbone(EmbeddingNetwork("resnet18"), tmp_path / "imagenet.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(UserError, match="not a readable file of weights"):
        load_backbone(network, tmp_path / "text.pth")


def test_resuming_what_is_not_this_run_is_refused(data: Path, tmp_path: Path) -> None:
    crops = read_crops(f"{data}[:10]")
    first = Trainer(TrainSettings(**{**SMALL, "epochs": 1}), crops, tmp_path, "cpu")
    with pytest.raises(UserError, match="nothing to resume"):
        first.resume()
    first.run()
    with pytest.raises(UserError, match="another epochs, margin"):
        Trainer(TrainSettings(**{**SMALL, "margin": 0.3}), crops, tmp_path, "cpu").resume()
    with pytest.raises(UserError, match="another crops"):
        fewer = read_crops(f"{data}[:8]")
        Trainer(TrainSettings(**{**SMALL, "epochs": 1}), fewer, tmp_path, "cpu").resume()


def test_a_loss_that_is_no_number_stops_the_run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Trainer(TrainSettings(**SMALL), read_crops(f"{data}[:10]"), tmp_path, "cpu")
    monkeypatch.setattr(module, "triplet_loss", lambda distance, triplets, margin: distance.sum() * torch.nan)
    with pytest.raises(UserError, match="learning_rate"):
        run.run()
    assert not (tmp_path / "appearance.safetensors").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("peeple: 3", "peeple"),
        ("people: 1", "people"),
        ("epochs: many", "epochs"),
        ("- a\n- b", "not a YAML file of settings"),
        ("a: [", "not a YAML file of settings"),
    ],
)
def test_impossible_settings_name_the_key(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "train.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_settings(tmp_path / "train.yaml")


def test_the_shipped_configuration_is_the_default() -> None:
    path = Path(__file__).parents[2] / "configs" / "train.yaml"
    assert read_settings(path) == TrainSettings() == read_settings(None)
    assert list(yaml.safe_load(path.read_text())) == list(TrainSettings.model_fields)


def test_the_command_ends_with_a_sentence_not_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in [
        (["--data", str(tmp_path / "nothing")], "no such folder"),
        (["--data", str(tmp_path), "--config", str(tmp_path / "nothing.yaml")], "nothing.yaml"),
        (["--data", str(tmp_path), "--test", str(tmp_path)], "NAME=FOLDER"),
    ]:
        with pytest.raises(SystemExit) as caught:
            main([*arguments, "--output", str(tmp_path / "out")])
        assert caught.value.code == 2
        assert message in capsys.readouterr().err
