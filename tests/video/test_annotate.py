import subprocess
import sys

import numpy as np
import pytest
import supervision as sv
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reid_tracker.video.annotate import Annotator, clip_boxes, identity_color

HEIGHT, WIDTH = 240, 320
GREY = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
NOISE = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
NOTHING = sv.Detections.empty()


def tracks_of(rows: dict[int, list[float]], classes: list[int] | None = None, tracklet: int = 0) -> sv.Detections:
    return sv.Detections(
        np.array(list(rows.values()), np.float32),
        confidence=np.ones(len(rows), np.float32),
        class_id=np.array(classes or [0] * len(rows)),
        tracker_id=np.array(list(rows)),
        data={"tracklet": np.full(len(rows), tracklet)},
    )


def detections_of(xyxy: np.ndarray) -> sv.Detections:
    """Detections with any boxes, also those that the constructor refuses."""
    rows = np.arange(len(xyxy))
    detections = sv.Detections(np.zeros_like(xyxy), tracker_id=rows * 31, class_id=rows % 2)
    detections.xyxy = xyxy
    return detections


def has_color(region: np.ndarray, identity: int) -> bool:
    return bool((region == identity_color(identity)[::-1]).all(axis=-1).any())


def test_colour_belongs_to_the_identity_not_to_the_row() -> None:
    boxes = {7: [40, 60, 90, 180], 12: [200, 60, 250, 180]}
    drawn = Annotator().draw(GREY, tracks_of(boxes), NOTHING, 0.0)
    swapped = Annotator().draw(GREY, tracks_of(dict(reversed(boxes.items()))), NOTHING, 0.0)
    assert (drawn == swapped).all()
    assert has_color(drawn[:, :150], 7) and not has_color(drawn[:, :150], 12)
    assert has_color(drawn[:, 150:], 12) and not has_color(drawn[:, 150:], 7)
    alone = Annotator().draw(GREY, tracks_of({12: [10, 60, 60, 180]}), NOTHING, 5.0)
    assert has_color(alone, 12)


def test_neighbouring_identities_differ_in_colour() -> None:
    colors = np.array([identity_color(identity) for identity in range(200)], float)
    for step in (1, 2, 3):
        assert np.linalg.norm(colors[step:] - colors[:-step], axis=1).min() > 60
    assert identity_color(10**12 + 5) == identity_color((10**12 + 5) % 64)


def test_image_is_not_changed_and_labels_stay_off_the_box() -> None:
    image = GREY.copy()
    drawn = Annotator(trail_seconds=0).draw(image, tracks_of({3: [100, 80, 160, 200]}), NOTHING, 0.0)
    assert (image == GREY).all()
    assert (drawn[85:195, 105:155] == 90).all()  # the person is free
    assert (drawn[60:78, 100:160] != 90).any()  # the label sits above


def test_label_names_the_class_once_there_are_several() -> None:
    def label_width(annotator: Annotator, classes: list[int]) -> int:
        tracks = tracks_of({1: [50, 80, 60, 120], 2: [200, 180, 210, 220]}, classes)
        tracks.data["class_name"] = np.array([["person", "bicycle"][kind] for kind in classes])
        drawn = annotator.draw(GREY, tracks, NOTHING, 0.0)
        return int((drawn[55:78] != 90).any(axis=(0, 2)).sum())

    annotator = Annotator()
    one = label_width(annotator, [0, 0])
    several = label_width(annotator, [0, 1])
    assert several > one + 20
    assert label_width(annotator, [0, 0]) == several  # labels do not flicker


def test_who_may_be_somebody_known_says_so() -> None:
    def label_width(perhaps: list[int]) -> int:
        tracks = tracks_of({12: [50, 80, 60, 120]})
        tracks.data["perhaps"] = np.array(perhaps)
        drawn = Annotator().draw(GREY, tracks, NOTHING, 0.0)
        return int((drawn[55:78] != 90).any(axis=(0, 2)).sum())

    assert label_width([7]) > label_width([0]) + 20  # "#12 (#7?)"


@pytest.mark.parametrize(
    "box", [[60, 60, 120, 180], [-50, 20, 40, 100], [280, 200, 900, 900], [-1e9, -1e9, 30, 30], [100, 50, np.inf, 90]]
)
def test_blur_covers_what_the_detector_saw_and_no_more(box: list[float]) -> None:
    seen = detections_of(np.array([box, [np.nan] * 4, [150, 150, 150, 190]], np.float32))
    drawn = Annotator(blur_people=True).draw(NOISE, NOTHING, seen, 0.0)
    (clipped,), _ = clip_boxes(seen.xyxy[:1], WIDTH, HEIGHT)
    left, top, right, bottom = clipped.astype(int)
    assert drawn[top:bottom, left:right].std() < 0.5 * NOISE[top:bottom, left:right].std()
    margin = 0.1 * (clipped[2:] - clipped[:2]) + 1
    outside = np.ones((HEIGHT, WIDTH), bool)
    (near,), _ = clip_boxes(np.array([[*(clipped[:2] - margin), *(clipped[2:] + margin)]]), WIDTH, HEIGHT)
    outside[int(near[1]) : int(np.ceil(near[3])), int(near[0]) : int(np.ceil(near[2]))] = False
    assert (drawn[outside] == NOISE[outside]).all()


def test_blur_also_covers_tracks_and_lies_under_their_boxes() -> None:
    tracks = tracks_of({5: [60, 60, 120, 180]})
    drawn = Annotator(blur_people=True, trail_seconds=0).draw(NOISE, tracks, NOTHING, 0.0)
    assert drawn[70:170, 70:110].std() < 0.5 * NOISE[70:170, 70:110].std()
    assert has_color(drawn[60:180, 60:61], 5)
    assert (Annotator().draw(NOISE, NOTHING, tracks, 0.0) == NOISE).all()


