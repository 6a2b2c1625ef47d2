"""`reid-tracker train`: from folders of crops to a checkpoint, in one call."""

import contextlib
import logging
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from reid_tracker.appearance.checkpoint import load_checkpoint, save_checkpoint
from reid_tracker.config import TrainConfig
from reid_tracker.crop_sets.crops import CropSet, check_once, join_crops, load_images
from reid_tracker.crop_sets.layouts import read_crops
from reid_tracker.errors import UserError
from reid_tracker.inputs import Inputs
from reid_tracker.ownership import claim, part_of
from reid_tracker.training.curves import LOG, PICTURE, is_log
from reid_tracker.training.distributed import leave_processes, rank, wait
from reid_tracker.training.lessons import MIXTURES, TEACHER
from reid_tracker.training.measure import measure
from reid_tracker.training.trainer import MODEL, STATE, TRIPLETS, Trainer
from reid_tracker.weights import APPEARANCE
from reid_tracker.writing import check_writable

_log = logging.getLogger(__name__)


def train(
    data: Sequence[str],
    output: Path | str,
    config: TrainConfig | None = None,
    *,
    tests: Mapping[str, str] | None = None,
    start: Path | str | None = None,
    resume: bool = False,
    device: str = "auto",
    show_progress: bool = False,
    overwrite: bool = False,
) -> dict[str, dict[str, Any]]:
    """Train an appearance network.

    Parameters
    ----------
    data : sequence of str
        Sets to train on together (`read_crops`); their identities are kept apart.
    output : path
        Folder for `appearance.safetensors` (the model) and `last.pt` (to resume from).
    config : TrainConfig, optional
        Settings; without it the defaults.
    tests : mapping of str to str, optional
        Names and sources of sets to measure the finished model on. The calibration of the first is the model's.
    start : path or "bundled", optional
        Weights to start from (`load_start`); "bundled" is the model of this package.
    resume : bool
        Go on from `output` after an interruption, to exactly the same end.
    device : str
        "auto" or a torch device.
    show_progress : bool
        Show a progress bar and the epochs' figures on the terminal.
    overwrite : bool
        Train anew where a model is; it stays until the new one is complete, which is called `appearance.part.*`
        until then.

    Returns
    -------
    dict
        Figures by name: the tests, and "validation" where people were held out (`measure`).

    Raises
    ------
    UserError
        For whatever is wrong with the data, the settings or the files; if a model is in the folder, and neither
        `resume` nor `overwrite` says what is to become of it; if another run is writing there.
    """
    config = config or TrainConfig()
    if not data:
        raise UserError("there is nothing to train on; name at least one set of crops.")
    check_writable(Path(output) / MODEL)
    visibility = config.batch.min_visibility
    # All is read before the run: a fault shows now, not after hours.
    held_out = {name: read_crops(source, "test", visibility) for name, source in (tests or {}).items()}
    sets = [read_crops(source, "train", visibility) for source in data]
    crops = join_crops(sets)
    check_once(crops)
    output, begins_from = Path(output).expanduser(), APPEARANCE if start == "bundled" else _path(start)
    read: dict[str, list[Path | str | None]] = {
        "data": [re.sub(r"\[\d*:\d*\]$", "", each) for each in (*data, *(tests or {}).values())],
        "start": [begins_from],
        "teacher": [config.distillation.teacher],
        "pictures": [*config.distillation.pictures],
        "settings": [config.file],
    }
    with _own(output, Inputs(read), resume, overwrite):
        trainer = Trainer(config, crops, output, device, begins_from)
        older = output / MODEL
        # Where an older model is that this run does not go on with, the new one stands beside it until it is whole.
        if older.is_file() and (not resume or part_of(older).is_file()):
            trainer.model = part_of(older)
        if resume:
            trainer.resume()
        with _progress(config.schedule.epochs, show_progress and rank() == 0) as report:
            if rank() == 0:
                for name, each in {**dict(zip(data, sets, strict=True)), **held_out}.items():
                    _log.info("%s: %s", name, _describe(each))
                if not len(trainer.validation):
                    _log.warning("nobody is held out to validate on: %d identities", trainer.identities)
            trainer.run(report)
        network, header = load_checkpoint(trainer.model, trainer.device)
        wait()  # all have read it before it is moved
        settings = trainer.config.network
        figures = {}
        if rank() == 0:
            for name, test in held_out.items():
                images = torch.from_numpy(load_images(test, settings.input_size))
                figures[name] = measure(network, test, images, settings)
            # People that no decision ever looked at come before those of the validation: they hold the calibration.
            header["figures"] = {**figures, **header["figures"]}
            for found in figures.values():
                header["calibration"] = found["calibration"]
                break
            save_checkpoint(trainer.model, network, header, half=True)
            trainer.model.replace(older)
        leave_processes()
    return dict(header["figures"])


