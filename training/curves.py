"""Curves of a run for TensorBoard, an optional dependency."""

from pathlib import Path
from typing import Any

from reid_tracker.errors import UserError


class Curves:
    """Writes figures by epoch to `folder`, or does nothing.

    Raises
    ------
    UserError
        If curves are wanted and TensorBoard is not installed.
    """

    def __init__(self, folder: Path, wanted: bool) -> None:
        self._writer: Any = None
        if wanted:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise UserError(
                    'compute.tensorboard needs TensorBoard: pip install "reid-tracker[train]", or set it to false.'
                ) from error
            self._writer = SummaryWriter(str(folder))

    def add(self, epoch: int, figures: dict[str, float]) -> None:
        """Add one point to each named curve."""
        if self._writer:
            for name, value in figures.items():
                self._writer.add_scalar(name, value, epoch)

    def close(self) -> None:
        """Write out what is buffered."""
        if self._writer:
            self._writer.close()
