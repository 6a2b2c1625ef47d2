"""People whom the detector misses for a moment."""

import json

import numpy as np
import supervision as sv
from tracking_world import detections, person, unit_vectors

from reid_tracker import TrackConfig, Tracker, track
from reid_tracker.config import load
from reid_tracker.counting import PassageCounter, parse_shapes
from reid_tracker.motchallenge import read_rows
from reid_tracker.tracking.bridge import Bridge, measured
from reid_tracker.video.annotate import Annotator
from reid_tracker.video.frames import Frame
from reid_tracker.video.sinks import CropSink, FrameResult

LOOKS = unit_vectors(2)


def walked(frames=11, step=5.0, **columns):
    """A tracker that has seen one person walk to the right and another stand, at 10 frames a second."""
    tracker = Tracker(frame_rate=10)
    for k in range(frames):
        tracker.update(detections([person(100 + step * k), person(600)], embedding=LOOKS, **columns))
    return tracker


def miss(tracker, **columns):
    """The standing one only."""
    return tracker.update(detections([person(600)], embedding=LOOKS[1:], **columns))


def test_who_is_missed_for_a_moment_is_where_they_would_have_walked():
    tracker, bridge = walked(), Bridge(0.5)
    for k in range(11, 16):
        tracks = bridge(miss(tracker), tracker)
        assert tracks.tracker_id.tolist() == [2, 1]
        np.testing.assert_allclose(tracks.confidence, [0.9, 0], atol=1e-6)
        np.testing.assert_allclose(tracks.xyxy[1], person(100 + 5 * k), atol=4)
        assert tracks.data["tracklet"].tolist() == [2, 1]
        assert np.isnan(tracks.data["embedding"][1]).all() and not np.isnan(tracks.data["embedding"][0]).any()
    assert bridge(miss(tracker), tracker).tracker_id.tolist() == [2]  # longer than a moment
    assert Bridge(0)(miss(walked()), walked()).tracker_id.tolist() == [2]


def test_nobody_is_expected_who_was_hardly_there():
    tracker = walked(frames=10)
    assert Bridge(0.5)(miss(tracker), tracker).tracker_id.tolist() == [2]


def test_whoever_is_seen_again_stands_there_once():
    tracker, bridge = walked(), Bridge(0.5)
    bridge(miss(tracker), tracker)
    tracks = tracker.update(detections([person(160), person(600)], embedding=LOOKS))
    assert bridge(tracks, tracker).tracker_id.tolist() == [1, 2]


def test_nobody_is_expected_at_the_edge_over_which_they_left():
    for width, expected in ((2000, [2, 1]), (195, [2])):
        tracker = walked()
        assert Bridge(0.5)(miss(tracker), tracker, (width, 300)).tracker_id.tolist() == expected


def test_what_nobody_measured_is_blank():
    kinds = {"class_id": [3, 3]}
    tracker, bridge = walked(**kinds), Bridge(0.5, shown=lambda number: 10 * number)
    given = tracker.update(detections([person(150), person(600)], embedding=LOOKS, **kinds))
    given.data["class_name"] = np.array(["dog", "dog"])
    assert bridge(given, tracker).tracker_id.tolist() == [1, 2]
    tracks = miss(tracker, class_id=[3])
    tracks.data |= {"class_name": np.array(["dog"]), "note": np.array(["seen"], object), "count": np.array([7])}
    tracks.mask = np.ones((1, 4, 4), dtype=bool)
    whole = bridge(tracks, tracker)
    assert whole.class_id.tolist() == [3, 3] and whole.data["class_name"].tolist() == ["dog", "dog"]
    assert whole.data["note"].tolist() == ["seen", None] and whole.data["count"].tolist() == [7, 0]
    assert whole.mask.sum(axis=(1, 2)).tolist() == [16, 0] and whole.tracker_id.tolist() == [2, 10]
    assert len(whole[whole.confidence == 0]) == 1 and len(measured(whole)) == 1


