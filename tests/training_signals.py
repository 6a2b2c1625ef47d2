"""How training ends at a signal; tests/test_endings.py runs this in a process of its own."""

import os
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_world import Run
from test_ownership import FLAGS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: str(number.value))
def test_training_ends(command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    from reid_tracker.training.trainer import Trainer

    for person in "abc":
        (tmp_path / "people" / person).mkdir(parents=True)
        for each in range(2):
            cv2.imwrite(str(tmp_path / "people" / person / f"{each}.jpg"), np.zeros((64, 32, 3), np.uint8))
    epoch = Trainer._train_epoch
    at = {"epoch": 0}

    def end(self, report):
        if self.epoch == at["epoch"]:
            os.kill(os.getpid(), number)
            time.sleep(5)
        return epoch(self, report)

    monkeypatch.setattr(Trainer, "_train_epoch", end)
    train = ["train", tmp_path / "people", "-o", tmp_path / "model", *FLAGS]
    status, _, error = command(*train)
    assert status == 130 and "no epoch was whole yet" in error
    at["epoch"] = 1
    status, _, error = command(*train)
    assert status == 130 and "--resume goes on after the last whole epoch" in error
    at["epoch"] = -1
    assert command(*train, "--resume")[0] == 0
    assert signal.getsignal(number) == signal.SIG_DFL
