import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import reid_tracker
from reid_tracker.appearance.checkpoint import load_checkpoint, save_checkpoint
from reid_tracker.appearance.network import BACKBONES, EmbeddingNetwork
from reid_tracker.config import LossSettings, TrainConfig
from reid_tracker.crop_sets.crops import CropSet
from reid_tracker.crop_sets.layouts import read_crops
from reid_tracker.errors import UserError
from reid_tracker.training import trainer as module
from reid_tracker.training.command import train
from reid_tracker.training.mining import Triplets, batch_hard
from reid_tracker.training.objective import LOSSES, MINERS, Batch, Classes
from reid_tracker.training.offline_mining import load_triplets
from reid_tracker.training.trainer import Trainer


def settings(**changes: Any) -> TrainConfig:
    """A run of seconds; `changes` are dotted names with __ for the dot."""
    values: dict[str, dict[str, Any]] = {
        "network": {"backbone": "mobilenet_v3_small", "dimension": 16, "input_size": (32, 16)},
        "batch": {"people": 4, "images": 2},
        "schedule": {"epochs": 3, "validation_identities": 2, "validate_every": 2, "warm_up_epochs": 1},
        "loss": {},
        "compute": {"threads": 1},
    }
    for name, value in changes.items():
        group, _, setting = name.partition("__")
        values[group][setting] = value
    return TrainConfig.model_validate(values)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(loss__miner={1: "batch_all", 3: "batch_hard"})
    crops = read_crops(f"{people}[:10]")
    Trainer(config, crops, tmp_path / "whole", "cpu").run()

    cut = Trainer(config, crops, tmp_path / "cut", "cpu")
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
    resumed = Trainer(config, crops, tmp_path / "cut", "cpu")
    resumed.resume()
    assert resumed.epoch == 1
    resumed.run()
    whole, again = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "cut"))
    for part in ("network", "average", "classifier"):
        assert all(torch.equal(whole[part][name], again[part][name]) for name in whole[part])
    assert whole["best"] == again["best"] and whole["epoch"] == again["epoch"] == 3


def test_training_learns_and_the_model_can_be_used_and_started_from(people: Path, tmp_path: Path) -> None:
    config = settings(
        network__backbone="resnet18",
        compute__precision="float32",
        schedule__epochs=3,
        schedule__learning_rate=1e-3,
        schedule__average_decay=0.5,
        batch__images=4,
        network__pooling="average",
    )
    config.licence = "ours"
    reports: list[float] = []
    figures = train([f"{people}[6:]"], tmp_path, config, tests={"toy": f"{people}[:6]"}, device="cpu")
    _, header = load_checkpoint(tmp_path / "appearance.safetensors")
    # Six strangers in other colours; by chance rank 1 is one in six.
    assert figures["toy"]["rank1"] > 0.7
    assert header["figures"] == figures and header["calibration"] == figures["toy"]["calibration"]
    assert header["calibration"]["all"]["same_mean"] > header["calibration"]["all"]["stranger_mean"]
    covered = header["calibration"]["same_camera"]["covered"]
    assert covered[0] == 1 > covered[-1] and covered == sorted(covered, reverse=True)
    assert header["licence"] == "ours" and header["training"]["identities"] == 12
    start = tmp_path / "appearance.safetensors"
    further = Trainer(config, read_crops(f"{people}[:10]"), tmp_path / "further", "cpu", start)
    wanted = state(tmp_path)
    assert all(torch.equal(value, wanted[name]) for name, value in further.network.state_dict().items())
    further.config.schedule.epochs = 1
    further.run(lambda epochs, text: reports.append(epochs))
    assert reports == sorted(reports) and reports[-1] == 1
    with pytest.raises(UserError, match=r"network\.dimension: 16"):
        Trainer(settings(network__dimension=8), read_crops(f"{people}[:10]"), tmp_path, "cpu", start)


def test_frozen_blocks_keep_their_weights_and_statistics(people: Path, tmp_path: Path) -> None:
    config = settings(schedule__epochs=1, network__frozen_blocks=2)
    run = Trainer(config, read_crops(f"{people}[:10]"), tmp_path, "cpu")
    before = {name: value.clone() for name, value in run.network.backbone.state_dict().items()}
    run.run()
    after = run.network.backbone.state_dict()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert not moved & {"0", "1"} and {"2", "3"} <= moved


