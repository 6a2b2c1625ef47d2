"""A person detector that sees in bad light and blur what its teacher sees in good, through ultralytics' own trainer.

Teacher and start are the same network. The teacher looks at clean frames, the student at the same frames corrupted, and
the teacher's outputs at every anchor are the target: no frame needs a label, and where nothing is corrupted nothing
changes.
"""

import argparse
import copy
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional

from reid_tracker.detection.export import export_detector
from reid_tracker.detection.yolo import YoloDetector
from reid_tracker.device import pick_device
from reid_tracker.errors import UserError
from reid_tracker.offline import import_ultralytics, process_unchanged
from reid_tracker.training.augment import blur, cast_shadow, compress, expose
from reid_tracker.video.sources import open_source

import_ultralytics()  # before any part of it: it must not report home

from ultralytics import YOLO  # noqa: E402
from ultralytics.models.yolo.detect import DetectionTrainer  # noqa: E402
from ultralytics.nn.tasks import DetectionModel  # noqa: E402
from ultralytics.utils.torch_utils import strip_optimizer  # noqa: E402

LABELLED = 0.25  # confidence from which the teacher's boxes are written as labels; only the validation figures use them


def person_only(network: DetectionModel) -> DetectionModel:
    """Copy a detector without its other classes: the same boxes and confidences for people.

    Parameters
    ----------
    network : DetectionModel
        With a `Detect` head that knows a class person.

    Returns
    -------
    DetectionModel
        In float32.

    Raises
    ------
    UserError
        If it knows no person.
    """
    found = [number for number, name in network.names.items() if name.casefold() == "person"]
    if not found:
        raise UserError("the teacher knows no class person; give a detector that does, such as one trained on COCO.")
    network = copy.deepcopy(network).float()
    head: Any = network.model[-1]
    for branch in head.cv3:
        last = branch[-1]
        if last.out_channels > 1:
            branch[-1] = nn.Conv2d(last.in_channels, 1, 1)
            branch[-1].weight.data = last.weight.data[found].clone()
            branch[-1].bias.data = last.bias.data[found].clone()
    head.nc, head.no = 1, 1 + 4 * head.reg_max
    network.yaml = {**network.yaml, "nc": 1}
    network.nc, network.names = 1, {0: "person"}
    return network


