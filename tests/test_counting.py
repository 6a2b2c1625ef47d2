"""Counting at lines and in zones."""

import json

import numpy as np
import pytest
from tracking_world import detections, person

from reid_tracker import UserError
from reid_tracker.counting import PassageCounter, describe, parse_shapes

# A line that runs down the picture at x = 300; seen from its first point, left is where x is greater.
DOOR = {"door": np.array([[300, 0], [300, 400]], np.float32)}
YARD = {"yard": np.array([[300, 0], [600, 0], [600, 400], [300, 400]], np.float32)}


def walk(counter, frames, first=0):
    """Counts after frames of (tracklet, identity, x of the feet) each; ten a second."""
    for number, frame in enumerate(frames, first):
        tracks = detections([person(x - 20) for _, _, x in frame])
        if frame:
            tracks.tracker_id = np.array([identity for _, identity, _ in frame])
            tracks.data["tracklet"] = np.array([tracklet for tracklet, _, _ in frame])
        counts = counter.update(tracks, number / 10)
    return counts


def test_passages_and_people_at_a_line():
    there, back = [250, 260, 290, 310, 330, 340], [340, 330, 310, 290, 270, 260]
    frames = [[(1, 1, x), (2, 2, 600 - x)] for x in [*there, *back, *there]]  # the second walks the other way
    door = walk(PassageCounter(DOOR), frames)["lines"]["door"]
    assert door == {"in": 3, "out": 3, "people_in": 2, "people_out": 2}


def test_jitter_on_the_line_is_no_passage():
    assert (
        walk(PassageCounter(DOOR), [[(1, 1, x)] for x in [280, 290, 302, 298, 303, 297, 290]])["lines"]["door"]["in"]
        == 0
    )


def test_who_comes_back_is_counted_once_also_when_that_is_found_out_later():
    first = [[(1, 1, x)] for x in range(250, 350, 10)]
    # Tracklet 2 is taken for somebody new until, past the line, it turns out to be 1.
    second = [[(2, 2 if x < 340 else 1, x)] for x in range(250, 370, 10)]
    counter = PassageCounter(DOOR)
    counts = walk(counter, first + second)
    assert counts["lines"]["door"] == {"in": 2, "out": 0, "people_in": 1, "people_out": 0}
    assert counter.by_identity()["door"] == {"in": {1: 2}, "out": {}}
    assert describe(counts) == ["door: 2 in (1 person), 0 out (0 people)"]
    # The same long after both were seen last: what was counted does not change any more.
    later = counter.update(detections([]), 1000.0)
    assert later == counts


def test_covered_on_the_line_for_a_second():
    frames = [[(1, 1, 280)]] * 5 + [[]] * 10 + [[(1, 1, 320)]] * 5
    assert walk(PassageCounter(DOOR), frames)["lines"]["door"]["in"] == 1


def test_a_return_elsewhere_crosses_nothing():
    frames = [[(1, 1, 200)]] * 5 + [[]] * 70 + [[(2, 1, 500)]] * 5
    counts = walk(PassageCounter(DOOR | YARD), frames)
    assert counts["lines"]["door"]["in"] == 0 and counts["zones"]["yard"]["people"] == 1


def test_the_longest_in_a_zone_is_told_in_seconds():
    stay = [[(1, 1, 400), *([(2, 2, 400)] if moment >= 20 else [])] for moment in range(50)]
    counts = walk(PassageCounter(YARD), stay)["zones"]["yard"]
    assert (counts["inside"], counts["longest"]) == (2, 4)  # from the second sighting, at 0.1 s, to 4.9 s
    assert describe({"lines": {}, "zones": {"yard": counts}})[0].endswith("2 inside, longest 4 s")
    counter = PassageCounter(YARD)
    walk(counter, stay)
    again = PassageCounter(YARD)
    again.restore(json.loads(json.dumps(counter.state())))
    one, other = (each.update(detections([]), 5.0)["zones"]["yard"] for each in (counter, again))
    assert one == other
    assert counter.dwell() == {}  # nobody is in sight
    walk(counter, [[(1, 1, 400), (2, 2, 700)]] * 2, 51)  # the second has gone out
    assert counter.dwell() == {1: {"yard": pytest.approx(5.1)}}
    only_other = [*stay, *([[(2, 2, 400)]] * 3)]
    assert walk(PassageCounter(YARD), only_other)["zones"]["yard"]["longest"] == 3


def test_a_zone():
    frames = [[(1, 1, x), (2, 2, 400)] for x in (200, 350, 250, 350, 400, 650, 650, 400, 400)]
    counts = walk(PassageCounter(YARD), frames)
    assert counts["zones"]["yard"] == {"inside": 2, "in": 3, "out": 1, "people": 2, "longest": 0}
    later = walk(PassageCounter(YARD), [*frames, [(3, 3, 100)]])
    assert describe(later) == ["yard: 2 people, 3 entries, 0 inside"]


def test_another_counter_goes_on_as_if_nothing_had_been():
    xs = [250, 290, 310, 330, 320, 290, 270, 310, 350, 400]
    frames = [[(1, 1, x), (2, 2 if n < 8 else 1, 600 - x)] for n, x in enumerate(xs)] + [[]] * 3 + [[(1, 1, 250)]] * 3
    whole = PassageCounter(DOOR | YARD)
    counts = walk(whole, frames)
    assert counts["lines"]["door"]["in"] == 3 and counts["zones"]["yard"]["in"] == 4
    for cut in range(1, len(frames)):
        first, second = PassageCounter(DOOR | YARD), PassageCounter(DOOR | YARD)
        walk(first, frames[:cut])
        assert second.restore(json.loads(json.dumps(first.state()))) == []
        assert (walk(second, frames[cut:], cut), second.by_identity()) == (counts, whole.by_identity()), cut


def test_only_the_same_place_goes_on():
    first, moved = PassageCounter(DOOR | YARD), PassageCounter({"door": DOOR["door"] + 1} | YARD)
    counts = walk(first, [[(1, 1, x)] for x in (250, 290, 310, 330)])
    assert moved.restore(first.state()) == ["door"]
    later = moved.update(detections([]), 1.0)
    assert later["lines"]["door"]["in"] == 0 and later["zones"]["yard"]["in"] == counts["zones"]["yard"]["in"] == 1
    # Without following, what was done stands, and who is met again under such a number is somebody else.
    stands = PassageCounter(DOOR)
    stands.restore(first.state(), follow=False)
    assert walk(stands, [[(1, 9, 250)]] * 3, 1)["lines"]["door"] == {"in": 1, "out": 0, "people_in": 1, "people_out": 0}


def test_shapes_are_read_with_and_without_names():
    shapes = parse_shapes(["door=0,0 1,5", "1,2 3,4"], ["a = b=0,0 9,0 9,9"])
    assert list(shapes) == ["door", "line 2", "a = b"] and shapes["line 2"].tolist() == [[1, 2], [3, 4]]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("lines", "zones", "words"),
    [
        (["1,2"], [], "line is written as"),
        (["1,2 3,4 5,6"], [], "line is written as"),
        (["1,2 1,2"], [], "mere point"),
        ([], ["1,2 3,4"], "polygon is written as"),
        ([], ["0,0 1e9,0 0,9"], "outside"),
        (["0,0 1e300,9"], [], "outside"),
        (["d\udcff=0,0 1,9"], [], "cannot be shown"),
        (["x=0,0 1,1"], ["x=0,0 1,0 1,1"], "another one of the name 'x'"),
    ],
)
def test_shapes_that_are_none(lines, zones, words):
    with pytest.raises(UserError, match=words):
        parse_shapes(lines, zones)
