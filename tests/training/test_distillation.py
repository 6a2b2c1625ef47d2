from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from reid_tracker.appearance.checkpoint import load_checkpoint, save_checkpoint
from reid_tracker.appearance.embedder import Embedder
from reid_tracker.appearance.export import export_model
from reid_tracker.appearance.network import EmbeddingNetwork
from reid_tracker.config import TrainConfig
from reid_tracker.crop_sets.layouts import read_crops, read_pictures
from reid_tracker.errors import UserError
from reid_tracker.training.command import train
from reid_tracker.training.distillation import (
    FreshMixtures,
    distillation_loss,
    fit_dimension,
    resize,
    teach,
    teach_mixtures,
)
from reid_tracker.training.mixtures import film, mix_crops
from reid_tracker.training.objective import Classes
from reid_tracker.training.trainer import Trainer


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    random = np.random.default_rng(0)
    for person in range(8):
        colour = random.integers(0, 256, 3)
        for image in range(4):
            crop = np.clip(random.normal(colour, 20, (64, 32, 3)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / f"{person:04d}_c1_{image:02d}.png"), crop)
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another network, another size of crop, a longer vector."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    header = {"input_size": [64, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "channels": "bgr", "calibration": {}}
    network = EmbeddingNetwork("resnet18", 24, "average")
    network.train()(torch.rand(16, 3, 64, 32))  # statistics of batch norms that fit
    save_checkpoint(path, network.eval(), header)
    return path


def settings(
    teacher: Path | None, precision: str = "float32", mixtures: int = 0, fresh: float = 0, **schedule: object
) -> TrainConfig:
    values = {
        "network": {"backbone": "mobilenet_v3_small", "dimension": 16, "input_size": (32, 16)},
        "batch": {"people": 8, "images": 2},
        "schedule": {"epochs": 80, "learning_rate": 3e-3, "validation_identities": 0, "average_decay": 0.5, **schedule},
        "loss": {"metric_weight": 0, "classifier_weight": 0},
        "distillation": {"teacher": teacher and str(teacher), "mixtures": mixtures, "fresh_mixtures": fresh},
        "augment": dict.fromkeys(["jitter", "occlusion", "erasing", "shadow", "blur", "light", "jpeg", "mirror"], 0),
        "compute": {"threads": 1, "precision": precision},
    }
    return TrainConfig.model_validate(values)


def test_targets_of_enough_numbers_keep_all_cosines_around_the_mean() -> None:
    vectors = functional.normalize(torch.randn(50, 12, generator=torch.Generator().manual_seed(0)) + 1)
    centred = functional.normalize(vectors - vectors.mean(0))
    for dimension in (12, 20):
        targets = fit_dimension(vectors, dimension)(vectors)
        assert targets.shape == (50, dimension) and targets.dtype == torch.float32
        torch.testing.assert_close(targets @ targets.T, centred @ centred.T, atol=1e-5, rtol=0)


def test_targets_of_fewer_numbers_are_the_best_of_that_rank() -> None:
    vectors = torch.randn(50, 12, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 13)
    targets = fit_dimension(vectors, 5)(vectors)
    u, s, _ = np.linalg.svd((vectors - vectors.mean(0)).numpy().astype(float), full_matrices=False)
    best = u[:, :5] * s[:5]
    best /= np.linalg.norm(best, axis=1, keepdims=True)
    np.testing.assert_allclose((targets @ targets.T).numpy(), best @ best.T, atol=1e-5)


def test_other_vectors_are_turned_as_those_of_the_set() -> None:
    vectors = torch.randn(50, 12, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 13) + 1
    for dimension in (5, 12, 20):
        turning = fit_dimension(vectors, dimension)
        torch.testing.assert_close(turning(vectors[7:9]), turning(vectors)[7:9])


def test_the_loss_is_nothing_at_the_target_whatever_the_length() -> None:
    targets = functional.normalize(torch.randn(6, 4))
    assert distillation_loss(3 * targets, targets) == pytest.approx(0, abs=1e-5)
    assert distillation_loss(-targets, targets) == pytest.approx(12, abs=1e-5)


