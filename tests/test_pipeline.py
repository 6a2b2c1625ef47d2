"""The whole way from a video to files, on a clip that the test draws itself."""

import json
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
import supervision as sv
from tracking_world import detections, unit_vectors

import reid_tracker
from reid_tracker import RunSummary, TrackConfig, UserError, track
from reid_tracker.config import load
from reid_tracker.counting import PassageCounter
from reid_tracker.motchallenge import read_rows
from reid_tracker.pipeline.follow import parse_polygon
from reid_tracker.results import Outputs
from reid_tracker.video.frames import Frame
from reid_tracker.video.settling import Settling
from reid_tracker.video.sinks import FrameResult

FRAMES, RATE, SIZE = 30, 10, (160, 120)
SPEEDS = {1: (10, 3), 2: (120, -2)}  # identity: first x, px a frame


def truth_boxes(index: int) -> np.ndarray:
    """Where the two people are."""
    return np.array([[x + v * index, 30, x + v * index + 20, 90] for x, v in SPEEDS.values()], dtype=np.float32)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A video of two grey people, and their boxes as a det.txt."""
    folder = tmp_path_factory.mktemp("clip")
    with av.open(str(folder / "walk.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        lines = []
        for index in range(FRAMES):
            image = np.full((SIZE[1], SIZE[0], 3), 40, dtype=np.uint8)
            for (left, top, right, bottom), shade in zip(truth_boxes(index).astype(int), (120, 220), strict=True):
                image[top:bottom, max(left, 0) : right] = shade
                lines.append(f"{index + 1},-1,{left},{top},{right - left},{bottom - top},0.9\n")
            picture = av.VideoFrame.from_ndarray(image, format="bgr24")
            picture.pts, picture.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    (folder / "walk_det.txt").write_text("".join(lines))
    return folder / "walk.mp4"


def configured(clip, tmp_path, **settings) -> TrackConfig:
    recorded = str(clip.with_name("walk_det.txt"))
    fixed = {"detector.recorded": recorded, "embedder.enabled": False, "output.folder": str(tmp_path / "out")}
    return load(TrackConfig, None, {**fixed, **{name.replace("__", "."): value for name, value in settings.items()}})


class TruthDetector:
    """Somebody's own detector."""

    def detect(self, frame):
        return detections(truth_boxes(frame.index))


class BrightnessEmbedder:
    """Somebody's own appearance model: one vector for the dark, one for the bright."""

    def __init__(self):
        self.crops = 0

    def embed(self, image, xyxy):
        self.crops += len(xyxy)
        shades = [image[60, min(max(int(box[0] + 10), 0), SIZE[0] - 1), 0] for box in xyxy]
        return unit_vectors(2)[np.array([int(shade > 170) for shade in shades], dtype=int)].astype(np.float32)


def test_without_output_settings_a_video_and_a_mot_file_are_written(clip, tmp_path):
    (summary,) = track(clip, configured(clip, tmp_path, output__smooth_boxes=False))
    assert isinstance(summary, RunSummary)
    assert (summary.frames, summary.last_frame, summary.identities) == (FRAMES, FRAMES, 2)
    assert [path.name for path in summary.outputs] == ["walk.mp4", "walk.txt"]
    rows = read_rows(tmp_path / "out" / "walk.txt")
    expected = np.concatenate([truth_boxes(index)[:, 0] for index in range(FRAMES)])
    np.testing.assert_allclose(rows[:, 2], expected)
    assert rows[:, 1].tolist() == [1, 2] * FRAMES
    with av.open(str(tmp_path / "out" / "walk.mp4")) as container:
        times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(FRAMES) / RATE, atol=1e-3)
    assert all(seconds > 0 for stage, seconds in summary.stage_seconds.items() if stage != "embed")


def test_a_stream_gives_what_track_writes_and_ends_when_its_caller_does(clip, tmp_path):
    config = configured(
        clip, tmp_path, output__mot=True, output__smooth_boxes=False
    )  # smoothed boxes know what follows
    track(clip, config)
    rows = read_rows(tmp_path / "out" / "walk.txt")
    before = sorted(tmp_path.rglob("*"))
    frames = 0
    for frame, tracks in reid_tracker.stream(clip, config):
        assert frame.index == frames and frame.image is not None
        written = rows[rows[:, 0] == frame.index + 1]
        assert tracks.tracker_id.tolist() == written[:, 1].tolist()
        np.testing.assert_allclose(tracks.xyxy[:, :2], written[:, 2:4], atol=0.006)
        frames += 1
    assert frames == FRAMES
    few = reid_tracker.stream(clip, config)
    next(few)
    few.close()
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(UserError, match="no gallery"):
        next(reid_tracker.stream(clip, configured(clip, tmp_path, gallery__where=str(tmp_path / "g"))))