@contextlib.contextmanager
def _own(output: Path, inputs: Inputs, resume: bool, overwrite: bool) -> Iterator[None]:
    """Be the only run that writes to a folder; raise a UserError if what is there must stay."""
    if os.environ.get("RANK", "0") != "0":  # the first process writes the files
        yield
        return
    there = [output / name for name in (MODEL, STATE) if (output / name).exists()]
    if there and not (resume or overwrite):
        raise UserError(
            f"{there[0]}: a model is there already; go on with --resume, name another folder, or begin anew with "
            "--overwrite."
        )
    caches = [output / name for name in (TEACHER, MIXTURES, TRIPLETS)]
    log, picture = output / LOG, output / PICTURE
    foreign = next((each for each in caches if each.exists() and not _is_cache(each)), None)
    if foreign is None and not is_log(log):
        foreign = next((each for each in (log, picture) if each.exists()), None)
    if foreign is not None and not overwrite:
        raise UserError(
            f"{foreign}: is there already and was not written by this program; name another folder, or give "
            "--overwrite."
        )
    # What is there may be replaced now, save what the run reads.
    with claim([output / MODEL, output / STATE, log, picture, *caches], inputs, ["train"], overwrite=True):
        if not resume:
            part_of(output / MODEL).unlink(missing_ok=True)  # of a run that was broken off
        yield


def _describe(crops: CropSet) -> str:
    """What was read, in words."""
    cameras = len(np.unique(crops.cameras[crops.cameras >= 0]))
    seen = f"{cameras} camera{'s' * (cameras != 1)}" if cameras else "cameras unknown"
    return f"{len(crops)} crops of {len(np.unique(crops.identities))} identities, {seen}"


def _is_cache(path: Path) -> bool:
    """Whether this is what a run keeps for its resumption: a teacher's vectors, or mined triplets."""
    try:
        with np.load(path) as found:
            return bool({"key", "about"} & set(found.files))
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile):
        return False


def latest_epoch(output: Path) -> int | None:
    """When the last whole epoch in a folder was stored (ns); None where there is none."""
    state = Path(output).expanduser() / STATE
    return state.stat().st_mtime_ns if state.is_file() else None


def _path(start: Path | str | None) -> Path | None:
    return None if start is None else Path(start)


@contextlib.contextmanager
def _progress(epochs: int, wanted: bool) -> Iterator[Callable[[float, str], None] | None]:
    if not wanted:
        yield None
        return
    console = Console(stderr=True)
    columns = TextColumn("epoch {task.completed:.1f}/{task.total:.0f}"), BarColumn(), TextColumn("{task.description}")
    log, handler = logging.getLogger("reid_tracker.training"), RichHandler(console=console, show_path=False)
    level, passes_on = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # every line once, above the bar
    try:
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as bar:
            task = bar.add_task("", total=epochs)
            yield lambda done, text: bar.update(task, completed=done, description=text)
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = passes_on
