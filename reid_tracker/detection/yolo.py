"""Detection by any YOLO or RT-DETR that ultralytics loads (PyTorch, OpenVINO, ONNX, TensorRT), and by plain ONNX."""

import difflib
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import supervision as sv

from reid_tracker.detection.detector import usable_boxes
from reid_tracker.detection.onnx_boxes import OnnxBoxes, open_session
from reid_tracker.detection.openvino_yolo import OpenVinoYolo, read_metadata
from reid_tracker.detection.size import FittingSize, Speed
from reid_tracker.device import pick_device
from reid_tracker.errors import UserError
from reid_tracker.offline import import_ultralytics, process_unchanged

if TYPE_CHECKING:
    from reid_tracker.video.frames import Frame

logger = logging.getLogger(__name__)

TASKS_WITH_BOXES = ("detect", "segment", "pose")
SIZES_AT_ONCE = 3  # compiled networks for each shape of frame: its size, the largest, the one before
EXTRAS = {"openvino": "reid-tracker[openvino]", "onnxruntime": "reid-tracker[onnx]"}


class YoloDetector:
    """A YOLO network, or another that is known, as a `Detector`.

    Parameters
    ----------
    model : str or Path
        Path of a YOLO or RT-DETR: a .pt checkpoint, an .onnx or .engine file, an ..._openvino_model folder; or the name
        of one of ultralytics' own models, which is downloaded into the current folder unless it is there. Or an .onnx
        file of another make, such as RF-DETR's or torchvision's (`onnx_boxes`).
    classes : sequence of str or int, optional
        Names or numbers of the classes to find; "all" finds every class. By default persons, or every class of a model
        that knows no person.
    confidence : float
        Weaker detections are dropped. Keep it low: association gives weak boxes a second chance.
    image_size : int, optional
        Longer side in pixels to which frames are scaled for the network; more finds smaller people, in more time. By
        default chosen for each video (`FittingSize`); an export of one fixed size keeps that.
    speed : {"auto", "fast", "accurate"}
        Which sizes there are to choose from.
    device : str
        "auto", "cpu", "cuda", "cuda:1" or "mps". Automatic is a GPU for checkpoints and TensorRT engines, the CPU for
        other exports. Checkpoints run in half precision on CUDA.

    Attributes
    ----------
    class_names : dict of int to str
        The classes that are looked for.
    image_size : tuple of int
        Height and width of the network's input that the model was made for, or that was asked for. A checkpoint pads
        no further than a frame's own shape needs.

    Raises
    ------
    UserError
        If the model is missing, cannot be downloaded, is no YOLO that gives boxes, or needs a package that is not
        installed; if a class, the confidence, the size or the device is not possible.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        classes: Sequence[str | int] | None = None,
        confidence: float = 0.1,
        image_size: int | None = None,
        device: str = "auto",
        speed: Speed = "auto",
    ) -> None:
        if not 0 <= confidence <= 1:
            raise UserError(f"Confidence {confidence:g}: must be between 0 and 1.")
        if image_size is not None and image_size < 32:
            raise UserError(f"Image size {image_size}: must be at least 32 pixels.")
        path = find_model(model)
        with errors_about(path):
            self._run: OpenVinoYolo | OnnxBoxes | _Ultralytics
            if device in ("auto", "cpu") and read_metadata(path):
                self._run = OpenVinoYolo(path, confidence, image_size)
            elif path.suffix == ".onnx" and (session := open_session(path)) is not None:
                if device not in ("auto", "cpu"):
                    raise UserError(f"{path}: detectors in plain ONNX run on the CPU; leave out --device {device}.")
                self._run = OnnxBoxes(path, session, confidence)
            else:
                self._run = _Ultralytics(path, confidence, image_size, device)
        self.image_size: tuple[int, int] = self._run.size
        # Ultralytics rounds sizes up to the stride, and silently keeps to an export's fixed size.
        height, width = self.image_size
        if image_size is not None and isinstance(self._run, OnnxBoxes):
            raise UserError(f"Image size {image_size}: {path.name} has its own; leave it out.")
        if image_size is not None and not 0 <= max(height, width) - image_size < self._run.stride:
            raise UserError(f"Image size {image_size}: {path.name} was exported for {width} x {height} only.")
        self.class_names = _select_classes(classes, self._run.names, path)
        self._run.classes = list(self.class_names)
        self._fitting: FittingSize | None = None
        if image_size is None and self._run.dynamic:
            self._fitting = FittingSize(max(self.image_size), int(self._run.stride), speed)

    def detect(self, frame: "Frame") -> sv.Detections:
        """Find the objects of one frame.

        Parameters
        ----------
        frame : Frame
            A frame with pixels: uint8 [H, W, 3], BGR.

        Returns
        -------
        supervision.Detections
            ``xyxy`` float32 [N, 4] in pixels of the frame, ``confidence`` float32 [N], ``class_id`` int64 [N],
            ``data["class_name"]`` str [N], by falling confidence.

        Raises
        ------
        UserError
            If the frame has no pixels.
        """
        return self.detect_batch([frame])[0]

    def detect_batch(self, frames: "Sequence[Frame]") -> list[sv.Detections]:
        """Find the objects of several frames, of one camera or many; else as `detect`."""
        images = []
        for frame in frames:
            if frame.image is None:
                raise UserError(f"Frame {frame.index}: no pixels for a YOLO to look at; use recorded detections.")
            images.append(frame.image)
        found = self._run.batch(images) if self._fitting is None else self._fit(self._fitting, images)
        return [self._name(boxes) for boxes in found]

    def _fit(self, fitting: FittingSize, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Boxes of pictures, each at the size that fits it."""
        found: list[np.ndarray] = [np.zeros((0, 6), np.float32)] * len(images)
        sizes = [fitting.size(*image.shape[:2]) for image in images]
        for size in dict.fromkeys(sizes):
            places = [place for place, each in enumerate(sizes) if each == size]
            self._run.size = (size, size)
            began = time.perf_counter()
            boxes = self._run.batch([images[place] for place in places])
            seconds = (time.perf_counter() - began) / len(places)
            for place, rows in zip(places, boxes, strict=True):
                found[place] = rows
                height, width = images[place].shape[:2]
                fitting.learn(height, width, size, rows, seconds)
        return found

    def expect_shapes(self, count: int) -> None:
        """Be ready for frames of so many shapes in turn, as from several cameras."""
        if isinstance(self._run, OpenVinoYolo):
            self._run.shapes = max(self._run.shapes, SIZES_AT_ONCE * count)

    def restart(self) -> None:
        """Begin another video: the size is chosen anew."""
        if self._fitting is not None:
            self._fitting.restart()

    def keep_up(self, seconds: float) -> None:
        """From now on use only sizes at which a frame takes no longer than this."""
        if self._fitting is not None:
            self._fitting.budget = seconds

    def notes(self) -> list[str]:
        """Sentences for the user about the sizes that were chosen."""
        return self._fitting.describe() if self._fitting is not None else []

    def _name(self, boxes: np.ndarray) -> sv.Detections:
        boxes = boxes[usable_boxes(boxes[:, :4], boxes[:, 4])]
        class_id = boxes[:, 5].astype(np.int64)
        class_name = np.array([self.class_names[number] for number in class_id.tolist()], dtype=str)
        return sv.Detections(boxes[:, :4], confidence=boxes[:, 4], class_id=class_id, data={"class_name": class_name})