def test_every_output_at_once(clip, tmp_path):
    config = configured(clip, tmp_path, output__mot=True, output__jsonl=True, output__crops=True, output__video=True)
    (summary,) = track(clip, config)
    assert sorted(path.name for path in summary.outputs) == ["walk.jsonl", "walk.mp4", "walk.txt", "walk_crops"]
    frames = [json.loads(line) for line in (tmp_path / "out" / "walk.jsonl").read_text().splitlines()]
    assert [frame["index"] for frame in frames] == list(range(FRAMES))
    assert [track["id"] for track in frames[-1]["tracks"]] == [1, 2]
    assert {path.name for path in (tmp_path / "out" / "walk_crops").iterdir()} == {"000001", "000002"}


def test_looking_back_writes_the_same_files_again(clip, tmp_path):
    class Blinking(TruthDetector):
        def detect(self, frame):
            return detections(truth_boxes(frame.index)[: 2 if frame.index not in (12, 13) else 1])

    asked = {"output.folder": str(tmp_path), "output.jsonl": True, "output.mot": True, "output.video": True}
    refused = tmp_path / "refused.json"
    refused.write_text('{"joins": [{"number": 8, "following": 9, "ended": 1.5, "began": 2, "refused": true}]}')
    asked |= {"embedder.enabled": False, "refine.enabled": True, "refine.refused": str(refused)}
    config = load(TrackConfig, None, asked)
    (summary,) = track(clip, config, detector=Blinking())
    assert "No join of 8 and 9, 1.5 s to 2 s, could be made: the refusal of it changes nothing." in summary.notes
    assert [path.name for path in summary.outputs] == [
        *("walk.mp4", "walk.txt", "walk.jsonl"),
        *("walk_refined.mp4", "walk_refined.txt", "walk_refined.jsonl", "walk_refined.json"),
    ]
    assert json.loads((tmp_path / "walk_refined.json").read_text()) == {"cuts": [], "joins": []}
    online = read_rows(tmp_path / "walk.txt")
    assert len(online) == 2 * FRAMES and online[online[:, 6] == 0, 0].tolist() == [13, 14]  # expected, not seen
    rows = read_rows(tmp_path / "walk_refined.txt")
    assert len(rows) == 2 * FRAMES and rows[rows[:, 6] == 0, 0].tolist() == [13, 14]
    with av.open(str(tmp_path / "walk_refined.mp4")) as container:
        assert len(list(container.decode(video=0))) == FRAMES
    assert len((tmp_path / "walk_refined.jsonl").read_text().splitlines()) == FRAMES


def test_files_know_newcomers_from_their_weak_first_boxes_on(clip, tmp_path):
    class Dim(TruthDetector):
        def detect(self, frame):
            found = detections(truth_boxes(frame.index)[:2])
            found.confidence[1] = 0.9 if frame.index >= 12 else 0.2
            return found

    asked = {"output.folder": str(tmp_path), "output.mot": True, "embedder.enabled": False, "refine.enabled": True}
    for seconds, first in (("0", 15), ("0.5", 15 - round(0.5 * RATE)), ("9", 1)):
        track(clip, load(TrackConfig, None, {**asked, "output.lead_in_seconds": seconds}), detector=Dim())
        for name in ("walk", "walk_refined"):
            rows = read_rows(tmp_path / f"{name}.txt")
            rows = rows[rows[:, 1] == 2]
            assert rows[:, 0].tolist() == list(range(first, FRAMES + 1)), (name, seconds)
            assert np.allclose(rows[rows[:, 0] < 13, 6], 0.2)


