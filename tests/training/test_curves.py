import sys
from pathlib import Path
from types import ModuleType

import cv2
import pytest

from reid_tracker.errors import UserError
from reid_tracker.training.curves import Curves, is_log
from reid_tracker.training.trainer import Trainer


def test_figures_go_to_tensorboard_by_name_and_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path / "tensorboard")

        def add_scalar(self, name: str, value: float, epoch: int) -> None:
            written.append((name, value, epoch))

        def close(self) -> None:
            written.append(("closed", 0, 0))

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    curves = Curves(tmp_path)
    curves.open_tensorboard(tmp_path / "tensorboard")
    curves.add(3, {"metric": 0.5, "mAP": 0.25})
    curves.close()
    assert written == [("loss/metric", 0.5, 3), ("validation/mAP", 0.25, 3), ("closed", 0, 0)]


def test_without_tensorboard_curves_say_what_to_install_and_nothing_else_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"reid-tracker\[train\]"):
        Curves(tmp_path).open_tensorboard(tmp_path / "tensorboard")
    Curves(tmp_path).close()
    assert not list(tmp_path.iterdir())


def test_the_log_holds_a_row_an_epoch_and_goes_on_where_a_run_was_broken_off(tmp_path: Path) -> None:
    curves = Curves(tmp_path)
    curves.add(0, {"rank1": 0.25})
    for epoch in (1, 2, 3):
        curves.add(epoch, {"metric": 1 / epoch, "learning_rate": 1e-4})
        curves.write(last=False)  # the log at once, the picture from time to time
        assert is_log(tmp_path / "log.csv") and not (tmp_path / "curves.png").exists()
    curves.write()
    assert (tmp_path / "log.csv").read_text().splitlines()[:3] == [
        "epoch,learning_rate,metric,classifier,teacher,active,same,strangers,rank1,mAP",
        "0,,,,,,,,0.25,",
        "1,0.0001,1,,,,,,,",
    ]
    assert is_log(tmp_path / "log.csv") and not is_log(tmp_path / "curves.png")
    picture = cv2.imread(str(tmp_path / "curves.png"))
    assert picture.shape[1] > 800 and picture.std() > 5
    resumed = Curves(tmp_path)
    resumed.go_on(2)
    resumed.add(3, {"metric": 7})
    resumed.write()
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert rows[1:3] == ["0,,,,,,,,0.25,", "1,0.0001,1,,,,,,,"] and rows[4] == "3,,7,,,,,,,"


def test_a_resumed_run_goes_on_in_its_own_curves_and_a_new_one_begins_its_own(tmp_path: Path) -> None:
    """Asked of the trainer, whose epoch says which of the two it is."""
    trainer = object.__new__(Trainer)
    trainer.output = tmp_path
    folders = []
    for epoch in (0, 3, 0, 2):
        trainer.epoch = epoch
        folders.append(trainer._tensorboard_folder().name)
        (tmp_path / folders[-1]).mkdir(exist_ok=True)
    assert folders == ["tensorboard", "tensorboard", "tensorboard-2", "tensorboard-2"]
