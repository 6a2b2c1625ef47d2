"""What several test folders share, and the rule that in CI a test may only skip for want of evaluation data."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for tracking_world.py


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