def test_of_several_outputs_one_that_fails_does_not_keep_the_others_from_their_frames():
    class Sink:
        def __init__(self, fails_at):
            self.fails_at, self.frames, self.counts = fails_at, [], []

        def write(self, result):
            if result.frame.index == self.fails_at:
                raise UserError(f"full at {self.fails_at}.")
            self.frames.append(result.frame.index)
            self.counts.append(result.counts)

    sinks = Sink(2), Sink(None), Sink(3)
    summary = RunSummary("walk")
    outputs = Outputs(sinks, summary, PassageCounter({"all": np.array([[0, 0], [200, 0], [200, 200], [0, 200]])}))
    failures = []
    for index in range(5):
        tracks = detections(truth_boxes(index))
        tracks.tracker_id = tracks.data["tracklet"] = np.array([1, 2])
        try:
            outputs.write(FrameResult(Frame(None, index, index / RATE), tracks, tracks))
        except UserError as error:
            failures.append(str(error))
    assert [each.frames for each in sinks] == [[0, 1], [0, 1, 2, 3, 4], [0, 1, 2]]
    assert failures == ["full at 2.", "full at 3."]
    assert sinks[1].counts[-1] == summary.counts and summary.counts["zones"]["all"]["people"] == 2


def test_a_second_ctrl_c_gives_up_what_still_waits_and_says_so(clip, tmp_path, monkeypatch):
    written, write_next = [], Settling._write_next

    def interrupted(settling):
        if len(written) == 15:
            written.append(None)
            raise KeyboardInterrupt
        write_next(settling)
        written.append(None)

    def stop(source, done):
        if done == 25:
            raise KeyboardInterrupt

    monkeypatch.setattr(Settling, "_write_next", interrupted)
    asked = {"output__mot": True, "output__jsonl": True, "output__video": True}
    (summary,) = track(clip, configured(clip, tmp_path, **asked), progress=stop)
    assert summary.interrupted and "up to 15 are kept" in summary.kept, summary.kept
    text, lines, video = (
        next(path for path in summary.outputs if path.suffix == kind) for kind in (".txt", ".jsonl", ".mp4")
    )
    assert read_rows(text)[-1, 0] == len(lines.read_text().splitlines()) == 15
    with av.open(str(video)) as container:
        assert len(list(container.decode(video=0))) == 15


def test_a_second_video_goes_on_with_the_first_one_s_identities(clip, tmp_path):
    state = str(tmp_path / "state")
    asked = {"output__jsonl": True, "output__save_state": state}
    track(clip, configured(clip, tmp_path, output__jsonl=True))
    whole = (tmp_path / "out" / "walk.jsonl").read_text().splitlines()
    (summary,) = track(clip, configured(clip, tmp_path, source__end=17, **asked))
    assert str(summary.outputs[-1]) == state
    track(clip, configured(clip, tmp_path, source__start=18, source__resume=state, **asked))
    assert (tmp_path / "out" / "walk.jsonl").read_text().splitlines() == whole[17:]
    # Another file's clock begins at 0 again; what was in view there may be met again at once.
    (again,) = track(clip, configured(clip, tmp_path, source__resume=state, tracker__lost_seconds=9, **asked))
    first = json.loads((tmp_path / "out" / "walk.jsonl").read_text().splitlines()[0])
    assert (
        first["timestamp"] == 0 and again.frames == FRAMES and any("other tracker settings" in n for n in again.notes)
    )
    with pytest.raises(UserError, match="one source"):
        other = tmp_path / "other.mp4"
        other.write_bytes(clip.read_bytes())
        track([clip, other], configured(clip, tmp_path, **asked))
    with pytest.raises(UserError, match="another appearance model"):

        class Hashed(BrightnessEmbedder):
            hash = "0"

        config = load(TrackConfig, None, {"source.resume": state, "output.folder": str(tmp_path)})
        track(clip, config, detector=TruthDetector(), embedder=Hashed())