values = st.one_of(st.floats(width=32), st.floats(-50, 400, width=32))


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 6), st.just(4)), elements=values))
@example(np.array([[100, 50, np.inf, 90], [np.nan, 0, 9, 9], [-np.inf, -np.inf, np.inf, np.inf]], np.float32))
def test_no_box_is_too_odd(xyxy: np.ndarray) -> None:
    tracks = detections_of(xyxy)
    annotator = Annotator(blur_people=True)
    for time in (0.0, 0.1):
        drawn = annotator.draw(NOISE, tracks, tracks, time)
        assert drawn.shape == NOISE.shape and drawn.dtype == np.uint8


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 6), st.just(4)), elements=values))
def test_clip_boxes_is_the_slow_loop(xyxy: np.ndarray) -> None:
    expected, rows = [], []
    for row, box in enumerate(xyxy.tolist()):
        if any(np.isnan(box)):
            continue
        left, right = (min(max(value, 0), WIDTH) for value in box[::2])
        top, bottom = (min(max(value, 0), HEIGHT) for value in box[1::2])
        if np.float32(right) - np.float32(left) >= 1 and np.float32(bottom) - np.float32(top) >= 1:
            expected.append([left, top, right, bottom])
            rows.append(row)
    clipped, is_inside = clip_boxes(xyxy, WIDTH, HEIGHT)
    assert clipped.tolist() == expected and np.flatnonzero(is_inside).tolist() == rows


def box_at(x: float) -> list[float]:
    return [x - 5, 100, x + 5, 150]


def trail_columns(drawn: np.ndarray) -> set[int]:
    """Columns in which the row of the foot points is painted."""
    return set(np.flatnonzero((drawn[150] != 90).any(axis=-1)).tolist())


def test_trail_lasts_its_seconds_by_the_clock() -> None:
    annotator = Annotator(trail_seconds=1.0)
    for step in range(21):  # 10 px a step of 0.1 s, from x = 20 to 220
        drawn = annotator.draw(GREY, tracks_of({4: box_at(20 + 10 * step)}), NOTHING, 0.1 * step)
    columns = trail_columns(drawn)
    assert set(range(132, 220)) <= columns and not columns & set(range(125))
    assert trail_columns(annotator.draw(GREY, NOTHING, NOTHING, 2.3)) > set(range(160, 210))  # unseen, it fades
    assert (annotator.draw(GREY, NOTHING, NOTHING, 3.1) == GREY).all()
    assert not trail_columns(Annotator(trail_seconds=0).draw(GREY, NOTHING, NOTHING, 0.0))


def test_trail_is_not_drawn_across_a_return_elsewhere() -> None:
    annotator = Annotator()
    annotator.draw(GREY, tracks_of({4: box_at(30)}, tracklet=1), NOTHING, 0.0)
    drawn = annotator.draw(GREY, tracks_of({4: box_at(250)}, tracklet=2), NOTHING, 0.1)
    assert not trail_columns(drawn) & set(range(60, 240))


def test_trail_is_bounded_at_any_frame_rate() -> None:
    annotator = Annotator(trail_seconds=1e6)
    for step in range(1000):
        drawn = annotator.draw(GREY, tracks_of({4: box_at(20 + step / 4)}), NOTHING, step / 1000)
    columns = trail_columns(drawn)
    assert not columns & set(range(200)) and {220, 250} <= columns


def test_size_of_the_picture_may_change() -> None:
    annotator = Annotator()
    for image in (GREY, GREY[:100, :90], np.zeros((1080, 1920, 3), np.uint8)):
        assert annotator.draw(image, tracks_of({1: [10, 30, 60, 90]}), NOTHING, 0.0).shape == image.shape


def test_names_beyond_ascii_are_drawn_as_they_are_written() -> None:
    def label(name: str) -> bytes:
        annotator = Annotator(trail_seconds=0, label=lambda number: name)
        return annotator.draw(GREY, tracks_of({1: [100, 80, 160, 200]}), NOTHING, 0.0)[:78].tobytes()

    names = ("Zoë", "Zoe", "Елена", "Олена", "Ωρα", "שלום", "Ł", "?")
    assert len({label(name) for name in names}) == len(names)


def test_a_label_wider_than_the_picture_does_not_leave_it() -> None:
    annotator = Annotator(label=lambda number: "a name of many words " * 5)
    for box in ([300, 200, 319, 239], [0, 0, 20, 10]):
        assert annotator.draw(GREY, tracks_of({1: box}), NOTHING, 0.0).shape == GREY.shape


def test_no_letter_of_the_font_ends_the_process() -> None:
    """Each at the sizes in use, in a process of its own: what corrupts the heap shows as an abort."""
    program = r"""
from matplotlib.ft2font import FT2Font
from reid_tracker.video.annotate import FONT, _label
letters = "".join(map(chr, sorted(FT2Font(FONT).get_charmap())))
for size in (12, 14, 22):
    for start in range(0, len(letters), 40):
        _label.__wrapped__(letters[start : start + 40], (255, 0, 0), size)
for name in ("\u1e77", "\u1e18\u1e76", "\u2029", "\0\n", "\ud800", "\u65e5\u672c", "e" + 50 * "\u0301", ""):
    for _ in range(200):
        _label.__wrapped__(name, (255, 0, 0), 12)
print("survived")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "survived"), done.stderr
