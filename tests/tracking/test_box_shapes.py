"""Boxes of a shape that nobody in the scene has are doubted, and people of any shape are still found."""

import numpy as np
import pytest
from tracking_world import detections, person

from reid_tracker import Tracker
from reid_tracker.tracking.box_shapes import HALVED_AT, MEMORY, BoxShapes

PEOPLE = [person(150.0 * k) for k in range(4)]


def judged(shapes: BoxShapes, boxes: list[list[float]], confidence: list[float], kinds: list[int] | None = None):
    xyxy = np.array(boxes, dtype=np.float32)
    return shapes.judge(xyxy, np.array(confidence), np.array(kinds or [0] * len(boxes)), 0.65)


def new_tracks(odd: list[float], confidence: float) -> int:
    """Tracks that begin at a box ``odd`` among four people."""
    tracker = Tracker(frame_rate=10)
    for _ in range(5):
        tracker.update(detections(PEOPLE, 0.9))
    for _ in range(5):
        found = tracker.update(detections([*PEOPLE, odd], [0.9] * 4 + [confidence]))
    return len(found) - len(PEOPLE)


def test_a_bag_needs_more_confidence_than_a_person_does():
    bag = person(700.0, y=160, width=45, height=40)
    assert [new_tracks(person(700.0), 0.7), new_tracks(bag, 0.7), new_tracks(bag, 0.9)] == [1, 0, 1]


def test_odds_are_halved_where_it_says_so():
    shapes = BoxShapes()
    wide = person(0, width=40 * np.exp(HALVED_AT))
    thin = person(0, width=40 / np.exp(HALVED_AT))
    judged(shapes, PEOPLE, [0.9] * 4)
    assert judged(shapes, [wide, thin, person(5)], [0.6, 0.6, 0.6]) == pytest.approx([0.75 / 1.75, 0.6, 0.6])


def test_nothing_is_surer_than_the_detector_and_impossible_confidences_stay():
    rng, shapes = np.random.default_rng(0), BoxShapes()
    for _ in range(30):
        boxes = [person(*rng.uniform(0, 500, 2), *rng.uniform(1, 300, 2)) for _ in range(8)]
        confidence = [-0.5, 0.0, 1.0, 55.0, *rng.uniform(0, 1, 4)]
        worth = judged(shapes, boxes, confidence)
        assert np.isfinite(worth).all() and (worth <= np.array(confidence) + 1e-12).all()
        assert worth[:4].tolist() == confidence[:4]


def test_each_class_has_a_shape_of_its_own():
    shapes, cars = BoxShapes(), [person(200.0 * k, width=180, height=100) for k in range(3)]
    for _ in range(3):
        judged(shapes, PEOPLE + cars, [0.9] * 7, [0] * 4 + [2] * 3)
    assert judged(shapes, cars[:1] * 2 + PEOPLE[:1], [0.6] * 3, [2, 0, 0])[[0, 2]] == pytest.approx([0.6, 0.6])
    assert judged(shapes, cars[:1], [0.6], [0])[0] < 0.4
    assert judged(shapes, [person(0, width=300, height=20)], [0.6], [7]) == pytest.approx([0.6])  # never seen


def test_what_is_usual_follows_the_scene():
    shapes, sitting = BoxShapes(), [person(150.0 * k, width=90) for k in range(4)]
    judged(shapes, PEOPLE, [0.9] * 4)
    before = judged(shapes, sitting, [0.6] * 4)[0]
    for _ in range(MEMORY // 4):
        judged(shapes, sitting, [0.9] * 4)
    assert before < 0.55 and judged(shapes, sitting, [0.6] * 4) == pytest.approx([0.6] * 4)
    many = [person(2.0 * k) for k in range(3 * MEMORY)]  # more than are remembered, in one frame
    assert judged(shapes, many, [0.9] * len(many)) == pytest.approx([0.9] * len(many))