def test_counts_go_into_every_output(clip, tmp_path):
    limit = 1.5
    shapes = {"count.lines": ["gate=80,0 80,120"], "count.zones": ["left half=0,0 80,0 80,120 0,120"]}
    asked = {"output.folder": str(tmp_path), "output.jsonl": True, "output.video": True, "refine.enabled": True}
    config = load(TrackConfig, None, {**asked, **shapes, "count.loitering_seconds": limit, "embedder.enabled": False})
    (summary,) = track(clip, config, detector=TruthDetector())
    # One walks to the right over the gate, the other to the left.
    once = {"in": 1, "out": 1, "people_in": 1, "people_out": 1}
    expected = {
        "lines": {"gate": once},
        "zones": {"left half": {"inside": 1, "in": 2, "out": 1, "people": 2, "longest": 1}},
    }
    expected["zones"]["left half"]["longest"] = summary.counts["zones"]["left half"]["longest"]
    assert summary.counts == expected and 0 <= expected["zones"]["left half"]["longest"] <= 2
    for name in ("walk", "walk_refined"):
        lines = [json.loads(line)["counts"] for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        assert lines[0]["lines"]["gate"]["in"] == 0 and lines[-1] == expected
        whole = json.loads((tmp_path / f"{name}_counts.json").read_text())
        assert whole.pop("by_identity")["gate"] == {"in": {"1": 1}, "out": {"2": 1}}
        visits, queue = whole.pop("visits"), whole.pop("queues")["left half"]
        crossed = [(each["identity"], each["direction"]) for each in visits if each["place"] == "gate"]
        assert sorted(crossed) == [(1, "in"), (2, "out")]
        stays = [each for each in visits if each["place"] == "left half"]
        assert {each["identity"] for each in stays} == {1, 2}
        moments = np.arange(0, len(lines) / RATE, 0.01)
        inside = sum((moments >= each["entered"]) & (moments < each["left"]) for each in stays)
        assert queue["most"] == inside.max() and queue["mean"] == pytest.approx(inside.mean(), abs=0.06)
        told = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for frame in told:
            for each in frame["tracks"]:
                began = [stay["entered"] for stay in stays if stay["identity"] == each["id"]]
                since = each.get("dwell", {}).get("left half")
                assert since is None or any(abs(frame["timestamp"] - since - start) < 0.02 for start in began)
        assert sum("dwell" in each for frame in told for each in frame["tracks"]) == sum(
            frame["counts"]["zones"]["left half"]["inside"] for frame in told
        )
        assert all(each["dwell"] == pytest.approx(each["left"] - each["entered"], abs=0.002) for each in stays)
        assert {each["loitering"] for each in stays} == {True, False}
        assert all(each["loitering"] == (each["dwell"] > limit) for each in stays)
        assert whole == expected
    with av.open(str(tmp_path / "walk.mp4")) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="bgr24")
    assert picture[100:118, 78:83].max() > 200  # the line is drawn


def test_counts_go_on_in_a_second_video(clip, tmp_path):
    def run(name, *, lines=("gate=80,0 80,120",), **settings):
        asked = {"output.folder": str(tmp_path / name), "output.jsonl": True, "refine.enabled": True, **settings}
        config = load(TrackConfig, None, {**asked, "count.lines": list(lines), "embedder.enabled": False})
        return track(clip, config, detector=TruthDetector())[0]

    state = str(tmp_path / "state")
    whole = run("whole").counts["lines"]["gate"]
    assert whole["in"] == whole["out"] == 1
    for cut in range(15, 26):  # they pass the gate in the middle
        run("first", **{"source.end": cut, "output.save_state": state})
        online = run("second", **{"source.start": cut + 1, "source.resume": state, "refine.enabled": False})
        assert online.counts["lines"]["gate"] == whole, cut
    run("first", **{"output.save_state": state})
    twice = run("second", **{"source.resume": state, "output.save_state": state})  # refined, and its clock begins anew
    assert twice.counts["lines"]["gate"]["in"] == 2
    thrice = run("third", **{"source.resume": state})
    assert thrice.counts["lines"]["gate"]["out"] == 3
    forgotten = run("fourth", lines=(), **{"source.resume": state})
    assert any("gate" in note and "dropped" in note for note in forgotten.notes)


def test_a_detector_and_an_embedder_of_one_s_own(clip, tmp_path):
    always = {"output.folder": str(tmp_path), "output.mot": True, "embedder.refresh_seconds": 0}
    embedder = BrightnessEmbedder()
    (summary,) = track(clip, load(TrackConfig, None, always), detector=TruthDetector(), embedder=embedder)
    assert summary.identities == 2 and embedder.crops == 2 * FRAMES and summary.stage_seconds["embed"] > 0


def test_whom_motion_identifies_is_not_described_in_each_frame(clip, tmp_path):
    seldom = {"output.folder": str(tmp_path), "output.mot": True, "embedder.refresh_seconds": 0.5}
    embedder = BrightnessEmbedder()
    (summary,) = track(clip, load(TrackConfig, None, seldom), detector=TruthDetector(), embedder=embedder)
    assert summary.identities == 2 and 4 <= embedder.crops <= FRAMES


