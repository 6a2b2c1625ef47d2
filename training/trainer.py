"""The training loop: batch-hard triplets and a classifier on the BNNeck, from a folder of crops to a checkpoint."""

import argparse
import logging
import math
import time
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from reid_tracker.appearance.checkpoint import save_checkpoint
from reid_tracker.appearance.crops import normalise
from reid_tracker.appearance.embedder import embed_crops, pick_device
from reid_tracker.appearance.network import EmbeddingNetwork
from reid_tracker.errors import UserError
from reid_tracker.evaluation.retrieval import RetrievalFigures, evaluate_retrieval, similarity_statistics
from reid_tracker.training.augment import augment
from reid_tracker.training.datasets import CropSet, join_crops, load_images, read_crops, split_identities
from reid_tracker.training.depthwise import use_fast_depthwise
from reid_tracker.training.losses import triplet_loss
from reid_tracker.training.mining import batch_hard, pairwise_distance
from reid_tracker.training.samplers import identity_batches

_log = logging.getLogger(__name__)


class TrainSettings(BaseModel):
    """Everything that shapes a training run; `configs/train.yaml` explains each of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str = "efficientnet_lite0"
    dimension: PositiveInt | None = 256
    pooling: str = "gem"
    last_stride: Literal[1, 2] = 2
    input_size: tuple[PositiveInt, PositiveInt] = (128, 64)
    mean: tuple[float, float, float] = (0.498, 0.498, 0.498)
    std: tuple[float, float, float] = (0.502, 0.502, 0.502)

    epochs: PositiveInt = 120
    people: int = Field(default=16, ge=2)
    images: int = Field(default=4, ge=2)
    learning_rate: float = Field(default=5e-4, gt=0)
    weight_decay: float = Field(default=0.02, ge=0)
    warm_up_epochs: float = Field(default=4, ge=0)
    frozen_blocks: int = Field(default=0, ge=0)
    metric: Literal["euclidean", "squared_euclidean", "cosine"] = "euclidean"
    margin: float | None = Field(default=None, ge=0)
    classifier_weight: float = Field(default=1.0, ge=0)
    classifier_rate: float = Field(default=10.0, gt=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    average_decay: float = Field(default=0.995, ge=0, lt=1)
    precision: Literal["float32", "bfloat16"] = "bfloat16"

    validation_identities: int = Field(default=40, ge=0)
    validate_every: PositiveInt = 5
    seed: int = 0
    threads: int = Field(default=0, ge=0)
    licence: str = ""


def read_settings(path: Path | None) -> TrainSettings:
    """Read settings from YAML; without a file, the defaults.

    Raises
    ------
    UserError
        If the file is missing, no YAML, or a key or value is not possible; the message names it.
    """
    if path is None:
        return TrainSettings()
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        return TrainSettings(**values)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        raise UserError(f"{path}: not a YAML file of settings ({str(error).splitlines()[0]}).") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from error


class Trainer:
    """One run: its networks, optimiser and place in the schedule.

    Parameters
    ----------
    settings : TrainSettings
    crops : CropSet
        `settings.validation_identities` of its people are kept for validation.
    output : Path
        Folder for `last.pt` (to resume from) and `appearance.safetensors` (the averaged network), written every epoch.
    device : str
        "auto" or a torch device.
    start : Path, optional
        Weights of the backbone to start from (`load_backbone`).
    """

    def __init__(
        self, settings: TrainSettings, crops: CropSet, output: Path, device: str = "auto", start: Path | None = None
    ) -> None:
        self.settings, self.output = settings, Path(output)
        self.output.mkdir(parents=True, exist_ok=True)
        self.device = pick_device(device)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        training, self.validation = split_identities(crops, settings.validation_identities, settings.seed)
        self.labels = np.unique(training.identities, return_inverse=True)[1]
        self.images = torch.from_numpy(load_images(training, settings.input_size))
        self.validation_images = torch.from_numpy(load_images(self.validation, settings.input_size))

        torch.manual_seed(settings.seed)
        network = EmbeddingNetwork(settings.backbone, settings.dimension, settings.pooling, settings.last_stride)
        if start:
            load_backbone(network, start)
        if self.device.type == "cpu" and settings.precision == "bfloat16":
            use_fast_depthwise(network)
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.momentum = 0.1  # some backbones come with 0.01, whose statistics lag behind in a short run
        self.network = network.to(self.device).to(memory_format=torch.channels_last)
        self.classifier = nn.Linear(network.dimension, int(self.labels.max()) + 1, bias=False, device=self.device)
        nn.init.normal_(self.classifier.weight, std=0.001)
        for parameter in network.backbone[: settings.frozen_blocks].parameters():
            parameter.requires_grad_(False)
        self.average = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(settings.average_decay), use_buffers=True
        )
        learned = [p for p in self.network.parameters() if p.requires_grad]
        # Decay is for the weights of layers; on the gains of batch norms it only slows them.
        groups = [
            {"params": [p for p in learned if p.ndim > 1], "rate": 1.0},
            {"params": [p for p in learned if p.ndim <= 1], "rate": 1.0, "weight_decay": 0.0},
            {"params": [self.classifier.weight], "rate": settings.classifier_rate},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        self.epoch = 0
        self.figures: dict[str, Any] = {}

    def run(self) -> None:
        """Train to the last epoch, saving after each."""
        while self.epoch < self.settings.epochs:
            began = time.monotonic()
            losses, count = self._train_epoch()
            self.epoch += 1
            rate = count / (time.monotonic() - began)
            message = f"epoch {self.epoch}/{self.settings.epochs}  triplet {losses[0]:.3f}  classifier {losses[1]:.3f}"
            message += f"  {rate:.0f} images/s"
            if len(self.validation) and (self.epoch % self.settings.validate_every == 0 or self.finished):
                figures = measure(self.averaged, self.validation, self.validation_images, self.settings)
                self.figures["validation"] = {**figures, "epoch": self.epoch}
                message += f"  rank1 {figures['rank1']:.3f}  mAP {figures['mAP']:.3f}"
            _log.info(message)
            self.save()

    @property
    def averaged(self) -> EmbeddingNetwork:
        """The network to use: the running average of the trained one."""
        return cast(EmbeddingNetwork, self.average.module)

    @property
    def finished(self) -> bool:
        """Whether the last epoch is done."""
        return self.epoch >= self.settings.epochs

    def _train_epoch(self) -> tuple[np.ndarray, int]:
        """Run one epoch; return the mean (triplet, classifier) losses and the number of images."""
        settings = self.settings
        # All chance of an epoch comes from its number, so a resumed run repeats it exactly.
        random = np.random.default_rng([settings.seed, self.epoch])
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        torch.manual_seed(int(random.integers(2**62)))  # some backbones drop layers at random
        batches = list(identity_batches(self.labels, settings.people, settings.images, random))
        self.network.train()
        self.network.backbone[: settings.frozen_blocks].eval()
        total, count = np.zeros(2), 0
        for step, rows in enumerate(batches):
            rate = learning_rate(self.epoch + step / len(batches), settings)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["rate"]
            inputs = normalise(augment(self.images[rows], generator).to(self.device), settings.mean, settings.std)
            labels = torch.from_numpy(self.labels[rows]).to(self.device)
            triplet, classifier = self._losses(inputs, labels)
            self.optimizer.zero_grad()
            (triplet + settings.classifier_weight * classifier).backward()
            self.optimizer.step()
            self.average.update_parameters(self.network)
            total += triplet.item(), classifier.item()
            count += len(rows)
        if not np.isfinite(total).all():
            raise UserError(f"the loss is no number in epoch {self.epoch + 1}; lower learning_rate or use float32.")
        return total / len(batches), count

    def _losses(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        settings = self.settings
        half = settings.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            pooled, necked = self.network(inputs)
        distance = pairwise_distance(pooled, settings.metric)
        triplet = triplet_loss(distance, batch_hard(distance, labels), settings.margin)
        logits = self.classifier(necked.float())
        return triplet, functional.cross_entropy(logits, labels, label_smoothing=settings.label_smoothing)

    def header(self) -> dict[str, Any]:
        """Build the checkpoint's header."""
        settings = self.settings
        calibration: dict[str, Any] = next((found["calibration"] for found in self.figures.values()), {})
        return {
            "input_size": settings.input_size,
            "mean": settings.mean,
            "std": settings.std,
            "channels": "bgr",
            "calibration": calibration,
            "figures": self.figures,
            "training": {**settings.model_dump(), "epoch": self.epoch, "identities": int(self.labels.max()) + 1},
            "licence": settings.licence,
        }

    def save(self) -> None:
        """Write the model, and the state to resume from; each replaces the older file only once whole."""
        save_checkpoint(self.output / "appearance.safetensors", self.averaged, self.header(), half=True)
        state = {name: part.state_dict() for name, part in self._parts().items()}
        unfinished = self.output / "last.pt.part"
        torch.save({**state, "epoch": self.epoch, "figures": self.figures, "run": self._identity()}, unfinished)
        unfinished.replace(self.output / "last.pt")

    def resume(self) -> None:
        """Go on from `last.pt` in the output folder.

        Raises
        ------
        UserError
            If there is none, or it was made from other data or with other settings (a longer run is another schedule).
        """
        path = self.output / "last.pt"
        if not path.is_file():
            raise UserError(f"{path}: nothing to resume from; start without --resume.")
        state = _load_tensors(path, self.device)
        mine = self._identity()
        changed = [key for key in mine if state.get("run", {}).get(key) != mine[key]]
        if changed:
            raise UserError(f"{path}: made with another {', '.join(changed)}; resume as its run was started.")
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.epoch, self.figures = state["epoch"], state["figures"]

    def _identity(self) -> dict[str, Any]:
        """What must be equal for a resumed run to be the same run."""
        settings = self.settings.model_dump(exclude={"threads", "validate_every", "licence"})
        return {**settings, "crops": len(self.labels), "identities": len(np.unique(self.labels))}

    def _parts(self) -> dict[str, Any]:
        return {
            "network": self.network,
            "classifier": self.classifier,
            "average": self.average,
            "optimizer": self.optimizer,
        }