def test_a_student_gives_the_teachers_vectors(people: Path, teacher: Path, tmp_path: Path) -> None:
    crops = read_crops(str(people))
    described = teach(teacher, crops, tmp_path / "cache.npz")
    targets = fit_dimension(described, 16)(described)
    train([str(people)], tmp_path / "run", settings(teacher), device="cpu")
    pictures = torch.from_numpy(np.stack([cv2.resize(cv2.imread(str(path)), (16, 32)) for path in crops.paths]))
    learned = torch.from_numpy(Embedder(tmp_path / "run" / "appearance.safetensors", "cpu").describe(pictures))
    alike = (learned * targets).sum(1).mean()
    untaught = torch.from_numpy(Embedder(teacher, "cpu").describe(pictures)[:, :16])  # of no rotation of its own
    assert alike > 0.8 > abs(functional.cosine_similarity(untaught, targets).mean())
    _, header = load_checkpoint(tmp_path / "run" / "appearance.safetensors")
    assert header["training"]["distillation"]["teacher"] == "teacher.safetensors"  # and not where it lay


def test_the_teacher_looks_once_and_another_teacher_looks_anew(
    people: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, crops = tmp_path / "teacher.npz", read_crops(str(people))
    first = teach(teacher, crops, cache)
    calls: list[int] = []
    describe = Embedder.describe
    monkeypatch.setattr(Embedder, "describe", lambda self, crops: calls.append(len(crops)) or describe(self, crops))
    assert torch.equal(teach(teacher, crops, cache), first) and not calls
    assert len(teach(teacher, crops.take(np.arange(10)), cache)) == 10 and sum(calls) == 10
    other = tmp_path / "other.safetensors"
    network, header = load_checkpoint(teacher)
    torch.nn.init.normal_(network.linear.weight)
    save_checkpoint(other, network, header)
    assert not torch.equal(teach(other, crops.take(np.arange(10)), cache), first[:10]) and sum(calls) == 20


def test_targets_are_those_of_the_crops_however_many_there_are(people: Path, teacher: Path, tmp_path: Path) -> None:
    """Ten others, the same in another order, made-up people of another seed; and a cache that was torn."""
    cache, crops = tmp_path / "teacher.npz", read_crops(str(people))
    order = np.arange(len(crops))
    for rows in (order[:10], order[10:20], order[10:20][::-1]):
        torch.testing.assert_close(
            teach(teacher, crops.take(rows), cache), teach(teacher, crops.take(rows), tmp_path / f"{rows[0]}.npz")
        )
    one, other = (teach_mixtures(teacher, [crops], 20, (64, 32), tmp_path / "m.npz", seed=seed)[1] for seed in (1, 2))
    assert not torch.equal(one, other)
    torn = cache.read_bytes()[:100]
    np.save(tmp_path / "array.npy", np.arange(3))
    for content in (torn, b"", (tmp_path / "array.npy").read_bytes()):
        cache.write_bytes(content)
        assert len(teach(teacher, crops, cache)) == len(crops)


def test_made_up_people_are_described_as_the_teacher_sees_them(people: Path, teacher: Path, tmp_path: Path) -> None:
    crops, cache = read_crops(str(people)), tmp_path / "mixtures.npz"
    pictures, vectors = teach_mixtures(teacher, [crops], 600, (64, 32), cache, seed=1)
    assert pictures.shape == (600, 64, 32, 3) and len(torch.unique(pictures[:, ::8, ::8].flatten(1), dim=0)) > 500
    expected = torch.from_numpy(Embedder(teacher, "cpu").describe(pictures))  # here the teacher's size is the student's
    torch.testing.assert_close(vectors, expected, atol=1e-4, rtol=0)
    small, again = teach_mixtures(teacher, [crops], 600, (32, 16), cache, seed=1)
    assert torch.equal(again, vectors)
    assert (small.float().mean((1, 2)) - pictures.float().mean((1, 2))).abs().max() < 1


def test_a_mixture_has_one_persons_top_and_anothers_legs() -> None:
    crops = torch.stack([torch.full((64, 32, 3), value, dtype=torch.uint8) for value in (50, 150)])
    tops_and_legs = {
        (round(float(each[:16].mean()), -1), round(float(each[-16:].mean()), -1))
        for each in mix_crops(crops, 200, torch.Generator().manual_seed(0)).float()
    }
    assert {(50, 150), (150, 50), (50, 50), (150, 150), (100, 100)} <= tops_and_legs


def test_a_taught_run_goes_on_through_the_files_it_keeps(people: Path, teacher: Path, tmp_path: Path) -> None:
    """By `train`, which refuses files that are not its own: those of the teacher's vectors are."""
    train([str(people)], tmp_path / "run", settings(teacher, mixtures=8, epochs=1), device="cpu")
    assert {"teacher.npz", "mixtures.npz"} <= {path.name for path in (tmp_path / "run").iterdir()}
    train([str(people)], tmp_path / "run", settings(teacher, mixtures=8, epochs=2), device="cpu", resume=True)
    (tmp_path / "run" / "appearance.safetensors").unlink()
    (tmp_path / "run" / "last.pt").unlink()
    train([str(people)], tmp_path / "run", settings(teacher, mixtures=8, epochs=1), device="cpu")


def test_another_camera_changes_light_colours_and_sharpness_but_not_who_it_is() -> None:
    squares = (np.indices((64, 32)).sum(0) % 2 * 120 + 60).astype(np.uint8)
    pictures = torch.from_numpy(np.repeat(squares[None, :, :, None], 200, 0).repeat(3, 3))
    shown = film(pictures, torch.Generator().manual_seed(0))
    assert shown.shape == pictures.shape and shown.dtype == torch.uint8
    assert torch.equal(shown, film(pictures, torch.Generator().manual_seed(0)))
    brightness = shown.float().mean((1, 2, 3))
    assert brightness.min() < 70 and brightness.max() > 180 and 90 < brightness.median() < 140
    channels = shown.float().mean((1, 2))
    assert 0.3 < (channels.amax(1) / channels.amin(1) > 1.08).float().mean() < 0.8  # a colour cast
    contrast = shown.float().std((1, 2)).mean(1) / brightness
    assert (contrast < 0.15).float().mean() > 0.15  # the squares are lost where there are few pixels


def test_people_are_made_up_of_further_pictures_too(teacher: Path, tmp_path: Path) -> None:
    """A small folder counts for more than its few pictures, and needs no names that say who is who."""
    for folder, value, count in (("people", 0, 32), ("more/deep", 255, 4)):
        (tmp_path / folder).mkdir(parents=True)
        for place in range(count):
            name = f"{place // 4:04d}_c1_{place:02d}.png" if folder == "people" else f"a {place}.png"
            cv2.imwrite(str(tmp_path / folder / name), np.full((64, 32, 3), value, np.uint8))
    crops, more = read_crops(str(tmp_path / "people")), read_pictures(tmp_path / "more")
    pictures, _ = teach_mixtures(teacher, [crops, more], 400, (64, 32), tmp_path / "m.npz", seed=1)
    bright = torch.maximum(pictures[:, :20].float().mean((1, 2, 3)), pictures[:, -20:].float().mean((1, 2, 3)))
    assert 0.33 < (bright > 40).float().mean() < 0.6
    with pytest.raises(UserError, match="no such folder of pictures"):
        read_pictures(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no pictures in it"):
        read_pictures(tmp_path / "empty")
    config = settings(teacher, epochs=1)
    config.distillation.pictures = [str(tmp_path / "more")]
    with pytest.raises(UserError, match=r"set distillation\.mixtures"):
        Trainer(config, crops, tmp_path / "run", "cpu")
    config.distillation.mixtures = 8
    header = Trainer(config, crops, tmp_path / "run", "cpu").header()
    assert header["training"]["distillation"]["pictures"] == ["more"]  # and not where it lies


def test_made_up_people_teach_without_identities(people: Path, teacher: Path, tmp_path: Path) -> None:
    crops = read_crops(str(people))
    trainer = Trainer(settings(teacher, mixtures=64, epochs=1), crops, tmp_path, "cpu")
    inputs = torch.randn(6, 3, 32, 16)
    labels, targets = torch.tensor([0, 0, 1, 1]), functional.normalize(torch.randn(6, 16))
    trainer.network.train()
    losses, embeddings, _ = trainer.backward(inputs, labels, slice(0, 4), "batch_hard", Classes(), targets=targets)
    assert len(embeddings) == 4
    _, necked = trainer.network(inputs)
    mean = (1 - functional.cosine_similarity(necked, targets)).mean()
    assert losses[2] == pytest.approx(mean.item(), rel=1e-4)


def test_people_made_for_a_batch_are_new_and_described_as_the_teacher_sees_them(
    people: Path, teacher: Path, tmp_path: Path
) -> None:
    crops = read_crops(str(people))
    turning = fit_dimension(teach(teacher, crops, tmp_path / "cache.npz"), 16)
    fresh = FreshMixtures(teacher, crops, turning, (64, 32), torch.device("cpu"))
    random = torch.Generator().manual_seed(0)
    pictures, targets = fresh.make(20, random)
    assert pictures.shape == (20, 64, 32, 3) and pictures.dtype == torch.uint8 and targets.shape == (20, 16)
    described = turning(torch.from_numpy(Embedder(teacher, "cpu").describe(pictures)))
    torch.testing.assert_close(targets, described, atol=1e-4, rtol=0)
    assert not torch.equal(fresh.make(20, random)[0], pictures)


def test_an_exported_teacher_runs_on_the_cpu_whatever_the_student_runs_on(
    people: Path, teacher: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    exported, crops = export_model(teacher, tmp_path / "teacher.onnx", "onnx"), read_crops(str(people))
    vectors = teach(exported, crops, tmp_path / "cache.npz", device="cuda")
    torch.testing.assert_close(vectors, teach(teacher, crops, tmp_path / "own.npz", "cpu"), atol=0.02, rtol=0)
    fresh = FreshMixtures(exported, crops, fit_dimension(vectors, 16), (32, 16), torch.device("cpu"))
    assert fresh.make(3, torch.Generator())[1].shape == (3, 16)


def test_a_batch_brings_the_made_up_people_that_were_asked_for(people: Path, teacher: Path, tmp_path: Path) -> None:
    trainer = Trainer(settings(teacher, mixtures=40, fresh=1.5, epochs=1), read_crops(str(people)), tmp_path, "cpu")
    seen: list[tuple[int, int]] = []
    backward = trainer.backward
    trainer.backward = lambda inputs, labels, *rest: (  # type: ignore[method-assign]
        seen.append((len(inputs), len(labels))) or backward(inputs, labels, *rest)
    )
    trainer.run()
    trainer.config.distillation.mixtures_per_crop, trainer.config.schedule.epochs = 0.5, 2
    trainer.run()
    assert set(seen) == {(16 + 16 + 24, 16), (16 + 8 + 24, 16)}


def test_shrinking_keeps_the_light_and_no_moire() -> None:
    stripes = torch.zeros(1, 64, 32, 3, dtype=torch.uint8)
    stripes[:, ::2] = 200
    assert (resize(stripes, (16, 8)).float() - 100).abs().max() <= 26  # without smoothing it would be all 0 or all 200


@pytest.mark.parametrize(("mixtures", "fresh"), [(0, 0), (40, 0), (0, 0.5)])
def test_a_taught_run_resumes_to_the_same_end(
    people: Path, teacher: Path, tmp_path: Path, mixtures: int, fresh: float
) -> None:
    def stop(epochs: float, _: str) -> None:
        if epochs > 1.5:
            raise KeyboardInterrupt

    config, crops = settings(teacher, epochs=3, mixtures=mixtures, fresh=fresh), read_crops(str(people))
    whole = Trainer(config, crops, tmp_path / "whole", "cpu")
    whole.run()
    with pytest.raises(KeyboardInterrupt):
        Trainer(config, crops, tmp_path / "cut", "cpu").run(stop)
    again = Trainer(config, crops, tmp_path / "cut", "cpu")
    again.resume()
    again.run()
    wanted = whole.averaged.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in again.averaged.state_dict().items())
    with pytest.raises(UserError, match=r"another distillation\.teacher"):
        Trainer(settings(None, epochs=3), crops, tmp_path / "cut", "cpu").resume()


def test_made_up_people_without_a_teacher_are_refused(people: Path, tmp_path: Path) -> None:
    for asked in ({"mixtures": 8}, {"fresh": 1.0}):
        with pytest.raises(UserError, match=r"distillation\.teacher"):
            Trainer(settings(None, **asked), read_crops(str(people)), tmp_path, "cpu")


def test_a_batch_too_small_for_the_share_has_no_made_up_people(people: Path, teacher: Path, tmp_path: Path) -> None:
    Trainer(settings(teacher, fresh=0.01, epochs=1), read_crops(str(people)), tmp_path, "cpu").run()


def test_a_missing_teacher_is_named(people: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nobody\.xml"):
        train([str(people)], tmp_path, settings(Path("nobody.xml")), device="cpu")
