"""What a teacher says in a run: targets of the training crops, and synthetic people with theirs."""

from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from reid_tracker.config import TrainConfig
from reid_tracker.crop_sets.crops import CropSet, join_crops
from reid_tracker.crop_sets.layouts import read_pictures
from reid_tracker.device import bring
from reid_tracker.errors import UserError
from reid_tracker.training.distillation import FreshMixtures, fit_dimension, teach, teach_mixtures
from reid_tracker.training.distributed import rank, share

TEACHER, MIXTURES = "teacher.npz", "mixtures.npz"


class Lessons:
    """The targets of a run; none where it names no teacher.

    Parameters
    ----------
    config : TrainConfig
    crops : CropSet
        The N training crops.
    output : Path
        Folder of the run, where the teacher's vectors are kept.
    dimension : int
        D, of the student's vectors.
    device : str
        Where the teacher looks, as `Embedder` takes it.
    student_device : torch.device
        Where batches go.

    Attributes
    ----------
    targets : Tensor, float32 [N, D], or None
        Of the training crops.

    Raises
    ------
    UserError
        If synthetic people are asked for without a teacher, or pictures without synthetic people.
    """

    def __init__(
        self,
        config: TrainConfig,
        crops: CropSet,
        output: Path,
        dimension: int,
        device: str,
        student_device: torch.device,
    ) -> None:
        settings, size = config.distillation, config.network.input_size
        self._settings, self._device = settings, student_device
        self.targets: Tensor | None = None
        self._mixtures, self._mixture_targets = torch.empty(0), torch.empty(0)
        self._fresh: FreshMixtures | None = None
        if not settings.teacher:
            if settings.mixtures or settings.fresh_mixtures or settings.pictures:
                raise UserError("synthetic people need a teacher to describe them; name distillation.teacher.")
            return
        if settings.pictures and not (settings.mixtures or settings.fresh_mixtures):
            raise UserError("distillation.pictures serve to make up people; set distillation.mixtures, to 60000 say.")
        assert size is not None  # by `adopt_start`
        taught = [torch.empty(0)] * 3
        turning = None
        sets = [crops, *(read_pictures(each) for each in settings.pictures)]
        if rank() == 0:
            vectors = teach(settings.teacher, crops, output / TEACHER, device)
            turning = fit_dimension(vectors, dimension)
            taught[0] = turning(vectors)
            if settings.mixtures:
                taught[1], described = teach_mixtures(
                    settings.teacher, sets, settings.mixtures, size, output / MIXTURES, config.compute.seed, device
                )
                taught[2] = turning(described)
        (targets, self._mixtures, self._mixture_targets), turning = share((taught, turning))
        self.targets = cast(Tensor, targets)
        if settings.fresh_mixtures:
            self._fresh = FreshMixtures(settings.teacher, join_crops(sets), turning, size, student_device)

    def extend(self, rows: np.ndarray, pictures: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Add synthetic people to a batch.

        Parameters
        ----------
        rows : ndarray, int [b]
            Which training crops the batch holds.
        pictures : Tensor, uint8 [b, H, W, 3]
            They, on the student's device.
        random : torch.Generator
            Which people, and how they are made.

        Returns
        -------
        pictures : Tensor, uint8 [b + k, H, W, 3]
        targets : Tensor, float32 [b + k, D], or None without a teacher
        """
        if self.targets is None:
            return pictures, None
        batch, targets = [pictures], [bring(self.targets[rows], self._device)]
        if len(self._mixtures):
            count = round(self._settings.mixtures_per_crop * len(rows))
            drawn = torch.randint(len(self._mixtures), (count,), generator=random, device=self._device).cpu()
            batch.append(bring(self._mixtures[drawn], self._device))
            targets.append(bring(self._mixture_targets[drawn], self._device))
        count = round(self._settings.fresh_mixtures * len(rows))
        if self._fresh and count:
            made, described = self._fresh.make(count, random)
            batch.append(made)
            targets.append(described)
        return torch.cat(batch), torch.cat(targets)
