"""What became of a run, by epoch: `log.csv`, `curves.png`, and TensorBoard where it is wanted."""

import csv
import io
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from reid_tracker.errors import UserError
from reid_tracker.offline import own_matplotlib
from reid_tracker.writing import write_whole

LOG, PICTURE = "log.csv", "curves.png"
DRAW_SECONDS = 30.0  # between two drawings: one takes longer than an epoch of a small set
# Each figure's column in the log, and its name in TensorBoard.
COLUMNS = {
    "learning_rate": "schedule/learning_rate",
    "metric": "loss/metric",
    "classifier": "loss/classifier",
    "teacher": "loss/teacher",
    "active": "triplets/active",
    "same": "distance/same",
    "strangers": "distance/strangers",
    "rank1": "validation/rank1",
    "mAP": "validation/mAP",
}
_PANELS = {
    "loss": ("metric", "classifier", "teacher"),
    "distance": ("same", "strangers"),
    "active triplets, share": ("active",),
    "validation people": ("rank1", "mAP"),
}


class Curves:
    """Collects the figures of a run.

    Parameters
    ----------
    folder : Path
        Where `log.csv` and `curves.png` go, or go on.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._rows = folder, dict[int, dict[str, float]]()
        self._writer: Any = None
        self._drawn = time.monotonic()

    def open_tensorboard(self, folder: Path) -> None:
        """Write what is added from now on for TensorBoard, too; UserError where it is not installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError(
                'compute.tensorboard needs TensorBoard: pip install "reid-tracker[train]", or set it to false.'
            ) from error
        self._writer = SummaryWriter(str(folder))

    def go_on(self, epoch: int) -> None:
        """Take up the log of a resumed run, up to this epoch."""
        with suppress(OSError, ValueError, csv.Error), (self._folder / LOG).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                number = int(row.pop("epoch"))
                if number <= epoch:
                    known = {name: value for name, value in row.items() if name in COLUMNS and value}
                    self._rows[number] = {name: float(value) for name, value in known.items()}

    def add(self, epoch: int, figures: dict[str, float]) -> None:
        """Add an epoch's figures, by the names in `COLUMNS`."""
        self._rows.setdefault(epoch, {}).update(figures)
        if self._writer:
            for name, value in figures.items():
                self._writer.add_scalar(COLUMNS[name], value, epoch)

    def write(self, last: bool = True) -> None:
        """Write the log and the picture; each replaces the older one only once whole.

        Parameters
        ----------
        last : bool
            Whether no more comes; otherwise the picture is drawn anew from time to time only.

        Raises
        ------
        OSError
            If one cannot be written.
        """
        text = io.StringIO()
        writer = csv.DictWriter(text, ["epoch", *COLUMNS], lineterminator="\n")
        writer.writeheader()
        for epoch in sorted(self._rows):
            rounded = {name: f"{value:.6g}" for name, value in self._rows[epoch].items()}
            writer.writerow({"epoch": epoch, **rounded})
        write_whole(self._folder / LOG, text.getvalue().encode())
        if last or time.monotonic() - self._drawn >= DRAW_SECONDS:
            write_whole(self._folder / PICTURE, self._draw())
            self._drawn = time.monotonic()

    def _draw(self) -> bytes:
        """The curves as a PNG."""
        with own_matplotlib():
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure

            figure = Figure(figsize=(11, 7), layout="constrained")
            for place, (title, names) in enumerate(_PANELS.items(), start=1):
                axes = figure.add_subplot(2, 2, place)
                axes.set(title=title, xlabel="epoch")
                axes.grid(alpha=0.3)
                for name in names:
                    points = [(epoch, row[name]) for epoch, row in sorted(self._rows.items()) if name in row]
                    if points:
                        axes.plot(*zip(*points, strict=True), marker=".", label=name)
                if axes.lines:
                    axes.legend()
            drawn = io.BytesIO()
            FigureCanvasAgg(figure).print_png(drawn)
            return drawn.getvalue()

    def close(self) -> None:
        """Write out what TensorBoard has not got yet."""
        if self._writer:
            self._writer.close()


def is_log(path: Path) -> bool:
    """Whether a file is a log that a run of this program wrote."""
    with suppress(OSError, UnicodeDecodeError), path.open(encoding="utf-8") as file:
        return file.readline().startswith("epoch,learning_rate,")
    return False
