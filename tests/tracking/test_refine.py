"""Looking back on a finished run."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from tracking_world import detections, person, seen, unit_vectors

from reid_tracker.config import RefineSettings
from reid_tracker.errors import UserError
from reid_tracker.report.run import Reports
from reid_tracker.tracking.refine import History, read_refused

RATE = 10.0


def history(walks, frames, vectors=True, provisional=None):
    """What a run would have given: ``walks`` are (tracklet, who(frame), place(frame), frames).

    ``provisional`` is tracklet: (its number at first, up to which frame).
    """
    looks, rng, past = unit_vectors(8), np.random.default_rng(0), History()
    for frame in range(frames):
        here = [(tracklet, who(frame), place(frame)) for tracklet, who, place, when in walks if frame in when]
        found = detections([person(*place) for _, _, place in here])
        if here and vectors:
            found.data["embedding"] = seen(looks[[who for _, who, _ in here]], rng).astype(np.float32)
        if here:
            found.data["tracklet"] = np.array([tracklet for tracklet, _, _ in here])
            first = {each: number for each, (number, until) in (provisional or {}).items() if frame < until}
            found.tracker_id = np.array([first.get(tracklet, tracklet) for tracklet, _, _ in here])
        past.write(
            SimpleNamespace(frame=SimpleNamespace(index=frame, timestamp=frame / RATE), tracks=found, detections=found)
        )
    return past


def always(value):
    return lambda frame: value


BYSTANDERS = [(90, always(6), always((1000, 100)), range(400)), (91, always(7), always((1200, 100)), range(400))]
DEFAULTS = RefineSettings()


def of(refined, identity):
    """Frames and boxes of one person."""
    rows = [
        (frame, each.xyxy[each.tracker_id == identity][0])
        for frame, each in enumerate(refined)
        if len(each) and identity in each.tracker_id
    ]
    return [frame for frame, _ in rows], np.array([box for _, box in rows])


def identities(refined):
    return {number for each in refined if len(each) for number in each.tracker_id.tolist()}


def test_who_comes_back_elsewhere_gets_the_old_number():
    walks = [
        *BYSTANDERS,
        (1, always(0), lambda f: (100 + f, 100), range(100)),
        (2, always(0), lambda f: (500 - f, 100), range(300, 380)),
        (3, always(1), always((400, 100)), range(320, 400)),
    ]
    refined = history(walks, 400).refined(DEFAULTS).tracks
    assert identities(refined) == {1, 3, 90, 91}
    frames, _ = of(refined, 1)
    assert frames == [*range(100), *range(300, 380)]  # so long an absence is not filled in
    assert identities(history(walks, 400).refined(RefineSettings(link_seconds=10)).tracks) == {1, 2, 3, 90, 91}


def test_who_is_cut_off_gets_a_number_that_nobody_has():
    walks = [*BYSTANDERS, (1, lambda f: int(f >= 200), lambda f: (100 + f, 100), range(400))]
    (new,) = identities(history(walks, 400).refined(DEFAULTS).tracks) - {1, 90, 91}
    assert new == 92  # the next one
    taken = history(walks, 400).refined(DEFAULTS, new_numbers=lambda count: 700 + np.arange(count)).tracks
    assert identities(taken) == {1, 90, 91, 700}  # a gallery's: the next one may be somebody else's


def test_people_in_sight_together_are_never_one_whatever_they_look_like():
    walks = [
        *BYSTANDERS,
        (1, always(0), lambda f: (100 + f, 100), range(100)),
        (2, always(0), always((600, 100)), range(99, 200)),
    ]
    assert identities(history(walks, 400).refined(DEFAULTS).tracks) == {1, 2, 90, 91}


def test_nobody_is_faster_than_walking():
    walks = [
        *BYSTANDERS,
        (1, always(0), always((100, 100)), range(100)),
        (2, always(0), always((800, 100)), range(102, 200)),
    ]
    assert identities(history(walks, 400).refined(DEFAULTS).tracks) == {1, 2, 90, 91}


@pytest.mark.parametrize("vectors", [True, False])
def test_a_swap_is_repaired(vectors):
    # Two people cross at frame 60; from there on the online tracklets follow the other one.
    def place(who):
        return (lambda f: (100 + 6 * f, 100)) if who == 0 else (lambda f: (820 - 6 * f, 110))

    def crossing(first):
        return lambda f: first if f < 60 else 1 - first

    walks = [*BYSTANDERS]
    for tracklet, first in ((1, 0), (2, 1)):
        who = crossing(first)
        walks.append((tracklet, who, lambda f, who=who: place(who(f))(f), range(100)))
    refined = history(walks, 400, vectors=vectors).refined(DEFAULTS).tracks
    assert identities(refined) == {1, 2, 90, 91}
    for identity, who in ((1, 0), (2, 1)):
        frames, boxes = of(refined, identity)
        assert frames == list(range(100))
        right = np.abs(boxes[:, 0] - np.array([place(who)(f)[0] for f in frames])) < 1
        assert right.all() if vectors else right.sum() == 61  # motion alone cannot know


def test_short_gaps_are_filled_with_a_line_and_long_ones_left():
    walks = [
        (1, always(0), lambda f: (100 + 3 * f, 100), [f for f in range(100) if not (20 <= f < 35 or 50 <= f < 75)])
    ]
    refined = history(walks, 100).refined(DEFAULTS).tracks
    frames, boxes = of(refined, 1)
    assert frames == [f for f in range(100) if not 50 <= f < 75]
    np.testing.assert_allclose(boxes, [person(100 + 3 * f) for f in frames], atol=1e-3)
    assert {frame for frame in frames if refined[frame].confidence[0] == 0} == set(range(20, 35))


def test_a_number_given_before_a_recognition_is_not_another_person():
    walks = [(1, always(0), always((100, 100)), range(50))]
    assert identities(history(walks, 50, provisional={1: (9, 5)}).refined(DEFAULTS).tracks) == {1}


def test_nobody_at_all():
    assert [len(each) for each in history([], 5).refined(DEFAULTS).tracks] == [0] * 5


def test_what_was_cut_and_joined_is_told_and_a_refused_join_is_not_made_again(tmp_path):
    """Times, numbers and distances; times in the report are rounded."""
    walks = [
        *BYSTANDERS,
        (1, always(0), lambda f: (100 + f, 100), range(100)),
        (2, always(0), lambda f: (100 + f, 100), range(131, 230)),
    ]
    found = history(walks, 230).refined(DEFAULTS)
    (join,) = found.joins
    assert (join.number, join.following, found.cuts) == (1, 2, [])
    assert (
        join.began - join.ended == pytest.approx(32 / RATE) and join.cost <= DEFAULTS.link_limit and join.distance < 0.3
    )
    report = {"joins": [{**join._asdict(), "ended": round(join.ended, 3), "refused": True}]}
    (tmp_path / "report.json").write_text(json.dumps(report))
    again = history(walks, 230).refined(DEFAULTS, read_refused(tmp_path / "report.json"))
    assert identities(found.tracks) == {1, 90, 91}
    assert identities(again.tracks) == {1, 2, 90, 91} and again.joins == []
    assert again.refused == found.joins and found.refused == []
    (told,) = json.loads(Reports(None, hindsight=again).make("decisions"))["joins"]  # the next run may be given this
    assert told == {**join._asdict(), "refused": True}
    report["joins"][0]["refused"] = "false"
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(UserError, match="true or false"):
        read_refused(tmp_path / "report.json")
    report["joins"][0]["refused"] = False
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert read_refused(tmp_path / "report.json") == []
    changed = [*BYSTANDERS, (1, lambda f: 0 if f < 60 else 1, lambda f: (100 + 2 * f, 100), range(120))]
    (cut,) = history(changed, 230).refined(DEFAULTS).cuts
    assert cut.number == 1 and cut.before < cut.after and cut.after == pytest.approx(60 / RATE, abs=0.5)
    assert cut.distance > DEFAULTS.split_distance


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"joins": 3}', '{"joins": [{"refused": true}]}', "[" * 10_000])
def test_what_is_no_report_is_refused(tmp_path, text):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(UserError, match="not a report"):
        read_refused(tmp_path / "report.json")
    with pytest.raises(UserError, match="cannot be read"):
        read_refused(tmp_path / "none.json")
