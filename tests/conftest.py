"""What several test folders share, and the rule that in CI a test may only skip for want of evaluation data."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from reid_tracker.offline import import_ultralytics, silence_runtimes

if TYPE_CHECKING:
    from command_world import Run
    from selenium import webdriver

sys.path.insert(0, str(Path(__file__).parent))  # for tracking_world.py
# A test may import a runtime before the package does. OpenVINO's telemetry would fork this process to report it, and a
# fork while another thread starts a program keeps that one waiting for ever.
silence_runtimes()

NAMES = {0: "car", 1: "Person", 2: "dog"}
ARCHITECTURE = """
nc: 3
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 2]]
head:
  - [[2, 3, 4], 1, Detect, [nc]]
"""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        without_data = not os.environ.get("REID_TRACKER_DATA") and item.get_closest_marker("needs_data")
        if not without_data:
            report.outcome = "failed"
            report.longrepr = (
                f"{item.nodeid}: skipped ({report.longrepr}); in CI only missing evaluation data may do that"
            )
    return report


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of evaluation data; for tests marked `needs_data`."""
    folder = os.environ.get("REID_TRACKER_DATA")
    if not folder:
        pytest.skip("REID_TRACKER_DATA is not set")
    return Path(folder)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> "Run":
    """The command line, in this process."""
    from command_world import Run

    return Run(monkeypatch, capsys)


@pytest.fixture(scope="session")
def tiny_yolo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YOLO of a few thousand random weights, as a checkpoint file."""
    folder = tmp_path_factory.mktemp("yolo")
    (folder / "tiny.yaml").write_text(ARCHITECTURE)
    torch.manual_seed(0)
    yolo = import_ultralytics().YOLO(folder / "tiny.yaml")
    yolo.model.names = NAMES
    for *_, score in yolo.model.model[-1].cv3:  # a fresh head is sure of nothing: spread its scores over 0..1
        torch.nn.init.normal_(score.weight, std=3)
        torch.nn.init.zeros_(score.bias)
    yolo.save(folder / "tiny.pt")
    return folder / "tiny.pt"


@pytest.fixture(scope="session")
def browser() -> Iterator["webdriver.Chrome"]:
    """Chromium, for the pages."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no Chromium: make test installs chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1300,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    yield browser
    browser.quit()
