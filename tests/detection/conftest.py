import numpy as np
import pytest

from reid_tracker.video.frames import Frame


@pytest.fixture
def frame() -> Frame:
    """A frame of noise, wider than it is high."""
    return Frame(image=np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8), index=0, timestamp=0.0)