class _Ultralytics:
    """Any YOLO, run by ultralytics; to its users the same as `OpenVinoYolo`."""

    def __init__(self, path: Path, confidence: float, image_size: int | None, device: str) -> None:
        self.classes: list[int] | None = None
        self._options: dict[str, Any] = {"conf": confidence, "device": _choose_device(device, path), "verbose": False}
        if image_size is not None:
            self._options["imgsz"] = image_size
        if self._options["device"].startswith("cuda") and path.suffix == ".pt":
            self._options["quantize"] = 16
        with process_unchanged():
            self._yolo = import_ultralytics().YOLO(path)
            if self._yolo.task not in TASKS_WITH_BOXES:
                raise UserError(f"{path}: made for the task {self._yolo.task!r}; a YOLO for detection is needed.")
            # Exports are only opened when they first run: do it here, so that a fault shows before the video starts.
            self.batch([np.zeros((64, 64, 3), np.uint8)])
        network = self._yolo.predictor.model
        height, width = self._yolo.predictor.imgsz
        self._size: tuple[int, int] = height, width
        # RT-DETR's queries have learned one size.
        self.dynamic = path.suffix == ".pt" and type(self._yolo).__name__ != "RTDETR"
        self.names, self.stride = network.names, network.stride

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input, px."""
        return self._size

    @size.setter
    def size(self, size: tuple[int, int]) -> None:
        self._size = size
        self._options["imgsz"] = max(size)

    def batch(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Find boxes, with one call of the network for each shape of image: float32 [N, 6], xyxy, confidence, class."""
        found: list[np.ndarray] = [np.zeros((0, 6), np.float32)] * len(images)
        for shape in dict.fromkeys(image.shape for image in images):
            places = [place for place, image in enumerate(images) if image.shape == shape]
            results = self._yolo.predict([images[place] for place in places], classes=self.classes, **self._options)
            for place, result in zip(places, results, strict=True):
                found[place] = result.boxes.data.float().cpu().numpy()
        return found