class ConsistencyLoss:
    """Distance between the student's outputs and the teacher's of the clean frames.

    Parameters
    ----------
    teacher : DetectionModel
        By `person_only`.

    Notes
    -----
    Confidences: cross-entropy with the teacher's as soft targets, weighted by how far off they are (quality focal
    loss, Li et al. 2020). Boxes: divergence of the distributions over the distances to the sides, where the teacher
    sees a person. Features, the head's input: mean squared difference as a share of the teacher's. The first two are
    divided by the sum of the teacher's confidences.
    """

    def __init__(self, teacher: DetectionModel) -> None:
        self.teacher = teacher.eval().requires_grad_(False)

    def __call__(self, outputs: Any, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare; ultralytics' trainer calls it with the student's raw outputs and the batch."""
        student = _raw(outputs)
        with torch.no_grad():
            teacher = _raw(self.teacher(batch.get("clean", batch["img"])))
        sure = teacher["scores"].sigmoid()
        people = sure.sum().clamp_min(1)
        off = (student["scores"].sigmoid() - sure).abs().detach()
        entropy = functional.binary_cross_entropy_with_logits(student["scores"], sure, reduction="none")
        scores = (off * entropy).sum() / people
        bins = student["boxes"].shape[1] // 4
        mine, theirs = (_sides(outputs["boxes"], bins) for outputs in (student, teacher))
        divergence = functional.kl_div(mine, theirs, reduction="none", log_target=True).sum(2).mean(1)
        boxes = (sure[:, 0] * divergence).sum() / people
        features = torch.stack(
            [
                (mine - theirs).square().mean() / theirs.square().mean().clamp_min(1e-6)
                for mine, theirs in zip(student["feats"], teacher["feats"], strict=True)
            ]
        ).mean()
        parts = {"score_loss": scores, "box_loss": boxes, "feature_loss": features}
        # Ultralytics divides the gradient by nothing: its losses are sums over the batch.
        total = (scores + boxes + features) * len(batch["img"])
        return total, {name: part.detach() for name, part in parts.items()}


def _raw(outputs: Any) -> dict[str, Any]:
    """The head's outputs before they are decoded, in training and in evaluation mode."""
    return outputs[1] if isinstance(outputs, tuple) else outputs


def _sides(boxes: Tensor, bins: int) -> Tensor:
    """Logarithms of the distributions over the distances to the four sides: [B, 4 * bins, A] to [B, 4, bins, A]."""
    return boxes.view(len(boxes), 4, bins, -1).log_softmax(2)


def spoil(images: Tensor, random: torch.Generator, share: float = 0.75) -> Tensor:
    """Shadow, blur, bad light and JPEG, each by chance, on this share of the frames.

    Parameters
    ----------
    images : Tensor, float [N, 3, H, W]
        BGR, 0..1, on the CPU.
    random : torch.Generator
        On the CPU.
    share : float
        The others stay as they are, so that the student goes on seeing what it saw.

    Returns
    -------
    Tensor, float [N, 3, H, W]
        0..1.
    """
    corrupted = torch.rand(len(images), generator=random) < share
    changed = cast_shadow(images[corrupted] * 255, 0.25, random)
    changed = blur(changed, 0.55, random, longest=6.0)
    changed = expose(changed, 0.6, random, night=0.4)
    changed = compress(changed, 0.1, random)
    result = images.clone()
    result[corrupted] = changed / 255
    return result


class ConsistencyTrainer(DetectionTrainer):
    """Ultralytics' detection trainer with `ConsistencyLoss`, on frames that are corrupted batch by batch.

    Parameters
    ----------
    teacher : Path
        A COCO detector, .pt; also the start.
    overrides : dict
        Ultralytics' settings.
    """

    def __init__(self, teacher: Path, overrides: dict[str, Any]) -> None:
        self.teacher = teacher
        super().__init__(overrides=overrides)

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> DetectionModel:
        """Build the student; ultralytics calls it with the network to start from or to resume."""
        student = person_only(weights)
        student.criterion = ConsistencyLoss(person_only(YOLO(self.teacher).model).to(self.device))
        return student

    def _model_train(self) -> None:
        super()._model_train()
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()  # few scenes: their statistics must not replace those of the start's training set

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Keep the clean frames for the teacher; ultralytics calls it with each batch."""
        batch = super().preprocess_batch(batch)
        random = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        batch["clean"] = batch["img"]
        # Ultralytics' batches are RGB; light and colour are changed in BGR.
        batch["img"] = spoil(batch["img"].cpu().flip(1), random).flip(1).to(self.device)
        return batch


def dead_leaves(random: np.random.Generator, height: int = 432, width: int = 768) -> np.ndarray:
    """Make a picture of nothing: overlapping textured shapes of all sizes, with the statistics of natural images.

    Dead leaves (Lee, Mumford & Huang 2001): shapes whose sizes follow r^-3 cover each other. What a teacher makes of
    edges and textures as such is learned from them, and that there are no people.

    Returns
    -------
    ndarray, uint8 [H, W, 3]
    """
    image = np.zeros((height, width, 3), np.float32)
    low, high = 8.0, 0.5 * height
    palette = random.uniform(10, 245, (12, 1)) + random.normal(0, 25, (12, 3))  # nature is rarely gaudy
    for share in random.uniform(0, 1, 3000):
        radius = (low**-2 - share * (low**-2 - high**-2)) ** -0.5
        corners = int(random.integers(3, 9)) if random.random() < 0.6 else 40
        angles = np.sort(random.uniform(0, 2 * np.pi, corners))
        reach = radius * random.uniform(0.4, 1.6, 2)
        centre = random.uniform(0, 1, 2) * [width, height]
        outline = (centre + reach * np.stack([np.cos(angles), np.sin(angles)], 1)).astype(np.int32)
        colour = palette[random.integers(12)] + random.normal(0, 15) + random.normal(0, 5, 3)
        cv2.fillPoly(image, [outline], colour.tolist(), cv2.LINE_AA)
    for scale in (1, 4, 16):  # grain of three sizes
        grain = random.normal(0, 6, (height // scale + 1, width // scale + 1, 1)).astype(np.float32)
        image += cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def write_frames(sources: Sequence[str], folder: Path, every: int, teacher: Path, generated: int = 0) -> Path:
    """Write a data set as ultralytics reads it: every n-th frame of the sources, with the teacher's boxes as labels.

    The labels only serve the figures on the last tenth of each source, which is kept for validation.

    Parameters
    ----------
    sources : sequence of str
        Videos and folders of pictures.
    folder : Path
        Where to.
    every : int
        n; single pictures and folders are taken whole.
    teacher : Path
        A COCO detector.
    generated : int
        So many pictures of `dead_leaves` besides.

    Returns
    -------
    Path
        Its data.yaml.
    """
    detector = YoloDetector(teacher, confidence=LABELLED)
    for part in ("train", "val"):
        (folder / "images" / part).mkdir(parents=True, exist_ok=True)
        (folder / "labels" / part).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(sources):
        stride = 1 if Path(name).is_dir() else every
        frames = list(open_source(name, stride=stride))
        for place, frame in enumerate(frames):
            if frame.image is None:
                raise UserError(f"{name}: has no pictures; a detector learns from frames.")
            part = "val" if place >= 0.9 * len(frames) > 2 else "train"
            stem = f"{number:02d}_{frame.index:06d}"
            height, width = frame.image.shape[:2]
            xyxy = detector.detect(frame).xyxy / [width, height, width, height]
            centres, sizes = (xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]
            lines = [f"0 {' '.join(f'{value:.6f}' for value in row)}\n" for row in np.hstack([centres, sizes])]
            cv2.imwrite(str(folder / "images" / part / f"{stem}.jpg"), frame.image, [cv2.IMWRITE_JPEG_QUALITY, 95])
            (folder / "labels" / part / f"{stem}.txt").write_text("".join(lines))
    random = np.random.default_rng(0)
    for number in range(generated):
        cv2.imwrite(str(folder / "images" / "train" / f"generated_{number:06d}.jpg"), dead_leaves(random))
    about = folder / "data.yaml"
    text = {"path": str(folder.resolve()), "train": "images/train", "val": "images/val", "names": {0: "person"}}
    about.write_text(yaml.safe_dump(text))
    return about


def finish(student: Path, teacher: Path, output: Path, share: float, image_size: int = 640) -> None:
    """Write the detector that is to be used: between the student and its start, and nothing of the run that made it.

    The weighted mean of a fine-tuned network's weights and its start's (WiSE-FT, Wortsman et al. 2022) keeps most of
    what the student learned and of what its start knew beyond the few scenes it learned from.

    Parameters
    ----------
    student : Path
        Last checkpoint of the run.
    teacher : Path
        Its start.
    output : Path
        .pt, float16, as ultralytics loads it.
    share : float
        Of the student, 0..1.
    image_size : int
        Longer side of a frame that the detector takes by default, px.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(student, folder))
        strip_optimizer(str(copy))  # puts the running average in place of the network
        checkpoint = torch.load(copy, weights_only=False)  # our own file
    network = checkpoint["model"].float()
    start = person_only(YOLO(teacher).model).state_dict()
    mean = {
        name: share * value + (1 - share) * start[name] if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    network.load_state_dict(mean)
    network.args = {"task": "detect", "imgsz": image_size}
    network.pt_path = output.name  # where its start lay is private
    network.yaml = {**network.yaml, "yaml_file": Path(network.yaml.get("yaml_file", "")).name}
    kept = {name: checkpoint[name] for name in ("date", "version", "license", "docs")}
    part = output.with_name(output.name + ".part")
    torch.save({**kept, "model": network.half(), "train_args": network.args}, part)
    part.replace(output)


def train_detector(
    sources: Sequence[str],
    teacher: Path,
    output: Path,
    *,
    epochs: int = 15,
    image_size: int = 416,
    batch: int = 16,
    rate: float = 2e-4,
    every: int = 4,
    generated: int = 150,
    share: float = 0.6,
    int8: bool = False,
    device: str = "auto",
    resume: bool = False,
) -> Path:
    """Train, and write the student as a checkpoint that ultralytics loads.

    Parameters
    ----------
    sources : sequence of str
        Videos and folders of pictures to learn from; no labels.
    teacher : Path
        A COCO detector, .pt; also the start.
    output : Path
        Folder for the frames, the run and `detector.pt`.
    epochs, image_size, batch, rate : numbers
        Ultralytics' epochs, imgsz, batch and lr0 (AdamW, falling to a hundredth).
    every : int
        Of a video's frames every n-th is taken.
    generated : int
        Pictures of `dead_leaves` besides.
    share : float
        Of the student in the result, as `finish` takes it.
    int8 : bool
        Also write `detector_int8_openvino_model`, with ranges from the frames kept for validation.
    device : str
        As `pick_device` takes it.
    resume : bool
        Go on from the last epoch in `output`.

    Returns
    -------
    Path
        `detector.pt`, float16.

    Raises
    ------
    UserError
        If the sources or the teacher cannot be read, there is nothing to resume from, or the folder holds frames, a run
        or a detector already and `resume` is not given.
    """
    there = [each for each in (output / "detector.pt", output / "run", output / "frames") if each.exists()]
    if there and not resume:
        raise UserError(f"{there[0]}: is there already; go on with --resume, or name another folder.")
    last = output / "run" / "weights" / "last.pt"
    if resume and not last.is_file():
        raise UserError(f"{last}: nothing to resume from; start without --resume.")
    data = output / "frames" / "data.yaml"
    if not resume:
        data = write_frames(sources, output / "frames", every, teacher, generated)
    overrides = {
        "model": str(last if resume else teacher),
        "resume": resume,
        "data": str(data),
        "project": str(output.resolve()),
        "name": "run",
        "exist_ok": True,
        "epochs": epochs,
        "imgsz": image_size,
        "batch": batch,
        "nbs": batch,  # learn from every batch; ultralytics would gather 64 frames first
        "optimizer": "AdamW",
        "lr0": rate,
        "warmup_epochs": 1,
        "warmup_bias_lr": 0.0,  # a head that has learned already must not be shaken
        "close_mosaic": 0,
        "scale": 0.6,
        "amp": False,  # its check downloads a model
        "workers": 0,
        "plots": False,
        "device": str(pick_device(device)),
    }
    trainer = ConsistencyTrainer(teacher, overrides)
    with process_unchanged():
        trainer.train()
    result = output / "detector.pt"
    finish(last, teacher, result, share)
    if int8:
        export_detector(result, output / "detector_int8_openvino_model", "openvino", calibrate_on=data)
    return result


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="videos and folders of pictures")
    parser.add_argument("--teacher", type=Path, required=True, help="a COCO detector, .pt; also the start")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--image-size", type=int, default=416)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--generated", type=int, default=150, help="synthetic pictures without people")
    parser.add_argument("--share", type=float, default=0.6, help="of the student, beside its start, in the result")
    parser.add_argument("--int8", action="store_true", help="also export as 8-bit whole numbers for OpenVINO")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--resume", action="store_true")
    try:
        print(train_detector(**vars(parser.parse_args())))
    except UserError as error:
        parser.exit(2, f"Error: {error}\n")


if __name__ == "__main__":
    main()
