import sys
from pathlib import Path
from types import ModuleType

import pytest

from reid_tracker.errors import UserError
from reid_tracker.training.curves import Curves


def test_figures_go_to_tensorboard_by_name_and_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path)

        def add_scalar(self, name: str, value: float, epoch: int) -> None:
            written.append((name, value, epoch))

        def close(self) -> None:
            written.append(("closed", 0, 0))

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    curves = Curves(tmp_path, wanted=True)
    curves.add(3, {"loss/metric": 0.5, "validation/mAP": 0.25})
    curves.close()
    assert written == [("loss/metric", 0.5, 3), ("validation/mAP", 0.25, 3), ("closed", 0, 0)]


def test_without_tensorboard_curves_say_what_to_install_and_nothing_else_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"reid-tracker\[train\]"):
        Curves(tmp_path, wanted=True)
    curves = Curves(tmp_path, wanted=False)
    curves.add(1, {"loss/metric": 0.5})
    curves.close()
    assert not list(tmp_path.iterdir())