def find_model(model: str | Path) -> Path:
    """Find a model by its path, or download it where it is one of ultralytics' own and named without a folder.

    Parameters
    ----------
    model : str or Path
        A path, or a name such as "yolo26n.pt" or "yolo26n".

    Returns
    -------
    Path
        Absolute path of what is there.

    Raises
    ------
    UserError
        If there is nothing, or nothing could be downloaded.
    """
    path = Path(model).expanduser()
    if path.suffix in (".yaml", ".yml"):
        raise UserError(f"{model}: only describes a network; give the trained weights, such as a .pt file.")
    if path.exists():
        return path.absolute()
    if os.sep in str(model) or "/" in str(model):
        raise UserError(f"{model}: no such model; check the path of the YOLO.")
    known = import_ultralytics().utils.downloads.GITHUB_ASSETS_NAMES
    name = path.name if path.suffix else f"{path.name}.pt"
    if name not in known:
        near = _nearest(name, (own for own in known if own.startswith("yolo")))
        raise UserError(f"{model}: no such file, nor a model that ultralytics offers (nearest: {near}).")
    return _download(name)


def _download(name: str) -> Path:
    """Fetch one of ultralytics' own models into the current folder."""
    path = Path(name).absolute()
    if path.exists():
        return path
    logger.warning("%s is not here: downloading it from github.com/ultralytics/assets to %s", name, path)
    with process_unchanged():
        os.environ["YOLO_OFFLINE"] = "1"  # fail at once, rather than ask two other hosts whether there is a network
        try:
            import_ultralytics().utils.downloads.attempt_download_asset(name)
        except OSError as error:
            raise UserError(f"{name}: the download failed; give the path of a model that you have.") from error
    return path


def _choose_device(device: str, model: Path) -> str:
    """As `pick_device`; other runtimes' GPU support is a separate package each: theirs only on request."""
    if device == "auto" and model.suffix not in (".pt", ".engine"):
        return "cpu"
    return str(pick_device(device))


def _select_classes(wanted: Sequence[str | int] | None, names: dict[int, str], model: Path) -> dict[int, str]:
    """The part of a model's classes that is wanted, by number."""
    if not wanted:
        return {number: name for number, name in names.items() if name.casefold() == "person"} or names
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if list(wanted) == ["all"]:
        return names
    numbers = {str(number): number for number in names} | {name.casefold(): number for number, name in names.items()}
    for item in wanted:
        if str(item).casefold() not in numbers:
            near = _nearest(str(item), names.values())
            if len(names) == 1:
                raise UserError(f"Class {item!r}: {model.name} finds {near} only; name another detector.")
            raise UserError(f"Class {item!r}: not one of the {len(names)} classes of {model.name} (nearest: {near}).")
    return {number: names[number] for number in (numbers[str(item).casefold()] for item in wanted)}


def _nearest(word: str, known: Iterable[str]) -> str:
    """The known words most like a word, as a list to read."""
    known = sorted(known)
    return ", ".join(difflib.get_close_matches(word, known, n=3, cutoff=0.3) or known[:3])


@contextmanager
def errors_about(path: Path) -> Iterator[None]:
    """Turn whatever ultralytics and its runtimes raise over a model into one sentence about it."""
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        package = EXTRAS.get(error.name or "", error.name)
        raise UserError(f"{path}: needs a package that is missing; install it with: pip install '{package}'") from error
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        reason = reason.replace(f"{path} ", "").replace("ERROR ❌️ ", "")[:200].rstrip(".")
        advice = "give a .pt, .onnx or .engine file or an ..._openvino_model folder"
        if "unsupported global" in str(error.__cause__).lower():
            advice = "to load it all the same, where you trust it to run code, set ULTRALYTICS_SAFE_LOAD=0"
        raise UserError(f"{path}: cannot be used as a YOLO ({reason}); {advice}.") from error