def learning_rate(epoch: float, settings: TrainSettings) -> float:
    """Linear warm-up to `learning_rate`, then half a cosine down to zero at the last epoch."""
    warm = settings.warm_up_epochs
    if epoch < warm:
        return settings.learning_rate * (0.05 + 0.95 * epoch / warm)
    progress = (epoch - warm) / max(settings.epochs - warm, 1e-9)
    return settings.learning_rate * (1 + math.cos(math.pi * min(progress, 1))) / 2


def load_backbone(network: EmbeddingNetwork, path: Path) -> None:
    """Start the backbone from ImageNet weights (a .pth or .pt file of plain tensors, RGB input).

    The tensors are matched in their order, not by name: every published implementation of a network lists the same
    layers in the same order, each under its own names. Those after the backbone's last, the classifier, are left out.

    Raises
    ------
    UserError
        If the file is no such file or is of another network.
    """
    source = _load_tensors(path, torch.device("cpu"))
    values = [value for name, value in source.items() if not name.endswith("num_batches_tracked")]
    target = network.backbone.state_dict()
    names = [name for name in target if not name.endswith("num_batches_tracked")]
    if len(values) < len(names) or any(
        target[name].shape != getattr(value, "shape", None) for name, value in zip(names, values, strict=False)
    ):
        raise UserError(f"{path}: not the weights of {network.settings['backbone']}; its layers have other shapes.")
    loaded = dict(zip(names, values, strict=False))
    loaded[names[0]] = loaded[names[0]].flip(1)  # the first layer learned RGB, our frames are BGR
    network.backbone.load_state_dict({**target, **loaded})


