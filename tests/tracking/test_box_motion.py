import numpy as np
from tracking_world import person

from reid_tracker.tracking.box_motion import BoxMotion


def walkers(frames: int, shake: float, seed: int = 0):
    """Six people who walk their own ways; the camera's shift so far; their boxes [6, 4] of each frame."""
    rng = np.random.default_rng(seed)
    start, speed = np.array([[90.0 * k, 100.0] for k in range(6)]), rng.normal(0, 2, (6, 2))
    camera = np.zeros(2)
    for frame in range(frames):
        camera = camera + rng.normal(0, shake, 2)
        corners = start + frame * speed / 10 + camera + rng.normal(0, 1, (6, 2))
        yield camera, np.array([person(*corner) for corner in corners])


def test_the_shift_of_a_shaken_camera_is_found_and_a_standing_one_is_not_followed():
    for shake, moving in ((5.0, True), (0.0, False)):
        motion, before, followed, errors = BoxMotion(), None, 0, []
        for camera, boxes in walkers(120, shake):
            measured = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
            if before is not None:
                found = motion.estimate(before[1], np.full((6, 2), 8.0), measured)
                followed += found is not None
                if found is not None:
                    errors.append(np.abs(found[0] - (camera - before[0])).max())
            before = (camera, measured)
        assert (followed > 80) if moving else (followed == 0)
        assert not errors or np.mean(errors) < 2