def test_a_run_stops_when_validation_no_longer_rises_and_keeps_the_best(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([0.2, 0.5, 0.4, 0.5, 0.9])
    monkeypatch.setattr(module, "measure", lambda *_: {"rank1": 0.0, "mAP": next(found), "calibration": {}})
    config = settings(schedule__epochs=9, schedule__validate_every=1, schedule__patience=2)
    run = Trainer(config, read_crops(f"{people}[:10]"), tmp_path, "cpu")
    run.run()
    assert run.epoch == 4 and run.best["mAP"] == 0.5
    assert load_checkpoint(tmp_path / "appearance.safetensors")[1]["training"]["epoch"] == 2


def test_the_miner_changes_when_the_settings_say(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    original = module.metric_loss

    def spy(embeddings: Any, labels: Any, loss: Any, miner: str, *rest: Any) -> Any:
        used.append(miner)
        return original(embeddings, labels, loss, miner, *rest)

    monkeypatch.setattr(module, "metric_loss", spy)
    miners = {1: "semi_hard", 2: "distance_weighted", 3: "batch_hard"}
    config = settings(loss__miner=miners, loss__unit_length=True, loss__margin=0.2)
    Trainer(config, read_crops(f"{people}[:10]"), tmp_path, "cpu").run()
    assert list(dict.fromkeys(used)) == list(miners.values())


@pytest.mark.parametrize(
    "loss",
    [
        {"name": "quadruplet"},
        {"name": "contrastive", "margin": 1.0, "unit_length": True, "metric": "euclidean"},
        {"metric": "euclidean", "margin": None},
        {"name": "constellation"},
        {"name": "centroid"},
        {"name": "hierarchical", "unit_length": True, "metric": "squared_euclidean"},
        {"miner": {1: "offline_hard"}},
        {"metric_weight": 0},
        {"classifier_weight": 0},
    ],
)
def test_every_loss_moves_the_network(people: Path, tmp_path: Path, loss: dict[str, Any]) -> None:
    config = settings(schedule__epochs=1, **{f"loss__{name}": value for name, value in loss.items()})
    run = Trainer(config, read_crops(f"{people}[:10]"), tmp_path, "cpu")
    before = run.network.linear.weight.clone()
    run.run()
    after = run.network.linear.weight
    assert torch.isfinite(after).all() and (after - before).abs().max() > 1e-5


def test_offline_triplets_are_kept_in_a_file_and_renewed(people: Path, tmp_path: Path) -> None:
    config = settings(schedule__epochs=4, loss__miner={1: "batch_hard", 2: "offline_semi_hard"}, loss__offline_every=2)
    crops = read_crops(f"{people}[:10]")
    whole = Trainer(config, crops, tmp_path / "whole", "cpu")
    mined: list[int] = []

    def note(epochs: float, _: str) -> None:
        path = tmp_path / "whole" / "triplets.npz"
        mined.append(load_triplets(path, whole.labels).about["epoch"] if path.exists() else -1)

    whole.run(note)
    assert list(dict.fromkeys(mined)) == [-1, 1, 3]  # counted from 0: before the second and the fourth epoch

    # Stopped in the third epoch, whose triplets are those of the second.
    cut = Trainer(config, crops, tmp_path / "cut", "cpu")
    with pytest.raises(KeyboardInterrupt):
        cut.run(stop_after(2.1))
    again = Trainer(config, crops, tmp_path / "cut", "cpu")
    again.resume()
    assert again.epoch == 2
    again.run()
    wanted, found = state(tmp_path / "whole"), state(tmp_path / "cut")
    assert all(torch.equal(value, found[name]) for name, value in wanted.items())
    lost = Trainer(config, crops, tmp_path / "cut", "cpu")
    lost.epoch = 2
    with pytest.raises(UserError, match="not the triplets"):
        lost.run()


def stop_after(end: float) -> Any:
    def report(epochs: float, _: str) -> None:
        if epochs > end:
            raise KeyboardInterrupt

    return report


def test_resuming_what_is_not_this_run_is_refused(
    people: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crops = read_crops(f"{people}[:10]")
    first = Trainer(settings(schedule__epochs=1), crops, tmp_path, "cpu")
    with pytest.raises(UserError, match="nothing to resume"):
        first.resume()
    first.run()
    Trainer(settings(schedule__epochs=1), crops, tmp_path, "cpu").resume()
    assert "the run is finished, after epoch 1" in caplog.text
    with pytest.raises(UserError, match=r"another loss.margin"):
        Trainer(settings(loss__margin=0.4), crops, tmp_path, "cpu").resume()
    with pytest.raises(UserError, match=r"another schedule.learning_rate"):
        Trainer(settings(schedule__learning_rate=1e-3), crops, tmp_path, "cpu").resume()
    with pytest.raises(UserError, match="another crops"):
        fewer = read_crops(f"{people}[:8]")
        Trainer(settings(schedule__epochs=1), fewer, tmp_path, "cpu").resume()


def test_epochs_can_be_added_to_a_finished_run_and_only_to_that(people: Path, tmp_path: Path) -> None:
    """They begin with a warm-up of their own; broken off and resumed they end in the same weights."""
    crops = read_crops(str(people))
    for folder in ("whole", "cut"):
        Trainer(settings(schedule__epochs=2), crops, tmp_path / folder, "cpu").run()
    longer = Trainer(settings(schedule__epochs=5), crops, tmp_path / "whole", "cpu")
    longer.resume()
    longer.run()
    with (tmp_path / "whole" / "log.csv").open(newline="") as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    assert len(rates) == 5 and rates[3] > 2 * max(rates[1], rates[4])
    for _ in range(2):
        again = Trainer(settings(schedule__epochs=5), crops, tmp_path / "cut", "cpu")
        again.resume()
        if again.epoch == 2:
            with pytest.raises(KeyboardInterrupt):
                again.run(stop_after(3.5))
        else:
            again.run()
    for name, tensor in state(tmp_path / "whole").items():
        assert torch.equal(tensor, state(tmp_path / "cut")[name]), name
    with pytest.raises(KeyboardInterrupt):
        Trainer(settings(schedule__epochs=3), crops, tmp_path / "under way", "cpu").run(stop_after(1.5))
    with pytest.raises(UserError, match=r"another schedule.epochs"):
        Trainer(settings(schedule__epochs=4), crops, tmp_path / "under way", "cpu").resume()


def test_ones_own_backbone_loss_and_miner_train_by_their_names(people: Path, tmp_path: Path) -> None:
    """The README's example, from Python alone; the checkpoint is usable wherever the backbone is registered."""
    seen: list[str] = []

    def backbone() -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Sequential(nn.BatchNorm2d(8), nn.ReLU()))

    def hardest_first(batch: Batch, settings: LossSettings) -> Triplets:
        seen.append("miner")
        return batch_hard(batch.distance, batch.identities)

    def squared(batch: Batch, settings: LossSettings, classes: Classes) -> Tensor:
        seen.append("loss")
        same = batch.identities[:, None] == batch.identities
        return (batch.distance * same).square().mean() + ((1 - batch.distance).clamp_min(0) * ~same).square().mean()

    reid_tracker.register_backbone("tiny", backbone, 8)
    reid_tracker.register_miner("hardest_first", hardest_first)
    reid_tracker.register_loss("squared", squared)
    try:
        for name, loss in (("a", {"miner": "hardest_first"}), ("b", {"name": "squared"})):
            config = settings(network__backbone="tiny", schedule__epochs=1)
            config.loss = LossSettings.model_validate(loss)
            figures = reid_tracker.train([str(people)], tmp_path / name, config, tests={"same": str(people)})
            assert 0 < figures["same"]["mAP"] <= 1
            assert reid_tracker.Embedder(tmp_path / name / "appearance.safetensors", "cpu").dimension == 16
        assert {"miner", "loss"} == set(seen)
        for register, part in ((reid_tracker.register_loss, squared), (reid_tracker.register_miner, hardest_first)):
            with pytest.raises(UserError, match="the name is taken"):
                register("batch_hard" if part is hardest_first else "triplet", part)
            with pytest.raises(UserError, match="letters, digits"):
                register("own loss", part)
        with pytest.raises(UserError, match="not of 9 channels"):
            reid_tracker.register_backbone("other", backbone, 9)
        with pytest.raises(UserError, match="is a Linear"):
            reid_tracker.register_backbone("other", lambda: nn.Linear(2, 2), 2)
    finally:
        del BACKBONES["tiny"], MINERS["hardest_first"], LOSSES["squared"]
    with pytest.raises(UserError, match="register_backbone it"):
        reid_tracker.Embedder(tmp_path / "a" / "appearance.safetensors", "cpu")


def test_a_run_tells_what_it_read_what_it_began_with_and_what_may_be_known(
    people: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "reid_tracker.training")
    train([str(people)], tmp_path / "first", settings(schedule__epochs=1), device="cpu")
    assert f"{people}: 80 crops of 20 identities, 2 cameras" in caplog.messages
    assert "active" in caplog.text and "may have learned" not in caplog.text
    start = tmp_path / "first" / "appearance.safetensors"
    train([str(people)], tmp_path / "second", settings(schedule__epochs=1), device="cpu", start=start)
    assert any(message.startswith("start  rank1") for message in caplog.messages)
    assert "may have learned from these 2 validation people" in caplog.text
    assert [line.split(",")[0] for line in (tmp_path / "second" / "log.csv").read_text().splitlines()] == [
        *("epoch", "0", "1")
    ]


@pytest.mark.parametrize("name", ["log.csv", "curves.png"])
def test_a_log_of_somebody_elses_stays(people: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"{name}: is there already and was not written by this program"):
        train([str(people)], tmp_path, settings(schedule__epochs=1), device="cpu")
    assert (tmp_path / name).read_text() == "mine"


def test_a_loss_that_is_no_number_stops_the_run(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Trainer(settings(), read_crops(f"{people}[:10]"), tmp_path, "cpu")
    nowhere = torch.tensor(torch.nan)
    monkeypatch.setattr(module, "metric_loss", lambda embeddings, *_: (embeddings.sum() * nowhere, embeddings))
    with pytest.raises(UserError, match="learning_rate"):
        run.run()
    assert not (tmp_path / "appearance.safetensors").exists()


def test_a_collapsing_network_raises_the_alarm(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = module.metric_loss
    monkeypatch.setattr(
        module, "metric_loss", lambda embeddings, *rest: original(embeddings * 0 + embeddings.mean(), *rest)
    )
    monkeypatch.setattr(module, "gather", lambda pooled, *_: pooled * 0 + pooled.mean())
    Trainer(settings(), read_crops(f"{people}[:10]"), tmp_path, "cpu").run()
    (alarm,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "one point" in alarm and "miner" in alarm


def test_gradients_are_clipped(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[float] = []
    step = torch.optim.AdamW.step

    def spy(self: torch.optim.AdamW, *arguments: object) -> object:
        gradients = [p.grad.flatten() for group in self.param_groups for p in group["params"] if p.grad is not None]
        lengths.append(float(torch.cat(gradients).norm()))
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    config = settings(schedule__epochs=1, schedule__clip_gradient=1e-3)
    Trainer(config, read_crops(f"{people}[:10]"), tmp_path, "cpu").run()
    assert lengths == pytest.approx([1e-3] * len(lengths), rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss__miner": {1: "batch_hart"}}, "batch_hart.*batch_hard"),
        ({"loss__miner": {}}, "first epoch"),
        ({"loss__miner": {1: "distance_weighted"}, "loss__metric": "euclidean"}, "unit_length"),
        ({"loss__name": "tripled"}, "tripled.*triplet"),
        ({"loss__name": "contrastive", "loss__margin": None}, "needs loss.margin"),
        ({"loss__name": "hierarchical"}, "squared_euclidean"),
        ({"network__backbone": "resnet19"}, "resnet18"),
        ({"schedule__validation_identities": 9}, "validation_identities"),
    ],
)
def test_impossible_runs_are_refused_before_they_start(
    people: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Trainer(settings(**changes), read_crops(f"{people}[:10]"), tmp_path, "cpu")


def test_unusable_data_is_refused_before_the_run(people: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to train on"):
        train([], tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        train([str(people)], tmp_path, tests={"lost": str(tmp_path / "nowhere")})
    singles = read_crops(f"{people}[:10]")
    singles = CropSet(singles.paths[::4], singles.identities[::4], singles.cameras[::4], singles.query[::4])
    with pytest.raises(UserError, match="none of the 2 validation identities has a second crop"):
        Trainer(settings(), singles, tmp_path, "cpu")


def test_what_the_settings_leave_open_is_that_of_the_start(people: Path, tmp_path: Path) -> None:
    source = EmbeddingNetwork("mobilenet_v3_small", 16, last_stride=1)
    header = {"input_size": [48, 24], "mean": [0.5] * 3, "std": [0.5] * 3, "channels": "bgr", "calibration": {}}
    save_checkpoint(tmp_path / "first.safetensors", source, header)
    crops = read_crops(str(people))
    for stride, size, expected in ((None, None, (1, (48, 24))), (2, (32, 16), (2, (32, 16)))):
        config = settings(network__last_stride=stride, network__input_size=size)
        trainer = Trainer(config, crops, tmp_path / "run", "cpu", tmp_path / "first.safetensors")
        assert (trainer.network.settings["last_stride"], trainer.config.network.input_size) == expected
        assert trainer.images.shape[1:3] == expected[1]