def test_only_boxes_that_association_will_compare_are_embedded(clip, tmp_path):
    class Unsure(TruthDetector):
        def detect(self, frame):
            return detections(truth_boxes(frame.index), confidence=[0.9, 0.2])

    always = {"output.folder": str(tmp_path), "output.mot": True, "embedder.refresh_seconds": 0}
    track(clip, load(TrackConfig, None, always), detector=Unsure(), embedder=(embedder := BrightnessEmbedder()))
    assert embedder.crops == FRAMES


def test_part_of_a_video_keeps_its_frame_numbers_and_true_times(clip, tmp_path):
    config = configured(clip, tmp_path, source__start=11, source__end="2.0s", source__stride=2, output__jsonl=True)
    (summary,) = track(clip, config)
    frames = [json.loads(line) for line in (tmp_path / "out" / "walk.jsonl").read_text().splitlines()]
    assert [frame["index"] for frame in frames] == [10, 12, 14, 16, 18, 20]
    np.testing.assert_allclose([frame["timestamp"] for frame in frames], np.arange(1.0, 2.1, 0.2))
    assert summary.last_frame == 21


def test_a_gap_in_a_recording_is_no_mistake_of_units(tmp_path, caplog):
    with av.open(str(tmp_path / "gap.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        (stream.width, stream.height), stream.pix_fmt = SIZE, "yuv420p"
        for number in (*range(10), *range(1000, 1010)):
            picture = av.VideoFrame.from_ndarray(np.full((SIZE[1], SIZE[0], 3), 40, np.uint8), format="bgr24")
            picture.pts, picture.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    config = load(TrackConfig, None, {"embedder.enabled": False})
    followed = reid_tracker.stream(tmp_path / "gap.mkv", config, detector=TruthDetector())
    times = [frame.timestamp for frame, _ in followed]
    assert max(np.diff(times)) > 99 and not caplog.messages


def test_only_feet_inside_the_region_are_tracked(clip, tmp_path):
    config = configured(clip, tmp_path, source__roi="0,0 60,0 60,120 0,120", output__mot=True)
    track(clip, config)
    rows = read_rows(tmp_path / "out" / "walk.txt")
    assert len(rows) and ((rows[:, 2] + rows[:, 4] / 2) <= 60).all()


def test_boxes_are_written_without_the_detectors_jitter(clip, tmp_path):
    jitter = np.random.default_rng(0).normal(0, 4, (FRAMES, 2, 4))
    detector = SimpleNamespace(detect=lambda frame: detections(truth_boxes(frame.index) + jitter[frame.index]))
    truth = np.concatenate([truth_boxes(index)[:, 0] for index in range(FRAMES)])
    errors = []
    for smooth in (False, True):
        config = configured(clip, tmp_path, output__smooth_boxes=smooth, detector__recorded=None, output__mot=True)
        track(clip, config, detector=detector)
        errors.append(np.abs(read_rows(tmp_path / "out" / "walk.txt")[:, 2] - truth).mean())
    assert errors[1] < 0.75 * errors[0]


@pytest.mark.parametrize("text", ["", "1,2 3,4", "1,2 3,4 x,y", "1,2,3 4,5,6 7,8,9", "1,2 3,4 nan,1"])
def test_a_region_that_is_none_is_refused(text):
    with pytest.raises(UserError, match="polygon is written as"):
        parse_polygon(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("500,0 600,0 600,50", r"walk\.mp4: the region \(roi\) lies outside of its picture, which is 160x120"),
        ("0,-90 60,-90 60,-1", r"the region \(roi\) lies outside"),
        ("0,0 0,0 0,0", "roi '0,0 0,0 0,0': is a mere point"),
    ],
)
def test_a_region_in_which_no_one_can_stand_is_refused(clip, tmp_path, text, message):
    config = configured(clip, tmp_path, source__roi=text)
    with pytest.raises(UserError, match=message):
        track(clip, config)
    with pytest.raises(UserError, match=message):
        next(reid_tracker.stream(clip, config))
    assert not list(tmp_path.rglob("walk*"))


def test_several_videos_of_one_name_do_not_overwrite_each_other(clip, tmp_path):
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "walk.mp4").write_bytes(clip.read_bytes())
    config = configured(clip, tmp_path, output__mot=True, detector__recorded=None)
    summaries = track([clip, other / "walk.mp4"], config, detector=TruthDetector())
    assert [each.outputs[0].name for each in summaries] == ["walk.txt", "walk-2.txt"]
    assert [each.identities for each in summaries] == [2, 2]  # each starts from 1: no state is shared