def _load_tensors(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location=device, weights_only=True)  # tensors only: nothing is run from the file
    except Exception as error:  # a file of another make raises one of a dozen kinds
        raise UserError(f"{path}: not a readable file of weights ({type(error).__name__}).") from error
    if not isinstance(state, dict):
        raise UserError(f"{path}: not a file of named weights.")
    return state


def measure(network: EmbeddingNetwork, crops: CropSet, images: Tensor, settings: TrainSettings) -> dict[str, Any]:
    """Retrieval figures and calibration of a network on crops of people it was not trained on.

    Returns
    -------
    dict
        `rank1`, `rank5`, `mAP`, `mINP` (0..1) and `calibration` (`similarity_statistics`).
    """
    network.eval()
    embeddings = embed_crops(network, images, settings.mean, settings.std)
    query, gallery = crops.query, ~crops.query
    figures: RetrievalFigures = evaluate_retrieval(
        embeddings[query],
        embeddings[gallery],
        crops.identities[query],
        crops.identities[gallery],
        crops.cameras[query],
        crops.cameras[gallery],
    )
    calibration = similarity_statistics(embeddings, crops.identities, crops.cameras)
    return {**figures.as_dict(), "calibration": calibration}


def _read_test(text: str) -> tuple[str, CropSet]:
    name, equals, source = text.partition("=")
    if not equals:
        raise UserError(f"--test {text}: give it as NAME=FOLDER; the name is written beside the figures.")
    return name, read_crops(source)


def main(arguments: list[str] | None = None) -> int:
    """Train from the command line."""
    parser = argparse.ArgumentParser(prog="python -m reid_tracker.training.trainer", description=__doc__)
    parser.add_argument("--config", type=Path, help="settings in YAML (configs/train.yaml)")
    parser.add_argument("--data", action="append", required=True, help="folder of crops, e.g. market[:551]; repeatable")
    parser.add_argument("--test", action="append", default=[], help="NAME=folder to score at the end; repeatable")
    parser.add_argument("--output", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--start", type=Path, help="ImageNet weights of the backbone")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--resume", action="store_true", help="go on from the output folder")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        settings = read_settings(options.config)
        tests = dict(_read_test(text) for text in options.test)  # a fault shows now, not after hours
        crops = join_crops([read_crops(source) for source in options.data])
        trainer = Trainer(settings, crops, options.output, options.device, options.start)
        if options.resume:
            trainer.resume()
        trainer.run()
        # People that no decision ever looked at come before those of the validation: they hold the calibration.
        found = {}
        for name, test in tests.items():
            images = torch.from_numpy(load_images(test, settings.input_size))
            found[name] = measure(trainer.averaged, test, images, settings)
            _log.info("%s  %s", name, {key: round(found[name][key], 4) for key in ("rank1", "rank5", "mAP", "mINP")})
        trainer.figures = {**found, **trainer.figures}
        trainer.save()
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
