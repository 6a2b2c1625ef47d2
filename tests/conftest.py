"""What several test folders share: the evaluation data, and a small world of walking people."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for tracking_world.py


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of evaluation data, or a skip."""
    folder = os.environ.get("REID_TRACKER_DATA")
    if not folder:
        pytest.skip("REID_TRACKER_DATA is not set")
    return Path(folder)