def test_a_source_is_never_overwritten(clip, tmp_path):
    copy = tmp_path / "walk.mp4"
    copy.write_bytes(clip.read_bytes())
    with pytest.raises(UserError, match="overwrite its own source"):
        track(copy, configured(clip, tmp_path, output__folder=str(tmp_path)))
    assert copy.read_bytes() == clip.read_bytes()


def test_ctrl_c_keeps_what_was_done(clip, tmp_path):
    class Interrupting(TruthDetector):
        def detect(self, frame):
            if frame.index == 12:
                raise KeyboardInterrupt
            return super().detect(frame)

    config = load(TrackConfig, None, {"output.folder": str(tmp_path), "embedder.enabled": False})
    (summary,) = track([clip], config, detector=Interrupting())
    assert summary.interrupted and summary.last_frame == 12
    assert read_rows(tmp_path / "walk.txt")[:, 0].max() == 12
    with av.open(str(tmp_path / "walk.mp4")) as container:
        assert len(list(container.decode(video=0))) == 12


def test_a_failure_half_way_says_how_far_it_came_and_keeps_that(clip, tmp_path):
    class Failing(TruthDetector):
        def detect(self, frame):
            if frame.index == 7:
                raise UserError("The disk is full.")
            return super().detect(frame)

    config = load(TrackConfig, None, {"output.folder": str(tmp_path), "embedder.enabled": False})
    with pytest.raises(UserError, match="frames up to 7 are kept"):
        track(clip, config, detector=Failing())
    assert read_rows(tmp_path / "walk.txt")[:, 0].max() == 7
    with av.open(str(tmp_path / "walk.mp4")) as container:
        assert len(list(container.decode(video=0))) == 7


def test_a_video_without_anyone(clip, tmp_path):
    class Blind:
        def detect(self, frame):
            return sv.Detections.empty()

    config = load(TrackConfig, None, {"output.folder": str(tmp_path)})
    (summary,) = track(clip, config, detector=Blind(), embedder=BrightnessEmbedder())
    assert (summary.frames, summary.identities) == (FRAMES, 0)
    assert (tmp_path / "walk.txt").read_text() == ""


def test_a_sequence_without_pictures_gives_text_only(tmp_path):
    folder = tmp_path / "SEQ-01"
    (folder / "det").mkdir(parents=True)
    (folder / "seqinfo.ini").write_text(
        "[Sequence]\nname=SEQ-01\nimDir=img1\nframeRate=10\nseqLength=20\nimWidth=160\nimHeight=120\nimExt=.jpg\n"
    )
    (folder / "det" / "det.txt").write_text("".join(f"{n},-1,{3 * n},30,20,60,0.9\n" for n in range(1, 21)))
    where = {"detector.recorded": "{source}/det/det.txt", "output.folder": str(tmp_path / "out")}
    (summary,) = track(folder, load(TrackConfig, None, where))
    assert [path.name for path in summary.outputs] == ["SEQ-01.txt"] and summary.identities == 1
    assert any("no video is written" in note for note in summary.notes)
    with pytest.raises(UserError, match="without pictures gives no video"):
        track(folder, load(TrackConfig, None, {**where, "output.video": True}))


def test_contradictions_are_refused(clip, tmp_path):
    with pytest.raises(UserError, match="choose one"):
        track(clip, configured(clip, tmp_path, detector__model="yolo.pt"))
    with pytest.raises(UserError, match="says no classes to choose from"):
        track(clip, configured(clip, tmp_path, detector__classes=["dragon"]))
    with pytest.raises(UserError, match="contradict each other"):
        track(clip, configured(clip, tmp_path, output__blur_people=True, output__crops=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (0, "0: track takes the paths of videos; for a camera there is reid-tracker live"),
        (None, "None: track takes"),
        (["a.mp4", 3], "track takes the paths"),
        ("rtsp://ada:secret@host/x", "rtsp://host/x: a stream is no file; follow it with reid-tracker live"),
    ],
)
def test_what_is_no_file_is_refused_in_a_sentence(source, message):
    with pytest.raises(UserError) as told:
        track(source)
    assert message in str(told.value) and "secret" not in str(told.value)


def test_a_gallery_keeps_pictures_so_it_and_blurring_exclude_each_other(tmp_path):
    settings = {"output.blur_people": True, "gallery.where": str(tmp_path / "people")}
    with pytest.raises(UserError, match="blur_people and a gallery contradict each other"):
        track("walk.mp4", load(TrackConfig, None, settings))
