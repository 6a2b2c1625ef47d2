"""The training loop: a metric loss on mined triplets and a classifier on the BNNeck, from crops to a checkpoint."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from reid_tracker.appearance.checkpoint import save_checkpoint
from reid_tracker.appearance.embedder import embed_crops
from reid_tracker.appearance.network import EmbeddingNetwork
from reid_tracker.config import TrainConfig
from reid_tracker.crop_sets.crops import CropSet, can_score, load_images, split_identities
from reid_tracker.cropping import normalise
from reid_tracker.device import autocast, bring, pick_device
from reid_tracker.errors import UserError
from reid_tracker.training.augment import augment
from reid_tracker.training.collapse import CollapseAlarm, Spread, measure_spread
from reid_tracker.training.curves import Curves
from reid_tracker.training.distillation import distillation_loss
from reid_tracker.training.distributed import (
    gather,
    join_processes,
    own_share,
    rank,
    share,
    start_alike,
    sum_gradients,
    wait,
    world_size,
)
from reid_tracker.training.fast_convolutions import use_fast_convolutions
from reid_tracker.training.hierarchical import ClassTree, build_class_tree
from reid_tracker.training.lessons import Lessons
from reid_tracker.training.losses import fixed_centroids
from reid_tracker.training.measure import measure
from reid_tracker.training.mining import Triplets
from reid_tracker.training.objective import OFFLINE, Classes, check_names, metric_loss
from reid_tracker.training.offline_mining import load_triplets, mine_offline, save_triplets, triplet_batches
from reid_tracker.training.samplers import identity_batches
from reid_tracker.training.schedule import learning_rate, miner_at
from reid_tracker.training.start import adopt_start, load_start, load_tensors

_log = logging.getLogger(__name__)

_PLACE = ("epoch", "begun", "latest", "best", "looks_since_best")  # of a run, kept beside its networks
MODEL, STATE, TRIPLETS = "appearance.safetensors", "last.pt", "triplets.npz"


class Trainer:
    """One run: its networks, optimiser and place in the schedule.

    Parameters
    ----------
    config : TrainConfig
    crops : CropSet
        `schedule.validation_identities` of its people are kept for validation.
    output : Path
        Folder for `last.pt`, to resume from, and `appearance.safetensors`, the averaged network, written every epoch;
        with `schedule.patience` the latter stays at the best look at the validation people.
    device : str
        "auto" or a torch device.
    start : Path, optional
        Weights to start from (`load_start`); it also decides what the network's settings leave open (`adopt_start`).

    Attributes
    ----------
    model : Path
        Where the averaged network is written; `appearance.safetensors` unless named otherwise.
    """

    def __init__(
        self, config: TrainConfig, crops: CropSet, output: Path, device: str = "auto", start: Path | None = None
    ) -> None:
        config = config.model_copy(update={"network": adopt_start(config.network, start)})
        self.starts_trained = start is not None and Path(start).suffix == ".safetensors"
        self.config, self.output = config, Path(output)
        self.model = self.output / MODEL
        check_names(config.loss)
        self.output.mkdir(parents=True, exist_ok=True)
        self.device = join_processes(pick_device(device))
        if self.device.type == "cuda" and config.compute.precision == "bfloat16" and not _has_bfloat16():
            raise UserError("this GPU is older than bfloat16 and would only pretend; set compute.precision: float32.")
        if config.compute.threads:
            torch.set_num_threads(config.compute.threads)
        held_out, seed = config.schedule.validation_identities, config.compute.seed
        training, self.validation = split_identities(crops, held_out, seed)
        if len(self.validation) and not can_score(self.validation):
            raise UserError(
                f"none of the {len(np.unique(self.validation.identities))} validation identities has a second crop (of "
                "another camera, where cameras are known) to be found by; set schedule.validation_identities: 0."
            )
        self.labels = np.unique(training.identities, return_inverse=True)[1]
        self.cameras = training.cameras if config.batch.balance_cameras else None
        if config.batch.people * config.batch.images < 2 * world_size():
            raise UserError(f"a batch is too small for {world_size()} processes; raise batch.people or batch.images.")
        assert config.network.input_size is not None  # by `adopt_start`
        self.images = torch.from_numpy(load_images(training, config.network.input_size))
        self.validation_images = torch.from_numpy(load_images(self.validation, config.network.input_size))

        torch.manual_seed(seed)
        self.network = self._build_network(start)
        self.lessons = Lessons(config, training, self.output, self.network.dimension, device, self.device)
        self.classifier = nn.Linear(self.network.dimension, self.identities, bias=False, device=self.device)
        nn.init.normal_(self.classifier.weight, std=0.001)
        start_alike(self.network, self.classifier)  # what one process alone did before drew random numbers there
        decay = config.schedule.average_decay
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self.optimizer = self._build_optimizer()
        self.alarm = CollapseAlarm(config.loss.margin, config.schedule.warm_up_epochs)
        self.epoch = self.begun = 0
        self.curves = Curves(self.output)
        # Figures of the latest and of the best look at the validation people, with their epochs.
        self.latest: dict[str, Any] = {}
        self.best: dict[str, Any] = {}
        self.looks_since_best = 0

    def _build_network(self, start: Path | None) -> EmbeddingNetwork:
        settings = self.config.network
        assert settings.last_stride
        network = EmbeddingNetwork(settings.backbone, settings.dimension, settings.pooling, settings.last_stride)
        if start:
            load_start(network, Path(start))
        if self.device.type == "cpu" and self.config.compute.precision == "bfloat16":
            use_fast_convolutions(network)
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.momentum = 0.1  # some backbones come with 0.01, whose statistics lag behind in a short run
        for parameter in network.backbone[: settings.frozen_blocks].parameters():
            parameter.requires_grad_(False)
        return network.to(self.device).to(memory_format=torch.channels_last)

    def _build_optimizer(self) -> torch.optim.Optimizer:
        learned = [p for p in self.network.parameters() if p.requires_grad]
        # Decay is for the weights of layers; on the gains of batch norms it only slows them.
        groups = [
            {"params": [p for p in learned if p.ndim > 1], "rate": 1.0},
            {"params": [p for p in learned if p.ndim <= 1], "rate": 1.0, "weight_decay": 0.0},
            {"params": [self.classifier.weight], "rate": self.config.loss.classifier_rate},
        ]
        schedule = self.config.schedule
        return torch.optim.AdamW(groups, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)

    def run(self, progress: Callable[[float, str], None] | None = None) -> None:
        """Train to the end, saving after each epoch.

        Parameters
        ----------
        progress : callable, optional
            Called after each batch with the epochs done (a fraction) and the latest figures in words.
        """
        if self.config.compute.tensorboard and rank() == 0:
            self.curves.open_tensorboard(self._tensorboard_folder())
        if self.epoch == 0:
            self._look_at_start()
        text = ""
        while not self.finished:
            began = time.monotonic()
            losses, spread = self._train_epoch(partial(_report, progress, text))
            self.epoch += 1
            rate = self.identities * self.config.batch.images / (time.monotonic() - began)
            figures = dict(zip(("metric", "classifier", "teacher"), map(float, losses), strict=True))
            if self.lessons.targets is None:
                del figures["teacher"]
            message = f"epoch {self.epoch}/{self.config.schedule.epochs}"
            message += "".join(f"  {name} {value:.3f}" for name, value in figures.items())
            message += f"  active {spread.active:.2f}  {rate:.0f} images/s"
            figures |= {"active": spread.active, "same": spread.same, "strangers": spread.strangers}
            self.curves.add(self.epoch, {"learning_rate": self.optimizer.param_groups[0]["lr"], **figures})
            warning = self.alarm.look(losses[0], spread) if self.config.loss.metric_weight else None
            if warning and rank() == 0:
                _log.warning("epoch %d: %s", self.epoch, warning)
            if self._is_time_to_look():
                text = self._look()
                message += f"  {text}"
            if rank() == 0:
                _log.info(message)
                self.save()
            wait()
        self.curves.close()

    def _tensorboard_folder(self) -> Path:
        """Where curves for TensorBoard go; a run that begins anew does not add to those of an earlier one."""
        folder, number = self.output / "tensorboard", 1
        while (following := self.output / f"tensorboard-{number + 1}").exists() or (not self.epoch and folder.exists()):
            folder, number = following, number + 1
        return folder

    @property
    def averaged(self) -> EmbeddingNetwork:
        """The network to use: the running average of the trained one."""
        return cast(EmbeddingNetwork, self.average.module)

    @property
    def identities(self) -> int:
        """How many people are trained on."""
        return int(self.labels.max()) + 1

    @property
    def finished(self) -> bool:
        """Whether the last epoch is done, or the validation figures have stopped rising."""
        patience = self.config.schedule.patience
        return self.epoch >= self.config.schedule.epochs or 0 < patience <= self.looks_since_best

    def _is_time_to_look(self) -> bool:
        schedule = self.config.schedule
        return len(self.validation) > 0 and (self.epoch % schedule.validate_every == 0 or self.epoch == schedule.epochs)

    def _look(self) -> str:
        """Measure on the validation people and remember the best; the figures in words."""
        figures = measure(self.averaged, self.validation, self.validation_images, self.config.network)
        self.latest = share({**figures, "epoch": self.epoch})  # all processes decide by the same figures
        self.looks_since_best += 1
        if self.latest["mAP"] > self.best.get("mAP", -1):
            self.best, self.looks_since_best = self.latest, 0
        self.curves.add(self.epoch, {name: self.latest[name] for name in ("rank1", "mAP")})
        return f"rank1 {self.latest['rank1']:.3f}  mAP {self.latest['mAP']:.3f}"

    def _look_at_start(self) -> None:
        """Measure what a run from another network begins with, as a row of its own in the log."""
        if not self.starts_trained or not len(self.validation):
            return
        figures = measure(self.averaged, self.validation, self.validation_images, self.config.network)
        self.curves.add(0, {name: figures[name] for name in ("rank1", "mAP")})
        if rank() == 0:
            _log.info(f"start  rank1 {figures['rank1']:.3f}  mAP {figures['mAP']:.3f}")
            _log.warning(
                "the network that the run starts from may have learned from these %d validation people: then their "
                "figures are too good. Measure with --test on people that neither has seen.",
                len(np.unique(self.validation.identities)),
            )

    def _train_epoch(self, progress: Callable[[float], None]) -> tuple[np.ndarray, Spread]:
        """Run one epoch; return the mean (metric, classifier, teacher) losses and the spread of its last batch."""
        config = self.config
        # All chance of an epoch comes from its number, so a resumed run repeats it exactly.
        random = np.random.default_rng([config.compute.seed, self.epoch])
        miner, since = miner_at(self.epoch + 1, config.loss.miner)
        classes = self._know_classes()
        batches = self._batches(miner, since, random, classes.tree)
        drawing = torch.Generator(self.device).manual_seed(int(random.integers(2**62)))  # alike in all processes
        own = np.random.default_rng([config.compute.seed, self.epoch, rank()])
        changing = torch.Generator(self.device).manual_seed(int(own.integers(2**62)))
        torch.manual_seed(int(own.integers(2**62)))  # some backbones drop layers at random
        self.network.train()
        self.network.backbone[: config.network.frozen_blocks].eval()
        total = torch.zeros(3, dtype=torch.float64)
        for step, (rows, triplets) in enumerate(batches):
            rate = learning_rate(self.epoch + step / len(batches), config.schedule, self.begun)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["rate"]
            place = own_share(rows)
            pictures = bring(self.images[rows[place]], self.device)
            pictures, targets = self.lessons.extend(rows[place], pictures, changing)
            crops = augment(pictures, changing, config.augment)
            inputs = normalise(crops, config.network.mean, config.network.std)
            labels = torch.from_numpy(self.labels[rows]).to(self.device)
            losses, embeddings, distance = self.backward(
                inputs, labels, place, triplets or miner, classes, drawing, targets
            )
            if config.schedule.clip_gradient:
                nn.utils.clip_grad_norm_(self._parameters(), config.schedule.clip_gradient)
            self.optimizer.step()
            self.average.update_parameters(self.network)
            total += losses
            progress(self.epoch + (step + 1) / len(batches))
        if not torch.isfinite(total).all():
            raise UserError(
                f"the loss is no number in epoch {self.epoch + 1}; lower schedule.learning_rate or use float32."
            )
        spread = measure_spread(embeddings, distance, labels, config.loss.margin)
        return (total / len(batches)).numpy(), spread

    def _batches(
        self, miner: str, since: int, random: np.random.Generator, tree: ClassTree | None
    ) -> list[tuple[np.ndarray, Triplets | None]]:
        """Rows of each batch of an epoch, with their triplets where these were mined offline."""
        batch, distance = self.config.batch, None if tree is None else tree.distance.cpu().numpy()
        batches = list(identity_batches(self.labels, batch.people, batch.images, random, self.cameras, distance))
        if miner not in OFFLINE:
            return [(rows, None) for rows in batches]
        # Mined anew every so many epochs and kept in a file: a resumed run learns from the same triplets.
        due = self.epoch - (self.epoch + 1 - since) % self.config.loss.offline_every
        path, seed = self.output / TRIPLETS, self.config.compute.seed
        if rank() == 0 and due == self.epoch:
            mined = mine_offline(self._embed(), self.labels, OFFLINE[miner], metric="cosine", seed=seed + due)
            save_triplets(path, mined._replace(about={**mined.about, "epoch": due}))
        wait()
        mined = load_triplets(path, self.labels)
        if (mined.about["band"], mined.about.get("epoch")) != (OFFLINE[miner], due):
            raise UserError(f"{path}: not the triplets that this run was learning from; start it without --resume.")
        # As many steps as an epoch of the other miners has, each with about as many crops.
        drawn = triplet_batches(mined, max(batch.people * batch.images // 3, 1), random)
        return [chosen for chosen, _ in zip(drawn, batches, strict=False)]

    def _embed(self) -> Tensor:
        """Embed all training crops with the averaged network, unit rows [N, D]."""
        network, half = self.averaged.eval(), self.config.compute.precision == "bfloat16"
        settings = self.config.network
        return torch.from_numpy(embed_crops(network, self.images, settings.mean, settings.std, half=half))

    def _know_classes(self) -> Classes:
        """Work out, at the start of an epoch, what the loss needs to know about all identities."""
        name = self.config.loss.name
        if name == "centroid":
            centroids = fixed_centroids(self.identities, self.network.dimension, self.config.compute.seed)
            return Classes(centroids=centroids.to(self.device))
        if name == "hierarchical":
            tree = build_class_tree(share(self._embed()), torch.from_numpy(self.labels))
            return Classes(tree=ClassTree(*(part.to(self.device) for part in tree)))
        return Classes()

    def backward(
        self,
        inputs: Tensor,
        labels: Tensor,
        place: slice,
        miner: str | Triplets,
        classes: Classes,
        drawing: torch.Generator | None = None,
        targets: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of one batch, the same in all processes.

        Parameters
        ----------
        inputs : Tensor [b + k, 3, H, W]
            This process's share of the batch, normalised, and the crops that have only a distillation target.
        labels : Tensor, int [B]
            Of the whole batch.
        place : slice
            Where this process's share lies in it.
        miner : str or Triplets
            Name of the miner (`miner_names`), or triplets by their place in the batch.
        classes : Classes
            What the loss knows about all identities.
        drawing : torch.Generator, optional
            Chance of the miner, alike in all processes.
        targets : Tensor [b + k, D], optional
            The teacher's, for these inputs.

        Returns
        -------
        losses : Tensor, float64 [3]
            Metric loss, and cross-entropy and distance to the teacher (of this process's share).
        embeddings, distance : Tensor [B, D] and [B, B]
            Of the whole batch.
        """
        loss = self.config.loss
        half = self.config.compute.precision == "bfloat16"
        with autocast(self.device, torch.bfloat16, half, inputs.shape[3]):
            pooled, necked = self.network(inputs)
        own = len(labels[place])
        embeddings = gather(pooled[:own], place, len(labels))
        metric, distance = metric_loss(embeddings, labels, loss, miner, classes, drawing)
        logits = self.classifier(necked[:own].to(self.classifier.weight.dtype))
        smoothing = loss.label_smoothing
        entropy = functional.cross_entropy(logits, labels[place], label_smoothing=smoothing, reduction="sum")
        taught = torch.zeros_like(entropy)
        if targets is not None:
            taught = distillation_loss(necked, targets) * (own / max(len(inputs), 1))
        self.optimizer.zero_grad()
        each = loss.classifier_weight * entropy + self.config.distillation.weight * taught
        (loss.metric_weight * metric + each / len(labels)).backward()
        sum_gradients(self._parameters())
        shares = torch.stack([entropy.detach(), taught.detach()]) / max(own, 1)
        losses = torch.cat([metric.detach()[None], shares]).cpu().double()  # MPS has no float64
        return losses, embeddings.detach(), distance.detach()

    def _parameters(self) -> list[nn.Parameter]:
        return [p for module in (self.network, self.classifier) for p in module.parameters() if p.requires_grad]

    def header(self) -> dict[str, Any]:
        """Build the checkpoint's header."""
        config = self.config
        settings = config.model_dump()
        taught = settings["distillation"]  # where they lay is private
        taught["teacher"] = taught["teacher"] and Path(taught["teacher"]).name
        taught["pictures"] = [Path(folder).name for folder in taught["pictures"]]
        return {
            "input_size": config.network.input_size,
            "mean": config.network.mean,
            "std": config.network.std,
            "channels": "bgr",
            "calibration": self.latest.get("calibration", {}),
            "figures": {"validation": self.latest} if self.latest else {},
            "training": {**settings, "epoch": self.epoch, "identities": self.identities},
            "licence": config.licence,
        }

    def save(self) -> None:
        """Write the model, and the state to resume from; each replaces the older file only once whole.

        Raises
        ------
        UserError
            If one cannot be written; the files of the epoch before stay.
        """
        unfinished = self.output / (STATE + ".part")
        try:
            if not self.config.schedule.patience or not self.best or self.best["epoch"] == self.epoch:
                save_checkpoint(self.model, self.averaged, self.header(), half=True)
            state = {name: part.state_dict() for name, part in self._parts().items()}
            place = {name: getattr(self, name) for name in _PLACE}
            torch.save({**state, **place, "run": self._identity()}, unfinished)
            self.curves.write(last=self.finished)
            unfinished.replace(self.output / STATE)
        except (OSError, RuntimeError, SafetensorError) as error:  # torch's writer raises RuntimeError
            for part in (unfinished, self.model.with_name(self.model.name + ".part")):
                with suppress(OSError):
                    part.unlink()
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            kept = f"--resume goes on after epoch {self.epoch - 1}" if self._has_state() else "nothing is kept"
            raise UserError(f"{self.output}: epoch {self.epoch} cannot be written ({reason}); {kept}.") from error

    def _has_state(self) -> bool:
        """Whether the state of the epoch before can be resumed from."""
        return self.epoch > 1 and (self.output / STATE).is_file()

    def resume(self) -> None:
        """Go on from `last.pt` in the output folder.

        Raises
        ------
        UserError
            If there is none, or it was made from other data or with other settings. Epochs may be added to a finished
            run; while it is under way, a longer one would be another schedule.
        """
        path = self.output / STATE
        if not path.is_file():
            raise UserError(f"{path}: nothing to resume from; start without --resume.")
        # To the CPU: what belongs on the device its owner takes there, and AdamW counts its steps on the CPU.
        state = load_tensors(path, torch.device("cpu"))
        mine, theirs = self._identity(), state.get("run", {})
        epochs, had = "schedule.epochs", theirs.get("schedule.epochs", 0)
        added = state.get("epoch") == had < mine[epochs]
        changed = [key for key in mine if theirs.get(key) != mine[key] and not (key == epochs and added)]
        if changed:
            raise UserError(f"{path}: made with another {', '.join(changed)}; resume as its run was started.")
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        for name in _PLACE:
            setattr(self, name, state[name])
        if added:
            self.begun = self.epoch
        self.curves.go_on(self.epoch)
        if rank() == 0 and self.finished:
            _log.warning("the run is finished, after epoch %d; more epochs: --set schedule.epochs=...", self.epoch)
        elif rank() == 0:
            _log.info(f"goes on after epoch {self.epoch}")

    def _identity(self) -> dict[str, Any]:
        """What must be equal for a resumed run to be the same run, by dotted names."""
        groups = self.config.model_dump(exclude={"licence": True, "compute": {"threads", "tensorboard"}})
        settings = {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}
        return {**settings, "crops": len(self.labels), "identities": self.identities}

    def _parts(self) -> dict[str, Any]:
        return {
            "network": self.network,
            "classifier": self.classifier,
            "average": self.average,
            "optimizer": self.optimizer,
        }


def _has_bfloat16() -> bool:
    return torch.cuda.is_bf16_supported(including_emulation=False)


def _report(progress: Callable[[float, str], None] | None, text: str, epochs: float) -> None:
    if progress:
        progress(epochs, text)