def test_detections_without_confidence_are_sure_and_classless_ones_stay_so():
    tracker = Tracker(frame_rate=10)
    for _ in range(11):
        tracker.update(sv.Detections(np.array([person(0), person(300)], dtype=np.float32)))
    tracks = Bridge(0.5)(tracker.update(sv.Detections(np.array([person(300)], dtype=np.float32))), tracker)
    assert tracks.confidence.tolist() == [1, 0] and tracks.class_id is None


def test_an_empty_frame_still_shows_who_was_there():
    tracker = walked()
    assert sorted(Bridge(0.5)(tracker.update(sv.Detections.empty()), tracker).tracker_id.tolist()) == [1, 2]


def test_only_what_was_seen_is_cut_out_and_counted(tmp_path):
    tracker, bridge = walked(frames=12), Bridge(0.5)
    counter, careless = (PassageCounter(parse_shapes(["door=180,300 180,0"], [])) for _ in range(2))
    crops = CropSink(tmp_path, every_seconds=0)
    image = np.full((300, 800, 3), 90, np.uint8)
    seen = tracker.update(detections([person(158), person(600)], embedding=LOOKS))
    counter.update(seen, 1.2), careless.update(seen, 1.2)
    for k in range(4):
        tracks = bridge(miss(tracker), tracker)
        counter.update(measured(tracks), 1.3 + 0.1 * k), careless.update(tracks, 1.3 + 0.1 * k)
        crops.write(FrameResult(Frame(image, k, 1.3 + 0.1 * k), tracks, tracks))
    assert tracks.xyxy[1, 0] > 165 and {path.name for path in tmp_path.iterdir()} == {"000002"}
    nobody = {"door": {"in": {}, "out": {}}}
    assert counter.by_identity() == nobody != careless.by_identity()


def test_a_box_of_somebody_not_seen_has_corners_only():
    tracker, image = walked(), np.zeros((300, 800, 3), np.uint8)
    tracks = Bridge(0.5)(miss(tracker), tracker)
    drawn = Annotator(trail_seconds=0).draw(image, tracks, tracks, 0.0)
    left, _, _, bottom = tracks.xyxy[1].round().astype(int)
    edge = drawn[bottom - 60 : bottom - 40, left - 2 : left + 3]  # the middle of the left side
    assert not edge.any() and drawn[bottom - 6 : bottom, left - 2 : left + 3].any()
    left, _, _, bottom = tracks.xyxy[0].round().astype(int)
    assert drawn[bottom - 60 : bottom - 40, left - 2 : left + 3].any()


def test_written_rows_say_that_nobody_was_seen(tmp_path):
    rows = "".join(
        f"{frame},-1,{100 + 4 * frame},50,30,80,0.9,-1,-1,-1\n" for frame in range(1, 21) if frame not in (12, 13)
    )
    (tmp_path / "walk" / "det").mkdir(parents=True)
    (tmp_path / "walk" / "det" / "det.txt").write_text(rows)
    (tmp_path / "walk" / "seqinfo.ini").write_text(
        "[Sequence]\nname=walk\nimDir=img1\nframeRate=10\nseqLength=20\nimWidth=640\nimHeight=480\nimExt=.jpg\n"
    )
    asked = {"detector.recorded": "{source}/det/det.txt", "output.mot": True, "output.jsonl": True}
    track([tmp_path / "walk"], load(TrackConfig, None, {**asked, "output.folder": str(tmp_path / "out")}))
    written = read_rows(tmp_path / "out" / "walk.txt")
    assert written[:, 0].tolist() == list(range(1, 21)) and written[written[:, 6] == 0, 0].tolist() == [12, 13]
    lines = [json.loads(line) for line in (tmp_path / "out" / "walk.jsonl").read_text().splitlines()]
    assert [each["tracks"][0]["confidence"] for each in lines[10:14]] == [0.9, 0.0, 0.0, 0.9]
