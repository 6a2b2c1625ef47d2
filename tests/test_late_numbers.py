"""Whoever is recognised a moment late bears one number in the files, from the first frame on."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import polars
import pytest
import supervision as sv
from tracking_world import detections, person, unit_vectors

from reid_tracker.config import TrackConfig, load
from reid_tracker.errors import UserError
from reid_tracker.late_numbers import Corrections
from reid_tracker.motchallenge import read_rows
from reid_tracker.ownership import Claim
from reid_tracker.pipeline.batch import track
from reid_tracker.pipeline.source_run import Followed
from reid_tracker.video.annotate import identity_color
from reid_tracker.video.sources import open_source

RATE, SIZE = 10, (640, 240)
BACK = 80  # the frame in which the one who left comes back


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    writer = cv2.VideoWriter(str(tmp_path / "yard.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), RATE, SIZE)
    for frame in range(140):
        writer.write(np.full((SIZE[1], SIZE[0], 3), 90 + frame % 3, np.uint8))
    writer.release()
    return tmp_path / "yard.mp4"


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """One stays; another is there for 4 s, gone for 4 s, and back, at first hard to tell."""
    return record(tmp_path, BACK, 40, aside=40)


def record(tmp_path: Path, again: int, shift: float, aside: float = 0) -> Path:
    """The same, back from the frame `again` on, so far from where they left, px; the other moves `aside` then."""
    rng, who = np.random.default_rng(0), unit_vectors(12)
    frames, boxes, vectors = [], [], []
    for frame in range(140):
        for place in range(2):
            if place == 1 and 40 <= frame < again:
                continue
            vector = who[place] + 0.03 * rng.standard_normal(who.shape[1])
            if place == 1 and again <= frame < again + 4:
                vector = who[5].copy()
            frames.append(frame + 1)
            boxes.append(person(100 + 300 * place + ((aside, shift)[place] if frame >= again else 0)))
            vectors.append(vector / np.linalg.norm(vector))
    path = tmp_path / "yard.npz"
    np.savez(
        path,
        frame=np.array(frames),
        xyxy=np.array(boxes, np.float32),
        confidence=np.full(len(frames), 0.9, np.float32),
        embedding=np.array(vectors, np.float32),
    )
    return path


def configured(tmp_path: Path, recorded: Path, **more: object) -> TrackConfig:
    asked = {f"output.{kind}": True for kind in ("mot", "jsonl", "crops", "video")}
    values = {"output.folder": str(tmp_path / "out"), "detector.recorded": str(recorded), **asked}
    settings = {"tracker.return_false_match_rate": 0.05, "tracker.lost_seconds": 1.0, "tracker.camera_motion": False}
    return load(TrackConfig, None, {**values, **settings, **more})


def test_text_json_and_crops_bear_the_number_that_was_found_in_the_end(
    clip: Path, recorded: Path, tmp_path: Path
) -> None:
    for _ in range(2):  # the second time over the first one's results
        (summary,) = track(clip, configured(tmp_path, recorded))
        assert summary.identities == 2
        assert any("1 recognised late" in note for note in summary.notes)
        rows = read_rows(tmp_path / "out" / "yard.txt")
        assert set(rows[:, 1]) == {1, 2}
        assert (rows[rows[:, 0] > BACK + 5, 1] == 2).sum() > 40 and rows[rows[:, 1] == 2, 0].min() < 5
        frames = [json.loads(line) for line in (tmp_path / "out" / "yard.jsonl").read_text().splitlines()]
        assert len(frames) == 140 and {each["id"] for frame in frames for each in frame["tracks"]} == {1, 2}
        assert sorted(path.name for path in (tmp_path / "out" / "yard_crops").iterdir()) == ["000001", "000002"]
        assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.name[0] != ".") == [
            *("yard.jsonl", "yard.mp4", "yard.txt", "yard_crops")
        ]


def nearest_colour(video: Path, frame: int, numbers: tuple[int, ...]) -> int:
    """Whose colour the box of the one who came back has in a frame (from 0)."""
    for at, picture in enumerate(open_source(video)):
        if at == frame:
            assert picture.image is not None
            edge = picture.image[110:190, 430:450].reshape(-1, 3)[:, ::-1].astype(int)
            return min(numbers, key=lambda each: np.abs(edge - identity_color(each)).sum(axis=1).min())
    raise AssertionError(f"{video} has no frame {frame}")


@pytest.mark.parametrize("fails", [False, True])
def test_the_video_is_drawn_again_with_the_right_numbers(
    clip: Path, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if fails:
        monkeypatch.setattr("reid_tracker.pipeline.redraw.pickle.dump", full)
    told: list[str] = []
    more = {"output.crops": False, "output.mot": False, "output.jsonl": False}
    (summary,) = track(
        clip, configured(tmp_path, recorded, **more), progress=lambda source, done: told.append(source.name)
    )
    video = tmp_path / "out" / "yard.mp4"
    assert list(summary.outputs) == [video] and sum(1 for _ in open_source(video)) == 140
    assert [frame.timestamp for frame in open_source(video)] == pytest.approx(np.arange(140) / RATE, abs=1e-4)
    assert nearest_colour(video, BACK + 50, (1, 2, 3)) == 2
    before = BACK + 4  # confirmed, and not recognised yet
    assert nearest_colour(video, before, (1, 2, 3)) == (3 if fails else 2)
    note = next(each for each in summary.notes if "recognised late" in each)
    assert ("No space left" in note) if fails else ("drawn again with the right numbers" in note)
    assert ("yard, drawn again" in told) != fails
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name[0] != "."] == ["yard.mp4"]
    assert not list((tmp_path / "out" / ".reid_tracker").glob("*.new"))


def test_ctrl_c_while_it_is_drawn_again_leaves_the_first_drawing(clip: Path, recorded: Path, tmp_path: Path) -> None:
    def stop(source: Followed, done: int) -> None:
        if "again" in source.name and done == 20:
            raise KeyboardInterrupt

    (summary,) = track(clip, configured(tmp_path, recorded), progress=stop)
    assert not summary.interrupted and any("not drawn again to the end" in note for note in summary.notes)
    assert sum(1 for _ in open_source(tmp_path / "out" / "yard.mp4")) == 140
    assert set(read_rows(tmp_path / "out" / "yard.txt")[:, 1]) == {1, 2}


def test_nobody_is_written_twice_in_a_frame_for_having_been_expected_elsewhere(clip: Path, tmp_path: Path) -> None:
    """Back before the bridge ended: both the expected box and the one seen would bear the number."""
    recorded = record(tmp_path, 44, -380)
    given = {"output.bridge_seconds": 3.0, "output.parquet": True, "tracker.lost_seconds": 3.0}
    (summary,) = track(clip, configured(tmp_path, recorded, **given))
    assert summary.identities == 2 and not any("late" in note for note in summary.notes)  # known before it is drawn
    rows = read_rows(tmp_path / "out" / "yard.txt")
    frames = [json.loads(line) for line in (tmp_path / "out" / "yard.jsonl").read_text().splitlines()]
    table = polars.read_parquet(tmp_path / "out" / "yard.parquet")
    in_text = [(int(row[0]), int(row[1])) for row in rows]
    in_json = [(frame["index"] + 1, each["id"]) for frame in frames for each in frame["tracks"]]
    assert in_text == in_json == table.select("frame", "identity").rows()
    assert len(in_text) == len(set(in_text)) == 2 * 140
    confidence = {(int(row[0]), int(row[1])): row[6] for row in rows}
    assert confidence[43, 2] == 0 and all(confidence[frame, 2] > 0 for frame in range(47, 141))


def test_what_cannot_be_put_right_is_told_and_stays_as_it_was(
    clip: Path, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Claim, "rewrite", full)
    (summary,) = track(clip, configured(tmp_path, recorded, **{"output.crops": False}))
    assert any("could not be put right (No space left on device)" in note for note in summary.notes)
    assert set(read_rows(tmp_path / "out" / "yard.txt")[:, 1]) == {1, 2, 3}


def test_a_number_is_followed_to_the_end_and_never_in_a_circle() -> None:
    corrections = Corrections()
    assert not corrections and corrections.of(4) == 4
    for identity in (3, 2, 1):
        corrections.take(
            sv.Detections(np.zeros((1, 4)), tracker_id=np.array([identity]), data={"tracklet": np.array([9])})
        )
    assert len(corrections) == 2 and [corrections.of(each) for each in (3, 2, 1, 7)] == [1, 1, 1, 7]
    corrections._became[1] = 3
    assert corrections.of(2) in (1, 2, 3)
    with pytest.raises(UserError, match="could not be put right"):
        corrections.apply(_Failing(), {Path("a.txt"): "mot"})  # type: ignore[arg-type]


def test_of_several_boxes_of_one_person_the_first_stays(tmp_path: Path) -> None:
    """Seen in two places, or expected there: under the number before, and under the new one."""
    frame = {"index": 0, "tracks": [{"id": number, "confidence": score} for number, score in EXPECTED]}
    (tmp_path / "a.jsonl").write_text(json.dumps(frame) + "\n")
    (tmp_path / "a.txt").write_text("".join(f"1,{number},0,0,9,9,{score:.4f},-1,-1,-1\n" for number, score in EXPECTED))
    numbers, scores = zip(*EXPECTED, strict=True)
    polars.DataFrame({"frame": [1] * len(EXPECTED), "identity": numbers, "confidence": scores}).write_parquet(
        tmp_path / "a.parquet"
    )
    corrections = Corrections()
    for identity in (5, 3):
        corrections.take(
            sv.Detections(np.zeros((1, 4)), tracker_id=np.array([identity]), data={"tracklet": np.array([9])})
        )
    kinds = {tmp_path / "a.jsonl": "jsonl", tmp_path / "a.txt": "mot", tmp_path / "a.parquet": "parquet"}
    corrections.apply(_Plain(), kinds)  # type: ignore[arg-type]
    wanted = [(4, 0.9), (3, 0.8), (7, 0.0), (6, 0.0)]
    assert [tuple(each.values()) for each in json.loads((tmp_path / "a.jsonl").read_text())["tracks"]] == wanted
    assert [(row[1], row[6]) for row in read_rows(tmp_path / "a.txt")] == wanted
    assert polars.read_parquet(tmp_path / "a.parquet").select("identity", "confidence").rows() == wanted


# 5 becomes 3. Readers of MOTChallenge text refuse a number twice in a frame, also of boxes that were both seen.
EXPECTED = [(4, 0.9), (3, 0.8), (7, 0.0), (5, 0.7), (3, 0.0), (5, 0.0), (7, 0.0), (6, 0.0)]


class _Plain:
    def place(self, output: Path) -> Path:
        return output

    def rewrite(self, output: Path, change: Callable[[str], str]) -> None:
        output.write_text("".join(map(change, output.read_text().splitlines(keepends=True))))

    @contextmanager
    def renewed(self, output: Path) -> Iterator[Path]:
        yield output


class _Failing:
    def place(self, output: Path) -> Path:
        return output

    def rewrite(self, *_: object) -> None:
        raise OSError(13, "Permission denied")


def test_what_a_gallery_merged_counts_only_if_the_run_has_seen_it() -> None:
    corrections = Corrections()
    tracks = detections([person(0), person(200)])
    tracks.tracker_id, tracks.data["tracklet"] = np.array([4, 5]), np.array([1, 2])
    corrections.take(tracks)
    corrections.learn({5: 2, 77: 3})
    assert (len(corrections), corrections.of(5), corrections.of(77)) == (1, 2, 77)
