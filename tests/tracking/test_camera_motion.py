"""The camera's motion, on pictures that this test moves itself."""

import cv2
import numpy as np
import pytest
from tracking_world import detections

from reid_tracker.config import TrackerSettings
from reid_tracker.tracking.camera_motion import CameraMotion, FollowingGain, warp, zoom
from reid_tracker.tracking.kalman import boxes, initiate, measure
from reid_tracker.tracking.tracker import Tracker


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 255, (60, 90, 3), dtype=np.uint8), (900, 600), interpolation=cv2.INTER_CUBIC)
    return cv2.GaussianBlur(picture, (0, 0), 2)


def view(scene, left, top):
    return np.ascontiguousarray(scene[top : top + 400, left : left + 600])


def test_a_pan_is_measured(scene):
    camera = CameraMotion()
    assert camera.estimate(view(scene, 100, 100), np.zeros((0, 4))) is None
    matrix = camera.estimate(view(scene, 112, 95), np.zeros((0, 4)))
    np.testing.assert_allclose(matrix, [[1, 0, -12], [0, 1, 5]], atol=0.7)
    np.testing.assert_allclose(matrix[:, :2], np.eye(2), atol=0.005)


def test_a_still_camera_and_a_blank_picture_move_nothing(scene):
    camera = CameraMotion()
    camera.estimate(view(scene, 100, 100), np.zeros((0, 4)))
    assert camera.estimate(view(scene, 100, 100), np.zeros((0, 4))) is None
    blank = np.zeros((400, 600, 3), dtype=np.uint8)
    assert camera.estimate(blank, np.zeros((0, 4))) is None
    assert camera.estimate(blank, np.zeros((0, 4))) is None


def test_a_camera_long_still_is_seldom_looked_at_and_a_jolt_is_seen_at_once(scene, monkeypatch):
    looks = []
    flow = cv2.calcOpticalFlowPyrLK
    monkeypatch.setattr(cv2, "calcOpticalFlowPyrLK", lambda *arguments: looks.append(1) or flow(*arguments))
    camera, nobody, random = CameraMotion(), np.zeros((0, 4)), np.random.default_rng(0)
    noisy = [cv2.add(view(scene, 100, 100), random.integers(0, 5, (400, 600, 3), dtype=np.uint8)) for _ in range(60)]
    assert all(camera.estimate(picture, nobody) is None for picture in noisy)
    assert len(looks) < 32
    jolt = camera.estimate(view(scene, 112, 95), nobody)
    np.testing.assert_allclose(jolt, [[1, 0, -12], [0, 1, 5]], atol=0.7)
    for step in range(1, 4):  # moving again, each frame counts
        after = camera.estimate(view(scene, 112 + 4 * step, 95), nobody)
        np.testing.assert_allclose(after, [[1, 0, -4], [0, 1, 0]], atol=0.7)


def test_flicker_is_no_motion():
    camera, random = CameraMotion(), np.random.default_rng(0)
    noise = [cv2.blur(random.integers(0, 255, (400, 600, 3), dtype=np.uint8), (5, 5)) for _ in range(10)]
    assert all(camera.estimate(picture, np.zeros((0, 4))) is None for picture in noise)


def test_moving_people_are_not_taken_for_the_camera(scene):
    camera, still = CameraMotion(), view(scene, 100, 100)
    moved = still.copy()
    moved[100:300, 100:450] = still[100:300, 130:480]
    everywhere_but_the_rim = np.array([[90.0, 90, 500, 310]])
    camera.estimate(still, everywhere_but_the_rim)
    assert camera.estimate(moved, everywhere_but_the_rim) is None


def test_warp_moves_boxes_as_the_picture_moves():
    corners = np.array([[10.0, 20, 50, 120], [200, 30, 260, 170]])
    mean, covariance = initiate(measure(corners))
    matrix = np.array([[2.0, 0, 5], [0, 2, -7]])
    moved, spread = warp(mean, matrix), covariance * zoom(matrix) ** 2
    np.testing.assert_allclose(boxes(moved), corners * 2 + [5, -7, 5, -7])
    np.testing.assert_allclose(spread, covariance * 4)


def test_a_slow_pan_adds_up_for_whoever_is_out_of_sight(scene):
    """It is .2 px a frame where the motion is measured: less than what is told from a camera that stands."""
    tracker, camera, total = Tracker(frame_rate=30), CameraMotion(), np.zeros(2)
    behind, before = np.array([[300.0, 100, 308, 160]]), np.array([[450.0, 200, 480, 290]])
    for step in range(60):
        shift = 0.4 * max(step - 15, 0)
        picture = cv2.getRectSubPix(scene, (600, 400), (400 + shift, 300))
        people = [before - [shift, 0, shift, 0]] + [behind - [shift, 0, shift, 0]] * (step < 15 or step >= 40)
        tracks = tracker.update(detections(np.concatenate(people)), image=picture)
        if (matrix := camera.estimate(picture, np.concatenate(people))) is not None:
            assert 1 < camera.steps <= 10
            total += matrix[:, 2]
        if step == 10:
            known = tracks.tracker_id.tolist()
    assert tracks.tracker_id.tolist() == known == [1, 2]
    assert total == pytest.approx([-0.4 * 44, 0], abs=2)


@pytest.mark.parametrize("follow", [False, True])
def test_the_tracker_survives_a_jolt_only_when_it_follows_the_camera(scene, follow):
    tracker = Tracker(TrackerSettings(camera_motion=follow), frame_rate=10)
    person = np.array([[300.0, 100, 340, 200]])
    tracker.update(detections(person), image=view(scene, 60, 100))
    tracker.update(detections(person), image=view(scene, 60, 100))
    after = [tracker.update(detections(person - [45, 0, 45, 0]), image=view(scene, 105, 100)) for _ in range(3)]
    assert (after[0].tracker_id.tolist() == [1] if len(after[0]) else False) is follow


def test_a_motion_that_carries_people_away_from_their_boxes_is_not_followed_and_a_true_one_is():
    rng = np.random.default_rng(0)
    where, variance = rng.uniform(0, 1000, (6, 2)), np.full((6, 2), 9.0)
    feigned, true = FollowingGain(), FollowingGain()
    assert feigned.worth
    for _ in range(40):
        motion, measured = rng.normal(0, 2, 2), where + rng.normal(0, 2, (6, 2))
        feigned.learn(where, where + motion, variance, measured)
        true.learn(where, where + motion, variance, measured + motion)
    assert true.worth and not feigned.worth
    for _ in range(100):  # the camera is taken in the hand
        motion = rng.normal(0, 4, 2)
        feigned.learn(where, where + motion, variance, where + motion + rng.normal(0, 2, (6, 2)))
    assert feigned.worth
